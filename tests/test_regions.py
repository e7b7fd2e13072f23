"""Outlines and measures of sets of pixels: by hand, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gyrus.io.masks import fill_outline
from gyrus.regions import contours, measure

sets = hnp.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))
quick = settings(max_examples=120, deadline=None, derandomize=True)


def test_a_rectangle_by_hand() -> None:
    kept = np.zeros((10, 12), dtype=bool)
    kept[2:5, 4:8] = True  # 3 rows, 4 columns
    got = measure(kept)
    assert got is not None
    assert (got.box, got.area, got.unit) == ((2, 4, 5, 8), 12.0, "px")
    assert got.diameter == pytest.approx(5.0)
    (outline,) = got.contours
    assert {tuple(p) for p in outline.tolist()} == {(3.5, 1.5), (7.5, 1.5), (7.5, 4.5), (3.5, 4.5)}
    assert got.summary() == {"box": [2, 4, 5, 8], "area": 12.0, "diameter": pytest.approx(5.0), "unit": "px"}


def test_rows_and_columns_have_their_own_spacing() -> None:
    kept = np.zeros((10, 12), dtype=bool)
    kept[2:5, 4:8] = True
    got = measure(kept, (2.0, 0.5))
    assert got is not None
    assert (got.area, got.unit) == (12.0, "mm")
    assert got.diameter == pytest.approx(np.hypot(3 * 2.0, 4 * 0.5))
    turned = measure(kept, (0.5, 2.0))
    assert turned is not None
    assert turned.diameter == pytest.approx(np.hypot(3 * 0.5, 4 * 2.0))


def test_the_longest_diameter_may_join_two_parts() -> None:
    kept = np.zeros((6, 9), dtype=bool)
    kept[1, 1] = kept[1, 7] = True
    got = measure(kept)
    assert got is not None
    assert len(got.contours) == 2
    assert got.diameter == pytest.approx(np.hypot(7, 1))
    assert sorted(got.ends[:, 0].tolist()) == [0.5, 7.5]


def test_one_pixel_and_none() -> None:
    assert measure(np.zeros((3, 3), dtype=bool)) is None
    assert contours(np.zeros((3, 3), dtype=bool)) == ()
    one = measure(np.ones((1, 1), dtype=bool), (0.5, 0.5))
    assert one is not None
    assert (one.area, one.box) == (0.25, (0, 0, 1, 1))
    assert one.diameter == pytest.approx(np.sqrt(0.5))


def test_a_hole_is_part_of_the_outline_and_not_of_the_area() -> None:
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    got = measure(ring)
    assert got is not None
    assert len(got.contours) == 2
    assert got.area == 24
    assert {tuple(p) for p in got.contours[1].tolist()} == {(1.5, 1.5), (2.5, 1.5), (2.5, 2.5), (1.5, 2.5)}


@quick
@given(sets)
def test_the_outlines_filled_are_the_set(kept: np.ndarray) -> None:
    filled = np.zeros_like(kept)
    for outline in contours(kept):
        filled ^= fill_outline(outline, kept.shape)
    assert (filled == kept).all()


@quick
@given(sets.filter(np.any), st.sampled_from([(1.0, 1.0), (2.0, 0.5), (0.3, 0.9)]))
def test_the_diameter_is_the_greatest_distance_between_corners(kept: np.ndarray, spacing: tuple[float, float]) -> None:
    y, x = np.nonzero(kept)
    corners = np.concatenate([np.c_[x + a, y + b] for a in (-0.5, 0.5) for b in (-0.5, 0.5)]) * spacing[::-1]
    farthest = np.sqrt(((corners[:, None] - corners[None]) ** 2).sum(axis=2)).max()
    got = measure(kept, spacing)
    assert got is not None
    assert got.diameter == pytest.approx(farthest)
    assert np.linalg.norm((got.ends[0] - got.ends[1]) * spacing[::-1]) == pytest.approx(farthest)
