"""Slices that are not the plain picture of one head: a finding for each, with the figure that gave it away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gyrus.appearance import Appearance, find_faults, measure
from gyrus.appearance.faults import (
    BLANK,
    BLOCKY,
    CLIPPED,
    COLOURED,
    ELONGATED,
    FRAMED,
    INVERTED,
    LETTERBOXED,
    MONTAGE,
    TINY,
    WHITE_RING,
)
from gyrus.errors import InputError
from gyrus.findings import Finding
from gyrus.loading import THREADS, Progress
from gyrus.records import Record

UNREADABLE, ODD_FORMAT = "unreadable", "rare format"

WORRY = {
    UNREADABLE: 1.0,
    BLANK: 0.95,
    MONTAGE: 0.9,
    INVERTED: 0.8,
    WHITE_RING: 0.7,
    COLOURED: 0.6,
    BLOCKY: 0.55,
    TINY: 0.5,
    FRAMED: 0.4,
    CLIPPED: 0.35,
    LETTERBOXED: 0.3,
    ELONGATED: 0.3,
    ODD_FORMAT: 0.25,
}
"""Every kind and the highest score it can have: first what is no slice, then what misleads, then what gives a source
away. The lowest is four fifths of it."""

RARE_SHARE, RARE_OF = 0.05, 20
"""Of a dataset's slices in one file format, and the slices that a dataset must have for it to have a habit."""

_CHUNK = 64


def check_quality(records: Sequence[Record], *, progress: Progress | None = None) -> list[Finding]:
    """Look at every slice once and say what is wrong with the picture, whatever its label.

    The kinds are the keys of :data:`WORRY`; see :func:`gyrus.appearance.find_faults`, and below it the thresholds.

    Args:
        records: slices of one dataset or several, told apart by their ``source``.
        progress: called as slices have been read.

    Returns:
        list[Finding]: worst first, then by id.
    """
    looks: list[Appearance | str] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(records), _CHUNK):
            looks += pool.map(_look, records[start : start + _CHUNK])
            if progress:
                progress("looking at pictures", len(looks), len(records))
    found = [f for record, look in zip(records, looks, strict=True) for f in _judge(record, look)]
    found += _rare_formats(records, looks)
    return sorted(found, key=lambda f: (-f.score, f.slices))


def _look(record: Record) -> Appearance | str:
    try:
        return measure(record.read())
    except InputError as error:
        return str(error)


def _judge(record: Record, look: Appearance | str) -> Iterator[Finding]:
    if isinstance(look, str):
        yield _finding(UNREADABLE, [record], 1, look)
    else:
        for fault in find_faults(look):
            yield _finding(fault.kind, [record], fault.degree, fault.sentence, **fault.facts)


def _rare_formats(records: Sequence[Record], looks: Sequence[Appearance | str]) -> Iterator[Finding]:
    """Yield one finding for each file format that next to no other slice of its dataset has."""
    formats: dict[str, dict[tuple[str, int, int], list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record, look in zip(records, looks, strict=True):
        if isinstance(look, Appearance):
            formats[record.source][look.format, look.bits, look.channels].append(record)
    for source, by_format in formats.items():
        total = sum(len(members) for members in by_format.values())
        usual = _words(max(by_format, key=lambda form: len(by_format[form])))
        for form, members in by_format.items():
            if total >= RARE_OF and len(members) <= RARE_SHARE * total:
                labels = Counter(str(r.label) for r in members)
                sentence = (
                    f"Files of {_words(form)}: {len(members)} of the {total:,} of {source}, where most are of {usual} "
                    f"({', '.join(f'{n} {label}' for label, n in sorted(labels.items()))}): another source, perhaps."
                )
                yield _finding(
                    ODD_FORMAT, members, 1 - len(members) / total, sentence, format=_words(form), labels=dict(labels)
                )


def _words(form: tuple[str, int, int]) -> str:
    name, bits, channels = form
    return f"{name}, {channels} x {bits} bits"


def _finding(kind: str, records: Sequence[Record], degree: float, sentence: str, **facts: Any) -> Finding:
    """Return a finding whose score lies in the upper fifth below its kind's, by a degree in [0, 1]."""
    return Finding(kind, WORRY[kind] * (0.8 + 0.2 * degree), tuple(r.id for r in records), sentence, facts)
