"""From what was seen of slices to predictions: a status and its reason in words, answered, flagged, or refused.

No torch here: what was seen may come from torch or from an exported graph, and is judged alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gyrus.appearance import Fault
from gyrus.appearance.faults import BLANK, BLOCKY, COLOURED, INVERTED, MONTAGE, WHITE_RING
from gyrus.certainty import Calibration
from gyrus.certainty.conformal import prediction_sets
from gyrus.certainty.novelty import Reference
from gyrus.certainty.temperature import softmax
from gyrus.certainty.upright import EDGES, UPRIGHT, Edges, turned
from gyrus.predictions import FLAGGED, OK, REFUSED, UNREADABLE, Certainty, Predictions
from gyrus.preprocess import Frame
from gyrus.records import Record
from gyrus.regions import Region, measure
from gyrus.thresholds import find_threshold, largest_component
from gyrus.words import HEALTHY, SEQUENCES

REFUSES = MappingProxyType({BLANK: 0.0, MONTAGE: 0.0, INVERTED: 0.0, WHITE_RING: 0.0, COLOURED: 1.0, BLOCKY: 0.0})
"""Fault -> the degree from which on it refuses: coloured letters and tinted film do not, a colour photograph does."""
UNLIKELY = 0.5
"""A slice that is less probably of a sequence the model knows tumours on is flagged."""
NOT_FINITE = "The network's numbers are not finite: its weights are damaged, or its training failed."


class Place(NamedTuple):
    """Where the network's square lies on an image, and the image's (row, column) spacing in mm, if known."""

    frame: Frame
    spacing: tuple[float, float] | None


@dataclass(eq=False)
class Observed:
    """What one pass over N slices gave; rows of unreadable ones are NaN, zeros, or empty.

    Attributes:
        logits: (N, C) float32.
        errors: index -> the sentence that says why a slice could not be read.
        features: (N, D) float32 of the last features, averaged over the map; (0, 0) where they were not kept.
        edges: (N, 1728) from :func:`gyrus.certainty.upright.edges`; like what follows, only if asked for.
        faults: of each picture.
        novelty: (N,) the score of a calibrated model.
        sequences: (N, 4) float32, the probability of each of SEQUENCES.
        maps: (N, h, w) float32, raw, of the predicted class; empty where the model has no class map.
        places: of each slice, where the network's square lies on it, and its spacing in mm, if known.
    """

    logits: NDArray[np.float32]
    errors: dict[int, str] = field(default_factory=dict)
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    edges: Edges = field(default_factory=lambda: np.empty((0, EDGES), dtype=np.float16))
    faults: list[tuple[Fault, ...]] = field(default_factory=list)
    novelty: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    sequences: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, len(SEQUENCES)), dtype=np.float32))
    maps: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32))
    places: dict[int, Place] = field(default_factory=dict)

    @classmethod
    def nothing(cls, slices: int, classes: int) -> Observed:
        """Return what is known of slices before they are looked at, for rows to be filled in."""
        return cls(
            np.full((slices, classes), np.nan, dtype=np.float32),
            edges=np.zeros((slices, EDGES), dtype=np.float16),
            faults=[()] * slices,
            novelty=np.full(slices, np.nan),
            sequences=np.full((slices, len(SEQUENCES)), np.nan, dtype=np.float32),
        )

    def keep_maps(self, rows: Sequence[int], maps: NDArray[np.float32]) -> None:
        """Fill in the maps of some rows, (len(rows), h, w)."""
        if not self.maps.size:
            self.maps = np.full((len(self.logits), *maps.shape[1:]), np.nan, dtype=np.float32)
        self.maps[rows] = maps

    @property
    def readable(self) -> list[int]:
        """Indices of the slices that could be read."""
        return [i for i in range(len(self.logits)) if i not in self.errors]


def answers(
    classes: tuple[str, ...],
    records: Sequence[Record],
    seen: Observed,
    calibration: Calibration | None,
    reference: Reference,
    *,
    statement: str = "",
) -> Predictions:
    """Return what is said of slices, judged where the model is calibrated.

    A slice of which the network gives no finite logits is refused, calibrated or not.

    Args:
        classes: C names, in the order of the logits.
        records: N slices.
        seen: of them; with a calibration everything but the features, else the logits and errors alone.
        calibration: of the model, or None.
        reference: what a calibrated model compares with, of which ``upright`` is used.
        statement: the split the slices come from, kept with the result.
    """
    broken = {i for i in seen.readable if not np.isfinite(seen.logits[i]).all()}
    status = [UNREADABLE if i in seen.errors else REFUSED if i in broken else OK for i in range(len(records))]
    reasons = [seen.errors.get(i, NOT_FINITE if i in broken else "") for i in range(len(records))]
    certainty, outlines = None, None
    if calibration is not None:
        sets: list[tuple[str, ...] | None] = [None] * len(records)
        read = [i for i in seen.readable if i not in broken]
        upside_down = turned(reference[UPRIGHT], seen.edges[read])
        members = prediction_sets(softmax(seen.logits[read], calibration.temperature), calibration.least(classes))
        for i, flip, row in zip(read, upside_down, members, strict=True):
            chosen = tuple(c for c, member in zip(classes, row, strict=True) if member)
            predicted = classes[int(seen.logits[i].argmax())]
            status[i], reasons[i] = judge(
                calibration, seen.faults[i], float(seen.novelty[i]), float(flip), seen.sequences[i], chosen, predicted
            )
            sets[i] = None if status[i] == REFUSED else chosen
        temperatures = np.full(len(records), calibration.temperature)
        certainty = Certainty(calibration.coverage, temperatures, seen.novelty, tuple(sets))
        outlines = _outlines(classes, seen, calibration, status)
    return Predictions.of_records(
        classes, records, seen.logits, status, reasons, statement=statement, certainty=certainty, outlines=outlines
    )


def _outlines(
    classes: tuple[str, ...], seen: Observed, calibration: Calibration, status: Sequence[str]
) -> list[dict[str, Any] | None] | None:
    """Return the measures of each answered tumour's outline; None of a model without a cut."""
    if calibration.cut is None:
        return None
    found: list[dict[str, Any] | None] = [None] * len(status)
    for i, place in seen.places.items():
        if status[i] in (OK, FLAGGED) and has_outline(classes[seen.logits[i].argmax()]):
            region = outline(place.frame.place(seen.maps[i]), calibration.cut, place.spacing)
            found[i] = None if region is None else region.summary()
    return found


