"""Shapes on a slice that something is taken out of: how they grow, where else they fit, and how they are moved.

All functions are pure: (H, W) boolean in, new arrays out.
"""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

Pixels = NDArray[np.float32]
Shape = NDArray[np.bool_]

_Scalar = TypeVar("_Scalar", bound=np.generic)

REACH = 64
"""The longer side of the picture over the pixels by which an outline is widened: 8 of 512. Outlines are drawn on the
edge of what enhances, and what is left of a tumour around its hole would be smeared into it."""
SCALP = 16
"""The shorter side of the head's box over the thickness, in pixels, of what counts as scalp and skull."""


def reach(shape: tuple[int, int]) -> int:
    """Return by how many pixels an outline is widened on an (H, W) picture: a 64th of its longer side, at least 1."""
    return max(1, round(max(shape) / REACH))


def widened(shape: Shape, pixels: int) -> Shape:
    """Return a shape grown by so many pixels in every direction (Euclidean)."""
    if not shape.any():
        return shape.copy()
    return np.asarray(cv2.distanceTransform((~shape).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= pixels)


def inside(head: Shape) -> Shape:
    """Return a head without its rim of scalp and skull, a 16th of the shorter side of its box.

    The picture's own border is no rim: a head that is cut off there goes on behind it.
    """
    if head.all() or not head.any():
        return head.copy()
    rim = max(1, round(min(side.stop - side.start for side in bounds(head)) / SCALP))
    return np.asarray(cv2.distanceTransform(head.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > rim)


def places(hole: Shape, free: Shape) -> NDArray[np.int64]:
    """Return (K, 2) offsets (down, right), row by row, at which a shape lies wholly on free pixels; (0, 2) of none."""
    if not hole.any() or not free.any():
        return np.empty((0, 2), dtype=np.int64)
    box = bounds(hole)
    shape = hole[box][::-1, ::-1]
    # How many pixels of the shape lie on one that is not free, for every place at once.
    taken = fftconvolve((~free).astype(np.float64), shape.astype(np.float64), mode="valid")
    return np.asarray(np.argwhere(taken < 0.5) - (box[0].start, box[1].start), dtype=np.int64)


def moved(values: NDArray[_Scalar], down: int, right: int) -> NDArray[_Scalar]:
    """Return (H, W) values moved by whole pixels; 0 or False where nothing was."""
    height, width = values.shape
    found = np.zeros_like(values)
    if abs(down) < height and abs(right) < width:
        to = slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0))
        of = slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0))
        found[to] = values[of]
    return found


def bounds(shape: Shape) -> tuple[slice, slice]:
    """Return the rows and columns of the box around a shape that is not empty."""
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
