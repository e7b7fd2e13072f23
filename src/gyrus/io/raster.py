"""PNG, JPEG, TIFF and BMP into :class:`Image`: decoded whole or refused, never patched up."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from gyrus.errors import InputError
from gyrus.io import png
from gyrus.io.checks import MAX_PIXELS, brief, check_file, check_size
from gyrus.io.codestreams import unended
from gyrus.io.image import VISIBLE, VIVID, Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""The file name endings of the formats read here, lower-case; matched without regard to case."""

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_LUMA = (np.float32(0.299), np.float32(0.587), np.float32(0.114))  # ITU-R BT.601
_GREY_MODES = ("L", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_ORIENTATION, _BITS, _SAMPLES, _PHOTOMETRIC, _DESCRIPTION, _X_RES, _Y_RES = 274, 258, 277, 262, 270, 282, 283
_FORMAT, _UNSIGNED, _SIGNED, _DEPTH = 339, 1, 2, 32997  # the last is of SGI: slices behind one directory
_WHITE_IS_ZERO = 0
_CLASSIC_TIFF = 42
_TIFF_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_IMAGEJ_UNITS = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3, "\\u00B5m": 1e-3}
# Files people have that are not read here: (offset, first bytes, what it is, what to do).
_OTHERS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"GIF8", "a GIF image", "convert it to PNG"),
    (8, b"WEBP", "a WebP image", "convert it to PNG"),
    (4, b"ftyp", "an AVIF or HEIC image", "convert it to PNG"),
    (4, b"jP  ", "a JPEG 2000 image", "convert it to PNG"),
    (0, b"%PDF", "a PDF document", "export its picture as PNG"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"\x1f\x8b", "a gzip file", "if it holds a NIfTI volume, end its name in .nii.gz"),
    (128, b"DICM", "a DICOM file", "end its name in .dcm"),
    (0, b"\x89HDF", "an HDF5 file", "give it the suffix .mat if MATLAB wrote it"),
    (0, b"MATLAB", "a MATLAB file", "give it the suffix .mat"),
)


@dataclass(frozen=True)
class _Header:
    """What the header says: ``height`` and ``width`` as displayed, that is after ``orientation`` is applied."""

    format: str
    height: int
    width: int
    bits: int
    channels: int
    orientation: int
    white_is_zero: bool
    spacing: tuple[float, float] | None


class Tint(NamedTuple):
    """How far colour pixels are from grey.

    Attributes:
        most: the largest difference between a pixel's channels, relative to full scale.
        share: of the pixels whose channels differ by more than ``VISIBLE``.
        vivid: of those whose channels differ by more than ``VIVID``.
    """

    most: float
    share: float
    vivid: float


NO_TINT = Tint(0.0, 0.0, 0.0)


def read_raster(path: Path) -> Image:
    """Read a PNG, JPEG, TIFF or BMP file, by its content rather than by its name.

    Grey or colour (reduced to luminance), with palette, alpha (ignored) or EXIF orientation (applied); 8 or 16 bits
    per sample, also 16-bit colour, and float32 TIFF. Samples of fewer than 8 bits are spread over 0..255; a TIFF
    that stores white as zero is turned round. The spacing is None except for a TIFF that ImageJ calibrated: the dpi of
    a PNG or JPEG is a printing size, not a distance in the patient.

    Returns:
        Image: (H, W) float32 pixels in file units; ``meta`` has format, bits, channels (as stored), colour,
        coloured and orientation (the EXIF value that has been undone, 1 for none).

    Raises:
        InputError: missing, empty, damaged, truncated, too large (see ``MAX_PIXELS``), several pages, NaN or infinite
            pixels, or another format.
    """
    path = Path(path)
    with _opened(path) as stream:
        picture = _open(stream)
        header = _header(path, picture, stream)
        samples = png.decode(path, stream) if header.format == "PNG" else _decoded(path, picture, stream)
        if header.format != "TIFF":  # Pillow has turned a TIFF already, and nothing else
            samples = _orient(samples, header.orientation)
        if header.format == "TIFF" and header.bits == 16 and samples.ndim == 3:
            samples = _wide_colour(path, stream, header, samples)
        if header.white_is_zero and samples.dtype.kind == "u" and samples.itemsize == 2:
            samples = np.asarray(2**header.bits - 1 - samples)  # Pillow turns 1 to 8 bits round, but not these
    pixels, tint = _luminance(samples)
    _check_pixels(path, pixels, samples)
    meta = {
        "format": header.format,
        "bits": header.bits,
        "channels": header.channels,
        "colour": tint.most,
        "coloured": tint.share,
        "vivid": tint.vivid,
        "orientation": header.orientation,
    }
    return Image(pixels=pixels, spacing=header.spacing, meta=meta)


