"""Sets of classes that hold the true one as often as was asked for, class by class, counted over persons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-9


def person_weights(persons: Sequence[str] | NDArray[np.str_]) -> NDArray[np.float64]:
    """Return (N,) weights by which every person counts once, however many slices they have: 1 / their slices."""
    _, index, counts = np.unique(np.asarray(persons, dtype=object).astype(str), return_inverse=True, return_counts=True)
    return 1 / counts[index]


def class_thresholds(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], persons: Sequence[str], coverage: float
) -> NDArray[np.float64]:
    """Return for each class the least probability with which it belongs to a slice's set.

    Hierarchical conformal prediction (Lee, Barber & Willett 2023, "HCP"), within each class (Vovk 2005, "Mondrian";
    Sadinle et al. 2019 for the score, 1 - probability of the class). Of class c, with K persons who have slices of it,
    person k having N_k, the threshold is the largest t for which::

        sum over k of (share of person k's N_k slices with probability of c >= t) / (K + 1)  >=  coverage

    If a new person of class c is exchangeable with these K, one of their slices of class c, drawn at random, has c in
    its set with probability of at least ``coverage``: K + 1 persons share the mass equally, slices of one person share
    their person's, and the new person's is counted as missed. With one slice per person this is split conformal
    prediction, the ceil((K + 1) coverage)-th of K scores.

    Args:
        probabilities: (N, C) of the calibration slices.
        truth: (N,) class indices.
        persons: N ids.
        coverage: in (0, 1).

    Returns:
        (C,) in [0, 1]. 0, with which the class is in every set, where persons are fewer than :func:`needed`, 19 for
        0.95: nothing else can be promised.
    """
    names = np.asarray(persons, dtype=object).astype(str)
    thresholds = np.zeros(probabilities.shape[1])
    for c in range(len(thresholds)):
        rows = np.flatnonzero(truth == c)
        rows = rows[np.argsort(-probabilities[rows, c], kind="stable")]
        mass = np.cumsum(person_weights(names[rows])) / (len(np.unique(names[rows])) + 1)
        enough = np.flatnonzero(mass >= coverage - _ROUNDING)
        if len(enough):
            thresholds[c] = probabilities[rows[enough[0]], c]
    return thresholds


def needed(coverage: float) -> int:
    """Return how many persons of a class it takes to leave the class out of any set: coverage / (1 - coverage)."""
    return math.ceil(coverage / (1 - coverage) - _ROUNDING)


def prediction_sets(probabilities: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return (N, C): whether each class belongs to each slice's set. A set may be empty, or hold every class.

    Args:
        probabilities: (N, C); rows of NaN give empty sets.
        thresholds: (C,) from :func:`class_thresholds`.
    """
    return np.asarray(probabilities >= thresholds)


def upper_quantile(values: NDArray[np.floating], persons: Sequence[str], share: float) -> float:
    """Return the least value that at most ``share`` of the slices exceed, every person counting once.

    Args:
        values: (N,), N at least 1.
        persons: N ids.
        share: in [0, 1).
    """
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(person_weights(persons)[order])
    return float(values[order[int(np.argmax(mass >= (1 - share) * mass[-1] - _ROUNDING))]])
