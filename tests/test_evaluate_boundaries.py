"""Kept pixels against the outline: by hand, on degenerate sets, and against MONAI."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.evaluate.boundaries import CARDS, boundary_distances, lesion_hits, score_kept

NAMES = [c.name for c in CARDS]


def square(top: int, left: int, side: int, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    made = np.zeros(shape, dtype=bool)
    made[top : top + side, left : left + side] = True
    return made


def test_a_shifted_square_by_hand() -> None:
    mask, kept = square(5, 5, 4), square(5, 8, 4)  # three columns to the right
    got = score_kept(kept, mask, (1.0, 1.0))
    assert got["iou"] == pytest.approx(4 / 28)
    assert got["dice"] == pytest.approx(8 / 32)
    # Of each boundary's 12 pixels 4 lie on the far side 3 away, and 4 + 4 in rows that overlap: the two nearest to the
    # other square 0 and 1 away at most.
    distances = [3, 3, 3, 3, 2, 2, 1, 1, 0, 0, 1, 1]
    assert got["hausdorff95"] == pytest.approx(np.percentile(distances, 95))
    assert got["surface_dice_2mm"] == pytest.approx(sum(d <= 2 for d in distances) / 12)


def test_the_same_set_and_its_unit() -> None:
    mask = square(5, 5, 4)
    assert score_kept(mask, mask, (0.5, 0.5)) == {
        "iou": 1.0, "dice": 1.0, "hausdorff95": 0.0, "surface_dice_2mm": 1.0, "lesion_hits": 1.0,
    }  # fmt: skip
    far, wide = square(5, 15, 4), square(15, 5, 4)
    assert boundary_distances(far, mask, (1.0, 0.5))[0] == pytest.approx(5.0)  # ten columns of half a millimetre
    assert boundary_distances(wide, mask, (1.0, 0.5))[0] == pytest.approx(10.0)
    assert boundary_distances(far, mask, (1.0, 0.1)) == (pytest.approx(1.0), 1.0)  # all within 2 mm


def test_nothing_kept_is_as_far_as_the_image_reaches() -> None:
    got = score_kept(np.zeros((20, 30), dtype=bool), square(5, 5, 4), (2.0, 1.0))
    assert got == {
        "iou": 0.0, "dice": 0.0, "hausdorff95": pytest.approx(50.0), "surface_dice_2mm": 0.0, "lesion_hits": 0.0,
    }  # fmt: skip


def test_all_kept_touches_every_lesion() -> None:
    got = score_kept(np.ones((20, 30), dtype=bool), square(5, 5, 4), (1.0, 1.0))
    assert got["lesion_hits"] == 1.0
    assert got["iou"] == pytest.approx(16 / 600)


def test_without_spacing_there_are_no_millimetres() -> None:
    got = score_kept(square(5, 8, 4), square(5, 5, 4))
    assert [n for n in NAMES if np.isnan(got[n])] == ["hausdorff95", "surface_dice_2mm"]


@pytest.mark.parametrize("mask", [np.zeros((20, 30), dtype=bool), np.ones((20, 30), dtype=bool)])
def test_an_empty_or_full_mask_has_no_score(mask: np.ndarray) -> None:
    got = score_kept(square(5, 5, 4), mask, (1.0, 1.0))
    assert list(got) == NAMES
    assert all(np.isnan(v) for v in got.values())


def test_lesions_are_counted_by_part() -> None:
    mask = square(2, 2, 3) | square(10, 10, 5) | square(1, 20, 1)
    assert lesion_hits(square(3, 3, 1), mask) == pytest.approx(1 / 3)
    assert lesion_hits(square(3, 3, 1) | square(12, 12, 4), mask) == pytest.approx(2 / 3)
    assert lesion_hits(~mask, mask) == 0.0
    corner = square(2, 2, 3) | square(5, 5, 2)  # touching across a corner they are one
    assert lesion_hits(square(6, 6, 1), corner) == 1.0
    assert np.isnan(lesion_hits(mask, np.zeros_like(mask)))


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:40, :48]
    found = []
    for _ in range(2):
        cy, cx, r = rng.integers(8, 32), rng.integers(8, 40), rng.integers(3, 12)
        found.append(((y - cy) ** 2 + (x - cx) ** 2 <= r**2) & (rng.random((40, 48)) < 0.9))
    return found[0], found[1]


# What monai 1.6.1 says of blobs(seed) at 0.5 x 0.8 mm: compute_hausdorff_distance(percentile=95), and
# compute_surface_dice at 2 mm.
MONAI = {
    0: (16.011246, 0.0),
    1: (8.85836, 0.28125),
    2: (11.872658, 0.105634),
    3: (24.776575, 0.0),
    4: (18.454536, 0.0),
    5: (9.891666, 0.0),
}


@pytest.mark.parametrize("seed", MONAI)
def test_frozen_values_of_monai(seed: int) -> None:
    kept, mask = blobs(seed)
    assert boundary_distances(kept, mask, (0.5, 0.8)) == pytest.approx(MONAI[seed], abs=1e-5)
