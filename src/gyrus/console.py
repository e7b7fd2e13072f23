"""What the command line shows: progress on stderr, tables or one JSON document on stdout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gyrus.artifacts import to_json
from gyrus.loading import Progress as Report

PIPED_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """Return a console; where the output is piped it is wide enough that no table is cut."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Report | None]:
    """Yield a callback that draws bars with the remaining time on stderr; None where nobody is watching."""
    # By now Lightning is imported where it is needed; its import sets these levels, so it cannot be done earlier.
    for chatty in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    screen = console(stderr=True)
    if quiet or not screen.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=screen, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            kind = what.split(" ")[0]  # "epoch 2/8" and "epoch 3/8" share a bar
            if kind not in tasks:
                tasks[kind] = bars.add_task(what, total=total)
            bars.update(tasks[kind], description=what, completed=done, total=total)

        yield report


def show(value: dict[str, Any], *, as_json: bool, quiet: bool, tables: list[Table | str]) -> None:
    """Print one JSON document and nothing else, or the tables, or nothing."""
    if as_json:
        print(to_json(value))
    elif not quiet:
        screen = console()
        for table in tables:  # a sentence is printed as it is: a path in it may hold brackets, or be long
            screen.print(table, markup=False, soft_wrap=isinstance(table, str))


def table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    """Return a table; columns in which every cell starts like a number are right-aligned, and markup is literal."""
    made = Table(title=Text(title), title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for name, *cells in zip(columns, *rows, strict=True):
        numeric = all(c is None or str(c)[:1] in "-.0123456789" for c in cells) and any(c is not None for c in cells)
        made.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if v is None else str(v)) for v in row))
    return made
