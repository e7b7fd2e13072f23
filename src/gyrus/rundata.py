"""Finding again the data that a run was made from. No torch here: reports are made from files alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gyrus.artifacts import read_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.groups import with_patients_whole
from gyrus.paths import PathLike, maybe_path
from gyrus.records import Dataset
from gyrus.splits import Split


@dataclass(frozen=True, eq=False)
class Fold:
    """A finished training run, the dataset it was made from, and its split."""

    run: Path
    dataset: Dataset
    split: Split

    @cached_property
    def persons(self) -> Mapping[str, str]:
        """Record id -> whose it is, of the whole dataset: what an interval draws with replacement.

        That is the split's group, which has a person under all their ids, with the copies of their slices where the
        split knows these. A record-wise split has no groups, so there it is the patient.
        """
        return with_patients_whole(self.dataset.records, self.split.groups)


def open_folds(run: Path, data: Path | None = None) -> tuple[Fold, ...]:
    """Return the one run, or the runs of a cross-validation, in a folder.

    Args:
        run: a finished training run, or a folder of them.
        data: where the dataset is now, if it has moved.

    Raises:
        InputError: as :func:`runs_in` and :func:`open_run_data`.
    """
    return tuple(Fold(fold, *open_run_data(fold, data)) for fold in runs_in(run))


def open_run_data(run: PathLike, data: PathLike | None = None) -> tuple[Dataset, Split]:
    """Return the dataset and the split that a run was made from, checked against each other.

    Args:
        run: a finished training run.
        data: where the dataset is now, if it has moved.

    Raises:
        InputError: the run is unfinished or none, or the data is gone or has changed.
    """
    run = Path(run)
    manifest = read_manifest(run)
    stage = manifest.get("stage")
    if stage != "train":  # as RUN/calibrate, which holds a model as a run does
        raise InputError(f"{run} holds what {stage!r} made and no training run: name what `gyrus train` wrote")
    root = maybe_path(data) or Path(manifest["data"]["root"])
    if not root.exists():
        raise InputError(f"{root}, which the run was trained on, is not there any more: name its new place with --data")
    split = Split.load(run / "split.json")
    dataset = open_dataset(root)
    split.check(dataset)
    return dataset, split


def runs_in(folder: Path) -> tuple[Path, ...]:
    """Return the finished training run a folder is, or those it holds: the folds of a cross-validation.

    Args:
        folder: a run, or a folder of runs, sorted by name with numbers as numbers.

    Raises:
        InputError: no finished run there, or an unfinished one among them.
    """
    runs = [p for p in folder.iterdir() if (p / "split.json").is_file()] if folder.is_dir() else []
    if not runs or (folder / "split.json").is_file():
        read_manifest(folder)
        return (folder,)
    for run in runs:
        read_manifest(run)
    return tuple(sorted(runs, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)]))


def joint_statement(splits: Sequence[Split]) -> str:
    """Return in one sentence how the data was split, by one split or by the folds of a cross-validation.

    Raises:
        InputError: they are no folds of one cross-validation: other data, or a test slice in two of them.
    """
    first, tested = splits[0], [i for s in splits for i in s.test]
    if len(splits) == 1:
        return first.statement
    if any(s.fingerprint != first.fingerprint for s in splits) or len(tested) > len(set(tested)):
        raise InputError(f"these {len(splits)} splits of {first.dataset} are no folds of one cross-validation")
    how = "record-wise: patients are on both sides" if first.leaks else f"{first.grouping}-wise: none is on both sides"
    return f"{first.dataset}, {len(splits)} folds, seed {first.seed}, {how} ({len(tested)} test slices out of fold)."
