"""The frame, the display convention, and that no axis order or tilt of the stored volume changes what is seen."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, ORDERS, SHAPE, SPACING, save_nifti, save_series, stored, tilted
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io import Grid, SliceRef, Volume, is_volume, read_grid, read_image, read_size, read_volume, write_nifti
from gyrus.io.reading import _kept_volume

PLANES = ("axial", "coronal", "sagittal")
COUNTED = np.fromfunction(lambda i, j, k: 100 * i + 10 * j + k, (2, 3, 4)).astype(np.float32)


def named(order: tuple) -> str:
    return "".join(f"{'-' if flip else ''}{'ijk'[axis]}" for axis, flip in zip(*order, strict=True))


def volume(voxels: NDArray[np.float32] = COUNTED, affine: NDArray[np.float64] = AFFINE) -> Volume:
    return Volume(voxels, affine, {"format": "test", "bits": 16, "channels": 1, "colour": 0.0})


class TestDisplay:
    """By hand, from the convention: row 0 is in front or on top, column 0 is the patient's right or the front."""

    def test_axial(self) -> None:
        np.testing.assert_array_equal(volume().take("axial", 1).pixels, [[121, 21], [111, 11], [101, 1]])

    def test_coronal(self) -> None:
        np.testing.assert_array_equal(volume().take("coronal", 2).pixels, [[123, 23], [122, 22], [121, 21], [120, 20]])

    def test_sagittal(self) -> None:
        wanted = [[123, 113, 103], [122, 112, 102], [121, 111, 101], [120, 110, 100]]
        np.testing.assert_array_equal(volume().take("sagittal", 1).pixels, wanted)

    def test_rows_and_columns_run_through_the_world_as_said(self) -> None:
        """The same from world coordinates: R, A and S fall where the table says they do, and stay put elsewhere."""
        world = apply_affine(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1)).astype(np.float32)
        falls = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}
        for plane, (down, across) in falls.items():
            for axis in range(3):
                pixels = volume(np.ascontiguousarray(world[..., axis])).take(plane, 2).pixels
                assert (np.diff(pixels, axis=0) < 0).all() == (axis == down)
                assert (np.diff(pixels, axis=1) < 0).all() == (axis == across)
                assert np.ptp(np.diff(pixels, axis=0)) < 1e-4

    def test_spacing_goes_with_rows_and_columns(self) -> None:
        i, j, k = SPACING
        assert volume().take("axial", 0).spacing == pytest.approx((j, i))
        assert volume().take("coronal", 0).spacing == pytest.approx((k, i))
        assert volume().take("sagittal", 0).spacing == pytest.approx((k, j))

    def test_a_slice_is_its_own_and_says_where_it_is(self) -> None:
        whole = volume(COUNTED.copy())
        image = whole.take("coronal", 1)
        assert image.pixels.flags.c_contiguous
        image.pixels[:] = -1
        np.testing.assert_array_equal(whole.voxels, COUNTED)
        assert dict(image.meta) == {**whole.meta, "plane": "coronal", "index": 1}

    @pytest.mark.parametrize("plane", PLANES)
    def test_stack_undoes_take(self, plane: str) -> None:
        block = volume(BLOCK.astype(np.float32))
        slices = [block.take(plane, n).pixels for n in range(block.count(plane))]
        back = block.stack(plane, slices)
        np.testing.assert_array_equal(back, BLOCK)
        assert back.dtype == np.float32
        masks = block.stack(plane, np.stack(slices) > 50)
        assert masks.dtype == np.bool_
        np.testing.assert_array_equal(masks, BLOCK > 50)

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(InputError, match="do not stack"):
            volume().stack("axial", np.zeros((4, 2, 3)))
        with pytest.raises(InputError, match="slices 0 to 3, no 4"):
            volume().take("axial", 4)
        with pytest.raises(InputError, match="no -1"):
            volume().take("axial", -1)
        with pytest.raises(InputError, match="no plane 'Axial'"):
            volume().take("Axial", 0)
        with pytest.raises(InputError, match="no plane"):
            SliceRef("oblique", 0)
        with pytest.raises(InputError, match="counted from 0"):
            SliceRef("axial", -1)


