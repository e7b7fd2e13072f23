"""The steps on the way to a pair: turns, sketches, candidates, the comparison, and chains that are cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gyrus.datasets import open_dataset
from gyrus.duplicates import find_copies
from gyrus.duplicates.chains import Link, cut_chains
from gyrus.duplicates.clusters import Copies, connected
from gyrus.duplicates.search import EXACT, Candidate, candidates
from gyrus.duplicates.sketch import (
    BLACK,
    FEATURES,
    THUMB,
    WHITE,
    Sketch,
    _ends,
    _features,
    leaning_left,
    mirrored,
    sketch,
)
from gyrus.duplicates.turns import Turn, nearest
from gyrus.duplicates.verify import SIMILAR, compare, similarity
from gyrus.records import Record

EIGHT = [Turn(flip, quarters) for flip in (False, True) for quarters in range(4)]
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def slices(tiny_phantom: Path) -> list[Floats]:
    return [r.read().pixels for r in open_dataset(tiny_phantom).records]


class TestTurns:
    @pytest.mark.parametrize("turn", EIGHT, ids=str)
    def test_the_matrix_does_what_rot90_does(self, turn: Turn) -> None:
        """A bright pixel right of and above the middle goes where the matrix sends its direction."""
        picture = np.zeros((5, 5))
        picture[1, 4] = 1
        x, y = turn.matrix @ (2, -1)
        moved = np.rot90(picture[:, ::-1] if turn.mirrored else picture, turn.quarters)
        assert moved[2 + int(y), 2 + int(x)] == 1

    def test_words(self) -> None:
        assert [str(t) for t in EIGHT] == [
            "as is", "turned 90", "turned 180", "turned 270",
            "mirrored", "mirrored, turned 90", "mirrored, turned 180", "mirrored, turned 270",
        ]  # fmt: skip

    @pytest.mark.parametrize("turn", EIGHT, ids=str)
    def test_the_nearest_to_a_bent_matrix(self, turn: Turn) -> None:
        assert nearest(turn.matrix @ np.array([[1.2, 0.05], [-0.04, 0.85]])) == turn


class TestSketch:
    def test_sizes(self, slices: list[Floats]) -> None:
        made = sketch(slices[0])
        assert max(made.thumb.shape) == THUMB
        assert made.points.shape == (FEATURES, 4)
        assert made.descriptors.shape == (FEATURES, 128)
        assert made.thumb.nbytes + made.points.nbytes + made.descriptors.nbytes < 24_000

    def test_units_do_not_matter(self, slices: list[Floats]) -> None:
        one, other = sketch(slices[0]), sketch(slices[0] * 16 - 1000)
        assert np.abs(one.thumb.astype(int) - other.thumb).max() <= 1

    def test_the_grain_is_how_far_it_was_enlarged(self, slices: list[Floats]) -> None:
        textured = np.random.default_rng(0).random((64, 48), dtype=np.float32)
        assert sketch(textured).grain == THUMB / 64
        assert sketch(np.kron(textured, np.ones((8, 8), dtype=np.float32))).grain == 1

    def test_an_empty_border_is_cut(self, slices: list[Floats]) -> None:
        framed = np.pad(slices[0], 60)
        assert sketch(framed).thumb.shape == pytest.approx(sketch(slices[0]).thumb.shape, abs=2)

    def test_a_constant_picture_has_no_features(self) -> None:
        made = sketch(np.full((64, 80), 12, dtype=np.float32))
        assert made.thumb.max() == 0
        assert len(made.points) == len(made.descriptors) == 0

    def test_mirrored_descriptors_are_those_of_the_mirror_image(self, slices: list[Floats]) -> None:
        """Each mirrored descriptor is far nearer to one of the mirror image than to any as it was."""

        def to_nearest(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
            gaps = some[:, None].astype(float) - others[None]
            return float(np.median(np.sqrt((gaps**2).sum(axis=2)).min(axis=1)))

        here, there = sketch(slices[0]), sketch(np.ascontiguousarray(slices[0][:, ::-1]))
        raw, mirror_image = (_features(made.thumb)[1] for made in (here, there))
        assert to_nearest(mirrored(raw), mirror_image) < 10
        assert to_nearest(raw, mirror_image) > 100
        np.testing.assert_array_equal(mirrored(mirrored(raw)), raw)
        assert to_nearest(here.descriptors, there.descriptors) < 10

    def test_a_feature_and_its_mirror_image_lean_to_one_side(self, slices: list[Floats]) -> None:
        """By hand: a gradient at 90 degrees from the axis, anticlockwise, points left of it."""
        left = np.zeros((1, 128), dtype=np.uint8)
        left[0, 2] = 9
        for descriptors, changed in ((left, False), (mirrored(left), True)):
            found, flipped = leaning_left(descriptors)
            np.testing.assert_array_equal(found, left)
            assert flipped.tolist() == [changed]
        made = np.concatenate([_features(sketch(p).thumb)[1] for p in slices])
        here, there = leaning_left(made), leaning_left(mirrored(made))
        np.testing.assert_array_equal(here[0], there[0])
        np.testing.assert_array_equal(here[1], ~there[1])
        assert 0.3 < here[1].mean() < 0.7


def maps(found: list[Candidate]) -> list[NDArray[np.float64]]:
    return [laid for c in found if (laid := c.fit()) is not None]


class TestCandidates:
    def test_none_without_features(self) -> None:
        empty = sketch(np.zeros((64, 64), dtype=np.float32))
        assert candidates([]) == []
        assert candidates([empty, empty]) == []

    def test_the_map_leads_from_the_first_to_the_second(self) -> None:
        """A texture of 256 pixels that fills its frame, at half size, and without its upper 56 rows."""
        texture = cv2.GaussianBlur(np.random.default_rng(0).random((256, 256), dtype=np.float32), (0, 0), 4)
        first, second = sketch(texture), sketch(texture[56:])
        found = candidates([first, second])
        assert {(c.first, c.second) for c in found} == {(0, 1)}
        laid = max(maps(found), key=lambda laid: compare(first, second, laid)[0])
        assert first.thumb.shape == (128, 128)
        assert second.thumb.shape == (100, 128)
        np.testing.assert_allclose(laid, [[1, 0, 0], [0, 1, -28]], atol=0.5)

    def test_the_inverted_file_finds_what_comparing_all_finds(self, slices: list[Floats]) -> None:
        """Beyond EXACT features; each slice and five crops of it."""
        crops = [p[k : 96 - k % 3, 2 * k : 96 - k] for k in range(6) for p in slices]
        sketches = [sketch(np.ascontiguousarray(p)) for p in crops]
        assert sum(len(s.points) for s in sketches) > EXACT
        n = len(slices)
        found = {(c.first, c.second) for c in candidates(sketches) if c.fit() is not None}
        assert {(i, i + n * k) for i in range(n) for k in range(1, 6)} <= found


class TestSimilarity:
    everywhere = np.ones((128, 128), dtype=bool)

    @pytest.fixture(scope="class")
    @staticmethod
    def picture(slices: list[Floats]) -> Floats:
        thumb = sketch(slices[0]).thumb.astype(np.float32) / 255
        return np.pad(thumb, ((0, 128 - thumb.shape[0]), (0, 128 - thumb.shape[1])))

    def test_of_equals_is_one_and_of_opposites_minus_one(self, picture: Floats) -> None:
        assert similarity(picture, picture, self.everywhere) == pytest.approx(1, abs=1e-4)
        assert similarity(picture, 1 - picture, self.everywhere) == pytest.approx(-1, abs=1e-3)

    def test_does_not_see_gamma(self, picture: Floats) -> None:
        assert similarity(picture, picture**1.4, self.everywhere) > 0.98
        assert similarity(picture, 0.2 + 0.6 * picture, self.everywhere) == pytest.approx(1, abs=1e-2)

    def test_of_unrelated_pictures_is_small(self) -> None:
        one, other = np.random.default_rng(0).random((2, 128, 128), dtype=np.float32)
        assert abs(similarity(one, other, self.everywhere)) < 0.05

    def test_of_flat_pictures_is_nothing(self) -> None:
        flat = np.full((128, 128), 0.5, dtype=np.float32)
        assert similarity(flat, flat, self.everywhere) == 0

    def test_what_is_not_seen_does_not_count(self, picture: Floats) -> None:
        spoilt = picture.copy()
        spoilt[:40] = np.random.default_rng(0).random((40, 128), dtype=np.float32)
        seen = self.everywhere.copy()
        seen[:40] = False
        assert similarity(picture, spoilt, seen) == pytest.approx(1, abs=1e-4)
        assert similarity(picture, spoilt, self.everywhere) < 0.9

    def test_a_start_that_is_off_is_mended(self, slices: list[Floats]) -> None:
        made = sketch(slices[0])
        off = np.array([[1.01, 0, 0.7], [0, 0.99, -0.5]])
        value, found = compare(made, made, off)
        assert value > 0.999
        np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0]], atol=0.05)

    def test_too_small_an_overlap_is_nothing(self, slices: list[Floats]) -> None:
        made = sketch(slices[0])
        value, _ = compare(made, made, np.array([[1.0, 0, 100.0], [0, 1.0, 0]]))
        assert value == 0

    def test_neighbours_in_one_patient_are_no_copies(self, slices: list[Floats]) -> None:
        """The three planes of each patient follow one another in the phantom; equal planes are the harder ones."""
        sketches = [sketch(p) for p in slices]
        values = [
            compare(sketches[c.first], sketches[c.second], laid)[0]
            for c in candidates(sketches)
            if (laid := c.fit()) is not None
        ]
        assert values
        assert max(values) < SIMILAR


class TestClusters:
    def test_connected(self) -> None:
        assert connected([(5, 3), (1, 2), (3, 4)]) == [[1, 2], [3, 4, 5]]
        assert connected([]) == []

    def test_cluster_numbers(self) -> None:
        assert Copies(6, (), ((4, 1), (2, 5))).cluster_of() == [2, 0, 1, 3, 0, 1]
        assert Copies(0, (), ()).cluster_of() == []


class TestChains:
    step = np.array([[1.0, 0, 1.0], [0, 1.0, 0]])

    def links(self, ends: list[tuple[int, int]]) -> list[Link]:
        return [Link(a, b, 0.99, (b - a) * (self.step - np.eye(2, 3)) + np.eye(2, 3)) for a, b in ends]

    def kept(self, ends: list[tuple[int, int]], worth: list[int], reach: int) -> list[tuple[int, int]]:
        """Slices resemble each other when their numbers are at most ``reach`` apart; the map shifts by as much."""

        def resemble(first: int, second: int, start: NDArray[np.float64]) -> bool:
            np.testing.assert_allclose(start, [[1, 0, second - first], [0, 1, 0]], atol=1e-9)
            return abs(first - second) <= reach

        kept = cut_chains(self.links(ends), [(w, 0) for w in worth], resemble)
        return [(link.first, link.second) for link in kept]

    def test_a_cluster_that_hangs_together_is_left_alone(self) -> None:
        ends = [(0, 1), (1, 2), (2, 3)]
        assert self.kept(ends, [1, 1, 1, 1], reach=3) == ends

    def test_a_chain_is_cut_into_what_resembles_its_representatives(self) -> None:
        """From slice 0, which is worth most, to 2; then from 3 to 5; then 6 alone."""
        ends = list(pairwise(range(7)))
        assert self.kept(ends, [9, 1, 1, 5, 1, 1, 1], reach=2) == [(0, 1), (1, 2), (3, 4), (4, 5)]

    def test_what_is_linked_to_the_representative_stays(self) -> None:
        assert self.kept([(0, 5), (0, 1)], [9, 0, 0, 0, 0, 0], reach=1) == [(0, 1), (0, 5)]

    def test_order_of_links_does_not_matter(self) -> None:
        ends = [*pairwise(range(9)), (20, 21)]
        worth = [1] * 30
        assert self.kept(ends, worth, 2) == self.kept(ends[::-1], worth, 2)


def test_a_sketch_is_what_the_parts_exchange(slices: list[Floats]) -> None:
    """Two equal pictures, by every step: found, mapped onto themselves, and wholly similar."""
    same = [sketch(slices[0]), sketch(slices[0].copy())]
    found = candidates(same)
    assert all(isinstance(s, Sketch) for s in same)
    assert max(compare(same[0], same[1], laid)[0] for laid in maps(found)) == pytest.approx(1, abs=1e-4)


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=400))
def test_the_ends_are_numpys_percentiles(values: list[float]) -> None:
    given_values = np.array(values, dtype=np.float32)
    assert _ends(given_values) == pytest.approx(np.percentile(given_values, (BLACK, WHITE)), rel=1e-6, abs=1e-3)


def test_opencv_has_its_threads_back(tmp_path: Path) -> None:
    """They are one setting of the whole process; the copies are searched for in threads of our own."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        find_copies([])
        assert cv2.getNumThreads() == 3
        with pytest.raises(RuntimeError):
            find_copies([Record(id="a", path=_written(tmp_path / "a.png"))], progress=_fail)
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def _written(path: Path) -> Path:
    cv2.imwrite(str(path), np.zeros((8, 8), dtype=np.uint8))
    return path


def _fail(what: str, done: int, total: int) -> None:
    raise RuntimeError
