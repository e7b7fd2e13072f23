"""Scores with intervals, floors and ceilings: of predictions against labels, and of maps against outlines."""

from __future__ import annotations

from gyrus.evaluate.classification import score_classification
from gyrus.evaluate.localization import Localization, localize
from gyrus.evaluate.ranking import METRICS, MapScore, Metric, list_metrics, score_map
from gyrus.evaluate.run import evaluate_run
from gyrus.intervals import Bootstrap, Interval
from gyrus.rundata import open_run_data

__all__ = [
    "METRICS",
    "Bootstrap",
    "Interval",
    "Localization",
    "MapScore",
    "Metric",
    "evaluate_run",
    "list_metrics",
    "localize",
    "open_run_data",
    "score_classification",
    "score_map",
]
