"""The region a thresholded map keeps: its outline, bounding box, area and longest diameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A set of pixels, each taken as a small rectangle, and its measures.

    Attributes:
        contours: closed polygons along the pixels' edges, each (K, 2) float64 x and y in pixels, the centre of the
            pixel in row r and column c being at x = c, y = r. Outlines and holes alike: filled together by the even-odd
            rule they give the set back.
        box: (top, left, bottom, right) in whole pixels, the last two one beyond the set.
        area: in ``unit`` squared.
        diameter: the greatest distance between two of its points (Feret 1930), corner to corner: one pixel has
            its diagonal. In ``unit``.
        ends: the two points of the diameter, (2, 2) x and y in pixels.
        unit: "mm" where the spacing is known, else "px".
    """

    contours: tuple[NDArray[np.float64], ...]
    box: tuple[int, int, int, int]
    area: float
    diameter: float
    ends: NDArray[np.float64]
    unit: str

    def summary(self) -> dict[str, Any]:
        """Return the measures as plain values, without the contours."""
        return {"box": list(self.box), "area": self.area, "diameter": self.diameter, "unit": self.unit}


def measure(kept: NDArray[np.bool_], spacing: tuple[float, float] | None = None) -> Region | None:
    """Return the outline and measures of a set of pixels, or None where it is empty.

    Args:
        kept: (H, W) boolean.
        spacing: (row, column) distance between pixel centres in millimetres, or None where it is not known.
    """
    if not kept.any():
        return None
    rows, columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    row, column = spacing or (1.0, 1.0)
    outlines = contours(kept)
    points = np.concatenate(outlines)
    diameter, ends = _farthest(points, np.array([column, row]))
    return Region(
        contours=outlines,
        box=(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1),
        area=float(kept.sum() * row * column),
        diameter=diameter,
        ends=ends,
        unit="px" if spacing is None else "mm",
    )


def contours(kept: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
    """Return the edges of a set of pixels as closed polygons, (K, 2) x and y; see :class:`Region`."""
    # Each pixel is split into 2 x 2: OpenCV's contour runs through the centres of the outermost quarters, and each
    # quarter lies beside one corner of its pixel, which is the point on the edge that is meant.
    quarters = np.repeat(np.repeat(kept.astype(np.uint8), 2, axis=0), 2, axis=1)
    found, _ = cv2.findContours(quarters, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return tuple(_corners(chain[:, 0]) for chain in found)


def _corners(chain: NDArray[Any]) -> NDArray[np.float64]:
    """Return the corners, without repeats and points on a straight line, of a closed chain of quarters."""
    points = chain // 2 + (chain % 2) - 0.5
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    back = (before * after).sum(axis=1) < 0
    return np.asarray(points[(turns != 0) | back])


def _farthest(points: NDArray[np.float64], scale: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the greatest distance between two points, lengths being scaled, and the two."""
    hull = points[cv2.convexHull(points.astype(np.float32), returnPoints=False)[:, 0]]
    apart = (((hull[:, None] - hull[None]) * scale) ** 2).sum(axis=2)
    i, j = np.unravel_index(int(apart.argmax()), apart.shape)
    return float(np.sqrt(apart[i, j])), np.stack([hull[i], hull[j]])
