"""Accuracy and its relatives, per slice and per patient, each with an interval over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.confusion import rate
from gyrus.errors import InputError
from gyrus.intervals import Bootstrap, Interval, drawn_are, hangs_on_one, interval
from gyrus.predictions import Predictions

SUMMARY = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
PER_CLASS = ("precision", "recall", "f1")


def score_classification(
    predictions: Predictions, *, persons: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Score predictions against their labels, per slice and, where patients are known, per patient.

    A patient's probabilities are the mean of their slices'; their label is the one most of their slices carry. A slice
    whose patient is unknown is drawn on its own, or with its group, in intervals of slices, and is in no figure of
    patients.

    Args:
        predictions: labelled slices, refused ones too; rows that could not be read are left out and counted.
        persons: record id -> whose it is, where one person has several ids, or a group stands for an unknown one; by
            default the patient, or a slice of an unknown one alone.
        seed: of the bootstrap.

    Returns:
        ``{"slice": scores, "patient": scores or None, "unreadable": count, "interval_over": what was drawn}``, None
        where no patient is known, and what was drawn as :func:`gyrus.intervals.drawn_are` says it. Scores hold n,
        :data:`SUMMARY` as intervals, ``per_class`` with :data:`PER_CLASS` and ``roc_auc``, ``confusion`` (row = true
        class), and ``roc`` curves.

    Raises:
        InputError: no labelled slice, a label the model does not know, or logits that are not finite.
    """
    read = predictions.readable
    if not read:
        raise InputError("there is no readable slice to score: check the predictions' status column")
    broken = next((i for i in read if not np.isfinite(predictions.logits[i]).all()), None)
    if broken is not None:
        raise InputError(f"{predictions.files[broken]}: the model's logits are not finite: train it again, more slowly")
    truth = label_indices([predictions.labels[i] for i in read], predictions.classes)
    probabilities = predictions.probabilities[read]
    known = np.array([predictions.patients[i] is not None for i in read])
    groups = whose(predictions, persons)
    named = [g for g, k in zip(groups, known, strict=True) if k]
    of_patients = truth[known], probabilities[known], named, predictions.classes, seed
    return {
        "slice": _scores(truth, probabilities, predictions.classes, Bootstrap(groups, seed)),
        "patient": _per_patient(*of_patients) if named else None,
        "unreadable": len(predictions) - len(read),
        "interval_over": drawn_are(groups, bool(named)),
    }


def whose(predictions: Predictions, persons: Mapping[str, str] | None = None) -> list[str]:
    """Return whose each slice that could be read is: as ``persons`` says, else its patient, else its own id."""
    of = persons or {i: i if p is None else p for i, p in zip(predictions.ids, predictions.patients, strict=True)}
    return [of[predictions.ids[i]] for i in predictions.readable]


def label_indices(labels: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return (N,) class indices.

    Raises:
        InputError: a slice has no label, or one the model does not know.
    """
    index = {c: i for i, c in enumerate(classes)}
    unknown = [label for label in labels if label not in index]
    if unknown:
        raise InputError(f"label {unknown[0]!r} is not one the model knows ({', '.join(classes)}): correct the labels")
    return np.array([index[str(label)] for label in labels], dtype=np.int64)


def roc_auc(
    positive: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve for many weightings of the same slices at once.

    Args:
        positive: (N,) truth.
        scores: (N,) higher for positives.
        weights: (B, N) how often each slice counts.

    Returns:
        (B,): the weighted share of positive-negative pairs in the right order, ties half (Hanley & McNeil 1982);
        NaN where one side has no weight.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ordered, truth = weights[:, order], positive[order]
    tied_positive = np.add.reduceat(ordered * truth, starts, axis=1)
    tied_negative = np.add.reduceat(ordered * ~truth, starts, axis=1)
    below = np.cumsum(tied_negative, axis=1) - tied_negative
    pairs = tied_positive.sum(axis=1) * tied_negative.sum(axis=1)
    right = (tied_positive * (below + 0.5 * tied_negative)).sum(axis=1)
    return np.asarray(np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0))


def _scores(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    n, c = probabilities.shape
    cells = np.zeros((n, c, c), dtype=np.int64)
    cells[np.arange(n), truth, probabilities.argmax(axis=1)] = 1
    occurring = cells.sum(axis=(0, 2)) > 0
    weights = bootstrap.weights[:, bootstrap.index]
    per_class: dict[str, dict[str, Interval]] = {}
    roc: dict[str, dict[str, list[float]]] = {}
    for k, name in enumerate(classes):
        per_class[name] = {f: bootstrap.statistic(cells, partial(rate, name=f, of=k)) for f in PER_CLASS}
        positive, score = truth == k, probabilities[:, k]
        value = roc_auc(positive, score, np.ones((1, n)))[0]
        drawn = roc_auc(positive, score, weights)
        if hangs_on_one(positive, bootstrap.index):
            drawn[:] = np.nan
        per_class[name]["roc_auc"] = interval(float(value), drawn, n, bootstrap.groups)
        roc[name] = _roc_curve(positive, score)
    return {
        "n": n,
        "groups": bootstrap.groups,
        **{f: bootstrap.statistic(cells, partial(rate, name=f, expected=occurring)) for f in SUMMARY},
        "per_class": per_class,
        "confusion": cells.sum(axis=0).tolist(),
        "roc": roc,
    }


def _roc_curve(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return false- and true-positive rates from (0, 0) to (1, 1), or empty lists where one side is missing."""
    from sklearn.metrics import roc_curve

    if positive.all() or not positive.any():
        return {"fpr": [], "tpr": []}
    fpr, tpr, _ = roc_curve(positive, score)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist()}


def _per_patient(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    patients: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    names, index = np.unique(np.array(patients), return_inverse=True)
    counts = np.bincount(index)
    mean = np.stack([np.bincount(index, probabilities[:, k]) for k in range(len(classes))], axis=1) / counts[:, None]
    votes = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(votes, (index, truth), 1)
    return _scores(votes.argmax(axis=1), mean, classes, Bootstrap(names.tolist(), seed))
