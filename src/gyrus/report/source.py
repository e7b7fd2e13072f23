"""Everything a report is made from, read from a run's folder once."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gyrus.artifacts import is_finished, read_json, read_manifest
from gyrus.errors import InputError
from gyrus.maps import Maps
from gyrus.predictions import Predictions
from gyrus.records import Dataset
from gyrus.rundata import open_run_data

STAGES = ("predict", "explain", "evaluate")
_NUMBERS = ("tumour_share", "pointing", "iou_p95", "auprc")


class RowId(NamedTuple):
    """Which row of the localization table a figure belongs to."""

    kind: str
    name: str
    layer: str
    target: str


@dataclass(frozen=True, slots=True)
class SliceScore:
    """One slice under one map, as ``localization.csv`` has it; NaN where undefined."""

    id: str
    patient: str
    tumour_share: float
    pointing: float
    iou_p95: float
    auprc: float


@dataclass(frozen=True, eq=False)
class Source:
    """A finished run, read.

    Attributes:
        manifests: stage ("train", "predict", ...) -> its ``run.json``, in the order the stages ran.
        scores: ``evaluate/scores.json``.
        epochs: one dict per row of ``epochs.csv``.
        model: ``model/model.json``.
        predictions: of the part that was scored.
        maps: what ``explain`` left, or None.
        per_slice: row of the localization table -> its slices' scores; empty where nothing was localized.
        dataset: what the run was made from.
    """

    manifests: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Any]
    epochs: tuple[Mapping[str, float], ...]
    model: Mapping[str, Any]
    predictions: Predictions
    maps: Maps | None
    per_slice: Mapping[RowId, list[SliceScore]]
    dataset: Dataset

    @cached_property
    def chosen_epoch(self) -> int | None:
        """The epoch whose weights were kept, where the model says so."""
        epoch = self.model.get("training", {}).get("epoch")
        return None if epoch is None else int(epoch)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the localization table; empty where nothing was localized."""
        localization = self.scores["localization"]
        return localization["rows"] if localization else []


def read_source(run: Path, data: Path | None) -> Source:
    """Read a run whose ``predict`` and ``evaluate`` are done; ``explain`` may be missing.

    Raises:
        InputError: a stage is missing, a file is damaged, or the data has moved or changed.
    """
    manifests = {"train": read_manifest(run)}
    wanted = [s for s in STAGES if s != "explain" or is_finished(run / s)]
    manifests |= {stage: read_manifest(run / stage) for stage in wanted}
    dataset, _ = open_run_data(run, data)
    scores = read_json(run / "evaluate" / "scores.json", "the scores that `gyrus evaluate` writes")
    if not isinstance(scores, dict) or scores.get("schema") != "gyrus.scores/1":
        path = run / "evaluate" / "scores.json"
        raise InputError(f"{path} is not of schema gyrus.scores/1: run `gyrus evaluate` again")
    if "certainty" not in scores:
        path = run / "evaluate" / "scores.json"
        raise InputError(f"{path} was written before certainty was scored: run `gyrus evaluate` again")
    return Source(
        manifests=manifests,
        scores=scores,
        epochs=_read_epochs(run / "epochs.csv"),
        model=read_json(run / "model" / "model.json", "a model's description"),
        predictions=Predictions.load(run / "predict" / "predictions.json"),
        maps=Maps.load(run / "explain") if "explain" in manifests else None,
        per_slice=_read_per_slice(run / "evaluate" / "localization.csv") if scores["localization"] else {},
        dataset=dataset,
    )


def row_id(row: Mapping[str, Any]) -> RowId:
    """Return what identifies a row of the table or of ``localization.csv``."""
    return RowId(*(str(row[f]) for f in RowId._fields))


def _read_epochs(path: Path) -> tuple[dict[str, float], ...]:
    rows = _read_csv(path)
    try:
        return tuple({k: float(v) for k, v in row.items()} for row in rows)
    except (TypeError, ValueError):
        raise InputError(f"{path} holds something that is no number: train the run again") from None


def _read_per_slice(path: Path) -> dict[RowId, list[SliceScore]]:
    found: dict[RowId, list[SliceScore]] = {}
    try:
        for row in _read_csv(path):
            numbers = {n: float(row[n]) for n in _NUMBERS}
            found.setdefault(row_id(row), []).append(SliceScore(row["id"], row["patient"] or row["id"], **numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table of localization scores ({error!r}): run `gyrus evaluate` again") from None
    return found


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): run the step that writes it again") from None
