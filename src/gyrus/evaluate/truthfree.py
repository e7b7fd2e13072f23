"""Numbers of a map that need no outline, and how well each tells a wrong prediction or a wrong map.

They answer "when is the map wrong?" at the time it is looked at: a number that separates wrong from right with an AUROC
clearly above that of the network's own confidence is worth showing beside the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gyrus.evaluate.agreement import rank_correlation
from gyrus.evaluate.cards import Card
from gyrus.evaluate.classification import roc_auc
from gyrus.intervals import Bootstrap, Interval, hangs_on_one, interval

CARDS = (
    Card(
        "concentration",
        "truth-free",
        "Concentration",
        "Gini index of |map|: 1 - 2 sum_k |v_k| (n - k + 1/2) / (n sum |v|), v in ascending order",
        "Hurley & Rickard 2009, eq. 1; Chalasani et al. 2020",
        "0 for a blank map; NaN where it is not finite",
        better="neither",
    ),
    Card(
        "entropy",
        "truth-free",
        "Entropy",
        "-sum q log q / log n, q = relu(map) / sum relu(map), over n pixels",
        "Shannon 1948; Bhatt et al. 2020, sec. 3.3",
        "1 where no value is positive, as for a blank map; NaN where it is not finite",
        better="neither",
    ),
    Card(
        "method_agreement",
        "truth-free",
        "Agreement between methods",
        "mean rank correlation of the map with the other methods' maps of the slice",
        "Spearman 1904",
        "pairs of maps that are undefined are left out; NaN where none is left",
        low=-1.0,
        better="neither",
    ),
    Card(
        "error_auroc",
        "truth-free",
        "AUROC for errors",
        "P(number of a wrong slice < that of a right one), ties half",
        "Hanley & McNeil 1982; Hendrycks & Gimpel 2017",
        "NaN where all slices, or none, are wrong; slices whose number is NaN are left out and counted",
    ),
)


def concentration(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Gini index of the absolute values of N maps: 0 spread evenly, near 1 in one pixel.

    Args:
        maps: (N, h, w).

    Returns:
        (N,) in [0, 1); 0 for a blank map, NaN for one that is not finite.
    """
    flat = np.sort(np.abs(_flat(maps)), axis=1)
    n, total = flat.shape[1], flat.sum(axis=1)
    weights = n - np.arange(1, n + 1) + 0.5
    share = np.divide(flat @ weights, n * total, out=np.full(len(flat), 0.5), where=total > 0)
    return np.where(_finite(maps), 1 - 2 * share, np.nan)


def entropy(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the entropy of the positive part of N maps as shares of a whole: 0 in one pixel, 1 spread evenly.

    Args:
        maps: (N, h, w).

    Returns:
        (N,) in [0, 1]; 1 where no value is positive, NaN for a map that is not finite.
    """
    flat = np.maximum(_flat(maps), 0)
    n, total = flat.shape[1], flat.sum(axis=1, keepdims=True)
    q = np.divide(flat, total, out=np.full_like(flat, 1 / n), where=total > 0)
    logs = np.log(q, out=np.zeros_like(q), where=q > 0)
    nats = -(q * logs).sum(axis=1)
    return np.where(_finite(maps), np.clip(nats / np.log(n), 0, 1) if n > 1 else 0.0, np.nan)


def method_agreement(maps: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
    """Return for each of at least two methods how well its map of each slice agrees with the others'.

    Args:
        maps: method -> (N, h, w) on one grid.

    Returns:
        method -> (N,) mean rank correlation in [-1, 1].
    """
    names = list(maps)
    pairs = {(a, b): rank_correlation(maps[a], maps[b]) for i, a in enumerate(names) for b in names[i + 1 :]}
    return {m: _mean_of_known([r for pair, r in pairs.items() if m in pair]) for m in names}


def error_auroc(
    numbers: NDArray[np.floating], wrong: NDArray[np.bool_], groups: Sequence[str], *, seed: int = 0
) -> Interval:
    """Return how well a number tells wrong slices from right ones, a low number counting as a sign of a wrong one.

    Below one half the number works the other way round: a high one is the sign. For the softmax's own row, pass the
    probability of the predicted class. Numbers compared with each other share their draws if they share the seed.

    Args:
        numbers: (N,); slices where it is NaN are left out.
        wrong: (N,) whether the prediction, or the map, was wrong.
        groups: N patients.
        seed: of the bootstrap.

    Returns:
        The AUROC with its interval over patients; ``n`` is the slices it was computed on.
    """
    known = ~np.isnan(numbers)
    kept = np.flatnonzero(known)
    if not len(kept):
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    bootstrap = Bootstrap(groups, seed)
    weights = bootstrap.weights[:, bootstrap.index[kept]]
    truth, scores = wrong[kept], -numbers[kept].astype(np.float64)
    whole = float(roc_auc(truth, scores, np.ones((1, len(kept))))[0])
    return _interval(whole, roc_auc(truth, scores, weights), truth, bootstrap.index[kept])


def error_auroc_gain(
    numbers: NDArray[np.floating],
    rival: NDArray[np.floating],
    wrong: NDArray[np.bool_],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> Interval:
    """Return by how much a number's AUROC for errors exceeds another's, on the slices where both are known.

    Each is read the way round in which it tells more, as found on all of these slices.

    Args:
        numbers: (N,).
        rival: (N,), for example the probability of the predicted class.
        wrong: (N,) whether the prediction, or the map, was wrong.
        groups: N patients.
        seed: of the bootstrap.
    """
    kept = np.flatnonzero(~np.isnan(numbers) & ~np.isnan(rival))
    if not len(kept):
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    bootstrap = Bootstrap(groups, seed)
    weights = bootstrap.weights[:, bootstrap.index[kept]]
    ones, truth = np.ones((1, len(kept))), wrong[kept]
    gain, replicates = 0.0, np.zeros(len(weights))
    for sign, values in ((1.0, numbers), (-1.0, rival)):
        scores = values[kept].astype(np.float64)
        whole = float(roc_auc(truth, scores, ones)[0])
        scores = scores if whole >= 0.5 else -scores
        gain += sign * max(whole, 1 - whole)
        replicates += sign * roc_auc(truth, scores, weights)
    return _interval(gain, replicates, truth, bootstrap.index[kept])


def _interval(
    value: float, replicates: NDArray[np.float64], truth: NDArray[np.bool_], groups: NDArray[np.int64]
) -> Interval:
    """Return a figure with its interval, and without one where a single group has all the errors, or none has any."""
    drawn = np.full_like(replicates, np.nan) if hangs_on_one(truth, groups) else replicates
    return interval(value, drawn, len(truth), len(np.unique(groups)))


def _flat(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, pixels), zeros for a map that is not finite."""
    return np.where(_finite(maps)[:, None, None], maps, 0).reshape(len(maps), -1).astype(np.float64)


def _finite(maps: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(maps).all(axis=(1, 2)))


def _mean_of_known(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    stacked = np.stack(columns)
    known = ~np.isnan(stacked)
    sums = np.where(known, stacked, 0.0).sum(axis=0)
    return np.asarray(np.divide(sums, known.sum(axis=0), out=np.full(len(sums), np.nan), where=known.any(axis=0)))
