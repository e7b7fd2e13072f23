"""Calibration: by hand, against torch and against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gyrus.errors import InputError
from gyrus.evaluate.calibration import (
    COLDEST,
    HOTTEST,
    confident_errors,
    expected_calibration_error,
    fit_temperature,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class TestTemperature:
    @pytest.mark.parametrize("margin", [0.5, 2.0, 8.0])
    def test_by_hand(self, margin: float) -> None:
        """Always sure by one margin and right three times in four: sigmoid(margin / T) = 3 / 4, T = margin / ln 3."""
        logits = np.tile([0.0, margin], (8, 1))
        truth = np.array([1, 1, 1, 0] * 2)
        assert fit_temperature(logits, truth) == pytest.approx(margin / math.log(3), rel=1e-5)

    def test_torch_sees_no_slope_there(self) -> None:
        import torch

        rng = np.random.default_rng(0)
        logits = 3 * rng.standard_normal((300, 4))
        truth = np.array([rng.choice(4, p=p) for p in softmax(logits / 2.5)])

        def slope(temperature: float) -> float:
            t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
            torch.nn.functional.cross_entropy(torch.from_numpy(logits) / t, torch.from_numpy(truth)).backward()
            assert t.grad is not None
            return float(t.grad)

        found = fit_temperature(logits, truth)
        assert slope(found) == pytest.approx(0, abs=1e-6)
        assert slope(0.99 * found) < -1e-4
        assert slope(1.01 * found) > 1e-4
        assert found == pytest.approx(2.5, rel=0.2)  # what the truth was drawn with

    def test_adding_to_a_slice_changes_nothing_and_scaling_all_scales_it(self) -> None:
        rng = np.random.default_rng(1)
        logits, truth = rng.standard_normal((50, 3)), rng.integers(0, 3, 50)
        logits[np.arange(50), truth] += 0.8
        found = fit_temperature(logits, truth)
        assert fit_temperature(logits + 700 * rng.random((50, 1)), truth) == pytest.approx(found, rel=1e-5)
        assert fit_temperature(4 * logits.astype(np.float32), truth) == pytest.approx(4 * found, rel=1e-5)

    def test_ends(self) -> None:
        logits = np.array([[0.0, 1.0], [1.0, 0.0]])
        assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(COLDEST, rel=1e-3)
        assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(HOTTEST, rel=1e-3)

    def test_refuses(self) -> None:
        none = np.zeros(0, dtype=int)
        with pytest.raises(InputError, match="no slice to fit a temperature on"):
            fit_temperature(np.zeros((0, 3)), none)
        with pytest.raises(InputError, match="not finite"):
            fit_temperature(np.array([[0.0, np.nan]]), np.array([0]))
        with pytest.raises(InputError, match="the same for every class"):
            fit_temperature(np.ones((4, 3)), np.zeros(4, dtype=int))


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
