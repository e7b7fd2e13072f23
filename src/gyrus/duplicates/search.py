"""Which slices may be copies of each other: those that share features, laid out alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gyrus.duplicates.sketch import Sketch
from gyrus.duplicates.turns import Turn

if TYPE_CHECKING:
    from gyrus.loading import Progress

NEIGHBOURS = 6
"""Features looked up per feature, itself among them."""
AGREEING = 4
"""Features that must agree on one way to lay a slice before it is compared."""
EXACT = 8_000
"""Up to so many features every one is compared with every one; beyond, an inverted file is searched."""

_TILT = 10.0  # degrees that a feature's orientation may be off a quarter turn
_LARGER = 1.67  # how much larger one thumbnail may show a feature; a crop of 10 % on each side makes 1.25
_LISTS, _VISITED = 2.0, 3  # inverted lists per square root of the features, and how many are searched
_PER_LIST, _ROUNDS = 40, 4  # features per list that the lists are learnt from, and rounds of k-means
_KEPT = 32  # principal components of a descriptor's 128 entries that are compared
_AT_ONCE = 8_192  # features
_TOLERANCE = 2.0  # thumbnail pixels between where a feature lies and where the others say
_UNIT = 50.0  # weight, in pixels squared, of the belief that copies are equally large


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Two slices that may be copies, as features that look the same and are turned alike say.

    Attributes:
        first: index of the one.
        second: index of the other, the larger index.
        turn: what the second must go through to lie like the first.
        here: (k, 4) features of the first, k >= :data:`AGREEING`, as in :class:`gyrus.duplicates.sketch.Sketch`.
        there: (k, 4) those of the second that look the same.
    """

    first: int
    second: int
    turn: Turn
    here: NDArray[np.float32]
    there: NDArray[np.float32]

    def fit(self) -> NDArray[np.float64] | None:
        """Return the affine map, (2, 3), from thumbnail pixels of the first to those of the second that most follow.

        None if fewer than :data:`AGREEING` features follow one. It has a scale and a shift along each axis.
        """
        here, there = self.here.astype(np.float64), self.there.astype(np.float64)
        # Each match alone proposes a scale and a shift; the proposal that most others follow is refined on those.
        scale = (there[:, 2] / here[:, 2])[:, None, None]
        turn = self.turn.matrix
        here, there = here[:, :2], there[:, :2] @ turn.T
        shift = there[:, None] - scale * here[:, None]
        follows = np.abs(scale * here[None] + shift - there[None]).max(axis=2) < 1.5 * _TOLERANCE
        chosen = follows[np.argmax(follows.sum(axis=1))]
        for _ in range(4):
            if chosen.sum() < AGREEING:
                return None
            scales, shifts = _least_squares(here[chosen], there[chosen])
            before, chosen = chosen, np.abs(scales * here + shifts - there).max(axis=1) < _TOLERANCE
            if (before == chosen).all():
                break
        return np.asarray(turn.T @ np.column_stack([np.diag(scales), shifts]))


def candidates(sketches: Sequence[Sketch], progress: Progress | None = None) -> list[Candidate]:
    """Return the pairs that share enough features, each way of turning one of them being a candidate, in a fixed order.

    Every feature is looked up among all features (faiss; the cost grows as N^1.5 with a small constant, and below
    :data:`EXACT` features as N^2 with a smaller one), a feature and its mirror image as one. What is found agrees where
    orientations differ by the same quarter turns.
    """
    if not sum(len(s.descriptors) for s in sketches):
        return []
    points = np.concatenate([s.points for s in sketches])
    owner = np.repeat(np.arange(len(sketches)), [len(s.points) for s in sketches])
    matches = np.concatenate(list(_matches(sketches, owner, points, progress)))
    return list(_grouped(matches, owner, points))


