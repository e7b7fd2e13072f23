"""The little of each slice that probes look at, taken while it is decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.loading import THREADS, Progress
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record

CANVAS = 64
"""Side in pixels to which every picture is stretched, so that its own size says nothing."""

BINS = 32
_CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """What is kept of N pictures, as stored in their files or as prepared for a network.

    Attributes:
        canvas: (N, 64, 64) uint8, each picture stretched to one size, its darkest pixel 0 and its brightest 255.
        histogram: (N, 32) float32, the shares of its pixels in equal steps between the darkest and the brightest.
        size: (N, 2) float32, height and width in pixels.
        file: (N, 8) float64, what the file is but not what it shows: bytes, format (as a number), bits, channels,
            colour (see ``Image.meta``), number of JPEG quantisation tables, and the means of the first two.
        records: the N records.
        prepared: whether the pictures were prepared; all have one size then, and no file of their own.
    """

    canvas: NDArray[np.uint8]
    histogram: NDArray[np.float32]
    size: NDArray[np.float32]
    file: NDArray[np.float64]
    records: Sequence[Record]
    prepared: bool

    def select(self, indices: Sequence[int], records: Sequence[Record]) -> Views:
        """Return the views of some slices, in the given order.

        Args:
            indices: among the N.
            records: of these slices; they may be labelled anew.
        """
        i = np.asarray(indices, dtype=np.intp)
        return Views(self.canvas[i], self.histogram[i], self.size[i], self.file[i], records, self.prepared)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    canvas: NDArray[np.uint8]
    histogram: NDArray[np.float32]
    size: tuple[int, int]


def view_records(
    records: Sequence[Record], specs: Sequence[Preprocess | None], progress: Progress | None = None
) -> list[Views]:
    """Read every record once and return its views, one :class:`Views` per specification.

    Args:
        records: N slices.
        specs: how to prepare the picture, None for the picture as stored.
        progress: called as records are read.

    Raises:
        InputError: a file cannot be read, or there are no records.
    """
    if not records:
        raise InputError("there is no slice to probe: give some that can be read")
    seen: list[tuple[list[_View], list[float], str]] = []
    for view in _read_all(records, specs):
        seen.append(view)
        if progress and (len(seen) % _CHUNK == 0 or len(seen) == len(records)):
            progress("looking", len(seen), len(records))
    formats = {name: float(i) for i, name in enumerate(sorted({name for _, _, name in seen}))}
    file = np.array([[*facts, formats[name]] for _, facts, name in seen], dtype=np.float64)
    return [_stack([views[k] for views, _, _ in seen], file, records, spec) for k, spec in enumerate(specs)]


def canvas_of(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) pixels stretched to (64, 64) uint8, the darkest 0 and the brightest 255; a constant gives 0."""
    method = cv2.INTER_AREA if min(pixels.shape) > CANVAS else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (CANVAS, CANVAS), interpolation=method).astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    return np.asarray(np.rint((small - low) * (255 / (high - low) if high > low else 0.0)), dtype=np.uint8)


def _read_all(
    records: Sequence[Record], specs: Sequence[Preprocess | None]
) -> Iterator[tuple[list[_View], list[float], str]]:
    """Yield in order the views of each record, the facts of its file and its format, never far ahead of the caller."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(records), _CHUNK):
            yield from pool.map(lambda record: _read(record, specs), records[start : start + _CHUNK])


def _read(record: Record, specs: Sequence[Preprocess | None]) -> tuple[list[_View], list[float], str]:
    image = record.read()
    views = [_view(image if spec is None else Image(prepare(image, spec).astype(np.float32))) for spec in specs]
    meta = image.meta
    facts = [float(meta.get(key, 0)) for key in ("bits", "channels", "colour")]
    bytes_ = float(record.path.stat().st_size) if record.path.is_file() else 0.0
    return views, [bytes_, *facts, *_tables(record.path)], str(meta.get("format", ""))


def _view(image: Image) -> _View:
    low, high = float(image.pixels.min()), float(image.pixels.max())
    above = np.nextafter(np.float32(high if high > low else low + 1), np.float32(np.inf))  # OpenCV's end is exclusive
    counts = cv2.calcHist([image.pixels], [0], None, [BINS], [low, float(above)]).ravel()
    return _View(canvas_of(image.pixels), (counts / image.pixels.size).astype(np.float32), image.shape)


def _tables(path: Path) -> list[float]:
    """Return how many JPEG quantisation tables a file has and the means of the first two, 0 where there are none."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return [0.0, 0.0, 0.0]
    with Pillow.open(path) as picture:
        tables = list(getattr(picture, "quantization", {}).values())
    means = [float(np.mean(table)) for table in tables[:2]]
    return [float(len(tables)), *[*means, 0.0, 0.0][:2]]


def _stack(
    views: Sequence[_View], file: NDArray[np.float64], records: Sequence[Record], spec: Preprocess | None
) -> Views:
    return Views(
        canvas=np.stack([v.canvas for v in views]),
        histogram=np.stack([v.histogram for v in views]),
        size=np.array([v.size for v in views], dtype=np.float32),
        file=file,
        records=records,
        prepared=spec is not None,
    )
