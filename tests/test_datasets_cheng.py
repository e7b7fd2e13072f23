from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from handmade import write_folds, write_mat

from gyrus.datasets import open_dataset
from gyrus.datasets.cheng import patient_of
from gyrus.errors import InputError
from gyrus.io import read_size

IMAGE = np.arange(35, dtype=np.int16).reshape(5, 7)
MASK = (IMAGE > 8) & (IMAGE < 12)
OUTLINE = "0.5,0.5 3.5,0.5 3.5,1.5 0.5,1.5"
TABLE = f"""file,label,patient,study,outline
10.jpg,glioma,MR048294,MR048294B,"{OUTLINE}"
2.jpg,pituitary,MR048294,MR048294,"{OUTLINE}"
1.jpg,meningioma,100360,100360,
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The layout with slices.csv; the images are no images."""
    (tmp_path / "images").mkdir()
    for number in (1, 2, 10):
        (tmp_path / "images" / f"{number}.jpg").write_text("not an image")
    (tmp_path / "slices.csv").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize(
    ("study", "patient"),
    [
        ("MR048294B", "MR048294"),
        ("MR048294", "MR048294"),
        ("100360", "100360"),
        ("MR0402480G", "MR0402480"),
        ("ABC", "ABC"),
    ],
)
def test_the_patient_of_a_study(study: str, patient: str) -> None:
    assert patient_of(study) == patient


def test_the_table_layout(table: Path) -> None:
    for path in (table, table / "slices.csv"):
        data = open_dataset(path)
        assert data.info.name == "cheng"
        assert data.root == table
        assert [(r.id, r.label, r.patient, r.study) for r in data] == [
            ("images/1.jpg", "meningioma", "100360", "100360"),
            ("images/2.jpg", "pituitary", "MR048294", "MR048294"),
            ("images/10.jpg", "glioma", "MR048294", "MR048294B"),
        ]
    assert data.records[0].read_mask((3, 5)) is None
    mask = data.records[1].read_mask((3, 5))
    assert mask is not None
    np.testing.assert_array_equal(np.argwhere(mask), [[1, 1], [1, 2], [1, 3]])
    assert (
        data.notes[0] == "1 of 3 study ids mark a repeat exam by a letter and were joined to their patient: 2 patients."
    )
    with pytest.raises(InputError, match=r"row 2 \(10.jpg\).*outside"):
        data["images/10.jpg"].read_mask((3, 3))


def test_images_that_the_table_does_not_list_are_noted(table: Path) -> None:
    (table / "images" / "7.jpg").touch()
    assert "1 file in images/ not listed in slices.csv left out: '7.jpg'." in open_dataset(table).notes


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("2.jpg", "3.jpg", r"slices.csv row 3: the file images/3.jpg does not exist"),
        ("2.jpg", "10.jpg", r"slices.csv row 3: the file 10.jpg occurs a second time"),
        ("pituitary", "sarcoma", r"slices.csv row 3: 'sarcoma' is not one of glioma"),
        ("0.5,0.5 3.5,0.5", "0.5,0.5 a,b", r"slices.csv row 2 \(10.jpg\): the outline"),
        ("outline", "contour", r"slices.csv has no column 'outline'"),
        (TABLE.split("\n", 1)[1], "", r"slices.csv lists no slices"),
    ],
)
def test_a_wrong_row_is_named(table: Path, old: str, new: str, word: str) -> None:
    (table / "slices.csv").write_text(TABLE.replace(old, new))
    with pytest.raises(InputError, match=word):
        open_dataset(table)


def write_original(root: Path, folders: dict[int, str]) -> Path:
    """Write slices N.mat into the folders given; 2 and 10 are a patient and the repeat exam."""
    kinds = {1: (1, "100360"), 2: (3, "MR048294"), 10: (2, "MR048294B")}
    for number, folder in folders.items():
        write_mat(root / folder / f"{number}.mat", IMAGE + number, *kinds[number], mask=MASK)
    return root


@pytest.mark.parametrize("folders", [{1: "", 2: "", 10: ""}, {1: "a_1-766", 2: "a_1-766", 10: "b_767-1532"}])
def test_the_original_layout(tmp_path: Path, folders: dict[int, str]) -> None:
    root = write_original(tmp_path, folders)
    write_folds(root / "cvind.mat", [3, 1, *[2] * 7, 5])
    data = open_dataset(root)
    assert data.info.name == "cheng"
    assert [(Path(r.id).name, r.label, r.patient, r.study, r.subset) for r in data] == [
        ("1.mat", "meningioma", "100360", "100360", "fold-3"),
        ("2.mat", "pituitary", "MR048294", "MR048294", "fold-1"),
        ("10.mat", "glioma", "MR048294", "MR048294B", "fold-5"),
    ]
    for record in data:
        assert record.path == root / record.id
        image = record.read()
        np.testing.assert_array_equal(image.pixels, IMAGE + int(record.path.stem))
        np.testing.assert_array_equal(record.read_mask(image.shape), MASK)
    assert data.notes[0].startswith("1 of 3 study ids")


def test_without_the_fold_index_the_folds_are_unknown(tmp_path: Path) -> None:
    data = open_dataset(write_original(tmp_path, {1: "", 2: ""}))
    assert {r.subset for r in data} == {None}
    assert data.notes[0] == "cvind.mat is not there, so the official five folds are unknown."


def test_a_fold_index_in_a_sub_folder_is_found_and_must_be_long_enough(tmp_path: Path) -> None:
    root = write_original(tmp_path, {1: "x", 2: "x"})
    write_folds(root / "x" / "cvind.mat", [4, 2])
    assert [r.subset for r in open_dataset(root)] == ["fold-4", "fold-2"]
    write_folds(root / "x" / "cvind.mat", [4])
    with pytest.raises(InputError, match=r"cvind.mat knows 1 slices but there is 2.mat"):
        open_dataset(root)


def test_a_slice_that_is_there_twice_and_one_that_is_damaged_are_refused(tmp_path: Path) -> None:
    root = write_original(tmp_path, {1: "x", 2: "x"})
    (root / "y").mkdir()
    shutil.copy(root / "x" / "1.mat", root / "y" / "1.mat")
    with pytest.raises(InputError, match=r"slice 1 twice, x/1.mat and y/1.mat"):
        open_dataset(root)
    (root / "y" / "1.mat").unlink()
    (root / "x" / "2.mat").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"2.mat"):
        open_dataset(root)


def test_the_real_cheng() -> None:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    data = open_dataset(Path(folder) / "cheng")
    assert data.info.name == "cheng"
    assert len(data) == 2451
    assert Counter(r.label for r in data) == {"glioma": 1140, "pituitary": 744, "meningioma": 567}
    assert len({r.patient for r in data}) == 168
    assert len({r.study for r in data}) == 187
    assert all(r.patient == patient_of(r.study or "") for r in data)
    for record in data.records[::49][:50]:
        shape = read_size(record.path)
        mask = record.read_mask(shape)
        assert record.read().shape == shape == (512, 512)
        assert mask is not None
        assert 0 < mask.mean() < 0.2
