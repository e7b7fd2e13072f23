"""95 % intervals from a bootstrap over patients: slices of one person are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % percentile interval.

    Attributes:
        value: on all the data; NaN where undefined.
        low: 2.5th percentile over the replicates; NaN where one group alone decides the value, since drawing it again
            and again says nothing of others.
        high: 97.5th; NaN likewise.
        n: slices (or patients) the value is a mean of.
        groups: independent units drawn.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int

    def __str__(self) -> str:
        if self.value != self.value:
            return "-"
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.low == self.low else "")


class Bootstrap:
    """Whole patients drawn with replacement (Efron & Tibshirani 1993, ch. 8), the same draws for every figure.

    Args:
        groups: N group names, one per slice: the patient, or where patients are unknown the split's group or the slice.
        seed: of the draws.
        replicates: how many.
    """

    def __init__(self, groups: Sequence[str], seed: int = 0, replicates: int = REPLICATES) -> None:
        names, self.index = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
        self.groups = len(names)
        draws = np.random.default_rng(seed).integers(0, self.groups, (replicates, self.groups))
        self.weights = np.zeros((replicates, self.groups))
        np.add.at(self.weights, (np.arange(replicates)[:, None], draws), 1)

    def totals(self, values: NDArray[np.number]) -> NDArray[np.float64]:
        """Return the sum of ``values`` (N, ...) in each replicate: (B, ...)."""
        return np.asarray(np.tensordot(self.weights, self._sums(values), axes=1))

    def _sums(self, values: NDArray[np.number]) -> NDArray[np.float64]:
        """Return the sum of ``values`` (N, ...) in each group: (G, ...)."""
        sums = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(sums, self.index, values)
        return sums

    def mean(self, values: NDArray[np.number]) -> Interval:
        """Return the mean of (N,) values with its interval; NaN values are left out of both."""
        numbers = np.asarray(values, dtype=np.float64)
        known = ~np.isnan(numbers)
        if not known.any():
            return Interval(np.nan, np.nan, np.nan, 0, 0)
        sums, counts = self.totals(np.where(known, numbers, 0.0)), self.totals(known)
        replicates = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
        groups = len(np.unique(self.index[known]))
        return interval(float(numbers[known].mean()), replicates, int(known.sum()), groups)

    def statistic(
        self, values: NDArray[np.number], of_totals: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> Interval:
        """Return any function of summed per-slice values, for example of a confusion matrix, with its interval.

        It has none where the figure is undefined without one of the groups, as is the recall of a class that a single
        patient has.

        Args:
            values: (N, ...) per slice.
            of_totals: maps sums of shape (B, ...) to figures of shape (B,), NaN where undefined.
        """
        total = values.sum(axis=0, dtype=np.float64)
        value = float(of_totals(total[None])[0])
        if self.groups < 2 or np.isnan(of_totals(total - self._sums(values))).any():
            return Interval(value, np.nan, np.nan, len(values), self.groups)
        return interval(value, of_totals(self.totals(values)), len(values), self.groups)


def hangs_on_one(truth: NDArray[np.bool_], groups: NDArray[np.int64]) -> bool:
    """Return whether one group has all slices of which something is true, or all of which it is not.

    What tells the two apart, as an AUROC does, then has no interval: without the group it is undefined.

    Args:
        truth: (N,).
        groups: (N,) which group each slice is of.
    """
    return min(len(np.unique(groups[truth])), len(np.unique(groups[~truth]))) < 2


def drawn_are(groups: Sequence[str], patients: bool) -> str:
    """Return what a bootstrap over the groups of N slices draws, in the plural.

    Args:
        groups: N names.
        patients: whether the patient of any slice is known.

    Returns:
        "patients" where one is known, else "groups" where slices share one (a study, copies of one picture), else
        "slices".
    """
    if patients:
        return "patients"
    return "groups" if len(set(groups)) < len(groups) else "slices"


def interval(value: float, replicates: NDArray[np.float64], n: int, groups: int) -> Interval:
    """Return value with the central 95 % of the replicates that are defined, and without where groups are under two.

    Args:
        value: on all the data.
        replicates: (B,) of the bootstrap.
        n: slices (or patients) behind the value.
        groups: independent units behind it.
    """
    known = replicates[~np.isnan(replicates)]
    if groups < 2 or not len(known) or value != value:
        return Interval(value, np.nan, np.nan, n, groups)
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value, float(low), float(high), n, groups)
