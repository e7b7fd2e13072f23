"""Which way up a slice lies: edges by hand, and slices told from themselves turned over."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.certainty.upright import CELL, CELLS, DIRECTIONS, EDGES, SIDE, edges, learn_upright, turn_over, turned


def lit_from_above(n: int, side: int = 96) -> np.ndarray:
    """Return (n, side, side) noisy discs, each brighter towards its top."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    discs = []
    for _ in range(n):
        radius, light = rng.uniform(0.6, 0.9), rng.uniform(20, 60)
        disc = np.where(x**2 + y**2 < radius**2, 120 - light * y, 0) + rng.normal(0, 4, y.shape)
        discs.append(np.clip(disc, 0, 255))
    return np.array(discs, dtype=np.uint8)


class TestEdges:
    def test_by_hand(self) -> None:
        """A ramp of 2 grey levels a pixel to the right: one direction, strength 2, in every cell."""
        ramp = np.broadcast_to(2 * np.arange(SIDE), (SIDE, SIDE)).astype(np.uint8)
        found = edges(ramp[None]).reshape(CELLS, DIRECTIONS)
        root = np.sqrt(2)
        assert found[:, 0] == pytest.approx(root / (root + 1), abs=1e-3)
        assert not found[:, 1:].any()
        down = edges(ramp.T[None]).reshape(CELLS, DIRECTIONS)
        assert down[:, DIRECTIONS // 4] == pytest.approx(root / (root + 1), abs=1e-3)

    def test_a_direction_between_two_is_shared(self) -> None:
        """Up by 1 to the right and by 1 downwards: 45 degrees, halfway between the second and the third direction."""
        slope = np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.uint8)
        found = edges(slope[None]).reshape(CELLS, DIRECTIONS)
        each, length = np.sqrt(np.sqrt(2) / 2), np.sqrt(np.sqrt(2))
        assert found[:, [1, 2]] == pytest.approx(each / (length + 1), abs=1e-3)
        assert found.astype(bool).sum() == 2 * CELLS

    @pytest.mark.parametrize("side", [24, 96, 160, 224])
    def test_turning_moves_cells_and_directions(self, side: int) -> None:
        slices = lit_from_above(3, side)
        assert np.array_equal(turn_over(edges(slices).astype(float)), edges(slices[:, ::-1, ::-1]).astype(float))

    @pytest.mark.parametrize("side", [24, 96, 224])
    def test_any_size_of_slice_has_as_many_numbers(self, side: int) -> None:
        found = edges(lit_from_above(2, side))
        assert (found.shape, found.dtype) == ((2, EDGES), np.float16)
        assert np.isfinite(found).all()

    def test_no_slices_have_no_rows(self) -> None:
        assert edges(np.empty((0, 64, 64), np.uint8)).shape == (0, EDGES)

    def test_one_grey_has_no_edges(self) -> None:
        assert not edges(np.full((1, 50, 50), 77, np.uint8)).any()

    def test_cells_tile_the_square(self) -> None:
        """One bright pixel touches the edges of its own cell and, next to a border, of its neighbour alone."""
        slices = np.zeros((2, SIDE, SIDE), np.uint8)
        slices[0, 2 * CELL + 3, 5 * CELL + 3] = slices[1, 2 * CELL + 3, 5 * CELL] = 200
        touched = [set(np.flatnonzero(e.reshape(CELLS, DIRECTIONS).any(axis=1))) for e in edges(slices)]
        row = SIDE // CELL * 2
        assert touched == [{row + 5}, {row + 4, row + 5}]


class TestTurned:
    def test_new_slices_are_told_upside_down(self) -> None:
        slices = lit_from_above(120)
        weights = learn_upright(edges(slices[:80]))
        assert (weights.shape, weights.dtype) == ((EDGES,), np.float32)
        assert turn_over(weights[None].astype(float))[0] == pytest.approx(-weights, abs=1e-5)
        upright = turned(weights, edges(slices[80:]))
        assert (upright < -1).all()
        assert turned(weights, edges(slices[80:, ::-1, ::-1])) == pytest.approx(-upright, abs=1e-3)

    def test_it_is_the_log_odds(self) -> None:
        found = edges(lit_from_above(2))
        weights = np.zeros(EDGES, np.float32)
        weights[100] = 3
        assert turned(weights, found) == pytest.approx(3 * found[:, 100].astype(float))

    def test_no_gradient_is_left(self) -> None:
        """Of the mean log loss of upright and turned slices and the penalty |w|^2 / 2 of them all."""
        found = edges(lit_from_above(40)).astype(float)
        both, labels = np.concatenate([found, turn_over(found)]), np.repeat([0.0, 1.0], 40)
        weights = learn_upright(found.astype(np.float16)).astype(float)
        odds = 1 / (1 + np.exp(-both @ weights))
        gradient = both.T @ (odds - labels) / 80 + weights / 80
        assert np.abs(gradient).max() <= 1.1e-3
        assert np.abs(both.T @ (0.5 - labels) / 80).max() > 1e-2  # as large as it was

    @pytest.mark.parametrize("slices", [1, 5])
    def test_slices_without_edges_teach_nothing(self, slices: int) -> None:
        weights = learn_upright(np.zeros((slices, EDGES), np.float16))
        assert not weights.any()
        assert turned(weights, edges(lit_from_above(2))).tolist() == [0, 0]
