"""What no network scores: the commonest class, and the nearest training slice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from gyrus.evaluate.floors import THUMBNAIL, majority_class, pixel_nearest_neighbour, score_floor, thumbnails
from gyrus.intervals import Bootstrap


def slices(n: int, seed: int, side: int = 64) -> NDArray[np.uint8]:
    """Smooth slices whose likeness is not a matter of noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8)).astype(np.uint8)
    return coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


def test_the_majority_is_that_of_the_training_slices() -> None:
    assert majority_class(np.array([2, 0, 2, 1]), 3).tolist() == [2, 2, 2]
    assert majority_class(np.array([1, 0, 1, 0]), 1).tolist() == [0]  # the first of equals


def test_thumbnails_are_standardised() -> None:
    got = thumbnails(slices(5, 0, 96))
    assert (got.shape, got.dtype) == ((5, THUMBNAIL**2), np.float32)
    assert got.mean(axis=1) == pytest.approx(np.zeros(5), abs=1e-5)
    assert got.std(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    flat = np.full((2, 96, 96), 7, dtype=np.uint8)
    flat[1] = 255
    assert not thumbnails(flat).any()


def test_against_scikit_learn() -> None:
    train, test = slices(80, 1), slices(600, 2)  # more than are compared at once
    labels = np.random.default_rng(3).integers(0, 3, 80)
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(thumbnails(train), labels)
    got = pixel_nearest_neighbour(train, labels, test)
    assert got.shape == (600,)
    assert (got == nearest.predict(thumbnails(test))).all()
    assert set(got) == {0, 1, 2}


def test_a_copy_is_found_whatever_its_brightness() -> None:
    train = slices(6, 4)
    labels = np.arange(6)
    darker = (train // 3 + 20).astype(np.uint8)
    assert (pixel_nearest_neighbour(train, labels, darker[::-1]) == labels[::-1]).all()
    assert (pixel_nearest_neighbour(train, labels, np.transpose(train, (0, 2, 1))) != labels).any()


def test_constant_slices_are_near_to_nothing() -> None:
    train = slices(3, 5)
    train[0] = 128
    like = pixel_nearest_neighbour(train, np.array([0, 1, 2]), train[1:])
    assert like.tolist() == [1, 2]  # not the constant one
    assert pixel_nearest_neighbour(train, np.array([0, 1, 2]), np.zeros((2, 64, 64), np.uint8)).shape == (2,)


def test_a_row_of_the_table() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    row = score_floor("guess", truth, predicted, ("a", "b"), Bootstrap(["p", "p", "q", "q", "r", "r"]))
    assert row["name"] == "guess"
    assert row["accuracy"].value == pytest.approx(4 / 6)
    assert row["balanced_accuracy"].value == pytest.approx((1 + 0.5) / 2)
    assert (row["accuracy"].n, row["accuracy"].groups) == (6, 3)
    assert (row["accuracy"].low, row["accuracy"].high) == (0.0, 1.0)  # only r, or never r
