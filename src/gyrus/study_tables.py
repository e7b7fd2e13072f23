"""The tables of the verbs below ``gyrus study``, from the same values that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gyrus.sheets import Lines, Sheet


def studies(value: Mapping[str, Any]) -> Lines:
    """Return the studies that gyrus ships."""
    rows = [[s["name"], s["title"], ", ".join(s["data"]), ", ".join(s["scales"])] for s in value["studies"]]
    return [Sheet("Studies", ["name", "what", "data", "scales"], rows)]


def recipe(value: Mapping[str, Any]) -> Lines:
    """Return what a study asks, what it claims, and its steps."""
    trainings = value["trainings"]
    steps = [
        [s, trainings[s]["protocol"] if s in trainings else "", trainings[s]["data"] if s in trainings else ""]
        for s in value["steps"]
    ]
    claims = [[row["label"], row.get("claimed")] for row in value.get("table", [])]
    scales = [["full", ""], *([name, s["reduction"]] for name, s in value.get("scales", {}).items())]
    return [
        f"{value['title']} {value['question']}",
        value["about"].strip(),
        Sheet("Steps", ["step", "protocol", "data"], steps),
        Sheet("Table", ["measure", "claimed"], claims),
        Sheet("Scales", ["scale", "what is smaller"], scales),
    ]


def study(value: Mapping[str, Any], out: Path) -> Lines:
    """Return a study's table, claimed beside measured; of one step its figures."""
    if "step" in value:
        rows = [[name, _figure(v)] for name, v in value["values"].items()]
        return [Sheet(f"{value['name']}: {value['step']}", ["figure", "measured"], rows)]
    rows = [[_measure(r), r["claimed"], _figure(r["own_value"]), _figure(r["honest_value"])] for r in value["table"]]
    reduced = [f"scale {value['scale']}: {value['reduction']}"] if value["reduction"] else []
    return [
        *reduced,
        Sheet(value["title"], ["measure", "claimed", "own protocol", "honest protocol"], rows),
        f"page: {out / 'study.html'}",
    ]


def _measure(row: Mapping[str, Any]) -> str:
    return f"{row['label']} ({row['stand_in']} in its place)" if row["stand_in"] else str(row["label"])


def _figure(value: Mapping[str, Any] | None) -> str | None:
    """Return a figure with its interval, where it has one."""
    if value is None or value["value"] is None:
        return None
    span = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value['value']:.3f}{span}"
