"""Where to cut a map, by rules that need no tumour outline, and by one that was learned from other people's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import InputError

OTSU_BINS = 256
LARGEST = "largest"
"""The modifier that keeps one connected component, written behind a rule: ``otsu+largest``."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A family of thresholds: its card, and how it finds a level.

    Attributes:
        name: in the registry and in front of the colon of a threshold's name.
        title: for people.
        formula: which pixels are kept, in plain text; p is the parameter.
        paper: where it comes from; "-" where it is folklore.
        undefined: what a blank map keeps (a map that is not finite keeps nothing under any rule).
        default: the parameter, or None for a rule without one.
        low: the parameter must be at least this.
        high: the parameter must be below this.
        inclusive: whether pixels at the level itself are kept.
        level: (sorted finite float32 values, parameter) -> level, NaN where nothing is kept.
        grid: the parameters among which :func:`learn` searches.
    """

    name: str
    title: str
    formula: str
    paper: str
    undefined: str
    default: float | None
    low: float
    high: float
    inclusive: bool
    level: Callable[[NDArray[np.float32], float], float]
    grid: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What a threshold was learned on, so that nobody takes it for one that needed no outlines.

    Attributes:
        slices: training slices with an outline.
        score: their mean IoU under the chosen rule; optimistic, since it was the reason for the choice.
        tried: among how many rules.
    """

    slices: int
    score: float
    tried: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule with its parameter.

    Attributes:
        rule: the name of one of :data:`RULES`.
        parameter: its number, or None where it has none.
        largest: keep only the largest 8-connected component of what the rule keeps.
        learned: what it was learned on; None for a rule that looked at no outline.
    """

    rule: str
    parameter: float | None = None
    largest: bool = False
    learned: Learned | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"there is no threshold {self.rule!r}: choose from {', '.join(RULES)}")
        rule = RULES[self.rule]
        if (rule.default is None) != (self.parameter is None):
            raise InputError(
                f"threshold {self.rule!r} takes {'no' if rule.default is None else 'a'} number: correct it"
            )
        if self.parameter is not None and not rule.low <= self.parameter < rule.high:
            raise InputError(
                f"threshold {self.rule!r} takes a number from {rule.low:g} to below {rule.high:g}, "
                f"not {self.parameter:g}: correct it"
            )

    @property
    def name(self) -> str:
        """As :func:`find_threshold` reads it, with "learned" in front where it was: ``percentile:95+largest``."""
        number = "" if self.parameter is None else f":{self.parameter:g}"
        return f"{'learned ' if self.learned else ''}{self.rule}{number}{f'+{LARGEST}' if self.largest else ''}"

    def level(self, values: NDArray[np.float32]) -> float:
        """Return where a map is cut, a number of its own float32; NaN where nothing is kept.

        Args:
            values: sorted values of the map, finite.
        """
        with np.errstate(over="ignore"):
            return float(np.float32(RULES[self.rule].level(values, 0.0 if self.parameter is None else self.parameter)))

    def keep(self, placed: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the pixels of a map that are kept.

        Args:
            placed: (H, W) float32 map. One with a value that is not finite keeps nothing.

        Returns:
            (H, W) boolean.
        """
        if not np.isfinite(placed).all():
            return np.zeros(placed.shape, dtype=bool)
        # A fixed value asks nothing of the map; all others want it sorted.
        level = self.level(placed[:0] if self.rule == "value" else np.sort(placed, axis=None))
        # NaN, "keep nothing", compares false with everything
        kept = np.asarray(placed >= level if RULES[self.rule].inclusive else placed > level)
        return largest_component(kept) if self.largest else kept


def percentile_level(values: NDArray[np.float32], q: float) -> float:
    """Return the level above which the same pixels lie as above the q-th percentile (NumPy's, linear).

    The percentile lies between two neighbours in the sorted map and the upper one is above it, so the lower one
    cuts alike; it is exact, and stays so under any monotone change of the map.
    """
    return float(values[percentile_rank(len(values), q)])


def percentile_rank(pixels: int, q: NDArray[np.float64] | float) -> NDArray[np.int64]:
    """Return how many of ``pixels`` sorted values lie below the greatest one that a cut at percentile q leaves out."""
    return np.asarray(np.floor(np.asarray(q) * (pixels - 1) / 100), dtype=np.int64)


def maximum_level(values: NDArray[np.float32], fraction: float) -> float:
    """Return the given fraction of the greatest value; NaN where no value is positive."""
    top = float(values[-1])
    return fraction * top if top > 0 else np.nan


