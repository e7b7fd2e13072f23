"""How alike two maps of the same slice are: by rank, by their highest pixels, by structure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from gyrus.evaluate.cards import Card

TOP = 0.05
_WINDOW = 7
_UNLIKE = "0 where one of the two maps is blank; NaN where both are, or where a map is not finite"

CARDS = (
    Card(
        "rank_correlation",
        "agreement",
        "Spearman's rank correlation",
        "Pearson's r of the two maps' ranks, ties sharing their mean rank",
        "Spearman 1904; Adebayo et al. 2018, sec. 3.2",
        _UNLIKE,
        low=-1.0,
        better="neither",
    ),
    Card(
        "top_overlap",
        "agreement",
        "Overlap of the highest 5 %",
        "|T1 & T2| / |T|, T the highest 5 % of the pixels",
        "Adapted from Ghorbani et al. 2019, sec. 2 (top-k intersection)",
        "ties at the cut count as their expected overlap, so a blank map scores 5 %; NaN where a map is not finite",
        better="neither",
    ),
    Card(
        "ssim",
        "agreement",
        "Structural similarity",
        "mean over 7 x 7 windows of (2 m1 m2 + c1)(2 s12 + c2) / (m1^2 + m2^2 + c1) / (s1^2 + s2^2 + c2)",
        "Wang et al. 2004, eq. 13; Adebayo et al. 2018, sec. 3.2",
        _UNLIKE,
        low=-1.0,
        better="neither",
    ),
)


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return Spearman's rank correlation of N pairs of maps, ties sharing their mean rank.

    Args:
        first: (N, h, w).
        second: (N, h, w).

    Returns:
        (N,) in [-1, 1]; see :data:`CARDS` for blank maps.
    """
    a, b = (_centred_ranks(maps) for maps in (first, second))
    lengths = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return np.where(_defined(first, second), np.clip(found, -1.0, 1.0), np.nan)


def top_overlap(first: NDArray[np.float32], second: NDArray[np.float32], share: float = TOP) -> NDArray[np.float64]:
    """Return how much of the highest pixels two maps have in common.

    Args:
        first: (N, h, w).
        second: (N, h, w).
        share: of the pixels, at least one of which is taken.

    Returns:
        (N,) in [0, 1]; pixels that tie at the cut count as their expected overlap.
    """
    a, b = (_chosen(maps.reshape(len(maps), -1), share) for maps in (first, second))
    found = (a * b).sum(axis=1) / a.sum(axis=1)
    finite = np.isfinite(first).all(axis=(1, 2)) & np.isfinite(second).all(axis=(1, 2))
    return np.where(finite, found, np.nan)


def ssim(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the structural similarity of N pairs of maps, each scaled to [0, 1] first.

    Windows of 7 x 7 pixels of equal weight, c1 = 0.01^2, c2 = 0.03^2, sample variances, whole windows only.

    Args:
        first: (N, h, w), h and w at least 7.
        second: (N, h, w).

    Returns:
        (N,) in [-1, 1]; see :data:`CARDS` for blank maps.
    """
    defined = _defined(first, second)
    blank = _blank(first) | _blank(second)
    a, b = (_scaled(maps) for maps in (first, second))
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mean_a, mean_b = _windows(a), _windows(b)
    var_a, var_b = ((_windows(x * x) - m * m) * sample for x, m in ((a, mean_a), (b, mean_b)))
    both = (_windows(a * b) - mean_a * mean_b) * sample
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return np.where(defined, np.where(blank, 0.0, (above / below).mean(axis=(1, 2))), np.nan)


def agreement_matrix(maps: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the mean rank correlation over the slices between every two methods, undefined pairs of maps left out.

    Args:
        maps: M methods' maps, each (N, h, w) on one grid.

    Returns:
        (M, M) symmetric, 1 on the diagonal; NaN where two methods have no pair of maps that is defined.
    """
    found = np.eye(len(maps))
    for (i, a), (j, b) in combinations(enumerate(maps.values()), 2):
        pairs = rank_correlation(a, b)
        known = pairs[~np.isnan(pairs)]
        found[i, j] = found[j, i] = known.mean() if len(known) else np.nan
    return found


def _blank(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(maps.max(axis=(1, 2)) == maps.min(axis=(1, 2)))


def _defined(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    finite = np.isfinite(first).all(axis=(1, 2)) & np.isfinite(second).all(axis=(1, 2))
    return np.asarray(finite & ~(_blank(first) & _blank(second)))


def _centred_ranks(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    flat = np.nan_to_num(maps.reshape(len(maps), -1))
    return np.asarray(stats.rankdata(flat, axis=1) - (flat.shape[1] + 1) / 2)


def _chosen(flat: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Return (N, P) how likely each pixel is among the highest, ties being broken at random."""
    k = max(1, round(share * flat.shape[1]))
    level = np.partition(flat, flat.shape[1] - k, axis=1)[:, flat.shape[1] - k, None]
    above, tied = flat > level, flat == level
    left = k - above.sum(axis=1, keepdims=True)
    return np.asarray(above + tied * (left / np.maximum(tied.sum(axis=1, keepdims=True), 1)))


def _scaled(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = np.nan_to_num(maps.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = exact.min(axis=(1, 2), keepdims=True), exact.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(exact - low, high - low, out=np.zeros_like(exact), where=high > low))


def _windows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each whole window: (N, h, w) to (N, h - 6, w - 6)."""
    edge = _WINDOW // 2
    means = ndimage.uniform_filter(values, size=(1, _WINDOW, _WINDOW), mode="constant")
    return np.asarray(means[:, edge:-edge, edge:-edge])
