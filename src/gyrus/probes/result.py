"""What a probe found, in figures and in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.confusion import rates
from gyrus.intervals import Bootstrap, Interval
from gyrus.probes.features import Probe

MARGIN = 0.02
"""How far above chance the lower end of an interval must lie: the bootstrap does not know that another shuffle of the
folds would have fitted other trees."""

DRIVERS = 4


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How well a probe knows one class.

    Attributes:
        recall: share of the class's slices that it calls so.
        accuracy: share of all slices that it puts on the right side, this class against all others.
        balanced: mean of ``recall`` and of the share of the others that it does not call so; 0.5 by chance.
    """

    recall: Interval
    accuracy: Interval
    balanced: Interval


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found under grouped cross-validation.

    Attributes:
        name: of the probe, a key of ``PROBES``.
        title: for people.
        what: what it sees, as a sentence.
        accuracy: share of slices whose class it names, 95 % interval over groups.
        balanced: mean of the classes' recalls, likewise.
        chance: balanced accuracy of any guess that ignores the slice: 1 / classes.
        majority: accuracy of always naming the most frequent class.
        beats_chance: whether ``balanced.low`` lies more than :data:`MARGIN` above ``chance``.
        sentence: the result in plain words.
        drivers: indices, into the records the probes were given, of the slices it is most surely right about: up to
            four of each class and no two of one group, best-known class first. Empty unless it beats chance.
        per_class: class name -> its figures.
        n: slices it was tested on.
        groups: independent groups of them.
        record_wise: of the nearest neighbour alone: ``balanced``, had groups been torn apart.
        gap: of the nearest neighbour alone: balanced accuracy record-wise minus group-wise, with its interval.
    """

    name: str
    title: str
    what: str
    accuracy: Interval
    balanced: Interval
    chance: float
    majority: float
    beats_chance: bool
    sentence: str
    drivers: tuple[int, ...]
    per_class: Mapping[str, ClassFigures]
    n: int
    groups: int
    record_wise: Interval | None = None
    gap: Interval | None = None

    @property
    def suspicious(self) -> bool:
        """Whether the data are at fault: a nearest neighbour may see anatomy, so for it the gap decides."""
        return self.beats_chance if self.gap is None else self.gap.low > MARGIN


def judge(
    probe: Probe,
    classes: Sequence[str],
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    torn: NDArray[np.float64] | None,
    groups: Sequence[str],
    bootstrap: Bootstrap,
    rows: Sequence[int],
) -> ProbeResult:
    """Return the result of a probe from its scores.

    Args:
        probe: which.
        classes: C names.
        labels: (N,) class indices.
        scores: (N, C), the highest being the guess.
        torn: (N, C) scores record-wise, or None.
        groups: N group names.
        bootstrap: over these groups.
        rows: N indices, the place of each slice among the records given by the caller.
    """
    cells = _cells(labels, scores)
    occurring = cells.sum(axis=(0, 2)) > 0
    balanced = bootstrap.statistic(cells, lambda m: rates(m, occurring)["balanced_accuracy"])
    per_class = {name: _figures(bootstrap, cells, c) for c, name in enumerate(classes)}
    chance = 1 / len(classes)
    beats = bool(balanced.low > chance + MARGIN)
    record_wise = gap = None
    if torn is not None:
        both = np.stack([_cells(labels, torn), cells], axis=1)
        record_wise = bootstrap.statistic(both[:, 0], lambda m: rates(m, occurring)["balanced_accuracy"])
        gap = bootstrap.statistic(both, lambda m: -np.diff(rates(m, occurring)["balanced_accuracy"])[..., 0])
    order = sorted(range(len(classes)), key=lambda c: -per_class[classes[c]].balanced.value)
    best = classes[order[0]]
    words = _sentence(probe, balanced, chance, beats, (best, per_class[best]), len(classes), (record_wise, gap))
    drivers = _drivers(labels, scores, order, groups) if beats else []
    return ProbeResult(
        name=probe.name,
        title=probe.title,
        what=probe.what,
        accuracy=bootstrap.statistic(cells, lambda m: rates(m)["accuracy"]),
        balanced=balanced,
        chance=chance,
        majority=float(np.bincount(labels).max() / len(labels)),
        beats_chance=beats,
        sentence=words,
        drivers=tuple(rows[i] for i in drivers),
        per_class=per_class,
        n=len(labels),
        groups=bootstrap.groups,
        record_wise=record_wise,
        gap=gap,
    )


def _cells(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (N, C, C): each slice's own confusion matrix."""
    n, c = scores.shape
    cells = np.zeros((n, c, c), dtype=np.int64)
    cells[np.arange(n), labels, scores.argmax(axis=1)] = 1
    return cells


