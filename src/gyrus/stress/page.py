"""The page of a stress test: the finding in words, the figures, the curves, and some of the pictures it was made on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from gyrus.holes import Pixels
from gyrus.page import render, write_page
from gyrus.page.charts import DASHES, MARKERS, SERIES, panel, style, to_svg
from gyrus.page.pictures import data_uri, slice_panel, squared
from gyrus.page.words import number
from gyrus.records import Record
from gyrus.report.panels import draw_truth
from gyrus.stress.judge import Answer, Row
from gyrus.stress.views import CLEAN, FILLS, Views

TITLES = {
    ("tumour", "telea"): "Tumour, Telea",
    ("tumour", "tissue"): "Tumour, tissue",
    ("healthy", "telea"): "Healthy place, Telea",
    ("healthy", "tissue"): "Healthy place, tissue",
    ("corners", "background"): "Four corners, background",
}
MEASURES = {"accuracy": "accuracy", "pointing": "pointing game", "iou": "IoU at half the maximum"}
_TEMPLATE = Path(__file__).parent / "stress.html.j2"
_PER_CLASS = 2
_INTENSITY = (0.0, 99.5)


@dataclass(frozen=True, slots=True)
class Panel:
    """One small picture: its PNG data URI, its text for those who do not see it, and the line under it."""

    uri: str
    alt: str
    title: str


@dataclass(eq=False)
class Gallery:
    """Slices with their fills, the first two of each class."""

    cases: list[tuple[str, tuple[Panel, ...]]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def wanted(self, records: Sequence[Record]) -> frozenset[str]:
        """Return the ids of those that are to be shown, and count them as shown."""
        ids = []
        for record in records:
            if self.counts[str(record.label)] < _PER_CLASS:
                self.counts[str(record.label)] += 1
                ids.append(record.id)
        return frozenset(ids)

    def add(self, views: Views, row: Row) -> None:
        """Draw a slice, if its pictures were kept."""
        if views.shown is None:
            return
        image, fills, mask = views.shown
        clean = _shown(image.pixels, image.aspect)
        if mask.any():
            draw_truth(clean, squared(mask, image.aspect))
        panels = [_panel(clean, "as it is", row.levels[CLEAN])]
        for key in FILLS:
            if key in fills:
                source = f" ({row.sources[key]})" if key in row.sources else ""
                panels.append(_panel(_shown(fills[key], image.aspect), f"{TITLES[key]}{source}", row.filled[key]))
        self.cases.append((f"{row.record.id}: {row.record.label}", tuple(panels)))


def write_stress_page(target: Path, value: Mapping[str, Any], gallery: Gallery) -> None:
    """Write the page: one self-contained HTML file.

    Args:
        target: the file.
        value: what ``stress.json`` holds.
        gallery: filled slices.

    Raises:
        InputError: it cannot be written.
    """
    changes = value["robustness"]["changes"]
    charts = [_curves(change, value["robustness"]["clean"]) for change in changes]
    content = {"value": value, "charts": charts, "cases": gallery.cases, "titles": TITLES, "measures": MEASURES}
    write_page(target, render(_TEMPLATE, content))


def _shown(pixels: Pixels, aspect: float) -> Any:
    return slice_panel(squared(pixels, aspect), _INTENSITY)


def _panel(picture: Any, title: str, said: Answer) -> Panel:
    text = f"{title}: {said.predicted}, true class {number(said.probability)}"
    return Panel(data_uri(picture), f"The slice, {title}.", text)


def _curves(change: Mapping[str, Any], clean: Mapping[str, Any]) -> Markup:
    """Return accuracy, pointing game and IoU over the strengths of one degradation, with 95 % intervals."""
    levels = [clean, *change["levels"]]
    unit = next(word for word in change["levels"][0]["said"].split() if word.isalpha())
    with matplotlib.rc_context(style(change["name"])):
        figure, axes = panel((4.2, 2.9), "")
        for i, (measure, title) in enumerate(MEASURES.items()):
            figures = [level[measure] for level in levels]
            if all(f["value"] is None for f in figures):
                continue
            low, middle, high = (
                np.array([np.nan if f[end] is None else f[end] for f in figures], dtype=float)
                for end in ("low", "value", "high")
            )
            axes.fill_between(range(len(levels)), low, high, color=SERIES[i], alpha=0.15, linewidth=0)
            axes.plot(middle, color=SERIES[i], linestyle=DASHES[i], marker=MARKERS[i], markersize=4, label=title)
        axes.set_xticks(range(len(levels)), ["clean", *(f"{level['strength']:g}" for level in change["levels"])])
        axes.set(ylim=(-0.02, 1.02), xlabel=f"{change['title']}, {unit}")
        figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=2.2)
        return to_svg(figure, f"Accuracy and localization under {change['title']}")
