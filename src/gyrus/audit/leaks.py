"""What copies mean: test images that were trained on, datasets that repeat one another, slices counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gyrus.duplicates import Copies, Pair
from gyrus.duplicates.clusters import connected
from gyrus.findings import Finding
from gyrus.records import Dataset

LEAK, ACROSS, WITHIN = "copy across a split", "copy across datasets", "copy within a dataset"
_SCORE = {LEAK: 1.0, ACROSS: 0.7, WITHIN: 0.4}
_CLOSER = ("file", "pixels", "near")
_WORDS = {"file": "the same file", "pixels": "the same pixels", "near": "a near-duplicate"}


@dataclass(frozen=True)
class Leak:
    """How much of one split's test part was there to train on.

    Attributes:
        split: its title.
        n: test slices.
        by_kind: "file", "pixels", "near" -> test slices whose closest copy in train or val is of that kind.
    """

    split: str
    n: int
    by_kind: Mapping[str, int]

    @property
    def repeated(self) -> int:
        """Test slices with any copy in train or val."""
        return sum(self.by_kind.values())

    @property
    def sentence(self) -> str:
        """The leak in plain words."""
        if not self.repeated:
            return f"No test slice of {self.split} repeats a training slice ({self.n:,} compared)."
        how = ", ".join(f"{self.by_kind[k]:,} as {_WORDS[k]}" for k in _CLOSER if self.by_kind.get(k))
        amount = f"All {self.n:,}" if self.repeated == self.n else f"{self.repeated:,} of the {self.n:,}"
        return f"{amount} test slices of {self.split} repeat a training slice: {how}."


def find_leaks(dataset: Dataset, copies: Copies, parts: Mapping[str, Mapping[str, str]]) -> list[Leak]:
    """Count, for each split, the test slices that repeat one of train or val, by their closest copy there."""
    ids = [r.id for r in dataset]
    # What is the same file as a third slice is the same file as its copies: closeness goes through chains.
    links = {
        kind: [(p.first, p.second) for p in copies.pairs if p.kind in _CLOSER[: i + 1]]
        for i, kind in enumerate(_CLOSER)
    }
    alike = {kind: connected(pairs) for kind, pairs in links.items()}
    found = []
    for title, part in parts.items():
        closest: dict[int, str] = {}
        for kind, sets in alike.items():
            for members in sets:
                if any(part.get(ids[i]) in ("train", "val") for i in members):
                    for i in members:
                        if part.get(ids[i]) == "test":
                            closest.setdefault(i, kind)
        n = sum(p == "test" for p in part.values())
        found.append(Leak(title, n, {k: v for k in _CLOSER if (v := sum(c == k for c in closest.values()))}))
    return found


def overlaps(dataset: Dataset, copies: Copies) -> list[dict[str, Any]]:
    """Count, for each ordered pair of datasets, the slices of one that repeat slices of the other, by label."""
    sizes = Counter(r.source for r in dataset)
    repeated: dict[tuple[str, str], set[int]] = {(a, b): set() for a in sizes for b in sizes if a != b}
    for cluster in copies.clusters:
        sources = {dataset.records[i].source for i in cluster}
        for i in cluster:
            for other in sources - {dataset.records[i].source}:
                repeated[dataset.records[i].source, other].add(i)
    return [
        {
            "of": a,
            "n": sizes[a],
            "in": b,
            "repeated": len(members),
            "by_label": dict(sorted(Counter(str(dataset.records[i].label) for i in members).items())),
        }
        for (a, b), members in repeated.items()
    ]


def copy_findings(dataset: Dataset, copies: Copies, parts: Mapping[str, Mapping[str, str]]) -> list[Finding]:
    """Return one finding per cluster of copies: what it crosses, and how like its members are."""
    best: dict[int, Pair] = {}
    for pair in copies.pairs:
        for i in (pair.first, pair.second):
            if i not in best or _rank(pair) < _rank(best[i]):
                best[i] = pair
    return [_cluster_finding(dataset, cluster, best, parts) for cluster in copies.clusters]


def _cluster_finding(
    dataset: Dataset, cluster: tuple[int, ...], best: Mapping[int, Pair], parts: Mapping[str, Mapping[str, str]]
) -> Finding:
    members = [dataset.records[i] for i in cluster]
    crossed = [t for t, part in parts.items() if _crosses(part.get(r.id) for r in members)]
    sources = sorted({r.source for r in members})
    kind = LEAK if crossed else ACROSS if len(sources) > 1 else WITHIN
    pairs = [best[i] for i in cluster]
    closest = min(pairs, key=_rank)
    like = min(p.similarity for p in pairs)
    where = f"crosses {' and '.join(crossed)}" if crossed else f"is in {' and '.join(sources)}"
    return Finding(
        kind=kind,
        score=_SCORE[kind] - 0.1 * _CLOSER.index(closest.kind) / 2,
        slices=tuple(r.id for r in members),
        sentence=f"One picture {len(members)} times, at the closest {_WORDS[closest.kind]}; it {where}.",
        facts={
            "closest": closest.kind,
            "least_similarity": round(like, 4),  # of each member to the one it is most like
            "turns": sorted({p.turn for p in pairs}),
            "labels": sorted({str(r.label) for r in members}),
        },
    )


def _crosses(sides: Iterable[str | None]) -> bool:
    met = set(sides)
    return "test" in met and bool(met & {"train", "val"})


def _rank(pair: Pair) -> tuple[int, float]:
    return _CLOSER.index(pair.kind), -pair.similarity
