"""Numbers as pages print them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

Figure = Mapping[str, Any]
"""An interval as ``scores.json`` has it: value, low, high, n, groups; null where undefined."""

NONE = "\N{EN DASH}"


def number(value: float | None) -> str:
    """Return three decimals, with a true minus sign, or a dash where undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{abs(value):.3f}"
    return f"\N{MINUS SIGN}{text}" if value < 0 and text != "0.000" else text


def span(figure: Figure | None) -> str:
    """Return a 95 % interval as low, a dash ("to" where low is negative), high; nothing where there is none."""
    if figure is None or figure["low"] is None or figure["high"] is None:
        return ""
    return f"{number(figure['low'])}{' to ' if figure['low'] < 0 else NONE}{number(figure['high'])}"


def breakable(text: str) -> Markup:
    """Return text as HTML in which a line may end after each "/": ids are paths, and long ones."""
    return escape(text).replace("/", Markup("/<wbr>"))


def plural(n: int, word: str, many: str = "") -> str:
    """Return "1 slice", "2 slices", "2,451 slices"."""
    return f"{n:,} {word if n == 1 else many or word + 's'}"


def percent(share: float) -> str:
    """Return a share as a percentage, with as many decimals as a small one needs ("0.76 %", "1.7 %", "12 %")."""
    value = 100 * share
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}\N{NO-BREAK SPACE}%"