class TestValue:
    def test_it_is_frozen_and_typed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            volume().affine = np.eye(4)  # type: ignore[misc]
        with pytest.raises(TypeError, match="float32"):
            Volume(COUNTED.astype(np.float64), AFFINE)
        with pytest.raises(TypeError, match="4, 4"):
            Volume(COUNTED, np.eye(3))

    def test_counts_sizes_and_spacing(self) -> None:
        grid = volume(BLOCK.astype(np.float32)).grid
        assert [grid.count(plane) for plane in PLANES] == [7, 6, 5]
        assert [grid.size(plane) for plane in PLANES] == [(6, 5), (7, 5), (7, 6)]
        assert grid.spacing == pytest.approx(SPACING)
        assert Grid(SHAPE, tilted()).spacing == pytest.approx(SPACING)

    def test_the_plane_acquired_is_the_one_with_the_widest_step(self) -> None:
        for spacing, plane in (
            ((1, 1, 5), "axial"),
            ((1, 5, 1), "coronal"),
            ((5, 1, 1), "sagittal"),
            ((1, 1, 1), "axial"),
            ((1, 2, 2), "axial"),
            ((2, 2, 1), "coronal"),
            ((1, 1.0005, 1), "axial"),
            ((1, 1.002, 1), "coronal"),
        ):
            assert Grid(SHAPE, tilted(np.diag([*spacing, 1.0]))).acquired == plane


@pytest.fixture(params=["straight", "oblique"])
def affine(request: pytest.FixtureRequest) -> NDArray[np.float64]:
    return AFFINE if request.param == "straight" else tilted()


