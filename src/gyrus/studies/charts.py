"""The charts of a study, as inline SVG: training, folds, confusion, shares, and what was claimed beside it all."""

from __future__ import annotations

import hashlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from gyrus.intervals import Interval
from gyrus.page.charts import BLUE, INK, MARKERS, MUTED, ORANGE, PAPER, SERIES, TINT, panel, style, to_svg
from gyrus.page.words import number, percent

Runs = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
"""Name -> one table per seed or fold, each the rows of an ``epochs.csv``."""

_CURVES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
}
_BAND: dict[str, Any] = {"color": BLUE, "alpha": 0.22, "solid_capstyle": "butt"}
_TRAIN_DASH = (0, (4, 2))
_WIDE = 7.2
_TINTED = 0.5  # the fullest cell is still pale enough for ink, and in the dark theme dark enough for its


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One measure of a study: what was claimed, and what was measured.

    Attributes:
        label: of the measure or the model.
        claimed: by the study; None where it says nothing.
        own: measured under the study's own protocol; None where it was not.
        honest: measured with no patient, or copy of a picture, on both sides; None where it was not.
    """

    label: str
    claimed: float | None
    own: Interval | None
    honest: Interval | None


def curves(runs: Runs) -> list[Markup]:
    """Return a chart each of loss, accuracy, macro precision and macro recall over the epochs.

    A line is the mean over those seeds or folds that reached the epoch, dashed on the training part, solid on the
    validation part; the band about it goes from the lowest to the highest. Rates share one scale.

    Args:
        runs: per run S tables of E rows with ``epoch`` and ``train_loss``, ``val_loss``, ``train_accuracy``, ...;
            whatever is missing or not finite is left out.

    Returns:
        Up to four charts; those that no run has a figure for are left out.
    """
    drawn = {
        measure: {
            name: {part: _over_tables(tables, f"{part}_{measure}") for part in ("train", "val")}
            for name, tables in runs.items()
        }
        for measure in _CURVES
    }
    rates = [b[:, 2] for m, lines in drawn.items() if m != "loss" for parts in lines.values() for b in parts.values()]
    bottom = min(0.9, math.floor(10 * min(np.concatenate(rates), default=0.0)) / 10) if rates else 0.0
    banded = any(len(tables) > 1 for tables in runs.values())
    return [
        _curve_chart(lines, measure, bottom, banded)
        for measure, lines in drawn.items()
        if any(len(band) for parts in lines.values() for band in parts.values())
    ]


def spread(rows: Mapping[str, Sequence[float]], xlabel: str) -> Markup:
    """Return the figures of folds or seeds as points, a row per run, over their mean and standard deviation.

    Args:
        rows: run -> S values, drawn from the top of its row to the bottom; those not finite are left out.
        xlabel: what they measure.

    Returns:
        The chart, with the mean, the sample standard deviation (none of a single value) and S as numbers beside it.
    """
    if not rows:
        return nothing(xlabel)
    known = {name: np.array([v for v in values if math.isfinite(v)]) for name, values in rows.items()}
    with matplotlib.rc_context(style(_salt("spread", rows, xlabel))):
        figure, axes = panel((_WIDE, 1.1 + 0.46 * len(known)), "")
        for y, values in enumerate(known.values()):
            _spread_row(axes, y, values)
        _beside(axes, -0.75, ("mean", "SD", "n"), color=MUTED)
        _rows(axes, list(known))
        axes.set_xlabel(xlabel)
        handles = [
            Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=5, label="fold or seed"),
            Line2D([], [], color=INK, marker="|", linestyle="", markersize=10, markeredgewidth=1.6, label="mean"),
            Line2D([], [], linewidth=7, label="one standard deviation to each side", **_BAND),
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=3, columnspacing=1.6, handlelength=1.4)
        return to_svg(figure, f"{xlabel} of each fold or seed, with mean and standard deviation, a row per run")


def confusion_heatmap(matrix: ArrayLike, classes: Sequence[str], title: str) -> Markup:
    """Return a confusion matrix as counts with their shares of the row, tinted by these: right blue, wrong orange.

    Args:
        matrix: (C, C) counts, row = true class, column = predicted class.
        classes: C names.
        title: of the chart.
    """
    if not classes:
        return nothing(title)
    counts = np.asarray(matrix).reshape(len(classes), len(classes))
    cell = max([0.92, *(0.088 * len(name) for name in classes)])
    with matplotlib.rc_context(style(_salt("confusion", counts.tolist(), classes, title))):
        size = (1.3 + cell * (len(classes) + 0.4), 1.15 + 0.56 * len(classes))
        figure, axes = panel(size, title)
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                _cell(axes, i, j, int(count), int(row.sum()))
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
        axes.set_xticks(range(len(classes)), classes, color=INK)
        rows = [f"{name}\nn = {n:,}" for name, n in zip(classes, counts.sum(axis=1), strict=True)]
        axes.set_yticks(range(len(classes)), rows, color=INK)
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        axes.set(xlabel="predicted", ylabel="labelled")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        return to_svg(figure, f"{title}: confusion matrix, counts and shares of each true class")


def shares(rows: Mapping[str, Mapping[str, int]], title: str) -> Markup:
    """Return a stacked bar per row, as long as every other, whose segments are the shares of its counts.

    Args:
        rows: row -> class -> count, at least 0; a class that a row does not name has none.
        title: of the chart.
    """
    if not rows:
        return nothing(title)
    classes = list(dict.fromkeys(name for counts in rows.values() for name in counts))
    with matplotlib.rc_context(style(_salt("shares", rows, title))):
        figure, axes = panel((_WIDE, 0.95 + 0.5 * len(rows)), title)
        segments = [s for y, counts in enumerate(rows.values()) for s in _bar(axes, y, counts, classes)]
        _rows(axes, list(rows))
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for y, counts in enumerate(rows.values()):
            _beside(axes, y, [f"{sum(counts.values()):,}"])
        _beside(axes, -0.75, ["n"], color=MUTED)
        handles = [Patch(color=_colour(i), label=name) for i, name in enumerate(classes)]
        if handles:
            figure.legend(handles=handles, loc="outside lower left", ncols=6, handlelength=1, columnspacing=1.6)
        figure.draw_without_rendering()  # so that widths are known
        for segment in segments:
            _fit(*segment)
        return to_svg(figure, f"{title}: shares of {', '.join(classes)} in each row")


def claims(rows: Sequence[ClaimRow]) -> Markup:
    """Return what was claimed beside what was measured, a row per measure or model, with 95 % intervals.

    Args:
        rows: from the top down; what none of them has is not in the chart.
    """
    if not rows:
        return nothing("Claimed and measured")
    columns = (
        ("claimed", INK, "D", [None if r.claimed is None else _bare(r.claimed) for r in rows]),
        ("own protocol", ORANGE, "o", [r.own for r in rows]),
        ("honest protocol", BLUE, "s", [r.honest for r in rows]),
    )
    kept = [column for column in columns if any(math.isfinite(_value(found)) for found in column[3])]
    with matplotlib.rc_context(style(_salt("claims", rows))):
        figure, axes = panel((_WIDE, 1.0 + 0.5 * len(rows)), "")
        for k, (_, colour, marker, column) in enumerate(kept):
            for y, found in enumerate(column):
                if found is not None:
                    _point(axes, found, y + 0.2 * (k - (len(kept) - 1) / 2), colour, marker)
        _beside(axes, -0.75, [name.split()[0] for name, *_ in kept], color=MUTED)
        for y in range(len(rows)):
            _beside(axes, y, [number(_value(column[y])) for *_, column in kept])
        _rows(axes, [r.label for r in rows])
        handles = [Line2D([], [], color=c, marker=m, linestyle="", label=name) for name, c, m, _ in kept]
        if handles:
            figure.legend(handles=handles, loc="outside lower left", ncols=3, columnspacing=1.6, handlelength=1)
        return to_svg(figure, "Claimed and measured values, a row per measure, with 95 % intervals")


def nothing(title: str) -> Markup:
    """Return the chart of an empty input, which says so."""
    with matplotlib.rc_context(style(_salt("nothing", title))):
        figure, axes = panel((3.7, 1.0), title)
        axes.text(0, 0.5, "nothing to show", transform=axes.transAxes, va="center", color=MUTED)
        axes.set_axis_off()
        return to_svg(figure, f"{title}: nothing to show")


def _over_tables(tables: Sequence[Sequence[Mapping[str, float]]], key: str) -> NDArray[np.float64]:
    """Return (E, 4) epoch, mean, lowest and highest of a column over the tables, of the epochs that have any."""
    found: dict[int, list[float]] = {}
    for row in (row for table in tables for row in table):
        if math.isfinite(value := row.get(key, math.nan)):
            found.setdefault(int(row["epoch"]), []).append(value)
    return np.array([(e, np.mean(v), min(v), max(v)) for e, v in sorted(found.items())]).reshape(-1, 4)


def _curve_chart(
    lines: Mapping[str, Mapping[str, NDArray[np.float64]]], measure: str, bottom: float, banded: bool
) -> Markup:
    columns = 3 if max(map(len, lines)) < 15 else 2
    with matplotlib.rc_context(style(_salt("curves", measure, lines))):
        keys = _keys(list(lines), banded, columns)
        figure, axes = panel((4.6, 2.95 + 0.18 * len(keys) / columns), _CURVES[measure])
        for i, parts in enumerate(lines.values()):
            _draw_run(axes, parts, i)
        bands = np.concatenate([band for parts in lines.values() for band in parts.values()])
        first, last = bands[:, 0].min(), bands[:, 0].max()
        margin = max(0.4, 0.02 * (last - first))
        axes.set(xlabel="Epoch", xlim=(first - min(margin, 0.9), last + margin))  # no tick at an epoch 0
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))
        loss = measure == "loss"
        axes.set_ylim(0 if loss else bottom, 1.05 * bands[:, 3].max() if loss else 1 + 0.02 * (1 - bottom))
        figure.legend(handles=keys, loc="outside lower center", ncols=columns, columnspacing=1.4, handlelength=2.4)
        return to_svg(figure, f"{_CURVES[measure]} per epoch on the training and the validation part, a colour per run")


def _keys(names: Sequence[str], banded: bool, columns: int) -> list[Artist]:
    """Return the runs, then on rows of their own the kinds of line, in the order in which a legend fills columns."""
    runs = [Line2D([], [], color=_colour(i), marker=_marker(i), markersize=5, label=n) for i, n in enumerate(names)]
    kinds: list[Artist] = [
        Line2D([], [], color=MUTED, linestyle=_TRAIN_DASH, linewidth=1.2, label="training"),
        Line2D([], [], color=MUTED, label="validation"),
    ]
    if banded:
        kinds.append(Patch(color=MUTED, alpha=0.25, linewidth=0, label="lowest to highest"))
    cells = [k for row in (runs, kinds) for k in (*row, *(_blank() for _ in range(-len(row) % columns)))]
    return [key for column in range(columns) for key in cells[column::columns]]


def _blank() -> Artist:
    return Line2D([], [], linestyle="", label="")


def _draw_run(axes: Axes, parts: Mapping[str, NDArray[np.float64]], i: int) -> None:
    for part, band in parts.items():
        trained = part == "train"
        epochs, mean, low, high = band.T
        axes.fill_between(epochs, low, high, color=_colour(i), alpha=0.10 if trained else 0.18, linewidth=0)
        every = max(1, len(epochs) // 6)
        axes.plot(
            epochs,
            mean,
            color=_colour(i),
            linestyle=_TRAIN_DASH if trained else "-",
            linewidth=1.2 if trained else 1.9,
            marker=_marker(i),
            markersize=4 if trained else 5,
            markerfacecolor=PAPER if trained else _colour(i),
            markeredgecolor=_colour(i) if trained else PAPER,
            markeredgewidth=0.8,
            markevery=((i * every) // 3 % every, every),
            zorder=2.5 if trained else 3,
        )


def _spread_row(axes: Axes, y: int, values: NDArray[np.float64]) -> None:
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    deviation = float(values.std(ddof=1)) if n > 1 else math.nan
    axes.plot([mean - deviation, mean + deviation], [y, y], linewidth=9, **_BAND)
    axes.plot([mean, mean], [y - 0.3, y + 0.3], color=INK, linewidth=1.6)
    inside = np.linspace(-0.2, 0.2, n) if n > 1 else np.zeros(n)
    axes.plot(values, y + inside, "o", color=BLUE, markersize=5, markeredgecolor=PAPER, markeredgewidth=0.8)
    _beside(axes, y, (number(mean), number(deviation), str(n)))


def _cell(axes: Axes, i: int, j: int, count: int, of: int) -> None:
    """Draw one cell, tinted by the square root of its share of the row, so that few errors are seen too."""
    colour, weight = (BLUE, "bold") if i == j else (ORANGE, "normal")
    for shade, alpha in ((TINT, 1.0), (colour, _TINTED * math.sqrt(count / max(of, 1)))):
        axes.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, facecolor=shade, alpha=alpha, linewidth=0))
    if count:
        axes.text(j, i - 0.02, f"{count:,}", ha="center", va="bottom", fontsize=11, fontweight=weight)
        axes.text(j, i + 0.08, percent(count / of), ha="center", va="top", fontsize=8)
    else:
        axes.text(j, i, "0", ha="center", va="center", fontsize=11, color=MUTED)


def _bar(axes: Axes, y: int, counts: Mapping[str, int], classes: Sequence[str]) -> list[tuple[Rectangle, Text, Text]]:
    """Draw one row's segments; return each that is not empty with its name and its count."""
    drawn, left, total = [], 0.0, sum(counts.values())
    for i, name in enumerate(classes):
        if count := counts.get(name, 0):
            share = count / total
            bar = Rectangle((left, y - 0.4), share, 0.8, facecolor=_colour(i), edgecolor=PAPER, linewidth=0.8)
            axes.add_patch(bar)
            middle = left + share / 2
            above = axes.text(middle, y - 0.02, name, color=PAPER, ha="center", va="bottom", fontweight="bold")
            below = axes.text(middle, y + 0.05, f"{count:,} ({percent(share)})", color=PAPER, ha="center", va="top")
            drawn.append((bar, above, below))
            left += share
    return drawn


