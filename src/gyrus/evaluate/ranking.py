"""One map against one mask: the map is sorted once, and every score is a look-up in the sorted values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gyrus.evaluate.cards import Card
from gyrus.thresholds import RULES, Threshold, find_threshold, percentile_rank

PERCENTILES = np.arange(50.0, 100.0, 0.5)
"""Where the IoU-over-threshold curve is evaluated: 100 cuts, keeping half the pixels down to 0.5 %."""


class Ranking:
    """A map's values, sorted, beside those inside the mask, sorted.

    Args:
        placed: (H, W) float32 finite map on the mask's grid.
        mask: (H, W) boolean, neither empty nor full.
    """

    def __init__(self, placed: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        self.all = np.sort(placed, axis=None)
        self.inside = np.sort(placed[mask])

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return len(self.inside)

    def kept(
        self, level: NDArray[np.floating] | float, *, inclusive: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many pixels lie above each level, in the whole map and in the mask."""
        side: Literal["left", "right"] = "left" if inclusive else "right"
        total = len(self.all) - np.searchsorted(self.all, level, side)
        return total, self.area - np.searchsorted(self.inside, level, side)

    def overlap(self, level: NDArray[np.floating] | float, *, inclusive: bool = False) -> NDArray[np.float64]:
        """Return the IoU (Jaccard index) of the pixels above each level with the mask; 0 where nothing is kept."""
        total, hits = self.kept(level, inclusive=inclusive)
        return np.asarray(hits / (total + self.area - hits))

    def percentile(self, q: NDArray[np.float64] | float) -> NDArray[np.float32]:
        """Return the level that cuts as the q-th percentile does; see :func:`gyrus.thresholds.percentile_level`."""
        return np.asarray(self.all[percentile_rank(len(self.all), q)])

    def cut(self, threshold: Threshold) -> float:
        """Return the IoU of what a threshold keeps, its largest-component modifier left aside."""
        return float(self.overlap(threshold.level(self.all), inclusive=RULES[threshold.rule].inclusive))


@dataclass(frozen=True, slots=True)
class Metric:
    """A score's card and its rule.

    Attributes:
        name: in tables and files.
        title: for people.
        formula: in plain text; M is the mask, K the kept pixels.
        paper: where it comes from.
        undefined: what degenerate maps score (an empty or full mask, or a non-finite map, is NaN in every metric).
        rule: Ranking -> score in [0, 1], higher is better.
    """

    name: str
    title: str
    formula: str
    paper: str
    undefined: str
    rule: Callable[[Ranking], float]

    @property
    def card(self) -> Card:
        """Its entry in the registry of all metrics."""
        return Card(self.name, "localization", self.title, self.formula, self.paper, self.undefined)


def pointing(ranking: Ranking) -> float:
    """Whether the map's maximum lies in the mask; if several pixels share it, the share of them that do."""
    total, hits = ranking.kept(float(ranking.all[-1]), inclusive=True)
    return float(hits / total)


def energy_inside(ranking: Ranking) -> float:
    """The share of the positive values that lies in the mask; 0 where no value is positive."""
    total = ranking.all[np.searchsorted(ranking.all, 0, "right") :].sum(dtype=np.float64)
    inside = ranking.inside[np.searchsorted(ranking.inside, 0, "right") :].sum(dtype=np.float64)
    return float(min(inside / total, 1.0)) if total > 0 else 0.0  # the two sums may round apart


def rank_accuracy(ranking: Ranking) -> float:
    """The share of the |M| highest pixels that lie in M; ties at the cut count as their expected hits."""
    level = float(ranking.all[len(ranking.all) - ranking.area])
    above, hits_above = ranking.kept(level)
    at_least, hits_at_least = ranking.kept(level, inclusive=True)
    tied = (ranking.area - above) * (hits_at_least - hits_above) / (at_least - above)
    return float((hits_above + tied) / ranking.area)


def average_precision(ranking: Ranking) -> float:
    """The area under the precision-recall curve of the pixels, as the step-wise sum; ties fall together."""
    levels, counts = np.unique(ranking.inside, return_counts=True)
    total, hits = ranking.kept(levels, inclusive=True)
    return float((counts * hits / total).sum() / ranking.area)


