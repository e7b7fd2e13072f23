"""Splits: no patient on both sides, whatever the data; what leaks says so; what was tampered with is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade_slices import listed, write_png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.records import Dataset
from gyrus.splits import PARTS, Split, holdout, kfold, official, split_dataset

CLASSES = ("glioma", "meningioma", "pituitary")
Row = tuple[str, str | None, str | None]


def many(patients: int = 20, slices: Sequence[int] = (1, 2, 3), classes: Sequence[str] = CLASSES) -> list[Row]:
    """``patients`` of each class, with one, two, three, one ... slices."""
    return [
        (f"{label}-{p}-{s}", label, f"{label}-{p}")
        for label in classes
        for p in range(patients)
        for s in range(slices[p % len(slices)])
    ]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return listed(tmp_path / "data", many())


def patients_of(split: Split, data: Dataset, part: str) -> set[str | None]:
    return {data[i].patient for i in split.part(part)}


def without_patients(data: Dataset) -> Dataset:
    return replace(data, records=tuple(replace(r, patient=None) for r in data))


@st.composite
def datasets(draw: st.DrawFn) -> list[Row]:
    """Two or three classes of at least ten patients, some of whom have slices of another class too."""
    rows: list[Row] = []
    for label in CLASSES[: draw(st.integers(2, 3))]:
        for p in range(draw(st.integers(10, 14))):
            for _ in range(draw(st.integers(1, 5))):
                rows.append((f"{len(rows)}", label, f"{label}-{p}"))
    for k in draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)):
        rows.append((f"{len(rows)}", CLASSES[0], rows[k][2]))
    return draw(st.permutations(rows))


@given(datasets(), st.integers(0, 99), st.sampled_from([(0.7, 0.1, 0.2), (0.8, 0.0, 0.2), (0.6, 0.2, 0.2)]))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_patient_crosses(tmp_path: Path, rows: list[Row], seed: int, fractions: tuple[float, ...]) -> None:
    data = listed(tmp_path, rows)
    for split in (holdout(data, fractions, seed=seed), *kfold(data, 4, seed=seed)):
        train, val, test = (patients_of(split, data, p) for p in PARTS)
        assert len(train | val | test) == len(train) + len(val) + len(test)
        assert sorted(split.train + split.val + split.test) == sorted(r.id for r in data)
        assert train
        assert test


def test_fractions_are_met_in_every_class(tmp_path: Path) -> None:
    data = listed(tmp_path, many(40, slices=[2]))
    for fractions in ((0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.8, 0, 0.2), (0.9, 0.1, 0), (0.85, 0.05, 0.1)):
        split = holdout(data, fractions)
        for part, share in zip(PARTS, fractions, strict=True):
            per_class = Counter(data[i].label for i in split.part(part))
            assert [per_class[c] for c in CLASSES] == pytest.approx([80 * share] * 3)
    split = holdout(data, (0.7, 0.1, 0.2))
    assert split.scheme == "holdout 0.7/0.1/0.2"
    assert split.part("val") == split.val
    with pytest.raises(InputError, match="no part 'testing'"):
        split.part("testing")


def test_fine_fractions_are_met_or_refused(tmp_path: Path) -> None:
    data = listed(tmp_path, many(100, slices=[1], classes=CLASSES[:2]))
    for fractions in ((0.64, 0.16, 0.2), (0.98, 0.01, 0.01)):
        split = holdout(data, fractions)
        assert [len(split.part(p)) / 200 for p in PARTS] == pytest.approx(list(fractions), abs=0.0201)
    with pytest.raises(InputError, match=r"too few for [0-9]+ folds"):
        holdout(listed(tmp_path / "few", many()), (0.98, 0.01, 0.01))
    with pytest.raises(InputError, match="leave a part with next to nothing"):
        holdout(data, (0.998, 0.001, 0.001))


def test_uneven_patients_still_give_like_classes(data: Dataset) -> None:
    split = holdout(data)
    for label in CLASSES:
        slices = Counter(part for part in PARTS for i in split.part(part) if data[i].label == label)
        total = sum(slices.values())
        assert [slices[p] / total for p in PARTS] == pytest.approx([0.7, 0.1, 0.2], abs=0.08)


def test_a_dataset_on_disk_is_split_into_files(tmp_path: Path) -> None:
    """The records of a manifest are opened, split and saved: one file, or one for each fold."""
    data = listed(tmp_path / "data", [(f"{row[0]}.png", *row[1:]) for row in many(10, [2])])
    lines = [f"{r.id},{r.label},{r.patient}" for r in data]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(["file,label,patient", *lines]))
    (made,) = split_dataset(tmp_path / "data", tmp_path / "split.json", seed=2)
    assert Split.load(tmp_path / "split.json") == made
    assert (made.grouping, made.seed, len(made.test)) == ("patient", 2, 12)
    folds = split_dataset(tmp_path / "data", tmp_path / "folds", folds=3, group="record-wise")
    assert [Split.load(tmp_path / "folds" / f"fold-{i}.json") for i in (1, 2, 3)] == list(folds)
    assert all(f.leaks for f in folds)
    with pytest.raises(InputError, match="already exists"):
        split_dataset(tmp_path / "data", tmp_path / "folds", folds=3)
    with pytest.raises(
        InputError, match="cannot be grouped by 'hospital': choose one of auto, patient, study, cluster, record-wise"
    ):
        split_dataset(tmp_path / "data", tmp_path / "other.json", group="hospital")
    assert not (tmp_path / "other.json").exists()


@pytest.mark.parametrize("val_fold", [True, False])
def test_each_patient_is_tested_in_one_fold(data: Dataset, val_fold: bool) -> None:
    splits = kfold(data, 5, val_fold=val_fold)
    assert [s.scheme for s in splits] == [f"fold {i} of 5" for i in range(1, 6)]
    tested = Counter(p for s in splits for p in patients_of(s, data, "test"))
    assert set(tested) == {r.patient for r in data}
    assert set(tested.values()) == {1}
    for i, split in enumerate(splits):
        assert split.val == (splits[(i + 1) % 5].test if val_fold else ())
        assert {data[i].label for i in split.test} == set(CLASSES)


def test_the_seed_decides_and_the_order_of_the_files_does_not(data: Dataset) -> None:
    shuffled = [data.records[i] for i in np.random.default_rng(0).permutation(len(data))]
    turned = replace(data, records=tuple(shuffled))
    for grouping in ("patient", "record-wise"):
        split = holdout(data, grouping=grouping, seed=3)
        assert holdout(data, grouping=grouping, seed=3) == split
        assert holdout(turned, grouping=grouping, seed=3) == split
        assert holdout(data, grouping=grouping, seed=4).test != split.test


def test_studies_are_grouped_only_where_patients_are_unknown(data: Dataset) -> None:
    with pytest.raises(InputError, match="two studies of one person are not independent: group by patient"):
        holdout(data, grouping="study")
    unknown = without_patients(data)
    split = holdout(unknown, grouping="study")
    studies = [{unknown[i].study for i in split.part(p)} for p in PARTS]
    assert len(set.union(*studies)) == sum(len(s) for s in studies)


def test_a_changed_table_of_groups_is_refused(data: Dataset) -> None:
    split = holdout(data)
    split.check(data)
    first, other = split.train[0], split.test[0]
    with pytest.raises(InputError, match="into another group"):
        replace(split, groups={**split.groups, first: "nobody-" + split.groups[other]}).check(data)


def test_record_wise_is_labelled_wherever_it_goes(data: Dataset, tmp_path: Path) -> None:
    split = holdout(data, grouping="record-wise")
    assert patients_of(split, data, "train") & patients_of(split, data, "test")  # it leaks, as it says
    assert split.leaks
    assert "RECORD-WISE: slices of one patient may be on both sides, so test figures are optimistic" in split.statement
    split.save(tmp_path / "s.json")
    assert Split.load(tmp_path / "s.json").statement == split.statement
    assert json.loads((tmp_path / "s.json").read_text())["statement"] == split.statement
    grouped = holdout(data)
    assert not grouped.leaks
    assert "RECORD" not in grouped.statement
    assert "patient-wise: no patient is on both sides" in grouped.statement
    assert grouped.statement.startswith("hand, holdout 0.7/0.1/0.2, seed 0, ")
    counts = {p: len(grouped.part(p)) for p in PARTS}
    assert grouped.statement.endswith(f"({counts['train']} train, {counts['val']} val, {counts['test']} test slices).")


def test_data_without_patients_is_refused_until_it_is_said_how(tmp_path: Path) -> None:
    rows = many()
    rows[7] = (rows[7][0], rows[7][1], None)
    data = listed(tmp_path, rows)
    with pytest.raises(InputError, match=f"record '{rows[7][0]}' has no patient.*--record-wise"):
        holdout(data)
    with pytest.raises(InputError, match=r"has no study.*--record-wise"):
        holdout(replace(data, records=tuple(replace(r, patient=None, study=None) for r in data)), grouping="study")
    assert holdout(data, grouping="record-wise").leaks


def with_one_blank(folder: Path) -> Dataset:
    """Four slices of each of thirty patients as pictures with a manifest, one slice without its patient."""
    rng = np.random.default_rng(0)
    lines = ["file,label,patient"]
    for patient in range(30):
        for n in range(4):
            name = f"{patient:02d}-{n}.png"
            coarse = rng.integers(0, 255, (6, 6), dtype=np.uint8)
            write_png(folder / name, np.kron(coarse, np.ones((16, 16), dtype=np.uint8)))
            lines.append(f"{name},{CLASSES[patient % 3]},{'' if name == '07-2.png' else f'p{patient:02d}'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return open_dataset(folder)


def test_one_blank_patient_does_not_tear_the_others_apart(tmp_path: Path) -> None:
    data = with_one_blank(tmp_path / "data")
    with pytest.raises(InputError, match=r"'07-2\.png' has no patient.*keep known patients .* --group auto"):
        holdout(data)
    (split,) = split_dataset(tmp_path / "data", tmp_path / "split.json", group="auto")
    train, val, test = ({p for p in patients_of(split, data, part) if p is not None} for part in PARTS)
    assert len(train) + len(val) + len(test) == len(train | val | test) == 30
    assert (split.grouping, split.leaks, split.unknown) == ("cluster", False, 1)
    assert (
        "cluster-wise: no copy of a slice and no known patient is on both sides, but the patient of 1 slice is unknown "
        "and may be (" in split.statement
    )
    loaded = Split.load(tmp_path / "split.json")
    assert loaded == split
    loaded.check(data)
    for fold in kfold(data, 5, grouping="auto"):
        parts = [{p for p in patients_of(fold, data, part) if p is not None} for part in PARTS]
        assert sum(map(len, parts)) == 30
    torn = {i: i if i in split.test else group for i, group in split.groups.items()}
    with pytest.raises(InputError, match="into another group"):
        replace(split, groups=torn).check(data)


def test_a_cluster_wise_split_of_an_earlier_gyrus_is_read_as_it_was(data: Dataset, tmp_path: Path) -> None:
    """It knew of copies alone, and claims no more."""
    made = replace(holdout(data, grouping="record-wise"), grouping="cluster")
    value = {"schema": "gyrus.split/1", **made.to_dict()}
    del value["unknown"]
    (tmp_path / "split.json").write_text(json.dumps(value))
    loaded = Split.load(tmp_path / "split.json")
    assert loaded == made
    assert "no copy of a slice is on both sides, but patients are unknown and may be" in loaded.statement
    loaded.check(data)


def test_data_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no slices"):
        holdout(listed(tmp_path / "a", []))
    with pytest.raises(InputError, match=r"holds one class only \(glioma\)"):
        holdout(listed(tmp_path / "b", many(classes=["glioma"])))
    with pytest.raises(InputError, match="record 'x' has no label"):
        holdout(listed(tmp_path / "c", [*many(), ("x", None, "p")]))
    few = listed(tmp_path / "d", [*many(), *(("x" + str(i), "edema", f"e{i % 3}") for i in range(30))])
    with pytest.raises(InputError, match=r"class 'edema' has 3 patient groups, too few for 10 folds"):
        holdout(few)
    with pytest.raises(InputError, match=r"has 3 study groups, too few for 5 folds"):
        kfold(without_patients(few), grouping="study")
    with pytest.raises(InputError, match=r"has 3 slices, too few for 10 folds"):
        holdout(
            listed(tmp_path / "e", [*many(), *((f"x{i}", "edema", None) for i in range(3))]), grouping="record-wise"
        )


@pytest.mark.parametrize(
    "fractions",
    [(0.7, 0.3), (0.7, 0.1, 0.1), (0.7, -0.1, 0.4), (0.0, 0.5, 0.5), (0.7, 0.1, 0.1, 0.1), (float("nan"),) * 3],
)
def test_fractions_that_are_no_partition_are_refused(data: Dataset, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="must be three numbers"):
        holdout(data, fractions)


@pytest.mark.parametrize("seed", [0, 32])
def test_every_part_has_every_class_where_patients_hold_several(tmp_path: Path, seed: int) -> None:
    """Thirty patients with healthy slices, twenty with a glioma and just ten, for ten folds, with a meningioma."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"{p}-{label}-{s}", label, str(p))
        for p in range(30)
        for label in ("no_tumor", "glioma" if p < 20 else "meningioma")
        for s in range(rng.choice([1, 2, 5, 30]))
    ]
    data = listed(tmp_path, rows)
    for split in (holdout(data), *kfold(data, 10)):
        assert all({data[i].label for i in split.part(p)} == set(data.classes) for p in PARTS)


