"""The audit's page: what is wrong, in words and tables, and the pictures that show it side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.audit import labels, leaks
from gyrus.audit.examined import Examined
from gyrus.errors import InputError
from gyrus.findings import Finding
from gyrus.page import render, write_page
from gyrus.page.pictures import data_uri, slice_panel, squared
from gyrus.records import Dataset

_TEMPLATE = Path(__file__).parent / "audit.html.j2"
_INTENSITY = (0.5, 99.5)
_MEMBERS = 3
"""Pictures of one cluster that are shown."""
_ROWS = 100
"""Findings in the page's own table; findings.csv has all."""


@dataclass(frozen=True)
class Panel:
    """One small picture.

    Attributes:
        uri: of the picture; None where the slice cannot be read.
        alt: what it shows, for those who do not see it.
        title: printed below it.
    """

    uri: str | None
    alt: str
    title: str


@dataclass(frozen=True)
class Case:
    """A finding with its pictures."""

    finding: Finding
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Gallery:
    """Some findings of one kind; ``total`` is how many there are of it."""

    title: str
    total: int
    cases: tuple[Case, ...]

    @property
    def most(self) -> int:
        """How many pictures the case with most of them has."""
        return max((len(case.panels) for case in self.cases), default=0)


def write_audit_page(target: Path, found: Examined, value: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        target: the file.
        found: by :func:`gyrus.audit.run.examine`.
        value: what ``audit.json`` holds.

    Raises:
        InputError: it cannot be written.
    """
    draw = _Drawer(found.dataset)
    kinds = _by_kind(found.findings)
    pictures = dict(zip((record.id for record in found.dataset), found.copies.cluster_of(), strict=True))
    copied = [draw.gallery(k, _varied(kinds.pop(k, ()))) for k in (leaks.LEAK, leaks.ACROSS, leaks.WITHIN)]
    named = [draw.gallery(k, _distinct(12, kinds.pop(k, ()), pictures)) for k in labels.KINDS]
    content = {
        "value": value,
        "within": _within(found),
        "copied": [g for g in copied if g.total],
        "labelled": [g for g in named if g.total],
        "quality": [draw.gallery(kind, _distinct(8, findings, pictures)) for kind, findings in kinds.items()],
        "driven": list(draw.drivers(value["shortcuts"])),
        "rows": found.findings[:_ROWS],
        "contradiction": labels.CONTRADICTION,
        "label_notes": labels.KINDS,
        "title": " + ".join(d["called"] for d in value["datasets"]),
    }
    write_page(target, render(_TEMPLATE, content))


def _within(found: Examined) -> dict[str, int]:
    """Return, for each dataset, how many slices have a copy in that same dataset."""
    sources = [record.source for record in found.dataset]
    counts = dict.fromkeys(sources, 0)
    for cluster in found.copies.clusters:
        for source, n in Counter(sources[i] for i in cluster).items():
            counts[source] += n if n > 1 else 0
    return counts


def _by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


Chosen = tuple[int, Sequence[Finding]]


def _distinct(n: int, findings: Sequence[Finding], pictures: Mapping[str, int]) -> Chosen:
    """Choose the first n of different pictures; ``pictures`` numbers the slices, copies alike."""
    of_picture: dict[int, Finding] = {}
    for finding in findings:
        of_picture.setdefault(pictures[finding.slices[0]], finding)
    return len(findings), list(of_picture.values())[:n]


def _varied(findings: Sequence[Finding]) -> Chosen:
    """Choose clusters that differ: the least alike first, then those of one file or the same pixels."""
    near = sorted(
        (f for f in findings if f.facts["closest"] == "near"), key=lambda f: float(f.facts["least_similarity"])
    )
    same = [f for f in findings if f.facts["closest"] != "near"]
    return len(findings), [*near[:6], *same[: 8 - min(len(near), 6)]]


class _Drawer:
    """Reads slices for the galleries; one that cannot be read is shown by its name alone."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def gallery(self, title: str, chosen: Chosen) -> Gallery:
        total, findings = chosen
        return Gallery(title, total, tuple(Case(f, self.panels(f.slices)) for f in findings))

    def drivers(
        self, shortcuts: Sequence[Mapping[str, Any]]
    ) -> Iterable[tuple[str, Mapping[str, Any], tuple[Panel, ...]]]:
        """Yield dataset, probe and pictures for each probe that beats chance and has slices to show."""
        for shortcut in shortcuts:
            for row in shortcut["before"]:
                if row["suspicious"] and row["drivers"]:
                    yield shortcut["name"], row, self.panels(row["drivers"], most=8)

    def panels(self, ids: Sequence[str], most: int = _MEMBERS) -> tuple[Panel, ...]:
        return tuple(self.panel(i) for i in ids[:most])

    def panel(self, id: str) -> Panel:
        record = self.dataset[id]
        title = ", ".join(t for t in (record.label, record.subset, record.plane) if t)
        try:
            image = record.read()
            uri: str | None = data_uri(slice_panel(squared(image.pixels, image.aspect), _INTENSITY))
        except InputError:
            uri, title = None, f"{title}, unreadable" if title else "unreadable"
        return Panel(uri, f"The slice {id}.", f"{id}: {title}" if title else id)
