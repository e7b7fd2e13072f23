"""From slices to predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gyrus.appearance import Fault, find_faults, measure
from gyrus.certainty.novelty import novelty
from gyrus.certainty.upright import edges
from gyrus.explain.engine import Explainer
from gyrus.features import embed_records
from gyrus.io import Image
from gyrus.loading import Progress, batches
from gyrus.models import Classifier
from gyrus.models.classifier import averaged
from gyrus.models.folding import in_parts
from gyrus.predictions import Predictions
from gyrus.preprocess import Frame
from gyrus.records import Record
from gyrus.refusal import Observed, Place, answers
from gyrus.sequences.recogniser import sequence_of


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
    read = seen.readable
    if calibration is not None and read:
        seen.novelty[read] = novelty(calibration.novelty, model.reference, seen.features[read], seen.logits[read])
    return answers(model.classes, records, seen, calibration, model.reference, statement=statement)


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
        whole: keep features, edges, faults and sequences too, not the logits alone.
        batch_size: slices per pass.
        keep_going: note an unreadable file instead of raising.
        what: the word for ``progress``.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    n, spec = len(records), model.spec.preprocess
    seen = Observed.nothing(n, len(model.classes))

    def look(image: Image, frame: Frame) -> tuple[tuple[Fault, ...], Place, NDArray[np.float32]]:
        return find_faults(measure(image)), Place(frame, image.spacing), sequence_of(image)

    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        start = 0
        for batch in batches(
            records,
            spec,
            batch_size,
            keep_going=keep_going,
            note=look if whole else None,
            what=what,
            progress=progress,
        ):
            rows = [start + i for i in batch.readable]
            if rows:
                with torch.inference_mode():
                    features = in_parts(model.features, model.normalise(torch.from_numpy(batch.slices)))
                    seen.logits[rows] = model.finish(features).float().cpu().numpy()
                    maps = predicted_maps(model, features, seen.logits[rows]) if whole else None
            if rows and whole:
                pooled = averaged(features).float().cpu().numpy()
                if not seen.features.size:
                    seen.features = np.full((n, pooled.shape[1]), np.nan, dtype=np.float32)
                seen.features[rows] = pooled
                seen.edges[rows] = edges(batch.slices)
                if maps is not None:
                    seen.keep_maps(rows, maps)
                for row, (faults, place, sequence) in zip(rows, batch.notes, strict=True):
                    seen.faults[row], seen.places[row], seen.sequences[row] = faults, place, sequence
            seen.errors |= {start + i: why for i, why in batch.errors.items()}
            start += len(batch.records)
    finally:
        for module, training in modes:
            module.training = training
    return seen


def predicted_maps(model: Classifier, features: Tensor, logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the (N, h, w) class map of the class with the highest logit, bias and all; None where there is none.

    Args:
        model: a classifier.
        features: (N, K, h, w) from its ``features``.
        logits: (N, C) of these.
    """
    if not model.has_class_map:
        return None
    predicted = torch.from_numpy(logits.argmax(axis=1)).to(features.device)
    chosen = model.class_map(features)[torch.arange(len(features), device=features.device), predicted]
    return np.asarray(chosen.float().cpu().numpy())


def evidence(
    model: Classifier, records: Sequence[Record], *, progress: Progress | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield the map of each slice's predicted class, (h, w): the class map, or Grad-CAM where the model has none.

    Args:
        model: any classifier; left in the mode it was found in.
        records: slices.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read.
    """
    with Explainer(model) as explainer:  # which has the model in evaluation mode for as long
        for batch in batches(records, model.spec.preprocess, 8, what="drawing", progress=progress):
            images = model.normalise(torch.from_numpy(batch.slices))
            with torch.inference_mode():
                features = model.features(images)
                grids = predicted_maps(model, features, model.finish(features).float().cpu().numpy())
            if grids is None:
                ((_, found),) = explainer(images, methods=["gradcam"], target="predicted").maps.items()
                grids = found.float().cpu().numpy()
            yield from grids


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
    return answers(model.classes, records, Observed(logits), None, {}, statement=statement)