def test_a_class_that_some_part_must_lack_is_refused(tmp_path: Path) -> None:
    """Each class has three patients: cid and dan would have to be in one fold for a and b, and apart for c."""
    held = {"ann": "ab", "bob": "ab", "cid": "ac", "dan": "bc", "eve": "c"}
    data = listed(tmp_path, [(f"{p}-{c}", c, p) for p, classes in held.items() for c in classes])
    with pytest.raises(InputError, match="no cut of its patient groups into 3 folds has every class in every part"):
        kfold(data, 3)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_beyond_32_bits_is_refused(data: Dataset, seed: int) -> None:
    with pytest.raises(InputError, match="out of range: choose one from 0 to 4294967295"):
        holdout(data, seed=seed)


def test_too_few_folds_are_refused(data: Dataset) -> None:
    with pytest.raises(InputError, match="2 folds are too few: use at least 3"):
        kfold(data, 2)
    assert len(kfold(data, 2, val_fold=False)) == 2
    with pytest.raises(InputError, match="1 folds are too few"):
        kfold(data, 1, val_fold=False)


def test_saved_and_loaded(data: Dataset, tmp_path: Path) -> None:
    split = holdout(data, seed=5)
    path = tmp_path / "new" / "split.json"
    split.save(path)
    loaded = Split.load(path)
    assert loaded == split
    loaded.check(data)
    with pytest.raises(InputError, match="already exists"):
        split.save(path)


