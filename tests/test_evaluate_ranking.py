"""Every localization metric: by hand, against independent programs, on degenerate and on changed maps."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from gyrus.evaluate.ranking import METRICS, PERCENTILES, score_map
from gyrus.thresholds import find_threshold

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

HAND_MAP = np.array([[0, 0, 1, 2, 0], [0, 3, 4, 2, 0], [0, 1, 7, 1, 0], [-1, 0, 2, 0, 0]], dtype=np.float32)
HAND_MASK = np.zeros((4, 5), dtype=bool)
HAND_MASK[1:3, 2:4] = True  # the values 4, 2, 7, 1

OF_RANKS = ("pointing", "iou_p95", "dice_p95", "rank_accuracy", "auprc")
OF_CUTS = [m for m in METRICS if m.startswith(("iou", "dice"))]
quick = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def pairs(draw: st.DrawFn, *, ties: bool) -> tuple[Map, Mask]:
    """A map, whole numbers (many ties) or all different, and a mask that is neither empty nor full."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(2, 9)))
    size = shape[0] * shape[1]
    flat = (
        draw(st.lists(st.integers(-3, 6), min_size=size, max_size=size)) if ties else draw(st.permutations(range(size)))
    )
    mask = draw(hnp.arrays(np.bool_, shape))
    assume(mask.any() and not mask.all())
    return np.array(flat, dtype=np.float32).reshape(shape), mask


def iou(kept: Mask, mask: Mask) -> float:
    """The Jaccard index of two sets of pixels."""
    return float((kept & mask).sum() / (kept | mask).sum())


def test_by_hand() -> None:
    # Sorted from the top: 7 4 | 3 | 2 2 2 | 1 1 1 | ten 0 | -1; in the mask are 7, 4, one 2 and one 1.
    score = score_map(HAND_MAP, HAND_MASK)
    assert score.reason == ""
    assert score.values == pytest.approx(
        {
            "pointing": 1.0,
            "iou_p95": 1 / 4,  # 0.95 * 19 = 18.05: above the 19th value, 4, lies 7 alone
            "dice_p95": 2 / 5,
            "iou_half": 2 / 4,  # at least 3.5: 7 and 4
            "dice_half": 4 / 6,
            "iou_otsu": 2 / 5,  # 17 values of mean 8/17 below, 7 4 3 above: 17 * 3 * (14/3 - 8/17)^2 is the greatest
            "dice_otsu": 4 / 7,
            "energy_inside": 14 / 23,
            "rank_accuracy": (2 + 1 / 3) / 4,  # 7, 4, 3, and one of three 2s, of which one is inside
            "auprc": (1 / 1 + 2 / 2 + 3 / 6 + 4 / 9) / 4,
        }
    )
    # 50 %: 0.5 * 19 = 9.5, above the tenth value, 0, lie nine; 75 %: 14.25, above the fifteenth, 2, lie three.
    assert score.curve[0] == pytest.approx(4 / 9)
    assert score.curve[list(PERCENTILES).index(75.0)] == pytest.approx(2 / 5)
    assert score.curve[list(PERCENTILES).index(95.0)] == score.values["iou_p95"]


def test_a_transposed_map_scores_otherwise() -> None:
    square = np.pad(HAND_MAP, ((0, 1), (0, 0)))
    mask = np.pad(HAND_MASK, ((0, 1), (0, 0)))
    mask[2, 2] = False
    straight, turned = score_map(square, mask).values, score_map(square.T.copy(), mask).values
    differing = {m for m in METRICS if straight[m] != pytest.approx(turned[m])}
    assert {"energy_inside", "rank_accuracy", "auprc", "iou_half"} <= differing


@quick
@given(st.one_of(pairs(ties=True), pairs(ties=False)))
def test_against_independent_programs(pair: tuple[Map, Mask]) -> None:
    values, mask = pair
    score = score_map(values, mask)
    got = score.values
    exact = values.astype(np.float64)
    assert got["pointing"] == pytest.approx(mask[exact == exact.max()].mean())
    assert got["iou_p95"] == pytest.approx(iou(exact > np.percentile(exact, 95), mask))
    assert score.curve == pytest.approx([iou(exact > np.percentile(exact, q), mask) for q in PERCENTILES])
    if exact.max() > 0:
        positive = np.maximum(exact, 0)
        assert got["iou_half"] == pytest.approx(iou(exact >= exact.max() / 2, mask))
        assert got["energy_inside"] == pytest.approx((positive * mask).sum() / positive.sum())
    assert got["auprc"] == pytest.approx(average_precision_score(mask.ravel(), exact.ravel()))
    for name in ("p95", "half", "otsu"):
        assert got[f"dice_{name}"] == pytest.approx(2 * got[f"iou_{name}"] / (1 + got[f"iou_{name}"]))
    assert all(0 <= v <= 1 for v in got.values())


