"""What the command line shows: progress on stderr, tables or one JSON document on stdout."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gyrus.artifacts import to_json
from gyrus.loading import Progress as Report
from gyrus.sheets import filled

PIPED_WIDTH = 200


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or as COLUMNS says; piped it is so wide that hardly a table is cut."""
    told = os.environ.get("COLUMNS", "")
    made = Console(stderr=stderr, highlight=False, emoji=False)
    if (made.is_terminal and made.width > 0) or (told.isdecimal() and int(told) > 0):
        return made
    return Console(stderr=stderr, highlight=False, emoji=False, width=PIPED_WIDTH)


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


def say(screen: Console, text: str, *, style: str | None = None) -> None:
    """Print a sentence as it is, as a path in it may hold brackets; only a terminal breaks it, between words."""
    text = filled(text, screen.width) if screen.is_terminal else text
    screen.print(text, style=style, markup=False, soft_wrap=True)


def show(value: dict[str, Any], *, as_json: bool, quiet: bool, tables: Sequence[RenderableType]) -> None:
    """Print one JSON document and nothing else, or the tables and sentences, or nothing."""
    if as_json:
        print(to_json(value))
    elif not quiet:
        screen = console()
        for table in tables:
            if isinstance(table, str):
                say(screen, table)
            else:
                screen.print(table)
