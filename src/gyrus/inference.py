"""From slices to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gyrus.appearance import Fault, find_faults, measure
from gyrus.certainty import Calibration
from gyrus.certainty.conformal import prediction_sets
from gyrus.certainty.novelty import THUMBNAIL, novelty, thumbnails, turned
from gyrus.certainty.temperature import softmax
from gyrus.features import embed_records
from gyrus.io import Image
from gyrus.loading import Progress, batches
from gyrus.models import Classifier
from gyrus.models.folding import in_parts
from gyrus.predictions import OK, REFUSED, UNREADABLE, Certainty, Predictions
from gyrus.records import Record
from gyrus.refusal import judge


@dataclass(eq=False)
class Observed:
    """What one pass over N slices gave; rows of unreadable ones are NaN, zeros, or empty.

    Attributes:
        logits: (N, C) float32.
        errors: index -> the sentence that says why a slice could not be read.
        features: (N, D) float32 of the last features, averaged over the map; like what follows, only if asked for.
        small: (N, 24, 24) uint8 of the slices as the network sees them.
        faults: of each picture.
        maps: (N, h, w) float32, raw, of the predicted class; empty where the model has no class map.
    """

    logits: NDArray[np.float32]
    errors: dict[int, str] = field(default_factory=dict)
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    small: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, THUMBNAIL, THUMBNAIL), dtype=np.uint8))
    faults: list[tuple[Fault, ...]] = field(default_factory=list)
    maps: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32))


def predict(
    model: Classifier,
    records: Sequence[Record],
    *,
    batch_size: int = 32,
    keep_going: bool = False,
    statement: str = "",
    progress: Progress | None = None,
) -> Predictions:
    """Classify slices; the model is left in the mode it was found in.

    Args:
        model: from :func:`gyrus.load_model` or :func:`gyrus.create_model`. One that ``gyrus calibrate`` has calibrated
            gives calibrated probabilities, sets of classes, and a status other than "ok" where there is a reason.
        records: slices, labelled or not.
        batch_size: slices per pass.
        keep_going: give an unreadable file a row that says why, instead of raising.
        statement: the split the slices come from, kept with the result.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    calibration = model.spec.calibration
    seen = observe(
        model, records, whole=calibration is not None, batch_size=batch_size, keep_going=keep_going, progress=progress
    )
    status = [UNREADABLE if i in seen.errors else OK for i in range(len(records))]
    reasons = [seen.errors.get(i, "") for i in range(len(records))]
    certainty = None
    if calibration is not None:
        certainty = _judged(model, calibration, seen, status, reasons)
    return Predictions.of_records(
        model.classes, records, seen.logits, status, reasons, statement=statement, certainty=certainty
    )


def observe(
    model: Classifier,
    records: Sequence[Record],
    *,
    whole: bool = True,
    batch_size: int = 32,
    keep_going: bool = False,
    what: str = "predicting",
    progress: Progress | None = None,
) -> Observed:
    """Take slices through the network once; the model is left in the mode it was found in.

    Args:
        model: any classifier.
        records: slices.
        whole: keep features, small copies and faults too, not the logits alone.
        batch_size: slices per pass.
        keep_going: note an unreadable file instead of raising.
        what: the word for ``progress``.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    n = len(records)
    seen = Observed(np.full((n, len(model.classes)), np.nan, dtype=np.float32))
    if whole:
        seen.small, seen.faults = np.zeros((n, THUMBNAIL, THUMBNAIL), dtype=np.uint8), [()] * n
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        start = 0
        for batch in batches(
            records,
            model.spec.preprocess,
            batch_size,
            keep_going=keep_going,
            note=_faults if whole else None,
            what=what,
            progress=progress,
        ):
            rows = [start + i for i in batch.readable]
            if rows:
                with torch.inference_mode():
                    features = in_parts(model.features, model.normalise(torch.from_numpy(batch.slices)))
                    seen.logits[rows] = model.finish(features).float().cpu().numpy()
                    maps = _predicted_maps(model, features, seen.logits[rows]) if whole else None
                    pooled = (features.mean(dim=(2, 3)) if features.ndim == 4 else features).float().cpu().numpy()
            if rows and whole:
                if not seen.features.size:
                    seen.features = np.full((n, pooled.shape[1]), np.nan, dtype=np.float32)
                seen.features[rows] = pooled
                seen.small[rows] = thumbnails(batch.slices)
                if maps is not None:
                    if not seen.maps.size:
                        seen.maps = np.full((n, *maps.shape[1:]), np.nan, dtype=np.float32)
                    seen.maps[rows] = maps
                for row, faults in zip(rows, batch.notes, strict=True):
                    seen.faults[row] = faults
            seen.errors |= {start + i: why for i, why in batch.errors.items()}
            start += len(batch.records)
    finally:
        for module, training in modes:
            module.training = training
    return seen


def _predicted_maps(model: Classifier, features: Tensor, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
    if not model.has_class_map:
        return None
    predicted = torch.from_numpy(logits.argmax(axis=1)).to(features.device)
    chosen = model.class_map(features)[torch.arange(len(features), device=features.device), predicted]
    return np.asarray(chosen.float().cpu().numpy())


def _faults(image: Image) -> tuple[Fault, ...]:
    return find_faults(measure(image))


def _judged(
    model: Classifier, calibration: Calibration, seen: Observed, status: list[str], reasons: list[str]
) -> Certainty:
    """Return what a calibrated model adds, and fill in the status and reason of every readable slice."""
    n = len(status)
    read = [i for i in range(n) if i not in seen.errors]
    strange = np.full(n, np.nan)
    sets: list[tuple[str, ...] | None] = [None] * n
    if read:
        strange[read] = novelty(calibration.novelty, model.reference, seen.features[read], seen.logits[read])
        upside_down = turned(model.reference, seen.small[read])
        members = prediction_sets(softmax(seen.logits[read], calibration.temperature), calibration.least(model.classes))
        for i, flip, row in zip(read, upside_down, members, strict=True):
            chosen = tuple(c for c, member in zip(model.classes, row, strict=True) if member)
            status[i], reasons[i] = judge(calibration, seen.faults[i], float(strange[i]), float(flip), chosen)
            sets[i] = None if status[i] == REFUSED else chosen
    return Certainty(calibration.coverage, np.full(n, calibration.temperature), strange, tuple(sets))


def predict_frozen(
    model: Classifier,
    records: Sequence[Record],
    store: Path,
    *,
    precision: str = "auto",
    statement: str = "",
    progress: Progress | None = None,
) -> Predictions:
    """Classify slices by a model of which the last layer alone was trained, from features that are kept on disk.

    Args:
        model: from a frozen training; left in the mode it was found in.
        records: slices, labelled or not.
        store: see :func:`gyrus.features.embed_records`.
        precision: likewise; the same as in training.
        statement: the split the slices come from, kept with the result.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read.
    """
    found = embed_records(model, records, store=store, precision=precision, what="predicting", progress=progress)
    was = model.training
    with torch.inference_mode():
        logits = model.eval().finish(torch.from_numpy(found).to(model.mean.device)).float().cpu().numpy()
    model.train(was)
    n = len(records)
    return Predictions.of_records(model.classes, records, logits, [OK] * n, [""] * n, statement=statement)