@quick
@given(st.lists(st.integers(0, 2), min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_rank_accuracy_is_the_mean_over_all_orders_of_ties(flat: list[int], inside: list[bool]) -> None:
    assume(any(inside) and not all(inside))
    values, mask = np.array([flat], dtype=np.float32), np.array([inside])
    k = sum(inside)
    shares = []
    for order in permutations(range(6)):
        ranked = sorted(order, key=lambda i: -flat[i])  # stable: ties stay in the order of the permutation
        shares.append(sum(inside[i] for i in ranked[:k]) / k)
    assert score_map(values, mask).values["rank_accuracy"] == pytest.approx(float(np.mean(shares)))


@pytest.mark.parametrize("seed", range(8))
def test_otsu_is_opencv_s_on_eight_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = rng.normal(60, 20, 300), rng.normal(170, 25, 120)
    grey = np.clip(np.concatenate([low, high, [0, 255]]), 0, 255).astype(np.uint8)[:, None]
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = np.zeros(grey.shape, dtype=bool)
    mask[300:] = True
    ours = find_threshold("otsu").level(np.sort(grey.astype(np.float32), axis=None))
    assert ((grey > ours) == (grey > level)).all()
    assert score_map(grey.astype(np.float32), mask).values["iou_otsu"] == pytest.approx(iou(grey > level, mask))


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e4])
def test_otsu_maximises_the_variance_between_over_all_bin_edges(offset: float) -> None:
    values = (np.random.default_rng(3).gamma(1.0, 2.0, (9, 11)) + offset).astype(np.float32)
    exact = values.astype(np.float64)
    edges = np.linspace(exact.min(), exact.max(), 257)
    bins = np.clip(np.searchsorted(edges, exact, "left") - 1, 0, 255)  # each value replaced by its bin, as Otsu does
    best, best_edge = -1.0, np.nan
    for i in range(255):
        below, above = bins[bins <= i], bins[bins > i]
        if len(below) and len(above):
            between = len(below) * len(above) * (below.mean() - above.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, best_edge = between, edges[i + 1]
    assert find_threshold("otsu").level(np.sort(values, axis=None)) == pytest.approx(best_edge)


@quick
@given(pairs(ties=True), st.sampled_from(["cube", "exp", "scale", "shift", "rank", "steep"]))
def test_metrics_of_ranks_see_only_the_order(pair: tuple[Map, Mask], change: str) -> None:
    values, mask = pair
    changes = {
        "cube": values**3,
        "exp": np.exp(values),
        "scale": values * np.float32(1e30),
        "shift": values + np.float32(1e6),
        "rank": np.unique(values, return_inverse=True)[1].reshape(values.shape),
        # neighbours in float32, between which nothing can be interpolated
        "steep": np.nextafter(np.float32(1), np.float32(2)) ** (values + 3),
    }
    if change == "steep":
        ladder = [np.float32(1)]
        for _ in range(9):
            ladder.append(np.nextafter(ladder[-1], np.float32(2)))
        changes["steep"] = np.array(ladder)[values.astype(int) + 3]
    before, after = score_map(values, mask), score_map(changes[change].astype(np.float32), mask)
    assert {m: after.values[m] for m in OF_RANKS} == {m: before.values[m] for m in OF_RANKS}
    assert (after.curve == before.curve).all()


@quick
@given(pairs(ties=True), st.sampled_from([0.25, 2.0, 1024.0]))
def test_every_metric_ignores_the_unit(pair: tuple[Map, Mask], unit: float) -> None:
    values, mask = pair
    assert score_map(values * np.float32(unit), mask).values == score_map(values, mask).values


@quick
@given(st.one_of(pairs(ties=True), pairs(ties=False)), st.sampled_from([(0,), (1,), (0, 1)]))
def test_flipping_map_and_mask_together_changes_nothing(pair: tuple[Map, Mask], axes: tuple[int, ...]) -> None:
    values, mask = pair
    flipped = score_map(np.flip(values, axes), np.flip(mask, axes))
    turned = score_map(values.T, mask.T)
    assert flipped.values == turned.values == score_map(values, mask).values


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0])
def test_a_blank_map_scores_chance_or_nothing(value: float) -> None:
    score = score_map(np.full((4, 5), value, dtype=np.float32), HAND_MASK)
    assert score.reason == ""
    chance = 4 / 20
    assert {m: score.values[m] for m in ("pointing", "rank_accuracy", "auprc")} == pytest.approx(
        dict.fromkeys(("pointing", "rank_accuracy", "auprc"), chance)
    )
    nothing = ("iou_p95", "dice_p95", "iou_otsu", "dice_otsu")
    assert [score.values[m] for m in nothing] == [0.0] * 4
    assert (score.curve == 0).all()
    # Half of a positive maximum is below every value, so all is kept; without a positive value nothing is.
    assert score.values["iou_half"] == pytest.approx(chance if value > 0 else 0.0)
    assert score.values["energy_inside"] == pytest.approx(chance if value > 0 else 0.0)


