"""What a classifier said about each slice: a value with a file form, free of torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, write_json
from gyrus.errors import InputError
from gyrus.records import Record

SCHEMA = "gyrus.predictions/1"


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
        status: N times "ok", or the sentence that says why the file could not be read.
        statement: the split the slices come from, in one sentence; empty where they come from none.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    files: tuple[str, ...]
    patients: tuple[str | None, ...]
    labels: tuple[str | None, ...]
    logits: NDArray[np.float32]
    status: tuple[str, ...]
    statement: str = ""

    @classmethod
    def of_records(
        cls,
        classes: tuple[str, ...],
        records: Sequence[Record],
        logits: NDArray[np.float32],
        status: Sequence[str],
        statement: str = "",
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
            statement=statement,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, C) softmax of the logits, in float64; NaN in rows that are not finite throughout."""
        finite = np.isfinite(self.logits).all(axis=1, keepdims=True)
        logits = np.where(finite, self.logits.astype(np.float64), np.nan)
        shifted = logits - logits.max(axis=1, keepdims=True)
        powers = np.exp(shifted)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    @property
    def predicted(self) -> tuple[str | None, ...]:
        """N class names of highest probability; None for unreadable files."""
        return tuple(self.predicted_at(i) for i in range(len(self)))

    def rows(self) -> list[dict[str, Any]]:
        """Return one JSON-able dict per slice: {file, id, patient, label, predicted, probabilities, logits, status}."""
        return [
            {
                "file": self.files[i],
                "id": self.ids[i],
                "patient": self.patients[i],
                "label": self.labels[i],
                "predicted": self.predicted_at(i),
                "probabilities": self._by_class(self.probabilities[i]),
                "logits": self._by_class(self.logits[i]),
                "status": self.status[i],
            }
            for i in range(len(self))
        ]

    def predicted_at(self, i: int) -> str | None:
        """Return the predicted class name of slice i, or None where it could not be read."""
        return self.classes[int(self.logits[i].argmax())] if np.isfinite(self.logits[i]).all() else None

    def _by_class(self, values: NDArray[Any]) -> dict[str, float] | None:
        return {c: float(v) for c, v in zip(self.classes, values, strict=True)} if np.isfinite(values).all() else None

    def to_dict(self) -> dict[str, Any]:
        """Return the whole value as the JSON document of ``gyrus predict --json``."""
        return {"schema": SCHEMA, "classes": self.classes, "statement": self.statement, "rows": self.rows()}

    def save(self, path: Path) -> None:
        """Write a table: JSON, or CSV with one probability column per class (``p_glioma``) if ``path`` ends in .csv."""
        if path.suffix.lower() != ".csv":
            write_json(path, self.to_dict())
            return
        aside = path.with_name(f".{path.name}.partial")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            names = ["file", "id", "patient", "label", "predicted"]
            writer.writerow([*names, *(f"p_{c}" for c in self.classes), "status"])
            for row in self.rows():
                shares = row["probabilities"] or dict.fromkeys(self.classes, "")
                writer.writerow([*(row[n] for n in names), *(shares[c] for c in self.classes), row["status"]])
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read the JSON that :meth:`save` wrote.

        Raises:
            InputError: it is missing, or is no table of predictions.
        """
        value = read_json(path, "a table of predictions")
        try:
            if value["schema"] != SCHEMA:
                raise ValueError(f"its schema is {value['schema']!r}, not {SCHEMA!r}")
            rows, classes = value["rows"], tuple(value["classes"])
            logits = [[r["logits"][c] for c in classes] if r["logits"] else [np.nan] * len(classes) for r in rows]
            names = ("id", "file", "patient", "label", "status")
            ids, files, patients, labels, status = (tuple(r[n] for r in rows) for n in names)
            array = np.array(logits, dtype=np.float32).reshape(len(rows), len(classes))
            return cls(classes, ids, files, patients, labels, array, status, value["statement"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is no table of predictions ({error!r}): run `gyrus predict` again") from None


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return the rows of all parts, which are by models of the same classes, as one table.

    Raises:
        InputError: the models know other classes.
    """
    first = parts[0]
    if any(p.classes != first.classes for p in parts):
        raise InputError("the models do not know the same classes, so their predictions cannot be put together")
    return Predictions(
        classes=first.classes,
        ids=tuple(i for p in parts for i in p.ids),
        files=tuple(f for p in parts for f in p.files),
        patients=tuple(i for p in parts for i in p.patients),
        labels=tuple(c for p in parts for c in p.labels),
        logits=np.concatenate([p.logits for p in parts]),
        status=tuple(s for p in parts for s in p.status),
        statement=first.statement,
    )
