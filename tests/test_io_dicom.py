"""DICOM: geometry, grey values, compression, identity, and what is refused. All files are written here."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from handmade_volumes import (
    AFFINE,
    BLOCK,
    ORDERS,
    TRACES,
    enhanced,
    padded,
    report_dataset,
    save_dicom,
    save_nifti,
    save_series,
    series,
    slice_dataset,
    stored,
    tilted,
)
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from gyrus.errors import InputError, MissingExtraError
from gyrus.io import (
    SliceRef,
    Volume,
    dicom,
    is_volume,
    list_series,
    patient_key,
    read_grid,
    read_image,
    read_series,
    read_size,
    read_volume,
    study_key,
    windowed,
)

GREY = np.add.outer(np.arange(64) * 40, np.arange(96) * 3).astype(np.uint16)  # 0..2805 and one of 4000
GREY[3, 5] = 4000
SALT = b"a secret of at least 16"


def refused(path: Path, read: Callable[[Path], Any] = read_image) -> str:
    """Return the sentence of the refusal, after checking that it is one, names the file, and nobody."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert not [word for word in TRACES if word in message.replace(str(path), "").lower()]
    return message


def write(path: Path, pixels: NDArray[Any] = GREY, **elements: Any) -> Path:
    return save_dicom(path, slice_dataset(pixels, **elements))