def test_a_map_without_positive_values() -> None:
    score = score_map(HAND_MAP - 10, HAND_MASK)
    assert score.values["iou_half"] == score.values["dice_half"] == score.values["energy_inside"] == 0.0
    shifted = score_map(HAND_MAP, HAND_MASK)
    for name in (*OF_RANKS, "iou_otsu"):
        assert score.values[name] == shifted.values[name]


def test_ties_at_the_maximum_count_as_the_expected_hit() -> None:
    values = HAND_MAP.copy()
    values[[0, 0, 3], [0, 1, 0]] = 7  # with the 7 inside, four share the maximum
    assert score_map(values, HAND_MASK).values["pointing"] == 0.25


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_has_no_score(bad: float) -> None:
    values = HAND_MAP.copy()
    values[0, 0] = bad
    score = score_map(values, HAND_MASK)
    assert score.reason == "non-finite map"
    assert list(score.values) == list(METRICS)
    assert all(np.isnan(v) for v in score.values.values())
    assert score.curve.shape == PERCENTILES.shape
    assert np.isnan(score.curve).all()


@pytest.mark.parametrize(
    ("mask", "reason"), [(np.zeros((4, 5), bool), "empty mask"), (np.ones((4, 5), bool), "full mask")]
)
def test_a_mask_that_excludes_nothing_or_all_has_no_score(mask: Mask, reason: str) -> None:
    for values in (HAND_MAP, np.full_like(HAND_MAP, np.nan)):
        score = score_map(values, mask)
        assert score.reason == reason
        assert all(np.isnan(v) for v in score.values.values())
        assert np.isnan(score.curve).all()


def test_a_mask_of_one_pixel() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[2, 2] = True
    hit = score_map(HAND_MAP, mask).values
    assert [hit[m] for m in ("pointing", "iou_p95", "dice_p95", "rank_accuracy", "auprc")] == [1.0] * 5
    assert hit["energy_inside"] == pytest.approx(7 / 23)
    mask = np.zeros((4, 5), dtype=bool)
    mask[3, 0] = True  # the least value of all
    missed = score_map(HAND_MAP, mask).values
    assert [missed[m] for m in ("pointing", "rank_accuracy", "energy_inside", *OF_CUTS)] == [0.0] * (3 + len(OF_CUTS))
    assert missed["auprc"] == pytest.approx(1 / 20)


def test_the_mask_itself_as_map_scores_one_and_its_complement_nothing() -> None:
    best = score_map(HAND_MASK.astype(np.float32), HAND_MASK).values
    worst = score_map((~HAND_MASK).astype(np.float32), HAND_MASK).values
    cut = {"iou_p95", "dice_p95"}  # a fifth of the pixels ties at the 95th percentile, so nothing is above it
    assert {m: v for m, v in best.items() if m not in cut} == dict.fromkeys(set(METRICS) - cut, 1.0)
    assert best["iou_p95"] == 0.0
    assert {m: v for m, v in worst.items() if m != "auprc"} == dict.fromkeys(set(METRICS) - {"auprc"}, 0.0)
    assert worst["auprc"] == pytest.approx(4 / 20)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 3.4e38])
def test_values_at_the_ends_of_float32(scale: float) -> None:
    values = np.where(HAND_MASK, scale, -scale).astype(np.float32)
    score = score_map(values, HAND_MASK)
    assert score.values["pointing"] == score.values["iou_otsu"] == score.values["energy_inside"] == 1.0
    assert np.isfinite(score.curve).all()


def test_energy_never_exceeds_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.random((5, 8), dtype=np.float32) + np.float32(0.1)
        mask = np.ones((5, 8), dtype=bool)
        mask[0, 0], values[0, 0] = False, 1e-20  # too little to change the sum, enough to change its order
        assert 0.999 < score_map(values, mask).values["energy_inside"] <= 1.0


def test_the_curve_runs_from_half_the_pixels_to_hardly_any() -> None:
    assert PERCENTILES[[0, -1]].tolist() == [50.0, 99.5]
