"""The page's tables as plain values: what stands in each cell, and which cells are best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gyrus.page.words import Figure, percent, plural
from gyrus.report.comparison import Contest
from gyrus.report.source import Source, row_id
from gyrus.report.words import METRICS, TIMES, row_title, target_words

QUARTILES = ("smallest", "small", "large", "largest")


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure with its interval.

    Attributes:
        figure: value, low, high, n, groups; None where the row has no such figure.
        best: whether no row of its block is better.
        top: whether no row that is told no label is better, in any block.
    """

    figure: Figure | None
    best: bool = False
    top: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: its name, small print under it, and its cells."""

    title: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one kind ("method", "baseline", "ceiling", or "") under one heading."""

    title: str
    kind: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: counts, and each row's shares (None for a class that does not occur)."""

    title: str
    classes: tuple[str, ...]
    counts: Sequence[Sequence[int]]
    shares: Sequence[Sequence[float] | None]


SUMMARY = (
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy"),
    ("macro_precision", "Macro precision"),
    ("macro_f1", "Macro F1"),
)
CERTAINTY = (("ece", "Calibration error"), ("brier", "Brier score"))
SETS = (("coverage", "Holds the true class"), ("size", "Classes in a set"), ("single", "One class alone"))
PER_CLASS = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("roc_auc", "ROC AUC"))


def levels(source: Source) -> list[tuple[str, dict[str, Any]]]:
    """Return ("slice", scores) and, where patients are known, ("patient", scores)."""
    classification = source.scores["classification"]
    return [(level, classification[level]) for level in ("slice", "patient") if classification[level]]


def summary_table(source: Source) -> list[Block]:
    """Return the model's accuracies and, below, what a rule without a network scores on the same slices."""
    model = tuple(
        Row(f"Per {level}", plural(scores["n"], level), tuple(Cell(scores[name]) for name, _ in SUMMARY))
        for level, scores in levels(source)
    )
    floors = tuple(
        Row(_capital(floor["name"]), "per slice", tuple(Cell(floor.get(name)) for name, _ in SUMMARY))
        for floor in source.scores["floors"]
    )
    return [Block("This model", "", model), Block("Floors: no network", "baseline", floors)]


def class_table(source: Source) -> list[Block]:
    """Return precision, recall, F1 and AUC of each class, per slice and per patient."""
    blocks = []
    for level, scores in levels(source):
        support = [sum(row) for row in scores["confusion"]]
        rows = tuple(
            Row(name, plural(n, level), tuple(Cell(figures[f]) for f, _ in PER_CLASS))
            for (name, figures), n in zip(scores["per_class"].items(), support, strict=True)
        )
        blocks.append(Block(f"Per {level}", "", rows))
    return blocks


def certainty_table(source: Source) -> list[Block]:
    """Return calibration error and Brier score, of a calibrated model before and after."""
    found = source.scores["certainty"]
    n = plural(found["brier"]["n"], "slice")
    kinds = [("As answered" if found["calibrated"] else "Softmax of the logits, not calibrated", found)]
    if found["uncalibrated"]:
        kinds.append(("Before calibration", found["uncalibrated"]))
    rows = tuple(Row(title, n, tuple(Cell(figures[f]) for f, _ in CERTAINTY)) for title, figures in kinds)
    return [Block("", "", rows)]


def sets_table(source: Source) -> list[Block]:
    """Return coverage and size of the sets of classes, and the coverage in each class; nothing without sets."""
    sets = source.scores["certainty"]["sets"]
    if sets is None:
        return []
    whole = Row("All classes", _answered(sets["coverage"]), tuple(Cell(sets[f]) for f, _ in SETS))
    rows = [
        Row(name, _answered(figure), (Cell(figure), *(Cell(None) for _ in SETS[1:])))
        for name, figure in sets["per_class"].items()
    ]
    return [Block("", "", (whole, *rows))]


def _answered(figure: Figure) -> str:
    return f"{plural(figure['n'], 'slice')} answered, of {plural(figure['groups'], 'person')}"


def matrices(source: Source) -> list[Matrix]:
    """Return the confusion matrix per slice and, where patients are known, per patient."""
    return [
        Matrix(
            f"per {level}",
            source.predictions.classes,
            scores["confusion"],
            [[n / sum(row) for n in row] if sum(row) else None for row in scores["confusion"]],
        )
        for level, scores in levels(source)
    ]


