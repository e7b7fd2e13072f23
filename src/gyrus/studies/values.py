"""The figures of an experiment by name: what a study's table and its sentences refer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import log_softmax

from gyrus.confusion import rate
from gyrus.evaluate.calibration import confident_errors
from gyrus.intervals import Bootstrap, Interval
from gyrus.studies.trainings import Outcome, statement

Values = dict[str, Interval]
"""What was measured, by name. Where there is no interval, its ends are NaN."""

SUMMARY = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1")
OF_EPOCHS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def plain_value(value: float, n: int = 1) -> Interval:
    """Return a figure that has no interval."""
    return Interval(float(value), np.nan, np.nan, n, n)


def score(outcome: Outcome) -> Values:
    """Return what an experiment scored.

    Rows of all seeds are pooled, and a group is drawn with all of them: an interval is over patients (or clusters),
    for seeds tried on the same patients are no new patients. Its ``n`` counts slices once.

    Returns:
        :data:`SUMMARY`; ``precision:CLASS``, ``recall:CLASS`` and ``f1:CLASS``; ``test_loss``, the mean cross-entropy;
        ``confident_errors``, the share of the errors that the model is surer than 0.95 of; ``between_seeds``, the
        standard deviation of the accuracy over seeds; and, as means over runs at the epoch kept, :data:`OF_EPOCHS`.
    """
    c, slices = len(outcome.classes), len(set(outcome.ids))
    cells = np.zeros((len(outcome.ids), c, c), dtype=np.int64)
    cells[np.arange(len(outcome.ids)), outcome.truth, outcome.logits.argmax(axis=1)] = 1
    boot = Bootstrap(outcome.groups)
    occurring = cells.sum(axis=(0, 2)) > 0
    found = {name: boot.statistic(cells, partial(rate, name=name, expected=occurring)) for name in SUMMARY}
    for k, label in enumerate(outcome.classes):
        for name in ("precision", "recall", "f1"):
            value = boot.statistic(cells, partial(rate, name=name, of=k))
            found[f"{name}:{label}"] = value
    surprise = -log_softmax(outcome.logits.astype(np.float64), axis=1)
    found["test_loss"] = boot.mean(surprise[np.arange(len(outcome.ids)), outcome.truth])
    found = {name: replace(value, n=slices) for name, value in found.items()}
    wrong, sure = confident_errors(outcome.probabilities, outcome.truth)
    found["confident_errors"] = plain_value(sure / wrong if wrong else np.nan, wrong)
    per_seed = accuracy_by_seed(outcome)
    found["between_seeds"] = plain_value(
        float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else np.nan, len(per_seed)
    )
    for name in OF_EPOCHS:
        kept = [row[name] for row in outcome.chosen if name in row]
        if kept:
            found[name] = plain_value(float(np.mean(kept)), len(kept))
    return found


def accuracy_by_seed(outcome: Outcome) -> list[float]:
    """Return the accuracy of each seed's rows."""
    return [float(outcome.correct[outcome.seeds == s].mean()) for s in np.unique(outcome.seeds)]


def accuracy_by_run(outcome: Outcome) -> list[float]:
    """Return the accuracy of each run: seed by seed, fold by fold."""
    starts = np.cumsum([0, *(len(u.test) for u in outcome.units)])
    return [float(outcome.correct[a:b].mean()) for a, b in pairwise(starts)]


def confusion(outcome: Outcome) -> list[list[int]]:
    """Return the confusion matrix of all rows: true class by row."""
    c = len(outcome.classes)
    cells = np.bincount(outcome.truth * c + outcome.logits.argmax(axis=1), minlength=c * c)
    counts: list[list[int]] = cells.reshape(c, c).tolist()
    return counts


def facts(outcome: Outcome, stand_in: str | None) -> dict[str, Any]:
    """Return what is told beside the figures: split, seeds, runs, slices, minutes, recipe."""
    config = outcome.units[0].config
    sizes = [(len(u.split.train), len(u.split.val), len(u.test)) for u in outcome.units]
    return {
        "statement": statement(outcome),
        "record_wise": outcome.units[0].split.leaks,
        "seeds": len(set(outcome.seeds.tolist())),
        "runs": len(outcome.units),
        "slices": {part: _range(s[i] for s in sizes) for i, part in enumerate(("train", "val", "test"))},
        "groups": len(set(outcome.groups)),
        "model": config.model,
        "in_place_of": stand_in,
        "size": config.size,
        "epochs": config.epochs,
        "minutes": round(outcome.minutes, 1),
        "confusion": confusion(outcome),
        "classes": outcome.classes,
        "accuracy_by_seed": accuracy_by_seed(outcome),
    }


def find_value(results: Mapping[str, Values], reference: str) -> Interval | None:
    """Return the figure that STEP:VALUE names; None where the step was left out, or has no such figure here."""
    step, _, name = reference.partition(":")
    return results.get(step, {}).get(name or "accuracy")


def _range(numbers: Sequence[int] | Any) -> list[int]:
    found = sorted(set(numbers))
    return [found[0], found[-1]]
