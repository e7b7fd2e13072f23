"""Links that hold, and chains that lead from one slice to another one and are cut."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.duplicates.clusters import connected

Map = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Two slices found to be copies.

    Attributes:
        first: index of the one.
        second: index of the other.
        similarity: as compared.
        map: (2, 3) affine, from thumbnail pixels of the first to those of the second.
    """

    first: int
    second: int
    similarity: float
    map: Map


def cut_chains(
    links: Sequence[Link], worth: Sequence[tuple[int, int]], resemble: Callable[[int, int, Map], bool]
) -> list[Link]:
    """Return the links without those by which a cluster would grow beyond what resembles its representative.

    In a volume that was resampled to thin slices each one may pass for a copy of the next, and so the first would be
    joined to the last. Therefore each member of a cluster that is not linked to the representative is compared with
    it, along the maps that lead there; those that do not resemble it leave, with their links among themselves, and are
    looked at again.

    Args:
        links: what was found.
        worth: per slice; the member worth most is the representative, of equals the first.
        resemble: whether two slices look alike under a map from the first to the second.
    """
    kept: list[Link] = []
    waiting = list(_parts(links))
    while waiting:
        part = waiting.pop()
        core = _core(part, worth, resemble)
        kept += [link for link in part if link.first in core and link.second in core]
        waiting += _parts([link for link in part if link.first not in core and link.second not in core])
    return sorted(kept, key=lambda link: (link.first, link.second))


def _parts(links: Sequence[Link]) -> Iterator[list[Link]]:
    """Yield the links of each connected group."""
    group_of = {i: k for k, group in enumerate(connected((n.first, n.second) for n in links)) for i in group}
    parts: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        parts[group_of[link.first]].append(link)
    yield from parts.values()


def _core(
    part: Sequence[Link], worth: Sequence[tuple[int, int]], resemble: Callable[[int, int, Map], bool]
) -> set[int]:
    """Return the representative of a connected group, and what is linked to it or resembles it."""
    onward: dict[int, list[tuple[int, Map]]] = defaultdict(list)
    for link in part:
        there = np.vstack([link.map, (0, 0, 1)])
        onward[link.first].append((link.second, there))
        onward[link.second].append((link.first, np.linalg.inv(there)))
    chief = max(sorted(onward), key=lambda i: worth[i])
    maps = {chief: np.eye(3)}
    reached = deque([chief])
    while reached:
        here = reached.popleft()
        for other, step in onward[here]:
            if other not in maps:
                maps[other] = step @ maps[here]
                reached.append(other)
    linked = {chief, *(other for other, _ in onward[chief])}
    return linked | {i for i, there in maps.items() if i not in linked and resemble(chief, i, there[:2])}