def localization_table(source: Source) -> list[Block]:
    """Return every map, every rule without a network and every ceiling, under each metric."""
    layers = {r["layer"] for r in source.rows if r["kind"] == "method"}
    kinds = (
        ("Maps for the predicted class", "method", "predicted"),
        ("Maps for the labelled class: told the answer", "method", "true"),
        ("Floors: no network, told no label", "baseline", ""),
        ("Floors: no network, told the labelled class", "baseline", "true"),
        ("Ceilings", "ceiling", ""),
    )
    chosen = [(title, kind, [r for r in source.rows if _belongs(r, kind, target)]) for title, kind, target in kinds]
    fair = [r for r in source.rows if r["kind"] != "ceiling" and r["target"] != "true"]
    top = {m: _highest(fair, m) for m in METRICS}
    blocks = []
    for title, kind, rows in chosen:
        best = {m: _highest(rows, m) if kind != "ceiling" else None for m in METRICS}
        lines = []
        for row in rows:
            values = {m: _rounded(row, m) for m in METRICS}
            cells = tuple(
                Cell(
                    row["metrics"]["all"].get(m),
                    best=values[m] is not None and values[m] == best[m],
                    top=values[m] is not None and values[m] == top[m] and row in fair,
                )
                for m in METRICS
            )
            lines.append(Row(_map_title(row, layers), _map_note(source, row), cells))
        if lines:
            blocks.append(Block(title, kind, tuple(lines)))
    return blocks


def breakdown_table(source: Source, contest: Contest) -> list[Block]:
    """Return pointing and IoU of the headline's map and its opponent by class and by the tumour's size."""
    rivals = [contest.map, contest.rule]
    by_class = [s.removeprefix("class:") for s in contest.map["metrics"] if s.startswith("class:")]
    shares = np.array([s.tumour_share for s in source.per_slice.get(row_id(contest.map), [])])
    edges = np.quantile(shares, (0, 0.25, 0.5, 0.75, 1)) if len(shares) else np.zeros(5)
    sizes = [
        (f"size:{name}", _capital(name), f"{percent(edges[i])} to {percent(edges[i + 1])} of the slice")
        for i, name in enumerate(QUARTILES)
    ]

    def rows(subsets: Sequence[tuple[str, str, str]]) -> tuple[Row, ...]:
        return tuple(_breakdown_row(rivals, *subset) for subset in subsets if subset[0] in contest.map["metrics"])

    return [
        Block("", "", rows([("all", "All slices", "")])),
        Block("By labelled class", "", rows([(f"class:{c}", c, "") for c in by_class])),
        Block("By size of the tumour, in quarters", "", rows(sizes)),
    ]


def _breakdown_row(rivals: Sequence[Mapping[str, Any]], subset: str, title: str, note: str) -> Row:
    n = plural(rivals[0]["metrics"][subset]["pointing"]["n"], "slice")
    cells = tuple(Cell(r["metrics"][subset][m]) for m in ("pointing", "iou_p95") for r in rivals)
    return Row(title, f"{note}, {n}" if note else n, cells)


def _belongs(row: Mapping[str, Any], kind: str, target: str) -> bool:
    if row["kind"] != kind:
        return False
    return bool(row["target"] == target if kind == "method" else (row["target"] == "true") == (target == "true"))


def _rounded(row: Mapping[str, Any], metric: str) -> float | None:
    value = (row["metrics"]["all"].get(metric) or {}).get("value")
    return None if value is None else round(value, 3)


def _highest(rows: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    return max((v for v in (_rounded(r, metric) for r in rows) if v is not None), default=None)


def _map_title(row: Mapping[str, Any], layers: set[str]) -> str:
    title = _capital(row_title(row))
    return f"{title} at {row['layer']}" if len(layers) > 1 and row["layer"] else title


def _map_note(source: Source, row: Mapping[str, Any]) -> str:
    """Return the grid, the class a rule is given, and whatever could not be scored."""
    notes = [f"{row['grid'][0]} {TIMES} {row['grid'][1]}"] if row["grid"][0] and row["kind"] != "ceiling" else []
    if row["kind"] == "baseline" and row["target"]:
        notes.append(target_words(row))
    if row["name"] == "area kept":
        notes.append("IoU and Dice of a perfect ranking")
    elif row["kind"] == "ceiling":
        notes.append("the best found on this grid")
    notes += [f"undefined on {n}: {reason}" for reason, n in row["undefined"].items()]
    status = _status(source, row)
    notes += [f"{status.count(word)} {word}" for word in ("blank", "non-finite") if word in status]
    return ", ".join(notes)


def _status(source: Source, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the status of a method's maps on the slices that were scored."""
    if source.maps is None or row["kind"] != "method":
        return ()
    found = next((v for k, v in source.maps.status.items() if k == (row["name"], row["layer"], row["target"])), ())
    scored = {s.id for s in source.per_slice.get(row_id(row), [])}
    return tuple(word for i, word in zip(source.maps.ids, found, strict=False) if i in scored)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
