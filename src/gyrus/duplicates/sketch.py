"""What is kept of a slice: a thumbnail to compare, and the local features that find whom to compare it with."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

THUMB = 128
"""The longer edge of a thumbnail in pixels. Coarse enough for a JPEG of quality 30 at half size to look like its
source, fine enough for most slices 1 mm apart to differ."""
FEATURES = 32
"""Features kept per slice, those of the highest contrast."""
BLACK, WHITE = 0.5, 99.5
"""The percentiles of the picture that become black and white."""

_SAMPLED = 128  # pixels along the longer edge, at least, by which the empty border is found
_BRIGHT, _FILLED = 0.08, 0.02  # share of white a pixel must exceed, and share of a row that must
_SMALLEST_BOX = 8
_COARSE = 0.7  # size at which features are looked for, that of the thumbnail being 1
_CONTRAST, _EDGE = 0.01, 12.0  # SIFT's thresholds, its defaults of 0.04 and 10 relaxed for the sake of dull slices
_NORM = 512.0  # of a descriptor: the largest that keeps its entries within a byte
# SIFT's descriptor is 4 rows x 4 columns x 8 directions about the feature's own axis, so a mirror image has the rows
# in reverse and the directions negated.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].reshape(128)
_LEFT = np.tile(np.sin(np.arange(8) * np.pi / 4), 16).astype(np.float32)  # of the axis, how far each direction points


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """About 21 kB of a slice.

    Attributes:
        thumb: (h, w) uint8, the longer edge :data:`THUMB`: the picture without its empty border, linear in the pixels,
            percentile :data:`BLACK` becoming 0 and percentile :data:`WHITE` 255.
        grain: size of a pixel of the picture in thumbnail pixels, at least 1: above, the thumbnail is an enlargement.
        points: (k, 4) float32 per feature: x, y and diameter in thumbnail pixels, and orientation in degrees.
        descriptors: (k, 128) uint8, RootSIFT (Lowe 2004; Arandjelovic & Zisserman 2012) of Euclidean norm 512, as
            :func:`leaning_left` has them, so that a feature and its mirror image get one.
        flipped: (k,) bool, which of the descriptors are those of the mirror image for that reason.
    """

    thumb: NDArray[np.uint8]
    grain: float
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    flipped: NDArray[np.bool_]


def sketch(pixels: NDArray[np.float32]) -> Sketch:
    """Reduce a slice to its sketch.

    An increasing linear change of the pixels changes nothing but for rounding. A constant picture has no features.

    Args:
        pixels: (H, W), in any units.
    """
    cut = pixels[_filled(pixels)]
    scale = THUMB / max(cut.shape)
    thumb = _thumbnail(cut, scale)
    points, descriptors = _features(thumb)
    return Sketch(thumb, max(1.0, scale), points, *leaning_left(descriptors))


def mirrored(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the descriptors, (k, 128), that the same features have in the mirror image."""
    return descriptors[:, _MIRROR]


def leaning_left(descriptors: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the descriptors, (k, 128), mirrored where more gradients point right of the feature's axis than left.

    So a feature and its mirror image get one descriptor, but for those that lean to neither side: of features found
    again in an altered copy, one of 16 leans to the other.

    Returns:
        The descriptors, and which of them were mirrored, (k,).
    """
    right = descriptors @ _LEFT < 0
    return np.where(right[:, None], mirrored(descriptors), descriptors), right


def _thumbnail(cut: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    height, width = cut.shape
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(
        cv2.resize(cut, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), dtype=np.float32
    )
    black, white = _ends(small)
    factor = 255 / (white - black) if white > black else 0.0
    return np.asarray(np.clip(np.rint((small - black) * factor), 0, 255), dtype=np.uint8)


def _filled(pixels: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the rows and columns of the picture without its empty border, to the step it is sampled with."""
    step = max(1, max(pixels.shape) // _SAMPLED)
    sample = np.ascontiguousarray(pixels[::step, ::step])
    black, white = _ends(sample[::2])
    bright = sample > black + _BRIGHT * (white - black)
    rows, columns = (
        np.flatnonzero(np.count_nonzero(bright, axis=axis) > _FILLED * bright.shape[axis]) for axis in (1, 0)
    )
    if min(len(rows), len(columns)) < _SMALLEST_BOX:
        return slice(None), slice(None)
    return slice(rows[0] * step, (rows[-1] + 1) * step), slice(columns[0] * step, (columns[-1] + 1) * step)


def _ends(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return percentiles :data:`BLACK` and :data:`WHITE`, as numpy's and in half the time, which is spent per slice."""
    at = np.array([BLACK, WHITE]) / 100 * (values.size - 1)
    below = at.astype(np.intp)
    above = np.minimum(below + 1, values.size - 1)
    sorted_there = np.partition(values.ravel(), np.concatenate([below, above]))
    low, high = sorted_there[below].astype(np.float64), sorted_there[above].astype(np.float64)
    black, white = low + (at - below) * (high - low)
    return float(black), float(white)


def _features(thumb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    shape = [max(1, round(edge * _COARSE)) for edge in thumb.shape[::-1]]
    coarse = cv2.resize(thumb, shape, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(FEATURES, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)
    found, raw = sift.detectAndCompute(coarse, None)
    if not found:
        return np.empty((0, 4), dtype=np.float32), np.empty((0, 128), dtype=np.uint8)
    points = np.array([(*p.pt, p.size, p.angle) for p in found], dtype=np.float32)
    order = np.lexsort((*points.T, [-p.response for p in found]))[:FEATURES]  # ties may come in any order
    points[:, :2] = (points[:, :2] + 0.5) / _COARSE - 0.5
    points[:, 2] /= _COARSE
    root = np.sqrt(raw[order] / np.maximum(raw[order].sum(axis=1, keepdims=True), 1e-6))
    return points[order], np.minimum(np.rint(root * _NORM), 255).astype(np.uint8)
