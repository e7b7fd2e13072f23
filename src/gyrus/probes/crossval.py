"""Scores for every slice from a classifier that has seen no slice of its group: fixed, never tuned to a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
TREES = 100
_ROWS = 512


def folds_of(labels: NDArray[np.int64], groups: Sequence[str] | None, folds: int, seed: int) -> NDArray[np.int64]:
    """Return for each of N slices the fold in which it is tested.

    Args:
        labels: (N,) class indices; every fold has about the same share of each class.
        groups: N names; a group is tested as a whole. None lets every slice stand alone (record-wise).
        folds: how many; at most as many as any class has groups.
        seed: of the shuffle.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    fold = np.empty(len(labels), dtype=np.int64)
    numbers: dict[str, int] = {}  # in order of appearance, so that the names of groups do not matter
    codes = None if groups is None else [numbers.setdefault(g, len(numbers)) for g in groups]
    parts = splitter(folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, codes)
    for i, (_, test) in enumerate(parts):
        fold[test] = i
    return fold


def scores_of(
    features: NDArray[Any], labels: NDArray[np.int64], fold: NDArray[np.int64], *, nearest: bool, seed: int
) -> NDArray[np.float64]:
    """Return (N, C) scores, each slice scored by a classifier fitted on the other folds; the highest is the guess."""
    scores = np.empty((len(labels), int(labels.max()) + 1))
    for i in np.unique(fold):
        test, train = fold == i, fold != i
        if nearest:
            scores[test] = nearest_scores(features[train], labels[train], features[test], scores.shape[1])
        else:
            scores[test] = forest_scores(features[train], labels[train], features[test], scores.shape[1], seed)
    return scores


def forest_scores(
    train: NDArray[Any], labels: NDArray[np.int64], test: NDArray[Any], classes: int, seed: int
) -> NDArray[np.float64]:
    """Return (N, C) class probabilities of extremely randomised trees (Geurts et al. 2006), classes weighted equally.

    Trees, because a shortcut is often a handful of exact values (one width, one compression table), to which any
    monotone scaling of the features is the same.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    if (train == train[0]).all():  # a forest of nothing but guesses, each fold's another by the last digit
        return np.full((len(test), classes), 1 / classes)
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed)
    forest.fit(train, labels)
    scores = np.zeros((len(test), classes))
    scores[:, forest.classes_] = forest.predict_proba(test)
    return scores


def nearest_scores(
    train: NDArray[np.float32], labels: NDArray[np.int64], test: NDArray[np.float32], classes: int
) -> NDArray[np.float64]:
    """Return (N, C): the correlation with the most similar training slice of each class, -1 for a class with none."""
    scores = np.full((len(test), classes), -1.0)
    for start in range(0, len(test), _ROWS):
        similar = test[start : start + _ROWS] @ train.T
        for c in np.unique(labels):
            scores[start : start + _ROWS, c] = similar[:, labels == c].max(axis=1)
    return scores
