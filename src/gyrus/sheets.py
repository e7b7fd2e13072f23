"""Tables that fit the width there is: what gives way where a screen is narrow, and in which order.

First the heads wrap, then text, between words, then a number and its interval come to stand on two lines. A table that
is still too wide is cut between columns into several, one below the other, each beginning with the same columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

Lines = list[RenderableType]
"""What a verb prints: tables and sentences."""
LONGEST_WORD = 40  # a longer one, as a path, is broken rather than the table cut
GAP = 3  # what stands between two columns: a line, and a blank on both sides of it
_WORD = re.compile(r"(?:\[[-.\d]+, [-.\d]+\]|\S)+")  # the two ends of an interval are not torn apart


@dataclass(frozen=True)
class Column:
    """The head of a column, and what may happen to its cells where the screen is narrow.

    Attributes:
        name: the head.
        least: characters down to which text may be wrapped, or shortened.
        whole: cells are never wrapped.
        middle: cells are not wrapped but lose their middle, as long as no two different ones come to look alike.
    """

    name: str
    least: int = 16
    whole: bool = False
    middle: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table that rich prints as wide as it needs and there is room; columns without any content are left out.

    Columns in which every cell starts like a number are right-aligned, and markup is literal.

    Attributes:
        title: stands above it.
        columns: a name alone stands for a :class:`Column` of that name.
        rows: one value per column; None is printed as nothing.
        keys: how many of the first columns are repeated where the table is cut into several.
        caption: stands below it.
    """

    title: str
    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Any]]
    keys: int = 1
    caption: str = ""

    def fits(self, width: int) -> bool:
        """Whether it need not be cut into several tables in so many characters."""
        return _widths(self._strips, width) is not None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield title, tables and caption as rich asks for them."""
        if self.title:
            yield Text(self.title, style="table.title")
        for strips in self._parts(options.max_width):
            widths = _widths(strips, options.max_width) or _forced(strips, options.max_width)
            yield _drawn(strips, widths, mark="..." if options.ascii_only else "…")
        if self.caption:
            yield Text(self.caption, style="table.caption")

    @cached_property
    def _strips(self) -> list[_Strip]:
        cells = [tuple("" if row[i] is None else str(row[i]) for row in self.rows) for i in range(len(self.columns))]
        heads = [Column(head) if isinstance(head, str) else head for head in self.columns]
        strips = [_Strip(*found, key=i < self.keys) for i, found in enumerate(zip(heads, cells, strict=True))]
        return [s for s in strips if any(s.cells) or not self.rows]

    def _parts(self, width: int) -> Iterator[list[_Strip]]:
        """Yield the columns of each table it is cut into, most often of one."""
        keys, part = [s for s in self._strips if s.key], list[_Strip]()
        for strip in (s for s in self._strips if not s.key):
            if part and _widths([*keys, *part, strip], width) is None:
                yield [*keys, *part]
                part = []
            part.append(strip)
        yield [*keys, *part]


@dataclass(frozen=True)
class Fitting:
    """One table in several forms: printed is the first that the screen has room for in one piece, or else the last."""

    forms: Sequence[Sheet]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the form that fits."""
        yield next((form for form in self.forms if form.fits(options.max_width)), self.forms[-1])


@dataclass(frozen=True)
class _Strip:
    """A column with its cells as text, and how narrow it can be made."""

    head: Column
    cells: tuple[str, ...]
    key: bool = False

    @cached_property
    def numeric(self) -> bool:
        cells = [c for c in self.cells if c]
        return bool(cells) and not self.head.middle and all(c[0] in "-.0123456789" for c in cells)

    @cached_property
    def natural(self) -> int:
        """The width at which nothing is wrapped."""
        return max(cell_len(self.head.name), self._longest_line)

    @cached_property
    def compact(self) -> int:
        """The width at which the head alone is wrapped."""
        return max(self._longest_head_word, self._longest_line)

    @cached_property
    def least(self) -> int:
        """The width below which words, or what may not be wrapped, would be broken."""
        if self.head.whole:
            return self.compact
        if self.head.middle:
            return max(self._longest_head_word, min(self._longest_line, self.head.least))
        word = min(LONGEST_WORD, max((cell_len(w) for cell in self.cells for w in _WORD.findall(cell)), default=0))
        readable = 0 if self.numeric else min(self._longest_line, self.head.least)
        return max(self._longest_head_word, word, readable)

    @cached_property
    def _longest_line(self) -> int:
        return max((cell_len(line) for cell in self.cells for line in cell.split("\n")), default=0)

    @cached_property
    def _longest_head_word(self) -> int:
        return max((cell_len(w) for w in self.head.name.split()), default=0)


