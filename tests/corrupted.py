"""Small valid files of every format that is read, and ways to damage them; what the readers must survive."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import h5py
import nibabel as nib
import numpy as np
import pydicom
from handmade_volumes import AFFINE, BLOCK, enhanced, series, slice_dataset, tilted
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset

from gyrus.errors import InputError
from gyrus.io import (
    SliceRef,
    is_volume,
    list_series,
    patient_key,
    read_grid,
    read_image,
    read_size,
    read_volume,
    study_key,
    windowed,
)

NOISE = np.random.default_rng(5).integers(0, 256, (12, 10), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
EDGES = (0, 1, 2, 3, 7, 8, 16, 255, 256, 348, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers that header fields are replaced by: ends of their ranges and values that mean something somewhere."""

Edit = tuple[str, float, float, int]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "drop", "insert", "copy", "number", "number", "flip")),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)
"""What is done to a file, one after the other; see :func:`damaged`."""


def damaged(data: bytes, edits: list[Edit]) -> bytes:
    """Apply edits (kind, where, how far, number); a third of the places are drawn from the first 600 bytes."""
    out = bytearray(data)
    for kind, where, extent, number in edits:
        reach = min(len(out), 600) if number % 3 == 0 else len(out)
        at, span = int(where * reach), 1 + int(extent**3 * 64)
        if kind == "flip" and at < len(out):
            out[at] ^= 1 << number % 8
        elif kind == "cut":
            del out[at:]
        elif kind == "drop":
            del out[at : at + span]
        elif kind == "insert":
            out[at:at] = number.to_bytes(4, "little") * (1 + span // 4)
        elif kind == "copy":
            source = int(extent * len(out))
            out[at : at + 16] = out[source : source + 16]
        elif kind == "number":
            width, order = (2, 4)[number % 2], ("little", "big")[number // 2 % 2]
            value = EDGES[number // 4 % len(EDGES)] & (256**width - 1)
            out[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
    return bytes(out)


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        seeds: valid files, by their name as it is written.
        read: everything that may be asked of such a file, given its path.
        pack: applied to the damaged bytes before they are written.
    """

    seeds: Callable[[], Mapping[str, bytes]]
    read: Callable[[Path], None]
    pack: Callable[[bytes], bytes] = bytes
    companions: Callable[[], Mapping[str, bytes]] = dict


def check(target: Target, name: str, edits: list[Edit], folder: Path) -> None:
    """Write a damaged file into an empty folder and read it: a sound value or an InputError, nothing else."""
    for other, data in target.companions().items():
        (folder / other).write_bytes(data)
    path = folder / name
    path.write_bytes(target.pack(damaged(target.seeds()[name], edits)))
    target.read(path)


def _either(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None where it refuses in one sentence."""
    try:
        return call()
    except InputError as error:
        sentence = str(error)
    assert sentence
    assert "\n" not in sentence
    return None


def _read_image(path: Path) -> None:
    image, size = _either(lambda: read_image(path)), _either(lambda: read_size(path))
    if image is not None:
        assert image.pixels.dtype == np.float32
        assert np.isfinite(image.pixels).all()
        assert image.shape == size
        _either(lambda: windowed(image))


def _read_volume(path: Path) -> None:
    grid = _either(lambda: read_grid(path))
    volume = _either(lambda: read_volume(path))
    is_volume(path)
    _either(lambda: read_volume(path, 0))
    if volume is not None:
        assert volume.voxels.dtype == np.float32
        assert np.isfinite(volume.voxels).all()
        assert np.isfinite(volume.affine).all()
        assert np.linalg.det(volume.affine[:3, :3]) != 0
        assert grid.shape == volume.voxels.shape
        _either(lambda: read_image(path, SliceRef("axial", 0)))
    _read_image(path)


def _read_dicom(path: Path) -> None:
    _read_volume(path)
    _either(lambda: patient_key(path, b"sixteen bytes of salt"))
    _either(lambda: study_key(path, b"sixteen bytes of salt"))


def _read_series(path: Path) -> None:
    _either(lambda: list_series(path.parent))
    _read_dicom(path.parent)


def _encoded(array: NDArray[Any], **how: Any) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(array).save(stream, **how)
    return stream.getvalue()


def _png() -> dict[str, bytes]:
    rgb = np.stack([NOISE, NOISE[::-1], NOISE[:, ::-1]], axis=-1)
    exif = Pillow.Exif()
    exif[274] = 6
    return {
        "grey.png": _encoded(NOISE, format="PNG"),
        "turned.png": _encoded(rgb, format="PNG", exif=exif),
        "palette.png": _encoded(NOISE // 64, format="PNG", bits=2),
        "wide.png": cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes(),
    }


def _jpeg() -> dict[str, bytes]:
    rgb = np.stack([SMOOTH, SMOOTH.T, SMOOTH[::-1]], axis=-1)
    return {
        "grey.jpg": _encoded(SMOOTH, format="JPEG", quality=90),
        "colour.jpg": _encoded(rgb, format="JPEG", quality=75, subsampling=2),
        "progressive.jpg": _encoded(rgb, format="JPEG", progressive=True),
    }


def _tiff() -> dict[str, bytes]:
    rgb = np.stack([NOISE, NOISE[::-1], NOISE[:, ::-1]], axis=-1)
    return {
        "grey.tif": _encoded(NOISE, format="TIFF"),
        "lzw.tif": _encoded(rgb, format="TIFF", compression="tiff_lzw"),
        "deflate.tif": _encoded(NOISE, format="TIFF", compression="tiff_adobe_deflate"),
        "float.tif": _encoded(NOISE.astype(np.float32), format="TIFF"),
        "wide.tif": cv2.imencode(".tiff", rgb.astype(np.uint16) * 257)[1].tobytes(),
    }


def _bmp() -> dict[str, bytes]:
    rgb = np.stack([NOISE, NOISE[::-1], NOISE[:, ::-1]], axis=-1)
    return {"grey.bmp": _encoded(NOISE, format="BMP"), "colour.bmp": _encoded(rgb, format="BMP")}


def _mat() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mat"
        with h5py.File(path, "w") as file:
            file["cjdata/image"] = NOISE.astype(np.int16)
            file["cjdata/label"] = np.array([[2.0]])
            file["cjdata/tumorMask"] = (NOISE > 200).astype(np.uint8)
        return {"a.mat": path.read_bytes()}


def _nifti() -> dict[str, bytes]:
    two = nib.Nifti2Image(BLOCK, tilted())
    scaled = nib.Nifti1Image(BLOCK.astype(np.float32), None)
    scaled.set_qform(tilted(), code=1)
    scaled.set_data_dtype(np.int16)
    return {
        "one.nii": nib.Nifti1Image(BLOCK, AFFINE).to_bytes(),
        "two.nii": two.to_bytes(),
        "scaled.nii": scaled.to_bytes(),
        "four.nii": nib.Nifti1Image(np.stack([BLOCK, BLOCK], -1).astype(np.float32), AFFINE).to_bytes(),
    }


def _packed_nifti() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in _nifti().items()}


def _written(ds: Dataset) -> bytes:
    stream = io.BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _dicom() -> dict[str, bytes]:
    small = BLOCK[:, :, 0].T.copy()
    plain = next(series(BLOCK, AFFINE, RescaleSlope="2", RescaleIntercept="1", WindowCenter="9", WindowWidth="8"))
    out = {
        "plain.dcm": _written(plain),
        "white.dcm": _written(slice_dataset(small, PhotometricInterpretation="MONOCHROME1")),
        "colour.dcm": _written(slice_dataset(np.stack([NOISE] * 3, -1))),
        "enhanced.dcm": _written(enhanced(BLOCK, AFFINE)),
    }
    for name, syntax in (("implicit", pydicom.uid.ImplicitVRLittleEndian), ("deflated", "1.2.840.10008.1.2.1.99")):
        ds = slice_dataset(small)
        ds.file_meta.TransferSyntaxUID = syntax
        out[f"{name}.dcm"] = _written(ds)
    return out


def _compressed_dicom() -> dict[str, bytes]:
    out = {}
    for name, syntax in (
        ("rle", pydicom.uid.RLELossless),
        ("jls", pydicom.uid.JPEGLSLossless),
        ("j2k", pydicom.uid.JPEG2000Lossless),
    ):
        ds = slice_dataset(SMOOTH)
        ds.compress(syntax, generate_instance_uid=False)
        out[f"{name}.dcm"] = _written(ds)
    ds = slice_dataset(SMOOTH)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    ds.PixelData = pydicom.encaps.encapsulate([_encoded(SMOOTH, format="JPEG", quality=90)])
    out["jpeg.dcm"] = _written(ds)
    ds = slice_dataset(SMOOTH)
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    ds.PixelData = pydicom.encaps.encapsulate([_lossless_jpeg()])
    out["lossless.dcm"] = _written(ds)
    return out


def _lossless_jpeg() -> bytes:
    """Return SMOOTH as lossless JPEG, by GDCM."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "a"
        source.write_bytes(_written(slice_dataset(SMOOTH)))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        return bytes(
            change.GetOutput().GetDataElement().GetSequenceOfFragments().GetFragment(0).GetByteValue().GetBuffer()
            .encode("utf-8", "surrogateescape")
        )  # fmt: skip


def _series() -> dict[str, bytes]:
    return {f"{s}.dcm": _written(ds) for s, ds in enumerate(series(BLOCK[:, :, :4], tilted()))}


TARGETS: dict[str, Target] = {
    "png": Target(cache(_png), _read_image),
    "jpeg": Target(cache(_jpeg), _read_image),
    "tiff": Target(cache(_tiff), _read_image),
    "bmp": Target(cache(_bmp), _read_image),
    "mat": Target(cache(_mat), _read_image),
    "nifti": Target(cache(_nifti), _read_volume),
    "nifti-gz": Target(cache(_packed_nifti), _read_volume),
    "nifti-in-gz": Target(cache(_nifti), _read_volume, lambda data: gzip.compress(data, 1)),
    "dicom": Target(cache(_dicom), _read_dicom),
    "dicom-compressed": Target(cache(_compressed_dicom), _read_dicom),
    "dicom-series": Target(cache(_series), _read_series, companions=cache(_series)),
}
"""Every reader, by the name it is asked for with."""
