"""Two models, or two protocols, side by side: how much better one is, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from gyrus.errors import InputError
from gyrus.intervals import Bootstrap, Interval, interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is known of b beside a.

    Attributes:
        a: accuracy of a.
        b: accuracy of b.
        difference: b minus a, in [-1, 1].
        only_a: slices that a alone has right; None where the slices are not the same.
        only_b: slices that b alone has right; None likewise.
        mcnemar_p: two-sided, of the exact McNemar test; None likewise.
    """

    a: Interval
    b: Interval
    difference: Interval
    only_a: int | None = None
    only_b: int | None = None
    mcnemar_p: float | None = None


def compare_paired(
    correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], groups: Sequence[str], seed: int = 0
) -> Comparison:
    """Compare two sets of answers on the same slices.

    The interval comes of drawing whole patients with replacement, the same for both. McNemar's test (Psychometrika
    1947, in its exact form: a binomial of 1/2 over the slices that one alone has right) takes slices for independent,
    which those of one person are not, so its p is too small; the interval is what to believe.

    Args:
        correct_a: (N,) whether a has each slice right.
        correct_b: (N,) b, in the same order.
        groups: N names of patients, or of clusters of copies.
        seed: of the bootstrap.

    Raises:
        InputError: there is no slice, or the three differ in length.
    """
    a, b = _checked(correct_a, groups), _checked(correct_b, groups)
    bootstrap = Bootstrap(groups, seed)
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    discordant = only_a + only_b
    return Comparison(
        a=bootstrap.mean(a),
        b=bootstrap.mean(b),
        difference=bootstrap.mean(b - a),
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=float(stats.binomtest(only_a, discordant).pvalue) if discordant else 1.0,
    )


def compare_independent(
    correct_a: NDArray[np.bool_],
    groups_a: Sequence[str],
    correct_b: NDArray[np.bool_],
    groups_b: Sequence[str],
    seed: int = 0,
) -> Comparison:
    """Compare answers on different slices, for example the test parts of two splits.

    Each side is drawn on its own, whole patients with replacement, as if no patient were on both. Where some are, and
    are hard or easy for both, the interval is wider than it need be; on the same slices, use :func:`compare_paired`.

    Args:
        correct_a: (N,) whether a has each of its slices right.
        groups_a: N names of patients, or of clusters of copies.
        correct_b: (M,) whether b has each of its own right.
        groups_b: M names.
        seed: of the two bootstraps.

    Raises:
        InputError: a side has no slice, or not as many answers as names.
    """
    a, b = _checked(correct_a, groups_a), _checked(correct_b, groups_b)
    seeds = np.random.SeedSequence(seed).generate_state(2)
    first, second = (Bootstrap(g, int(s)) for g, s in zip((groups_a, groups_b), seeds, strict=True))
    replicates = _accuracies(second, b) - _accuracies(first, a)
    value = float(b.mean() - a.mean())
    difference = interval(value, replicates, len(a) + len(b), first.groups + second.groups)
    if min(first.groups, second.groups) < 2:  # drawing one patient again and again says nothing of others
        difference = replace(difference, low=np.nan, high=np.nan)
    return Comparison(a=first.mean(a), b=second.mean(b), difference=difference)


def _accuracies(bootstrap: Bootstrap, correct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B,) the accuracy in each replicate; one never draws no patient, so none is undefined."""
    return np.asarray(bootstrap.totals(correct) / bootstrap.totals(np.ones_like(correct)))


def _checked(correct: NDArray[np.bool_], groups: Sequence[str]) -> NDArray[np.float64]:
    """Return the answers as (N,) 0 and 1."""
    answers = np.asarray(correct, dtype=np.float64)
    if not len(answers):
        raise InputError("there is no slice to compare the answers on: check that both models have predictions")
    if answers.shape != (len(groups),):
        raise InputError(
            f"{len(answers)} answers cannot be compared over {len(groups)} patient names: give one name for each slice"
        )
    return answers
