"""Finding again the data that a run was made from. No torch here: reports are made from files alone."""

from __future__ import annotations

from pathlib import Path

from gyrus.artifacts import read_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.records import Dataset
from gyrus.splits import Split


def open_run_data(run: Path, data: Path | None = None) -> tuple[Dataset, Split]:
    """Return the dataset and the split that a run was made from, checked against each other.

    Args:
        run: a finished training run.
        data: where the dataset is now, if it has moved.

    Raises:
        InputError: the run is unfinished, or the data is gone or has changed.
    """
    manifest = read_manifest(run)
    root = data or Path(manifest["data"]["root"])
    if not root.exists():
        raise InputError(f"{root}, which the run was trained on, is not there any more: name its new place with --data")
    split = Split.load(run / "split.json")
    dataset = open_dataset(root)
    split.check(dataset)
    return dataset, split