def _widths(strips: Sequence[_Strip], width: int) -> list[int] | None:
    """Return how wide each column is where all of them are to stand side by side; None where there is no room."""
    room = width - GAP * (len(strips) - 1)
    natural, compact = [s.natural for s in strips], [s.compact for s in strips]
    least = [min(s.least, room // 2) if s.key else s.least for s in strips]  # what is repeated leaves room for the rest
    mixed = [c if s.numeric else n for s, c, n in zip(strips, compact, least, strict=True)]
    for found in (natural, compact, mixed, least):
        if sum(found) <= room:
            return _shared_out(strips, found, room)
    return None


def _shared_out(strips: Sequence[_Strip], widths: Sequence[int], room: int) -> list[int]:
    """Return the widths, what room they leave being shared by the columns of text, those that lack least first."""
    shared, rest = list(widths), room - sum(widths)
    short = sorted((s.natural - w, i) for i, (s, w) in enumerate(zip(strips, widths, strict=True)) if not s.numeric)
    for n, (lack, i) in enumerate(short):
        more = min(lack, rest // (len(short) - n))
        shared[i] += more
        rest -= more
    return shared


def _forced(strips: Sequence[_Strip], width: int) -> list[int]:
    """Return widths for a screen on which words have to be broken: the widest give way first."""
    widths = [s.least for s in strips]
    while sum(widths) + GAP * (len(widths) - 1) > width and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return widths


def _drawn(strips: Sequence[_Strip], widths: Sequence[int], *, mark: str) -> Table:
    made, body = Table(header_style="bold", show_edge=False, pad_edge=False), []
    for strip, width in zip(strips, widths, strict=True):
        head = Text(filled(strip.head.name, width))
        made.add_column(head, justify="right" if strip.numeric else "left", overflow="fold", width=width)
        cells = shortened(strip.cells, width, mark=mark) if strip.head.middle else strip.cells
        body.append([Text(filled(cell.strip("\n"), width)) for cell in cells])
    for row in zip(*body, strict=True):
        made.add_row(*row)
    return made


def shortened(names: Sequence[str], width: int, *, mark: str = "…") -> list[str]:
    """Return the names with a mark for the middle of those that are too long, or all of them whole.

    Whole they are left where different names would come to look alike wherever they are cut.

    Args:
        names: one line of text each.
        width: characters there are for each.
        mark: what stands for the middle.
    """
    room = width - cell_len(mark)
    if room < 2:
        return list(names)
    most = room * 2 // 3  # of a file name the end tells more: index and suffix
    for end in sorted(range(1, room), key=lambda n: abs(n - most)):
        cut = [n if cell_len(n) <= width else f"{_start(n, room - end)}{mark}{_end(n, end)}" for n in names]
        if len(set(cut)) == len(set(names)):
            return cut
    return list(names)


def _start(text: str, width: int) -> str:
    return chop_cells(text, width)[0]


def _end(text: str, width: int) -> str:
    return chop_cells(text[::-1], width)[0][::-1]


def filled(text: str, width: int) -> str:
    """Return text in lines of at most ``width``, broken between words; a longer word, such as a path, stays whole."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines.append("")
        end = 0
        for word in _WORD.finditer(part):
            longer = part[end : word.end()]  # the blanks before it too
            if lines[-1] and cell_len(lines[-1] + longer) > width:
                lines.append(word[0])
            else:
                lines[-1] += longer
            end = word.end()
    return "\n".join(lines)