def has_outline(answered: str | None) -> bool:
    """Whether an answer is a tumour, whose evidence is outlined."""
    return answered not in (None, HEALTHY)


def outline(placed: NDArray[np.float32], cut: str, spacing: tuple[float, float] | None) -> Region | None:
    """Return the largest connected part of a map above its cut, or None where nothing is.

    Args:
        placed: (H, W) class map in logits, its class's bias included, laid over the slice.
        cut: of the calibration.
        spacing: (row, column) in millimetres, or None.
    """
    return measure(largest_component(find_threshold(cut).keep(placed)), spacing)


def refusing_kinds(faults: Sequence[Fault]) -> frozenset[str]:
    """Return the kinds among a picture's faults that could refuse it."""
    return frozenset(f.kind for f in faults if f.kind in REFUSES and f.degree >= REFUSES[f.kind])


def judge(
    calibration: Calibration,
    faults: Sequence[Fault],
    novelty: float,
    turned: float,
    sequences: NDArray[np.float32],
    members: Sequence[str],
    predicted: str,
) -> tuple[str, str]:
    """Return ``(status, reason)`` of one slice.

    "refused": the picture has a fault that refuses, is upside down, or is stranger than the limit. "flagged": it has
    another fault, is of a sequence that the model knows no tumour on, or its set is not the predicted class alone. "ok"
    otherwise, with an empty reason.

    Args:
        calibration: of the model.
        faults: of the picture.
        novelty: its score.
        turned: the log odds that it lies upside down.
        sequences: (4,) the probability of each of SEQUENCES.
        members: the classes in its set.
        predicted: the class of highest probability, which need not be among them: each class has its own threshold.
    """
    refusing = refusing_kinds(faults) & set(calibration.refusing)
    against = [f.sentence for f in faults if f.kind in refusing]
    if turned > calibration.turned_limit:
        against.append("Upside down: its edges run as in a slice the model learned from that is turned by 180 degrees.")
    if not novelty <= calibration.novelty_limit:  # what is no number is refused too
        against.append(
            f"Unlike the slices the model learned from: its {calibration.novelty} score is {novelty:.4g}, "
            f"and the limit {calibration.novelty_limit:.4g}."
        )
    if against:
        return REFUSED, " ".join(against)
    doubts = [f.sentence for f in faults] + _unknown(calibration, sequences)
    doubts += _doubts(calibration, members, predicted)
    return (FLAGGED, " ".join(doubts)) if doubts else (OK, "")


def _unknown(calibration: Calibration, sequences: NDArray[np.float32]) -> list[str]:
    """Return the sentence about a slice of a sequence that the model knows no tumour on."""
    named = dict(zip(SEQUENCES, sequences.tolist(), strict=True))
    if not calibration.sequences or sum(named[s] for s in calibration.sequences) >= UNLIKELY:
        return []
    likely = max(named, key=lambda name: named[name])
    looks = likely if named[likely] > 1 - sum(named.values()) else f"none of {_either(SEQUENCES)}"
    known = _either(calibration.sequences)
    if looks in calibration.sequences:
        return [f"Does not look enough like {known}: the model learned to tell tumours on nothing else."]
    return [f"Looks like {looks}: the model learned to tell tumours on {known} alone, and may miss one here."]


def _doubts(calibration: Calibration, members: Sequence[str], predicted: str) -> list[str]:
    """Return the sentences about a set that is not the predicted class alone."""
    if not members:
        return [f"No class is probable enough to be in its set at a coverage of {100 * calibration.coverage:g}%."]
    *others, last = members
    said = []
    if predicted not in members:
        held = f"{', '.join(others)} and {last}" if others else last
        said.append(
            f"{predicted} is the most probable, but not probable enough to be in its own set, which holds {held}."
        )
    if others:
        said.append(f"{_either(members)}: none can be left out at a coverage of {100 * calibration.coverage:g}%.")
    forced = [c for c in members if c in calibration.always]
    if said and forced:
        said.append(f"Too few persons had {' or '.join(forced)} when the model was calibrated.")
    return [" ".join(said)] if said else []


def _either(names: Sequence[str]) -> str:
    """Return "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
