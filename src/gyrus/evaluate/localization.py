"""Every map of a run against the tumours' outlines, beside what no network scores, and the ceilings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.baselines import BASELINES, Context
from gyrus.errors import InputError
from gyrus.evaluate.ceilings import area_ceiling, area_curve, grid_iou_ceiling, grid_pointing_ceiling
from gyrus.evaluate.ranking import METRICS, PERCENTILES, MapScore, score_map
from gyrus.intervals import Bootstrap
from gyrus.loading import THREADS, Progress
from gyrus.maps import Maps
from gyrus.preprocess import Frame, Preprocess, frame_of, prepare_framed
from gyrus.records import Record

QUARTILES = ("smallest", "small", "large", "largest")
DEFINED = 0.9
"""Of the slices that the most widely defined map is defined on: who has fewer takes no part in the contest."""


@dataclass(frozen=True, slots=True)
class RowKey:
    """A row of the localization table.

    Attributes:
        kind: "method", "baseline", or "ceiling".
        name: of the method, baseline, or ceiling.
        layer: the method's layer, or "".
        target: "predicted" or "true": the class the map argues for; "" where it does not depend on one.
        grid: (h, w) of the map.
    """

    kind: str
    name: str
    layer: str
    target: str
    grid: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Localization:
    """Scores of every map of every slice that has a mask.

    Attributes:
        records: N slices.
        persons: N, whose each is.
        areas: (N,) share of the image that is tumour.
        scores: row -> N scores.
    """

    records: tuple[Record, ...]
    persons: tuple[str, ...]
    areas: NDArray[np.float64]
    scores: Mapping[RowKey, list[MapScore]]

    def table(self, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return the rows with patient-bootstrap intervals: over all slices, by class, and by tumour-size quartile.

        Args:
            seed: of the bootstrap; every row is resampled by the same draws.
        """
        labels = np.array([str(r.label) for r in self.records])
        quartile = size_quartiles(self.areas)  # an empty mask is of no size
        subsets = {"all": np.ones(len(labels), dtype=bool)}
        subsets |= {f"class:{c}": labels == c for c in sorted(set(labels))}
        subsets |= {f"size:{name}": quartile == i for i, name in enumerate(QUARTILES)}
        boots = {
            s: Bootstrap([g for g, k in zip(self.persons, keep, strict=True) if k], seed)
            for s, keep in subsets.items()
            if keep.any()
        }
        return [self._row(key, scores, subsets, boots) for key, scores in self.scores.items()]

    def contest(self, *, seed: int = 0) -> dict[str, Any] | None:
        """Return which map points best, which rule without a network does, and their difference on the same slices.

        Only what needs no label takes part: maps for the predicted class, and rules that are not told the true one.
        Equal pointing scores are told apart by the IoU at the 95th percentile.

        Args:
            seed: of the bootstrap.

        Returns:
            ``{"map", "rule", "difference", "tried"}``: two rows' kind, name, layer, target and grid, the mean of map
            minus rule in pointing with its interval over patients, and among how many maps the best was sought; None
            where no map or no rule is defined on any slice.
        """
        ours, theirs = (self._best([k for k in self.scores if k.kind == kind]) for kind in ("method", "baseline"))
        if ours is None or theirs is None:
            return None
        gap = self._column(ours, "pointing") - self._column(theirs, "pointing")
        tried = sum(k.kind == "method" and k.target == "predicted" for k in self.scores)
        return {"map": ours, "rule": theirs, "difference": Bootstrap(self.persons, seed).mean(gap), "tried": tried}

    def _best(self, keys: Sequence[RowKey]) -> RowKey | None:
        def rank(key: RowKey) -> tuple[float, float]:
            return tuple(round(float(np.nanmean(self._column(key, m))), 9) for m in ("pointing", "iou_p95"))  # type: ignore[return-value]

        # A map that is defined on few slices is no match for one that is defined on all.
        known = {k: int((~np.isnan(self._column(k, "pointing"))).sum()) for k in keys if k.target != "true"}
        defined = [k for k, n in known.items() if n > DEFINED * max(known.values())]
        return max(defined, key=rank, default=None)

    def _column(self, key: RowKey, metric: str) -> NDArray[np.float64]:
        return np.array([s.values.get(metric, np.nan) for s in self.scores[key]])

    def _row(
        self,
        key: RowKey,
        scores: Sequence[MapScore],
        subsets: Mapping[str, NDArray[np.bool_]],
        boots: Mapping[str, Bootstrap],
    ) -> dict[str, Any]:
        columns = {m: self._column(key, m) for m in METRICS}
        curve = np.stack([s.curve for s in scores])
        known = ~np.isnan(curve).any(axis=1)
        return {
            "kind": key.kind,
            "name": key.name,
            "layer": key.layer,
            "target": key.target,
            "grid": key.grid,
            "metrics": {s: {m: boot.mean(v[subsets[s]]) for m, v in columns.items()} for s, boot in boots.items()},
            "undefined": dict(Counter(s.reason for s in scores if s.reason)),
            "curve": curve[known].mean(axis=0) if known.any() else np.full(len(PERCENTILES), np.nan),
        }

    def per_slice(self) -> Iterable[dict[str, Any]]:
        """Yield one flat row per slice and map: id, patient, label, tumour share, map, metrics, reason."""
        for key, scores in self.scores.items():
            for record, area, score in zip(self.records, self.areas, scores, strict=True):
                yield {
                    "id": record.id,
                    "patient": record.patient,
                    "label": record.label,
                    "tumour_share": float(area),
                    "kind": key.kind,
                    "name": key.name,
                    "layer": key.layer,
                    "target": key.target,
                    **{m: score.values.get(m, np.nan) for m in METRICS},
                    "undefined": score.reason,
                }


