"""Numbers of a map that need no outline, and what they tell about errors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gyrus.evaluate.truthfree import concentration, entropy, error_auroc, error_auroc_gain, method_agreement


def one(values: list[list[float]]) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_concentration_by_hand() -> None:
    assert concentration(one([[1, 1], [1, 1]])) == pytest.approx([0])
    assert concentration(one([[0, 0], [0, 5]])) == pytest.approx([1 - 1 / 4])
    # Ascending 1 2 3 4 with weights 3.5 2.5 1.5 0.5: 1 - 2 * 15 / (4 * 10)
    assert concentration(one([[4, -1], [-2, 3]])) == pytest.approx([1 - 2 * 15 / 40])
    differences = np.abs(np.subtract.outer([4, 1, 2, 3], [4, 1, 2, 3])).mean()
    assert concentration(one([[4, 1], [2, 3]])) == pytest.approx([differences / (2 * 2.5)])  # Gini's own definition


def test_entropy_by_hand() -> None:
    assert entropy(one([[1, 1], [1, 1]])) == pytest.approx([1])
    assert entropy(one([[0, -7], [0, 5]])) == pytest.approx([0])
    assert entropy(one([[2, 2], [-1, 0]])) == pytest.approx([0.5])
    assert entropy(one([[3, 1], [0, 0]])) == pytest.approx([-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(4)])


def test_degenerate_maps() -> None:
    for value in (0.0, 2.0, -2.0):
        blank = np.full((2, 3, 4), value, dtype=np.float32)
        assert concentration(blank) == pytest.approx([0, 0], abs=1e-12)
        assert entropy(blank) == pytest.approx([1, 1])
    for bad in (np.nan, np.inf, -np.inf):
        maps = np.ones((2, 3, 4), dtype=np.float32)
        maps[1, 0, 0] = bad
        for rule in (concentration, entropy):
            assert np.isnan(rule(maps)).tolist() == [False, True]
    assert entropy(np.ones((1, 1, 1), dtype=np.float32)) == 0


def test_neither_depends_on_the_unit() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    for rule in (concentration, entropy):
        assert rule(maps * 1024) == pytest.approx(rule(maps))


def test_agreement_between_methods() -> None:
    a = np.arange(12, dtype=np.float32).reshape(1, 3, 4).repeat(2, axis=0)
    got = method_agreement({"a": a, "same": a * 2, "turned": -a})
    assert {k: v.tolist() for k, v in got.items()} == {
        "a": pytest.approx([0, 0]), "same": pytest.approx([0, 0]), "turned": pytest.approx([-1, -1]),
    }  # fmt: skip
    broken = a.copy()
    broken[1] = np.nan
    partly = method_agreement({"a": a, "same": a, "broken": broken})
    assert partly["a"] == pytest.approx([1, 1])
    assert np.isnan(partly["broken"]).tolist() == [False, True]


def test_auroc_for_errors_by_hand() -> None:
    numbers = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    wrong = np.array([False, False, True, False, True])
    patients = ["a", "b", "c", "d", "e"]
    got = error_auroc(numbers, wrong, patients)
    assert got.value == pytest.approx(5 / 6)  # of six pairs one is in the wrong order
    assert got.value == pytest.approx(roc_auc_score(wrong, -numbers))
    assert (got.n, got.groups) == (5, 5)
    assert got.low <= got.value <= got.high
    assert error_auroc(-numbers, wrong, patients).value == pytest.approx(1 / 6)
    assert error_auroc(np.ones(5), wrong, patients).value == pytest.approx(0.5)


def test_the_interval_is_over_patients() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(60) < 0.4
    numbers = rng.normal(size=60) - wrong
    alone = error_auroc(numbers, wrong, [str(i) for i in range(60)])
    # The same slices five times over are no more evidence than once, if it is known whose they are.
    many = error_auroc(np.repeat(numbers, 5), np.repeat(wrong, 5), [str(i) for i in range(60) for _ in range(5)])
    assert (many.value, many.low, many.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert (many.n, many.groups) == (300, 60)


def test_slices_without_a_number_are_left_out() -> None:
    numbers = np.array([0.9, np.nan, 0.2, np.nan])
    got = error_auroc(numbers, np.array([False, True, True, False]), ["a", "a", "b", "c"])
    assert (got.value, got.n, got.groups) == (1.0, 2, 2)


@pytest.mark.parametrize("wrong", [[True, True], [False, False]])
def test_without_both_kinds_there_is_nothing_to_tell_apart(wrong: list[bool]) -> None:
    assert np.isnan(error_auroc(np.array([0.1, 0.2]), np.array(wrong), ["a", "b"]).value)
    nothing = error_auroc(np.full(2, np.nan), np.array([True, False]), ["a", "b"])
    assert np.isnan(nothing.value)
    assert nothing.n == 0


def test_one_patient_with_all_errors_gives_no_interval() -> None:
    rng = np.random.default_rng(0)
    wrong = np.r_[np.ones(6, dtype=bool), np.zeros(30, dtype=bool)]
    numbers, rival = rng.normal(size=36) - wrong, rng.normal(size=36)
    one = ["a"] * 6 + [str(i) for i in range(30)]
    for got in (error_auroc(numbers, wrong, one), error_auroc_gain(numbers, rival, wrong, one)):
        assert np.isnan([got.low, got.high]).all()
        assert got.groups == 31
    two = ["a"] * 5 + ["b"] + one[6:]
    assert error_auroc(numbers, wrong, two).low < 1
    assert np.isnan(error_auroc(numbers, ~wrong, one).low)


class TestGain:
    def test_is_the_difference_of_the_areas_each_read_its_better_way_round(self) -> None:
        rng = np.random.default_rng(3)
        wrong = rng.random(80) < 0.4
        good, poor = wrong + rng.normal(0, 0.5, 80), rng.normal(0, 3, 80) - wrong
        patients = [str(i // 4) for i in range(80)]
        found = error_auroc_gain(good, poor, wrong, patients)
        folded = [max(a, 1 - a) for a in (roc_auc_score(wrong, v) for v in (good, poor))]
        assert found.value == pytest.approx(folded[0] - folded[1])
        assert found.low < found.value < found.high
        assert error_auroc_gain(-good, poor, wrong, patients).value == pytest.approx(found.value)

    def test_of_a_number_over_itself_is_nothing(self) -> None:
        numbers, wrong = np.arange(6.0), np.array([1, 0, 1, 1, 0, 0], dtype=bool)
        found = error_auroc_gain(numbers, numbers, wrong, list("abcdef"))
        assert (found.value, found.low, found.high) == (0, 0, 0)

    def test_is_of_the_slices_that_both_know(self) -> None:
        numbers, rival = np.array([0.1, np.nan, 0.9, 0.4]), np.array([0.2, 0.3, np.nan, 0.1])
        assert error_auroc_gain(numbers, rival, np.array([1, 0, 0, 0], dtype=bool), list("abcd")).n == 2
        assert error_auroc_gain(numbers, rival * np.nan, np.ones(4, dtype=bool), list("abcd")).n == 0
        assert np.isnan(error_auroc_gain(numbers, rival, np.ones(4, dtype=bool), list("abcd")).value)
