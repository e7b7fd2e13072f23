"""The table of ``gyrus predict``: one line per slice, and the reason of every one that is not ok."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from gyrus.predictions import FLAGGED, REFUSED, UNREADABLE, Predictions, called
from gyrus.sheets import Column, Fitting, Lines, Sheet

MOST_ROWS = 40
Row = Mapping[str, Any]


def predictions(made: Predictions) -> Lines:
    """Return one row per slice, the first of them where there are many, and the reason of every one that is not ok.

    A slice of a volume is called by its file, plane and index. The folder that all files have in common is said once.
    """
    folder = common_folder(made.files)
    rows = [row | {"called": called(_below(row["file"], folder), row["id"])} for row in made.rows()]
    lines: Lines = [line for line in (made.statement, made.warning) if line]
    lines += [f"file{'s' * (len(set(made.files)) > 1)} in {folder}:"] if folder else []
    lines.append(_table(made, rows[:MOST_ROWS]))
    if len(rows) > MOST_ROWS:
        lines.append(f"... and {len(rows) - MOST_ROWS} more; write them all with --out or --json")
    for row in (r for r in rows if r["status"] == UNREADABLE):  # its reason names the file, but not which slice of it
        which = "" if row["called"] == _below(row["file"], folder) else f"{row['called']}: "
        lines.append(f"unreadable: {which}{row['reason']}")
    told = [r for r in rows if r["status"] in (FLAGGED, REFUSED)]
    lines += [f"{r['status']}: {r['called']}: {r['reason']}" for r in told[:MOST_ROWS]]
    return lines + ([f"... and {len(told) - MOST_ROWS} more reasons"] if len(told) > MOST_ROWS else [])


def common_folder(files: Iterable[str]) -> str:
    """Return the folder that all files lie in or below; empty where that is the current one, the root, or none."""
    try:
        found = os.path.commonpath({PurePath(file).parent for file in files})
    except ValueError:  # there is no file, or some paths start at the root and others do not
        return ""
    return "" if found in ("", PurePath(found).anchor) else found


def _below(file: str, folder: str) -> str:
    return str(PurePath(file).relative_to(folder)) if folder else file


def _table(made: Predictions, rows: Sequence[Row]) -> Fitting:
    """Return the table with all there is; for narrower screens with one probability, and then without diameters."""
    brief = "p is for that class; --json and --out hold p for all classes"
    return Fitting(
        [
            _form(made, rows, least=24),
            _form(made, rows, least=16, brief=f"{brief}."),
            _form(made, rows, least=12, brief=f"{brief}, and diameters.", sized=False),
        ]
    )


def _form(made: Predictions, rows: Sequence[Row], *, least: int, brief: str = "", sized: bool = True) -> Sheet:
    """Return one form of the table.

    Args:
        made: what the rows are of.
        rows: of :meth:`Predictions.row`, each with what it is ``called``.
        least: characters down to which files may be shortened.
        brief: what stands below where one probability stands for all.
        sized: whether diameters are shown.
    """
    calibrated, answered = made.certainty is not None, any(row["probabilities"] for row in rows)
    fields: list[tuple[Column, Callable[[Row], Any]]] = [
        (Column("file", least=least, middle=True), lambda row: row["called"]),
        (Column("class", whole=True), lambda row: row["predicted"]),
    ]
    if answered and brief:
        fields.append((Column("p", whole=True), lambda row: _share(row, name=row["predicted"])))
    elif answered:
        fields += [(Column(f"p({c})", whole=True), partial(_share, name=c)) for c in made.classes]
    if calibrated:
        fields.append((Column("set", whole=sized), lambda row: _set(row["set"], made.classes, brief=bool(brief))))
        fields += [(Column("diameter", whole=True), lambda row: _diameter(row["outline"]))] if sized else []
        fields.append((Column("status", whole=True), lambda row: row["status"]))
    fields.append((Column("label", whole=True), lambda row: row["label"]))
    return Sheet(
        "Predictions, calibrated" if calibrated else "Predictions",
        [column for column, _ in fields],
        [[of(row) for _, of in fields] for row in rows],
        caption=brief if answered else "",
    )


def _share(row: Row, *, name: str | None) -> str:
    return f"{row['probabilities'][name]:.3f}" if row["probabilities"] else "-"


def _set(members: Sequence[str] | None, classes: Sequence[str], *, brief: bool) -> str | None:
    """Return the classes that cannot be left out; in brief, where they are many, those that can."""
    if members is None:
        return None
    others = [c for c in classes if c not in members]
    if brief and len(classes) > 2 and len(others) < 2:
        return f"all but {others[0]}" if others else f"all {len(classes)}"
    return ", ".join(members) or "none"


def _diameter(outline: Mapping[str, Any] | None) -> str | None:
    return None if outline is None else f"{outline['diameter']:.0f} {outline['unit']}"
