"""How alike two maps are: by hand, against SciPy, and on degenerate maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gyrus.evaluate.agreement import agreement_matrix, rank_correlation, ssim, top_overlap


def noise(seed: int, n: int = 4, shape: tuple[int, int] = (9, 11)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def test_ranks_by_hand() -> None:
    a = np.array([[[1, 2], [3, 4]]], dtype=np.float32)
    b = np.array([[[10, 30], [20, 40]]], dtype=np.float32)
    assert rank_correlation(a, b) == pytest.approx([1 - 6 * 2 / (4 * 15)])  # two ranks differ by one
    assert rank_correlation(a, -a) == pytest.approx([-1])
    tied = np.array([[[1, 1], [2, 2]]], dtype=np.float32)
    assert rank_correlation(a, tied) == pytest.approx([2 / np.sqrt(5)])


def test_ranks_agree_with_scipy_ties_included() -> None:
    a, b = noise(0).round(1), noise(1).round(1)
    b[0] += a[0]
    expected = [stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    assert rank_correlation(a, b) == pytest.approx(expected)
    assert rank_correlation(np.exp(a), b) == pytest.approx(expected)


def test_the_overlap_of_the_highest_by_hand() -> None:
    a = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    assert top_overlap(a, a) == pytest.approx([1])
    assert top_overlap(a, -a) == pytest.approx([0])
    b = a.copy()
    b[0, 9, 8:] = -1  # the two highest of a are the lowest of b: three of five are common
    assert top_overlap(a, b) == pytest.approx([3 / 5])
    tied = a.copy()
    tied[0, 7] = 200  # ten tie for five places, none of them among a's five
    assert top_overlap(a, tied) == pytest.approx([0])
    tied[0, 9, 5:] = 200  # with a's own, fifteen tie: each is in with a chance of a third
    assert top_overlap(a, tied) == pytest.approx([1 / 3])


def test_structure_by_hand() -> None:
    a = np.zeros((1, 7, 7), dtype=np.float32)  # one window
    a[0, 0, 0] = 5
    b = np.zeros((1, 7, 7), dtype=np.float32)
    b[0, 6, 6] = 3
    mean, var, both = 1 / 49, (1 / 49 - 1 / 49**2) * 49 / 48, -(1 / 49**2) * 49 / 48
    c1, c2 = 1e-4, 9e-4
    expected = (2 * mean**2 + c1) * (2 * both + c2) / ((2 * mean**2 + c1) * (2 * var + c2))
    assert ssim(a, b) == pytest.approx([expected])
    assert ssim(a, 2 * a + 7) == pytest.approx([1])  # each is scaled to [0, 1]


# scikit-image 0.26.0, structural_similarity(data_range=1), of noise(seed), noise(seed + 10) + noise(seed), each scaled.
SCIKIT_IMAGE = {0: 0.70227136, 1: 0.64873465, 2: 0.71345538}


@pytest.mark.parametrize("seed", SCIKIT_IMAGE)
def test_frozen_values_of_scikit_image(seed: int) -> None:
    a, b = noise(seed, 1, (20, 26)), noise(seed, 1, (20, 26)) + noise(seed + 10, 1, (20, 26))
    assert ssim(a, b) == pytest.approx([SCIKIT_IMAGE[seed]], abs=1e-6)


@pytest.mark.parametrize("measure", [rank_correlation, ssim])
def test_a_blank_map_is_like_no_other(measure) -> None:
    some, blank = noise(0, 1), np.full((1, 9, 11), 3, dtype=np.float32)
    assert measure(some, blank).tolist() == measure(blank, some).tolist() == [0.0]
    assert np.isnan(measure(blank, blank)).all()


def test_a_blank_map_has_the_chance_s_share_of_the_highest() -> None:
    some, blank = noise(0, 1, (10, 10)), np.zeros((1, 10, 10), dtype=np.float32)
    assert top_overlap(some, blank) == pytest.approx([0.05])
    assert top_overlap(blank, blank) == pytest.approx([0.05])


@pytest.mark.parametrize("measure", [rank_correlation, ssim, top_overlap])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_left_undefined_alone(measure, bad: float) -> None:
    a, b = noise(0), noise(1)
    clean = measure(a, b)
    a[1, 2, 2] = bad
    for got in (measure(a, b), measure(b, a)):
        assert np.isnan(got).tolist() == [False, True, False, False]
        assert got[[0, 2, 3]] == pytest.approx(clean[[0, 2, 3]])


def test_the_matrix_between_methods() -> None:
    a = noise(0)
    blank = np.zeros_like(a)
    got = agreement_matrix({"a": a, "minus": -a, "blank": blank, "bad": a * np.nan})
    assert got[:3, :3] == pytest.approx(np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 1]]))
    assert np.isnan(got[3, :3]).all()
    assert (got == got.T)[:3, :3].all()