def _dice(iou: float) -> float:
    return 2 * iou / (1 + iou)


def _cut_at(threshold: str, *, dice: bool = False) -> Callable[[Ranking], float]:
    chosen = find_threshold(threshold)
    return lambda ranking: _dice(ranking.cut(chosen)) if dice else ranking.cut(chosen)


P95, HALF = "percentile:95", "maximum:0.5"
_KEEPS_NOTHING = "a blank map keeps nothing and scores 0"
_CHANCE = "a blank map scores the mask's share of the image, its expectation under ties"
METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("pointing", "Pointing game", "1[argmax in M]", "Zhang et al. 2018", _CHANCE, pointing),
        Metric(
            "iou_p95", "IoU at the 95th percentile", "|K & M| / |K | M|", "Jaccard 1912", _KEEPS_NOTHING, _cut_at(P95)
        ),
        Metric(
            "dice_p95",
            "Dice at the 95th percentile",
            "2 |K & M| / (|K| + |M|)",
            "Dice 1945",
            _KEEPS_NOTHING,
            _cut_at(P95, dice=True),
        ),
        Metric(
            "iou_half",
            "IoU at half the maximum",
            "K = values >= max / 2",
            "Zhou et al. 2016, sec. 3.2 (there 20 %)",
            "0 where no value is positive",
            _cut_at(HALF),
        ),
        Metric(
            "dice_half",
            "Dice at half the maximum",
            "K = values >= max / 2",
            "Dice 1945",
            "0 where no value is positive",
            _cut_at(HALF, dice=True),
        ),
        Metric(
            "iou_otsu", "IoU at Otsu's threshold", "K = values > Otsu", "Otsu 1979", _KEEPS_NOTHING, _cut_at("otsu")
        ),
        Metric(
            "dice_otsu",
            "Dice at Otsu's threshold",
            "K = values > Otsu",
            "Otsu 1979; Dice 1945",
            _KEEPS_NOTHING,
            _cut_at("otsu", dice=True),
        ),
        Metric(
            "energy_inside",
            "Energy inside (relevance mass accuracy)",
            "sum_M relu(map) / sum relu(map)",
            "Wang et al. 2020, eq. 6; Arras et al. 2022, eq. 1",
            "0 where no value is positive",
            energy_inside,
        ),
        Metric(
            "rank_accuracy",
            "Relevance rank accuracy",
            "|top-|M| & M| / |M|",
            "Arras et al. 2022, eq. 2",
            _CHANCE,
            rank_accuracy,
        ),
        Metric("auprc", "Pixel AUPRC", "sum_n (R_n - R_n-1) P_n", "Davis & Goadrich 2006", _CHANCE, average_precision),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class MapScore:
    """One map's scores.

    Attributes:
        values: metric -> score in [0, 1], or NaN.
        curve: (100,) IoU at each of :data:`PERCENTILES`, or NaN.
        reason: "" where defined; else "empty mask", "full mask" or "non-finite map".
    """

    values: dict[str, float]
    curve: NDArray[np.float64]
    reason: str = ""


def score_map(placed: NDArray[np.float32], mask: NDArray[np.bool_]) -> MapScore:
    """Score one map, already laid on the mask's grid, by every metric.

    Args:
        placed: (H, W) float32 raw map.
        mask: (H, W) boolean tumour.
    """
    reason = undefined_because(placed, mask)
    if reason:
        return MapScore(dict.fromkeys(METRICS, np.nan), np.full(len(PERCENTILES), np.nan), reason)
    ranking = Ranking(placed, mask)
    values = {name: metric.rule(ranking) for name, metric in METRICS.items()}
    return MapScore(values, ranking.overlap(ranking.percentile(PERCENTILES)))


def undefined_because(placed: NDArray[np.float32], mask: NDArray[np.bool_]) -> str:
    """Return why no score is defined, or "" if it is."""
    if not mask.any():
        return "empty mask"
    if mask.all():
        return "full mask"
    return "" if np.isfinite(placed).all() else "non-finite map"
