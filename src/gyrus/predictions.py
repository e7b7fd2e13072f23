"""What a classifier said about each slice: a value with a file form, free of torch."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, write_json
from gyrus.certainty.temperature import softmax
from gyrus.errors import InputError
from gyrus.paths import PathLike
from gyrus.records import PLANES, Record

SCHEMA, BEFORE = "gyrus.predictions/2", "gyrus.predictions/1"
OK, FLAGGED, REFUSED, UNREADABLE = "ok", "flagged", "refused", "unreadable"
"""The statuses: answered; answered, with a reason for doubt; not answered; not read."""
_SLICE = re.compile(rf"(?P<volume>.+)(?P<at>#({'|'.join(PLANES)})-[0-9]+)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Certainty:
    """What a calibrated model adds to N logits.

    Attributes:
        coverage: how often a set is to hold the true class.
        temperature: (N,) by which the logits are divided; alike but for the folds of a cross-validation.
        novelty: (N,) how unlike the training slices a slice is, higher is stranger; NaN where unreadable.
        sets: N sets of classes in the order of the logits; None where unreadable or refused.
    """

    coverage: float
    temperature: NDArray[np.float64]
    novelty: NDArray[np.float64]
    sets: tuple[tuple[str, ...] | None, ...]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of N slices beside what is known about them.

    Attributes:
        classes: C class names, in the order of the logits.
        ids: N record ids.
        files: N paths as the user gave them.
        patients: N patient ids or None.
        labels: N true class names or None.
        logits: (N, C) float32; NaN in the rows of unreadable files.
        status: N times "ok", "flagged", "refused" or "unreadable"; without calibration nothing is flagged, and only a
            slice of which the network gives no finite logits is refused.
        reasons: N sentences that say why, empty where the status is "ok".
        statement: the split the slices come from, in one sentence; empty where they come from none.
        certainty: of a calibrated model, or None.
        outlines: of each slice the measures of the largest connected part of the predicted class's map, cut as
            calibrated (:meth:`gyrus.regions.Region.summary`); None where no tumour is answered or nothing lies above
            the cut.
            None altogether of a model without a cut.
        warning: what to know of the model before its answers are believed; empty where there is nothing.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    files: tuple[str, ...]
    patients: tuple[str | None, ...]
    labels: tuple[str | None, ...]
    logits: NDArray[np.float32]
    status: tuple[str, ...]
    reasons: tuple[str, ...]
    statement: str = ""
    certainty: Certainty | None = None
    outlines: tuple[dict[str, Any] | None, ...] | None = None
    warning: str = ""

    @classmethod
    def of_records(
        cls,
        classes: tuple[str, ...],
        records: Sequence[Record],
        logits: NDArray[np.float32],
        status: Sequence[str],
        reasons: Sequence[str],
        *,
        statement: str = "",
        certainty: Certainty | None = None,
        outlines: Sequence[dict[str, Any] | None] | None = None,
    ) -> Predictions:
        """Return the table of what was said about some records; arguments as the attributes."""
        return cls(
            classes=classes,
            ids=tuple(r.id for r in records),
            files=tuple(str(r.path) for r in records),
            patients=tuple(r.patient for r in records),
            labels=tuple(r.label for r in records),
            logits=logits,
            status=tuple(status),
            reasons=tuple(reasons),
            statement=statement,
            certainty=certainty,
            outlines=None if outlines is None else tuple(outlines),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, C) softmax of the logits, calibrated where the model is; NaN in rows that are not finite throughout.

        Those of refused slices are here too, to be scored; :meth:`rows` withholds them.
        """
        return softmax(self.logits, 1.0 if self.certainty is None else self.certainty.temperature[:, None])

    @property
    def predicted(self) -> tuple[str | None, ...]:
        """N class names of highest probability; None for unreadable files and refused slices."""
        return tuple(self.predicted_at(i) for i in range(len(self)))

    @property
    def readable(self) -> list[int]:
        """Indices of the slices that could be read."""
        return [i for i, s in enumerate(self.status) if s != UNREADABLE]

    @property
    def answered(self) -> list[int]:
        """Indices of the slices that could be read and were not refused."""
        return [i for i, s in enumerate(self.status) if s in (OK, FLAGGED)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one JSON-able dict per slice, see :meth:`row`."""
        return [self.row(i) for i in range(len(self))]

    def row(self, i: int) -> dict[str, Any]:
        """Return {file, id, patient, label, predicted, probabilities, set, status, reason, logits, ...} of slice i.

        A refused slice has logits, but no class, probabilities or set.
        """
        withheld, certainty = self.status[i] == REFUSED, self.certainty
        members = None if certainty is None else certainty.sets[i]
        strange = None if certainty is None else float(certainty.novelty[i])
        return {
            "file": self.files[i],
            "id": self.ids[i],
            "patient": self.patients[i],
            "label": self.labels[i],
            "predicted": self.predicted_at(i),
            "probabilities": None if withheld else self._by_class(self.probabilities[i]),
            "set": None if members is None else list(members),
            "status": self.status[i],
            "reason": self.reasons[i],
            "logits": self._by_class(self.logits[i]),
            "temperature": None if certainty is None else float(certainty.temperature[i]),
            "novelty": strange if strange is not None and np.isfinite(strange) else None,
            "outline": None if self.outlines is None else self.outlines[i],
        }

    def predicted_at(self, i: int) -> str | None:
        """Return the predicted class name of slice i, or None where it could not be read or was refused."""
        known = self.status[i] != REFUSED and np.isfinite(self.logits[i]).all()
        return self.classes[int(self.logits[i].argmax())] if known else None

    def _by_class(self, values: NDArray[Any]) -> dict[str, float] | None:
        return {c: float(v) for c, v in zip(self.classes, values, strict=True)} if np.isfinite(values).all() else None

    def to_dict(self) -> dict[str, Any]:
        """Return the whole value as the JSON document of ``gyrus predict --json``."""
        return {
            "schema": SCHEMA,
            "classes": self.classes,
            "statement": self.statement,
            "warning": self.warning,
            "calibrated": self.certainty is not None,
            "coverage": None if self.certainty is None else self.certainty.coverage,
            "outlined": self.outlines is not None,
            "rows": self.rows(),
        }

    def save(self, path: PathLike) -> None:
        """Write a table: JSON, or CSV with one probability column per class (``p_glioma``) if ``path`` ends in .csv."""
        path = Path(path)
        if path.suffix.lower() != ".csv":
            write_json(path, self.to_dict())
            return
        aside = path.with_name(f".{path.name}.partial")
        try:
            # On Linux a file name need not be UTF-8: its bytes are written as they are
            with aside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                self._write_csv(file)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def _write_csv(self, file: TextIO) -> None:
        writer = csv.writer(file)
        lead, end = ["file", "id", "patient", "label", "predicted"], ["status", "reason"]
        extra = [] if self.certainty is None else ["set", "novelty"]
        extra += [] if self.outlines is None else ["diameter", "unit"]
        writer.writerow([*lead, *(f"p_{c}" for c in self.classes), *extra, *end])
        for row in self.rows():
            shares = row["probabilities"] or dict.fromkeys(self.classes, "")
            outline = row["outline"] or dict.fromkeys(("diameter", "unit"), "")
            cells = row | {"set": "|".join(row["set"] or ())} | {n: outline[n] for n in ("diameter", "unit")}
            writer.writerow([*(row[n] for n in lead), *shares.values(), *(cells[n] for n in (*extra, *end))])

    @classmethod
    def load(cls, path: PathLike) -> Predictions:
        """Read the JSON that :meth:`save` wrote.

        Raises:
            InputError: it is missing, or is no table of predictions.
        """
        value = read_json(Path(path), "a table of predictions")
        try:
            rows, classes = _as_now(value), tuple(value["classes"])
            nothing = dict.fromkeys(classes, np.nan)
            logits = [[(r["logits"] or nothing)[c] for c in classes] for r in rows]
            names = ("id", "file", "patient", "label", "status", "reason")
            ids, files, patients, labels, status, reasons = (tuple(r[n] for r in rows) for n in names)
            return cls(
                classes=classes,
                ids=ids,
                files=files,
                patients=patients,
                labels=labels,
                logits=np.array(logits, dtype=np.float32).reshape(len(rows), len(classes)),
                status=status,
                reasons=reasons,
                statement=value["statement"],
                certainty=_certainty(rows, value["coverage"]) if value.get("calibrated") else None,
                outlines=tuple(r["outline"] for r in rows) if value.get("outlined") else None,
                warning=value.get("warning", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no table of predictions ({error!r}): run `gyrus predict` again") from None


def called(file: str, id: str) -> str:
    """Return what to print of a slice: its file, and where that is a volume, plane and index: ``T1.nii.gz#axial-12``.

    Args:
        file: the path as the user gave it.
        id: of the record.
    """
    found = _SLICE.fullmatch(id)
    return f"{file}{found['at']}" if found and found["volume"].endswith(Path(file).name) else file


def _as_now(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, those of the schema before this one brought up to it."""
    if value["schema"] == BEFORE:
        return [
            row | ({"reason": ""} if row["status"] == OK else {"status": UNREADABLE, "reason": row["status"]})
            for row in value["rows"]
        ]
    if value["schema"] != SCHEMA:
        raise ValueError(f"its schema is {value['schema']!r}, not {SCHEMA!r}")
    rows: list[dict[str, Any]] = value["rows"]
    return rows


def _certainty(rows: Sequence[dict[str, Any]], coverage: float) -> Certainty:
    strange = [np.nan if r["novelty"] is None else float(r["novelty"]) for r in rows]
    return Certainty(
        coverage=float(coverage),
        temperature=np.array([float(r["temperature"]) for r in rows]),
        novelty=np.array(strange),
        sets=tuple(None if r["set"] is None else tuple(r["set"]) for r in rows),
    )


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return the rows of all parts, which are by models of the same classes, as one table.

    Raises:
        InputError: the models know other classes, or are calibrated otherwise.
    """
    first, found = parts[0], [p.certainty for p in parts]
    if any(p.classes != first.classes for p in parts):
        raise InputError("the models do not know the same classes, so their predictions cannot be put together")
    known = [c for c in found if c is not None]
    if known and (len(known) < len(found) or len({c.coverage for c in known}) > 1):
        raise InputError("the models are not all calibrated to the same coverage: calibrate the runs together")
    marked = [p.outlines for p in parts if p.outlines is not None]
    return Predictions(
        classes=first.classes,
        ids=tuple(i for p in parts for i in p.ids),
        files=tuple(f for p in parts for f in p.files),
        patients=tuple(i for p in parts for i in p.patients),
        labels=tuple(c for p in parts for c in p.labels),
        logits=np.concatenate([p.logits for p in parts]),
        status=tuple(s for p in parts for s in p.status),
        reasons=tuple(r for p in parts for r in p.reasons),
        statement=first.statement,
        certainty=_joined(known) if known else None,
        outlines=tuple(o for m in marked for o in m) if len(marked) == len(parts) else None,
        warning=first.warning,
    )


def _joined(parts: Sequence[Certainty]) -> Certainty:
    return Certainty(
        coverage=parts[0].coverage,
        temperature=np.concatenate([p.temperature for p in parts]),
        novelty=np.concatenate([p.novelty for p in parts]),
        sets=tuple(s for p in parts for s in p.sets),
    )
