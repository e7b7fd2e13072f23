"""Which slices a reader should see, and how each is shown: best, median, worst, and wrong but sure of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gyrus.loading import Progress
from gyrus.maps import MapKey
from gyrus.page.pictures import data_uri, slice_panel, squared
from gyrus.page.words import number
from gyrus.predictions import REFUSED
from gyrus.preprocess import frame_of
from gyrus.records import Record
from gyrus.report import panels
from gyrus.report.comparison import Contest
from gyrus.report.source import RowId, SliceScore, Source, row_id
from gyrus.titles import METHOD_TITLES

SURE = 0.95
_SHOWN = 4
_WRONG_SHOWN = 6
_SEVERAL = "from different patients where there are enough"


@dataclass(frozen=True, slots=True)
class Panel:
    """One small picture: its PNG data URI, its text for those who do not see it, and the line under it."""

    uri: str
    alt: str
    title: str


@dataclass(frozen=True, slots=True)
class Case:
    """One slice of a gallery; probability, iou and pointing are None where there is none.

    A refused slice has a reason in place of a class and its probability.
    """

    id: str
    label: str | None
    predicted: str | None
    probability: float | None
    refused: str
    iou: float | None
    pointing: float | None
    panels: tuple[Panel, ...]

    @property
    def peak(self) -> str:
        """Whether the map's maximum lies in the outline, in words."""
        if self.pointing is None:
            return ""
        return {0.0: "miss", 1.0: "hit"}.get(self.pointing, number(self.pointing))


@dataclass(frozen=True, slots=True)
class Gallery:
    """Slices shown together, and the sentence that says how they were chosen."""

    title: str
    note: str
    cases: tuple[Case, ...] = ()

    @property
    def layout(self) -> str:
        """How the cases stand: "rows" of four panels, three side by side, or "small" ones of one or two."""
        most = max((len(c.panels) for c in self.cases), default=0)
        return "rows" if most > 3 else "three" if most == 3 else "small"


@dataclass(frozen=True, slots=True)
class _Choice:
    title: str
    note: str
    ids: tuple[str, ...]
    compared: bool = field(default=False)


def make_galleries(source: Source, contest: Contest | None, progress: Progress | None = None) -> list[Gallery]:
    """Return the galleries of a run; where nothing was localized, they are chosen by the probabilities alone.

    Args:
        source: the run.
        contest: says which map is shown; without one, the first for the predicted class.
        progress: called after each slice.

    Raises:
        InputError: a slice or its mask cannot be read.
    """
    key = shown_map(source, contest)
    scores = {s.id: s for s in source.per_slice.get(row_id(contest.map), [])} if contest else {}
    choices = [*(_by_overlap(list(scores.values())) if scores else _by_confidence(source)), _wrong(source)]
    painter = _Painter(source, key, scores)
    total, done = sum(len(c.ids) for c in choices), 0
    galleries = []
    for choice in choices:
        cases = []
        for slice_id in choice.ids:
            cases.append(painter.paint(slice_id, compared=choice.compared))
            done += 1
            if progress:
                progress("drawing slices", done, total)
        galleries.append(Gallery(choice.title, choice.note, tuple(cases)))
    return galleries


