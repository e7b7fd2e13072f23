"""Charts as inline SVG that take colours and type from the page, so that they suit light, dark and print."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gyrus.page.words import number
from gyrus.report.words import row_title

# Colours no chart would use, each standing for a variable of the style sheet until the SVG is written.
_TOKENS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--rule)",
    "#010206": "var(--paper)",
    "#010211": "var(--blue)",
    "#010212": "var(--orange)",
    "#010213": "var(--green)",
    "#010214": "var(--purple)",
    "#010215": "var(--sky)",
    "#010216": "var(--amber)",
    "#010217": "var(--floor)",
}
_INK, _MUTED, _RULE, _PAPER, _BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _AMBER, _FLOOR = _TOKENS
SERIES = (_BLUE, _ORANGE, _GREEN, _PURPLE, _AMBER, _SKY)
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_PANEL = (3.7, 2.85)
_KEPT = (50, 20, 10, 5, 2, 1, 0.5)


def training_curves(epochs: Sequence[Mapping[str, float]], chosen: int | None) -> list[Markup]:
    """Return three charts over the epochs, train beside val: loss, accuracy, macro F1."""
    panels = (("loss", "Loss"), ("accuracy", "Accuracy"), ("macro_f1", "Macro F1"))
    return [_training_panel(epochs, chosen, name, title) for name, title in panels if f"train_{name}" in epochs[0]]


def roc_curves(roc: Mapping[str, Mapping[str, Sequence[float]]], auc: Mapping[str, float | None], title: str) -> Markup:
    """Return one-vs-rest ROC curves, a line per class, with each area in the legend."""
    with matplotlib.rc_context(_style(title)):
        figure, axes = _panel((4.0, 3.9), title)
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
        for i, (name, curve) in enumerate(roc.items()):
            if curve["fpr"]:
                line = _DASHES[i % len(_DASHES)]
                label = f"{name}  {number(auc.get(name))}"
                axes.plot(curve["fpr"], curve["tpr"], label=label, color=SERIES[i % len(SERIES)], linestyle=line)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="False-positive rate", ylabel="True-positive rate")
        axes.set_aspect("equal")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", title="AUC", alignment="left", handlelength=2.6)
        return _svg(figure, f"{title}: one line per class against the rest")


def threshold_curve(
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    rule: Mapping[str, Any] | None,
    percentiles: Sequence[float],
) -> Markup:
    """Return IoU over the share of pixels kept: the headline's map, its opponent, the others, the area ceiling."""
    with matplotlib.rc_context(_style("threshold")):
        figure, axes = _panel((5.2, 3.9), "")
        for row in rows:
            if row["kind"] == "method" and row["target"] == "predicted" and row is not best:
                _curve(axes, percentiles, row, color=_BLUE, linewidth=0.9, alpha=0.4)
        for row in rows:
            if row["kind"] == "ceiling" and any(v is not None for v in row["curve"]):
                style = {"color": _MUTED, "linewidth": 1.3, "linestyle": (0, (2, 2))}
                _curve(axes, percentiles, row, label="ceiling of the area kept", **style)
        if rule is not None:
            label = f"no network: {row_title(rule)}"
            _curve(axes, percentiles, rule, color=_ORANGE, linestyle=(0, (6, 2)), label=label)
        _curve(axes, percentiles, best, color=_BLUE, linewidth=2.2, label=f"{row_title(best)}, predicted class")
        axes.axvline(5, color=_INK, linewidth=0.7)
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
        return _svg(figure, "Mean IoU over the percentile at which maps are cut, below the ceiling of the area kept")


def _training_panel(epochs: Sequence[Mapping[str, float]], chosen: int | None, name: str, title: str) -> Markup:
    with matplotlib.rc_context(_style(f"training {name}")):
        figure, axes = _panel(_PANEL, title)
        x = [int(e["epoch"]) for e in epochs]
        few = "o" if len(x) < 3 else ""
        train = [e[f"train_{name}"] for e in epochs]
        axes.plot(x, train, color=_FLOOR, linestyle=(0, (5, 2)), marker=few, label="train")
        if f"val_{name}" in epochs[0]:
            values = [e[f"val_{name}"] for e in epochs]
            axes.plot(x, values, color=_BLUE, linewidth=2, marker=few, label="validation")
            if chosen in x:
                kept = values[x.index(chosen)]
                axes.plot([chosen], [kept], "o", color=_BLUE, markersize=6, markeredgecolor=_PAPER, zorder=5)
        if chosen in x:
            axes.axvline(chosen, color=_INK, linewidth=0.7, zorder=1, label=f"epoch {chosen}, kept")
        axes.set_xlabel("Epoch")
        axes.set_xlim(min(x) - 0.3, max(x) + 0.3)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylim(bottom=0, top=None if name == "loss" else 1.02)
        figure.legend(loc="outside lower center", ncols=3, columnspacing=1.4, handlelength=1.8)
        return _svg(figure, f"{title} per epoch on the training and the validation part")


def _style(salt: str) -> Any:
    """Return the settings of a chart whose ids are its own."""
    return _STYLE | {"svg.hashsalt": salt}


def _panel(size: tuple[float, float], title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def _curve(axes: Axes, percentiles: Sequence[float], row: Mapping[str, Any], **style: Any) -> None:
    values = [float("nan") if v is None else v for v in row["curve"]]
    axes.plot([100 - p for p in percentiles], values, **style)


def _svg(figure: Figure, label: str) -> Markup:
    """Return the figure as an <svg> element without a size, a font, a colour or an id of its own making."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # it would apply to the whole page
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    # Older versions write the shorthand, newer ones its parts.
    text = re.sub(r"font: ((?:bold|\d+) )?([\d.]+px) [^;\"]+", r"font-size: \2; font-weight: \1", text)
    text = re.sub(r"font-weight: (?=[;\"])|font-family: [^;\"]+;? ?", "", text)
    text = re.sub(r"\s+", " ", text)
    text = text.replace("xlink:href", "href")
    for token, variable in _TOKENS.items():
        text = text.replace(token, variable)
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
    names = {a or b for a, b in used}
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in names else "", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None, "matplotlib always writes a viewBox"
    _, _, width, _ = box[1].split()
    said, widest = f'role="img" aria-label="{Markup.escape(label)}"', f"max-width:{float(width) * 1.35:.0f}px"
    head = f'<svg class="chart" {said} viewBox="{box[1]}" style="{widest}">'
    # Made here, its texts escaped by matplotlib, so it may stand in the page as it is.
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1).strip())  # noqa: S704
