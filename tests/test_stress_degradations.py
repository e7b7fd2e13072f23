"""Degraded slices: by hand, and on everything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.stress.degradations import DEGRADATIONS, biased, jpeg, noisy, rotated, rotated_mask

BY_NAME = {d.name: d for d in DEGRADATIONS}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(side: int = 64, level: float = 100) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(x**2 + y**2 <= (0.4 * side) ** 2, level, 0).astype(np.float32)


def test_the_strengths() -> None:
    assert {d.name: d.strengths for d in DEGRADATIONS} == {
        "jpeg": (90, 50, 20, 10, 5),
        "rotation": (5, 10, 20, 45),
        "bias": (0.1, 0.3, 0.5),
        "noise": (0.02, 0.05, 0.1, 0.2),
    }
    assert [d.name for d in DEGRADATIONS if d.turns] == ["rotation"]
    assert BY_NAME["noise"].said.format(0.05) == "sigma 0.05"


def test_jpeg_loses_more_the_lower_its_quality() -> None:
    picture = (disc() + rng().uniform(0, 50, (64, 64))).astype(np.float32)
    lost = [float(np.abs(jpeg(picture, q) - picture).mean()) for q in (100, 90, 50, 20, 10, 5)]
    assert lost == sorted(lost)
    assert lost[0] < 0.5
    assert lost[-1] > 5


def test_jpeg_keeps_the_unit() -> None:
    picture = disc() * 40 - 1000
    assert jpeg(picture, 90) == pytest.approx(picture, abs=0.2 * 4000)
    assert jpeg(picture, 90).mean() == pytest.approx(picture.mean(), abs=20)


def test_a_quarter_turn_is_counter_clockwise_about_the_centre() -> None:
    picture = np.zeros((9, 9), np.float32)
    picture[4, 7] = 100  # right of the centre, and so above it afterwards
    turned = rotated(picture, 90)
    assert np.unravel_index(int(turned.argmax()), turned.shape) == (1, 4)
    assert turned[1, 4] == pytest.approx(100, abs=1e-3)
    mask = np.zeros((9, 9), bool)
    mask[4, 6:8] = True
    assert np.argwhere(rotated_mask(mask, 90)).tolist() == [[1, 4], [2, 4]]
    assert np.array_equal(rotated_mask(mask, 0), mask)


def test_the_outline_turns_with_the_picture() -> None:
    mask = np.zeros((64, 64), bool)
    mask[20:30, 34:44] = True
    for degrees in BY_NAME["rotation"].strengths:
        turned = rotated((100 * mask).astype(np.float32), degrees)
        assert np.array_equal(turned >= 50, rotated_mask(mask, degrees))


def test_what_is_turned_in_is_background() -> None:
    assert rotated(disc() + 5, 45)[0, 0] == pytest.approx(5)


def test_the_field_runs_from_one_end_to_the_other_over_the_head() -> None:
    picture = np.full((64, 64), 100, np.float32)
    picture[0, 0] = 0
    field = biased(picture, 0.3, rng()) / 100
    inner = field[picture > 0]
    assert inner.min() == pytest.approx(0.7, abs=0.01)
    assert inner.max() == pytest.approx(1.3, abs=0.01)
    assert np.abs(np.diff(field[1:], axis=1)).max() < 0.1  # smooth
    assert biased(picture, 0, rng()) == pytest.approx(picture)
    assert not np.array_equal(biased(picture, 0.3, rng(0)), biased(picture, 0.3, rng(1)))


def test_the_same_field_at_every_strength() -> None:
    picture = disc()
    weak, strong = biased(picture, 0.1, rng(3)) - picture, biased(picture, 0.5, rng(3)) - picture
    assert strong == pytest.approx(5 * weak, abs=1e-3)


def test_noise_is_rician() -> None:
    """Without signal the mean is sigma sqrt(pi / 2) (Rayleigh); far above it the deviation is sigma."""
    picture = np.zeros((400, 400), np.float32)
    picture[:, 200:] = 1000
    noise = noisy(picture, 0.02, rng())
    assert noise[:, :200].mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.01)
    assert noise[:, 200:].std() == pytest.approx(20, rel=0.02)


def test_noise_does_not_depend_on_where_zero_is() -> None:
    assert noisy(disc() - 500, 0.1, rng()) == pytest.approx(noisy(disc(), 0.1, rng()) - 500, abs=1e-3)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 3), (64, 64)])
@pytest.mark.parametrize("level", [None, 0.0, -3.0, 1e6])
def test_defined_on_everything(name: str, shape: tuple[int, int], level: float | None) -> None:
    picture = rng().uniform(-5, 5, shape) if level is None else np.full(shape, level)
    given = picture.astype(np.float32)
    for strength in BY_NAME[name].strengths:
        found = BY_NAME[name].rule(given, strength, rng())
        assert (found.shape, found.dtype) == (shape, np.float32)
        assert np.isfinite(found).all()
        if level is not None:
            assert found == pytest.approx(given)  # a blank picture stays blank
    assert np.array_equal(given, picture.astype(np.float32))
