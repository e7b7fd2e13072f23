"""Shapes of holes: grown, placed and moved, by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gyrus.holes import inside, moved, places, reach, widened


def box(shape: tuple[int, int], top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    found = np.zeros(shape, dtype=bool)
    found[top : top + height, left : left + width] = True
    return found


def test_reach_is_a_64th_of_the_longer_side() -> None:
    assert [reach(s) for s in ((512, 300), (256, 256), (10, 96), (3, 5))] == [8, 4, 2, 1]


def test_a_pixel_grows_to_a_disc() -> None:
    grown = widened(box((5, 5), 2, 2, 1, 1), 1)
    assert grown.astype(int).tolist() == [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5]


def test_nothing_grows_from_nothing() -> None:
    assert not widened(np.zeros((4, 4), dtype=bool), 9).any()


def test_inside_lacks_a_16th_but_not_at_the_border() -> None:
    head = box((40, 40), 4, 4, 32, 32)
    assert np.array_equal(inside(head), box((40, 40), 6, 6, 28, 28))
    assert inside(np.ones((40, 40), dtype=bool)).all()
    assert not inside(np.zeros((40, 40), dtype=bool)).any()
    cut_off = box((40, 40), 0, 4, 32, 32)
    assert inside(cut_off)[0, 20]


def test_places_are_all_of_them() -> None:
    hole = box((4, 5), 1, 1, 2, 2)
    hole[1, 1] = False  # an L
    free = np.ones((4, 5), dtype=bool)
    assert len(places(hole, free)) == 3 * 4
    free[:, 2:] = False
    assert places(hole, free).tolist() == [[-1, -1], [0, -1], [1, -1]]
    free[0, 0] = False  # which the L does not need
    assert len(places(hole, free)) == 3
    free[0, 1] = False
    assert len(places(hole, free)) == 2
    assert places(hole, np.zeros((4, 5), dtype=bool)).shape == (0, 2)
    assert places(np.zeros((4, 5), dtype=bool), free).shape == (0, 2)


def test_moved() -> None:
    values = np.array([[1, 2], [3, 4]])
    assert moved(values, 1, 0).tolist() == [[0, 0], [1, 2]]
    assert moved(values, 0, -1).tolist() == [[2, 0], [4, 0]]
    assert moved(values, 2, 0).tolist() == [[0, 0], [0, 0]]
