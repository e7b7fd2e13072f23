"""Scores with intervals, floors and ceilings: of predictions against labels, of maps against outlines, and of maps.

Names are imported on first use: what is scored from files needs no torch, what asks the network does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gyrus.evaluate.agreement import agreement_matrix, rank_correlation, ssim, top_overlap
    from gyrus.evaluate.boundaries import score_kept
    from gyrus.evaluate.cards import Card
    from gyrus.evaluate.certainty import score_certainty
    from gyrus.evaluate.classification import score_classification
    from gyrus.evaluate.explaining import by_method
    from gyrus.evaluate.faithfulness import Curve, Faithfulness
    from gyrus.evaluate.localization import Localization, localize
    from gyrus.evaluate.ranking import MapScore, score_map
    from gyrus.evaluate.registry import list_metrics
    from gyrus.evaluate.robustness import flip_stability, max_sensitivity
    from gyrus.evaluate.run import evaluate_run
    from gyrus.evaluate.sanity import (
        Randomisation,
        Similarity,
        compare_models,
        null_model,
        randomise_layers,
        shuffle_labels,
    )
    from gyrus.evaluate.truthfree import concentration, entropy, error_auroc, error_auroc_gain, method_agreement
    from gyrus.intervals import Bootstrap, Interval
    from gyrus.models.folding import folded
    from gyrus.rundata import open_run_data

_HOMES = {
    "gyrus.evaluate.agreement": ("agreement_matrix", "rank_correlation", "ssim", "top_overlap"),
    "gyrus.evaluate.boundaries": ("score_kept",),
    "gyrus.evaluate.cards": ("Card",),
    "gyrus.evaluate.certainty": ("score_certainty",),
    "gyrus.evaluate.classification": ("score_classification",),
    "gyrus.evaluate.explaining": ("by_method",),
    "gyrus.evaluate.faithfulness": ("Curve", "Faithfulness"),
    "gyrus.evaluate.localization": ("Localization", "localize"),
    "gyrus.evaluate.ranking": ("MapScore", "score_map"),
    "gyrus.evaluate.registry": ("list_metrics",),
    "gyrus.evaluate.robustness": ("flip_stability", "max_sensitivity"),
    "gyrus.evaluate.run": ("evaluate_run",),
    "gyrus.evaluate.sanity": (
        "Randomisation",
        "Similarity",
        "compare_models",
        "null_model",
        "randomise_layers",
        "shuffle_labels",
    ),
    "gyrus.evaluate.truthfree": ("concentration", "entropy", "error_auroc", "error_auroc_gain", "method_agreement"),
    "gyrus.intervals": ("Bootstrap", "Interval"),
    "gyrus.models.folding": ("folded",),
    "gyrus.rundata": ("open_run_data",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Bootstrap",
    "Card",
    "Curve",
    "Faithfulness",
    "Interval",
    "Localization",
    "MapScore",
    "Randomisation",
    "Similarity",
    "agreement_matrix",
    "by_method",
    "compare_models",
    "concentration",
    "entropy",
    "error_auroc",
    "error_auroc_gain",
    "evaluate_run",
    "flip_stability",
    "folded",
    "list_metrics",
    "localize",
    "max_sensitivity",
    "method_agreement",
    "null_model",
    "open_run_data",
    "randomise_layers",
    "rank_correlation",
    "score_certainty",
    "score_classification",
    "score_kept",
    "score_map",
    "shuffle_labels",
    "ssim",
    "top_overlap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gyrus.evaluate' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
