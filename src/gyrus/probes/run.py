"""Run the probes on a dataset, before and after preprocessing, and on one train and test part as a floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.intervals import Bootstrap
from gyrus.loading import Progress
from gyrus.preprocess import Preprocess
from gyrus.probes.crossval import FOLDS, folds_of, forest_scores, scores_of
from gyrus.probes.features import PROBES, Names, Probe, Told, corners
from gyrus.probes.result import ProbeResult, judge
from gyrus.probes.views import Views, canvas_of, view_records
from gyrus.records import Record


def run_probes(
    records: Sequence[Record],
    groups: Sequence[str],
    *,
    planes: Names | None = None,
    sequences: Names | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[ProbeResult]:
    """Run every probe that applies, each under the same grouped cross-validation.

    Args:
        records: what to look at; those without a label, or of a class with a single group, are left out.
        groups: one name per record, the patient or the cluster of copies; no group is both fitted and tested on.
        planes: one per record, None where unknown; ``Record.plane`` if not given.
        sequences: likewise; if not given, none is known.
        preprocess: look at the pictures as a network would be given them; probes of the file, its size, the plane,
            the sequence and the dataset, which preprocessing cannot change, are then left out. None looks at the files'
            own pictures.
        seed: of the folds, the trees and the bootstrap.
        progress: called as records are read and probes are run.

    Returns:
        list[ProbeResult]: in the order of ``PROBES``; a probe with only one value to know is left out.

    Raises:
        InputError: a file cannot be read, or fewer than two classes have two groups.
    """
    (views,) = view_records(records, (preprocess,), progress)
    return probe_views(views, groups, planes=planes, sequences=sequences, seed=seed, progress=progress)


def compare_probes(
    records: Sequence[Record],
    groups: Sequence[str],
    preprocess: Preprocess,
    *,
    planes: Names | None = None,
    sequences: Names | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[ProbeResult], list[ProbeResult]]:
    """Return what :func:`run_probes` gives without and with preprocessing, every file being read once.

    Raises:
        InputError: as :func:`run_probes`.
    """
    before, after = (
        probe_views(views, groups, planes=planes, sequences=sequences, seed=seed, progress=progress)
        for views in view_records(records, (None, preprocess), progress)
    )
    return before, after


def probe_views(
    views: Views,
    groups: Sequence[str],
    *,
    planes: Names | None = None,
    sequences: Names | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[ProbeResult]:
    """Run the probes on slices that have been read: :func:`run_probes` for parts and relabellings of the same files.

    Args:
        views: of N records.
        groups: N names.
        planes: N planes, or None for the records' own.
        sequences: N sequences, or None where they are not known.
        seed: as for :func:`run_probes`.
        progress: called as probes are run.

    Raises:
        InputError: fewer than two classes have two groups.
    """
    records = views.records
    told = Told(
        [r.plane for r in records] if planes is None else planes,
        [None] * len(records) if sequences is None else sequences,
    )
    if not len(records) == len(groups) == len(told.planes) == len(told.sequences):
        raise InputError(f"{len(records)} records need as many groups, planes and sequences: give one for each")
    whole = _task(records, groups, np.ones(len(records), dtype=np.bool_), seed)
    if whole is None:
        raise InputError("probes need two classes of at least two groups each: give them more labelled slices")
    chosen = [p for p in PROBES.values() if p.of_picture or not views.prepared]
    results = []
    for done, probe in enumerate(chosen, start=1):
        features = probe.features(views, told)
        known = np.isfinite(features).all(axis=1)
        task = whole if known.all() else _task(records, groups, known, seed)
        if task is not None and features.shape[1] > 1:  # a single column is a single plane, sequence or dataset
            results.append(_run(probe, features[task.rows], task))
        if progress:
            progress("probing", done, len(chosen))
    return results


def corner_floor(
    train: NDArray[np.uint8], labels: NDArray[np.int64], test: NDArray[np.uint8], seed: int = 0
) -> NDArray[np.int64]:
    """Return the class of each test slice as its four corners alone tell it: a floor beside the majority class.

    Args:
        train: (M, S, S) uint8 prepared slices.
        labels: (M,) their classes.
        test: (N, S, S) uint8.
        seed: of the trees.

    Returns:
        (N,) classes.
    """
    if not len(test):
        return np.empty(0, dtype=np.int64)
    fitted, tested = (corners(np.stack([canvas_of(s) for s in slices])) for slices in (train, test))
    scores = forest_scores(fitted, labels, tested, int(labels.max()) + 1, seed)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Task:
    """Slices whose class is to be told: ``rows`` are their indices among the views."""

    rows: list[int]
    labels: NDArray[np.int64]
    classes: list[str]
    groups: list[str]
    bootstrap: Bootstrap
    seed: int

    @property
    def folds(self) -> int:
        """As many as every class has groups, at most five."""
        pairs = set(zip(self.labels.tolist(), self.groups, strict=True))
        return min(FOLDS, *Counter(label for label, _ in pairs).values())


def _task(records: Sequence[Record], groups: Sequence[str], known: NDArray[np.bool_], seed: int) -> _Task | None:
    """Return the task on the labelled slices among ``known``, or None where fewer than two classes have two groups."""
    pairs = {(r.label, g) for r, g, k in zip(records, groups, known, strict=True) if k and r.label is not None}
    counts = Counter(label for label, _ in pairs)
    classes = sorted(str(label) for label, n in counts.items() if n > 1)
    if len(classes) < 2:
        return None
    rows = [i for i, r in enumerate(records) if known[i] and r.label in classes]
    labels = np.array([classes.index(str(records[i].label)) for i in rows], dtype=np.int64)
    of_rows = [groups[i] for i in rows]
    return _Task(rows, labels, classes, of_rows, Bootstrap(of_rows, seed), seed)


def _run(probe: Probe, features: NDArray[Any], task: _Task) -> ProbeResult:
    def scores(groups: Sequence[str] | None) -> NDArray[np.float64]:
        fold = folds_of(task.labels, groups, task.folds, task.seed)
        return scores_of(features, task.labels, fold, nearest=probe.nearest, seed=task.seed)

    torn = scores(None) if probe.nearest else None
    return judge(probe, task.classes, task.labels, scores(task.groups), torn, task.groups, task.bootstrap, task.rows)
