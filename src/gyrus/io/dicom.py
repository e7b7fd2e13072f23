"""The header of one DICOM file, as far as images need it.

Only the elements named in ``_ELEMENTS`` and the pixels are ever taken from a file. Names, birth dates, ids,
institutions, comments and private elements are not read into memory, so they cannot reach a ``meta``, an error or a
picture; for the same reason an error never quotes what pydicom says of a damaged file. What ties files together, the
series' UID, stays inside.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import GyrusError, InputError, MissingExtraError
from gyrus.io.checks import check_file, check_size
from gyrus.io.volume import check_voxels

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

SUFFIXES = (".dcm", ".dicom", ".ima")
"""Usual file name endings; a DICOM file is known by its content, whatever its name."""

_ELEMENTS = (
    *("Modality", "SeriesInstanceUID", "SeriesNumber", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_MODALITIES = frozenset(("MR", "CT", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF", "SC", "OT", "SEG"))
_COLOURS = frozenset(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"))
_GREYS = frozenset(("MONOCHROME1", "MONOCHROME2"))
PALETTE = "PALETTE COLOR"
_WIDEST = 1e9  # a window beyond this is none
_MOST_INFLATED = 1 << 30  # bytes that a deflated file may unpack to

# What else a file may give as distance between pixels, and what that distance then is.
_SPACINGS = (
    ("PixelSpacing", "in the patient"),
    ("ImagerPixelSpacing", "on the detector, which magnifies"),
    ("NominalScannedPixelSpacing", "on the scanned film"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What the header says of one frame.

    Attributes:
        position: (3,) LPS mm, the centre of the pixel in row 0 and column 0; None where it is not said.
        axes: (2, 3) unit vectors in LPS along which columns and rows are counted; None where it is not said.
        spacing: mm between rows and between columns; None where it is not said.
        spacing_where: where in the world that distance is measured.
        step: mm to the next slice as the header claims it, else the slice's thickness, else None.
        slope, intercept: take a stored number to the file's units.
        window: (centre, width) in those units for display, or None.
    """

    position: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    spacing_where: str
    step: float | None
    slope: float
    intercept: float
    window: tuple[float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What one DICOM image file says of itself, without its pixels and without its patient.

    Attributes:
        path: the file.
        shape: (H, W) of each frame.
        frames: one entry per frame, as stored.
        meta: ``format``, ``bits`` stored, ``channels``, ``modality``, ``photometric`` and ``syntax``.
        series: what files of one series share, as stored; never shown.
        number: the series' number, if any.
    """

    path: Path
    shape: tuple[int, int]
    frames: tuple[Frame, ...]
    meta: Mapping[str, Any]
    series: bytes = field(repr=False)
    number: int | None


def is_dicom(path: Path) -> bool:
    """Tell whether a file carries the mark of DICOM, "DICM" after 128 bytes; what cannot be opened counts as none."""
    try:
        return path.is_file() and has_mark(read_start(path))  # opening a pipe would wait for ever
    except (OSError, ValueError):  # ValueError: a name no file can have
        return False


def read_start(path: Path) -> bytes:
    """Return the bytes of a file that end with the mark of DICOM, fewer where it is shorter."""
    with path.open("rb") as stream:
        return stream.read(132)


def has_mark(start: bytes) -> bool:
    """Tell whether the start of a file ends with the mark."""
    return start[128:] == b"DICM"


def read_header(path: Path) -> Header:
    """Read and check everything the header tells; no pixel is decoded.

    Raises:
        InputError: missing, damaged, not a DICOM image, or too large.
        MissingExtraError: pydicom is not installed.
    """
    header = find_header(path)
    if header is None:
        raise InputError(f"{path} is a DICOM file without an image: remove it")
    return header


def find_header(path: Path) -> Header | None:
    """Return the header as :func:`read_header` does, or None for a DICOM object without an image, such as a report.

    Raises:
        InputError: as :func:`read_header`; or the file should hold an image, and ends before it says of which size.
        MissingExtraError: pydicom is not installed.
    """
    path = Path(path)
    with explained(path):
        dataset = read_dataset(path)
        if "Rows" in dataset and "Columns" in dataset:
            return _header(path, dataset)
        if _should_hold_image(path, dataset):  # pydicom takes the end of a file for the end of its header
            raise InputError(f"{path} is damaged or cut short (its header lacks the image size): restore it")
        return None


def transfer_syntax(dataset: Dataset) -> UID:
    """Return how the file is encoded and compressed."""
    return dataset.file_meta.TransferSyntaxUID


def as_stored(dataset: Dataset, name: str) -> bytes:
    """Return the bytes of an element without their padding, or none.

    What may identify someone is never decoded: pydicom quotes a text that it finds odd in a warning.
    """
    element = dataset.get_item(name) if name in dataset else None
    return b"" if element is None or element.value is None else bytes(element.value).strip(b"\0 ")


def white_is_low(dataset: Dataset) -> bool:
    """Tell whether low numbers are shown white."""
    return bool(dataset.PhotometricInterpretation == "MONOCHROME1")


def mirror_sum(dataset: Dataset, slope: float, intercept: float) -> float:
    """Return the sum of what the lowest and the highest number that the bits can hold become: v turns into sum - v."""
    from pydicom.pixels.processing import apply_modality_lut

    bits = int(dataset.BitsStored)
    signed = int(dataset.PixelRepresentation) == 1
    lowest = -(1 << bits - 1) if signed else 0
    highest = lowest + (1 << bits) - 1
    if dataset.get("ModalityLUTSequence"):
        ends: NDArray[Any] = apply_modality_lut(np.array([lowest, highest]), dataset)
        return float(ends[0]) + float(ends[1])
    return slope * (lowest + highest) + 2 * intercept


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise into one :class:`InputError` that quotes none of it."""
    try:
        yield
    except GyrusError:
        raise
    except Exception as error:  # damage shows as nearly every kind of exception there is
        kind = type(error).__name__
        raise InputError(
            f"{path} is damaged, or DICOM of a kind gyrus does not read ({kind}): restore it, or save it uncompressed"
        ) from None


def read_dataset(path: Path, elements: Iterable[str] = _ELEMENTS, *, pixels: bool = False) -> Dataset:
    """Parse a DICOM file for these elements alone, and its pixels where asked for; the others are skipped unread.

    Raises:
        InputError: missing, empty, not DICOM, or deflated beyond reason.
        MissingExtraError: pydicom is not installed.
    """
    check_file(path)
    if not is_dicom(path):
        raise InputError(f"{path} is not a DICOM file (it lacks the mark DICM): export it again as DICOM Part 10")
    try:
        import pydicom
    except ImportError:
        raise MissingExtraError("pydicom", "dicom") from None
    _check_deflated(path)
    wanted = [*elements, *(_PIXELS if pixels else ())]
    return pydicom.dcmread(path, specific_tags=wanted, stop_before_pixels=not pixels)


def _should_hold_image(path: Path, dataset: Dataset) -> bool:
    """Tell whether a file says that it is an image, or ends before it says what it is."""
    kind, length = (dataset.file_meta.get(n) for n in ("MediaStorageSOPClassUID", "FileMetaInformationGroupLength"))
    whole = kind is not None and length is not None and path.stat().st_size >= 132 + 12 + length
    return not whole or "Image Storage" in kind.name


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than any image needs; pydicom would unpack it all."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as stream:
        stream.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        while not inflater.eof and (data := inflater.unconsumed_tail or stream.read(1 << 16)):
            size += len(inflater.decompress(data, 1 << 20))
            if size > _MOST_INFLATED:
                raise InputError(f"{path} unpacks to more than {_MOST_INFLATED >> 30} GiB: restore it from its source")


def _header(path: Path, dataset: Dataset) -> Header:
    shape = int(dataset.Rows), int(dataset.Columns)
    check_size(path, *shape)
    count = int(dataset.get("NumberOfFrames") or 1)
    if count < 1:
        raise InputError(f"{path} claims {count} frames: restore it from its source")
    check_voxels(path, (*shape, count))
    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in _GREYS | _COLOURS | {PALETTE}:
        raise InputError(f"{path} stores its colours in a way gyrus does not read: save it as MONOCHROME2 or RGB")
    modality = str(dataset.get("Modality", ""))
    number = dataset.get("SeriesNumber")
    meta = {
        "format": "DICOM",
        "bits": int(dataset.get("BitsStored") or dataset.BitsAllocated),
        "channels": int(dataset.get("SamplesPerPixel") or 1),
        "modality": modality if modality in _MODALITIES else "other",
        "photometric": photometric,
        "syntax": transfer_syntax(dataset).name,
    }
    return Header(
        path=path,
        shape=shape,
        frames=_frames(path, dataset, count),
        meta=meta,
        series=as_stored(dataset, "SeriesInstanceUID"),
        number=None if number is None else int(number),
    )


def _frames(path: Path, dataset: Dataset, count: int) -> tuple[Frame, ...]:
    """Return what is said of each frame: by its functional groups where there are such, else by the file.

    Without groups the file's one position belongs to its first frame.
    """
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        first = _frame(dataset, dataset)
        return first, *([replace(first, position=None)] * (count - 1))
    if len(groups) != count:
        raise InputError(f"{path} claims {count} frames but describes {len(groups)}: restore it from its source")
    shared: Any = next(iter(dataset.get("SharedFunctionalGroupsSequence") or ()), {})
    return tuple(_frame(dataset, _Groups(group, shared)) for group in groups)


class _Groups:
    """The functional groups of a frame, asked for an element as a plain data set is: its own group goes first."""

    _HOMES: Mapping[str, str] = {
        "ImagePositionPatient": "PlanePositionSequence",
        "ImageOrientationPatient": "PlaneOrientationSequence",
        "PixelSpacing": "PixelMeasuresSequence",
        "SliceThickness": "PixelMeasuresSequence",
        "SpacingBetweenSlices": "PixelMeasuresSequence",
        "RescaleSlope": "PixelValueTransformationSequence",
        "RescaleIntercept": "PixelValueTransformationSequence",
        "WindowCenter": "FrameVOILUTSequence",
        "WindowWidth": "FrameVOILUTSequence",
        "VOILUTFunction": "FrameVOILUTSequence",
    }

    def __init__(self, own: Any, shared: Any) -> None:
        self._own, self._shared = own, shared

    def get(self, name: str) -> Any:
        home = self._HOMES.get(name)
        items = (self._own.get(home) or self._shared.get(home)) if home else None
        return items[0].get(name) if items else None


def _frame(dataset: Dataset, source: Any) -> Frame:
    spacing, where = None, ""
    for name, meaning in _SPACINGS:
        pair = _numbers(source.get(name), 2)
        if pair is not None and (pair > 0).all():
            spacing, where = (float(pair[0]), float(pair[1])), meaning
            break
    axes = _numbers(source.get("ImageOrientationPatient"), 6)
    slope, intercept = _number(source.get("RescaleSlope"), 1.0), _number(source.get("RescaleIntercept"), 0.0)
    step = _number(source.get("SpacingBetweenSlices"), 0.0) or _number(source.get("SliceThickness"), 0.0)
    return Frame(
        position=_numbers(source.get("ImagePositionPatient"), 3),
        axes=None if axes is None else axes.reshape(2, 3),
        spacing=spacing,
        spacing_where=where,
        step=abs(step) or None,
        slope=slope,
        intercept=intercept,
        window=_window(dataset, source, slope, intercept),
    )


def _window(dataset: Dataset, source: Any, slope: float, intercept: float) -> tuple[float, float] | None:
    """Return the first (centre, width) of a linear window, mirrored where the pixels are."""
    centre, width = _first(source.get("WindowCenter")), _first(source.get("WindowWidth"))
    if centre is None or width is None or (source.get("VOILUTFunction") or "LINEAR") != "LINEAR":
        return None
    if white_is_low(dataset):
        centre = mirror_sum(dataset, slope, intercept) + 1 - centre  # because its middle is half below its centre
    return (centre, width) if 1 <= width < _WIDEST and abs(centre) < _WIDEST else None


def _numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    """Return so many numbers that can be millimetres, or None where they are not given."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != count:
        return None
    numbers = np.array([float(v) for v in value])
    return numbers if np.abs(numbers).max() < 1e6 else None


def _number(value: Any, otherwise: float) -> float:
    number = _first(value)
    return otherwise if number is None else number


def _first(value: Any) -> float | None:
    """Return a finite number, the first of several, or None."""
    if not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
        value = next(iter(value), None)
    if value in (None, "", b""):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