def test_other_data_is_refused(data: Dataset, tmp_path: Path) -> None:
    split = holdout(data)
    other = replace(data, records=(replace(data.records[0], label="pituitary"), *data.records[1:]))
    for changed in (other, data.select([r.id for r in data][1:]), listed(tmp_path / "o", many(21))):
        with pytest.raises(InputError, match="the split was made for other data"):
            split.check(changed)


def test_a_tampered_file_is_refused(data: Dataset, tmp_path: Path) -> None:
    split = holdout(data)
    path = tmp_path / "split.json"

    def load(**changes: object) -> Split:
        value = {"schema": "gyrus.split/1", **split.to_dict(), **changes}
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
        return Split.load(path)

    assert load() == split
    parts = split.to_dict()["parts"]
    groups = dict(split.groups)
    several = next(i for i in split.test if sum(groups[j] == groups[i] for j in split.test) > 1)
    moved = {**parts, "test": [i for i in parts["test"] if i != several], "train": [*parts["train"], several]}
    with pytest.raises(
        InputError, match=rf"split\.json: patient '{groups[several]}' is in both train and test: the split leaks"
    ):
        load(parts=moved)
    with pytest.raises(InputError, match=rf"record '{several}' is in both train and test"):
        load(parts={**parts, "train": [*parts["train"], several]})
    with pytest.raises(InputError, match=rf"record '{several}' is in both train and test"):
        load(parts={**parts, "train": [*parts["train"], several]}, grouping="record-wise")
    with pytest.raises(InputError, match=r"record 'stranger' has no group"):
        load(parts={**parts, "train": [*parts["train"], "stranger"]})
    with pytest.raises(InputError, match=r"split\.json: its schema is 'gyrus.split/9'"):
        load(schema="gyrus.split/9")
    for broken in ({"parts": None}, {"groups": None}, {"parts": [1]}, {"groups": 3}, {"schema": None}):
        with pytest.raises(InputError, match=r"split\.json is not a split made by `gyrus split`"):
            load(**broken)
    path.write_text("[]")
    with pytest.raises(InputError, match="is not a split made by"):
        Split.load(path)
    with pytest.raises(InputError, match="does not exist: name a split"):
        Split.load(tmp_path / "none.json")


