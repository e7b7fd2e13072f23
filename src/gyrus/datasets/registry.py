"""The datasets gyrus knows by name, and how one is recognised."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gyrus.datasets.cases import Cases
from gyrus.errors import InputError
from gyrus.paths import PathLike, too_long
from gyrus.records import Dataset, DatasetInfo


@dataclass(frozen=True, slots=True)
class DatasetReader:
    """One way of opening a dataset.

    Attributes:
        info: what is published about the dataset; ``info.name`` is the registry's name for it.
        recognises: tells from a folder or file, by a listing or two, whether this reader is meant for it.
        open: opens it, reading no pixel; raises InputError where it is not as it should be.
        looks_for: what ``recognises`` looks for, as a phrase for the error that names all readers.
        cases: opens it as volumes; None where it holds slices only.
    """

    info: DatasetInfo
    recognises: Callable[[Path], bool]
    open: Callable[[Path], Dataset]
    looks_for: str
    cases: Callable[[Path], Cases] | None = None


_readers: dict[str, DatasetReader] = {}


def register(reader: DatasetReader) -> None:
    """Add a reader; it is asked after those that are there already, and before the plain folder of classes.

    Raises:
        InputError: the name is taken.
    """
    _load()
    _add(reader)


def list_datasets() -> tuple[str, ...]:
    """Return the names of all datasets, in the order in which recognition is tried."""
    return tuple(sorted(_load(), key=lambda name: name == "folder"))


def dataset_info(name: str) -> DatasetInfo:
    """Return what is published about a dataset.

    Raises:
        InputError: no dataset has this name.
    """
    return _reader(name).info


def open_dataset(path: PathLike, name: str | None = None) -> Dataset:
    """Open a folder or manifest as a dataset; files are listed, no pixel is read.

    Args:
        path: the dataset's folder, or a CSV manifest.
        name: one of :func:`list_datasets`, where it should not be recognised from what is there.

    Returns:
        Dataset: its records in a stable order, with notes on what the reader noticed.

    Raises:
        InputError: the path does not exist, is not recognised, or is not as that dataset should be.
    """
    root = Path(path)
    return find_reader(root, name).open(root)


def open_cases(path: PathLike, name: str | None = None) -> Cases:
    """Open a dataset of volumes as cases; files are listed, no voxel is read.

    Args:
        path: the dataset's folder, or one volume.
        name: as in :func:`open_dataset`.

    Raises:
        InputError: as :func:`open_dataset`; or the dataset holds slices, not volumes.
    """
    root = Path(path)
    reader = find_reader(root, name)
    if reader.cases is None:
        raise InputError(f"{root} ({reader.info.name}) holds slices, not volumes: open it as a dataset")
    return reader.cases(root)


def find_reader(root: Path, name: str | None = None) -> DatasetReader:
    """Return the reader that is named, or else the first that is meant for what stands at ``root``.

    Raises:
        InputError: the path does not exist, no dataset has this name, or none is recognised.
    """
    try:
        there = root.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(too_long(root)) from None
        raise InputError(f"{root} cannot be opened ({error.strerror}): check the path and its permissions") from None
    if not there:
        raise InputError(f"{root} does not exist: check the path")
    if name is not None:
        return _reader(name)
    found = recognise(root)
    if found is not None:
        return _readers[found]
    sought = "; ".join(f"{known}: {_readers[known].looks_for}" for known in list_datasets())
    if root.is_dir() and not any(root.iterdir()):
        raise InputError(
            f"{root} is an empty folder: put images into it, one sub-folder per class, or one of ({sought})"
        )
    raise InputError(
        f"{root} is not a dataset gyrus recognises: name a folder with one sub-folder of images per class, a CSV table "
        f"with a column `file`, or one of ({sought})"
    )


def recognise(path: Path) -> str | None:
    """Return the name of the first reader that is meant for what stands at ``path``, or None; nothing is opened."""
    return next((known for known in list_datasets() if _readers[known].recognises(path)), None)


def _reader(name: str) -> DatasetReader:
    try:
        return _load()[name]
    except KeyError:
        raise InputError(f"no dataset is called {name!r}: choose one of {', '.join(list_datasets())}") from None


def _add(reader: DatasetReader) -> None:
    if reader.info.name in _readers:
        raise InputError(f"a dataset called {reader.info.name!r} is registered already: choose another name")
    _readers[reader.info.name] = reader


def _load() -> dict[str, DatasetReader]:
    """Register the readers gyrus ships, once, on first use: the surest signature first."""
    if not _readers:
        from gyrus.datasets import (
            br35h,
            brats,
            cheng,
            folder,
            manifest,
            navoneel,
            nickparvar,
            progression,
            sartaj,
            volumes,
        )

        tables = (manifest.PHANTOM, cheng.READER, manifest.READER)
        pictures = (sartaj.READER, nickparvar.READER, br35h.READER, navoneel.READER)
        for reader in (*tables, *pictures, brats.READER, progression.READER, volumes.READER, folder.READER):
            _add(reader)
    return _readers
