"""The charts of a report, as inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gyrus.page.charts import BLUE, DASHES, FLOOR, INK, MUTED, ORANGE, PAPER, RULE, SERIES, TINT, panel, style, to_svg
from gyrus.page.words import number
from gyrus.report.words import row_title

_PANEL = (3.7, 2.85)
_KEPT = (50, 20, 10, 5, 2, 1, 0.5)


def training_curves(epochs: Sequence[Mapping[str, float]], chosen: int | None) -> list[Markup]:
    """Return three charts over the epochs, train beside val: loss, accuracy, macro F1."""
    panels = (("loss", "Loss"), ("accuracy", "Accuracy"), ("macro_f1", "Macro F1"))
    return [_training_panel(epochs, chosen, name, title) for name, title in panels if f"train_{name}" in epochs[0]]


def roc_curves(roc: Mapping[str, Mapping[str, Sequence[float]]], auc: Mapping[str, float | None], title: str) -> Markup:
    """Return one-vs-rest ROC curves, a line per class, with each area in the legend."""
    with matplotlib.rc_context(style(title)):
        figure, axes = panel((4.0, 3.9), title)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
        for i, (name, curve) in enumerate(roc.items()):
            if curve["fpr"]:
                line = DASHES[i % len(DASHES)]
                label = f"{name}  {number(auc.get(name))}"
                axes.plot(curve["fpr"], curve["tpr"], label=label, color=SERIES[i % len(SERIES)], linestyle=line)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="False-positive rate", ylabel="True-positive rate")
        axes.set_aspect("equal")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", title="AUC", alignment="left", handlelength=2.6)
        return to_svg(figure, f"{title}: one line per class against the rest")


def reliability_diagram(bins: Sequence[Mapping[str, Any]], title: str) -> Markup:
    """Return a reliability diagram: the share right over the mean probability of each bin, its size below.

    Args:
        bins: as ``scores.json`` has them; empty ones are left out.
        title: of the chart.
    """
    full = [b for b in bins if b["n"]]
    x, right = [b["confidence"] for b in full], [b["accuracy"]["value"] for b in full]
    low, high = ([_end(b["accuracy"], name) for b in full] for name in ("low", "high"))
    total = sum(b["n"] for b in full)
    with matplotlib.rc_context(style(title)):
        figure, axes = panel((4.0, 3.9), title)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
        axes.bar(
            [b["low"] for b in full], [b["n"] / total for b in full], [b["high"] - b["low"] for b in full],
            align="edge", color=TINT, edgecolor=RULE, linewidth=0.6, label="share of the slices",
        )  # fmt: skip
        axes.vlines(x, low, high, color=BLUE, linewidth=0.9, label="95 % interval")
        axes.plot(x, right, "o", color=BLUE, markersize=4.5, label="share that is right")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="Highest probability", ylabel="Share")
        axes.set_aspect("equal")
        axes.legend(loc="upper left")
        return to_svg(figure, f"{title}: share right over the highest probability, bin by bin")


def _end(figure: Mapping[str, Any], name: str) -> float:
    """Return an end of an interval, or the value where it has none."""
    return float(figure["value"] if figure[name] is None else figure[name])


def threshold_curve(
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    rule: Mapping[str, Any] | None,
    percentiles: Sequence[float],
) -> Markup:
    """Return IoU over the share of pixels kept: the headline's map, its opponent, the others, the area ceiling."""
    with matplotlib.rc_context(style("threshold")):
        figure, axes = panel((5.2, 3.9), "")
        for row in rows:
            if row["kind"] == "method" and row["target"] == "predicted" and row is not best:
                _curve(axes, percentiles, row, color=BLUE, linewidth=0.9, alpha=0.4)
        for row in rows:
            if row["kind"] == "ceiling" and any(v is not None for v in row["curve"]):
                dotted = {"color": MUTED, "linewidth": 1.3, "linestyle": (0, (2, 2))}
                _curve(axes, percentiles, row, label="ceiling of the area kept", **dotted)
        if rule is not None:
            label = f"no network: {row_title(rule)}"
            _curve(axes, percentiles, rule, color=ORANGE, linestyle=(0, (6, 2)), label=label)
        _curve(axes, percentiles, best, color=BLUE, linewidth=2.2, label=f"{row_title(best)}, predicted class")
        axes.axvline(5, color=INK, linewidth=0.7)
        axes.annotate(
            "95th percentile", (5, 1), xycoords=("data", "axes fraction"), xytext=(5, -3), textcoords="offset points",
            ha="left", va="top",
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(_KEPT, [f"{k:g} %" for k in _KEPT])
        axes.set_xticks([], minor=True)
        axes.set(xlim=(50, 0.45), xlabel="Pixels kept", ylabel="Mean IoU with the outline")
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left")
        return to_svg(figure, "Mean IoU over the percentile at which maps are cut, below the ceiling of the area kept")


def _training_panel(epochs: Sequence[Mapping[str, float]], chosen: int | None, name: str, title: str) -> Markup:
    with matplotlib.rc_context(style(f"training {name}")):
        figure, axes = panel(_PANEL, title)
        x = [int(e["epoch"]) for e in epochs]
        few = "o" if len(x) < 3 else ""
        train = [e[f"train_{name}"] for e in epochs]
        axes.plot(x, train, color=FLOOR, linestyle=(0, (5, 2)), marker=few, label="train")
        if f"val_{name}" in epochs[0]:
            values = [e[f"val_{name}"] for e in epochs]
            axes.plot(x, values, color=BLUE, linewidth=2, marker=few, label="validation")
            if chosen in x:
                kept = values[x.index(chosen)]
                axes.plot([chosen], [kept], "o", color=BLUE, markersize=6, markeredgecolor=PAPER, zorder=5)
        if chosen in x:
            axes.axvline(chosen, color=INK, linewidth=0.7, zorder=1, label=f"epoch {chosen}, kept")
        axes.set_xlabel("Epoch")
        axes.set_xlim(min(x) - 0.3, max(x) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylim(bottom=0, top=None if name == "loss" else 1.02)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.4, handlelength=1.8)
        return to_svg(figure, f"{title} per epoch on the training and the validation part")


def _curve(axes: Axes, percentiles: Sequence[float], row: Mapping[str, Any], **style: Any) -> None:
    values = [float("nan") if v is None else v for v in row["curve"]]
    axes.plot([100 - p for p in percentiles], values, **style)
