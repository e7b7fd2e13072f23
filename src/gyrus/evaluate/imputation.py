"""Noisy linear imputation: removed pixels become the weighted mean of their neighbours, all at once (Rong et al. 2022).

Each removed pixel must equal the weighted mean of those of its eight neighbours that lie on the image (1/6 beside it,
1/12 across a corner), removed ones included: a sparse, symmetric system, one for each set of removed pixels, solved
exactly for all channels at once. The pixels of a grid are put in the order of nested dissection (George 1973), found
once for each grid, under which the factors stay sparse whatever part of the grid was removed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

NOISE = 0.01
_WEIGHTS = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
_OFFSETS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
_LEAF = 16


def impute(
    image: NDArray[np.floating],
    removed: NDArray[np.bool_],
    rng: np.random.Generator | None = None,
    noise: float = NOISE,
) -> NDArray[np.float64]:
    """Return an image whose removed pixels are imputed from the others.

    Args:
        image: (C, H, W).
        removed: (H, W) boolean, not all True.
        rng: of the noise, which keeps a network from recognising the imputed pixels; None adds none.
        noise: its standard deviation, in the image's unit.

    Returns:
        (C, H, W) float64.
    """
    filled = np.where(removed, 0.0, image.astype(np.float64))
    order, neighbours, weights = _grid(removed.shape)
    places = order[removed.ravel()[order]]  # the removed pixels, in the order of elimination
    if not len(places):
        return filled
    number = np.full(removed.size + 1, -1)  # one more, for what lies beyond the image
    number[places] = np.arange(len(places))
    columns = number[neighbours[places]]
    removed_too = columns >= 0
    inside = ndimage.correlate(np.ones(removed.shape), _WEIGHTS, mode="constant").ravel()[places]
    indices = np.concatenate([np.arange(len(places))[:, None], columns], axis=1)
    values = np.concatenate([inside[:, None], np.broadcast_to(-weights, columns.shape)], axis=1)
    there = np.concatenate([np.ones((len(places), 1), dtype=bool), removed_too], axis=1)
    starts = np.r_[0, np.cumsum(there.sum(axis=1))]
    system = csc_matrix((values[there], indices[there], starts), shape=(len(places), len(places)))
    known = np.stack([ndimage.correlate(c, _WEIGHTS, mode="constant").ravel()[places] for c in filled], axis=1)
    # Symmetric with a dominant diagonal, so no pivoting is needed, which would undo the order.
    factors = splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    found = factors.solve(known).T
    if rng is not None:
        found = found + noise * rng.standard_normal(found.shape)
    filled.reshape(len(filled), -1)[:, places] = found
    return filled


@lru_cache(maxsize=8)
def _grid(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return (P,) the order of elimination, (P, 8) the neighbours, P where there is none, and (8,) their weights."""
    height, width = shape
    numbers = np.full((height + 2, width + 2), height * width)
    numbers[1:-1, 1:-1] = np.arange(height * width).reshape(shape)
    around = [numbers[1 + y : 1 + y + height, 1 + x : 1 + x + width].ravel() for y, x in _OFFSETS]
    weights = np.array([_WEIGHTS[1 + y, 1 + x] for y, x in _OFFSETS])
    return np.concatenate(_dissect(numbers[1:-1, 1:-1])), np.stack(around, axis=1), weights


def _dissect(block: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the pixels of a block, the line that cuts it in two after both halves, and so on within each."""
    if block.size <= _LEAF or min(block.shape) < 1:
        return [block.ravel()]
    if block.shape[0] < block.shape[1]:
        return _dissect(block.T)
    middle = block.shape[0] // 2
    return [*_dissect(block[:middle]), *_dissect(block[middle + 1 :]), block[middle]]
