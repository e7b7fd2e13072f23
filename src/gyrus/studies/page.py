"""The page of one study: what was claimed beside what was measured, and every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gyrus.intervals import Interval
from gyrus.page import render, write_page
from gyrus.page.pictures import png_uri
from gyrus.studies.charts import ClaimRow, claims
from gyrus.studies.figures import Drawn

_TEMPLATE = Path(__file__).parent / "study.html.j2"


def write_study_page(target: Path, value: Mapping[str, Any], drawn: Sequence[Drawn], folder: Path) -> None:
    """Write the page.

    Args:
        target: the file.
        value: what ``study.json`` holds.
        drawn: the figures.
        folder: where their files are.

    Raises:
        InputError: it cannot be written.
    """
    figures: dict[str, dict[str, list[Any]]] = {}
    for one in drawn:
        parts = figures.setdefault(one.title, {"charts": [], "pictures": []})
        if one.chart is not None:
            parts["charts"].append(one.chart)
        else:
            parts["pictures"].append(png_uri((folder / one.file).read_bytes()))
    write_page(
        target,
        render(
            _TEMPLATE,
            {
                "value": value,
                "figures": figures,
                "chart": claims_chart(value),
                "trainings": {k: s for k, s in value["steps"].items() if s["facts"]["kind"] == "training"},
            },
        ),
    )


def claims_chart(value: Mapping[str, Any]) -> Markup | None:
    """Return the accuracies of a study's table side by side, as inline SVG; None where there is none.

    Args:
        value: what ``study.json`` holds; its ``table`` is enough.
    """
    rows = [
        ClaimRow(row["label"], row["claimed"], _figure(row["own_value"]), _figure(row["honest_value"]))
        for row in value["table"]
        if row["label"].startswith(("accuracy", "test accuracy")) and (row["own_value"] or row["honest_value"])
    ]
    return claims(rows) if rows else None


def _figure(value: Mapping[str, Any] | None) -> Interval | None:
    if value is None or value["value"] is None:
        return None
    low, high = (float("nan") if value[k] is None else value[k] for k in ("low", "high"))
    return Interval(value["value"], low, high, value["n"], value["groups"])
