"""Where maps are cut: every rule by hand, on degenerate maps, and learned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gyrus.errors import InputError
from gyrus.evaluate.ranking import Ranking
from gyrus.thresholds import RULES, Threshold, components, find_threshold, largest_component, learn, list_thresholds

MAP = np.array([[0, 0, 1, 2, 0], [0, 3, 4, 2, 0], [0, 1, 7, 1, 0], [-1, 0, 2, 0, 0]], dtype=np.float32)
ALL = [r if RULES[r].default is None else f"{r}:{RULES[r].default}" for r in RULES]


def above(level: float) -> np.ndarray:
    return level < MAP


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("percentile:95", above(4)),  # 0.95 * 19 = 18.05: above the 19th value, 4, lies 7 alone
        ("percentile:75", above(2)),  # 14.25: above the fifteenth value, 2, lie three
        ("percentile:0", above(-1)),
        ("maximum:0.5", MAP >= 3.5),
        ("maximum:0", MAP >= 0),
        ("maximum", MAP >= 3.5),
        ("prominence:0.5", MAP >= 3.5),  # the median is 0, the maximum 7
        ("prominence:0", MAP >= 0),
        ("prominence", MAP >= 3.5),
        ("otsu", above(2.5)),
        ("sigma:2", above(1.1 + 2 * np.sqrt(MAP.astype(float).var()))),  # the mean is 22 / 20
        ("sigma:0", above(1.1)),
        ("value:2", above(2)),
        ("value", above(0)),
        ("value:-1.5", above(-1.5)),
    ],
)
def test_each_rule_by_hand(name: str, kept: np.ndarray) -> None:
    assert (find_threshold(name).keep(MAP) == kept).all()


@pytest.mark.parametrize("name", ["maximum:0.9", "maximum:0.7", "maximum:0.3", "value:0.1", "value:0.7"])
def test_what_is_kept_is_what_is_scored_also_at_the_level(name: str) -> None:
    tenths = np.random.default_rng(0).integers(0, 11, (32, 32)).astype(np.float32) / np.float32(10)
    mask = np.zeros(tenths.shape, dtype=bool)
    mask[4:12, 6:20] = True
    threshold = find_threshold(name)
    kept = threshold.keep(tenths)
    assert Ranking(tenths, mask).cut(threshold) == (kept & mask).sum() / (kept | mask).sum()


def test_the_rise_starts_at_the_median_wherever_the_zero_lies() -> None:
    shifted = np.concatenate([MAP.ravel(), [-5, -5, -5, -5, 9]]).astype(np.float32)[None] - 40
    rule = find_threshold("prominence:0.25")
    assert rule.level(np.sort(shifted, axis=None)) == -40 + 0.25 * 9  # the middle one of 25 is a zero
    assert (rule.keep(shifted) == (shifted + 40 >= 2.25)).all()
    even = np.array([[1, 2, 4, 10]], dtype=np.float32)
    assert find_threshold("prominence:0.5").level(even.ravel()) == 3 + 0.5 * 7


def test_the_variance_used_is_over_all_pixels() -> None:
    assert MAP.mean() == pytest.approx(22 / 20)
    level = find_threshold("sigma:2").level(np.sort(MAP, axis=None))
    squares = 3 * 1 + 3 * 4 + 9 + 16 + 49 + 1
    assert level == pytest.approx(1.1 + 2 * np.sqrt(squares / 20 - 1.1**2))


@pytest.mark.parametrize("seed", range(4))
def test_otsu_is_opencv_s_on_eight_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = np.clip(np.r_[rng.normal(60, 20, 300), rng.normal(170, 25, 120), 0, 255], 0, 255).astype(np.uint8)[:, None]
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    assert (find_threshold("otsu").keep(grey.astype(np.float32)) == (grey > level)).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [0.0, 0.1, 3.0, -2.0])
def test_a_blank_map_keeps_nothing_but_by_a_positive_maximum_or_value(name: str, value: float) -> None:
    kept = find_threshold(name).keep(np.full((7, 9), value, dtype=np.float32))
    assert kept.all() == kept.any() == (name.startswith(("maximum", "value")) and value > 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_keeps_nothing(name: str, bad: float) -> None:
    values = MAP.copy()
    values[1, 1] = bad
    assert not find_threshold(name).keep(values).any()


@pytest.mark.parametrize("name", ALL)
def test_the_unit_does_not_matter_and_the_map_is_left_alone(name: str) -> None:
    before = MAP.copy()
    rule = find_threshold(name)
    assert (rule.keep(MAP * 1024) == rule.keep(MAP)).all()
    assert (rule.keep(MAP.T) == rule.keep(MAP).T).all()
    assert (before == MAP).all()


def test_the_largest_component_touches_across_corners() -> None:
    kept = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    labels, areas = components(kept)
    assert sorted(areas.tolist()) == [2, 2, 2]
    assert labels[0, 0] == labels[1, 1] != labels[0, 3]
    assert (largest_component(kept) == (labels == 1)).all()  # of equals the first
    kept[2, 0] = True  # joins the left two
    assert (largest_component(kept) == (np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]) > 0)).all()
    assert not largest_component(np.zeros((3, 3), dtype=bool)).any()


def test_the_modifier_is_part_of_the_name() -> None:
    values = np.zeros((5, 6), dtype=np.float32)
    values[0, 0], values[3:5, 2:5] = 9, 8
    one, all_ = find_threshold("maximum:0.5+largest"), find_threshold("maximum:0.5")
    assert all_.keep(values).sum() == 7
    assert one.keep(values).sum() == 6
    assert not one.keep(values)[0, 0]
    assert one.name == "maximum:0.5+largest"
    assert find_threshold(one.name) == one
    assert find_threshold("percentile").name == "percentile:95"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("magic", "there is no threshold 'magic'"),
        ("percentile:100", "below 100, not 100"),
        ("percentile:x", "'x' is no number"),
        ("percentile:nan", "not nan"),
        ("maximum:-0.1", "from 0"),
        ("otsu:3", "takes no number"),
        ("otsu+smallest", "'smallest' is no modifier"),
    ],
)
def test_a_wrong_name_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_threshold(name)


def test_a_rule_that_needs_a_number_is_not_made_without() -> None:
    with pytest.raises(InputError, match="takes a number"):
        Threshold("percentile")


def test_learning_finds_the_cut_that_the_outlines_were_made_with() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.gamma(1.0, size=(20, 20)).astype(np.float32) for _ in range(6)]
    true = find_threshold("sigma:1.5")
    got = learn(maps, [true.keep(m) for m in maps])
    assert (got.rule, got.parameter) == ("sigma", 1.5)
    assert got.learned is not None
    assert (got.learned.slices, got.learned.score) == (6, 1.0)
    assert got.learned.tried == sum(len(r.grid) or 1 for r in RULES.values())
    assert got.name == "learned sigma:1.5"
    assert (got.keep(maps[0]) == true.keep(maps[0])).all()


def test_learning_leaves_out_what_cannot_be_learned_from() -> None:
    good = np.arange(100, dtype=np.float32).reshape(10, 10)
    mask = good >= 90
    empty, bad = np.zeros_like(mask), np.full_like(good, np.nan)
    got = learn([good, good, bad], [mask, empty, mask], largest=True)
    assert got.learned is not None
    assert got.learned.slices == 1
    assert got.largest
    assert (got.keep(good) == mask).all()
    with pytest.raises(InputError, match="no training slice"):
        learn([good, bad], [~empty, mask])


def test_the_cards() -> None:
    assert [c["name"] for c in list_thresholds()] == list(RULES) == [
        "percentile", "maximum", "prominence", "otsu", "sigma", "value",
    ]  # fmt: skip
    assert all(c[f] for c in list_thresholds() for f in ("title", "formula", "paper", "undefined"))
