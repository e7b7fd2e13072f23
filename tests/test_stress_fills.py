"""A tumour filled in: by hand, and where it cannot be done."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.holes import inside, reach, widened
from gyrus.stress import fills


def box(shape: tuple[int, int], top: int, left: int, height: int, width: int) -> NDArray[np.bool_]:
    found = np.zeros(shape, dtype=bool)
    found[top : top + height, left : left + width] = True
    return found


def pixels(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(50, 60, shape).astype(np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_corners() -> None:
    found = fills.corners((16, 32))
    assert found.sum() == 4 * 2 * 2
    assert found[:2, :2].all()
    assert found[-2:, -2:].all()
    assert found[:2, -2:].all()
    assert found[-2:, :2].all()
    assert fills.corners((1, 1)).all()


class TestTelea:
    def test_a_flat_picture_becomes_flat(self) -> None:
        picture = np.full((32, 32), 7, dtype=np.float32)
        hole = box((32, 32), 10, 10, 8, 8)
        picture[hole] = 99
        assert np.array_equal(fills.telea(picture, hole, np.ones((32, 32), bool)), np.full((32, 32), 7))

    def test_it_changes_nothing_else_and_not_what_it_was_given(self) -> None:
        picture, hole = pixels((40, 30)), box((40, 30), 0, 5, 9, 9)
        before = picture.copy()
        filled = fills.telea(picture, hole, np.ones((40, 30), bool))
        assert filled is not None
        assert filled.dtype == np.float32
        assert np.array_equal(filled[~hole], picture[~hole])
        assert np.array_equal(picture, before)

    def test_what_is_bright_around_the_head_is_not_smeared_into_it(self) -> None:
        picture = np.full((64, 64), 50, dtype=np.float32)
        picture[:, :6] = 250  # scalp
        head, hole = np.ones((64, 64), bool), box((64, 64), 20, 6, 12, 12)
        head[:, :2] = False
        filled = fills.telea(picture, hole, head)
        assert filled is not None
        assert filled[hole].max() == pytest.approx(50)

    def test_no_hole_and_nothing_but_hole(self) -> None:
        picture, head = pixels((9, 9)), np.ones((9, 9), bool)
        assert np.array_equal(fills.telea(picture, np.zeros((9, 9), bool), head), picture)
        assert fills.telea(picture, np.ones((9, 9), bool), head) is None

    def test_a_hole_over_the_whole_head(self) -> None:
        picture, head = np.zeros((20, 20), np.float32), box((20, 20), 5, 5, 10, 10)
        picture[head] = 9
        filled = fills.telea(picture, head, head)
        assert filled is not None
        assert not filled.any()  # what is left is background


class TestTissue:
    def test_the_mirrored_place(self) -> None:
        """On a picture of 20 columns across a head from 2 to 17, column 4 is mirrored to 15."""
        picture, head = pixels((20, 20)), box((20, 20), 2, 2, 16, 16)
        hole = box((20, 20), 8, 4, 3, 3)
        found = fills.tissue(picture, hole, head, hole, rng())
        assert found is not None
        filled, source = found
        assert source == fills.MIRROR
        mirrored = picture[8:11, 15:12:-1]
        ring = widened(hole, 1) & ~hole
        source_of = picture[:, ::-1]  # whose middle is the head's
        shift = np.median(picture[ring]) - np.median(source_of[ring])
        assert reach((20, 20)) == 1  # so nothing is faded
        assert filled[8:11, 4:7] == pytest.approx(np.clip(mirrored + shift, picture[~hole].min(), picture[~hole].max()))
        assert np.array_equal(filled[~hole], picture[~hole])

    def test_the_fill_has_the_level_of_its_rim(self) -> None:
        picture, head = np.zeros((64, 64), np.float32), np.ones((64, 64), bool)
        picture[:, :32], picture[:, 32:] = 10, 90
        hole = box((64, 64), 20, 10, 8, 8)
        picture[hole] = 200
        filled, source = fills.tissue(picture, hole, head, hole, rng()) or (picture, "")
        assert source == fills.MIRROR
        assert filled[hole] == pytest.approx(10)

    @pytest.mark.parametrize("how", ["telea", "tissue"])
    def test_no_bright_lump_beside_a_bright_scalp(self, how: str) -> None:
        """The rim lies half in the scalp, whose brightness is not that of what is to be filled."""
        picture, head = pixels((128, 128)), box((128, 128), 10, 10, 108, 108)
        picture[~head] = 0
        picture[head & ~box((128, 128), 19, 19, 90, 90)] = 250
        hole = box((128, 128), 40, 16, 30, 20)
        filled = (
            fills.telea(picture, hole, head)
            if how == "telea"
            else (fills.tissue(picture, hole, head, hole, rng(), mirror=False) or (None,))[0]
        )
        assert filled is not None
        assert np.median(filled[hole]) < 61
        assert filled[45:65, 20:36].max() < 65

    def test_it_is_faded_in(self) -> None:
        picture, head = np.zeros((256, 256), np.float32), np.ones((256, 256), bool)
        picture[:] = 8
        hole = box((256, 256), 100, 40, 30, 30)
        picture[hole] = 16
        filled, _ = fills.tissue(picture, hole, head, hole, rng()) or (picture, "")
        # A 256th: reach is 4, so the outermost pixel is a quarter tissue; nothing outside is brighter than 8.
        assert filled[115, 40:45].tolist() == [8, 8, 8, 8, 8]
        picture[0, 0] = 16
        filled, _ = fills.tissue(picture, hole, head, hole, rng()) or (picture, "")
        assert filled[115, 40:45].tolist() == [14, 12, 10, 8, 8]

    @pytest.mark.parametrize("case", ["tumour there", "outside the head", "across the middle", "sagittal"])
    def test_a_patch_where_the_mirrored_place_will_not_do(self, case: str) -> None:
        picture, head = pixels((96, 96)), box((96, 96), 8, 8, 80, 80)
        hole = box((96, 96), 40, 44 if case == "across the middle" else 16, 8, 8)
        avoid = hole.copy()
        if case == "tumour there":
            avoid |= box((96, 96), 44, 74, 2, 2)
        if case == "outside the head":
            head[40:48, 76:] = False
        picture[avoid] = 200
        found = fills.tissue(picture, hole, head, avoid, rng(), mirror=case != "sagittal")
        assert found is not None
        filled, source = found
        assert source == fills.PATCH
        assert 50 <= filled[44, hole[44]][3:5].min() <= filled[44, hole[44]][3:5].max() <= 200
        assert filled[hole].mean() < 90  # no tumour was copied

    def test_no_place_is_left(self) -> None:
        picture, head = pixels((64, 64)), box((64, 64), 10, 10, 40, 40)
        assert fills.tissue(picture, head, head, head, rng()) is None
        assert fills.healthy(picture, head, head, rng()) is None
        whole = np.ones((64, 64), bool)
        assert fills.tissue(picture, whole, whole, whole, rng()) is None
        nowhere = np.zeros((64, 64), bool)
        assert fills.tissue(picture, box((64, 64), 4, 4, 5, 5), nowhere, nowhere, rng()) is None

    def test_a_sinus_is_no_patch(self) -> None:
        """The only place it fits on is half black; the tissue around is too narrow for it."""
        picture = pixels((64, 64))
        hole, free = box((64, 64), 4, 4, 10, 10), box((64, 64), 40, 10, 10, 10) | box((64, 64), 20, 0, 9, 64)
        assert fills.patch(picture, hole, np.ones((64, 64), bool), free, rng()) is not None
        picture[40:45, 10:20] = 0
        assert fills.patch(picture, hole, np.ones((64, 64), bool), free, rng()) is None


class TestHealthy:
    def test_the_same_shape_elsewhere_in_the_head_apart_from_the_tumour(self) -> None:
        picture, head = pixels((96, 96)), box((96, 96), 8, 8, 80, 80)
        tumour = widened(box((96, 96), 40, 20, 3, 9), 2)
        seen = set()
        for seed in range(5):
            place = fills.healthy(picture, tumour, head, np.random.default_rng(seed))
            assert place is not None
            assert place.sum() == tumour.sum()
            assert not (widened(place, 1) & tumour).any()
            assert not (place & ~inside(head)).any()
            seen.add(tuple(np.argwhere(place)[0]))
        assert len(seen) > 1

    def test_it_prefers_what_the_tumour_lies_in(self) -> None:
        picture = np.full((96, 96), 30, np.float32)
        picture[:, 48:] = 100
        tumour = box((96, 96), 40, 60, 8, 8)
        place = fills.healthy(picture, tumour, np.ones((96, 96), bool), rng())
        assert place is not None
        assert picture[place].min() == 100


def test_blanked_corners_take_the_background() -> None:
    picture, head = np.full((16, 16), 3, np.float32), box((16, 16), 4, 4, 8, 8)
    picture[head], picture[0, 0] = 100, 77
    blanked = fills.blanked(picture, fills.corners((16, 16)), head)
    assert blanked[0, 0] == 3
    assert np.array_equal(np.flatnonzero(blanked != picture), [0])
    whole = np.ones((16, 16), bool)
    assert fills.background(picture, whole) == 3
