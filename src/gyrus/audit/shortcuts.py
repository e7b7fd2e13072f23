"""Probes of each dataset and of all together, before and after the canonical form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gyrus.audit.pool import by_source, common_labels
from gyrus.datasets.listing import count
from gyrus.loading import Progress
from gyrus.preprocess import Preprocess
from gyrus.probes import ProbeResult, probe_views, view_records
from gyrus.records import Record

TOGETHER = "all together"


@dataclass(frozen=True)
class Shortcuts:
    """What the probes made of some slices.

    Attributes:
        name: the dataset, or :data:`TOGETHER`.
        members: indices of its labelled slices among those that were probed.
        before: on the files as they are.
        after: on their canonical form.
    """

    name: str
    members: tuple[int, ...]
    before: tuple[ProbeResult, ...]
    after: tuple[ProbeResult, ...]

    @property
    def verdict(self) -> str:
        """The strongest shortcut in words, and how many others there are; empty where there is none."""
        found = sorted((r for r in self.before if r.suspicious), key=lambda r: -r.balanced.value)
        if not found:
            return ""
        others = f" {count(len(found) - 1, 'other probe')} found a shortcut too." if len(found) > 1 else ""
        return f"{self.name[:1].upper()}{self.name[1:]}: {found[0].sentence[:1].lower()}{found[0].sentence[1:]}{others}"

    def to_dict(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return it JSON-able, with ids for indices."""
        return {"name": self.name} | {
            when: [_row(result, [records[self.members[i]].id for i in result.drivers]) for result in results]
            for when, results in (("before", self.before), ("after", self.after))
        }


def find_shortcuts(
    records: Sequence[Record],
    groups: Sequence[str],
    planes: Sequence[str | None],
    sequences: Sequence[str | None] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Shortcuts]:
    """Probe each dataset that has classes, and all of them together where there are several.

    Args:
        records: readable slices of one or several datasets.
        groups: of each, see :func:`gyrus.groups.join_groups`.
        planes: of each; None where unsure.
        sequences: likewise; None where they are not known of any.
        seed: of the cross-validation.
        progress: called as probes are done.
    """
    sources = dict(by_source(records))
    labels: dict[str, Sequence[str | None]] = {name: [r.label for r in records] for name in sources}
    if len(sources) > 1:
        sources[TOGETHER] = list(range(len(records)))
        labels[TOGETHER] = common_labels(records)
    found = []
    views = view_records(records, (None, Preprocess.canonical()), progress) if records else []
    for name, indices in sources.items():
        members = tuple(i for i in indices if labels[name][i] is not None)
        some = [replace(records[i], label=labels[name][i]) for i in members]
        theirs, cut = [groups[i] for i in members], [planes[i] for i in members]
        scanned = None if sequences is None else [sequences[i] for i in members]
        if not _has_classes(some, theirs):
            continue
        before, after = (
            probe_views(seen.select(members, some), theirs, planes=cut, sequences=scanned, seed=seed, progress=progress)
            for seen in views
        )
        found.append(Shortcuts(name, members, tuple(before), tuple(after)))
    return found


def _has_classes(records: Sequence[Record], groups: Sequence[str]) -> bool:
    """Tell whether two classes or more have slices of two groups or more, so that a probe can be tested."""
    pairs = {(r.label, g) for r, g in zip(records, groups, strict=True)}
    return sum(n > 1 for n in Counter(label for label, _ in pairs).values()) > 1


def _row(result: ProbeResult, drivers: list[str]) -> dict[str, Any]:
    return {
        "probe": result.name,
        "title": result.title,
        "accuracy": result.accuracy,
        "balanced": result.balanced,
        "chance": result.chance,
        "suspicious": result.suspicious,
        "record_wise": result.record_wise,
        "sentence": result.sentence,
        "drivers": drivers,
    }
