"""The frames of one DICOM file as grey pixels, in the file's units."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError, MissingExtraError
from gyrus.io.codestreams import frame_size, is_sound_lossless, unended
from gyrus.io.dicom import PALETTE, Frame, Header, explained, mirror_sum, read_dataset, transfer_syntax, white_is_low
from gyrus.io.image import Image
from gyrus.io.raster import NO_TINT, Tint, _luminance

if TYPE_CHECKING:
    from pydicom import Dataset

# The first that is at hand decodes. GDCM, which pydicom would ask first, can end the process over damaged pixels, so it
# is left with what no other decodes, lossless JPEG.
_DECODERS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow", "gdcm")


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
    ((pixels, tint),) = read_frames(header)
    meta = {
        **header.meta,
        "colour": tint.most,
        "coloured": tint.share,
        "vivid": tint.vivid,
        "window": frame.window,
        "spacing_where": frame.spacing_where,
    }
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


def read_frames(header: Header) -> Iterator[tuple[NDArray[np.float32], Tint]]:
    """Decode the frames in stored order.

    Yields:
        (pixels, tint): (H, W) float32 in the file's units, and how far they were from grey.

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
    """Refuse compressed frames that a decoder must not be trusted with: see :mod:`gyrus.io.codestreams`."""
    from pydicom.encaps import generate_frames
    from pydicom.uid import JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, RLELossless

    syntax = transfer_syntax(dataset)
    if not syntax.is_encapsulated or syntax == RLELossless:  # run lengths have no size of their own
        return
    wanted = (*header.shape, header.meta["channels"])
    table, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    offsets = (table, lengths) if table and lengths else None
    for frame in generate_frames(dataset.PixelData, number_of_frames=len(header.frames), extended_offsets=offsets):
        sound = frame_size(frame) == wanted
        if syntax in (JPEGLossless, JPEGLosslessSV1):
            sound = sound and is_sound_lossless(frame, dataset.BitsAllocated)
        elif syntax == JPEGBaseline8Bit:
            sound = sound and _is_whole(frame)
        if not sound:
            raise InputError(
                f"{path} holds compressed pixels that are damaged or of another size than it says: restore it"
            )


def _is_whole(frame: bytes) -> bool:
    """Tell whether all pixels of a baseline JPEG are there; pydicom's decoders fill in grey what is not."""
    try:
        Pillow.open(BytesIO(unended(frame) or frame), formats=("JPEG",)).load()
    except OSError:
        return False
    return True


def _decoded(dataset: Dataset) -> NDArray[Any]:
    """Return all frames, (H, W) or (N, H, W), with a last axis of 3 where they are RGB.

    pydicom 3.0 can also give them one by one, but then fails where the sign of JPEG 2000 must be put right.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    available = get_decoder(transfer_syntax(dataset)).available_plugins  # none where nothing is compressed
    stored = pixel_array(dataset, decoding_plugin=next((name for name in _DECODERS if name in available), ""))
    shown: NDArray[Any] = apply_color_lut(stored, dataset) if dataset.PhotometricInterpretation == PALETTE else stored
    return shown


def _grey(
    path: Path, dataset: Dataset, frame: Frame, stored: NDArray[Any], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], Tint]:
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
    return pixels, NO_TINT


def _values(path: Path, dataset: Dataset, frame: Frame, stored: NDArray[Any]) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence"):
        values: NDArray[Any] = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    else:
        values = np.asarray(stored * np.float64(frame.slope) + frame.intercept)
    if not white_is_low(dataset):
        return values
    if stored.dtype.kind == "f":
        raise InputError(f"{path} stores white as low in a form without a stated black: save it as MONOCHROME2")
    return np.asarray(mirror_sum(dataset, frame.slope, frame.intercept) - values)