def _matches(
    sketches: Sequence[Sketch], owner: NDArray[np.int64], points: NDArray[np.float32], progress: Progress | None
) -> Iterator[NDArray[np.int64]]:
    """Yield (m, 3): a feature, one that looks the same in a later slice, and whether one must be mirrored for it."""
    descriptors = np.concatenate([s.descriptors for s in sketches])
    flipped = np.concatenate([s.flipped for s in sketches])
    index = _index(descriptors)
    for at in range(0, len(descriptors), _AT_ONCE):
        query = descriptors[at : at + _AT_ONCE]
        asked = np.repeat(np.arange(at, at + len(query)), NEIGHBOURS)
        found = index.search(query.astype(np.float32), NEIGHBOURS)[1].ravel()
        first, second = np.minimum(asked, found), np.maximum(asked, found)
        likely = (first >= 0) & (owner[first] != owner[second])
        first, second = first[likely], second[likely]
        flip = flipped[first] != flipped[second]
        alike = _laid_alike(points[first], points[second], flip)
        yield np.stack([first[alike], second[alike], flip[alike]], axis=1)
        if progress:
            progress("searching", int(owner[at + len(query) - 1]) + 1, len(sketches))


def _index(descriptors: NDArray[np.uint8]) -> Any:
    """Return a faiss index of all features, whose rows are numbered as they come."""
    import faiss

    total = len(descriptors)
    if total <= EXACT:
        index: Any = faiss.IndexScalarQuantizer(128, faiss.ScalarQuantizer.QT_8bit_direct)  # bytes as they are
    else:
        lists = int(_LISTS * total**0.5)
        inverted = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(_KEPT), _KEPT, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, False
        )
        inverted.nprobe, inverted.cp.niter = _VISITED, _ROUNDS
        index = faiss.IndexPreTransform(faiss.PCAMatrix(128, _KEPT), inverted)
        step = max(1, total // (_PER_LIST * lists))
        index.train(descriptors[::step].astype(np.float32))
    for at in range(0, total, _AT_ONCE):
        index.add(descriptors[at : at + _AT_ONCE].astype(np.float32))
    return index


def _laid_alike(one: NDArray[np.float32], other: NDArray[np.float32], flip: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which matches, (m, 4) each, differ by nearly a quarter turn and not much in size."""
    off = _angle(one, other, flip) % 90
    larger = other[:, 2] / one[:, 2]
    return np.asarray((np.minimum(off, 90 - off) < _TILT) & (larger < _LARGER) & (larger > 1 / _LARGER))


def _angle(one: NDArray[np.float32], other: NDArray[np.float32], flip: NDArray[np.bool_]) -> NDArray[Any]:
    """Return by how many degrees, anticlockwise, ``other`` must be turned to lie like ``one``, after mirroring."""
    return np.asarray(np.where(flip, 180 - other[:, 3], other[:, 3]) - one[:, 3])


def _grouped(matches: NDArray[np.int64], owner: NDArray[np.int64], points: NDArray[np.float32]) -> Iterator[Candidate]:
    """Yield those pairs of slices, and turns, that at least :data:`AGREEING` matches have in common."""
    n, slices = len(points), int(owner[-1]) + 1
    packed = np.sort((matches[:, 0] * n + matches[:, 1]) * 2 + matches[:, 2])
    packed = packed[np.diff(packed, prepend=-1) > 0]  # each is found from either end; np.unique takes 14 times as long
    one, other, flip = packed // (2 * n), packed // 2 % n, packed % 2
    quarters = np.rint(_angle(points[one], points[other], flip == 1) / 90).astype(np.int64) % 4
    keys = ((owner[one] * slices + owner[other]) * 2 + flip) * 4 + quarters
    order = np.argsort(keys, kind="stable")
    keys, here, there = keys[order], points[one[order]], points[other[order]]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    ends = np.append(begins[1:], len(keys))
    enough = ends - begins >= AGREEING
    for begin, end in zip(begins[enough], ends[enough], strict=True):
        pair, turned = divmod(int(keys[begin]), 8)
        first, second = divmod(pair, slices)
        yield Candidate(first, second, Turn(turned >= 4, turned % 4), here[begin:end], there[begin:end])


def _least_squares(
    here: NDArray[np.float64], there: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the scale and shift along each axis, (2,) and (2,), the scale drawn towards 1 where points are close."""
    mid, goal = here.mean(axis=0), there.mean(axis=0)
    spread = ((here - mid) ** 2).sum(axis=0)
    scales = (((here - mid) * (there - goal)).sum(axis=0) + _UNIT) / (spread + _UNIT)
    return scales, goal - scales * mid
