"""Methods, metrics and rows by the names that people read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gyrus.baselines import BASELINES
from gyrus.titles import METHOD_TITLES

TIMES = "\N{MULTIPLICATION SIGN}"

METRIC_GROUPS = (
    ("Peak", (("pointing", "Pointing"),)),
    ("Cut at 95th percentile", (("iou_p95", "IoU"), ("dice_p95", "Dice"))),
    ("Cut at half maximum", (("iou_half", "IoU"), ("dice_half", "Dice"))),
    ("Cut by Otsu", (("iou_otsu", "IoU"), ("dice_otsu", "Dice"))),
    ("Whole map", (("energy_inside", "Energy inside"), ("rank_accuracy", "Rank accuracy"), ("auprc", "AUPRC"))),
)
METRICS = tuple(name for _, columns in METRIC_GROUPS for name, _ in columns)


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


def kept_words(training: Mapping[str, Any]) -> str:
    """Return by what an epoch was chosen; ``training`` as in ``model.json``, where an earlier gyrus had no choice."""
    return {"last": "the last", "accuracy": "by the highest validation accuracy"}.get(
        str(training.get("choose")), "by the lowest validation loss"
    )


def loss_words(training: Mapping[str, Any]) -> str:
    """Return what the training loss is of, as far as ``training`` says."""
    under = [key.replace("_", " ") for key in ("label_smoothing", "class_weights") if training.get(key)]
    what = "that of slices as they are" if training.get("frozen") else "that of augmented slices"
    return f"{what} under {' and '.join(under)}" if under else what
