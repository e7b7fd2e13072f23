"""Tumour masks that are read on demand: a filled outline, or an image file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gyrus.errors import InputError
from gyrus.io import dicom, nifti
from gyrus.io.raster import read_raster


@dataclass(frozen=True, slots=True)
class OutlineMask:
    """A polygon around the tumour, filled by the even-odd rule.

    Attributes:
        points: the corners, as text "x,y x,y ..." or as pairs (x, y), in pixels. The pixel in row r and column c has
            its centre at x = c, y = r. The polygon closes itself.
        where: what to call it in an error: the table and row, or the file, that it comes from.

    Raises:
        InputError: fewer than three points, or one that is not two finite numbers.
    """

    points: str | tuple[tuple[float, float], ...]
    where: str

    def __post_init__(self) -> None:
        self.vertices()

    def vertices(self) -> NDArray[np.float64]:
        """Return the corners, (N, 2) x and y in pixels."""
        pairs: Any = [pair.split(",") for pair in self.points.split()] if isinstance(self.points, str) else self.points
        try:
            points = np.array([(float(x), float(y)) for x, y in pairs], dtype=np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            raise InputError(f'{self.where}: the outline is not of the form "x,y x,y ...": correct it') from None
        if not np.isfinite(points).all():
            raise InputError(f"{self.where}: the outline holds a coordinate that is not finite: correct it")
        if len(points) < 3:
            raise InputError(f"{self.where}: the outline has {len(points)} points, at least 3 are needed: correct it")
        return points

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (H, W) mask of the pixels whose centre is inside; see :func:`fill_outline` for ties.

        Raises:
            InputError: a corner lies more than half a pixel beyond the centres of the image's border pixels.
        """
        points = self.vertices()
        height, width = shape
        outside = (points < -0.5) | (points > np.array([width - 0.5, height - 0.5]))
        if outside.any():
            x, y = points[int(np.argmax(outside.any(axis=1)))]
            raise InputError(
                f"{self.where}: the outline's point {x:g},{y:g} lies outside its image of {width} x {height} pixels: "
                "correct the outline or the image"
            )
        return fill_outline(points, shape)


@dataclass(frozen=True, slots=True)
class FileMask:
    """A mask kept as an image file of the slice's own size; every pixel that is not zero is tumour.

    Attributes:
        path: a PNG, TIFF or BMP, of any depth; a JPEG only where compression has left exactly two grey levels.
    """

    path: Path

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask on the image's own (H, W) grid.

        Raises:
            InputError: the file cannot be read, is a volume, is not of the image's size, or is a JPEG with blurred
                edges.
        """
        if self.path.name.lower().endswith((*nifti.SUFFIXES, *dicom.SUFFIXES)):
            raise InputError(f"{self.path} has the name of a volume, and a mask must be a picture: save it as PNG")
        image = read_raster(self.path)
        if image.shape != tuple(shape):
            raise InputError(
                f"{self.path} is {image.shape[1]} x {image.shape[0]} pixels but its image is {shape[1]} x {shape[0]}: "
                "a mask must be drawn on the image's own grid"
            )
        if image.meta["format"] == "JPEG" and len(np.unique(image.pixels)) > 2:
            raise InputError(f"{self.path} is a JPEG, whose compression blurs a mask's edge: save the mask as PNG")
        return np.asarray(image.pixels != 0)


def fill_outline(points: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Fill a polygon: a pixel belongs to it where its centre is inside, by the even-odd rule.

    A centre exactly on the outline belongs to it on a left or upper edge and not on a right or lower one, so two
    polygons that share an edge never share a pixel. Parts outside the grid are cut off.

    Args:
        points: (N, 2) x and y in pixels, N >= 1; the polygon closes itself. Centres lie on whole numbers.
        shape: (H, W) of the grid.

    Returns:
        (H, W) boolean.
    """
    height, width = shape
    start = np.asarray(points, dtype=np.float64)
    ends = np.stack([start, np.roll(start, -1, axis=0)])
    order = np.argsort(ends[..., 1], axis=0)  # upper end first: a row through a corner is then met exactly
    (x0, y0), (x1, y1) = np.take_along_axis(ends, order[..., None], axis=0).transpose(0, 2, 1)
    first = np.clip(np.ceil(y0), 0, height).astype(np.int64)
    beyond = np.clip(np.ceil(y1), 0, height).astype(np.int64)  # rows with y0 <= row < y1: each corner counts once
    counts = beyond - first
    edge = np.repeat(np.arange(len(start)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossing = x0[edge] + (row - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    column = np.clip(np.ceil(crossing), 0, width).astype(np.int64)
    mask = np.zeros((height, width), dtype=np.bool_)
    if row.size:
        top, left, bottom, right = row.min(), column.min(), row.max(), column.max()
        toggles = np.zeros((bottom - top + 1, right - left + 1), dtype=np.int64)
        np.add.at(toggles, (row - top, column - left), 1)
        mask[top : bottom + 1, left:right] = np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1
    return mask
