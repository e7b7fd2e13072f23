"""The way back from slices: grey levels to values, slices to volumes, volumes to the source's own grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, ORDERS, SHAPE, save_nifti, stored, tilted

from gyrus.convert import convert_data
from gyrus.errors import InputError
from gyrus.geometry import Placement, Scale, load_geometry, restore, save_geometry, scale_of, to_nifti
from gyrus.io import read_volume

PLANES = ("axial", "coronal", "sagittal")


def values(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (values(0, 7, 255), Scale(8, 1, 0, True)),
        (values(0, 4601), Scale(16, 1 / 14, 0, True)),
        (values(-105, 2030), Scale(16, 1 / 30, -105, True)),
        (values(-32768, 32767), Scale(16, 1, -32768, True)),
        (values(-9, -9), Scale(16, 1 / 65535, -9, True)),
        (values(0.25, 0.5), Scale(16, 0.25 / 65535, 0.25, False)),
        (values(0, 70000), Scale(16, 70000 / 65535, 0, False)),
    ],
)
def test_grey_levels_by_themselves(source: np.ndarray, expected: Scale) -> None:
    scale = scale_of(source)
    assert scale == expected
    back = scale.decode(scale.encode(source).astype(np.float32))
    if expected.lossless:
        assert (back == source).all()
    else:
        assert np.abs(back - source).max() <= scale.slope / 2 + 1e-6


def test_every_whole_number_of_a_wide_range_comes_back() -> None:
    source = np.arange(-3000, 40000, dtype=np.float32)
    scale = scale_of(source)
    levels = scale.encode(source)
    assert levels.dtype == np.uint16
    assert (np.diff(levels.astype(int)) == 1).all()
    assert (scale.decode(levels.astype(np.float32)) == source).all()


def test_a_window_clips_and_says_so() -> None:
    source = values(-50, 100, 200, 300, 900)
    scale = scale_of(source, window=(100, 300))
    assert (scale.bits, scale.lossless) == (16, False)
    assert scale.encode(source).tolist() == [0, 0, 32768, 65535, 65535]
    eight = scale_of(source, 8, (100, 300))
    assert eight.encode(source).tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(InputError, match="8 or 16 bits, not 12"):
        scale_of(source, 12)
    for low, high in ((5, 5), (5, 4), (0, np.inf), (-np.inf, 0), (np.nan, 1)):
        with pytest.raises(InputError, match=r"the window from .* is none: give two numbers"):
            scale_of(source, window=(low, high))


def test_eight_bits_spread_the_middle_of_the_values() -> None:
    source = np.arange(1001, dtype=np.float32)
    scale = scale_of(source, 8)
    assert (scale.intercept, scale.bits, scale.lossless) == (5, 8, False)
    assert scale.decode(values(0, 255)).tolist() == [5, 995]
    assert scale_of(values(0, 1, 255), 8) == Scale()  # is in 8 bits already
    assert scale_of(np.full(9, 400, dtype=np.float32), 8).encode(values(400)).tolist() == [0]


def test_pictures_are_not_stretched() -> None:
    assert scale_of(values(0, 4095), stretch=False) == Scale(16)
    assert scale_of(values(-1, 4094), stretch=False) == Scale(16, 1 / 16, -1)


def test_the_luminance_of_colours_is_not_stretched() -> None:
    tinted = values(0.4, 100.7)
    assert scale_of(tinted, stretch=False, colour=8) == Scale(8, lossless=False)
    assert scale_of(tinted, stretch=False, colour=16) == scale_of(tinted, 16, colour=8) == Scale(16, lossless=False)
    assert scale_of(tinted, 8, colour=16).slope < 1  # as asked for: 16 bits spread over 8
    assert scale_of(values(-0.5, 7), stretch=False, colour=8) == scale_of(values(-0.5, 7))
    assert scale_of(values(0, 7), stretch=False, colour=8) == Scale()


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("order", [ORDERS[i] for i in (0, 5, 11, 22, 29, 38, 47)])
def test_a_volume_comes_back_as_it_was_stored(tmp_path: Path, plane: str, order: tuple[tuple, tuple]) -> None:
    """Unequal axes and spacings, tilted, every voxel of its own value: nothing mirrored, transposed or moved."""
    array, affine = stored(order, affine=tilted())
    source = save_nifti(tmp_path / "x.nii.gz", array, affine)
    folder = convert_data(source, tmp_path / "out", plane=plane)
    volume = restore(folder)
    assert (volume.voxels == BLOCK).all()
    assert np.allclose(volume.affine, read_volume(source).affine, atol=0)
    assert_same_file(to_nifti(folder, None, tmp_path / "new" / "back.nii.gz"), source)


def assert_same_file(path: Path, source: Path) -> None:
    import nibabel as nib

    ours, theirs = nib.load(path), nib.load(source)
    assert ours.shape == theirs.shape
    assert (np.asarray(ours.dataobj) == np.asarray(theirs.dataobj)).all()
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_an_array_made_on_one_slice_is_laid_where_it_was_cut(tmp_path: Path, order: tuple[tuple, tuple]) -> None:
    """All 48 axis orders, without the detour through PNG: the geometry alone."""
    import nibabel as nib

    array, affine = stored(order)
    rows = tuple(tuple(map(float, row)) for row in AFFINE)
    axes = "".join(nib.aff2axcodes(affine))
    for plane, index in zip(PLANES, (6, 1, 3), strict=True):
        folder = tmp_path / plane
        folder.mkdir()
        placed = Placement("v", plane, (index,), SHAPE, rows, axes, Scale())
        save_geometry(folder, [placed])
        cut = np.take(BLOCK, index, axis={"sagittal": 0, "coronal": 1, "axial": 2}[plane]).T[::-1, ::-1]
        out = to_nifti(folder, "v", folder / "v.nii", {placed.file(index): (cut > 60).astype(np.uint8)})
        written = nib.load(out)
        here = np.isin(array, cut)  # the voxels of that slice, wherever this order stores them
        assert (np.asarray(written.dataobj) == (here & (array > 60))).all()
        np.testing.assert_allclose(written.affine, affine, atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_nifti(tmp_path / "in" / "a.nii", BLOCK)
    save_nifti(tmp_path / "in" / "b.nii", BLOCK + np.int16(7))
    return convert_data(tmp_path / "in", tmp_path / "out")


def test_geometry_survives_its_file(folder: Path, tmp_path: Path) -> None:
    known = load_geometry(folder)
    assert list(known) == ["a", "b"]
    some = replace(known["b"], slices=(1, 4), region="whole", spaced=False)
    (tmp_path / "again").mkdir()
    save_geometry(tmp_path / "again", [some])
    assert load_geometry(tmp_path / "again") == {"b": some}


def test_one_of_several_volumes(folder: Path, tmp_path: Path) -> None:
    assert (restore(folder, "b").voxels == BLOCK + 7).all()
    with pytest.raises(InputError, match=r"has no volume None: it has 2 \(a, b\)"):
        restore(folder)
    heat = np.full((6, 5), 0.5, dtype=np.float32)
    to_nifti(folder, "b", tmp_path / "heat.nii", {"images/b/axial-0006.png": heat})
    laid = read_volume(tmp_path / "heat.nii").voxels
    assert (laid[:, :, 6] == 0.5).all()
    assert not laid[:, :, :6].any()
    with pytest.raises(InputError, match=r"b has no slice 'images/a/axial-0000\.png'"):
        to_nifti(folder, "b", tmp_path / "c.nii", {"images/a/axial-0000.png": heat})
    with pytest.raises(InputError, match=r"is \(5, 6\), but the slice \(6, 5\)"):
        to_nifti(folder, "b", tmp_path / "c.nii", {"images/b/axial-0000.png": heat.T})
    with pytest.raises(InputError, match="not a name for a NIfTI file"):
        to_nifti(folder, "b", tmp_path / "c.png")


def test_what_cannot_be_restored(folder: Path, tmp_path: Path) -> None:
    part = convert_data(tmp_path / "in" / "a.nii", tmp_path / "part", slices=[0, 3])
    with pytest.raises(InputError, match="holds 2 of the 7 slices of a"):
        restore(part)
    (folder / "images" / "a" / "axial-0002.png").unlink()
    with pytest.raises(InputError, match=r"axial-0002\.png does not exist"):
        restore(folder, "a")
    with pytest.raises(InputError, match=r"geometry\.json does not exist"):
        restore(tmp_path)
    content = json.loads((folder / "geometry.json").read_text())
    for wrong in ({"schema": "else/1"}, {**content, "volumes": [{"id": "a"}]}, []):
        (folder / "geometry.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match=r"geometry\.json is not the geometry of converted slices"):
            restore(folder, "b")
