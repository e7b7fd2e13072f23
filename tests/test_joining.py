"""Several datasets as one: every picture once, whose label stands, and who is whom."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from commandline import Gyrus

from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.groups import group_slices
from gyrus.joining import join_datasets
from gyrus.splits import split_dataset

Row = tuple[str, str, str]


@pytest.fixture(scope="module")
def slices(tiny_phantom: Path) -> list[np.ndarray]:
    """Ten pictures of ten different patients."""
    patients = {r.patient: r for r in open_dataset(tiny_phantom)}
    return [r.read().pixels.astype(np.uint8) for r in list(patients.values())[:10]]


def write(root: Path, slices: list[np.ndarray], rows: dict[int, Row]) -> Path:
    """Write some of the slices as a manifest: number -> (file, label, patient)."""
    root.mkdir()
    for number, (file, _, _) in rows.items():
        cv2.imwrite(str(root / file), slices[number % 100])
    with (root / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "label", "patient"), *rows.values()])
    return root


def test_each_picture_stays_once_under_the_name_it_was_first_given(slices: list[np.ndarray], tmp_path: Path) -> None:
    first = write(tmp_path / "a", slices, {0: ("x.png", "glioma", "P"), 1: ("y.png", "pituitary", "Q")})
    second = write(
        tmp_path / "b", slices,
        {1: ("x.png", "meningioma", "P"), 2: ("y.png", "meningioma", "P"), 3: ("z.png", "no_tumor", "")},
    )  # fmt: skip
    made = join_datasets([first, second], tmp_path / "joined")
    found = {r.id: (r.label, r.patient) for r in made}
    assert found == {
        "../a/x.png": ("glioma", "manifest-1:P"),
        "../a/y.png": ("pituitary", "manifest-1:Q"),
        # of the second P, who is Q of the first: they share a picture
        "../b/y.png": ("meningioma", "manifest-1:Q"),
        "../b/z.png": ("no_tumor", None),
    }
    assert made.info.name == "manifest-1+manifest-2"
    assert made.classes == ("glioma", "meningioma", "no_tumor", "pituitary")
    assert made.info.faults == (
        "0 slices of manifest-1's 2 left out as copies.",
        "1 slice of manifest-2's 3 left out as copies.",
        "1 slice without a patient: slices of one person may be on both sides of a split.",
    )


def test_copies_that_contradict_each_other_go_both_unless_a_better_source_has_the_picture(
    slices: list[np.ndarray], tmp_path: Path
) -> None:
    rows = {
        0: ("a.png", "glioma", ""),
        100: ("b.png", "pituitary", ""),
        1: ("c.png", "glioma", ""),
        2: ("d.png", "pituitary", ""),
    }
    torn = write(tmp_path / "torn", slices, rows)
    other = write(tmp_path / "other", slices, {3: ("e.png", "glioma", ""), 4: ("f.png", "pituitary", "")})
    made = join_datasets([torn, other], tmp_path / "without", name="mine")
    assert {r.path.name for r in made} == {"c.png", "d.png", "e.png", "f.png"}
    assert made.info.name == "mine"
    assert "2 slices of those left out because their copies carry other labels." in made.info.faults
    better = write(tmp_path / "better", slices, {0: ("g.png", "meningioma", ""), 5: ("h.png", "glioma", "")})
    made = join_datasets([better, torn], tmp_path / "with")
    assert {(r.path.name, r.label) for r in made} >= {("g.png", "meningioma"), ("c.png", "glioma")}
    assert not any("other labels" in f for f in made.info.faults)


def test_masks_come_along_and_the_result_can_be_split(
    tiny_phantom: Path, slices: list[np.ndarray], tmp_path: Path
) -> None:
    copy = write(tmp_path / "copy", slices, {0: ("a.png", "glioma", ""), 1: ("b.png", "pituitary", "")})
    made = join_datasets([tiny_phantom, copy], tmp_path / "joined")
    before = list(open_dataset(tiny_phantom))
    assert len(made) == len(before)
    assert any("synthetic" in fault for fault in made.info.faults)
    pairs = zip(sorted(made, key=lambda r: r.path.name), sorted(before, key=lambda r: r.path.name), strict=True)
    for now, then in pairs:
        assert (now.label, now.plane, now.patient) == (then.label, then.plane, f"phantom:{then.patient}")
        mask, known = now.read_mask((96, 96)), then.read_mask((96, 96))
        assert (mask is None and known is None) or np.array_equal(mask, known)
    (split,) = split_dataset(made.root, tmp_path / "split.json", fractions=(0.5, 0.25, 0.25))
    people = [{made[i].patient for i in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, people)) == len(set().union(*people)) == 16


def test_whose_slices_are_stays_unknown_and_no_split_says_otherwise(slices: list[np.ndarray], tmp_path: Path) -> None:
    rows = {n: (f"{n}.png", ("glioma", "pituitary")[n % 2], "") for n in range(10)}
    first = write(tmp_path / "a", slices, {n: row for n, row in rows.items() if n < 5})
    second = write(tmp_path / "b", slices, {n: row for n, row in rows.items() if n >= 5})
    made = join_datasets([first, second], tmp_path / "joined")
    assert {r.patient for r in made} == {None}
    with pytest.raises(InputError, match="has no patient"):
        split_dataset(made.root, tmp_path / "split.json", fractions=(0.5, 0, 0.5))
    (split,) = split_dataset(made.root, tmp_path / "split.json", fractions=(0.5, 0, 0.5), group="auto")
    assert "patients are unknown" in split.statement


def test_a_study_of_an_unknown_patient_is_not_that_of_another_dataset(slices: list[np.ndarray], tmp_path: Path) -> None:
    roots = []
    for n, label in enumerate(("glioma", "pituitary")):
        rows = {i: (f"{i}.png", label, "") for i in (2 * n, 2 * n + 1)}
        roots.append(root := write(tmp_path / label, slices, rows))
        lines = (root / "manifest.csv").read_text().splitlines()
        (root / "manifest.csv").write_text("\n".join([f"{lines[0]},study", *(f"{line},exam" for line in lines[1:])]))
    made = join_datasets(roots, tmp_path / "joined")
    assert {r.study for r in made} == {"manifest-1:exam", "manifest-2:exam"}
    assert len(set(group_slices(made, "auto").of.values())) == 2


class TestRefusals:
    def test_one_dataset(self, tiny_phantom: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="two datasets or more"):
            join_datasets([tiny_phantom], tmp_path / "out")

    def test_a_slice_without_a_label(self, tiny_phantom: Path, slices: list[np.ndarray], tmp_path: Path) -> None:
        unknown = write(tmp_path / "unknown", slices, {0: ("a.png", "", ""), 1: ("b.png", "glioma", "")})
        with pytest.raises(InputError, match=r"a\.png has no label"):
            join_datasets([tiny_phantom, unknown], tmp_path / "out")

    def test_a_file_that_cannot_be_read(
        self, gyrus: Gyrus, tiny_phantom: Path, slices: list[np.ndarray], tmp_path: Path
    ) -> None:
        damaged = write(tmp_path / "damaged", slices, {0: ("a.png", "glioma", ""), 1: ("b.png", "pituitary", "")})
        (damaged / "a.png").write_bytes(b"")
        assert "a.png" in gyrus("data", "join", tiny_phantom, damaged, "--out", tmp_path / "out").refusal()
        assert not (tmp_path / "out").exists()
        assert "exists" in gyrus("data", "join", tiny_phantom, tiny_phantom, "--out", damaged).refusal()


def test_where_nothing_is_left_nothing_is_written(slices: list[np.ndarray], tmp_path: Path) -> None:
    """One picture three times, its first dataset in two minds about it."""
    first = write(tmp_path / "a", slices, {0: ("x.png", "glioma", "P"), 100: ("y.png", "pituitary", "P")})
    second = write(tmp_path / "b", slices, {200: ("z.png", "glioma", "R")})
    with pytest.raises(InputError, match="of 3 slices none is left, since copies of each carry other labels"):
        join_datasets([first, second], tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
