"""Scoring a finished run from its files: predictions and maps in, one JSON of scores out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import plain, read_manifest, stage_folder, write_json
from gyrus.evaluate.certainty import score_certainty
from gyrus.evaluate.classification import label_indices, score_classification
from gyrus.evaluate.floors import majority_class, pixel_nearest_neighbour, score_floor
from gyrus.evaluate.localization import Localization, localize
from gyrus.evaluate.ranking import PERCENTILES
from gyrus.intervals import Bootstrap
from gyrus.loading import Progress, load_slices
from gyrus.maps import Maps
from gyrus.paths import PathLike, maybe_path
from gyrus.predictions import Predictions
from gyrus.preprocess import Preprocess
from gyrus.probes import corner_floor
from gyrus.records import Record
from gyrus.rundata import Fold, open_folds

SCHEMA = "gyrus.scores/1"
SCORES, PER_SLICE = "scores.json", "localization.csv"


def evaluate_run(
    run: PathLike,
    *,
    data: PathLike | None = None,
    out: PathLike | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the predictions and maps of a run and write ``scores.json`` and ``localization.csv``.

    Args:
        run: a finished training run whose ``predict`` and, where the data has outlines, ``explain`` are done; or the
            folder of the runs of one cross-validation, whose predictions are scored together (their maps are what
            ``gyrus explain --leaderboard`` is for).
        data: the dataset, where it has moved since training.
        out: the folder to write; ``RUN/evaluate`` by default.
        seed: of the bootstrap.
        progress: called as work goes on.

    Returns:
        The content of ``scores.json``: plain values, each interval an object of value, low, high, n and groups.

    Raises:
        InputError: an unfinished or missing stage, data other than the run's, an existing ``out``.
    """
    run, data, out = Path(run), maybe_path(data), maybe_path(out)
    folds = open_folds(run, data)
    manifest = read_manifest(folds[0].run)
    predicted = read_manifest(run / "predict")
    part = predicted["arguments"]["part"]
    dataset, split = folds[0].dataset, folds[0].split
    predictions = Predictions.load(run / "predict" / "predictions.json")
    spec = Preprocess.model_validate(predicted["preprocess"])
    with stage_folder(
        out or run / "evaluate", "evaluate", arguments={"seed": seed}, facts={"split": predictions.statement}
    ) as folder:
        localization = _localize(folds[0], progress) if len(folds) == 1 else None
        scores: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "statement": predictions.statement,
                "record_wise": split.leaks,
                "synthetic": "synthetic" in dataset.info.title.lower(),
                "part": part,
                "seed": seed,
                "data": dataset.summary(),
                "model": manifest["arguments"] | {"model_classes": predictions.classes},
                "classification": score_classification(predictions, persons=folds[0].persons, seed=seed),
                "certainty": score_certainty(predictions, persons=folds[0].persons, seed=seed),
                "floors": _floors(predictions, folds, part, spec, seed, progress),
                "localization": None if localization is None else _summary(localization, seed),
            }
        )
        write_json(folder / SCORES, scores)
        if localization is not None:
            _write_per_slice(folder / PER_SLICE, localization)
    return scores


def _localize(fold: Fold, progress: Progress | None) -> Localization | None:
    if not fold.dataset.has_masks:
        return None
    read_manifest(fold.run / "explain")
    maps = Maps.load(fold.run / "explain")
    records = list(fold.dataset.select(maps.ids))
    if all(r.mask is None for r in records):
        return None
    explained = set(maps.ids)  # a slice's own mask must not be part of the prior it is compared with
    training = [r for r in fold.dataset.select(fold.split.train) if r.id not in explained]
    return localize(maps, records, training, persons=fold.persons, progress=progress)


def _floors(
    predictions: Predictions,
    folds: Sequence[Fold],
    part: str,
    spec: Preprocess,
    seed: int,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Return the rows that stand below the model's accuracy, on the slices it could read."""
    classes = predictions.classes
    read = {predictions.ids[i] for i in predictions.readable}
    kept: list[Record] = []
    guesses: dict[str, list[NDArray[np.int64]]] = {}
    for fold in folds:
        training = list(fold.dataset.select(fold.split.train))
        tested = [r for r in fold.dataset.select(fold.split.part(part)) if r.id in read]
        known = label_indices([r.label for r in training], classes)
        fitted = load_slices(training, spec, what="reading train", progress=progress)
        judged = load_slices(tested, spec, what="reading test", progress=progress)
        kept += tested
        found = {
            "majority class": majority_class(known, len(tested)),
            "four corners alone": corner_floor(fitted, known, judged, seed),
            "pixel 1-nearest-neighbour": pixel_nearest_neighbour(fitted, known, judged),
        }
        for name, guess in found.items():
            guesses.setdefault(name, []).append(guess)
    truth = label_indices([r.label for r in kept], classes)
    bootstrap = Bootstrap([folds[0].persons[r.id] for r in kept], seed)
    return [score_floor(name, truth, np.concatenate(g), classes, bootstrap) for name, g in guesses.items()]


def _summary(localization: Localization, seed: int) -> dict[str, Any]:
    known = {p for r, p in zip(localization.records, localization.persons, strict=True) if r.patient is not None}
    areas = localization.areas[localization.areas > 0]
    return {
        "slices": len(localization.records),
        "patients": len(known) or None,
        "median_tumour_share": float(np.median(areas)) if len(areas) else 0.0,
        "percentiles": PERCENTILES,
        "contest": localization.contest(seed=seed),
        "rows": localization.table(seed=seed),
    }


def _write_per_slice(path: Path, localization: Localization) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = iter(localization.per_slice())
        first = next(rows)
        writer = csv.DictWriter(file, fieldnames=list(first))
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(rows)