def _figures(bootstrap: Bootstrap, cells: NDArray[np.int64], c: int) -> ClassFigures:
    """Return the figures of class c against all others, from the confusion matrices folded to two classes."""
    rest = np.arange(cells.shape[1]) != c
    two = np.stack(
        [
            np.stack([cells[:, c, c], cells[:, c, rest].sum(axis=-1)], axis=-1),
            np.stack([cells[:, rest, c].sum(axis=-1), cells[:, rest][:, :, rest].sum(axis=(-2, -1))], axis=-1),
        ],
        axis=-2,
    )
    return ClassFigures(
        recall=bootstrap.statistic(two, lambda m: rates(m)["recall"][..., 0]),
        accuracy=bootstrap.statistic(two, lambda m: rates(m)["accuracy"]),
        balanced=bootstrap.statistic(two, lambda m: rates(m, two.sum(axis=(0, 2)) > 0)["balanced_accuracy"]),
    )


def _drivers(
    labels: NDArray[np.int64], scores: NDArray[np.float64], order: Sequence[int], groups: Sequence[str]
) -> list[int]:
    """Return the slices most surely right, class by class, each group once."""
    right = scores.argmax(axis=1) == labels
    lead = scores[np.arange(len(labels)), labels]
    chosen: list[int] = []
    used: set[str] = set()
    for c in order:
        rows = np.flatnonzero(right & (labels == c))
        of_class = 0
        for i in rows[np.argsort(-lead[rows], kind="stable")]:
            if of_class < DRIVERS and groups[i] not in used:
                used.add(groups[i])
                chosen.append(int(i))
                of_class += 1
    return chosen


def _sentence(
    probe: Probe,
    balanced: Interval,
    chance: float,
    beats: bool,
    best: tuple[str, ClassFigures],
    classes: int,
    torn: tuple[Interval | None, Interval | None],
) -> str:
    """Return the result in plain words."""
    by_chance = f"(chance {_percent(chance)})"
    record_wise, gap = torn
    if record_wise is not None and gap is not None:
        verdict = "a record-wise split leaks" if gap.low > MARGIN else "no leak is seen"
        return (
            f"The nearest neighbour of {probe.subject} reaches a balanced accuracy of {_percent(record_wise.value)} "
            f"split record by record and of {_range(balanced)} with groups kept together {by_chance}, a gap of "
            f"{_range(gap)}: {verdict}."
        )
    if not beats:
        return f"From {probe.subject} alone the class cannot be told: balanced accuracy {_range(balanced)} {by_chance}."
    name, figures = best
    which = f"accuracy of {_percent(figures.accuracy.value)} (balanced {_percent(figures.balanced.value)})"
    against = f"{name} is told from the rest" if classes > 2 else "the two are told apart"
    return (
        f"From {probe.subject} alone the class is told with a balanced accuracy of {_range(balanced)} {by_chance}; "
        f"{against} with an {which}.{probe.caveat and ' '}{probe.caveat}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(figure: Interval) -> str:
    if figure.low != figure.low:
        return f"{_percent(figure.value)} (of one group, so without an interval)"
    return f"{_percent(figure.value)} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
