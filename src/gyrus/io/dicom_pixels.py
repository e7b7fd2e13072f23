"""The frames of one DICOM file as grey pixels, in the file's units."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError, MissingExtraError
from gyrus.io.dicom import PALETTE, Frame, Header, explained, mirror_sum, read_dataset, transfer_syntax, white_is_low
from gyrus.io.image import Image
from gyrus.io.raster import _luminance

if TYPE_CHECKING:
    from pydicom import Dataset

_J2K_START = b"\xff\x4f\xff\x51"
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # the markers that a frame's size follows
_JPEG_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"


def read_displayed(header: Header) -> Image:
    """Read the pixels of a DICOM file of one frame as it is displayed, in the file's units.

    The modality's rescaling or table is applied; MONOCHROME1, which stores white as low, is turned round within the
    range its bits allow; colour becomes luminance. The window, if any, is kept in ``meta`` and not applied: see
    :func:`windowed`.

    Returns:
        Image: with ``meta`` also holding ``modality``, ``photometric``, ``syntax``, ``window`` as (centre, width) or
        None, and ``spacing_where``: "in the patient" for PixelSpacing, else what the fallback measures.

    Raises:
        InputError, MissingExtraError: as :func:`read_frames`.
    """
    (frame,) = header.frames
    ((pixels, colour),) = read_frames(header)
    meta = {**header.meta, "colour": colour, "window": frame.window, "spacing_where": frame.spacing_where}
    return Image(pixels, frame.spacing, meta)


def windowed(image: Image) -> Image:
    """Apply the window of a DICOM image: float32 0..255, black below it and white above.

    Source: DICOM PS3.3 C.11.2.1.2.1, the LINEAR function.

    Raises:
        InputError: the image has no window.
    """
    window = image.meta.get("window")
    if window is None:
        raise InputError("the image states no window: scale its pixels by their own range instead")
    centre, width = window
    ramp = (image.pixels - np.float32(centre - 0.5)) / np.float32(max(width - 1, 1e-6)) + np.float32(0.5)
    return Image(np.clip(ramp, 0, 1) * np.float32(255), image.spacing, {**image.meta, "window": None})


def read_frames(header: Header) -> Iterator[tuple[NDArray[np.float32], float]]:
    """Decode the frames in stored order.

    Yields:
        (pixels, colour): (H, W) float32 in the file's units, and how far it is from grey (see :class:`Image`).

    Raises:
        InputError: the pixels are damaged, cut short, not finite or of another size than the header says.
        MissingExtraError: the decoder for the file's compression is not installed.
    """
    path = header.path
    with explained(path):
        dataset = read_dataset(path, pixels=True)
        _check_decoder(path, dataset)
        _check_codestreams(path, dataset, header)
        decoded = _decoded(dataset)
        frames = decoded[None] if len(header.frames) == 1 else decoded
        if len(frames) != len(header.frames):
            raise InputError(f"{path} holds {len(frames)} frames, not {len(header.frames)}: restore it from its source")
        for frame, stored in zip(header.frames, frames, strict=True):
            yield _grey(path, dataset, frame, stored, header.shape)


def _check_decoder(path: Path, dataset: Dataset) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = transfer_syntax(dataset)
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(f"{path} is compressed as {syntax.name}, which gyrus does not decode: decompress it") from None
    if not decoder.is_available:
        raise MissingExtraError(f"a decoder for {syntax.name}", "dicom")


def _check_codestreams(path: Path, dataset: Dataset, header: Header) -> None:
    """Refuse compressed frames whose own header claims another size than the file's: decoders believe the former."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import RLELossless

    syntax = transfer_syntax(dataset)
    if not syntax.is_encapsulated or syntax == RLELossless:  # run lengths have no size of their own
        return
    wanted = (*header.shape, header.meta["channels"])
    table, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    offsets = (table, lengths) if table and lengths else None
    for frame in generate_frames(dataset.PixelData, number_of_frames=len(header.frames), extended_offsets=offsets):
        if _claimed(frame) != wanted:
            raise InputError(
                f"{path} holds compressed pixels that are damaged or of another size than it says: restore it"
            )


def _claimed(codestream: bytes) -> tuple[int, int, int] | None:
    """Return (H, W, channels) from the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    None where there is no such header, or where the markers of a JPEG do not lead from one to the next up to its scan
    and it does not end as it should: the decoder of lossless JPEG, GDCM, may take the process down over one of these.
    """
    start = codestream.find(_J2K_START, 0, 1 << 12)  # a JP2 file's boxes may come first
    if start >= 0:
        across, down, left, top = struct.unpack_from(">4I", codestream, start + 8)
        return down - top, across - left, struct.unpack_from(">H", codestream, start + 40)[0]
    size, position = None, 2
    while position + 10 <= len(codestream) and codestream[position] == 0xFF:
        marker, length = codestream[position + 1], struct.unpack_from(">H", codestream, position + 2)[0]
        if marker in _JPEG_FRAMES:
            size = struct.unpack_from(">HHB", codestream, position + 5)
        if marker == _JPEG_SCAN:
            return size if codestream.rstrip(b"\0").endswith(_JPEG_END) else None
        position += 1 if marker == 0xFF else 2 + length
    return None


def _decoded(dataset: Dataset) -> NDArray[Any]:
    """Return all frames, (H, W) or (N, H, W), with a last axis of 3 where they are RGB.

    GDCM, which pydicom asks first, is asked last, because damaged pixels can make it end the process. pydicom 3.0 can
    also give frames one by one, but then fails where the sign of JPEG 2000 must be put right.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    plugins = sorted(get_decoder(transfer_syntax(dataset)).available_plugins, key="gdcm".__eq__)
    stored = pixel_array(dataset, decoding_plugin=plugins[0] if plugins else "")
    return apply_color_lut(stored, dataset) if dataset.PhotometricInterpretation == PALETTE else stored


def _grey(
    path: Path, dataset: Dataset, frame: Frame, stored: NDArray[Any], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], float]:
    """Take one frame's stored numbers to (H, W) float32 in the file's units, and say how far from grey they were."""
    if stored.shape[:2] != shape:
        raise InputError(f"{path} holds pixels of another size than its header says: restore it from its source")
    if stored.ndim == 3:
        return _luminance(stored)
    with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite or NaN, and is refused as that
        pixels = np.ascontiguousarray(_values(path, dataset, frame, stored), dtype=np.float32)
    wrong = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
    if wrong:
        raise InputError(f"{path} holds {wrong} NaN or infinite pixels: replace them before reading")
    if stored.dtype.kind in "iu" and stored.dtype.itemsize > 2 and np.abs(stored.astype(np.float64)).max() > 2**24:
        raise InputError(f"{path} holds whole numbers beyond 16,777,216, which lose digits: save it as 16-bit")
    return pixels, 0.0


def _values(path: Path, dataset: Dataset, frame: Frame, stored: NDArray[Any]) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        values = apply_modality_lut(stored, dataset).astype(np.float64)
    else:
        values = stored * np.float64(frame.slope) + frame.intercept
    if not white_is_low(dataset):
        return values
    if stored.dtype.kind == "f":
        raise InputError(f"{path} stores white as low in a form without a stated black: save it as MONOCHROME2")
    return mirror_sum(dataset, frame.slope, frame.intercept) - values
