"""Which way up a slice lies, told by the directions of its edges: a test for slices upside down."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE, CELL, DIRECTIONS = 96, 8, 12
"""Pixels to a side of the copy that edges are sought in, and of a cell of it; directions that are told apart."""
CELLS = (SIDE // CELL) ** 2
EDGES = CELLS * DIRECTIONS
"""Numbers that describe the edges of one slice."""

UPRIGHT = "upright"
"""Name of the weights among what a calibrated model keeps beside its own."""

Edges = NDArray[np.float16]


def edges(slices: NDArray[np.uint8]) -> Edges:
    """Return (N, 1728): in each of 12 x 12 cells, how strong the edges of each of 12 directions are.

    Histograms of oriented gradients (Dalal & Triggs 2005, sec. 6) of a copy of 96 x 96 pixels, over the full circle,
    with the square root taken and each cell scaled by its own length + 1, so that what is nearly even stays small.
    Turning the slice by 180 degrees moves cells and directions and changes nothing else.

    Args:
        slices: (N, S, S), as the network sees them.
    """
    return np.array([_of_one(s) for s in slices], dtype=np.float16).reshape(-1, EDGES)


def learn_upright(found: Edges) -> NDArray[np.float32]:
    """Return (1728,) weights that tell slices from the same ones turned by 180 degrees.

    A logistic regression (L2 penalty, C = 1) without an intercept, stopped where no gradient of the mean loss is above
    0.001. With thousands of slices the stop holds the weights back as much as the penalty does. They are a weighted sum
    over all slices, of which none is kept; one slice alone could be guessed from its weights.

    Args:
        found: (N, 1728) from :func:`edges`, of slices that lie as they should.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and what runs an exported model does without

    upright = found.astype(np.float64)
    turned_over = turn_over(upright)
    learned = LogisticRegression(fit_intercept=False, tol=1e-3, max_iter=1000)
    learned.fit(np.concatenate([upright, turned_over]), np.repeat([0, 1], len(found)))
    return np.asarray(learned.coef_[0], dtype=np.float32)


def turned(weights: NDArray[np.generic], found: Edges) -> NDArray[np.float64]:
    """Return (N,): the log odds that a slice lies upside down; of a slice without edges 0.

    No network is asked; most of them answer for either way up alike.

    Args:
        weights: from :func:`learn_upright`.
        found: (N, 1728) from :func:`edges`.
    """
    return np.asarray(found.astype(np.float32) @ np.asarray(weights, dtype=np.float32), dtype=np.float64)


def turn_over(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 1728): the edges of the same slices turned by 180 degrees."""
    cells = found.reshape(-1, CELLS, DIRECTIONS)[:, ::-1]
    return np.roll(cells, DIRECTIONS // 2, axis=2).reshape(-1, EDGES)


_ROWS = np.arange(SIDE) // CELL
_CELL = _ROWS[:, None] * (SIDE // CELL) + _ROWS
"""Which cell each pixel is in."""


def _of_one(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (144, 12) of one slice."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    down, across = np.gradient(small, axis=0), np.gradient(small, axis=1)
    strength = np.hypot(down, across)
    angle = np.arctan2(down, across) * (DIRECTIONS / (2 * np.pi)) % DIRECTIONS
    before = np.floor(angle)
    places = [_CELL * DIRECTIONS + (before + step).astype(int) % DIRECTIONS for step in (0, 1)]
    shares = [strength * (before + 1 - angle), strength * (angle - before)]
    total = np.bincount(np.ravel(places), np.ravel(shares), minlength=EDGES)
    found = np.sqrt(total.reshape(CELLS, DIRECTIONS) / CELL**2)
    return np.asarray(found / (np.linalg.norm(found, axis=1, keepdims=True) + 1))