def read_size(path: Path) -> tuple[int, int]:
    """Return (H, W) in pixels as displayed (EXIF orientation applied), from the header alone.

    Raises:
        InputError: as :func:`read_raster`, as far as the header shows it.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = _header(path, _open(stream), stream)
    return header.height, header.width


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` so that whatever its decoders raise becomes one :class:`InputError`; touches no global state."""
    check_file(path)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            f"{path} is not read while PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which fills missing pixels with "
            "grey: set it to False"
        )
    try:
        with path.open("rb") as stream:
            yield stream
    except InputError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise InputError(
            f"{path} claims more than the {MAX_PIXELS // 10**6} million pixels gyrus decodes: "
            "resize it first, or remove it if it is not a slice"
        ) from error
    except UnidentifiedImageError:
        raise InputError(_not_an_image(path)) from None
    except Exception as error:  # decoders answer hostile bytes with nearly every kind of exception there is
        raise InputError(f"{path} is damaged or cut short ({brief(error)}): restore it from its source") from error


def _open(stream: BinaryIO) -> ImageFile.ImageFile:
    stream.seek(0)
    return Pillow.open(stream, formats=_FORMATS)


def _unfilled(picture: ImageFile.ImageFile, stream: BinaryIO) -> ImageFile.ImageFile:
    """Return a JPEG such that decoding it fails where pixels are missing; see :func:`gyrus.io.codestreams.unended`."""
    stream.seek(0)
    strict = unended(stream.read())
    return picture if strict is None else _open(BytesIO(strict))


def _not_an_image(path: Path) -> str:
    """Say what the file is instead, from its first bytes."""
    with path.open("rb") as stream:
        head = stream.read(512)
    for offset, magic, what, remedy in _OTHERS:
        if head[offset : offset + len(magic)] == magic:
            return f"{path} is {what}, which gyrus does not read as an image: {remedy}"
    if head.startswith((b"II*\0", b"MM\0*")):
        return (
            f"{path} is a TIFF with a damaged header or samples gyrus does not read: "
            "save it as 8-bit, 16-bit or 32-bit float grey"
        )
    if head.startswith((b"\x89PNG", b"\xff\xd8", b"BM")):
        return f"{path} is damaged: its header cannot be read; restore it from its source"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return f"{path} is a text file, not an image, whatever its name says: remove it or restore the image"
    return f"{path} is not an image gyrus reads (PNG, JPEG, TIFF, BMP): convert it to PNG"


