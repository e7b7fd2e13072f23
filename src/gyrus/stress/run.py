"""The stress test as a stage: each slice, by the model that never saw its person, in every form."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.artifacts import plain, stage_folder, write_json
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.explain.run import class_indices
from gyrus.holes import REACH
from gyrus.intervals import drawn_are
from gyrus.loading import Progress, read_ahead
from gyrus.models import Classifier, load_model
from gyrus.paths import PathLike, maybe_path
from gyrus.records import Record
from gyrus.rundata import Fold, joint_statement, open_folds
from gyrus.stress.judge import Judge, Row
from gyrus.stress.page import Gallery, write_stress_page
from gyrus.stress.summary import per_slice, summarise
from gyrus.stress.views import Views, view
from gyrus.words import HEALTHY

SCHEMA = "gyrus.stress/1"
STRESS, PER_SLICE, PAGE = "stress.json", "slices.csv", "stress.html"
_CHUNK = 4
"""Slices at a time, each in more than twenty forms: memory does not grow with their number."""


def stress_run(
    run: PathLike,
    *,
    data: PathLike | None = None,
    sample: int | None = None,
    out: PathLike | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask a run's model about its test part without the tumours, and degraded, into ``RUN/stress``.

    Args:
        run: a finished training run, or the folder of the runs of one cross-validation: each model is asked about its
            own test part, so that every slice is judged by one that never saw its person.
        data: the dataset, where it has moved since training.
        sample: at most so many slices, drawn from the test parts together; all by default.
        out: the folder to write; ``RUN/stress`` by default.
        seed: of the sample, of every change, and of the bootstrap.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Returns:
        The content of ``stress.json``: plain values, each interval an object of value, low, high, n and groups.

    Raises:
        InputError: no finished run, changed data, no slices in the test part, a label that the model does not know, an
            unreadable file, or an existing ``out``.
    """
    run, data, out = Path(run), maybe_path(data), maybe_path(out)
    if sample is not None and sample < 1:
        raise InputError(f"a sample of {sample} slices shows nothing: take 1 or more, or leave --sample out for all")
    folds = open_folds(run, data)
    statement = joint_statement([fold.split for fold in folds])
    tested = _tested(folds, sample, seed)
    if not any(tested):
        raise InputError(f"{run} has no slices in the test part of its split: split again with one, and train")
    models = [load_model(fold.run, device=pick_device(device)) for fold in folds]
    for fold, model, records in zip(folds, models, tested, strict=True):
        if not all(bool(p.isfinite().all()) for p in model.parameters()):
            raise InputError(f"{fold.run} holds weights that are not finite: train it again, more slowly")
        class_indices(records, model.classes)  # a label in vain is refused before anything is read
    arguments = {"sample": sample, "seed": seed}
    with stage_folder(out or run / "stress", "stress", arguments=arguments, facts={"split": statement}) as folder:
        gallery = Gallery()
        rows: list[Row] = []
        total = sum(len(records) for records in tested)
        for model, records in zip(models, tested, strict=True):
            for made in _judged(model, records, seed, gallery):
                rows += made
                if progress:
                    progress("stressing", len(rows), total)
        dataset = folds[0].dataset
        persons = [folds[0].persons[r.record.id] for r in rows]
        named = any(r.record.patient is not None for r in rows)
        value: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "statement": statement,
                "record_wise": folds[0].split.leaks,
                "synthetic": "synthetic" in dataset.info.title.lower(),
                "data": dataset.info.name,
                "slices": total,
                "interval_over": drawn_are(persons, named),
                "sample": sample,
                "seed": seed,
                "calibrated": all(m.spec.calibration is not None for m in models),
                "widened_by": 1 / REACH,
                "lacks": list(_lacks(models, rows)),
                **summarise(rows, persons, seed=seed),
            }
        )
        write_json(folder / STRESS, value)
        _write_per_slice(folder / PER_SLICE, rows)
        write_stress_page(folder / PAGE, value, gallery)
    return value


def _tested(folds: Sequence[Fold], sample: int | None, seed: int) -> list[list[Record]]:
    """Return the slices of each fold's test part that were drawn, in the dataset's order."""
    ids = sorted(i for fold in folds for i in fold.split.test)
    order = np.random.default_rng([seed, 1]).permutation(len(ids))
    drawn = {ids[int(i)] for i in order[:sample]}
    return [[r for r in fold.dataset.select(fold.split.test) if r.id in drawn] for fold in folds]


def _judged(model: Classifier, records: Sequence[Record], seed: int, gallery: Gallery) -> Iterable[list[Row]]:
    """Yield what the model says, a few slices at a time; the next ones are read and changed meanwhile."""
    spec, judge = model.spec.preprocess, Judge(model)
    shown = gallery.wanted([r for r in records if fillable(r)])

    def read(record: Record) -> Views:
        return view(record, spec, seed, fill=fillable(record), show=record.id in shown)

    for _, chunk in read_ahead(records, read, _CHUNK):
        views = [v for v in chunk if isinstance(v, Views)]  # what cannot be read has raised
        rows = judge.answers(views)
        for seen, row in zip(views, rows, strict=True):
            gallery.add(seen, row)
        yield rows


def fillable(record: Record) -> bool:
    """Whether a slice has a tumour, and an outline of it."""
    return record.mask is not None and record.label != HEALTHY


def _lacks(models: Sequence[Classifier], rows: Sequence[Row]) -> Iterable[str]:
    """Yield why some figures are not there, one sentence each."""
    dense = next((m for m in models if not m.has_class_map), None)
    if dense is not None:
        yield (
            f"No pointing game and no IoU: this {dense.spec.architecture} ends in dense layers, so it has no class map."
        )
    if all(r.record.mask is None for r in rows):
        yield "No in-painting, pointing game or IoU: no slice has a tumour outline."
    elif not any(fillable(r.record) for r in rows):
        yield "No in-painting: no slice with an outline is labelled as a tumour."


def _write_per_slice(path: Path, rows: Sequence[Row]) -> None:
    lines = list(per_slice(rows))
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
