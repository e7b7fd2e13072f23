"""The bootstrap over patients: by hand, wider for clustered data, and right about 95 times in 100."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.intervals import REPLICATES, Bootstrap, Interval, interval


def test_two_groups_by_hand() -> None:
    # Patients a (0, 0, 0) and b (1): the draws aa, ab, ba, bb have means 0, 1/4, 1/4, 1.
    boot = Bootstrap(["a", "a", "b", "a"], seed=1)
    assert boot.groups == 2
    assert boot.weights.shape == (REPLICATES, 2)
    assert (boot.weights.sum(axis=1) == 2).all()
    values = np.array([0.0, 0.0, 1.0, 0.0])
    sums, counts = boot.totals(values), boot.totals(np.ones(4))
    assert set((sums / counts).tolist()) == {0.0, 0.25, 1.0}
    share = np.mean(sums / counts == 0.25)
    assert share == pytest.approx(0.5, abs=0.05)
    got = boot.mean(values)
    assert (got.value, got.low, got.high, got.n, got.groups) == (0.25, 0.0, 1.0, 4, 2)


def test_one_group_says_nothing_of_others() -> None:
    """It has a value and no interval: drawing one person again and again is no certainty."""
    boot, values = Bootstrap(["a"] * 3), np.array([1.0, 2.0, 6.0])
    for got in (boot.mean(values), boot.statistic(values, lambda sums: sums / 3)):
        assert (got.value, got.n, got.groups) == (3.0, 3, 1)
        assert np.isnan([got.low, got.high]).all()
        assert not got.low > 0


def test_a_figure_that_hangs_on_one_group_has_no_interval() -> None:
    """Of five groups one alone has known values, or slices of the class whose recall is asked for."""
    boot = Bootstrap(list("aabcde"))
    got = boot.mean(np.array([1.0, 0.0, *[np.nan] * 4]))
    assert (got.value, got.n, got.groups) == (0.5, 2, 1)
    assert np.isnan([got.low, got.high]).all()

    def recall(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(sums[..., 0], sums[..., 1], out=np.full(len(sums), np.nan), where=sums[..., 1] > 0)

    hits, slices = np.array([1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 0, 0, 0])
    alone = boot.statistic(np.stack([hits, slices], axis=1), recall)
    assert (alone.value, alone.n, alone.groups) == (0.5, 6, 5)
    assert np.isnan([alone.low, alone.high]).all()
    slices[2] = 1
    shared = boot.statistic(np.stack([hits, slices], axis=1), recall)
    assert (shared.low, shared.high) == (0.0, 0.5)


def test_equal_groups_are_certain() -> None:
    got = Bootstrap(["a", "b"]).mean(np.ones(2))
    assert (got.low, got.high) == (1.0, 1.0)


def test_nan_is_left_out_of_value_counts_and_replicates() -> None:
    boot = Bootstrap(["a", "a", "b", "c"])
    got = boot.mean(np.array([1.0, np.nan, 3.0, np.nan]))
    assert (got.value, got.n, got.groups) == (2.0, 2, 2)
    assert (got.low, got.high) == (1.0, 3.0)  # draws of c alone are undefined, not zero
    none = boot.mean(np.full(4, np.nan))
    assert np.isnan([none.value, none.low, none.high]).all()
    assert (none.n, none.groups) == (0, 0)


def test_the_same_seed_gives_the_same_draws() -> None:
    groups, values = [f"p{i % 7}" for i in range(40)], np.random.default_rng(0).random(40)
    assert Bootstrap(groups, 3).mean(values) == Bootstrap(groups, 3).mean(values)
    assert Bootstrap(groups, 3).mean(values) != Bootstrap(groups, 4).mean(values)
    turned = Bootstrap(groups[::-1], 3).mean(values[::-1])  # the order of the slices is of no account
    assert (turned.low, turned.high) == pytest.approx(
        (Bootstrap(groups, 3).mean(values).low, Bootstrap(groups, 3).mean(values).high)
    )


def test_clustered_data_is_less_certain_over_patients_than_over_slices() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i // 10}" for i in range(200)]
    values = np.repeat(rng.normal(0, 1, 20), 10) + rng.normal(0, 0.2, 200)
    over_patients = Bootstrap(patients).mean(values)
    over_slices = Bootstrap([str(i) for i in range(200)]).mean(values)
    assert over_patients.value == over_slices.value
    assert over_patients.high - over_patients.low > 2 * (over_slices.high - over_slices.low)


def test_the_true_mean_is_inside_about_95_times_in_100() -> None:
    inside = {"patients": 0, "slices": 0}
    trials = 300
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        sizes = rng.integers(1, 12, 50)
        values = np.repeat(rng.normal(0.3, 1, 50), sizes) + rng.normal(0, 0.5, sizes.sum())
        patients = np.repeat([f"p{i}" for i in range(50)], sizes).tolist()
        groups = {"patients": patients, "slices": [str(i) for i in range(len(values))]}
        for unit, names in groups.items():
            got = Bootstrap(names, trial, replicates=400).mean(values)
            inside[unit] += got.low <= 0.3 <= got.high
    assert 0.90 <= inside["patients"] / trials <= 0.99
    assert inside["slices"] / trials < 0.80  # what would be claimed if slices of one patient were independent


def test_a_statistic_of_totals() -> None:
    boot = Bootstrap(["a", "b", "b"])
    table = np.array([[1, 2], [3, 4], [5, 10]])
    got = boot.statistic(table, lambda sums: sums[..., 0] / sums[..., 1])
    assert (got.value, got.n, got.groups) == (9 / 16, 3, 2)
    assert (got.low, got.high) == (1 / 2, 8 / 14)


def test_undefined_values_and_replicates() -> None:
    assert np.isnan(interval(np.nan, np.array([1.0, 2.0]), 2, 2).low)
    assert np.isnan(interval(1.0, np.array([np.nan]), 2, 2).high)
    assert interval(1.0, np.array([np.nan, 1.0, 1.0]), 2, 2).high == 1.0
    assert np.isnan(interval(1.0, np.array([1.0, 1.0]), 2, 1).high)


def test_as_text() -> None:
    assert str(Interval(0.5, 0.25, 0.75, 9, 3)) == "0.500 [0.250, 0.750]"
    assert str(Interval(0.5, np.nan, np.nan, 9, 1)) == "0.500"
    assert str(Interval(np.nan, np.nan, np.nan, 0, 0)) == "-"
