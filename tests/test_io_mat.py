from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from handmade import write_folds, write_mat
from scipy.io import savemat

from gyrus.errors import InputError
from gyrus.io import read_image, read_size
from gyrus.io.mat import MatMask, read_mat_folds, read_mat_header, read_mat_image, read_mat_outline

IMAGE = np.arange(-5, 30, dtype=np.int16).reshape(5, 7) * 100  # wider than high, no two pixels alike
MASK = np.zeros((5, 7), dtype=np.uint8)
MASK[1, 2:6] = 1  # a lying bar: transposed it would stand
MASK[2, 2:5] = 1


def test_the_image_is_turned_back(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "1.mat", IMAGE)
    image = read_mat_image(path)
    np.testing.assert_array_equal(image.pixels, IMAGE)
    assert image.pixels.dtype == np.float32
    assert image.pixels.flags.c_contiguous
    assert image.meta["bits"] == 16
    assert image.spacing is None
    np.testing.assert_array_equal(read_image(path).pixels, IMAGE)
    assert read_size(path) == (5, 7)


@pytest.mark.parametrize(("number", "label"), [(1, "meningioma"), (2, "glioma"), (3, "pituitary")])
def test_label_and_pid(tmp_path: Path, number: int, label: str) -> None:
    assert read_mat_header(write_mat(tmp_path / "1.mat", IMAGE, number, "MR048294B")) == (label, "MR048294B")


def test_the_mask_is_turned_back(tmp_path: Path) -> None:
    mask = MatMask(write_mat(tmp_path / "1.mat", IMAGE, mask=MASK))
    read = mask.read((5, 7))
    assert read.dtype == np.bool_
    np.testing.assert_array_equal(read, MASK == 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask)).read((5, 7)), read)
    with pytest.raises(InputError, match=r"1.mat.*7 x 5.*5 x 7"):
        mask.read((7, 5))


def test_the_outlines_order_is_found_from_the_mask(tmp_path: Path) -> None:
    xy = np.array([[1.6, 0.6], [5.4, 0.6], [5.4, 1.5], [4.4, 2.4], [1.6, 2.4]])
    for stored in (xy, xy[:, ::-1]):
        path = write_mat(tmp_path / "1.mat", IMAGE, mask=MASK, border=stored.ravel().tolist())
        np.testing.assert_array_equal(read_mat_outline(path), xy)


@pytest.mark.parametrize("border", [[1.0, 1.0, 2.0, 2.0], [1.0] * 7, [1.0, 1.0, 2.0, np.nan, 3.0, 3.0]])
def test_a_border_that_is_no_outline_is_refused(tmp_path: Path, border: list[float]) -> None:
    with pytest.raises(InputError, match=r"1.mat: cjdata.tumorBorder"):
        read_mat_outline(write_mat(tmp_path / "1.mat", IMAGE, border=border))


def test_a_label_or_pid_that_was_not_published_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cjdata.label is \[4.0\]"):
        read_mat_header(write_mat(tmp_path / "1.mat", IMAGE, label=4))
    for pid in (" ", "\x00\x00"):
        with pytest.raises(InputError, match=r"cjdata.PID"):
            read_mat_header(write_mat(tmp_path / "1.mat", IMAGE, pid=pid))


def test_other_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.mat"
    with pytest.raises(InputError, match="does not exist"):
        read_mat_image(path)
    path.touch()
    with pytest.raises(InputError, match="0 bytes"):
        read_mat_image(path)
    path.write_text("no matrix")
    with pytest.raises(InputError, match=r"not a MATLAB v7.3"):
        read_mat_image(path)
    savemat(path, {"cjdata": {"image": IMAGE}})
    with pytest.raises(InputError, match=r"older MATLAB.*-v7.3"):
        read_mat_image(path)
    with h5py.File(path, "w") as file:
        file["volume"] = IMAGE
    with pytest.raises(InputError, match=r"holds no cjdata:"):
        read_mat_image(path)
    with h5py.File(path, "w") as file:
        file["cjdata"] = IMAGE  # an array where the struct should be
    with pytest.raises(InputError, match=r"holds no cjdata.image"):
        read_mat_image(path)
    with h5py.File(path, "w") as file:
        file["cjdata/image"] = IMAGE[None]
    with pytest.raises(InputError, match=r"not a 2-D array"):
        read_size(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("cjdata/image", (20_000, 20_000), dtype=np.int16)
    with pytest.raises(InputError, match="64 million"):
        read_mat_image(path)
    write_mat(path, np.where(IMAGE == 0, np.nan, IMAGE))
    with pytest.raises(InputError, match="NaN"):
        read_mat_image(path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "1.mat", IMAGE).read_bytes()
    for end in range(20, len(whole), len(whole) // 40):
        (tmp_path / "cut.mat").write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut.mat"):
            read_mat_image(tmp_path / "cut.mat")


def test_folds_of_either_matlab_format(tmp_path: Path) -> None:
    folds = [1, 5, 2, 3, 4, 1]
    assert read_mat_folds(write_folds(tmp_path / "cvind.mat", folds)).tolist() == folds
    savemat(tmp_path / "old.mat", {"cvind": np.array([folds]).T})
    assert read_mat_folds(tmp_path / "old.mat").tolist() == folds


def test_folds_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cvind.mat: cvind is not a list of folds"):
        read_mat_folds(write_folds(tmp_path / "cvind.mat", [1, 6]))
    savemat(tmp_path / "old.mat", {"other": 1})
    with pytest.raises(InputError, match=r"old.mat holds no cvind"):
        read_mat_folds(tmp_path / "old.mat")
    (tmp_path / "old.mat").write_bytes((tmp_path / "old.mat").read_bytes()[:130])
    with pytest.raises(InputError, match=r"old.mat"):
        read_mat_folds(tmp_path / "old.mat")
    with pytest.raises(InputError, match=r"holds no cvind"):
        read_mat_folds(write_mat(tmp_path / "1.mat", IMAGE))
