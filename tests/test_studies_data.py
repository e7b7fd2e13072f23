"""What studies make of a dataset: classes, planes, copies, samples, and pictures written beside it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from handmade_slices import listed
from PIL import Image as Pillow

from gyrus.augment import Augment, apply, draw
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.groups import group_slices
from gyrus.records import Dataset
from gyrus.splits import holdout, kfold
from gyrus.studies import data as studies
from gyrus.studies.data import Shift

STILL = Augment(flip=0, rotate=0, translate=0, scale=0, brightness=0, contrast=0)


@pytest.fixture(scope="module")
def phantom(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


@pytest.fixture(scope="module")
def patients(phantom: Dataset) -> dict[str, str]:
    return {r.id: str(r.patient) for r in phantom}


def table(folder: Path, labels: str) -> Dataset:
    """Return one slice per letter: g(lioma), h(ealthy) or ? without a label; nothing is on disk to be read."""
    names = {"g": "glioma", "p": "pituitary", "h": "no_tumor"}
    data = listed(folder, [(f"{i}.png", names.get(c, ""), None) for i, c in enumerate(labels)])
    return replace(data, records=tuple(replace(r, label=r.label or None) for r in data))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Pillow.open(path))


class TestClasses:
    def test_two_classes(self, tmp_path: Path) -> None:
        data = studies.binary(table(tmp_path, "gph?"))
        assert [r.label for r in data] == ["tumor", "tumor", "no_tumor", None]
        assert data.info.classes == ("no_tumor", "tumor")
        assert data.notes[-1] == "Labels joined to two classes: 2 tumor, 1 no_tumor."
        assert [r.label for r in studies.binary(data)] == [r.label for r in data]

    def test_some_classes(self, tmp_path: Path) -> None:
        data = studies.of_classes(table(tmp_path, "gphg"), ["pituitary", "glioma"])
        assert [r.label for r in data] == ["glioma", "pituitary", "glioma"]
        assert data.notes[-1] == "3 of 4 slices are of glioma or pituitary and kept."
        with pytest.raises(InputError, match="no slice of class 'edema'"):
            studies.of_classes(data, ["edema"])


class TestPlanes:
    def test_only_open_planes_are_recognised(self, phantom: Dataset) -> None:
        """The stated ones stay, even a wrong one."""
        some = replace(phantom, records=phantom.records[:12])
        turned = {"axial": "coronal", "coronal": "sagittal", "sagittal": "axial"}
        stated = {r.id: turned[str(r.plane)] for r in some.records[:2]}
        known = studies.with_planes(replace(some, records=tuple(replace(r, plane=stated.get(r.id)) for r in some)))
        assert {r.id: r.plane for r in known.records[:2]} == stated
        told = [(r.plane, true.plane) for r, true in zip(known.records[2:], some.records[2:], strict=True)]
        unsure = sum(plane is None for plane, _ in told)
        assert sum(plane == true for plane, true in told) >= 8  # of ten
        assert known.notes[-1] == f"Planes of 10 slices recognised by their pixels; {unsure} unsure and left open."

    def test_one_plane_is_kept(self, phantom: Dataset) -> None:
        first = phantom.records[0]
        data = replace(phantom, records=(replace(first, plane=None), *phantom.records[1:]))
        kept = studies.in_planes(data, ["sagittal", "coronal"])
        assert {r.plane for r in kept} == {"sagittal", "coronal"}
        assert len(kept) + sum(r.plane in ("axial", None) for r in data) == len(data)
        assert kept.notes[-1].endswith("are sagittal or coronal and kept; of 1 left out the plane is unknown.")

    def test_planes_must_be_known(self, phantom: Dataset) -> None:
        blind = replace(phantom, records=tuple(replace(r, plane=None) for r in phantom))
        with pytest.raises(InputError, match="recognise them first"):
            studies.in_planes(blind, ["axial"])
        with pytest.raises(InputError, match="there is no plane 'top'"):
            studies.in_planes(phantom, ["top"])
        axial = studies.in_planes(phantom, ["axial"])
        with pytest.raises(InputError, match="no coronal slice"):
            studies.in_planes(axial, ["coronal"])


class TestCopies:
    def test_what_the_other_holds_goes(self, phantom: Dataset, tmp_path: Path) -> None:
        """A mirrored and brightened copy under another name goes; two that copy one another alone stay."""
        ours = replace(phantom, records=phantom.records[:6])
        copied, twin = ours.records[2], ours.records[4]
        levels = pixels(copied.path).astype(float)[:, ::-1]
        Pillow.fromarray(np.rint(20 + 0.8 * levels).astype(np.uint8)).save(tmp_path / "copy.png")
        other = replace(copied, id="copy.png", path=tmp_path / "copy.png")
        theirs = replace(phantom, records=(other, *phantom.records[30:33]))
        twice = replace(ours, records=(*ours.records, replace(twin, id="twin.png")))
        kept = studies.without_copies(twice, theirs)
        assert [r.id for r in kept] == [r.id for r in twice if r.id != copied.id]
        assert kept.notes[-1] == "1 slice of 7 left out, because phantom holds a copy."

    def test_nothing_left_or_unreadable(self, phantom: Dataset, tmp_path: Path) -> None:
        few = replace(phantom, records=phantom.records[:2])
        with pytest.raises(InputError, match="every slice"):
            studies.without_copies(few, phantom)
        (tmp_path / "bad.png").write_bytes(b"no picture")
        bad = replace(phantom.records[5], id="bad.png", path=tmp_path / "bad.png")
        with pytest.raises(InputError, match=r"bad\.png"):
            studies.without_copies(few, replace(phantom, records=(bad,)))

    def test_navoneel_copies_sartaj(self) -> None:
        """Of its 98 healthy slices 22 are left to test a model of Sartaj on."""
        folder = os.environ.get("GYRUS_DATA")
        if not folder:
            pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
        sartaj, navoneel = (open_dataset(Path(folder) / name) for name in ("sartaj", "navoneel"))
        healthy = studies.of_classes(sartaj, ["no_tumor"])
        kept = studies.without_copies(navoneel, healthy)
        assert Counter(r.label for r in kept) == {"no_tumor": 22, "tumor": 155}
        assert kept.notes[-1] == "76 slices of 253 left out, because sartaj holds a copy."


class TestSample:
    def test_shares_are_kept(self, tmp_path: Path) -> None:
        data = table(tmp_path, "g" * 60 + "p" * 30 + "h" * 10)
        some = studies.sampled(data, 20, 3, whole_groups=None)
        assert Counter(r.label for r in some) == {"glioma": 12, "pituitary": 6, "no_tumor": 2}
        assert [r.id for r in some] == [r.id for r in data if r.id in {s.id for s in some}]  # in the old order
        assert some.notes[-1] == "A sample: 20 of 100 slices, class shares kept, seed 3."
        assert [r.id for r in studies.sampled(data, 20, 3, whole_groups=None)] == [r.id for r in some]
        assert [r.id for r in studies.sampled(data, 20, 4, whole_groups=None)] != [r.id for r in some]

    def test_groups_are_whole(self, phantom: Dataset, patients: dict[str, str]) -> None:
        some = studies.sampled(phantom, 24, 0, whole_groups=patients)
        taken = {r.patient for r in some}
        assert {r.id for r in some} == {r.id for r in phantom if r.patient in taken}
        assert abs(len(some) - 24) <= 3 * len(phantom.classes)  # a phantom patient has three slices
        assert set(some.classes) == set(phantom.classes)
        assert f"of {len(taken)} whole groups" in some.notes[-1]

    def test_all_or_too_few(self, tmp_path: Path) -> None:
        data = table(tmp_path, "g" * 19 + "h")
        assert studies.sampled(data, 20, 0, whole_groups=None) is data
        with pytest.raises(InputError, match="no slice of 'no_tumor'"):
            studies.sampled(data, 5, 0, whole_groups=None)
        with pytest.raises(InputError, match="has no group"):
            studies.sampled(data, 5, 0, whole_groups={})


class TestAugmented:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(phantom: Dataset, patients: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
        folder = tmp_path_factory.mktemp("augmented") / "set"
        copies = {"glioma": 2, "meningioma": 1, "no_tumor": 3, "pituitary": 0}
        return studies.augmented(phantom, copies, folder, augment=Augment(), size=64, seed=5, groups=patients)

    def test_every_slice_and_its_copies(self, phantom: Dataset, made: Dataset) -> None:
        before, after = Counter(r.label for r in phantom), Counter(r.label for r in made)
        assert after == {
            "glioma": 3 * before["glioma"],
            "meningioma": 2 * before["meningioma"],
            "no_tumor": 4 * before["no_tumor"],
            "pituitary": before["pituitary"],
        }
        assert len(studies.originals(made)) == len(phantom)
        assert {r.read().shape for r in made} == {(64, 64)}
        assert f"{len(made) - len(phantom)} copies of 48 slices made before any split" in made.notes[-1]

    def test_copies_are_replayed_by_seed_and_id(self, phantom: Dataset, made: Dataset) -> None:
        """The first copy of a slice is what its own generator draws from the original that was written."""
        source = next(r for r in phantom if r.label == "glioma")
        original, copy = (pixels(made[f"{place}/{source.id}.png"].path) for place in ("original", "copy-1"))
        generator = torch.Generator().manual_seed(studies._seed(5, source.id))
        drawn = draw(Augment(), 2, generator)
        expected = apply(torch.from_numpy(original.copy()).expand(2, -1, -1), drawn).round().numpy()
        assert (copy == expected[0]).all()
        assert (pixels(made[f"copy-2/{source.id}.png"].path) == expected[1]).all()
        assert (copy != original).any()

    def test_a_split_by_record_scatters_and_one_by_patient_does_not(self, made: Dataset) -> None:
        def torn(grouping: str) -> int:
            split = holdout(made, (0.5, 0.25, 0.25), grouping=grouping)
            split.check(made)
            sources = [{i.partition("/")[2] for i in split.part(p)} for p in ("train", "val", "test")]
            return len(sources[0] & sources[2])

        assert torn("record-wise") > 0
        assert torn("patient") == 0

    def test_the_same_arguments_find_it_again(
        self, phantom: Dataset, patients: dict[str, str], made: Dataset, tmp_path: Path
    ) -> None:
        def call(seed: int, copies: int = 1) -> Dataset:
            return studies.augmented(few, copies, tmp_path / "a", augment=STILL, size=32, seed=seed, groups=patients)

        few = replace(phantom, records=phantom.records[:3])
        first = call(0)
        written = (first.root / "run.json").stat().st_mtime_ns
        others = [call(1), call(0, copies=2)]  # side by side, so that a changed recipe goes on in its folder
        assert len({made.root for made in (first, *others)}) == 3
        again = call(0)
        assert (first.root / "run.json").stat().st_mtime_ns == written
        assert (again.fingerprint, again.notes, again.root) == (first.fingerprint, first.notes, first.root)
        still = [pixels(first[f"{place}/{few.records[0].id}.png"].path) for place in ("original", "copy-1")]
        assert (still[0] == still[1]).all()  # nothing is drawn, so a copy is the original

    def test_a_failure_leaves_nothing(self, phantom: Dataset, patients: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
        bad = replace(phantom.records[1], path=tmp_path / "in" / "bad.png")
        data = replace(phantom, records=(phantom.records[0], bad))
        with pytest.raises(InputError, match=r"bad\.png"):
            studies.augmented(data, 1, tmp_path / "out", augment=STILL, size=32, seed=0, groups=patients)
        assert [p.name for p in tmp_path.iterdir()] == ["in"]

    def test_every_class_needs_a_number(self, phantom: Dataset, patients: dict[str, str], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no number of copies"):
            studies.augmented(phantom, {"glioma": 1}, tmp_path / "a", augment=STILL, size=32, seed=0, groups=patients)


class TestShift:
    def test_by_hand(self) -> None:
        """A quarter turn counter-clockwise takes what is right of the middle above it; then it moves."""
        picture = np.zeros((5, 5), np.float32)
        picture[2, 4] = 9
        assert Shift(rotate=90).apply(picture)[0, 2] == pytest.approx(9, abs=1e-3)
        assert Shift(x=1, y=2, rotate=90).apply(picture)[2, 3] == pytest.approx(9, abs=1e-3)
        assert Shift(x=-2).apply(picture).tolist() == np.roll(picture, -2, axis=1).tolist()
        assert (Shift(y=-1).apply(picture + 3)[4] == 3).all()  # from outside comes the darkest


class TestRebalanced:
    SHIFTS = (Shift(x=10, rotate=45), Shift(y=-10, rotate=225))

    def test_listed_slices_are_copied(self, phantom: Dataset, patients: dict[str, str], tmp_path: Path) -> None:
        healthy = studies.in_planes(studies.of_classes(phantom, ["no_tumor"]), ["sagittal", "coronal"])
        ids = [r.id for r in healthy]
        made = studies.rebalanced(phantom, ids, self.SHIFTS, tmp_path / "a", groups=patients)
        assert len(ids) > 3
        assert len(made) == len(phantom) + 2 * len(ids)
        assert made.records[: len(phantom)] == phantom.records
        assert studies.originals(made) == tuple(r.id for r in phantom)
        copy = made[f"shifted-2/{ids[0]}.png"]
        source = phantom[ids[0]]
        assert (copy.label, copy.plane, copy.patient) == ("no_tumor", source.plane, source.patient)
        expected = np.rint(self.SHIFTS[1].apply(source.read().pixels))
        assert (copy.read().pixels == expected).all()
        assert f"{2 * len(ids)} copies of {len(ids)} listed slices added (2 transforms)" in made.notes[-1]
        again = studies.rebalanced(phantom, ids, self.SHIFTS, tmp_path / "a", groups=patients)
        assert again.fingerprint == made.fingerprint

    def test_folds_keep_a_copy_with_its_source(self, phantom: Dataset, tmp_path: Path) -> None:
        """Without patients, by the clusters that are passed."""
        blind = replace(phantom, records=tuple(replace(r, patient=None) for r in phantom))
        clusters = group_slices(blind, "auto").of
        ids = [r.id for r in blind if r.label == "no_tumor"]
        made = studies.rebalanced(blind, ids, self.SHIFTS, tmp_path / "a", groups=clusters)
        assert {r.patient for r in made} == set(clusters.values())
        for split in kfold(made, 3):
            split.check(made)
            tests = {i.split("/", 1)[1].removesuffix(".png") if "shifted" in i else i for i in split.test}
            assert tests == {i for i in split.test if "shifted" not in i}

    def test_what_cannot_be(self, phantom: Dataset, patients: dict[str, str], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nothing to add"):
            studies.rebalanced(phantom, [], self.SHIFTS, tmp_path / "a", groups=patients)
        with pytest.raises(InputError, match="holds no record 'x'"):
            studies.rebalanced(phantom, ["x"], self.SHIFTS, tmp_path / "a", groups=patients)
        with pytest.raises(InputError, match="has no group"):
            studies.rebalanced(phantom, [phantom.records[0].id], self.SHIFTS, tmp_path / "a", groups={})
