"""The metrics that quantus defines as their papers do, on maps without ties: its values and ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from planted import SIDE
from torch import nn

from gyrus.evaluate.faithfulness import Faithfulness
from gyrus.evaluate.ranking import score_map
from gyrus.evaluate.truthfree import concentration

quantus = pytest.importorskip("quantus", reason="quantus is not installed")

STILL: dict[str, Any] = {"disable_warnings": True, "abs": False, "normalise": False}


class Net(nn.Module):
    """A small network with three classes; without padding, so that position counts."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layers = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = 6 * self.layers(images)
        return logits


@pytest.fixture
def given() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 1, SIDE, SIDE), dtype=bool)
    masks[:, :, 5:15, 8:20] = True
    return {
        "model": Net().eval(),
        "x_batch": rng.normal(size=(6, 1, SIDE, SIDE)).astype(np.float32),
        "y_batch": np.arange(6) % 3,
        "a_batch": rng.random((6, 1, SIDE, SIDE)).astype(np.float32),
        "s_batch": masks,
        "device": "cpu",
    }


@pytest.mark.parametrize(
    ("peer", "metric"),
    [
        ("PointingGame", "pointing"),
        ("RelevanceMassAccuracy", "energy_inside"),
        ("RelevanceRankAccuracy", "rank_accuracy"),
    ],
)
def test_localization(given: dict[str, Any], peer: str, metric: str) -> None:
    theirs = getattr(quantus, peer)(**STILL)(**given)
    ours = [
        score_map(placed, mask).values[metric]
        for placed, mask in zip(given["a_batch"][:, 0], given["s_batch"][:, 0], strict=True)
    ]
    assert ours == pytest.approx(np.array(theirs, dtype=float), abs=1e-5)


def test_concentration(given: dict[str, Any]) -> None:
    theirs = quantus.Sparseness(**STILL)(**given)
    assert concentration(given["a_batch"][:, 0]) == pytest.approx(np.array(theirs), abs=1e-6)


def test_deletion(given: dict[str, Any]) -> None:
    """Its curve leaves the first point, nothing deleted, out."""
    theirs = quantus.PixelFlipping(features_in_step=SIDE * SIDE // 12, perturb_baseline=0.0, **STILL)(**given)
    probe = Faithfulness(given["model"], torch.from_numpy(given["x_batch"]), torch.from_numpy(given["y_batch"]))
    ours = probe.deletion(torch.from_numpy(given["a_batch"][:, 0]), steps=12)
    assert ours.scores[:, 1:].numpy() == pytest.approx(np.array(theirs), abs=1e-5)


def test_road(given: dict[str, Any]) -> None:
    """It gives the share of images still put in their class at each percentage."""
    shares = (25, 50, 75)  # of which quantus and we take the same whole numbers of pixels
    theirs = quantus.ROAD(percentages=shares, noise=0.0, **STILL)(**given)
    probe = Faithfulness(given["model"], torch.from_numpy(given["x_batch"]), torch.from_numpy(given["y_batch"]))
    ours = probe.road(torch.from_numpy(given["a_batch"][:, 0]), percentages=shares, noise=0.0).hits.float().mean(dim=0)
    assert ours.numpy() == pytest.approx([theirs[p] for p in shares])
    assert 0 < ours.mean() < 1


def test_what_it_makes_of_an_empty_mask(given: dict[str, Any]) -> None:
    """It counts an empty mask as a hit, where there is nothing to hit."""
    given["s_batch"][:] = False
    assert all(quantus.PointingGame(**STILL)(**given))
    assert score_map(given["a_batch"][0, 0], given["s_batch"][0, 0]).reason == "empty mask"


def test_what_it_makes_of_ties(given: dict[str, Any]) -> None:
    """It counts a hit if any of the maxima is inside; here it is the share of them."""
    given["a_batch"][:] = 0
    given["a_batch"][:, :, [0, 6], [0, 10]] = 1
    assert all(quantus.PointingGame(**STILL)(**given))
    assert score_map(given["a_batch"][0, 0], given["s_batch"][0, 0]).values["pointing"] == 0.5


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_it_makes_of_a_map_without_a_positive_value(given: dict[str, Any], value: float) -> None:
    """It stops the whole batch."""
    given["a_batch"][0] = value
    given["a_batch"][1:] = np.minimum(given["a_batch"][1:], value)
    with pytest.raises(AssertionError):
        quantus.RelevanceMassAccuracy(**STILL)(**given)
    assert score_map(given["a_batch"][0, 0], given["s_batch"][0, 0]).values["energy_inside"] == 0
