"""Rates of a confusion matrix, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

from gyrus.confusion import confusion_matrix, rates
from gyrus.intervals import Bootstrap


def test_rows_are_true_and_columns_predicted() -> None:
    got = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 2, 1, 2, 1]), 4)
    assert got.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert confusion_matrix(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 2).tolist() == [[0, 0], [0, 0]]


def test_rates_by_hand() -> None:
    # Class 0: 3 of 4 found, called 5 times. Class 1: 1 of 3, called 2 times. Class 2: 1 of 1, called once.
    got = rates(np.array([[3, 1, 0], [2, 1, 0], [0, 0, 1]]))
    assert got["accuracy"] == pytest.approx(5 / 8)
    assert got["recall"] == pytest.approx([3 / 4, 1 / 3, 1])
    assert got["precision"] == pytest.approx([3 / 5, 1 / 2, 1])
    assert got["f1"] == pytest.approx([2 / 3, 2 / 5, 1])
    assert got["balanced_accuracy"] == got["macro_recall"] == pytest.approx((3 / 4 + 1 / 3 + 1) / 3)
    assert got["macro_precision"] == pytest.approx(2.1 / 3)
    assert got["macro_f1"] == pytest.approx((2 / 3 + 2 / 5 + 1) / 3)


def test_classes_that_do_not_occur_or_are_never_called() -> None:
    # Class 1 occurs but is never called; class 2 is called but does not occur; class 3 neither.
    got = rates(np.array([[2, 0, 1, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert got["recall"] == pytest.approx([2 / 3, 0, np.nan, np.nan], nan_ok=True)
    assert got["precision"] == pytest.approx([2 / 5, 0, 0, np.nan], nan_ok=True)
    assert got["f1"] == pytest.approx([1 / 2, 0, np.nan, np.nan], nan_ok=True)
    assert got["balanced_accuracy"] == pytest.approx(1 / 3)
    assert got["macro_precision"] == pytest.approx(2 / 15)
    assert got["macro_f1"] == pytest.approx(1 / 4)


def test_means_over_expected_classes_are_of_all_of_them_or_none() -> None:
    stack = np.array([[[3, 1], [1, 1]], [[3, 1], [0, 0]]])
    got = rates(stack, np.array([True, True]))
    assert got["balanced_accuracy"] == pytest.approx([0.625, np.nan], nan_ok=True)
    assert np.isnan([got[name][1] for name in ("macro_precision", "macro_recall", "macro_f1")]).all()
    assert got["accuracy"] == pytest.approx([4 / 6, 3 / 4])
    assert rates(stack, np.array([True, False]))["balanced_accuracy"] == pytest.approx([0.625, 0.75])


def test_a_mean_over_classes_has_no_interval_where_one_patient_has_a_class() -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2])
    cells = np.zeros((41, 3, 3), dtype=np.int64)
    cells[np.arange(41), truth, np.where(truth == 2, 0, truth)] = 1
    boot = Bootstrap([str(i) for i in range(41)])
    found = boot.statistic(cells, lambda m: rates(m, np.ones(3, dtype=bool))["balanced_accuracy"])
    assert found.value == pytest.approx(2 / 3)
    assert np.isnan([found.low, found.high]).all()


def test_no_slice_at_all() -> None:
    assert all(np.isnan(v).all() for v in rates(np.zeros((3, 3))).values())


def test_a_stack_is_each_matrix_alone() -> None:
    stack = np.random.default_rng(0).integers(0, 4, (2, 5, 3, 3))
    got = rates(stack)
    for i in np.ndindex(2, 5):
        for name, value in rates(stack[i]).items():
            assert got[name][i] == pytest.approx(value, nan_ok=True)


def test_against_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    true, predicted = np.r_[0, 1, 2, rng.integers(0, 3, 50)], np.r_[0, 1, 2, rng.integers(0, 3, 50)]
    got = rates(confusion_matrix(true, predicted, 3))
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted)
    assert got["precision"] == pytest.approx(precision)
    assert got["recall"] == pytest.approx(recall)
    assert got["f1"] == pytest.approx(f1)
    assert got["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
