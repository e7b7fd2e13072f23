"""The slices in whatever a user names: files, volumes, folders, datasets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gyrus.datasets.cases import Slices, case_records
from gyrus.datasets.files import open_files
from gyrus.datasets.registry import find_reader, open_cases, open_dataset, recognise
from gyrus.errors import InputError
from gyrus.records import Record


def records_in(paths: Sequence[Path], plane: str | None = None, slices: Slices = "all") -> list[Record]:
    """Return the slices in files, folders and datasets; a folder no reader recognises is searched for images.

    Args:
        paths: what to look into.
        plane: of the slices of volumes; by default as acquired.
        slices: which ones of each such volume: "all", "middle", or indices from 0.

    Raises:
        InputError: no path, a path that does not exist, or nothing in it.
    """
    if not paths:
        raise InputError("name at least one image file, folder or dataset")
    records: list[Record] = []
    for path in paths:
        known = recognise(path) if path.exists() else None
        if known in (None, "volumes"):
            records += open_files(path, plane=plane, slices=slices)
            continue
        if find_reader(path).cases is not None:
            records += case_records(open_cases(path), plane=plane, slices=slices)
            continue
        try:
            records += open_dataset(path, known)
        except InputError:
            if known != "folder":
                raise
            records += open_files(path, plane=plane, slices=slices)  # sub-folders that are no classes
    return records
