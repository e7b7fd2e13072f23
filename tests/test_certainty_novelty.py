"""Scores of strangeness: by hand, against scikit-learn, and on degenerate features."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gyrus.certainty import novelty as module
from gyrus.certainty.novelty import SCORES, learn_reference, novelty

RNG = np.random.default_rng(0)


class TestMahalanobis:
    def test_is_the_distance_under_the_common_covariance(self) -> None:
        """With as many directions kept as there are, nothing is approximated."""
        from sklearn.covariance import EmpiricalCovariance

        rng = np.random.default_rng(2)
        truth = np.repeat([0, 1], 100)
        features = rng.standard_normal((200, 5)) @ rng.standard_normal((5, 5)) + truth[:, None] * 4
        reference = learn_reference("mahalanobis", features, truth)
        means = np.stack([features[truth == c].mean(axis=0) for c in (0, 1)])
        peer = EmpiricalCovariance(assume_centered=True).fit(features - means[truth])
        new = 3 * rng.standard_normal((20, 5))
        expected = np.min([peer.mahalanobis(new - m) for m in means], axis=0)
        found = novelty("mahalanobis", reference, new, np.zeros((20, 2)))
        assert found == pytest.approx(expected, rel=1e-4)

    def test_what_is_not_kept_is_alike_in_all_directions(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Spreads of 9, 4, 1 and 1 around a mean of 0, the first kept: the rest is their mean, 2."""
        monkeypatch.setattr(module, "DIRECTIONS", 1)
        features = np.diag([3.0, 2, 1, 1]) * 2
        features = np.concatenate([features, -features])
        reference = learn_reference("mahalanobis", features, np.zeros(8, dtype=int))
        assert reference["spread"].tolist() == pytest.approx([9])
        assert reference["rest"].tolist() == pytest.approx([2])
        found = novelty(
            "mahalanobis", reference, np.array([[3.0, 0, 0, 0], [0, 2, 0, 0], [3, 2, 2, 0]]), np.zeros((3, 2))
        )
        assert found == pytest.approx([1, 2, 1 + 4])

    def test_little_beside_the_directions_is_not_drowned_by_their_rounding(self) -> None:
        """Features of 100 dimensions in 1280: what lies along the directions, in float64, is the whole distance."""
        rng = np.random.default_rng(3)
        basis = np.linalg.qr(rng.standard_normal((1280, 100)))[0].T
        spread = rng.uniform(1, 30, 100)
        along = rng.standard_normal((500, 100)) * spread
        truth = np.zeros(500, dtype=int)
        reference = learn_reference("mahalanobis", along @ basis, truth)
        centred = along - along.mean(axis=0)
        inverse = np.linalg.inv(centred.T @ centred / 500)
        new = rng.standard_normal((20, 100)) * spread
        offset = new - along.mean(axis=0)
        expected = ((offset @ inverse) * offset).sum(axis=1)
        assert novelty("mahalanobis", reference, new @ basis, np.zeros((20, 1))) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("width", [3, 400])
    def test_channels_that_never_fire_and_few_slices_stay_finite(self, width: int) -> None:
        features = np.zeros((6, width))
        features[:, 0] = range(6)
        reference = learn_reference("mahalanobis", features, np.zeros(6, dtype=int))
        found = novelty("mahalanobis", reference, np.ones((2, width)), np.zeros((2, 2)))
        assert np.isfinite(found).all()
        constant = learn_reference("mahalanobis", np.ones((4, 3)), np.zeros(4, dtype=int))
        assert novelty("mahalanobis", constant, np.ones((1, 3)), np.zeros((1, 2))) == pytest.approx([0])


class TestNeighbours:
    def test_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On the unit circle at 0, 60 and 90 degrees; seen from 0, length aside, the second nearest is at chord 1."""
        monkeypatch.setattr(module, "NEIGHBOUR", 2)
        angles = np.radians([0, 60, 90])
        bank = 7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        reference = learn_reference("knn", bank, np.zeros(3, dtype=int))
        found = novelty("knn", reference, np.array([[2.0, 0], [0, 5]]), np.zeros((2, 2)))
        assert found == pytest.approx([1, 2 * math.sin(math.radians(15))], abs=2e-3)  # half precision

    def test_fewer_slices_than_neighbours(self) -> None:
        reference = learn_reference("knn", np.eye(2), np.zeros(2, dtype=int))
        assert novelty("knn", reference, np.array([[1.0, 0]]), np.zeros((1, 2))) == pytest.approx([math.sqrt(2)])

    def test_the_bank_is_small(self) -> None:
        features = RNG.standard_normal((2000, 8))
        reference = learn_reference("knn", features, np.zeros(2000, dtype=int))
        assert reference["bank"].shape == (module.BANK, 8)


def test_energy_by_hand() -> None:
    found = novelty("energy", {}, np.zeros((2, 3)), np.log([[1.0, 2, 3], [0.1, 0.2, 0.7]]))
    assert found == pytest.approx([-math.log(6), 0])


@pytest.mark.parametrize("score", SCORES)
def test_what_is_far_from_all_is_stranger(score: str) -> None:
    rng = np.random.default_rng(4)
    truth = np.repeat([0, 1], 6)
    features = np.eye(2)[truth] * 8 + rng.standard_normal((12, 2)) * 0.3
    reference = learn_reference(score, features, truth)
    near, far = np.array([[8.0, 0]]), np.array([[-6.0, -5]])
    logits = {0: near, 1: far}
    assert novelty(score, reference, far, logits[1]) > novelty(score, reference, near, logits[0])
