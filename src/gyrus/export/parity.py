"""How far an exported graph, and what is concluded from it, are from torch, on real slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.evaluate.agreement import rank_correlation
from gyrus.exported import BATCH, Exported, Outputs, predict_exported
from gyrus.inference import predict
from gyrus.loading import Progress, read_ahead
from gyrus.models import Classifier
from gyrus.predictions import Certainty, Predictions
from gyrus.preprocess import prepare_all
from gyrus.records import Record

Pair = tuple[Outputs, Outputs]


@dataclass(frozen=True, slots=True)
class Parity:
    """What differs between torch and a graph over N slices.

    Attributes:
        slices: N.
        probability_difference: the largest, in absolute terms, of any class on any slice.
        map_difference: the largest between two maps, as a share of the largest absolute value of torch's maps; None
            without a class map.
        map_rank_correlation: Spearman's, the median over slices and classes; None where no map varies.
        least_map_rank_correlation: likewise the lowest.
        same_class: the share of slices on which both predict the same class.
        labelled: slices whose true class is known and among the model's.
        accuracy_torch: share of these that torch predicts; None without any.
        accuracy_exported: share of these that the graph predicts.
        novelty_difference: the largest between two novelty scores, as a share of torch's score, its limit or 1,
            whichever is largest; like what follows None where the model is not calibrated.
        same_answer: the share of slices with the same status and the same set of classes.
    """

    slices: int
    probability_difference: float
    map_difference: float | None
    map_rank_correlation: float | None
    least_map_rank_correlation: float | None
    same_class: float
    labelled: int
    accuracy_torch: float | None
    accuracy_exported: float | None
    novelty_difference: float | None = None
    same_answer: float | None = None


def compare(
    model: Classifier, exported: Exported, records: Sequence[Record], *, progress: Progress | None = None
) -> Parity:
    """Run both on the same slices, each with its own preprocessing; a calibrated model also as it is used, to the end.

    Args:
        model: on the CPU, in evaluation mode.
        exported: what was made from it.
        records: at least one slice.
        progress: called after each batch.

    Raises:
        InputError: a slice cannot be read.
    """
    pairs: list[Pair] = []
    calibration, done = model.spec.calibration, 0
    temperature = 1.0 if calibration is None else calibration.temperature
    for chunk, read in read_ahead(records, Record.read, BATCH):
        images = [image for image in read if not isinstance(image, Exception)]  # all, since the others raise
        slices = torch.from_numpy(prepare_all(images, model.spec.preprocess))
        theirs = exported.run_all([exported.take(image) for image in images])
        pairs.append((_by_torch(model, slices, temperature), theirs))
        done += len(chunk)
        if progress:
            progress("checking", done, len(records))
    parity = _parity(pairs, [r.label for r in records], model.classes)
    if calibration is None:
        return parity
    said = predict(model, records, progress=progress), predict_exported(exported, records, progress=progress)
    difference, same = _answered(*said, calibration.novelty_limit)
    return replace(parity, novelty_difference=difference, same_answer=same)


def _answered(ours: Predictions, theirs: Predictions, limit: float) -> tuple[float, float]:
    """Return the largest difference of the novelty scores, and the share of slices answered alike."""
    mine, its = (cast(Certainty, p.certainty) for p in (ours, theirs))
    scale = np.maximum(np.abs(mine.novelty), max(abs(limit), 1))
    said = ([(row["status"], row["set"]) for row in p.rows()] for p in (ours, theirs))
    same = float(np.mean([a == b for a, b in zip(*said, strict=True)]))
    return _furthest(mine.novelty / scale, its.novelty / scale), same


def _by_torch(model: Classifier, slices: torch.Tensor, temperature: float) -> Outputs:
    with torch.inference_mode():
        features = model.features(model.normalise(slices))
        logits = model.finish(features)
        class_map = model.class_map(features).numpy() if model.has_class_map else None
        return Outputs(logits.numpy(), torch.softmax(logits / temperature, dim=1).numpy(), class_map)


def _parity(pairs: Sequence[Pair], labels: Sequence[str | None], classes: Sequence[str]) -> Parity:
    ours, theirs = (np.concatenate([pair[i].logits for pair in pairs]).argmax(axis=1) for i in (0, 1))
    truth = np.array([classes.index(label) if label in classes else -1 for label in labels])
    known = truth >= 0
    ranks = np.concatenate([_ranks(*pair) for pair in pairs])
    ranks = ranks[np.isfinite(ranks)]
    return Parity(
        slices=len(labels),
        probability_difference=max(_furthest(a.probabilities, b.probabilities) for a, b in pairs),
        map_difference=_map_difference(pairs),
        map_rank_correlation=float(np.median(ranks)) if len(ranks) else None,
        least_map_rank_correlation=float(ranks.min()) if len(ranks) else None,
        same_class=float((ours == theirs).mean()),
        labelled=int(known.sum()),
        accuracy_torch=float((ours == truth)[known].mean()) if known.any() else None,
        accuracy_exported=float((theirs == truth)[known].mean()) if known.any() else None,
    )


def _furthest(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the largest difference; infinity where only one of two numbers is finite."""
    difference = np.abs(first.astype(np.float64) - second)
    return float(np.nan_to_num(difference, nan=np.inf).max())


def _map_difference(pairs: Sequence[Pair]) -> float | None:
    maps = [(a.class_map, b.class_map) for a, b in pairs if a.class_map is not None and b.class_map is not None]
    if not maps:
        return None
    largest = max(float(np.abs(a).max()) for a, _ in maps)
    return max(_furthest(a, b) for a, b in maps) / max(largest, float(np.finfo(np.float32).tiny))


def _ranks(first: Outputs, second: Outputs) -> NDArray[np.float64]:
    """Return the rank correlation of every pair of maps."""
    if first.class_map is None or second.class_map is None:
        return np.empty(0)
    shape = (-1, *first.class_map.shape[2:])
    return rank_correlation(first.class_map.reshape(shape), second.class_map.reshape(shape))