@pytest.mark.parametrize("order", ORDERS, ids=named)
class TestAllAxisOrders:
    def test_nifti(self, tmp_path: Path, order: tuple, affine: NDArray[np.float64]) -> None:
        array, placed = stored(order, affine=affine)
        path = save_nifti(tmp_path / "a.nii", array, placed)
        self.check(path, array, placed, affine)

    def test_dicom(self, tmp_path: Path, order: tuple, affine: NDArray[np.float64]) -> None:
        array, placed = stored(order, affine=affine)
        self.check(save_series(tmp_path / "series", array, placed), array, placed, affine)

    def check(self, path: Path, array: NDArray, placed: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
        """Voxels and affine come out as the block's own, so each slice does; marked voxels stay where they were."""
        read = read_volume(path)
        np.testing.assert_array_equal(read.voxels, BLOCK)
        np.testing.assert_allclose(read.affine, affine, atol=1e-5)
        assert read.meta["axes"][:2] == "".join(nib.aff2axcodes(placed))[:2]  # a DICOM stack may be turned over
        for mark in (0, 17, 101, 209):
            before = apply_affine(placed, np.argwhere(array == mark)[0])
            after = apply_affine(read.affine, np.argwhere(read.voxels == mark)[0])
            np.testing.assert_allclose(after, before, atol=1e-4)
        block = volume(BLOCK.astype(np.float32), affine)
        for plane in PLANES:
            at = SliceRef(plane, 3)
            image = read_image(path, at)
            np.testing.assert_array_equal(image.pixels, block.take(plane, 3).pixels)
            assert image.spacing == pytest.approx(block.take(plane, 3).spacing, abs=1e-6)
            assert read_size(path, at) == image.shape
        grid = read_grid(path)
        assert grid.shape == SHAPE
        np.testing.assert_array_equal(grid.affine, read.affine)


@pytest.mark.parametrize("order", ORDERS[::5])
def test_written_and_read_again_it_is_the_same(tmp_path: Path, order: tuple, affine: NDArray[np.float64]) -> None:
    """Whatever the order it came in: read, write, read; also by nibabel, which stands for every other program."""
    array, placed = stored(order, affine=affine)
    first = read_volume(save_nifti(tmp_path / "in.nii.gz", array, placed))
    write_nifti(tmp_path / "out.nii.gz", first.voxels, first.affine)
    again = read_volume(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(again.voxels, first.voxels)
    np.testing.assert_allclose(again.affine, first.affine, rtol=1e-6, atol=1e-5)
    peer = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(peer.dataobj), BLOCK)
    np.testing.assert_allclose(peer.affine, affine, atol=1e-5)
    np.testing.assert_allclose(peer.get_qform(), affine, atol=1e-5)
    assert nib.aff2axcodes(peer.affine) == ("R", "A", "S")


class TestReading:
    def test_a_volume_needs_a_slice(self, tmp_path: Path) -> None:
        path = save_nifti(tmp_path / "a.nii.gz", BLOCK)
        for read in (read_image, read_size):
            with pytest.raises(InputError, match=r"volume \(5 x 6 x 7\): name a plane and slice") as caught:
                read(path)
            assert str(path) in str(caught.value)
            with pytest.raises(InputError, match="axial slices 0 to 6, no 7"):
                read(path, SliceRef("axial", 7))

    def test_a_picture_has_none(self, tmp_path: Path) -> None:
        from PIL import Image as Pillow

        Pillow.fromarray(BLOCK[0].astype(np.uint8)).save(tmp_path / "a.png")
        for read in (read_image, read_size):
            with pytest.raises(InputError, match="single image"):
                read(tmp_path / "a.png", SliceRef("axial", 0))
        for read in (read_volume, read_grid):
            with pytest.raises(InputError, match=r"a\.png is not a volume gyrus reads"):
                read(tmp_path / "a.png")

    @pytest.mark.parametrize(("plane", "axis"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
    def test_a_volume_one_slice_thick_is_that_slice(self, tmp_path: Path, plane: str, axis: int) -> None:
        thin = BLOCK.take([2], axis)
        image = read_image(save_nifti(tmp_path / "a.nii", thin))
        np.testing.assert_array_equal(image.pixels, volume(BLOCK.astype(np.float32)).take(plane, 2).pixels)
        assert image.meta["plane"] == plane
        assert read_size(tmp_path / "a.nii") == image.shape

    def test_what_counts_as_a_volume(self, tmp_path: Path) -> None:
        assert is_volume(save_nifti(tmp_path / "a.nii.gz", BLOCK))
        assert is_volume(tmp_path / "B.NII")  # by name
        folder = save_series(tmp_path / "series", BLOCK, AFFINE)
        assert is_volume(folder)
        assert not is_volume(folder / "IM000")
        assert not is_volume(tmp_path)
        assert not is_volume(tmp_path / "missing.dcm")
        assert not is_volume(tmp_path / "nowhere")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        for read in (read_image, read_size, read_volume, read_grid):
            for name in ("a.nii.gz", "a.dcm", "a.hdr", "a"):
                with pytest.raises(InputError, match=f"{name} does not exist"):
                    read(tmp_path / name)
            for name in ("a\0", "a\0.nii", "a\0.dcm"):
                with pytest.raises(InputError, match="cannot be opened"):
                    read(tmp_path / name)
        with pytest.raises(InputError, match="folder"):
            read_image(tmp_path)

    def test_slices_are_read_from_memory_until_the_file_changes(self, tmp_path: Path) -> None:
        path = save_nifti(tmp_path / "a.nii.gz", BLOCK)
        _kept_volume.cache_clear()
        for n in range(7):
            read_image(path, SliceRef("axial", n))
        assert _kept_volume.cache_info().misses == 1
        assert _kept_volume.cache_info().maxsize == 2
        before = path.stat()
        save_nifti(path, BLOCK[::-1].copy())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        np.testing.assert_array_equal(
            read_image(path, SliceRef("sagittal", 0)).pixels,
            volume(BLOCK.astype(np.float32)).take("sagittal", 4).pixels,
        )

    def test_slices_of_a_series_are_read_from_memory_until_a_file_changes(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        (folder / "note").symlink_to(tmp_path / "elsewhere.txt")
        (tmp_path / "elsewhere.txt").write_text("about")
        _kept_volume.cache_clear()
        for n in range(7):
            read_image(folder, SliceRef("axial", n))
        assert _kept_volume.cache_info().misses == 1
        victim = folder / "IM003"
        victim.write_bytes(victim.read_bytes()[:-40])
        with pytest.raises(InputError, match="IM003 is damaged"):
            read_image(folder, SliceRef("axial", 0))
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="without DICOM images"):
            read_image(tmp_path / "empty", SliceRef("axial", 0))

    def test_each_volume_of_a_4_d_file_is_kept_for_itself(self, tmp_path: Path) -> None:
        path = save_nifti(tmp_path / "a.nii.gz", np.stack([BLOCK, BLOCK + 1000], axis=3))
        _kept_volume.cache_clear()
        for n in range(7):
            for channel in (0, 1):
                image = read_image(path, SliceRef("axial", n, channel))
                np.testing.assert_array_equal(image.pixels, BLOCK[:, :, n].T[::-1, ::-1] + 1000 * channel)
        assert _kept_volume.cache_info().misses == 2
        for at, words in (
            (SliceRef("axial", 0), "holds 2 volumes"),
            (SliceRef("axial", 0, 2), "no 2"),
        ):
            with pytest.raises(InputError, match=words):
                read_image(path, at)

    def test_what_was_returned_is_not_what_is_kept(self, tmp_path: Path) -> None:
        path, at = save_nifti(tmp_path / "a.nii", BLOCK), SliceRef("axial", 1)
        read_image(path, at).pixels[:] = -1
        read_volume(path).voxels[:] = -1
        assert read_image(path, at).pixels.min() >= 0

    def test_several_threads_see_the_same(self, tmp_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        paths = [save_nifti(tmp_path / f"{n}.nii.gz", BLOCK + n) for n in range(3)]
        jobs = [(n, k) for k in range(7) for n in range(3)] * 4
        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(lambda job: read_image(paths[job[0]], SliceRef("axial", job[1])), jobs))
        for (n, k), image in zip(jobs, images, strict=True):
            np.testing.assert_array_equal(image.pixels, BLOCK[:, :, k].T[::-1, ::-1] + n)
        _kept_volume.cache_clear()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda k: read_image(paths[0], SliceRef("axial", k % 7)), range(64)))
        assert _kept_volume.cache_info().misses == 1
