"""Numbers and names as the page prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gyrus.baselines import BASELINES

Figure = Mapping[str, Any]
"""An interval as ``scores.json`` has it: value, low, high, n, groups; null where undefined."""

TIMES = "\N{MULTIPLICATION SIGN}"
NONE = "\N{EN DASH}"

METHOD_TITLES = {
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
}
METRIC_GROUPS = (
    ("Peak", (("pointing", "Pointing"),)),
    ("Cut at 95th percentile", (("iou_p95", "IoU"), ("dice_p95", "Dice"))),
    ("Cut at half maximum", (("iou_half", "IoU"), ("dice_half", "Dice"))),
    ("Cut by Otsu", (("iou_otsu", "IoU"), ("dice_otsu", "Dice"))),
    ("Whole map", (("energy_inside", "Energy inside"), ("rank_accuracy", "Rank accuracy"), ("auprc", "AUPRC"))),
)
METRICS = tuple(name for _, columns in METRIC_GROUPS for name, _ in columns)


def number(value: float | None) -> str:
    """Return three decimals, with a true minus sign, or a dash where undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{abs(value):.3f}"
    return f"\N{MINUS SIGN}{text}" if value < 0 and text != "0.000" else text


def span(figure: Figure | None) -> str:
    """Return a 95 % interval as low, a dash ("to" where low is negative), high; nothing where there is none."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return ""
    return f"{number(figure['low'])}{' to ' if figure['low'] < 0 else NONE}{number(figure['high'])}"


def row_title(row: Mapping[str, Any]) -> str:
    """Return a localization row's name for people."""
    name = str(row["name"])
    if row["kind"] == "baseline":
        title = BASELINES[name].title if name in BASELINES else name
        return title.replace("squared x", f"squared {TIMES}")
    return METHOD_TITLES.get(name, name).replace(" x ", f" {TIMES} ")


def target_words(row: Mapping[str, Any]) -> str:
    """Return which class a row's map argues for, as a phrase; empty where it argues for none."""
    return {"predicted": "for the predicted class", "true": "for the labelled class"}.get(str(row["target"]), "")


def plural(n: int, word: str, many: str = "") -> str:
    """Return "1 slice", "2 slices", "2,451 slices"."""
    return f"{n:,} {word if n == 1 else many or word + 's'}"


def percent(share: float) -> str:
    """Return a share as a percentage, with as many decimals as a small one needs ("0.76 %", "1.7 %", "12 %")."""
    value = 100 * share
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}\N{NO-BREAK SPACE}%"
