"""NIfTI: which geometry counts, how numbers are scaled, and what is refused before or while it is unpacked."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, save_nifti, tilted

from gyrus.errors import InputError
from gyrus.io import Volume, nifti, read_grid, read_volume, write_nifti
from gyrus.io.volume import MAX_VOXELS

DIM, DATATYPE, PIXDIM, VOX_OFFSET, SLOPE, UNITS, SROW, MAGIC = 40, 70, 76, 108, 112, 123, 280, 344  # NIfTI-1 offsets


def refused(path: Path, **how: Any) -> str:
    """Return the sentence with which reading is refused, after checking that it is one and names the file."""
    with pytest.raises(InputError) as caught:
        read_volume(path, **how)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def patched(path: Path, *changes: tuple[int, str, Any]) -> Path:
    """Overwrite header fields of an uncompressed file: (offset, struct format, value)."""
    data = bytearray(path.read_bytes())
    for offset, form, value in changes:
        struct.pack_into("<" + form, data, offset, value)
    path.write_bytes(bytes(data))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return save_nifti(tmp_path / "a.nii", BLOCK)


class TestForms:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII", "A.Nii.GZ"])
    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("order", "<>")
    def test_both_versions_either_byte_order_packed_or_not(
        self, tmp_path: Path, name: str, kind: Any, order: str
    ) -> None:
        header = kind.header_class(endianness=order)
        header.set_data_dtype(np.dtype("i2").newbyteorder(order))
        image = kind(BLOCK, AFFINE, header)
        path = tmp_path / name
        path.write_bytes(gzip.compress(image.to_bytes()) if name.lower().endswith("gz") else image.to_bytes())
        read = read_volume(path)
        np.testing.assert_array_equal(read.voxels, BLOCK)
        np.testing.assert_array_equal(read.affine, AFFINE)
        assert (read.meta["format"], read.meta["bits"], read.meta["notes"]) == ("NIfTI", 16, ())

    def test_packed_under_a_name_that_does_not_say_so(self, plain: Path) -> None:
        plain.write_bytes(gzip.compress(plain.read_bytes()))
        np.testing.assert_array_equal(read_volume(plain).voxels, BLOCK)

    def test_a_pair_of_header_and_voxels(self, tmp_path: Path) -> None:
        nib.save(nib.Nifti1Pair(BLOCK, AFFINE), tmp_path / "a.hdr")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.hdr").voxels, BLOCK)
        (tmp_path / "a.img").unlink()
        with pytest.raises(InputError, match=r"a\.img does not exist"):
            read_volume(tmp_path / "a.hdr")

    @pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8", "f4", "f8"])
    def test_every_type_of_number(self, tmp_path: Path, dtype: str) -> None:
        block = (BLOCK % 100).astype(dtype)
        image = nib.Nifti1Image(block, AFFINE, dtype=block.dtype)
        nib.save(image, tmp_path / "a.nii")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").voxels, block)

    def test_an_extended_header_is_skipped(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(BLOCK, AFFINE)
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Moriarty" * 40))
        nib.save(image, tmp_path / "a.nii.gz")
        read = read_volume(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(read.voxels, BLOCK)
        assert "Moriarty" not in str(read.meta)

    def test_free_text_stays_out_of_meta(self, tmp_path: Path) -> None:
        path = save_nifti(tmp_path / "a.nii", BLOCK, descrip=b"Moriarty^James", db_name=b"MRN-4711", intent_name=b"JM")
        assert not any(word in f"{read_volume(path).meta} {read_volume(path)!r}" for word in ("Moriarty", "4711", "JM"))

    def test_two_dimensions_are_one_slice(self, tmp_path: Path) -> None:
        read = read_volume(save_nifti(tmp_path / "a.nii", BLOCK[:, :, 3]))
        np.testing.assert_array_equal(read.voxels, BLOCK[:, :, 3:4])


class TestScaling:
    def test_slope_and_intercept_by_hand(self, plain: Path) -> None:
        patched(plain, (SLOPE, "f", 0.5), (SLOPE + 4, "f", -3.25))
        np.testing.assert_array_equal(read_volume(plain).voxels, BLOCK * 0.5 - 3.25)

    @pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf")])
    def test_a_slope_that_is_none_is_ignored(self, plain: Path, slope: float) -> None:
        """0 means no scaling by the standard; nibabel writes NaN for it."""
        np.testing.assert_array_equal(read_volume(patched(plain, (SLOPE, "f", slope))).voxels, BLOCK)

    def test_it_agrees_with_nibabel(self, tmp_path: Path) -> None:
        """Floats squeezed into int16 with a slope of nibabel's choosing."""
        block = np.random.default_rng(1).normal(100, 30, BLOCK.shape)
        image = nib.Nifti1Image(block, AFFINE)
        image.set_data_dtype(np.int16)
        nib.save(image, tmp_path / "a.nii.gz")
        peer = nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float64)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").voxels, peer.astype(np.float32))

    def test_numbers_that_are_none_are_counted(self, tmp_path: Path) -> None:
        block = BLOCK.astype(np.float32)
        block[0, 0, 0], block[1, 2, 3], block[4, 5, 6] = np.nan, np.inf, -np.inf
        sentence = refused(save_nifti(tmp_path / "a.nii.gz", block))
        assert "3 NaN or infinite voxels" in sentence
        assert "replace them" in sentence

    def test_what_float32_cannot_hold(self, tmp_path: Path) -> None:
        big = BLOCK.astype(np.int32) + 2**24
        assert "16,777,216" in refused(save_nifti(tmp_path / "a.nii", big))
        assert "infinite" in refused(save_nifti(tmp_path / "b.nii", np.full((2, 2, 2), 1e300)))

    def test_colour_and_complex(self, tmp_path: Path) -> None:
        rgb = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, AFFINE), tmp_path / "rgb.nii")
        assert "not plain numbers" in refused(tmp_path / "rgb.nii")
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.complex64), AFFINE), tmp_path / "c.nii")
        assert "complex64" in refused(tmp_path / "c.nii")