def _header(path: Path, picture: ImageFile.ImageFile, stream: BinaryIO) -> _Header:
    """Read and check everything the header tells; nothing is decoded."""
    width, height = picture.size
    check_size(path, height, width)
    # A JPEG with further pictures inside (thumbnails, gain maps) opens as "MPO"; its first picture is the image.
    file_format = "JPEG" if picture.format == "MPO" else str(picture.format)
    tags: Mapping[int, Any] = picture.tag_v2 if isinstance(picture, TiffImageFile) else {}
    if file_format == "TIFF":
        _check_tiff_directory(path, stream)
        _check_tiff_samples(path, tags, width * height)
    pages = 1 if file_format == "JPEG" else int(getattr(picture, "n_frames", 1))
    if pages != 1:
        raise InputError(f"{path} holds {pages} pages: save the one slice that is meant as its own file")
    channels = 3 if picture.mode in ("P", "PA") else len(picture.getbands())
    bits = 1 if picture.mode == "1" else 8
    if file_format == "PNG":
        depth, colour_type, orientation = png.read_facts(path, stream)
        bits, channels = (8 if colour_type == png.PALETTE else depth), png.CHANNELS.get(colour_type, channels)
    else:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    if file_format == "TIFF" and picture.mode not in ("P", "PA"):
        bits, channels = max(tags.get(_BITS, (1,))), int(tags.get(_SAMPLES, 1))
    if orientation not in range(1, 9):
        orientation = 1
    if orientation >= 5 and file_format != "TIFF":  # Pillow turns the size of a TIFF itself
        height, width = width, height
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if white_is_zero and picture.mode in ("F", "I"):
        raise InputError(f"{path} stores white as zero in a form without a stated black: save it with black as zero")
    if bits == 16 and picture.mode not in (*_GREY_MODES, "RGB", "RGBA"):
        raise InputError(f"{path} is 16-bit {picture.mode}: save it as grey or RGB")
    spacing = _imagej_spacing(tags)
    if spacing is not None and orientation >= 5:
        spacing = spacing[::-1]
    return _Header(file_format, height, width, bits, channels, orientation, white_is_zero, spacing)


def _check_tiff_directory(path: Path, stream: BinaryIO) -> None:
    """Refuse a classic TIFF whose directory, or a value it points to, reaches beyond the end of the file.

    Pillow only warns of it and goes on without the tags that are missing, which may be those that say how samples are
    to be read.
    """
    stream.seek(0)
    data = stream.read()
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2)[0] != _CLASSIC_TIFF:
        return
    start = struct.unpack_from(order + "I", data, 4)[0]
    entries = struct.unpack_from(order + "H", data, start)[0]
    end = start + 2 + 12 * entries + 4
    for i in range(entries):
        _, kind, count, offset = struct.unpack_from(order + "HHII", data, start + 2 + 12 * i)
        size = _TIFF_TYPE_BYTES.get(kind, 1) * count
        end = max(end, offset + size if size > 4 else 0)
    if end > len(data):
        raise InputError(f"{path} is cut short (its directory ends beyond the file): restore it from its source")


def _check_tiff_samples(path: Path, tags: Mapping[int, Any], pixels: int) -> None:
    """Refuse samples that Pillow takes for others without a word, and stacks of which it shows the first slice.

    Args:
        path: the file.
        tags: of its only directory.
        pixels: that Pillow shows.

    Raises:
        InputError: as said.
    """
    bits, kind = max(tags.get(_BITS, (1,))), max(tags.get(_FORMAT, (_UNSIGNED,)))
    if (bits, kind) in ((8, _SIGNED), (32, _UNSIGNED)):
        raise InputError(
            f"{path} holds {'signed 8-bit' if bits == 8 else 'unsigned 32-bit'} samples, which are misread as others: "
            "save it as unsigned 8-bit, 16-bit or 32-bit float grey"
        )
    words = str(tags.get(_DESCRIPTION, ""))
    imagej = re.search(r"^images=(\d+)$", words, re.MULTILINE)
    tifffile = re.match(r'\{"shape": \[([\d, ]+)\]', words)
    shape = [int(n) for n in tifffile.group(1).split(",")] if tifffile else []
    held = math.prod(shape) // (pixels * int(tags.get(_SAMPLES, 1)))
    slices = max(int(tags.get(_DEPTH, 1)), int(imagej.group(1)) if imagej else 1, held if shape else 1)
    if slices > 1:
        raise InputError(f"{path} holds {slices} slices: save the one that is meant as its own file")