def _fit(bar: Rectangle, name: Text, count: Text) -> None:
    """Keep of a segment's texts what is no wider than the segment; the count alone stands in its middle."""
    room = bar.get_window_extent().width - 6
    if count.get_window_extent().width > room:
        count.set_text(count.get_text().split()[0])
    for text in (name, count):
        if text.get_window_extent().width > room:
            text.set_text("")
    if not name.get_text():
        count.set_verticalalignment("center")


def _point(axes: Axes, found: Interval, y: float, colour: str, marker: str) -> None:
    axes.plot([found.low, found.high], [y, y], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
    axes.plot([found.value], [y], marker, color=colour, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.8)


def _bare(value: float) -> Interval:
    return Interval(value, math.nan, math.nan, 0, 0)


def _value(found: Interval | None) -> float:
    return math.nan if found is None else found.value


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    """Give the axes a labelled row per name, from the top down."""
    lines = [textwrap.fill(label, 30, break_on_hyphens=False) for label in labels]
    axes.set_yticks(range(len(labels)), lines, color=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.spines["left"].set_visible(False)


def _beside(axes: Axes, y: float, columns: Sequence[str], *, color: str = INK) -> None:
    """Write to the right of the axes, beside a row, in columns."""
    for k, text in enumerate(columns):
        axes.annotate(
            text, (1, y), xycoords=("axes fraction", "data"), xytext=(44 + 46 * k, 0), textcoords="offset points",
            ha="right", va="center", color=color, annotation_clip=False,
        )  # fmt: skip


def _colour(i: int) -> str:
    return SERIES[i % len(SERIES)]


def _marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]


def _salt(*content: object) -> str:
    """Return what no chart of other content has."""
    return hashlib.sha256(repr(content).encode()).hexdigest()
