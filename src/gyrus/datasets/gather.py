"""The slices in whatever a user names: files, volumes, folders, datasets."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from gyrus.datasets.cases import Slices, case_records
from gyrus.datasets.files import open_files
from gyrus.datasets.registry import find_reader, open_cases, open_dataset, recognise
from gyrus.errors import InputError
from gyrus.io import SliceRef
from gyrus.paths import PathLikes, all_paths
from gyrus.records import Record


def records_in(paths: PathLikes, plane: str | None = None, slices: Slices = "all") -> list[Record]:
    """Return the slices in files, folders and datasets; a folder no reader recognises is searched for images.

    They come in the order of the paths, each once however often it is met, and every id is unique: what is no dataset
    is opened at once, as :func:`gyrus.datasets.open_files` does, and where ids occur in several datasets the path that
    was named stands before each dataset's.

    Args:
        paths: what to look into, one or several.
        plane: of the slices of volumes; by default as acquired.
        slices: which ones of each such volume: "all", "middle", or indices from 0.

    Raises:
        InputError: no path, a path that does not exist, nothing in it, or no such plane.
    """
    paths = all_paths(paths)
    if not paths:
        raise InputError("name at least one image file, folder or dataset")
    if plane is not None:
        SliceRef(plane, 0)  # a plane that is none is refused though there be no volume
    opened = [_dataset(path, plane, slices) for path in paths]
    parts = [list(records or ()) for records in opened]
    plain = {i: path for i, path in enumerate(paths) if opened[i] is None}
    if plain:
        first = {_whole(path): i for i, path in reversed(plain.items())}
        for record in open_files(list(plain.values()), plane=plane, slices=slices):
            above = (record.path, *record.path.parents)
            parts[min(first[path] for path in above if path in first)].append(record)
    met: set[tuple[Path, SliceRef | None]] = set()
    found: list[tuple[int, Record]] = []
    for i, part in enumerate(parts):
        new = {(_whole(r.path), r.at) for r in part} - met
        found += [(i, r) for r in part if (_whole(r.path), r.at) in new]
        met |= new
    ids = Counter(record.id for _, record in found)
    return [replace(r, id=f"{paths[i].as_posix()}/{r.id}") if ids[r.id] > 1 and i not in plain else r for i, r in found]


def _dataset(path: Path, plane: str | None, slices: Slices) -> tuple[Record, ...] | None:
    """Return the slices of a dataset; None for files, and for folders of them."""
    known = recognise(path) if path.exists() else None
    if known in (None, "volumes"):
        return None
    if find_reader(path).cases is not None:
        return case_records(open_cases(path), plane=plane, slices=slices).records
    try:
        return open_dataset(path, known).records
    except InputError:
        if known != "folder":
            raise
        return None  # sub-folders that are no classes


def _whole(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