class TestGeometry:
    def test_the_sform_goes_before_the_qform(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(BLOCK, None)
        image.set_sform(AFFINE, code=1)
        image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
        nib.save(image, tmp_path / "a.nii")
        read = read_volume(tmp_path / "a.nii")
        np.testing.assert_array_equal(read.affine, AFFINE)
        assert read.meta["geometry"] == "sform"

    def test_the_qform_where_there_is_no_sform(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(BLOCK, None)
        image.set_qform(tilted(), code=2)
        image.set_sform(np.diag([9.0, 9, 9, 1]), code=0)
        nib.save(image, tmp_path / "a.nii")
        read = read_volume(tmp_path / "a.nii")
        np.testing.assert_allclose(read.affine, tilted(), atol=1e-4)
        assert read.meta["geometry"] == "qform"

    def test_a_qform_that_mirrors(self, tmp_path: Path) -> None:
        """pixdim[0] = -1 turns the third axis: the header field in which a lost mirror hides."""
        image = nib.Nifti1Image(BLOCK, None)
        image.set_qform(AFFINE @ np.diag([1, 1, -1, 1]), code=1)
        nib.save(image, tmp_path / "a.nii")
        assert image.header["pixdim"][0] == -1
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").voxels, BLOCK[:, :, ::-1])

    def test_neither_is_read_as_nibabel_does_and_said(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(BLOCK, None)
        image.header.set_zooms((0.5, 0.75, 3))
        nib.save(image, tmp_path / "a.nii")
        read = read_volume(tmp_path / "a.nii")
        np.testing.assert_array_equal(read.voxels, BLOCK[::-1])  # the first axis runs to the left
        assert read.spacing == pytest.approx((0.5, 0.75, 3))
        assert read.meta["geometry"] == "voxel size only"
        assert "does not say how the head lies" in read.meta["notes"][0]

    @pytest.mark.parametrize(("unit", "factor"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (2 + 8, 1)])
    def test_lengths_become_millimetres(self, plain: Path, unit: int, factor: float) -> None:
        np.testing.assert_allclose(read_volume(patched(plain, (UNITS, "B", unit))).affine[:3], AFFINE[:3] * factor)

    def test_a_geometry_that_is_none_is_refused(self, plain: Path) -> None:
        good = plain.read_bytes()
        for changes, word in (
            ([(SROW + 4 * n, "f", 0.0) for n in range(4)], "flattens"),
            ([(SROW, "f", float("nan"))], "not finite"),
            ([(SROW + 4, "f", 0.75 * 5 / 3), (SROW, "f", 0.75), (SROW + 16, "f", 0.75)], "flattens"),
            ([(SROW, "f", 1e30)], "flattens"),
            ([(UNITS, "B", 5)], "unknown unit"),
        ):
            plain.write_bytes(good)
            assert word in refused(patched(plain, *changes)), changes

    def test_an_analyze_file_is_refused_by_name(self, tmp_path: Path) -> None:
        nib.save(nib.AnalyzeImage(BLOCK, AFFINE), tmp_path / "a.hdr")
        assert "does not tell left from right" in refused(tmp_path / "a.hdr")


class TestFourDimensions:
    @pytest.fixture(params=["a.nii", "a.nii.gz"])
    def path(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        return save_nifti(tmp_path / request.param, np.stack([BLOCK, BLOCK + 1000, BLOCK * 2], axis=-1))

    def test_a_channel_is_chosen(self, path: Path) -> None:
        for channel, block in enumerate((BLOCK, BLOCK + 1000, BLOCK * 2)):
            read = read_volume(path, channel)
            np.testing.assert_array_equal(read.voxels, block)
            np.testing.assert_array_equal(read.affine, AFFINE)
        assert read_grid(path).channels == 3

    def test_none_or_a_wrong_one_is_refused(self, path: Path) -> None:
        assert "holds 3 volumes (4-D): choose one by its channel, 0 to 2" in refused(path)
        assert "channels 0 to 2, no 3" in refused(path, channel=3)
        assert "no -1" in refused(path, channel=-1)

    def test_a_single_one_needs_no_choice(self, tmp_path: Path) -> None:
        path = save_nifti(tmp_path / "a.nii", BLOCK[..., None])
        np.testing.assert_array_equal(read_volume(path).voxels, BLOCK)
        np.testing.assert_array_equal(read_volume(path, 0).voxels, BLOCK)


class TestWriting:
    @pytest.mark.parametrize("affine", [AFFINE, tilted(), AFFINE @ np.diag([-1, 1, 1, 1])], ids=["", "tilt", "mirror"])
    @pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_])
    def test_voxels_come_back_exactly(self, tmp_path: Path, dtype: Any, affine: Any) -> None:
        block = (BLOCK % 2).astype(dtype) if dtype != np.float32 else (BLOCK / 7).astype(np.float32)
        write_nifti(tmp_path / "a.nii.gz", block, affine)
        peer = nib.load(tmp_path / "a.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(peer.dataobj), block)
        assert peer.get_data_dtype() == (np.float32 if dtype == np.float32 else np.uint8)
        np.testing.assert_allclose(peer.affine, affine, atol=1e-5)
        np.testing.assert_allclose(peer.get_qform(), affine, atol=1e-5)
        assert peer.header.get_xyzt_units()[0] == "mm"

    def test_the_same_volume_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a.nii.gz", "b.nii.gz"):
            write_nifti(tmp_path / name, BLOCK.astype(np.float32), AFFINE)
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()

    def test_a_shear_is_kept_in_the_sform_alone(self, tmp_path: Path) -> None:
        sheared = AFFINE.copy()
        sheared[1, 2] = 0.8
        write_nifti(tmp_path / "a.nii", BLOCK.astype(np.float32), sheared)
        np.testing.assert_allclose(read_volume(tmp_path / "a.nii").affine, sheared, atol=1e-6)
        assert int(nib.load(tmp_path / "a.nii").header["qform_code"]) == 0

    def test_what_is_no_volume_is_refused(self, tmp_path: Path) -> None:
        block = BLOCK.astype(np.float32)
        with pytest.raises(InputError, match=r"end it in \.nii"):
            write_nifti(tmp_path / "a.mha", block, AFFINE)
        for wrong in (block.astype(np.float64), block[0]):
            with pytest.raises(InputError, match="not a volume"):
                write_nifti(tmp_path / "a.nii", wrong, AFFINE)
        with pytest.raises(InputError, match="flattens"):
            write_nifti(tmp_path / "a.nii", block, np.diag([1.0, 1, 0, 1]))
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_a_file_cut_anywhere(self, tmp_path: Path, name: str, share: float) -> None:
        data = save_nifti(tmp_path / name, BLOCK).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        assert any(word in refused(tmp_path / name) for word in ("cut short", "empty", "not a NIfTI"))

    def test_a_flipped_bit_in_packed_voxels_fails_the_checksum(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nii.gz"
        data = bytearray(gzip.compress(nib.Nifti1Image(BLOCK, AFFINE).to_bytes(), compresslevel=0))
        data[-100] ^= 1
        path.write_bytes(bytes(data))
        assert "damaged" in refused(path)

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ([(DIM, "h", 0)], "dimensions"),
            ([(DIM, "h", 8)], "dimensions"),
            ([(DIM + 2, "h", -5)], "dimensions"),
            ([(DIM + 4, "h", 0)], "dimensions"),
            ([(DIM + 2, "h", 6)], "cut short"),
            ([(DATATYPE, "h", 64)], "cut short"),
            ([(DATATYPE, "h", 1)], "not plain numbers"),
            ([(DATATYPE, "h", 999)], "not a NIfTI file gyrus reads"),
            ([(VOX_OFFSET, "f", 100.0)], "begin at byte 100"),
            ([(VOX_OFFSET, "f", 1e12)], "begin at byte"),
            ([(VOX_OFFSET, "f", float("nan"))], "not a NIfTI file gyrus reads"),
            ([(MAGIC, "4s", b"n+9\0")], "not a NIfTI|Analyze"),
            ([(0, "i", 0), (MAGIC, "4s", b"abcd")], "whatever its name says"),
        ],
    )
    def test_headers_that_lie(self, plain: Path, changes: list, word: str) -> None:
        sentence = refused(patched(plain, *changes))
        assert any(w in sentence for w in word.split("|")), sentence

    def test_a_bomb_is_refused_by_its_header(self, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        patched(plain, *[(DIM + 2 * n, "h", 2000) for n in (1, 2, 3)])
        monkeypatch.setattr(nifti, "_read_stored", forbidden)
        assert "claims 2000 x 2000 x 2000 voxels" in refused(plain)
        assert 640**3 <= MAX_VOXELS < 2000**3

    def test_a_stream_is_not_unpacked_beyond_what_its_header_claims(self, tmp_path: Path) -> None:
        """The stream goes on and is cut later: whoever unpacked it to its end would find that out."""
        path = tmp_path / "a.nii.gz"
        more = np.random.default_rng(0).bytes(1 << 20)
        packed = gzip.compress(nib.Nifti1Image(BLOCK, AFFINE).to_bytes() + more)
        path.write_bytes(packed[: len(packed) * 9 // 10])
        read = read_volume(path)
        np.testing.assert_array_equal(read.voxels, BLOCK)
        assert read.meta["notes"] == ("The file goes on after its voxels.",)

    def test_empty_text_and_folders(self, tmp_path: Path) -> None:
        (tmp_path / "t.nii").write_text("not a volume\n" * 50)
        assert "whatever its name says" in refused(tmp_path / "t.nii")
        (tmp_path / "t.nii.gz").write_bytes(b"\x1f\x8b" + bytes(50))
        assert "damaged" in refused(tmp_path / "t.nii.gz")
        (tmp_path / "e.nii").write_bytes(b"")
        assert "0 bytes" in refused(tmp_path / "e.nii")


def forbidden(*_: object) -> None:
    raise AssertionError("must not be called")


@pytest.fixture(scope="module")
def real() -> list[Path]:
    folder = os.environ.get("GYRUS_DATA")
    if folder is None:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return sorted(p for sub in ("brats", "progression") for p in (Path(folder) / sub).rglob("*.nii.gz"))


def test_every_real_volume_is_what_nibabel_makes_of_it(real: list[Path]) -> None:
    """Headers of all; the voxels of one of each kind, against nibabel's own reorientation."""
    assert len(real) >= 34
    for path in real:
        assert read_grid(path).shape in {(240, 240, 155), (256, 256, 24)}
        assert nib.aff2axcodes(read_grid(path).affine) == ("R", "A", "S")
    for path in (real[0], next(p for p in real if p.name == "Pre_Scan_T1.nii.gz")):
        peer = nib.as_closest_canonical(nib.load(path))
        read: Volume = read_volume(path)
        np.testing.assert_array_equal(read.voxels, peer.get_fdata(dtype=np.float32))
        np.testing.assert_array_equal(read.affine, peer.affine)
