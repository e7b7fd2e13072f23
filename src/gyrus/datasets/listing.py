"""What every dataset reader shares: listing folders, natural order, class names, tables."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gyrus.errors import InputError
from gyrus.io import IMAGE_SUFFIXES

_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_TUMOURS = ("glioma", "meningioma", "pituitary")
_NONE = frozenset({"no", "normal", "healthy", "notumor", "no_tumor"})
_SOME = frozenset({"yes", "tumor"})
_SHOWN = 100  # letters of a cell in a message


def natural_key(text: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key that puts ``2.jpg`` before ``10.jpg``, upper and lower case together."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), text


@dataclass(frozen=True, slots=True)
class Listing:
    """The visible entries of a folder, each in natural order: names of sub-folders and of files."""

    folders: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """The files whose suffix is that of an image."""
        return tuple(name for name in self.files if is_image(name))

    @property
    def others(self) -> tuple[str, ...]:
        """The files whose suffix is not."""
        return tuple(name for name in self.files if not is_image(name))


def listing(folder: Path) -> Listing:
    """List a folder without hidden entries and what operating systems leave behind (__MACOSX, Thumbs.db).

    Raises:
        InputError: it does not exist, is not a folder, or may not be listed.
    """
    try:
        with os.scandir(folder) as entries:
            seen = [(entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): name an existing, readable folder") from error
    folders = sorted((name for name, is_folder in seen if is_folder), key=natural_key)
    files = sorted((name for name, is_folder in seen if not is_folder), key=natural_key)
    return Listing(tuple(folders), tuple(files))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is none of the user's data."""
    return name.startswith(".") or name.lower() in _JUNK


def is_image(name: str) -> bool:
    """Tell whether a file name ends like an image gyrus reads."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def class_name(text: str) -> str:
    """Return the one spelling of a class: glioma, meningioma, pituitary, no_tumor, tumor, or the text lower-cased.

    >>> [class_name(t) for t in ("Glioma_Tumour", "notumor", "healthy", "yes", "Edema")]
    ['glioma', 'no_tumor', 'no_tumor', 'tumor', 'edema']
    """
    lower = text.strip().lower()
    plain = re.sub(r"[\s-]+", "_", lower).replace("tumour", "tumor").replace("tumors", "tumor")
    if plain.removesuffix("_tumor") in _TUMOURS:
        return plain.removesuffix("_tumor")
    if plain in _NONE:
        return "no_tumor"
    return "tumor" if plain in _SOME else lower


def and_more(names: Sequence[str], shown: int = 3) -> str:
    """Return the first names, quoted, and how many more there are."""
    text = ", ".join(repr(name) for name in names[:shown])
    return text if len(names) <= shown else f"{text} and {len(names) - shown} more"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 file``, ``2,573 files``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def shown(cell: str) -> str:
    """Return a cell of a table as a message shows it: its beginning, where it is long."""
    return cell if len(cell) <= _SHOWN else cell[:_SHOWN] + "..."


def part_of(found: int, published: int) -> tuple[str, ...]:
    """Return the note that says how much of a public dataset is here; none where all of it is."""
    if found == published:
        return ()
    return (f"Holds {found:,} slices; the published dataset has {published:,}.",)


def read_table(path: Path, required: Sequence[str]) -> tuple[tuple[str, ...], Iterator[tuple[int, dict[str, str]]]]:
    """Read a CSV file with a header.

    Returns:
        The column names, lower-case, and the rows: each its number as a spreadsheet counts (the header is row 1) and
        its cells by column, without surrounding blanks. Empty rows are passed over.

    Raises:
        InputError: the file cannot be read as CSV in UTF-8, lacks a required column, or a row has too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table ({error}): save it as CSV in UTF-8") from error
    columns = tuple(cell.strip().lower() for cell in table[0]) if table else ()
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}; its first row reads {','.join(columns)!r}: "
            "name the columns there, separated by commas"
        )
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InputError(f"{path} has two columns {twice[0]!r}: rename one")
    return columns, _rows(path, columns, table[1:])


def _rows(path: Path, columns: tuple[str, ...], table: list[list[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, cells in enumerate(table, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) > len(columns):
            raise InputError(
                f"{path} row {number} has {len(cells)} cells for {len(columns)} columns: "
                'put a cell that contains a comma in "quotes"'
            )
        padded = [*cells, *[""] * (len(columns) - len(cells))]
        yield number, {name: cell.strip() for name, cell in zip(columns, padded, strict=True)}