def prominence_level(values: NDArray[np.float32], fraction: float) -> float:
    """Return the level at the given fraction of the way from the median to the greatest value; NaN for a blank map.

    The median stands for the background, which is most of a map; unlike a fraction of the maximum this asks nothing of
    the map's zero, which of logits means little.
    """
    if values[0] == values[-1]:
        return np.nan
    n, top = len(values), float(values[-1])
    median = (float(values[(n - 1) // 2]) + float(values[n // 2])) / 2
    return median + fraction * (top - median)


def otsu_level(values: NDArray[np.float32], _: float = 0.0) -> float:
    """Return the level that maximises the variance between the two classes it makes (Otsu 1979, eq. 18).

    On 256 equal bins from the least to the greatest value; the level is the edge between two bins. NaN for a blank map.
    """
    if values[0] == values[-1]:
        return np.nan
    edges = np.linspace(float(values[0]), float(values[-1]), OTSU_BINS + 1)[1:-1]
    below = np.searchsorted(values, edges, "right").astype(np.float64)
    counts = np.diff(np.r_[0, below, len(values)])
    sums = np.cumsum(counts * np.arange(OTSU_BINS))  # in bins: the variances' order is the same in any unit
    n, total = float(len(values)), sums[-1]
    with_both = (below > 0) & (below < n)
    weight = np.where(with_both, below * (n - below), 1.0)
    between = np.where(with_both, (total * below - n * sums[:-1]) ** 2 / weight, 0.0)
    return float(edges[int(between.argmax())])


def sigma_level(values: NDArray[np.float32], k: float) -> float:
    """Return the mean plus k standard deviations over all pixels; NaN for a blank map, whose mean rounds."""
    if values[0] == values[-1]:
        return np.nan
    exact = values.astype(np.float64)
    return float(exact.mean() + k * exact.std())


def value_level(_: NDArray[np.float32], value: float) -> float:
    """Return the value itself, which means the same in every slice where the map's unit does: a logit, for one."""
    return value


_NOTHING = "a blank map keeps nothing"
RULES: dict[str, Rule] = {
    r.name: r
    for r in (
        Rule(
            "percentile",
            "percentile of the map",
            "values > the p-th percentile",
            "-",
            _NOTHING,
            95.0,
            0.0,
            100.0,
            False,
            percentile_level,
            (80.0, 85.0, 90.0, 92.5, 95.0, 96.0, 97.0, 98.0, 99.0, 99.5),
        ),
        Rule(
            "maximum",
            "fraction of the maximum",
            "values >= p max",
            "Zhou et al. 2016, sec. 3.2 (there 0.2)",
            "a map without a positive value keeps nothing, a blank positive one everything",
            0.5,
            0.0,
            1.0,
            True,
            maximum_level,
            (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        ),
        Rule(
            "prominence",
            "fraction of the peak's prominence over the median",
            "values >= median + p (max - median)",
            "-",
            _NOTHING,
            0.5,
            0.0,
            1.0,
            True,
            prominence_level,
            (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        ),
        Rule(
            "otsu",
            "Otsu's threshold",
            "values > Otsu",
            "Otsu 1979, eq. 18",
            _NOTHING,
            None,
            0,
            0,
            False,
            otsu_level,
            (),
        ),
        Rule(
            "sigma",
            "mean plus standard deviations",
            "values > mean + p standard deviations",
            "-",
            _NOTHING,
            2.0,
            -10.0,
            100.0,
            False,
            sigma_level,
            (0.5, 1.0, 1.5, 2.0, 2.5, 3.0),
        ),
        Rule(
            "value",
            "fixed value",
            "values > p, in the map's own unit",
            "-",
            "a blank map above p keeps everything, any other nothing",
            0.0,
            -1e5,  # below a million %g writes a number without the plus sign that starts a modifier
            1e5,
            False,
            value_level,
            (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0),
        ),
    )
}


def find_threshold(name: str) -> Threshold:
    """Return the threshold of a name such as ``otsu``, ``percentile:97.5`` or ``maximum:0.2+largest``.

    A rule that takes a number and is given none takes its default.

    Raises:
        InputError: an unknown rule, or a number it does not take.
    """
    rule, plus, modifier = name.partition("+")
    rule, colon, number = rule.partition(":")
    if plus and modifier != LARGEST:
        raise InputError(f"threshold {name!r}: {modifier!r} is no modifier: use {LARGEST!r} or none")
    try:
        parameter = float(number) if colon else RULES[rule].default if rule in RULES else None
    except ValueError:
        raise InputError(f"threshold {name!r}: {number!r} is no number: correct it") from None
    return Threshold(rule, parameter, bool(plus))


def list_thresholds() -> list[dict[str, Any]]:
    """Return one JSON-able card per rule."""
    fields = ("name", "title", "formula", "paper", "undefined", "default")
    return [{f: getattr(r, f) for f in fields} for r in RULES.values()]


def candidates(*, largest: bool = False) -> list[Threshold]:
    """Return what :func:`learn` chooses from: every rule of :data:`RULES` at each parameter of its ``grid``."""
    return [Threshold(r.name, p, largest) for r in RULES.values() for p in (r.grid or (None,))]


def learn(
    maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]], *, largest: bool = False
) -> Threshold:
    """Return the rule and parameter with the highest mean IoU on training slices.

    Only for slices of persons that none of the slices to be scored belongs to: the outlines are looked at. Every rule
    of :data:`RULES` is tried at each parameter of its ``grid``; of equals the first wins.

    Args:
        maps: N arrays (H, W) float32, each laid on its mask's grid.
        masks: N arrays (H, W) boolean.
        largest: keep only the largest component, while searching too.

    Returns:
        A threshold whose ``learned`` says on what.

    Raises:
        InputError: no slice on which a threshold can be learned: a finite map, a mask neither empty nor full.
    """
    usable = [
        (placed, mask)
        for placed, mask in zip(maps, masks, strict=True)
        if mask.any() and not mask.all() and np.isfinite(placed).all()
    ]
    if not usable:
        raise InputError("no training slice has a usable map and an outline, so no threshold can be learned")
    tried = candidates(largest=largest)
    scores = [float(np.mean([_overlap(t.keep(placed), mask) for placed, mask in usable])) for t in tried]
    best = int(np.argmax(scores))
    return replace(tried[best], learned=Learned(len(usable), scores[best], len(tried)))


def largest_component(kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 8-connected component; of equals the first from the top. Nothing stays nothing."""
    labels, areas = components(kept)
    return np.asarray(labels == 1 + int(areas.argmax())) if len(areas) else kept


def components(kept: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return (H, W) labels of the 8-connected components, 0 for the background, and the area of each from label 1."""
    labels, _ = ndimage.label(kept, structure=np.ones((3, 3), dtype=bool))
    return labels, np.bincount(labels.ravel())[1:]


def _overlap(kept: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return float((kept & mask).sum() / (kept | mask).sum())
