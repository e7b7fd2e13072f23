"""From slices to predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gyrus.features import embed_records
from gyrus.loading import Progress, batches
from gyrus.models import Classifier
from gyrus.predictions import Predictions
from gyrus.records import Record


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
        model: from :func:`gyrus.load_model` or :func:`gyrus.create_model`.
        records: slices, labelled or not.
        batch_size: slices per pass.
        keep_going: give an unreadable file a row that says why, instead of raising.
        statement: the split the slices come from, kept with the result.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    logits = np.full((len(records), len(model.classes)), np.nan, dtype=np.float32)
    status = ["ok"] * len(records)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        start = 0
        for batch in batches(
            records, model.spec.preprocess, batch_size, keep_going=keep_going, what="predicting", progress=progress
        ):
            if batch.readable:
                with torch.inference_mode():
                    out = model(model.normalise(torch.from_numpy(batch.slices))).float().cpu().numpy()
                logits[[start + i for i in batch.readable]] = out
            for i, why in batch.errors.items():
                status[start + i] = why
            start += len(batch.records)
    finally:
        for module, training in modes:
            module.training = training
    return Predictions.of_records(model.classes, records, logits, status, statement)


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
    return Predictions.of_records(model.classes, records, logits, ["ok"] * len(records), statement)
