"""``describe``: what ``gyrus data info`` says of a dataset."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, ORDERS, save_nifti, save_series, stored, tilted

from gyrus.datasets import open_dataset
from gyrus.datasets.describe import describe
from gyrus.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three slices of two patients, of two sizes."""
    for name, (height, width) in {"a": (20, 30), "b": (20, 30), "c": (40, 30)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((height, width), np.uint8))
    path = tmp_path / "slices.csv"
    path.write_text(
        "file,label,patient,plane,outline\n"
        'a.png,glioma,P1,axial,"1,1 9,1 9,9"\nb.png,glioma,P1,axial,\nc.png,no tumor,P2,coronal,\n'
    )
    return path


def test_counts_and_sizes(table: Path) -> None:
    value = describe(table)
    assert value["schema"] == "gyrus.data/1"
    assert value["sizes"] == [{"height": 20, "width": 30, "slices": 2}, {"height": 40, "width": 30, "slices": 1}]
    assert (value["slices"], value["patients"], value["masks"], value["unlabelled"]) == (3, 2, 1, 0)
    assert value["classes"] == {"glioma": 2, "no tumor": 1} or value["classes"] == {"glioma": 2, "no_tumor": 1}
    assert value["planes"] == {"axial": 2, "coronal": 1}
    assert value["fingerprint"] == open_dataset(table).fingerprint


def test_pixels_are_not_read(table: Path) -> None:
    """A file whose header is whole counts, whatever comes after it."""
    image = table.parent / "a.png"
    content = bytearray(image.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 4] = b"\0\0\0\0"
    image.write_bytes(content)
    with pytest.raises(InputError):
        open_dataset(table)["a.png"].read()
    assert describe(table)["sizes"][0]["slices"] == 2


def test_a_damaged_header_is_named(table: Path) -> None:
    (table.parent / "c.png").write_text("no image")
    with pytest.raises(InputError, match=r"c\.png"):
        describe(table)


def test_reader_by_name(table: Path) -> None:
    assert describe(table, "manifest") == describe(table)
    with pytest.raises(InputError, match="'guess'"):
        describe(table, "guess")


def test_volumes_are_counted_by_kind(tmp_path: Path) -> None:
    for name in ("a_t1ce", "a_flair", "b_t1ce", "b_flair"):
        save_nifti(tmp_path / f"{name}.nii", BLOCK, tilted(degrees=(0, 11, 0)) if name == "b_flair" else AFFINE)
    rows = describe(tmp_path)["volumes"]
    assert [(r["modality"], r["oblique_degrees"], r["volumes"]) for r in rows] == [
        ("t1ce", 0.0, 2), ("flair", 0.0, 1), ("flair", 11.0, 1),
    ]  # fmt: skip
    assert {(r["shape"], r["spacing_mm"], r["acquired"]) for r in rows} == {((5, 6, 7), (0.75, 1.25, 3.5), "axial")}
    assert "volumes" not in describe(write_pictures(tmp_path / "p"))


def test_a_series_was_acquired_as_it_is_stored(tmp_path: Path) -> None:
    """Although its rows lie farther apart than its slices."""
    array, affine = stored(next(o for o in ORDERS if o[0][2] == 0))
    value = describe(save_series(tmp_path / "s", array, affine))
    assert (value["volumes"][0]["acquired"], value["planes"]) == ("sagittal", {"sagittal": 5})


def write_pictures(folder: Path) -> Path:
    for name in ("glioma", "pituitary"):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "a.png"), np.zeros((4, 4), np.uint8))
    return folder


def test_one_plain_nifti_file(tmp_path: Path) -> None:
    value = describe(save_nifti(tmp_path / "T1.nii.gz", BLOCK))
    assert (value["name"], value["slices"], value["sizes"]) == ("volumes", 7, [{"height": 6, "width": 5, "slices": 7}])
    assert value["volumes"][0]["modality"] is None
