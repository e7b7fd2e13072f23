"""Which models compete on which slices: each slice is explained by a model that never saw its patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gyrus.errors import InputError
from gyrus.records import Dataset, Record
from gyrus.rundata import Fold, joint_statement, open_folds
from gyrus.splits import Split
from gyrus.words import HEALTHY


@dataclass(frozen=True, eq=False)
class Source:
    """A trained model, the slices it explains, and those that its thresholds are learned on.

    Attributes:
        name: of the run's folder.
        run: the folder.
        dataset: what the run was trained on.
        split: the run's own.
        tested: slices of the test part that have an outline.
        persons: record id -> whose it is; see :class:`gyrus.rundata.Fold`.
        training: those of the training part: the class prior of the slices tested.
        learning: a seeded draw from half of the training part's patients.
        others: the slices of the other half: the class prior while thresholds are learned.
    """

    name: str
    run: Path
    dataset: Dataset
    split: Split
    persons: Mapping[str, str]
    tested: tuple[Record, ...]
    training: tuple[Record, ...]
    learning: tuple[Record, ...]
    others: tuple[Record, ...]


def find_sources(model: Path, data: Path | None, *, learn: int, seed: int) -> list[Source]:
    """Return the one run, or the runs of a cross-validation, in a folder.

    Args:
        model: a run that ``gyrus train`` finished, or the folder of those of one cross-validation.
        data: the dataset, where it has moved since training.
        learn: training slices per run to learn thresholds on, at most.
        seed: of their draw.

    Raises:
        InputError: no finished run, runs of different data or with a test slice in common, or no outlines.
    """
    sources = [_source(fold, learn, seed) for fold in open_folds(model, data)]
    statement(sources)
    return sources


def statement(sources: Sequence[Source]) -> str:
    """Return in one sentence what the slices were split how.

    Raises:
        InputError: several runs, which are no folds of one cross-validation.
    """
    return joint_statement([s.split for s in sources])


def draw_sample(sources: Sequence[Source], size: int, seed: int) -> frozenset[str]:
    """Return the ids of a seeded draw from all test slices with a tumour, at most ``size``."""
    ids = sorted(r.id for s in sources for r in s.tested)
    order = np.random.default_rng([seed, 1]).permutation(len(ids))
    return frozenset(ids[int(i)] for i in order[:size])


def _source(fold: Fold, learn: int, seed: int) -> Source:
    dataset, split, run = fold.dataset, fold.split, fold.run
    tested, training = ([r for r in dataset.select(ids) if _outlined(r)] for ids in (split.test, split.train))
    for part, records in (("test", tested), ("training", training)):
        if not records:
            raise InputError(f"{dataset.root} has no outline in the {part} part of {run}, so no map can be scored")
    rng = np.random.default_rng([seed, 0])
    people = sorted({fold.persons[r.id] for r in training})
    half = {people[int(i)] for i in rng.permutation(len(people))[: max(1, len(people) // 2)]}
    theirs = [r for r in training if fold.persons[r.id] in half]
    learning = tuple(theirs[int(i)] for i in rng.permutation(len(theirs))[:learn])
    others = tuple(r for r in training if fold.persons[r.id] not in half)
    return Source(run.name, run, dataset, split, fold.persons, tuple(tested), tuple(training), learning, others)


def _outlined(record: Record) -> bool:
    """Tell whether a slice has a tumour outlined, as far as can be told without reading it."""
    return record.mask is not None and record.label != HEALTHY