def every_method(source: Source, contest: Contest | None) -> tuple[str, list[Panel]] | None:
    """Return one slice under each method of the shown map's layer: the slice of median overlap, its id, its panels."""
    key = shown_map(source, contest)
    if key is None or source.maps is None or contest is None:
        return None
    scores = source.per_slice.get(row_id(contest.map), [])
    ranked = sorted((s for s in scores if s.iou_p95 == s.iou_p95), key=lambda s: (s.iou_p95, s.auprc, s.id))
    keys = [k for k in source.maps.arrays if k.target == key.target and k.layer == key.layer]
    if not ranked or len(keys) < 2:
        return None
    chosen = ranked[len(ranked) // 2]
    painter = _Painter(source, key, {})
    return chosen.id, painter.methods(chosen.id, keys)


def shown_map(source: Source, contest: Contest | None) -> MapKey | None:
    """Return which map the galleries show: the headline's, or the first for the predicted class."""
    if source.maps is None:
        return None
    if contest is not None:
        key = MapKey(*RowId(*row_id(contest.map))[1:])
        return key if key in source.maps.arrays else None
    return next((k for k in source.maps.arrays if k.target == "predicted"), None)


def _by_overlap(scores: Sequence[SliceScore]) -> list[_Choice]:
    ranked = sorted((s for s in scores if s.iou_p95 == s.iou_p95), key=lambda s: (s.iou_p95, s.auprc, s.id))
    if not ranked:
        return []
    middle = len(ranked) // 2
    by_distance = sorted(range(len(ranked)), key=lambda i: (abs(i - middle), i))
    orders = (
        ("Best", "Highest IoU at the 95th percentile", ranked[::-1]),
        ("Median", f"IoU around the median, {number(ranked[middle].iou_p95)}", [ranked[i] for i in by_distance]),
        ("Worst", "Lowest IoU; where several are 0, those whose map ranks the tumour's pixels lowest (AUPRC)", ranked),
    )
    return [
        _Choice(title, f"{note}; {_SEVERAL}.", _one_per_patient((s.id, s.patient) for s in order))
        for title, note, order in orders
    ]


def _by_confidence(source: Source) -> list[_Choice]:
    p = source.predictions
    read = p.answered
    sure = {i: float(p.probabilities[i].max()) for i in read}
    right = [i for i in sorted(read, key=lambda i: (-sure[i], p.ids[i])) if p.predicted_at(i) == p.labels[i]]
    first = [next((i for i in right if p.labels[i] == c), None) for c in p.classes]
    unsure = sorted(read, key=lambda i: (sure[i], p.ids[i]))
    return [
        _Choice(
            "Sure and right",
            "The most confident right prediction of each class.",
            tuple(p.ids[i] for i in first if i is not None),
        ),
        _Choice("Least sure", f"The predictions of lowest probability, {_SEVERAL}.", _pick(source, unsure)),
    ]


def _wrong(source: Source) -> _Choice:
    p = source.predictions
    read = [i for i in p.answered if p.labels[i] is not None]
    wrong = [i for i in read if p.predicted_at(i) != p.labels[i]]
    sure = [i for i in wrong if p.probabilities[i].max() > SURE]
    sure.sort(key=lambda i: (-float(p.probabilities[i].max()), p.ids[i]))
    ids = _pick(source, sure, _WRONG_SHOWN)
    note = f"{len(sure)} of {len(wrong)} wrong predictions of {len(read)} carry a probability above {SURE}"
    note += f"; the most confident are shown, {_SEVERAL}." if len(ids) < len(sure) else "."
    return _Choice("Wrong, and sure of it", note, ids, compared=True)


def _pick(source: Source, order: Sequence[int], n: int = _SHOWN) -> tuple[str, ...]:
    p = source.predictions
    return _one_per_patient(((p.ids[i], p.patients[i] or p.ids[i]) for i in order), n)


def _one_per_patient(order: Iterable[tuple[str, str]], n: int = _SHOWN) -> tuple[str, ...]:
    """Return the first n ids of different patients, filled up in order where patients are too few."""
    pairs = list(order)
    first = {patient: i for i, patient in reversed(pairs)}
    chosen = [i for i, patient in pairs if first[patient] == i][:n]
    chosen += [i for i, _ in pairs if i not in chosen][: n - len(chosen)]
    return tuple(i for i, _ in pairs if i in chosen)


class _Painter:
    """Draws slices with their maps; reads each slice when it is asked for."""

    def __init__(self, source: Source, key: MapKey | None, scores: dict[str, SliceScore]) -> None:
        self.source = source
        self.key = key
        self.scores = scores
        self.rows = {name: i for i, name in enumerate(source.predictions.ids)}
        self.map_rows = {name: i for i, name in enumerate(source.maps.ids)} if source.maps else {}

    def paint(self, id: str, *, compared: bool) -> Case:
        """Return one slice as a case; ``compared`` shows the labelled class's map beside it, on the same scale."""
        record, p, i = self.source.dataset[id], self.source.predictions, self.rows[id]
        withheld, score = p.status[i] == REFUSED, self.scores.get(id)
        shown, mask, placed = self._read(record)
        drawn = [Panel(data_uri(shown), f"{id}: the slice.", "slice")]
        if self.key is not None and self.key in placed:
            other = MapKey(self.key.method, self.key.layer, "true")
            keys = [k for k in (self.key, other) if k in placed] if compared else [self.key]
            top = max(float(np.maximum(placed[k], 0).max()) for k in keys)
            drawn += [self._heat(id, k, placed[k], mask, top) for k in keys]
            drawn.append(self._outlines(id, shown, mask, placed[self.key], score))
        elif mask is not None:
            drawn.append(self._outlines(id, shown, mask, None, score))
        return Case(
            id=id,
            label=p.labels[i],
            predicted=p.predicted_at(i),
            probability=None if withheld else float(p.probabilities[i].max()),
            refused=p.reasons[i] if withheld else "",
            iou=score.iou_p95 if score else None,
            pointing=score.pointing if score else None,
            panels=tuple(drawn),
        )

    def methods(self, id: str, keys: Sequence[MapKey]) -> list[Panel]:
        """Return the slice with its outline, then one heatmap per key, each scaled to its own maximum."""
        shown, mask, placed = self._read(self.source.dataset[id])
        drawn = [self._outlines(id, shown, mask, None, None)]
        for key in keys:
            drawn.append(self._heat(id, key, placed[key], mask, None, METHOD_TITLES.get(key.method, key.method)))
        return drawn

    def _read(
        self, record: Record
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None, dict[MapKey, NDArray[np.float32]]]:
        image = record.read()
        maps, placed = self.source.maps, {}
        if maps is not None and record.id in self.map_rows:
            frame, row = frame_of(image, maps.preprocess), self.map_rows[record.id]
            wanted = {k: a for k, a in maps.arrays.items() if self.key and k.layer == self.key.layer}
            placed = {k: squared(frame.place(a[row]), image.aspect) for k, a in wanted.items()}
        intensity = maps.preprocess.intensity if maps else (0.5, 99.5)
        mask = record.read_mask(image.shape)
        shown = slice_panel(squared(image.pixels, image.aspect), intensity)
        return shown, None if mask is None else squared(mask, image.aspect), placed

    def _heat(
        self, id: str, key: MapKey, placed: NDArray[np.float32], mask: NDArray[np.bool_] | None, top: float | None,
        title: str = "",
    ) -> Panel:  # fmt: skip
        picture = panels.heat_panel(placed, top)
        if mask is not None:
            panels.draw_truth(picture, mask)
        assert self.source.maps is not None, "a heatmap is drawn of maps"
        argued = self.source.maps.explained[key.target][self.map_rows[id]]
        name = METHOD_TITLES.get(key.method, key.method)
        blank = "" if float(placed.max()) > 0 else ", nowhere positive"
        alt = f"{id}: {name} heatmap for {argued}{blank}."
        return Panel(data_uri(picture), alt, (title or f"map for {argued}") + blank)

    def _outlines(
        self, id: str, shown: NDArray[np.uint8], mask: NDArray[np.bool_] | None, placed: NDArray[np.float32] | None,
        score: SliceScore | None,
    ) -> Panel:  # fmt: skip
        picture = shown.copy()
        what = []
        if mask is not None:
            panels.draw_truth(picture, mask)
            what.append("the tumour's outline")
        if placed is not None:
            panels.draw_cut(picture, panels.kept_above(placed))
            if float(placed.max()) > float(placed.min()):
                panels.draw_peak(picture, placed)
            what.append("the outline of the map's highest 5 %")
        overlap = f"; their IoU is {number(score.iou_p95)}" if score is not None else ""
        alt = f"{id}: the slice with {' and '.join(what) or 'no outline'}{overlap}."
        title = {(True, True): "outlines", (False, True): "map cut"}.get(
            (mask is not None, placed is not None), "outline"
        )
        return Panel(data_uri(picture), alt, title)