def official_data(folder: Path, copied: int) -> Dataset:
    """Twenty Training slices of each of two classes and four Testing ones, ``copied`` of those from Training."""
    names = [f"Training-{label}-{i}" for label in CLASSES[:2] for i in range(20)]
    names += [f"Testing-{label}-{i}" for label in CLASSES[:2] for i in range(4)]
    data = listed(folder, [(name, name.split("-")[1], name) for name in names])
    data = replace(data, records=tuple(replace(r, subset=r.id.split("-")[0]) for r in data))
    for i, record in enumerate(data):
        record.path.write_text(f"slice {i}")
    for i in range(copied):
        data.records[40 + i].path.write_text(f"slice {i}")
    return data


class TestOfficial:
    def test_testing_slices_that_were_trained_on_are_left_out(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=3)
        split = official(data, grouping="patient")
        assert split.test == tuple(sorted(r.id for r in data.records[43:]))
        assert split.notes[-1] == "3 of 8 Testing slices resemble Training slices: left out."
        assert (len(split.train), len(split.val)) == (36, 4)
        assert split.scheme == "official"
        split.check(data)

    def test_as_published_it_leaks_and_says_so(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=3)
        split = official(data, grouping="record-wise")
        assert len(split.test) == 8
        assert split.leaks
        assert split.notes == ()

    def test_a_validation_folder_is_used(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=0)
        some = tuple(replace(r, subset="Validation") if i % 5 == 0 and i < 40 else r for i, r in enumerate(data))
        split = official(replace(data, records=some), grouping="patient")
        assert (len(split.train), len(split.val), len(split.test)) == (32, 8, 8)

    def test_validation_slices_that_were_trained_on_are_left_out(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=1)
        data.records[5].path.write_text("slice 6")
        some = tuple(replace(r, subset="Validation") if i % 5 == 0 and i < 40 else r for i, r in enumerate(data))
        split = official(replace(data, records=some), grouping="patient")
        assert (len(split.train), len(split.val), len(split.test)) == (32, 7, 7)
        assert split.notes[-2:] == (
            "1 of 8 Validation slices resemble Training slices: left out.",
            "1 of 8 Testing slices resemble Training slices: left out.",
        )

    def test_few_groups_give_a_larger_validation_part(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=0)
        few = data.select([r.id for i, r in enumerate(data) if i < 3 or i >= 20])
        split = official(few, grouping="patient")
        assert Counter(few[i].label for i in split.val)["glioma"] == 1
        with pytest.raises(InputError, match="class 'glioma' has 1 patient group in Training, so none is left"):
            official(data.select([r.id for i, r in enumerate(data) if i < 1 or i >= 20]), grouping="patient")

    @pytest.mark.parametrize(("part", "kept"), [("Training", slice(40, None)), ("Testing", slice(40))])
    def test_a_part_that_is_not_there_is_refused(self, tmp_path: Path, part: str, kept: slice) -> None:
        data = official_data(tmp_path, copied=0)
        with pytest.raises(InputError, match=f"holds no {part} slices, so it has no official split"):
            official(data.select([r.id for r in data.records[kept]]), grouping="patient")

    def test_nothing_left_or_nothing_official_is_refused(self, tmp_path: Path) -> None:
        data = official_data(tmp_path, copied=8)
        with pytest.raises(InputError, match="all 8 Testing slices resemble Training slices, so none is left"):
            official(data, grouping="patient")
        with pytest.raises(InputError, match="is in no Training or Testing folder: leave --official out"):
            official(replace(data, records=tuple(replace(r, subset=None) for r in data)))


