"""The temperature: by hand and against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gyrus.certainty.temperature import COLDEST, HOTTEST, fit_temperature, softmax
from gyrus.errors import InputError


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
        undecided = np.r_[logits, [[1.0, 1.0]]]
        assert COLDEST <= fit_temperature(undecided, np.array([1, 0, 1])) < 0.05
        assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(HOTTEST, rel=1e-3)

    def test_without_one_wrong_answer_nothing_is_made_surer(self) -> None:
        rng = np.random.default_rng(2)
        truth = rng.integers(0, 3, 40)
        logits = rng.standard_normal((40, 3))
        logits[np.arange(40), truth] = logits.max(axis=1) + 0.1
        assert fit_temperature(logits, truth) == 1

    def test_refuses(self) -> None:
        none = np.zeros(0, dtype=int)
        with pytest.raises(InputError, match="no slice to fit a temperature on"):
            fit_temperature(np.zeros((0, 3)), none)
        with pytest.raises(InputError, match="not finite"):
            fit_temperature(np.array([[0.0, np.nan]]), np.array([0]))
        with pytest.raises(InputError, match="the same for every class"):
            fit_temperature(np.ones((4, 3)), np.zeros(4, dtype=int))


def test_softmax_of_rows_with_a_temperature_each() -> None:
    found = softmax(np.array([[0.0, math.log(9)], [0.0, math.log(9)], [np.nan, 0.0]]), np.array([[1.0], [2.0], [1.0]]))
    assert found[:2] == pytest.approx(np.array([[0.1, 0.9], [0.25, 0.75]]))
    assert np.isnan(found[2]).all()
