"""Whether probabilities mean what they say: by hand, and against torchmetrics and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gyrus.certainty.temperature import fit_temperature, softmax
from gyrus.evaluate.calibration import (
    bin_gaps,
    brier_scores,
    confident_errors,
    expected_calibration_error,
    from_gaps,
    reliability,
)


class TestExpectedCalibrationError:
    def test_by_hand(self) -> None:
        """Bins of a half: one slice at 0.5, right; three at 0.9, of which two are right."""
        probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
        truth = np.array([0, 0, 0, 0])
        expected = (abs(1 - 0.5) + 3 * abs(2 / 3 - 0.9)) / 4
        assert expected_calibration_error(probabilities, truth, bins=2) == pytest.approx(expected)

    def test_a_bin_holds_its_upper_end(self) -> None:
        """0.6 and 0.7 lie in (0.5, 0.75] together, 0.75 with them; 0.8 does not."""
        top = np.array([0.6, 0.75, 0.8])
        probabilities = np.stack([top, 1 - top], axis=1)
        expected = (abs(1 - 1.35) + abs(1 - 0.8)) / 3  # right, wrong, right
        assert expected_calibration_error(probabilities, np.array([0, 1, 0]), bins=4) == pytest.approx(expected)

    def test_ends(self) -> None:
        sure = np.array([[1.0, 0.0], [1.0, 0.0]])
        assert expected_calibration_error(sure, np.array([0, 0])) == 0.0
        assert expected_calibration_error(sure, np.array([1, 1])) == 1.0
        assert math.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=int)))

    @pytest.mark.parametrize("bins", [5, 15])
    def test_is_that_of_torchmetrics(self, bins: int) -> None:
        import torch
        from torchmetrics.functional.classification import multiclass_calibration_error

        rng = np.random.default_rng(2)
        probabilities = softmax(2 * rng.standard_normal((500, 4)))
        truth = rng.integers(0, 4, 500)
        peer = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=4, n_bins=bins, norm="l1"
        )
        assert expected_calibration_error(probabilities, truth, bins) == pytest.approx(float(peer), abs=1e-6)

    def test_the_fitted_temperature_lowers_it(self) -> None:
        rng = np.random.default_rng(3)
        logits = 6 * rng.standard_normal((1000, 3))
        truth = np.array([rng.choice(3, p=p) for p in softmax(logits / 3)])
        before = expected_calibration_error(softmax(logits), truth)
        after = expected_calibration_error(softmax(logits / fit_temperature(logits, truth)), truth)
        assert after < before / 3


def test_confident_errors_by_hand() -> None:
    probabilities = np.array([[0.99, 0.01], [0.96, 0.04], [0.95, 0.05], [0.4, 0.6]])
    assert confident_errors(probabilities, np.array([0, 1, 1, 0])) == (3, 1)  # 0.95 itself is not above it
    assert confident_errors(probabilities, np.array([0, 1, 1, 0]), sure=0.5) == (3, 3)
    assert confident_errors(probabilities, np.array([0, 0, 0, 1])) == (0, 0)
    assert confident_errors(np.zeros((0, 2)), np.zeros(0, dtype=int)) == (0, 0)


def test_the_bars_of_a_reliability_diagram_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.55, 0.45]])
    bars = reliability(probabilities, np.array([0, 1, 1, 1]), bins=5)
    assert [b.n for b in bars] == [0, 0, 1, 2, 1]  # 0.8 lies in (0.6, 0.8]
    assert (bars[3].confidence, bars[3].accuracy) == (0.8, 0.5)
    assert (bars[2].confidence, bars[2].accuracy) == (0.55, 0)
    assert math.isnan(bars[0].accuracy)
    assert (bars[4].low, bars[4].high) == (0.8, 1.0)
    assert [b.n for b in reliability(np.empty((0, 2)), np.empty(0, dtype=int), bins=3)] == [0, 0, 0]


def test_the_error_is_that_of_any_choice_of_slices() -> None:
    rng = np.random.default_rng(5)
    probabilities, truth = softmax(rng.standard_normal((60, 3))), rng.integers(0, 3, 60)
    gaps = bin_gaps(probabilities, truth)
    for chosen in (slice(0, 60), slice(10, 37)):
        assert from_gaps(gaps[chosen].sum(axis=0)) == pytest.approx(
            expected_calibration_error(probabilities[chosen], truth[chosen])
        )
    assert np.isnan(from_gaps(np.zeros(16)))


def test_brier_by_hand_and_as_scikit_learn_has_it() -> None:
    from sklearn.metrics import brier_score_loss

    assert brier_scores(np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0.25, 0.25]]), np.array([0, 0, 0])).tolist() == [
        *(0, 2, 0.375),
    ]
    rng = np.random.default_rng(4)
    probabilities, truth = softmax(rng.standard_normal((80, 4))), rng.integers(0, 4, 80)
    peer = brier_score_loss(truth, probabilities, labels=[0, 1, 2, 3], scale_by_half=False)
    assert brier_scores(probabilities, truth).mean() == pytest.approx(peer)
