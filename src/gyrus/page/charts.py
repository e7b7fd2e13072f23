"""Charts as SVG: in a page they take its colours and type, so that they suit light, dark and print; or as files."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours no chart would use, each standing for a variable of the style sheet until the SVG is written.
_TOKENS = {
    "#010203": "var(--ink)",
    "#010204": "var(--muted)",
    "#010205": "var(--rule)",
    "#010206": "var(--paper)",
    "#010207": "var(--tint)",
    "#010211": "var(--blue)",
    "#010212": "var(--orange)",
    "#010213": "var(--green)",
    "#010214": "var(--purple)",
    "#010215": "var(--sky)",
    "#010216": "var(--amber)",
    "#010217": "var(--floor)",
}
INK, MUTED, RULE, PAPER, TINT, BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, FLOOR = _TOKENS
SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Beside the colours of :data:`SERIES`, dashes and markers for those who cannot tell these apart."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_MARGIN = 8.0


def style(salt: str) -> Any:
    """Return the settings of a chart, for ``matplotlib.rc_context``.

    Args:
        salt: what no other chart of the page has, so that its ids are its own.
    """
    return _STYLE | {"svg.hashsalt": salt}


def panel(size: tuple[float, float], title: str) -> tuple[Figure, Axes]:
    """Return a figure of (width, height) inches and its axes, under a title, which may be empty."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def to_svg(figure: Figure, label: str) -> Markup:
    """Return the figure as an <svg> element without a size, a font, a colour or an id of its own making.

    Args:
        figure: drawn in the colours above.
        label: what it shows, for those who hear it.
    """
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
    said, widest = f'role="img" aria-label="{escape(label)}"', f"max-width:{float(width) * 1.35:.0f}px"
    head = f'<svg class="chart" {said} viewBox="{box[1]}" style="{widest}">'
    # Made here, its texts escaped by matplotlib, so it may stand in the page as it is.
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1).strip())  # noqa: S704


def standalone(svg: Markup) -> str:
    """Return a chart made by :func:`to_svg` as a file of its own, for any viewer: light, on white, with its size."""
    head, rest = str(svg).split(">", 1)  # a Markup escapes whatever is added to it
    said = dict(re.findall(r'([a-zA-Z-]+)="([^"]*)"', head))
    x, y, width, height = (float(n) for n in said["viewBox"].split())
    left, top, width, height = x - _MARGIN, y - _MARGIN, width + 2 * _MARGIN, height + 2 * _MARGIN
    place = f'width="{width:g}{{0}}" height="{height:g}{{0}}"'
    variables = _light()
    root = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'{place.format("pt")} viewBox="{left:g} {top:g} {width:g} {height:g}" '
        f'font-family="{escape(variables["sans"])}" stroke-linejoin="round">\n<title>{said["aria-label"]}</title>\n'
        f'<rect x="{left:g}" y="{top:g}" {place.format("")} fill="{variables["paper"]}"/>'
    )
    # Viewers older than SVG 2 know no plain href.
    body = root + rest.replace(' href="#', ' xlink:href="#')
    coloured = re.sub(r"var\(--([a-z]+)\)", lambda m: variables.get(m[1], m[0]), body)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{coloured}\n'


@cache
def _light() -> dict[str, str]:
    """Return the variables of the light theme, the first block of the page's style sheet."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--([a-z-]+): ([^;]+);", css[: css.index("}")]))
