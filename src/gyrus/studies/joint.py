"""A map and a rule without a network, multiplied: does each know of the tumour what the other does not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.baselines import BASELINES, Context
from gyrus.errors import InputError
from gyrus.evaluate.localization import class_priors
from gyrus.evaluate.ranking import Ranking, pointing, undefined_because
from gyrus.explain.engine import Explainer
from gyrus.groups import with_patients_whole
from gyrus.loading import THREADS, Progress, batches
from gyrus.models import Classifier
from gyrus.preprocess import frame_of
from gyrus.records import Record
from gyrus.thresholds import Threshold, candidates

MAP, RULE, BOTH = "map", "rule", "both"
Grids = dict[tuple[str, str], NDArray[np.float32]]
"""(what, layer) -> (S, S) grid over the network's input; the rule's layer is empty."""


@dataclass(frozen=True, eq=False)
class Contest:
    """A map, a rule, and their product, each cut as was best on training slices, on slices of other people.

    Attributes:
        chosen: what -> (layer, threshold) of the highest mean IoU on the training slices.
        iou: what -> (N,).
        pointing: what -> (N,).
        records: the N slices.
    """

    chosen: Mapping[str, tuple[str, Threshold]]
    iou: Mapping[str, NDArray[np.float64]]
    pointing: Mapping[str, NDArray[np.float64]]
    records: tuple[Record, ...]


def multiply(
    model: Classifier,
    training: Sequence[Record],
    tested: Sequence[Record],
    *,
    method: str,
    layers: Sequence[str] | str,
    rule: str,
    learn: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Contest:
    """Score a map times a rule, beside either alone.

    The map's positive part, enlarged bilinearly to the network's input, is set against its maximum and multiplied by
    the rule's value: as the logarithms add up, this is the sum of two arguments. The layer and the cut of all three are
    the best of those tried on ``learn`` training slices; class priors are made of the patients that are not among them.
    Maps are of the predicted class, averaged with those of the mirrored slice.

    Args:
        model: the classifier.
        training: slices with outlines that it learned from.
        tested: slices with outlines of other people.
        method: of explanation.
        layers: module names, or "stages".
        rule: a map without a network, see :func:`gyrus.info`.
        learn: training slices to choose on.
        seed: of their draw.
        progress: called as slices are read.

    Raises:
        InputError: no such rule, or nothing to learn from or to test.
    """
    if rule not in BASELINES:
        raise InputError(f"there is no rule {rule!r}: choose of {', '.join(BASELINES)}")
    order = np.random.default_rng(seed).permutation(len(training))
    learned = [training[int(i)] for i in order[:learn]]
    whose = with_patients_whole(training, {r.id: r.id for r in training})
    known = {whose[r.id] for r in learned}
    priors = class_priors([r for r in training if whose[r.id] not in known], model.spec.preprocess)
    asked = _Asked(model, method, layers, rule, priors, progress)
    # Of a map's positive part the median is 0 nearly always, and a fraction of the prominence one of the maximum.
    tried = [cut for cut in candidates() if cut.rule != "prominence"]
    before = asked.scores(learned, tried)
    if not before.records or not tested:
        raise InputError("there is no slice with an outline to learn a cut on, or none to test it on")
    best: dict[str, tuple[str, int]] = {}
    for key, values in before.iou.items():
        cut = int(values.mean(axis=0).argmax())
        held = best.setdefault(key[0], (key[1], cut))
        if values.mean(axis=0)[cut] > before.iou[key[0], held[0]].mean(axis=0)[held[1]]:
            best[key[0]] = (key[1], cut)
    after = asked.scores(tested, tried)
    return Contest(
        chosen={what: (layer, tried[cut]) for what, (layer, cut) in best.items()},
        iou={what: after.iou[what, layer][:, cut] for what, (layer, cut) in best.items()},
        pointing={what: after.pointing[what, layer] for what, (layer, _) in best.items()},
        records=after.records,
    )


@dataclass(frozen=True, eq=False)
class _Scores:
    records: tuple[Record, ...]
    iou: dict[tuple[str, str], NDArray[np.float64]]
    pointing: dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class _Asked:
    model: Classifier
    method: str
    layers: Sequence[str] | str
    rule: str
    priors: Mapping[str, NDArray[np.float32]]
    progress: Progress | None

    def scores(self, records: Sequence[Record], tried: Sequence[Threshold]) -> _Scores:
        """Return each grid's IoU under every threshold, (N, T), and its pointing, (N,); undefined slices left out."""
        spec = self.model.spec.preprocess
        kept: list[Record] = []
        rows: list[dict[tuple[str, str], tuple[list[float], float]]] = []
        layers = self.layers if isinstance(self.layers, str) else list(self.layers)
        with Explainer(self.model, layers) as explainer, ThreadPoolExecutor(THREADS) as pool:
            for batch in batches(records, spec, 32, what="maps and rules", progress=self.progress):
                images = self.model.normalise(torch.from_numpy(batch.slices))
                found = explainer(images, methods=[self.method], target="predicted", flips=True)
                maps = {layer: m.float().cpu().numpy() for (_, layer), m in found.maps.items()}
                jobs = [
                    (record, self._grids(record, pixels, {k: m[i] for k, m in maps.items()}, int(found.target[i])))
                    for i, (record, pixels) in enumerate(zip(batch.records, batch.slices, strict=True))
                ]
                for (record, _), scored in zip(
                    jobs, pool.map(lambda job: self._score(job[0], job[1], tried), jobs), strict=True
                ):
                    if scored:
                        kept.append(record)
                        rows.append(scored)
        keys = list(rows[0]) if rows else []
        iou = {k: np.array([row[k][0] for row in rows]) for k in keys}
        return _Scores(tuple(kept), iou, {k: np.array([row[k][1] for row in rows]) for k in keys})

    def _grids(
        self, record: Record, pixels: NDArray[np.uint8], maps: Mapping[str, NDArray[np.float32]], predicted: int
    ) -> Grids:
        context = Context(pixels, record.id, self.priors, self.model.classes[predicted])
        rule = BASELINES[self.rule].rule(context)
        grids: Grids = {(RULE, ""): rule}
        for layer, grid in maps.items():
            heat = _enlarged(grid, rule.shape)
            grids |= {(MAP, layer): heat, (BOTH, layer): heat * np.maximum(rule, 0)}
        return grids

    def _score(
        self, record: Record, grids: Grids, tried: Sequence[Threshold]
    ) -> dict[tuple[str, str], tuple[list[float], float]]:
        image = record.read()
        mask = record.read_mask(image.shape)
        frame = frame_of(image, self.model.spec.preprocess)
        placed = {key: frame.place(grid) for key, grid in grids.items()}
        if mask is None or any(undefined_because(p, mask) for p in placed.values()):
            return {}
        rankings = {key: Ranking(p, mask) for key, p in placed.items()}
        return {key: ([r.cut(t) for t in tried], pointing(r)) for key, r in rankings.items()}


def _enlarged(grid: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the positive part of an (h, w) map on a larger grid, bilinear, its maximum 1; 0 where none is positive."""
    positive = np.maximum(grid, 0)
    height, width = shape
    large = cv2.resize(positive, (width, height), interpolation=cv2.INTER_LINEAR)
    peak = float(large.max())
    return np.asarray(large / peak if peak > 0 else large, dtype=np.float32)
