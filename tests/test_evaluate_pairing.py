"""Comparisons of answers: by hand, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gyrus.artifacts import plain
from gyrus.errors import InputError
from gyrus.evaluate.pairing import compare_independent, compare_paired


def answers(text: str) -> np.ndarray:
    return np.array([c == "1" for c in text])


class TestPaired:
    def test_by_hand(self) -> None:
        """Six slices that one alone has right, one of them a: p is 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64."""
        a, b = answers("1110000010"), answers("1101111100")
        a[8] = b[8] = True
        found = compare_paired(a, b, [str(i) for i in range(10)])
        assert (found.only_a, found.only_b) == (1, 5)
        assert found.mcnemar_p == pytest.approx(14 / 64)
        assert (found.a.value, found.b.value) == pytest.approx((0.4, 0.8))
        assert found.difference.value == pytest.approx(0.4)
        assert (found.difference.n, found.difference.groups) == (10, 10)
        assert found.difference.low < 0.4 < found.difference.high

    def test_turned_round_it_says_the_same(self) -> None:
        rng = np.random.default_rng(0)
        a, b, groups = rng.random(60) < 0.7, rng.random(60) < 0.8, [f"p{i // 3}" for i in range(60)]
        one, other = compare_paired(a, b, groups), compare_paired(b, a, groups)
        assert one.difference.low == pytest.approx(-other.difference.high)
        assert one.mcnemar_p == other.mcnemar_p
        assert (one.only_a, one.only_b) == (other.only_b, other.only_a)

    def test_draws_are_of_whole_patients(self) -> None:
        """Two patients, b right on all of one, a on all of the other: each replicate is -1, 0 or 1."""
        a, b = answers("0000011111"), answers("1111100000")
        by_patient = compare_paired(a, b, ["x"] * 5 + ["y"] * 5).difference
        assert (by_patient.low, by_patient.value, by_patient.high) == (-1.0, 0.0, 1.0)
        by_slice = compare_paired(a, b, [str(i) for i in range(10)]).difference
        assert by_slice.high < 1.0

    def test_equal_answers(self) -> None:
        a = answers("1101")
        found = compare_paired(a, a, list("wxyz"))
        assert (found.difference.low, found.difference.value, found.difference.high) == (0.0, 0.0, 0.0)
        assert found.mcnemar_p == 1.0

    def test_interval_is_that_of_a_loop(self) -> None:
        rng = np.random.default_rng(1)
        a, b, patient = rng.random(40) < 0.5, rng.random(40) < 0.7, rng.integers(0, 12, 40)
        found = compare_paired(a, b, [f"{p:02d}" for p in patient], seed=7).difference
        names = np.unique(patient)
        draws = np.random.default_rng(7).integers(0, len(names), (2000, len(names)))
        rows = (np.concatenate([np.flatnonzero(patient == names[g]) for g in draw]) for draw in draws)
        drawn = [b[i].mean() - a[i].mean() for i in rows]
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))

    def test_plain(self) -> None:
        found = plain(compare_paired(answers("10"), answers("11"), ["x", "y"]))
        assert list(found) == ["a", "b", "difference", "only_a", "only_b", "mcnemar_p"]
        assert found["difference"]["value"] == 0.5

    def test_refuses(self) -> None:
        with pytest.raises(InputError, match="no slice to compare"):
            compare_paired(answers(""), answers(""), [])
        with pytest.raises(InputError, match="3 answers cannot be compared over 2 patient names"):
            compare_paired(answers("10"), answers("101"), ["x", "y"])


class TestIndependent:
    def test_by_hand(self) -> None:
        found = compare_independent(answers("1000"), list("wxyz"), answers("110"), list("abc"))
        assert found.difference.value == pytest.approx(2 / 3 - 1 / 4)
        assert (found.difference.n, found.difference.groups) == (7, 7)
        assert (found.a.groups, found.b.groups) == (4, 3)
        assert (found.only_a, found.only_b, found.mcnemar_p) == (None, None, None)

    def test_one_patient_on_a_side_says_nothing_of_others(self) -> None:
        for one, other in (("aaaa", "xyz"), ("wxyz", "bbb")):
            found = compare_independent(answers("1000"), list(one), answers("110"), list(other)).difference
            assert found.value == pytest.approx(2 / 3 - 1 / 4)
            assert math.isnan(found.low)
            assert math.isnan(found.high)

    def test_interval_has_the_width_of_both(self) -> None:
        """Of proportions 0.3 and 0.6 of 400 and 300: 1.96 sqrt(p q / n + p q / n) to either side."""
        a, b = np.arange(400) < 120, np.arange(300) < 180
        found = compare_independent(a, [f"a{i}" for i in range(400)], b, [f"b{i}" for i in range(300)]).difference
        half = 1.96 * math.sqrt(0.3 * 0.7 / 400 + 0.6 * 0.4 / 300)
        assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)

    def test_sides_are_drawn_apart(self) -> None:
        """The same draws for both would cancel to nothing."""
        a, groups = np.arange(100) < 50, [str(i) for i in range(100)]
        found = compare_independent(a, groups, a, groups, seed=3).difference
        assert found.low < -0.1
        assert found.high > 0.1
        assert found == compare_independent(a, groups, a, groups, seed=3).difference

    def test_refuses(self) -> None:
        with pytest.raises(InputError, match="no slice to compare"):
            compare_independent(answers("1"), ["x"], answers(""), [])
