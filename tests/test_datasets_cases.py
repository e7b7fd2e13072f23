"""Cases: labels in one vocabulary, on the grid of their images, and slices that know their mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, ORDERS, SHAPE, save_nifti, stored

from gyrus.datasets.cases import (
    LABELS,
    Case,
    Cases,
    LabelMask,
    LabelRef,
    VolumeRef,
    case_records,
    check_grid,
    chosen,
    in_region,
    read_labels,
)
from gyrus.errors import InputError
from gyrus.io import Grid, SliceRef
from gyrus.records import DatasetInfo

OLD = {1: "necrotic_core", 2: "oedema", 4: "enhancing"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A block whose labels are stored in another axis order: value 4 where the block is below 70, 2 below 120."""
    drawn = np.where(BLOCK < 70, 4, np.where(BLOCK < 120, 2, 0)).astype(np.uint8)
    image = save_nifti(tmp_path / "c_t1ce.nii.gz", BLOCK)
    labels = save_nifti(tmp_path / "c_seg.nii.gz", *stored(ORDERS[29], drawn))
    return Case("c", {"t1ce": VolumeRef(image)}, "p", "s", LabelRef(labels, OLD), "glioma")


def cases(root: Path, *members: Case) -> Cases:
    return Cases(DatasetInfo("hand", "made by hand"), root, members)


def test_labels_come_in_the_common_vocabulary_and_frame(case: Case) -> None:
    labels = read_labels(case)
    assert labels.dtype == np.uint8
    names = np.array(LABELS)[labels]
    assert (names == np.where(BLOCK < 70, "enhancing", np.where(BLOCK < 120, "oedema", "background"))).all()
    assert (in_region(labels, "core") == (BLOCK < 70)).all()
    assert (in_region(labels, "whole") == (BLOCK < 120)).all()


def test_one_name_stands_for_every_value_but_zero() -> None:
    labels = LabelRef(Path("x"), "tumor").translate(np.array([0, 1, 255], dtype=np.float32))
    assert [LABELS[i] for i in labels] == ["background", "tumor", "tumor"]


@pytest.mark.parametrize("value", [3, 0.5, -1])
def test_a_label_outside_the_table_is_named(value: float) -> None:
    with pytest.raises(InputError, match=rf"x\.nii holds the label {value}, which is none .*4 enhancing"):
        LabelRef(Path("x.nii"), OLD).translate(np.array([0, 1, value], dtype=np.float32))


def test_labels_on_another_grid_are_refused(case: Case, tmp_path: Path) -> None:
    small = save_nifti(tmp_path / "small.nii", BLOCK[:4].astype(np.uint8) * 0)
    moved = AFFINE.copy()
    moved[0, 3] += 0.5
    elsewhere = save_nifti(tmp_path / "moved.nii", np.zeros(SHAPE, np.uint8), moved)
    for path, words in ((small, "4 x 6 x 7 voxels and its image c_t1ce.nii.gz 5 x 6 x 7"), (elsewhere, "0.5 mm away")):
        with pytest.raises(InputError, match=words):
            read_labels(Case("c", case.images, labels=LabelRef(path, OLD)))
    two = Case("c", {**case.images, "flair": VolumeRef(small)}, labels=case.labels)
    assert read_labels(two).shape == SHAPE
    with pytest.raises(InputError, match=r"c_seg\.nii\.gz has 5 x 6 x 7 voxels and its image small\.nii 4 x 6 x 7"):
        read_labels(two, "flair")
    with pytest.raises(InputError, match="no region 'half' of a tumour: choose core or whole"):
        in_region(read_labels(case), "half")
    with pytest.raises(InputError, match="c has no labels"):
        read_labels(Case("c", case.images))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_slice_knows_its_mask(case: Case, tmp_path: Path, plane: str) -> None:
    data = case_records(cases(tmp_path, case), plane=plane)
    assert [r.id for r in data][:2] == [f"c_t1ce.nii.gz#{plane}-0", f"c_t1ce.nii.gz#{plane}-1"]
    assert {(r.patient, r.study, r.plane, r.label, r.source) for r in data} == {("p", "s", plane, None, "hand")}
    whole = case_records(cases(tmp_path, case), plane=plane, region="whole")
    for core, more in zip(data, whole, strict=True):
        pixels = core.read().pixels
        mask, wider = core.read_mask(pixels.shape), more.read_mask(pixels.shape)
        assert mask is not None
        assert wider is not None
        assert (mask == (pixels < 70)).all()
        assert (wider == (pixels < 120)).all()


