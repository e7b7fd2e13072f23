"""From a run's folder to one HTML file; no torch is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gyrus.artifacts import refuse_existing
from gyrus.loading import Progress
from gyrus.page import render, write_page
from gyrus.paths import PathLike, maybe_path
from gyrus.report import figures, gallery, panels, tables, words
from gyrus.report.comparison import Contest, find_contest
from gyrus.report.source import Source, read_source
from gyrus.titles import METHOD_TITLES

REPORT = "report.html"
_TEMPLATE = Path(__file__).parent / "report.html.j2"


def write_report(
    run: PathLike, *, data: PathLike | None = None, out: PathLike | None = None, progress: Progress | None = None
) -> Path:
    """Write a run's report: one self-contained HTML file of figures, tables and slices.

    The map of the headline is the one for the predicted class with the best pointing score; beside it stands the best
    rule without a network, with a paired interval of their difference over patients. Heatmaps show the positive part
    of the raw map, scaled to its own maximum, or to a common one where two maps are compared.

    Args:
        run: a finished training run whose ``predict`` and ``evaluate`` are done; ``explain`` may be missing.
        data: the dataset, where it has moved since training.
        out: the file to write; ``RUN/report.html`` by default.
        progress: called after each slice that is drawn.

    Returns:
        The path of the file.

    Raises:
        InputError: ``out`` exists or cannot be written, a stage is missing, the data has moved or changed, or a
            slice cannot be read.
    """
    run, data = Path(run), maybe_path(data)
    target = maybe_path(out) or run / REPORT
    refuse_existing(target)
    write_page(target, render(_TEMPLATE, _content(read_source(run, data), progress)))
    return target


def _content(source: Source, progress: Progress | None) -> dict[str, Any]:
    contest, training = find_contest(source), source.model.get("training", {})
    return {
        "row_title": words.row_title,
        "target_words": words.target_words,
        "method_titles": METHOD_TITLES,
        "metric_groups": words.METRIC_GROUPS,
        "summary_columns": tables.SUMMARY,
        "class_columns": tables.PER_CLASS,
        "scores": source.scores,
        "data": source.scores["data"],
        "model": source.model,
        "manifests": source.manifests,
        "levels": tables.levels(source),
        "floors": source.scores["floors"],
        "best_floor": max(source.scores["floors"], key=lambda f: f["accuracy"]["value"] or 0, default=None),
        "class_names": source.predictions.classes,
        "contest": contest,
        "unreadable": source.scores["classification"]["unreadable"],
        "summary": tables.summary_table(source),
        "classes": tables.class_table(source),
        "matrices": tables.matrices(source),
        "training": _training(source),
        "roc": _roc(source),
        "certainty": source.scores["certainty"],
        "certainty_columns": tables.CERTAINTY,
        "certainty_rows": tables.certainty_table(source),
        "sets_columns": tables.SETS,
        "sets_rows": tables.sets_table(source),
        "reliability": figures.reliability_diagram(source.scores["certainty"]["bins"], "Reliability per slice"),
        "shown": gallery.shown_map(source, contest),
        "galleries": gallery.make_galleries(source, contest, progress),
        "every_method": gallery.every_method(source, contest),
        "outlined": any(source.dataset[i].mask is not None for i in source.predictions.ids),
        "colour_bar": panels.colour_bar(),
        "epoch": source.chosen_epoch,
        "epochs": len(source.epochs),
        "kept": words.kept_words(training),
        "trained_on": words.loss_words(training),
        "validated": bool(source.epochs) and "val_loss" in source.epochs[0],
        **(_localization(source, contest) if contest else {"localization": None}),
    }


def _training(source: Source) -> list[Markup]:
    return figures.training_curves(source.epochs, source.chosen_epoch) if source.epochs else []


def _roc(source: Source) -> list[Markup]:
    drawn = []
    for level, scores in tables.levels(source):
        auc = {name: figure["roc_auc"]["value"] for name, figure in scores["per_class"].items()}
        drawn.append(figures.roc_curves(scores["roc"], auc, f"ROC per {level}"))
    return drawn


def _localization(source: Source, contest: Contest) -> dict[str, Any]:
    facts: Mapping[str, Any] = source.scores["localization"]
    ceiling = next((r for r in source.rows if r["kind"] == "ceiling" and r["name"] == "area kept"), None)
    return {
        "localization": facts,
        "maps_table": tables.localization_table(source),
        "breakdown": tables.breakdown_table(source, contest),
        "threshold": figures.threshold_curve(source.rows, contest.map, contest.rule, facts["percentiles"]),
        "area_ceiling": ceiling["metrics"]["all"]["iou_p95"] if ceiling else None,
    }