class TestOneImage:
    def test_pixels_are_as_displayed_in_the_file(self, tmp_path: Path) -> None:
        image = read_image(write(tmp_path / "a.dcm", PixelSpacing=["0.5", "0.75"]))
        np.testing.assert_array_equal(image.pixels, GREY)
        assert image.pixels.dtype == np.float32
        assert image.spacing == (0.5, 0.75)  # between rows first
        assert read_size(tmp_path / "a.dcm") == (64, 96)
        expected = {
            "format": "DICOM",
            "bits": 16,
            "channels": 1,
            "colour": 0.0,
            "coloured": 0.0,
            "vivid": 0.0,
            "modality": "MR",
            "window": None,
        }
        assert expected.items() <= dict(image.meta).items()

    @pytest.mark.parametrize("name", ["IM0001", "a.ima", "a.DCM", "1.2.840.99"])
    def test_it_is_known_by_its_content(self, tmp_path: Path, name: str) -> None:
        np.testing.assert_array_equal(read_image(write(tmp_path / name)).pixels, GREY)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
    def test_signed_and_unsigned(self, tmp_path: Path, dtype: Any) -> None:
        pixels = (GREY.astype(np.int64) - (1500 if np.dtype(dtype).kind == "i" else 0)).astype(dtype)
        np.testing.assert_array_equal(read_image(write(tmp_path / "a", pixels)).pixels, pixels)

    def test_twelve_bits_of_sixteen(self, tmp_path: Path) -> None:
        """Overlays were once kept in the unused upper bits; they are no part of the pixel."""
        pixels = np.where(GREY > 1500, GREY | 0x8000, GREY).astype(np.uint16)
        image = read_image(write(tmp_path / "a", pixels, BitsStored=12, HighBit=11))
        np.testing.assert_array_equal(image.pixels, GREY)
        assert image.meta["bits"] == 12

    def test_big_endian_and_implicit(self, tmp_path: Path) -> None:
        ds = slice_dataset(GREY)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        np.testing.assert_array_equal(read_image(save_dicom(tmp_path / "i", ds)).pixels, GREY)
        ds = slice_dataset(GREY)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        ds.PixelData = GREY.astype(">u2").tobytes()
        ds["PixelData"].VR = "OW"
        path = tmp_path / "b"
        ds.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=False)
        np.testing.assert_array_equal(read_image(path).pixels, GREY)

    def test_rescale(self, tmp_path: Path) -> None:
        image = read_image(write(tmp_path / "a", RescaleSlope="0.5", RescaleIntercept="-1024"))
        np.testing.assert_array_equal(image.pixels, GREY * 0.5 - 1024)

    def test_modality_table(self, tmp_path: Path) -> None:
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [4, 10, 16], "US"
        table.LUTData = struct.pack("<4H", 7, 70, 700, 7000)
        pixels = np.array([[0, 10, 11], [12, 13, 99]], np.uint16)
        image = read_image(write(tmp_path / "a", pixels, ModalityLUTSequence=[table]))
        np.testing.assert_array_equal(image.pixels, [[7, 7, 70], [700, 7000, 7000]])

    def test_monochrome1_is_turned_round_within_its_bits(self, tmp_path: Path) -> None:
        how: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
        np.testing.assert_array_equal(read_image(write(tmp_path / "a", **how)).pixels, 4095 - GREY.astype(np.float32))
        rescaled = read_image(write(tmp_path / "b", **how, RescaleSlope="2", RescaleIntercept="10"))
        np.testing.assert_array_equal(rescaled.pixels, (4095 - GREY.astype(np.float32)) * 2 + 10)
        signed = read_image(write(tmp_path / "c", GREY.astype(np.int16), PhotometricInterpretation="MONOCHROME1"))
        np.testing.assert_array_equal(signed.pixels, -1 - GREY.astype(np.float32))

    def test_colour_becomes_luminance(self, tmp_path: Path) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        luma = rgb @ np.array([0.299, 0.587, 0.114])
        image = read_image(write(tmp_path / "rgb", rgb))
        np.testing.assert_allclose(image.pixels, luma, atol=1e-3)
        assert (image.meta["channels"], image.meta["colour"] > 0.5) == (3, True)
        assert image.meta["coloured"] == (np.ptp(rgb.astype(int), axis=2) > 12.75).mean() > 0.5
        planes = write(tmp_path / "planes", rgb, PlanarConfiguration=1, PixelData=rgb.transpose(2, 0, 1).tobytes())
        np.testing.assert_allclose(read_image(planes).pixels, luma, atol=1e-3)
        # luminance is the first channel of YBR, but for rounding
        ybr = write(tmp_path / "ybr", rgb, PhotometricInterpretation="YBR_FULL")
        in_gamut = np.full((6, 8, 3), 128, np.uint8)
        in_gamut[..., 0] = GREY[:6, :8] // 40
        ybr = write(tmp_path / "ybr", in_gamut, PhotometricInterpretation="YBR_FULL")
        np.testing.assert_allclose(read_image(ybr).pixels, in_gamut[..., 0], atol=1)

    def test_palette(self, tmp_path: Path) -> None:
        ds = slice_dataset(np.array([[0, 1, 2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
        for name, entries in (("Red", (0, 255, 0, 10)), ("Green", (0, 0, 255, 20)), ("Blue", (0, 0, 0, 30))):
            setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
            setattr(ds, f"{name}PaletteColorLookupTableData", bytes(entries))
        image = read_image(save_dicom(tmp_path / "a", ds))
        np.testing.assert_allclose(image.pixels, [[0, 76.245, 149.685, 18.15]], atol=1e-2)

    def test_floating_point(self, tmp_path: Path) -> None:
        values = (GREY / 7).astype(np.float32)
        how: dict[str, Any] = {"BitsAllocated": 32, "BitsStored": None, "HighBit": None, "PixelRepresentation": None}
        ds = slice_dataset(GREY, **how, PixelData=None, FloatPixelData=values.tobytes())
        np.testing.assert_array_equal(read_image(save_dicom(tmp_path / "a", ds)).pixels, values)
        values[2, 3] = np.nan
        ds.FloatPixelData = values.tobytes()
        assert "1 NaN or infinite" in refused(save_dicom(tmp_path / "a", ds))

    def test_spacing_falls_back_and_says_to_what(self, tmp_path: Path) -> None:
        for element, where in (
            ("PixelSpacing", "in the patient"),
            ("ImagerPixelSpacing", "on the detector"),
            ("NominalScannedPixelSpacing", "on the scanned film"),
        ):
            image = read_image(write(tmp_path / "a", **{element: ["0.25", "0.5"]}))
            assert image.spacing == (0.25, 0.5)
            assert where in image.meta["spacing_where"]
        both = read_image(write(tmp_path / "a", PixelSpacing=["1", "2"], ImagerPixelSpacing=["3", "4"]))
        assert both.spacing == (1, 2)
        for wrong in (["0", "1"], ["-1", "1"], ["nan", "1"]):
            path = raw(write(tmp_path / "a", PixelSpacing=["1.5", "1.5"]), "1.5\\1.5", wrong)
            assert read_image(path).spacing is None

    def test_places_no_head_can_have(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK[:, :, :2], AFFINE, SpacingBetweenSlices="1e300")
        raw(folder / "IM000", str(pydicom.dcmread(folder / "IM000").ImagePositionPatient[0]), ["1e99"])
        assert "do not say where they lie" in refused(folder, read_volume)
        assert "flattens" in refused(write(tmp_path / "a", SliceThickness="1e300"), read_volume)

    def test_large_whole_numbers(self, tmp_path: Path) -> None:
        pixels = GREY.astype(np.uint32) * 65536
        assert "16,777,216" in refused(write(tmp_path / "a", pixels))


def raw(path: Path, old: str, new: list[str]) -> Path:
    """Replace text of the same length in a written file."""
    text = "\\".join(new).ljust(len(old)).encode()
    data = path.read_bytes()
    assert data.count(old.encode()) == 1
    assert len(text) <= len(old)
    path.write_bytes(data.replace(old.encode(), text))
    return path


class TestWindow:
    def test_it_is_kept_and_applied_on_request(self, tmp_path: Path) -> None:
        """By hand: centre 100, width 51 is black to 74.5 and white from 124.5."""
        pixels = np.array([[0, 74, 75, 99, 100, 124, 125, 999]], np.uint16)
        image = read_image(write(tmp_path / "a", pixels, WindowCenter=["100", "40"], WindowWidth=["51", "400"]))
        assert image.meta["window"] == (100, 51)
        np.testing.assert_array_equal(image.pixels, pixels)
        shown = windowed(image)
        np.testing.assert_allclose(shown.pixels, [[0, 0, 2.55, 124.95, 130.05, 252.45, 255, 255]], atol=1e-4)
        assert shown.meta["window"] is None

    @pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
    def test_it_agrees_with_pydicom(self, tmp_path: Path, photometric: str) -> None:
        path = write(
            tmp_path / "a", WindowCenter="300", WindowWidth="401", PhotometricInterpretation=photometric,
            RescaleSlope="1.5", RescaleIntercept="-20", BitsStored=12, HighBit=11,
        )  # fmt: skip
        ds = pydicom.dcmread(path)
        peer = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(ds.pixel_array, ds), ds)
        lowest, highest = -20, 4095 * 1.5 - 20
        peer = (peer - lowest) / (highest - lowest) * 255
        peer = 255 - peer if photometric == "MONOCHROME1" else peer
        np.testing.assert_allclose(windowed(read_image(path)).pixels, peer, atol=1e-3)

    def test_without_one(self, tmp_path: Path) -> None:
        huge = {"WindowCenter": "1e300", "WindowWidth": "2"}
        for how in ({}, {"WindowCenter": "9", "WindowWidth": "0"}, {"WindowCenter": "9"}, huge):
            image = read_image(write(tmp_path / "a", **how))
            with pytest.raises(InputError, match="no window"):
                windowed(image)
        curved = read_image(write(tmp_path / "a", WindowCenter="9", WindowWidth="5", VOILUTFunction="SIGMOID"))
        assert curved.meta["window"] is None


class TestCompressed:
    """Each syntax through whatever encoder is at hand; lossless ones give every pixel back."""

    @pytest.mark.parametrize(
        ("syntax", "encoder"),
        [
            (pydicom.uid.RLELossless, "pydicom"),
            (pydicom.uid.RLELossless, "pylibjpeg"),
            (pydicom.uid.JPEGLSLossless, "pyjpegls"),
            (pydicom.uid.JPEG2000Lossless, "pylibjpeg"),
        ],
    )
    @pytest.mark.parametrize("kind", ["grey", "signed", "rgb"])
    def test_lossless(self, tmp_path: Path, syntax: UID, encoder: str, kind: str) -> None:
        pixels: NDArray[Any] = {
            "grey": GREY,
            "signed": GREY.astype(np.int16) - 1500,
            "rgb": np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8),
        }[kind]
        plain = read_image(write(tmp_path / "plain", pixels))
        ds = slice_dataset(pixels)
        if kind == "rgb" and syntax == pydicom.uid.JPEG2000Lossless:
            ds.PhotometricInterpretation = "YBR_RCT"
        ds.compress(syntax, encoding_plugin=encoder, generate_instance_uid=False)
        image = read_image(save_dicom(tmp_path / "a", ds))
        np.testing.assert_array_equal(image.pixels, plain.pixels)
        assert image.meta["syntax"] == syntax.name
        assert read_size(tmp_path / "a") == (64, 96)

    @pytest.mark.parametrize(
        ("syntax", "encoder", "how", "off"),
        [
            (pydicom.uid.JPEGLSNearLossless, "pyjpegls", {"jls_error": 2}, 2),
            (pydicom.uid.JPEG2000, "pylibjpeg", {"j2k_cr": [4]}, 40),
        ],
    )
    def test_lossy(self, tmp_path: Path, syntax: UID, encoder: str, how: dict[str, Any], off: int) -> None:
        ds = slice_dataset(GREY)
        ds.compress(syntax, encoding_plugin=encoder, generate_instance_uid=False, **how)
        image = read_image(save_dicom(tmp_path / "a", ds))
        assert 0 < np.abs(image.pixels - GREY).max() <= off

    def test_a_codestream_of_the_other_sign(self, tmp_path: Path) -> None:
        """JPEG 2000 that says unsigned where the file says signed: the file is right."""
        pixels = GREY.copy()
        pixels[7, 9] = 5000
        ds = slice_dataset(pixels, BitsStored=13, HighBit=12)
        ds.compress(pydicom.uid.JPEG2000Lossless, generate_instance_uid=False)
        ds.PixelRepresentation = 1
        wanted = GREY.astype(np.float32)
        wanted[7, 9] = 5000 - 2**13
        np.testing.assert_array_equal(read_image(save_dicom(tmp_path / "a", ds)).pixels, wanted)

    @pytest.mark.parametrize("name", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14"])
    def test_lossless_jpeg(self, tmp_path: Path, name: str) -> None:
        path = gdcm_compressed(write(tmp_path / "plain"), tmp_path / "a", name)
        np.testing.assert_array_equal(read_image(path).pixels, GREY)

    def test_baseline_jpeg(self, tmp_path: Path) -> None:
        smooth = (GREY // 12).astype(np.uint8)
        path = gdcm_compressed(write(tmp_path / "plain", smooth), tmp_path / "a", "JPEGBaselineProcess1")
        image = read_image(path)
        assert image.meta["syntax"].startswith("JPEG Baseline")
        np.testing.assert_allclose(image.pixels, smooth, atol=12)

    def test_half_a_baseline_jpeg_with_an_end_mark(self, tmp_path: Path) -> None:
        """libjpeg fills in grey what is missing, and says nothing."""
        kept = io.BytesIO()
        smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
        Pillow.fromarray(smooth).save(kept, "JPEG")
        whole = kept.getvalue()
        for name, frame in (("whole", whole), ("half", whole[: len(whole) * 2 // 3] + b"\xff\xd9")):
            ds = slice_dataset(smooth)
            ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
            ds.PixelData = encapsulate([frame])
            ds["PixelData"].is_undefined_length = True
            save_dicom(tmp_path / name, ds)
        np.testing.assert_allclose(read_image(tmp_path / "whole").pixels, smooth, atol=3)
        assert "compressed pixels that are damaged" in refused(tmp_path / "half")

    def test_deflated(self, tmp_path: Path) -> None:
        ds = slice_dataset(GREY)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        np.testing.assert_array_equal(read_image(save_dicom(tmp_path / "a", ds)).pixels, GREY)

    def test_a_compressed_multi_frame_file(self, tmp_path: Path) -> None:
        ds = enhanced(BLOCK, AFFINE, order=(3, 1, 0, 6, 5, 2, 4))
        plain = read_volume(save_dicom(tmp_path / "plain", ds))
        for syntax, table in ((pydicom.uid.RLELossless, False), (pydicom.uid.JPEGLSLossless, True)):
            ds = enhanced(BLOCK, AFFINE, order=(3, 1, 0, 6, 5, 2, 4))
            ds.compress(syntax, generate_instance_uid=False, encapsulate_ext=table)
            np.testing.assert_array_equal(read_volume(save_dicom(tmp_path / "a", ds)).voxels, plain.voxels)

    def test_a_missing_decoder_is_named_with_its_pip_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pydicom.pixels.decoders.base import get_decoder

        ds = slice_dataset(GREY)
        ds.compress(pydicom.uid.JPEG2000Lossless, generate_instance_uid=False)
        path = save_dicom(tmp_path / "a", ds)
        monkeypatch.setattr(get_decoder(pydicom.uid.JPEG2000Lossless), "_available", {})
        with pytest.raises(MissingExtraError, match=r"JPEG 2000.*pip install -e '\.\[dicom\]'"):
            read_image(path)
        assert read_size(path) == (64, 96)  # the header needs none

    def test_missing_pydicom_is_named_with_its_pip_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "a.dcm")
        monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
        for read in (read_image, read_size, read_volume):
            with pytest.raises(MissingExtraError, match=r"pydicom.*pip install -e '\.\[dicom\]'"):
                read(path)

    def test_a_syntax_that_is_not_read(self, tmp_path: Path) -> None:
        ds = slice_dataset(GREY)
        ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.MPEG4HP41
        assert "MPEG-4" in refused(save_dicom(tmp_path / "a", ds))


def gdcm_compressed(path: Path, out: Path, name: str) -> Path:
    """Compress a written file with GDCM's own encoder."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return out


class TestSeries:
    @pytest.mark.parametrize("affine", [AFFINE, tilted()], ids=["straight", "oblique"])
    def test_it_is_the_volume_that_the_same_nifti_is(self, tmp_path: Path, affine: NDArray[np.float64]) -> None:
        ours = read_volume(save_series(tmp_path / "series", BLOCK, affine))
        theirs = read_volume(save_nifti(tmp_path / "a.nii.gz", BLOCK, affine))
        np.testing.assert_array_equal(ours.voxels, theirs.voxels)
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)

    @pytest.mark.parametrize("order", ORDERS[3::8])
    def test_highdicom_places_it_alike(self, tmp_path: Path, order: tuple) -> None:
        hd = pytest.importorskip("highdicom")
        folder = save_series(tmp_path / "s", *stored(order, affine=tilted()), FrameOfReferenceUID="1.2.3.98")
        peer = hd.get_volume_from_series([pydicom.dcmread(f) for f in folder.iterdir()])
        image = nib.Nifti1Image(peer.array, np.diag([-1, -1, 1, 1]) @ peer.affine)  # LPS to RAS
        turned = nib.as_closest_canonical(image)
        read = read_volume(folder)
        np.testing.assert_array_equal(read.voxels, np.asanyarray(turned.dataobj))
        np.testing.assert_allclose(read.affine, turned.affine, atol=1e-5)

    def test_position_orders_slices_not_name_nor_number(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "series", BLOCK, AFFINE)
        by_name = [pydicom.dcmread(f).ImagePositionPatient[2] for f in sorted(folder.iterdir())]
        assert by_name != sorted(by_name)
        np.testing.assert_array_equal(read_volume(folder).voxels, BLOCK)
        files = sorted(folder.iterdir(), reverse=True)
        np.testing.assert_array_equal(read_series(files).voxels, BLOCK)

    def test_each_slice_is_rescaled_by_its_own_header(self, tmp_path: Path) -> None:
        for s, ds in enumerate(series(BLOCK, AFFINE)):
            ds.RescaleSlope, ds.RescaleIntercept = str(s + 1), str(-s)
            save_dicom(tmp_path / f"{s}", ds)
        np.testing.assert_array_equal(read_volume(tmp_path).voxels, BLOCK * (np.arange(7) + 1.0) - np.arange(7))

    def test_a_gantry_tilt_is_kept_as_shear(self, tmp_path: Path) -> None:
        sheared = AFFINE.copy()
        sheared[1, 2] = 0.9
        read = read_volume(save_series(tmp_path / "s", BLOCK, sheared))
        np.testing.assert_allclose(read.affine, sheared, atol=1e-5)
        np.testing.assert_array_equal(read.voxels, BLOCK)

    @pytest.mark.parametrize("affine", [AFFINE, tilted()], ids=["straight", "oblique"])
    def test_an_enhanced_file_in_any_frame_order(self, tmp_path: Path, affine: NDArray[np.float64]) -> None:
        path = save_dicom(tmp_path / "a.dcm", enhanced(BLOCK, affine, order=(3, 1, 0, 6, 5, 2, 4)))
        read = read_volume(path)
        np.testing.assert_array_equal(read.voxels, BLOCK * 2.0 + np.arange(7))  # its frames' own slope and intercept
        np.testing.assert_allclose(read.affine, affine, atol=1e-5)
        assert is_volume(path)
        assert "name a plane and slice" in refused(path)
        np.testing.assert_array_equal(read_image(path, SliceRef("axial", 4)).pixels, read.take("axial", 4).pixels)

    def test_a_plain_multi_frame_file_follows_the_normal_of_its_first(self, tmp_path: Path) -> None:
        ds = next(series(BLOCK, AFFINE))
        ds.NumberOfFrames, ds.SpacingBetweenSlices = 7, "3.5"
        ds.PixelData = padded(b"".join(BLOCK[:, :, s].T.tobytes() for s in range(7)))
        read = read_volume(save_dicom(tmp_path / "a", ds))
        # columns to the right and rows to the front make a normal to the top: the order of the frames
        np.testing.assert_array_equal(read.voxels, BLOCK)
        np.testing.assert_allclose(read.affine, AFFINE, atol=1e-5)
        assert "first frame alone" in read.meta["notes"][0]

    def test_frames_without_any_geometry_are_shown_as_stored(self, tmp_path: Path) -> None:
        frames = np.random.default_rng(2).integers(0, 255, (4, 5, 6), dtype=np.uint8)
        ds = slice_dataset(frames[0], NumberOfFrames=4, PixelData=frames.tobytes(), PixelSpacing=["2", "3"])
        read = read_volume(save_dicom(tmp_path / "a", ds))
        for n in range(4):
            np.testing.assert_array_equal(read.take("axial", n).pixels, frames[n])
        assert read.take("axial", 0).spacing == (2, 3)
        assert read.meta["geometry"] == "unknown"
        assert "does not say how its frames lie" in read.meta["notes"][0]

    def test_one_slice_is_a_volume_too(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK[:, :, :1], AFFINE)
        read = read_volume(folder)
        np.testing.assert_array_equal(read.voxels, BLOCK[:, :, :1])
        assert read.spacing == pytest.approx((0.75, 1.25, 1))  # the slice's thickness
        assert read_image(folder).meta["plane"] == "axial"
        np.testing.assert_array_equal(read_volume(folder / "IM000").voxels, BLOCK[:, :, :1])

    def test_other_files_in_the_folder_are_passed_over(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        (folder / "README.txt").write_text("about")
        (folder / ".hidden").write_bytes(bytes(128) + b"DICM")
        save_dicom(folder / "report", report_dataset())
        np.testing.assert_array_equal(read_volume(folder).voxels, BLOCK)
        assert "without an image" in refused(folder / "report")

    def test_several_series_are_told_apart(self, tmp_path: Path) -> None:
        save_series(tmp_path / "one", BLOCK, AFFINE)
        save_series(tmp_path / "two", BLOCK[:, :, :3] + 7, AFFINE, SeriesInstanceUID="1.2.3.99.2", SeriesNumber=2)
        mixed = tmp_path / "mixed"
        mixed.mkdir()
        for sub in ("one", "two"):
            for file in (tmp_path / sub).iterdir():
                shutil.copy(file, mixed / f"{sub}{file.name}")
        sentence = refused(mixed, read_volume)
        assert "2 DICOM series" in sentence
        assert "2 DICOM series" in refused(mixed, read_grid)
        assert "folder of its own" in sentence
        assert "1.2.3" not in sentence
        found = list_series(mixed)
        assert [(s.number, s.modality, len(s.files)) for s in found] == [(2, "MR", 3), (3, "MR", 7)]
        np.testing.assert_array_equal(read_series(found[0].files).voxels, BLOCK[:, :, :3] + 7)
        np.testing.assert_array_equal(read_series(found[1].files).voxels, BLOCK)

    def test_missing_slices(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        third = sorted(folder.iterdir(), key=lambda f: pydicom.dcmread(f).ImagePositionPatient[2])[3]
        third.unlink()
        assert "lacks slices: 7 mm after slice 3 of 6, where 3.5 mm are usual" in refused(folder, read_volume)

    @pytest.mark.parametrize(("shift", "result"), [(0.003, "silent"), (0.03, "note"), (0.2, "refused")])
    def test_uneven_spacing(self, tmp_path: Path, shift: float, result: str) -> None:
        for s, ds in enumerate(series(BLOCK, AFFINE)):
            if s == 3:
                x, y, z = ds.ImagePositionPatient
                ds.ImagePositionPatient = [x, y, float(z) + shift * 3.5]
            save_dicom(tmp_path / f"{s}", ds)
        if result == "refused":
            assert "2.8 to 4.2 mm apart" in refused(tmp_path, read_volume)
        else:
            notes = read_volume(tmp_path).meta["notes"]
            assert notes == (() if result == "silent" else ("Slices lie up to 3.0 % of a step from even spacing.",))

    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"ImagePositionPatient": "first"}, "several slices at one place"),
            ({"ImageOrientationPatient": ["1", "0", "0", "0", "0", "-1"]}, "different angles"),
            ({"ImageOrientationPatient": None}, "do not say where they lie"),
            ({"ImagePositionPatient": None}, "do not say where they lie"),
            ({"PixelSpacing": ["1.25", "0.8"]}, "different pixel spacing"),
            ({"PixelSpacing": None}, "without a pixel spacing"),
        ],
    )
    def test_slices_that_do_not_belong_together(self, tmp_path: Path, changes: dict[str, Any], word: str) -> None:
        slices = list(series(BLOCK, AFFINE))
        for name, value in changes.items():
            if value is None:
                delattr(slices[2], name)
            else:
                setattr(slices[2], name, slices[0].ImagePositionPatient if value == "first" else value)
        for s, ds in enumerate(slices):
            save_dicom(tmp_path / f"{s}", ds)
        assert word in refused(tmp_path, read_volume)
        assert word in refused(tmp_path, read_grid)

    def test_sizes_that_differ(self, tmp_path: Path) -> None:
        save_series(tmp_path, BLOCK, AFFINE)
        save_dicom(tmp_path / "x", next(series(BLOCK[:4], AFFINE)))
        assert "of 2 sizes" in refused(tmp_path, read_volume)
        assert "of 2 sizes" in refused(tmp_path, read_grid)

    def test_axes_at_odd_angles(self, tmp_path: Path) -> None:
        save_series(tmp_path, BLOCK, AFFINE, ImageOrientationPatient=["1", "0", "0", "0.5", "0.5", "0"])
        assert "right angles" in refused(tmp_path, read_volume)

    def test_a_folder_without_any(self, tmp_path: Path) -> None:
        assert "without DICOM images" in refused(tmp_path, read_volume)
        assert "folder" in refused(tmp_path, read_image)
        with pytest.raises(InputError, match="at least one file"):
            read_series([])
        assert "cannot be listed" in refused(tmp_path / "nowhere", list_series)

    def test_a_damaged_file_in_the_series_is_not_passed_over(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        victim = folder / "IM003"
        victim.write_bytes(victim.read_bytes()[:-40])
        with pytest.raises(InputError, match="IM003 is damaged"):
            read_volume(folder)

    @pytest.mark.parametrize("name", ["IM006", "IM006.dcm"])
    @pytest.mark.parametrize("length", [0, 100, 140, 250, 500])
    def test_an_end_slice_that_is_cut_is_not_passed_over(self, tmp_path: Path, name: str, length: int) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        last = (folder / "IM006").rename(folder / name)
        os.truncate(last, length)
        for read in (read_grid, read_volume):
            with pytest.raises(InputError, match=rf"{name} is (empty|damaged)"):
                read(folder)

    def test_a_slice_that_is_no_dicom_or_not_there_is_not_passed_over(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        last = (folder / "IM006").rename(tmp_path / "elsewhere")
        (folder / "IM006.dcm").write_text("no slice")
        with pytest.raises(InputError, match=r"IM006\.dcm is not a DICOM file"):
            read_volume(folder)
        (folder / "IM006.dcm").unlink()
        (folder / "IM006").symlink_to(last)
        assert read_volume(folder).voxels.shape == BLOCK.shape
        last.unlink()
        with pytest.raises(InputError, match="IM006 cannot be opened"):
            read_volume(folder)

    def test_a_locked_slice_is_not_passed_over(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        (folder / "IM006").chmod(0)
        if os.access(folder / "IM006", os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(InputError, match="IM006 cannot be opened"):
            read_volume(folder)


class TestIdentity:
    def test_nothing_of_it_comes_out(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE, WindowCenter="100", WindowWidth="50")
        save_dicom(tmp_path / "m", enhanced(BLOCK, AFFINE))
        values = [
            read_volume(folder), read_volume(tmp_path / "m"), read_image(folder / "IM000"), read_grid(folder),
            read_image(folder, SliceRef("axial", 1)), list_series(folder), dicom.read_header(folder / "IM000"),
        ]  # fmt: skip
        text = "".join(f"{v!r} {v} {dict(getattr(v, 'meta', {}))}" for v in values).lower().replace(str(tmp_path), "")
        assert [word for word in TRACES if word in text] == []
        assert "1.2.3" not in text

    def test_meta_holds_what_is_listed_and_no_more(self, tmp_path: Path) -> None:
        folder = save_series(tmp_path / "s", BLOCK, AFFINE)
        common = {
            "format",
            "bits",
            "channels",
            "colour",
            "coloured",
            "vivid",
            "modality",
            "photometric",
            "syntax",
            "window",
        }
        assert set(read_image(folder / "IM000").meta) == common | {"spacing_where"}
        assert set(read_volume(folder).meta) == common | {"axes", "geometry", "notes"}

    def test_a_name_in_the_wrong_place_does_not_come_out_either(self, tmp_path: Path) -> None:
        assert read_image(write(tmp_path / "a", Modality="MORIARTY")).meta["modality"] == "other"
        assert "colours" in refused(write(tmp_path / "b", PhotometricInterpretation="MORIARTY"))
        odd = raw(write(tmp_path / "c", RescaleSlope="1.234567", RescaleIntercept="0"), "1.234567", ["Moriarty"])
        with pytest.raises(InputError) as caught:
            read_image(odd)
        assert "Moriarty" not in str(caught.value)
        assert caught.value.__suppress_context__

    def test_identity_is_not_even_read(self, tmp_path: Path) -> None:
        ds = dicom.read_dataset(write(tmp_path / "a"), pixels=True)
        text = str(ds).lower()
        assert "rows" in text
        assert [word for word in TRACES if word in text] == []

    def test_an_odd_id_is_not_quoted_in_a_warning(self, tmp_path: Path) -> None:
        """pydicom warns of such values when it decodes them, and here a warning is an error."""
        path = write(tmp_path / "a", PatientID="MRN-4711", SeriesInstanceUID="1.2.3.77", StudyInstanceUID="1.2.3.78")
        for old, new in (("MRN-4711", "MRN\x014711"), ("1.2.3.77", "Moriarty"), ("1.2.3.78", "Moriarty")):
            raw(path, old, [new])
        np.testing.assert_array_equal(read_image(path).pixels, GREY)
        assert len({patient_key(path, SALT), study_key(path, SALT)}) == 2

    def test_keys_group_without_telling(self, tmp_path: Path) -> None:
        import hashlib
        import hmac

        folder = save_series(tmp_path / "s", BLOCK[:, :, :2], AFFINE)
        key = patient_key(folder, SALT)
        assert key == patient_key(folder / "IM000", SALT)
        assert key == hmac.new(SALT, b"patient\0MRN-4711\0", hashlib.sha256).hexdigest()[:16]
        assert key != patient_key(folder, SALT + b"!")
        assert study_key(folder, SALT) == hmac.new(SALT, b"study\x001.2.3.99", hashlib.sha256).hexdigest()[:16]
        spaced = write(tmp_path / "spaced", PatientID=" MRN-4711 ")
        assert patient_key(spaced, SALT) == key
        assert patient_key(write(tmp_path / "issued", IssuerOfPatientID="here"), SALT) != key
        assert patient_key(write(tmp_path / "other", PatientID="MRN-4712"), SALT) != key

    def test_keys_that_cannot_be_made(self, tmp_path: Path) -> None:
        path = write(tmp_path / "s" / "a")
        with pytest.raises(InputError, match="can be guessed"):
            patient_key(path, b"short")
        assert "states no patient id" in refused(write(tmp_path / "b", PatientID=""), lambda p: patient_key(p, SALT))
        write(tmp_path / "s" / "c", PatientID="MRN-4712")
        assert "2 patient ids" in refused(tmp_path / "s", lambda p: patient_key(p, SALT))
        (tmp_path / "empty").mkdir()
        assert "0 patient ids" in refused(tmp_path / "empty", lambda p: patient_key(p, SALT))


class TestDamage:
    def test_what_is_not_dicom(self, tmp_path: Path) -> None:
        (tmp_path / "a.dcm").write_text("no image\n" * 40)
        assert "lacks the mark DICM" in refused(tmp_path / "a.dcm")
        (tmp_path / "b.dcm").write_bytes(b"")
        assert "0 bytes" in refused(tmp_path / "b.dcm")
        (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICM")
        assert any(word in refused(tmp_path / "c.dcm") for word in ("damaged", "without an image"))

    @pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.97])
    @pytest.mark.parametrize("syntax", [None, pydicom.uid.RLELossless, pydicom.uid.JPEG2000Lossless])
    def test_a_file_cut_anywhere(self, tmp_path: Path, syntax: UID | None, share: float) -> None:
        ds = slice_dataset(GREY)
        if syntax is not None:
            ds.compress(syntax, generate_instance_uid=False)
        data = save_dicom(tmp_path / "a", ds).read_bytes()
        (tmp_path / "a.dcm").write_bytes(data[: int(len(data) * share)])
        refused(tmp_path / "a.dcm")

    @pytest.mark.parametrize(
        ("elements", "word"),
        [
            ({"Rows": 0}, "0 pixels"),
            ({"Rows": 65535, "Columns": 65535}, "more than the 64 million"),
            ({"NumberOfFrames": 2_000_000}, "more than the 268 million"),
            ({"NumberOfFrames": -3}, "-3 frames"),
            ({"Rows": 65}, "damaged"),
            ({"SamplesPerPixel": 7}, "damaged"),
            ({"BitsAllocated": 24}, "damaged"),
            ({"PixelData": None}, "damaged"),
            ({"PhotometricInterpretation": None}, "damaged"),
        ],
    )
    def test_headers_that_lie(self, tmp_path: Path, elements: dict[str, Any], word: str) -> None:
        assert word in refused(write(tmp_path / "a.dcm", **elements))

    @pytest.mark.parametrize(
        "syntax", [pydicom.uid.JPEG2000Lossless, pydicom.uid.JPEGLSLossless], ids=["JPEG 2000", "JPEG-LS"]
    )
    def test_a_codestream_that_claims_more_is_not_decoded(
        self, tmp_path: Path, syntax: UID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ds = slice_dataset(GREY)
        ds.compress(syntax, generate_instance_uid=False)
        data = ds.PixelData
        sizes = struct.pack(">II", 96, 64) if "2000" in syntax.name else struct.pack(">HH", 64, 96)
        assert data.count(sizes) >= 1
        ds.PixelData = data.replace(sizes, struct.pack(">II" if "2000" in syntax.name else ">HH", 60000, 60000), 1)
        monkeypatch.setattr("pydicom.pixels.utils.pixel_array", forbidden)
        assert "another size than it says" in refused(save_dicom(tmp_path / "a", ds))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("ffc3000b10", "ffc3000b28"),  # 40 bits a sample: GDCM writes beyond its buffer
            ("ffc3000b10", "ffc3000b08"),
            ("ffc3000b10", "ffc0000b10"),
            ("0040006001011100ffc4", "00400060010111005555"),  # no marker where one must be: GDCM aborts
            ("ffc4", "ffd1"),
            ("ffda0008010", "ffda0008020"),
            ("ffda0008010100010000", "ffda0008010100080000"),  # no such predictor
            ("ffda0008010100010000", "ffda0008010110010000"),  # no such table
            ("ffd9", "ffd8"),
        ],
    )  # fmt: skip
    def test_lossless_jpeg_is_sound_before_gdcm_sees_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
    ) -> None:
        path = gdcm_compressed(write(tmp_path / "plain"), tmp_path / "a", "JPEGLosslessProcess14_1")
        text = path.read_bytes().hex()
        assert text.count(old) >= 1, text
        path.write_bytes(bytes.fromhex(new.join(text.rsplit(old, 1))))
        monkeypatch.setattr("pydicom.pixels.utils.pixel_array", forbidden)
        assert "compressed pixels that are damaged" in refused(path)

    def test_a_deflated_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ds = slice_dataset(GREY)
        ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data = save_dicom(tmp_path / "a", ds).read_bytes()
        start = 132 + 12 + int(pydicom.dcmread(tmp_path / "a").file_meta.FileMetaInformationGroupLength)
        body = zlib.decompress(data[start:], -zlib.MAX_WBITS) + bytes(1 << 22)
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        (tmp_path / "b").write_bytes(data[:start] + packer.compress(body) + packer.flush())
        monkeypatch.setattr(dicom, "_MOST_INFLATED", 1 << 21)
        monkeypatch.setattr(pydicom, "dcmread", forbidden)
        assert "unpacks to more than" in refused(tmp_path / "b")

    def test_enhanced_files_that_contradict_themselves(self, tmp_path: Path) -> None:
        ds = enhanced(BLOCK, AFFINE)
        ds.PerFrameFunctionalGroupsSequence.pop()
        assert "7 frames but describes 6" in refused(save_dicom(tmp_path / "a", ds))


def forbidden(*_: object, **__: object) -> None:
    raise AssertionError("must not be called")


@pytest.fixture(scope="module")
def real() -> Path:
    folder = os.environ.get("GYRUS_DATA")
    if folder is None:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return Path(folder) / "dicom" / "structural_t1"


def test_the_real_series_lies_where_its_headers_say(real: Path) -> None:
    """Every slice's four corner pixels: by DICOM's own equation (PS3.3 C.7.6.2.1.1) and by the affine read."""
    read: Volume = read_volume(real)
    assert read.voxels.shape == (274, 384, 48)
    assert read.meta["axes"] == "LPS"
    back = np.linalg.inv(read.affine)
    for file in sorted(real.iterdir()):
        ds = pydicom.dcmread(file)
        across, down = np.array(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)
        between_rows, between_columns = map(float, ds.PixelSpacing)
        for row, column in ((0, 0), (0, 273), (383, 0), (383, 273), (200, 100)):
            lps = np.array(ds.ImagePositionPatient, dtype=float) + across * between_columns * column
            lps = lps + down * between_rows * row
            i, j, k = (back @ [-lps[0], -lps[1], lps[2], 1])[:3]
            assert np.abs(np.array([i, j, k]) - np.round([i, j, k])).max() < 1e-3
            assert read.voxels[round(i), round(j), round(k)] == ds.pixel_array[row, column]
        np.testing.assert_array_equal(read.take("axial", round(k)).pixels, read_image(file).pixels)  # shown alike


def test_the_real_series_keeps_its_patient(real: Path) -> None:
    ds = pydicom.dcmread(next(iter(real.iterdir())))
    names = ("PatientName", "PatientBirthDate", "StudyDescription", "StudyDate")
    words = [str(ds[name].value).lower() for name in names]
    image, volume = read_image(next(iter(real.iterdir()))), read_volume(real)
    text = f"{image!r} {dict(image.meta)} {volume!r} {dict(volume.meta)} {list_series(real)!r}".lower()
    text = text.replace(str(real).lower(), "")
    assert [word for word in words if word in text] == []
    assert len(patient_key(real, SALT)) == 16