def test_a_mask_that_lies_elsewhere_is_refused(case: Case, tmp_path: Path) -> None:
    """Cropped or moved labels have slices of the right size in the wrong place."""
    fewer = save_nifti(tmp_path / "fewer.nii", np.zeros((*SHAPE[:2], SHAPE[2] - 1), np.uint8))
    moved = AFFINE.copy()
    moved[2, 3] += 7
    elsewhere = save_nifti(tmp_path / "moved.nii", np.zeros(SHAPE, np.uint8), moved)
    for path, words in ((fewer, "has 5 x 6 x 6 voxels and its image"), (elsewhere, "moved.nii lies 7 mm away")):
        data = case_records(cases(tmp_path, Case("c", case.images, labels=LabelRef(path, OLD))), plane="axial")
        with pytest.raises(InputError, match=words):
            data.records[1].read_mask((6, 5))


def test_a_grid_that_is_turned_about_its_diagonal_is_another() -> None:
    """Both ends of the diagonal stay where they are; all other corners move."""
    x, y, z = np.eye(3)
    turned = np.eye(4)
    turned[:3, :3] = np.column_stack([y, z, x])  # by 120 degrees
    one, other = Grid((9, 9, 9), np.eye(4)), Grid((9, 9, 9), turned)
    with pytest.raises(InputError, match=r"a\.nii lies 8 mm away from its image b\.nii"):
        check_grid(Path("a.nii"), other, Path("b.nii"), one)


def test_a_mask_of_another_size_is_refused(case: Case) -> None:
    assert case.labels is not None
    mask = LabelMask(case.labels, SliceRef("axial", 0), "core", case.image().path)
    with pytest.raises(InputError, match=r"c_seg.*axial slices are 5 x 6 pixels and those of its image 6 x 5"):
        mask.read((5, 6))


def test_which_slices() -> None:
    assert chosen("all", 3, "x") == [0, 1, 2]
    assert chosen("middle", 5, "x") == [2]
    assert chosen(4, 5, "x") == [4]
    assert chosen([3, 1, 3], 5, "x") == [1, 3]
    for wrong, words in ((5, "slices 0 to 4, no 5"), ([0, -1], "no -1"), ("some", "no slice 'some'"), ([], "empty")):
        with pytest.raises(InputError, match=words):
            chosen(wrong, 5, "x")


def test_which_volume(case: Case, tmp_path: Path) -> None:
    flair = VolumeRef(tmp_path / "f.nii")
    both = Case("c", {"flair": flair, **case.images})
    assert both.image() == case.images["t1ce"]  # wherever it stands
    assert Case("c", {"image": flair}).image() == flair
    with pytest.raises(InputError, match="c has no t2 volume: it has flair, t1ce"):
        both.image("t2")


def test_a_slice_of_a_channel(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii.gz", np.stack([BLOCK, BLOCK + 1000], axis=3))
    case = Case("x", {"flair": VolumeRef(path, 0), "t1ce": VolumeRef(path, 1)}, plane="coronal")
    (record,) = case_records(cases(tmp_path, case), slices=2).records
    assert (record.at, record.plane) == (SliceRef("coronal", 2, channel=1), "coronal")
    assert (record.read().pixels == BLOCK[:, 2, :].T[::-1, ::-1] + 1000).all()