def _imagej_spacing(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Return the (row, column) spacing in mm of a TIFF that ImageJ calibrated, else None.

    ImageJ writes ``unit=`` into the description only when the user has set a scale; XResolution and YResolution are
    then pixels per that unit. Any other TIFF's resolution is a printing size.
    """
    lines = str(tags.get(_DESCRIPTION, "")).splitlines()
    if not lines or not lines[0].startswith("ImageJ="):
        return None
    scale = next((_IMAGEJ_UNITS.get(line[5:].strip()) for line in lines if line.startswith("unit=")), None)
    across, down = float(tags.get(_X_RES, 0)), float(tags.get(_Y_RES, 0))
    if scale is None or not (0 < across < np.inf and 0 < down < np.inf):
        return None
    return scale / down, scale / across


def _decoded(path: Path, picture: ImageFile.ImageFile, stream: BinaryIO) -> NDArray[Any]:
    """Return the samples that Pillow decodes, (H, W) grey or (H, W, 3) RGB, without palette or alpha."""
    if picture.format == "JPEG":
        picture = _unfilled(picture, stream)
    picture.load()
    mode = picture.mode
    if mode == "1":
        return np.asarray(picture.convert("L"))
    if mode in _GREY_MODES:
        return np.asarray(picture)
    if mode in ("LA", "La"):
        return np.asarray(picture.convert("LA"))[..., 0]
    if mode in ("P", "PA"):  # by way of RGBA, because a palette may carry transparency
        return np.asarray(picture.convert("RGBA"))[..., :3]
    if mode in ("RGBA", "RGBX"):
        return np.asarray(picture)[..., :3]
    if mode in ("RGB", "CMYK", "YCbCr"):
        return np.asarray(picture.convert("RGB"))
    raise InputError(f"{path} holds colours of the kind {mode}: save it as grey or RGB")


def _wide_colour(path: Path, stream: BinaryIO, header: _Header, narrow: NDArray[Any]) -> NDArray[np.uint16]:
    """Decode a TIFF of 16-bit colour with OpenCV, as Pillow keeps only the upper 8 bits of it.

    OpenCV complains of nothing, and whether it turns an image itself differs between versions, so its reading is held
    to ``narrow``, (H, W, 3) uint8, which is Pillow's as displayed.
    """
    import cv2

    stream.seek(0)
    decoded = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is not None and decoded.ndim == 3 and decoded.shape[2] in (3, 4) and decoded.dtype == np.uint16:
        rgb = decoded[..., 2::-1]  # OpenCV's order is B, G, R, A
        for wide in (rgb, _orient(rgb, header.orientation)):
            if wide.shape == narrow.shape and np.abs(wide / 257 - narrow).max() <= 1:
                return np.asarray(wide, dtype=np.uint16)
    raise InputError(f"{path} is 16-bit colour that two decoders read differently: save it as 16-bit grey")


def _orient(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored samples, (H, W, ...), the way EXIF tag 274 says they are to be displayed."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _luminance(samples: NDArray[Any]) -> tuple[NDArray[np.float32], Tint]:
    """Return the grey pixels of (H, W) or (H, W, 3) samples, and how far from grey they were."""
    if samples.ndim == 2:
        return np.ascontiguousarray(samples, dtype=np.float32), NO_TINT
    red, green, blue = samples[..., 0], samples[..., 1], samples[..., 2]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    most = int(spread.max())
    if most == 0:  # exactly the stored value, which the weighted sum only nearly is
        return np.ascontiguousarray(red, dtype=np.float32), NO_TINT
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    full = float(np.iinfo(samples.dtype).max)
    visible, vivid = (np.count_nonzero(spread > least * full) / spread.size for least in (VISIBLE, VIVID))
    return np.ascontiguousarray(grey, dtype=np.float32), Tint(most / full, visible, vivid)


def _check_pixels(path: Path, pixels: NDArray[np.float32], samples: NDArray[Any]) -> None:
    """Refuse pixels that are not finite, and whole numbers that float32 cannot hold."""
    if samples.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise InputError(f"{path} holds {count} NaN or infinite pixels: replace them before reading")
    if samples.dtype == np.int32 and np.abs(samples.astype(np.int64)).max() > 2**24:
        raise InputError(f"{path} holds 32-bit values beyond 16,777,216, which lose digits: save it as 16-bit")
