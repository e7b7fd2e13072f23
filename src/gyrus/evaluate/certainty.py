"""How far probabilities, sets and refusals of a run hold on the slices it was judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.certainty.conformal import person_weights
from gyrus.certainty.temperature import softmax
from gyrus.evaluate.calibration import Bin, bin_gaps, brier_scores, from_gaps, reliability
from gyrus.evaluate.classification import label_indices, whose
from gyrus.intervals import Bootstrap, Interval
from gyrus.predictions import FLAGGED, OK, REFUSED, Certainty, Predictions

STATUSES = (OK, FLAGGED, REFUSED)


def score_certainty(
    predictions: Predictions, *, persons: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Score what a model says of its own certainty.

    Probabilities are scored on every slice that could be read, refused ones too, so that the figures with and without
    calibration are of the same slices. Sets are scored where there are any: on the slices that were answered.

    Args:
        predictions: labelled slices.
        persons: as in :func:`gyrus.score_classification`.
        seed: of the bootstrap over persons.

    Returns:
        ``{"calibrated", "ece", "brier", "uncalibrated": {"ece", "brier"} or None, "bins", "empty_bins", "sets": None or
        {"asked", "coverage", "per_class", "size", "single", "empty"}, "answers": {"counts", "refused",
        "accuracy"}}``; figures are intervals, ``bins`` are those of :func:`gyrus.evaluate.calibration.reliability`.

    Raises:
        InputError: a label the model does not know.
    """
    read = predictions.readable
    truth = label_indices([predictions.labels[i] for i in read], predictions.classes)
    named = whose(predictions, persons)
    bootstrap = Bootstrap(named, seed)
    probabilities = predictions.probabilities[read]
    bins = reliability(probabilities, truth)
    calibrated = predictions.certainty is not None
    return {
        "calibrated": calibrated,
        **_figures(probabilities, truth, bootstrap),
        "uncalibrated": _figures(softmax(predictions.logits[read]), truth, bootstrap) if calibrated else None,
        "bins": [_bar(b, probabilities, truth, bootstrap) for b in bins],
        "empty_bins": sum(b.n == 0 for b in bins),
        "sets": None if predictions.certainty is None else _sets(predictions, predictions.certainty, named, seed),
        "answers": _answers(predictions, truth, bootstrap),
    }


def _figures(probabilities: NDArray[np.float64], truth: NDArray[np.int64], bootstrap: Bootstrap) -> dict[str, Interval]:
    return {
        "ece": bootstrap.statistic(bin_gaps(probabilities, truth), from_gaps),
        "brier": bootstrap.mean(brier_scores(probabilities, truth)),
    }


def _bar(
    found: Bin, probabilities: NDArray[np.float64], truth: NDArray[np.int64], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return a bar of the reliability diagram, its accuracy with an interval."""
    confidence = probabilities.max(axis=1)
    inside = (confidence > found.low) & (confidence <= found.high)
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    return asdict(found) | {"accuracy": bootstrap.mean(np.where(inside, right, np.nan))}


def _sets(predictions: Predictions, certainty: Certainty, named: list[str], seed: int) -> dict[str, Any]:
    """Return coverage and size of the sets of the slices that were answered, every person counting once."""
    persons = dict(zip(predictions.readable, named, strict=True))
    answered = predictions.answered
    sets = [certainty.sets[i] or () for i in answered]
    labels = [predictions.labels[i] for i in answered]
    covered = np.array([label in s for label, s in zip(labels, sets, strict=True)], dtype=float)
    sizes = np.array([len(s) for s in sets], dtype=float)
    who = [persons[i] for i in answered]
    return {
        "asked": certainty.coverage,
        "coverage": mean_over_persons(covered, who, seed),
        "per_class": {
            c: mean_over_persons(
                *_only(covered, who, [label == c for label in labels]),
                seed,
            )
            for c in predictions.classes
        },
        "size": mean_over_persons(sizes, who, seed),
        "single": mean_over_persons((sizes == 1).astype(float), who, seed),
        "empty": int((sizes == 0).sum()),
    }


def _only(values: NDArray[np.float64], persons: list[str], chosen: list[bool]) -> tuple[NDArray[np.float64], list[str]]:
    return values[np.array(chosen, dtype=bool)], [p for p, c in zip(persons, chosen, strict=True) if c]


def mean_over_persons(values: NDArray[np.float64], persons: list[str], seed: int = 0) -> Interval:
    """Return the mean over persons of the mean of their (N,) values, with its interval; NaN where there is none."""
    if not len(values):
        return Interval(np.nan, np.nan, np.nan, 0, 0)
    weights = person_weights(persons)

    def ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(sums[..., 0] / sums[..., 1])

    return Bootstrap(persons, seed).statistic(np.stack([values * weights, weights], axis=1), ratio)


def _answers(predictions: Predictions, truth: NDArray[np.int64], bootstrap: Bootstrap) -> dict[str, Any]:
    read = predictions.readable
    right = predictions.probabilities[read].argmax(axis=1) == truth
    refused = np.array([predictions.status[i] == REFUSED for i in read], dtype=bool)
    counts = Counter(predictions.status[i] for i in read)
    return {
        "counts": {s: counts[s] for s in STATUSES},
        "refused": bootstrap.mean(refused.astype(float)),
        "accuracy": bootstrap.mean(np.where(refused, np.nan, right.astype(float))),
    }