def size_quartiles(areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return 0 (smallest) to 3 (largest) per slice, by rank of the tumour's share of the image; -1 where that is 0."""
    quartiles = np.full(len(areas), -1, dtype=np.int64)
    shown = areas > 0
    if shown.any():
        cuts = np.quantile(areas[shown], (0.25, 0.5, 0.75))
        quartiles[shown] = np.searchsorted(cuts, areas[shown], side="left")
    return quartiles


def localize(
    maps: Maps,
    records: Sequence[Record],
    training: Sequence[Record],
    *,
    persons: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Localization:
    """Score every map, every no-network baseline and every ceiling on the slices that have a tumour outline.

    A map is laid over its slice bilinearly (half-pixel centres) and compared on the mask's own grid.

    Args:
        maps: from :func:`gyrus.explain.explain_records`.
        records: those it explained, in the same order.
        training: records whose masks make the class prior; never any of ``records``. Where none has a mask, there are
            no rows of rules that need it.
        persons: record id -> whose it is, for intervals; by default the patient, or a slice of an unknown one alone.
        progress: called after each slice.

    Raises:
        InputError: no record has an outline, or an unreadable file.
    """
    if [r.id for r in records] != list(maps.ids):
        raise InputError("the maps were made for other records than those given: run `gyrus explain` again")
    outlined = [i for i, r in enumerate(records) if r.mask is not None]
    if not outlined:
        raise InputError("no slice has a tumour outline, so no map can be scored: use a dataset with masks")
    spec = maps.preprocess
    priors = class_priors([r for r in training if r.mask is not None], spec)
    rows: dict[RowKey, list[MapScore]] = {}
    masks: list[NDArray[np.bool_]] = []
    frames: list[Frame] = []

    with ThreadPoolExecutor(THREADS) as pool:
        results = pool.map(lambda i: _score_slice(i, records[i], maps, spec, priors), outlined)
        for done, (mask, frame, scores) in enumerate(results, start=1):
            masks.append(mask)
            frames.append(frame)
            for key, score in scores.items():
                rows.setdefault(key, []).append(score)
            if progress:
                progress("scoring maps", done, len(outlined))
    order = {"method": 0, "baseline": 1}
    rows = dict(sorted(rows.items(), key=lambda item: (order[item[0].kind], item[0].target != "predicted")))
    rows |= _ceilings(masks, frames, {k.grid for k in rows if k.kind == "method"})
    areas = np.array([m.mean() for m in masks])
    scored = tuple(records[i] for i in outlined)
    of = persons or {r.id: r.id if r.patient is None else r.patient for r in scored}
    return Localization(scored, tuple(of[r.id] for r in scored), areas, rows)


def class_priors(training: Sequence[Record], spec: Preprocess) -> dict[str, NDArray[np.float32]]:
    """Return class -> (S, S) float32 share of the training slices of that class with tumour at each pixel."""
    with ThreadPoolExecutor(THREADS) as pool:
        masks = list(pool.map(lambda r: _mask_as_seen(r, spec), training))
    labels = sorted({str(r.label) for r in training})
    return {
        c: np.mean([m for m, r in zip(masks, training, strict=True) if r.label == c], axis=0, dtype=np.float32)
        for c in labels
    }


def _mask_as_seen(record: Record, spec: Preprocess) -> NDArray[np.float32]:
    image = record.read()
    mask = record.read_mask(image.shape)
    assert mask is not None, "only records with a mask are asked for"
    return frame_of(image, spec).cut(mask, spec.size)


def _score_slice(
    i: int, record: Record, maps: Maps, spec: Preprocess, priors: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.bool_], Frame, dict[RowKey, MapScore]]:
    image = record.read()
    mask = record.read_mask(image.shape)
    assert mask is not None, "only records with a mask are scored"
    prepared, frame = prepare_framed(image, spec)
    scores = {
        RowKey("method", key.method, key.layer, key.target, (array.shape[1], array.shape[2])): _score(
            array[i], frame, mask
        )
        for key, array in maps.arrays.items()
    }
    for baseline in BASELINES.values():
        if baseline.per_class and not priors:
            continue  # no outline was left to make them of: a blank map would be no floor
        for kind, labels in maps.explained.items() if baseline.per_class else [("", ("",) * len(maps.ids))]:
            grid = baseline.rule(Context(prepared, record.id, priors, labels[i]))
            key = RowKey("baseline", baseline.name, "", kind, (spec.size, spec.size))
            scores[key] = _score(grid, frame, mask)
    return mask, frame, scores


def _score(grid: NDArray[np.float32], frame: Frame, mask: NDArray[np.bool_]) -> MapScore:
    return score_map(frame.place(grid), mask)


def _ceilings(
    masks: Sequence[NDArray[np.bool_]], frames: Sequence[Frame], grids: set[tuple[int, int]]
) -> dict[RowKey, list[MapScore]]:
    """Return the rows of what a map could score at best: by the area kept, and by each grid that occurs."""
    partial = [i for i, m in enumerate(masks) if m.any() and not m.all()]
    some = [masks[i] for i in partial], [frames[i] for i in partial]
    nothing = np.full(len(PERCENTILES), np.nan)
    found = {g: iter(grid_iou_ceiling(some[0], g, some[1])) for g in grids}
    rows: dict[RowKey, list[MapScore]] = {RowKey("ceiling", "area kept", "", "", (0, 0)): []}
    rows |= {RowKey("ceiling", f"{g[0]} x {g[1]} map", "", "", g): [] for g in sorted(grids)}
    for mask, frame in zip(masks, frames, strict=True):
        defined = mask.any() and not mask.all()
        for key, scores in rows.items():
            if not defined:
                scores.append(MapScore({}, nothing, "full mask" if mask.any() else "empty mask"))
            elif key.grid == (0, 0):
                iou = float(area_ceiling(mask, 95.0))
                scores.append(MapScore({"iou_p95": iou, "dice_p95": 2 * iou / (1 + iou)}, area_curve(mask)))
            else:
                iou = float(next(found[key.grid]))
                overlaps = {
                    m: iou if m.startswith("iou") else 2 * iou / (1 + iou) for m in METRICS if m[:4] in ("iou_", "dice")
                }
                values = {"pointing": grid_pointing_ceiling(mask, key.grid, frame), **overlaps}
                scores.append(MapScore(values, nothing))
    return rows