def test_a_file_on_both_sides_is_refused_when_the_data_is_opened(data: Dataset) -> None:
    """Whatever the table of groups says: here it was made before somebody copied a file over another."""
    for record in data:
        record.path.write_bytes(record.id.encode().ljust(20))
    split = holdout(data)
    split.check(data)
    test, train = (data[next(i for i in split.part(part))] for part in ("test", "train"))
    test.path.write_bytes(train.path.read_bytes())
    clusters = replace(split, grouping="cluster")
    with pytest.raises(InputError, match=rf"({test.id}|{train.id}) in t.* are the same file: the split leaks"):
        clusters.check(data)
    with pytest.raises(InputError, match="into another group"):
        split.check(data)
    replace(split, grouping="record-wise", groups={r.id: r.id for r in data}).check(data)


def test_notes_are_kept(tmp_path: Path) -> None:
    split = replace(holdout(listed(tmp_path, many())), notes=("Two ids were merged.",))
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_a_cluster_wise_split_says_what_it_does_not_know(data: Dataset) -> None:
    split = replace(holdout(data), grouping="cluster")
    nobody = "cluster-wise: no copy of a slice is on both sides, but patients are unknown and may be"
    assert nobody in split.statement
    assert nobody in replace(split, unknown=len(data)).statement
    known = "cluster-wise: no copy of a slice and no known patient is on both sides"
    assert f"{known} (" in replace(split, unknown=0).statement
    assert f"{known}, but the patient of 2 slices is unknown and may be (" in replace(split, unknown=2).statement
