"""Scores on disk: one Parquet file per batch while it runs, one for all of them at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.leaderboard.entries import COLUMNS, Entry
from gyrus.paths import PathLike

WORDS = ("id", "patient", "label", "predicted", "source", "kind", "name", "layer")
NUMBERS = ("confidence", "tumour_share", "grid")


def write_part(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows so that the file is there whole or not at all; a number that a row lacks is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    aside = path.with_name(f".{path.name}.partial")
    fields = [(w, pa.string()) for w in WORDS] + [(n, pa.float32()) for n in (*NUMBERS, *COLUMNS)]
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)), aside)
    aside.replace(path)


def join_parts(parts: Iterable[Path], out: Path) -> None:
    """Write the rows of all parts into one file, a part at a time."""
    import pyarrow.parquet as pq

    files = list(parts)
    with pq.ParquetWriter(out, pq.read_schema(files[0]), compression="zstd") as writer:
        for file in files:
            writer.write_table(pq.read_table(file))


class Scores:
    """The finished table, a column at a time.

    Args:
        path: what :func:`join_parts` wrote.

    Attributes:
        ids: N slices, sorted.
        entries: in the order of the file.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        ids, entries = self._texts("id"), list(zip(*map(self._texts, ("kind", "name", "layer")), strict=True))
        self.ids = tuple(sorted(set(ids)))
        self.entries = tuple(dict.fromkeys(Entry(*e) for e in entries))
        number = {e: i for i, e in enumerate(self.entries)}
        place = {name: i for i, name in enumerate(self.ids)}
        self._cell = np.array([number[Entry(*e)] for e in entries]), np.array([place[i] for i in ids])

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Return (entries, N) float64 of a column; NaN where there is no such row, or no score in it."""
        import pyarrow.parquet as pq

        grid = np.full((len(self.entries), len(self.ids)), np.nan)
        values = pq.read_table(self.path, columns=[column])[column].to_numpy(zero_copy_only=False)
        grid[self._cell] = values
        return grid

    def of_slices(self, column: str) -> list[Any]:
        """Return what each of the N slices has in a column that is the same in all its rows."""
        import pyarrow.parquet as pq

        found: list[Any] = [None] * len(self.ids)
        values = pq.read_table(self.path, columns=[column])[column].to_pylist()
        for place, value in zip(self._cell[1], values, strict=True):
            found[place] = value
        return found

    def _texts(self, column: str) -> list[str]:
        import pyarrow.parquet as pq

        texts: list[str] = pq.read_table(self.path, columns=[column])[column].to_pylist()
        return texts
