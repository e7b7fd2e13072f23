"""Pairs of copies, and the clusters they make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Kind = Literal["file", "pixels", "near"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records that show the same slice.

    Attributes:
        first: index of the one.
        second: index of the other, the larger index.
        kind: "file" for the same bytes, "pixels" for the same decoded pixels, "near" for what the comparison says.
        similarity: 1 for the first two; for "near" the windowed correlation after alignment, at least
            :data:`gyrus.duplicates.verify.SIMILAR` and at most 1.
        turn: how the second must be laid to match the first: "as is", "mirrored" (left for right), "turned 90" (180,
            270; anticlockwise), or "mirrored, turned 90": mirrored first, then turned.
    """

    first: int
    second: int
    kind: Kind
    similarity: float
    turn: str


@dataclass(frozen=True, slots=True)
class Copies:
    """Which of n records are copies of which.

    Attributes:
        n: how many records were looked at.
        pairs: by first and second index. Of records with the same bytes or pixels each is paired with the first of
            them only, and that one stands for them in near pairs; so there are not k^2 pairs among k equal files.
        clusters: two or more records each, in the order of their lowest index: whatever pairs connect. The
            representative stands first: the picture with most pixels, of those the one with most bytes, of those the
            first; the others follow by index.
        unreadable: index -> why it could not be read, one sentence; such a record is in no pair.
    """

    n: int
    pairs: tuple[Pair, ...]
    clusters: tuple[tuple[int, ...], ...]
    unreadable: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    def cluster_of(self) -> list[int]:
        """Return a cluster number for every record; one that is in no cluster has a number of its own.

        Clusters are numbered 0, 1, ... in the order of ``clusters``, then the single records in theirs.
        """
        numbers = {i: k for k, members in enumerate(self.clusters) for i in members}
        for i in range(self.n):
            numbers.setdefault(i, len(self.clusters) + len(numbers) - sum(map(len, self.clusters)))
        return [numbers[i] for i in range(self.n)]


def connected(links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that links connect, each sorted, in the order of their lowest member."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    for a, b in links:
        neighbours[a].add(b)
        neighbours[b].add(a)
    groups, seen = [], set[int]()
    for start in sorted(neighbours):
        if start in seen:
            continue
        group, waiting = {start}, [start]
        while waiting:
            new = neighbours[waiting.pop()] - group
            group |= new
            waiting += new
        seen |= group
        groups.append(sorted(group))
    return groups


def clusters_of(pairs: Sequence[Pair], worth: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Join pairs into clusters, the one of most ``worth`` (pixels, bytes) in front."""
    groups = connected((p.first, p.second) for p in pairs)
    best = [max(group, key=lambda i: (*worth[i], -i)) for group in groups]
    return tuple((b, *(i for i in group if i != b)) for b, group in zip(best, groups, strict=True))
