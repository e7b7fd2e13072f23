"""What each probe is given to learn from: numbers that hold no anatomy, or too little of it to earn a good score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.probes.views import CANVAS, Views

Names = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Told:
    """What else is known of N slices; None where it is not.

    Attributes:
        planes: N.
        sequences: N.
    """

    planes: Names
    sequences: Names


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's card.

    Attributes:
        name: in tables and JSON.
        title: for people.
        what: what it sees, as a sentence.
        subject: what gives the class away, for the sentence on its result.
        features: (views, what else is known) -> (N, F); a row of NaN is left out, as its value is not known.
        of_picture: whether it sees pixels, so that preprocessing can change what it finds.
        nearest: whether the class of the most similar slice is taken, instead of a forest fitted.
        caveat: a sentence on what a good score may mean besides a shortcut, or "".
    """

    name: str
    title: str
    what: str
    subject: str
    features: Callable[[Views, Told], NDArray[Any]]
    of_picture: bool = True
    nearest: bool = False
    caveat: str = ""


def corners(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the four corner patches, an eighth of the side each, at 4 x 4: (N, 64)."""
    side = CANVAS // 8
    patches = np.stack([canvas[:, y, x] for y in _ends(side) for x in _ends(side)], axis=1)
    small = patches.reshape(len(canvas), 4, 4, side // 4, 4, side // 4).mean(axis=(3, 5), dtype=np.float32)
    return np.asarray(small.reshape(len(canvas), -1))


def border(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the outermost 32nd of each side, averaged across and at 32 steps along: (N, 128)."""
    depth = CANVAS // 32
    lines = [canvas[:, end].mean(axis=1, dtype=np.float32) for end in _ends(depth)]
    lines += [canvas[:, :, end].mean(axis=2, dtype=np.float32) for end in _ends(depth)]
    return np.asarray(np.concatenate(lines, axis=1).reshape(len(canvas), 128, -1).mean(axis=2))


def silhouette(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the share of each 8 x 8 block that is not black (above a 32nd of the brightest pixel): (N, 64)."""
    seen = (canvas >= 8).reshape(len(canvas), 8, CANVAS // 8, 8, CANVAS // 8)
    return np.asarray(seen.mean(axis=(2, 4), dtype=np.float32).reshape(len(canvas), -1))


def thumbnails(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 32 x 32 thumbnails of zero mean and unit length, so that a product is a correlation: (N, 1024)."""
    small = canvas.reshape(len(canvas), 32, CANVAS // 32, 32, CANVAS // 32).mean(axis=(2, 4), dtype=np.float32)
    flat = small.reshape(len(canvas), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))


def _ends(width: int) -> tuple[slice, slice]:
    return slice(0, width), slice(CANVAS - width, CANVAS)


def _geometry(views: Views, _: Told) -> NDArray[np.float64]:
    height, width = views.size.T.astype(np.float64)
    return np.stack([width, height, width / height], axis=1)


def _plane(_: Views, told: Told) -> NDArray[np.float64]:
    return _one_hot(told.planes)


def _sequence(_: Views, told: Told) -> NDArray[np.float64]:
    return _one_hot(told.sequences)


def _source(views: Views, _: Told) -> NDArray[np.float64]:
    return _one_hot([record.source for record in views.records])


def _one_hot(values: Sequence[str | None]) -> NDArray[np.float64]:
    """Return (N, K), K distinct values; NaN where the value is None."""
    names = sorted({v for v in values if v is not None})
    return np.array([[np.nan if v is None else float(v == n) for n in names] for v in values]).reshape(len(values), -1)


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe(
            "corners", "corners only", "Sees four patches in the corners, each an eighth of the side wide.",
            "the four corners of the picture", lambda views, _: corners(views.canvas),
        ),
        Probe(
            "border", "border only", "Sees a frame along the edge, a thirty-second of the side wide.",
            "a thin frame along the picture's edge", lambda views, _: border(views.canvas),
        ),
        Probe(
            "geometry", "width and height", "Knows the width and height of the picture and their ratio, no pixel.",
            "the picture's width and height", _geometry, of_picture=False,
        ),
        Probe(
            "file", "the file", "Knows the file's size, format, bits, channels, colour and JPEG tables, no pixel.",
            "the file's size, format, colour and compression", lambda views, _: views.file, of_picture=False,
        ),
        Probe(
            "histogram", "grey values", "Knows how many pixels are how bright, not where they are.",
            "the histogram of grey values", lambda views, _: views.histogram,
            caveat="Part of it may be anatomy: a tumour changes the grey values.",
        ),
        Probe(
            "silhouette", "black area",
            "Sees where the picture is black and where it is not: the size, place and shape of the head.",
            "the size and shape of the black area", lambda views, _: silhouette(views.canvas),
            caveat="Part of it may be anatomy: a slice's plane and height in the head shape it.",
        ),
        Probe(
            "plane", "the plane", "Knows whether the slice is axial, coronal or sagittal, nothing else.",
            "the plane of the slice", _plane, of_picture=False,
        ),
        Probe(
            "sequence", "the sequence", "Knows whether the slice looks like T1, T1-CE, T2 or FLAIR, nothing else.",
            "the MRI sequence of the slice", _sequence, of_picture=False,
            caveat="Part of it may be anatomy: a tumour that takes up contrast medium shows that there was some.",
        ),
        Probe(
            "source", "the dataset", "Knows which of the pooled datasets the slice comes from, nothing else.",
            "the dataset a slice comes from", _source, of_picture=False,
        ),
        Probe(
            "thumbnail", "32 x 32 nearest neighbour",
            "Takes the class of the slice whose 32 x 32 thumbnail correlates best; it does see anatomy, coarsely.",
            "a 32 x 32 thumbnail", lambda views, _: thumbnails(views.canvas), nearest=True,
        ),
    )
}  # fmt: skip
"""Every probe, in the order of the tables."""
