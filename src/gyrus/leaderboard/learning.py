"""Thresholds learned on training patients, and the choice that follows: which map, which layer, which cut."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.evaluate.ranking import Ranking, undefined_because
from gyrus.leaderboard.entries import Entry
from gyrus.leaderboard.passes import baseline_maps, maps_of, predicted_names
from gyrus.leaderboard.settings import Settings
from gyrus.leaderboard.sources import Source
from gyrus.loading import THREADS, Progress, batches
from gyrus.models import Classifier
from gyrus.preprocess import Preprocess, frame_of
from gyrus.records import Record
from gyrus.thresholds import Learned, Threshold, candidates

Choices = dict[Entry, Threshold]


def learn_thresholds(
    source: Source,
    model: Classifier,
    priors: Mapping[str, NDArray[np.float32]],
    settings: Settings,
    progress: Progress | None = None,
) -> Choices:
    """Return for each map of one pass, and each rule, the cut with the highest mean IoU on training patients.

    ``priors`` are of patients that are not learned on.

    Raises:
        InputError: no training slice has an outline of a tumour and finite maps.
    """
    tried = candidates()
    overlaps: dict[Entry, list[NDArray[np.float64]]] = {}
    spec = model.spec.preprocess
    with ThreadPoolExecutor(THREADS) as pool:
        what = f"learning cuts ({source.name})"
        for batch in batches(source.learning, spec, 32, what=what, progress=progress):
            images = model.normalise(torch.from_numpy(batch.slices))
            grids, found = maps_of(model, images, "predicted", settings.one_pass, settings.layers)
            grids |= baseline_maps(batch.records, batch.slices, predicted_names(model, found), priors)
            rows = [{e: g[i] for e, g in grids.items()} for i in range(len(batch.records))]
            for scored in pool.map(_overlaps, batch.records, rows, [spec] * len(rows), [tried] * len(rows)):
                for entry, values in scored.items():
                    overlaps.setdefault(entry, []).append(values)
    if not overlaps:
        raise InputError(f"no training slice of {source.run} has a tumour outlined, so no threshold can be learned")
    return {entry: _best(tried, np.stack(values)) for entry, values in overlaps.items()}


def best_of(choices: Choices, kind: str) -> Entry | None:
    """Return the entry of a kind with the highest score on the training patients; of equals the first."""
    return max((e for e in choices if e.kind == kind), key=lambda e: _training_score(choices[e]), default=None)


def best_layers(choices: Choices) -> tuple[Entry, ...]:
    """Return for each method its entry at the layer with the highest score on the training patients."""
    best: dict[str, Entry] = {}
    for entry, threshold in choices.items():
        if entry.kind == "method":
            held = best.setdefault(entry.name, entry)
            if _training_score(threshold) > _training_score(choices[held]):
                best[entry.name] = entry
    return tuple(best.values())


def to_plain(choices: Choices) -> list[dict[str, Any]]:
    """Return the choices as JSON-able values; :func:`from_plain` reads them."""
    return [{**entry._asdict(), **asdict(threshold)} for entry, threshold in choices.items()]


def from_plain(rows: list[dict[str, Any]]) -> Choices:
    """Return the choices that :func:`to_plain` wrote."""
    return {
        Entry(r["kind"], r["name"], r["layer"]): Threshold(
            r["rule"], r["parameter"], r["largest"], Learned(**r["learned"])
        )
        for r in rows
    }


def _overlaps(
    record: Record, grids: Mapping[Entry, NDArray[np.float32]], spec: Preprocess, tried: list[Threshold]
) -> dict[Entry, NDArray[np.float64]]:
    """Return the IoU of each map under each threshold; nothing for a map that is not finite, or without a tumour."""
    image = record.read()
    mask = record.read_mask(image.shape)
    assert mask is not None, "only records with a mask are learned from"
    frame = frame_of(image, spec)
    found = {}
    for entry, grid in grids.items():
        placed = frame.place(grid)
        if not undefined_because(placed, mask):
            ranking = Ranking(placed, mask)
            found[entry] = np.array([ranking.cut(t) for t in tried])
    return found


def _best(tried: list[Threshold], overlaps: NDArray[np.float64]) -> Threshold:
    means = overlaps.mean(axis=0)
    best = int(means.argmax())
    return replace(tried[best], learned=Learned(len(overlaps), float(means[best]), len(tried)))


def _training_score(threshold: Threshold) -> float:
    assert threshold.learned is not None, "all of these are learned"
    return threshold.learned.score
