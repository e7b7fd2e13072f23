"""What competes, and by which numbers: the columns of the table on disk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gyrus.evaluate.boundaries import score_kept
from gyrus.evaluate.cards import Card
from gyrus.evaluate.ranking import METRICS, Ranking, undefined_because
from gyrus.evaluate.registry import CARDS
from gyrus.thresholds import LARGEST, Threshold, find_threshold, largest_component


class Entry(NamedTuple):
    """One row of the leaderboard.

    Attributes:
        kind: "method", a map of the model; "null", that of the same network with random weights; "baseline", a rule
            without a network; "chosen", the map, or the rule, that was best on the training patients; or "ceiling".
        name: of the method or rule.
        layer: the method's layer, "input" or "fused"; "" where there is none.
    """

    kind: str
    name: str
    layer: str = ""


UNCUT = ("pointing", "energy_inside", "rank_accuracy", "auprc")
"""Localization metrics of a map as it is."""

THRESHOLDS = tuple(
    find_threshold(name)
    for name in ("percentile:90", "percentile:95", "percentile:98", "maximum:0.2", "maximum:0.5", "otsu", "sigma:2")
)
"""Those that look at no outline."""

LEARNED = "learned"
WHOLE = f"{LEARNED}+{LARGEST}"
CUT = tuple(f"{m}@{t}" for t in (*(t.name for t in THRESHOLDS), LEARNED) for m in ("iou", "dice"))
SAMPLED_CUT = (
    *(f"{m}@{LEARNED}" for m in ("hausdorff95", "surface_dice_2mm", "lesion_hits")),
    *(f"{m}@{WHOLE}" for m in ("iou", "dice")),
)
TRUTH_FREE = ("concentration", "entropy", "method_agreement", "flip_stability")
FAITHFUL = ("deletion", "insertion", "road_morf", "road_lerf", "road", "confidence_drop", "confidence_increase")
STABLE = ("max_sensitivity", "mprt_rank", "mprt_ssim")
COLUMNS = (*UNCUT, *CUT, *SAMPLED_CUT, *FAITHFUL, *STABLE, *TRUTH_FREE)
"""A metric's name or, where a threshold comes first, ``metric@threshold``."""


def card_of(column: str) -> Card:
    """Return the card of a column's metric."""
    return CARDS[column.partition("@")[0]]


def score(placed: NDArray[np.float32], mask: NDArray[np.bool_], learned: Threshold | None = None) -> dict[str, float]:
    """Return the localization scores of one map, of the columns :data:`UNCUT` and :data:`CUT`.

    Args:
        placed: (H, W) float32 raw map on the mask's grid.
        mask: (H, W) boolean tumour.
        learned: the entry's own threshold; without it the columns of a learned threshold are left out.

    Returns:
        column -> score in [0, 1]; nothing where no score is defined: an empty or full mask, a map that is not finite.
    """
    if undefined_because(placed, mask):
        return {}
    ranking = Ranking(placed, mask)
    found = {name: METRICS[name].rule(ranking) for name in UNCUT}
    cuts = {t.name: t for t in THRESHOLDS} | ({LEARNED: learned} if learned else {})
    for name, threshold in cuts.items():
        iou = ranking.cut(threshold)
        found |= {f"iou@{name}": iou, f"dice@{name}": 2 * iou / (1 + iou)}
    return found


def score_outline(
    placed: NDArray[np.float32], mask: NDArray[np.bool_], learned: Threshold, spacing: tuple[float, float] | None
) -> dict[str, float]:
    """Return the scores of what the learned threshold keeps, of the columns :data:`SAMPLED_CUT`.

    Args:
        placed: (H, W) float32 raw map on the mask's grid.
        mask: (H, W) boolean tumour.
        learned: the entry's own threshold.
        spacing: (row, column) in millimetres, or None; see :func:`gyrus.evaluate.boundaries.score_kept`.
    """
    if undefined_because(placed, mask):
        return {}
    kept = learned.keep(placed)
    cut, whole = score_kept(kept, mask, spacing), score_kept(largest_component(kept), mask, None)
    found = {column: cut[column.partition("@")[0]] for column in SAMPLED_CUT if column.endswith(f"@{LEARNED}")}
    return found | {f"{m}@{WHOLE}": whole[m] for m in ("iou", "dice")}
