"""Slices that are not the plain picture of one head: a finding for each, with the figure that gave it away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gyrus.audit.appearance import Appearance, appearance
from gyrus.errors import InputError
from gyrus.findings import Finding
from gyrus.loading import THREADS, Progress
from gyrus.records import Record

UNREADABLE, BLANK, MONTAGE, INVERTED = "unreadable", "blank", "montage", "inverted"
WHITE_RING, COLOURED, TINY, FRAMED = "white ring", "coloured", "tiny", "bright frame"
CLIPPED, LETTERBOXED, ELONGATED, ODD_FORMAT = "clipped", "letterboxed", "elongated", "rare format"

WORRY = {
    UNREADABLE: 1.0,
    BLANK: 0.95,
    MONTAGE: 0.9,
    INVERTED: 0.8,
    WHITE_RING: 0.7,
    COLOURED: 0.6,
    TINY: 0.5,
    FRAMED: 0.4,
    CLIPPED: 0.35,
    LETTERBOXED: 0.3,
    ELONGATED: 0.3,
    ODD_FORMAT: 0.25,
}
"""Every kind and the highest score it can have: first what is no slice, then what misleads, then what gives a source
away. The lowest is four fifths of it."""

BLANK_SPAN = 0.03
"""Of full scale: eight grey levels of 255. The flattest of 5,277 real slices spans 0.36."""
BLANK_STRUCTURE = 0.1
"""Of the variance left by a blur: white noise keeps 0.005, the least of 5,277 real slices 0.28."""
TINY_SIDE = 64
"""Pixels: over a head of 24 cm one of them is then more than 3.75 mm, and a small tumour three of them."""
ELONGATED_RATIO = 2.0
"""Longer side to shorter: a head with its neck is 1.4 to 1, a wide screen 1.8 to 1."""
LETTERBOX_BARS, LETTERBOX_RATIO = 0.3, 1.3
"""Of the longer side in flat bars, and the ratio of the sides, which screens and slides exceed: squarer pictures have
black at the sides of a head too."""
INVERTED_CORNER, INVERTED_DARK = 0.6, 0.1
"""Brightness that all corners but one exceed, and the most of the picture that may be dark: on a slice air is, and
fills two fifths of it; on a negative only what was brightest is, a fiftieth. On a dark slice in a white frame both
corners and air are dark, as the frame is taken off first."""
WHITE_SHARE = 0.03
"""Of the pixels at the upper end of the range: an unclipped slice has one in ten thousand there."""
RING_WHITE, RING_ENCLOSED = 0.02, 0.6
"""Of the pixels white, and of the head inside the white line. Between 0.3 and 0.75 there was no real slice."""
COLOURED_SHARE = 0.001
"""Of the pixels: a few letters."""
RARE_SHARE, RARE_OF = 0.05, 20
"""Of a dataset's slices in one file format, and the slices that a dataset must have for it to have a habit."""

_CHUNK = 64


def check_quality(records: Sequence[Record], *, progress: Progress | None = None) -> list[Finding]:
    """Look at every slice once and say what is wrong with the picture, whatever its label.

    The kinds are the keys of :data:`WORRY`; every threshold stands above this function with its reason. A blank slice
    is found blank and nothing else; an inverted one is not also called framed or clipped.

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
        return appearance(record)
    except InputError as error:
        return str(error)


def _judge(record: Record, look: Appearance | str) -> Iterator[Finding]:
    if isinstance(look, str):
        yield _finding(UNREADABLE, [record], 1, look)
    elif look.span < BLANK_SPAN:
        sentence = f"Next to one grey: its pixels span {look.span:.1%} of full scale."
        yield _finding(BLANK, [record], 1, sentence, span=look.span)
    elif look.structure < BLANK_STRUCTURE:
        sentence = f"Noise alone: a blur leaves {look.structure:.1%} of its variance."
        yield _finding(BLANK, [record], 1, sentence, structure=look.structure)
    else:
        yield from _shape(record, look)
        yield from _content(record, look)
        yield from _greys(record, look)


def _shape(record: Record, look: Appearance) -> Iterator[Finding]:
    """Yield what is odd about the picture's size."""
    short, long = min(look.shape), max(look.shape)
    size = f"{look.shape[1]} x {look.shape[0]} pixels"
    if short < TINY_SIDE:
        yield _finding(TINY, [record], 1 - short / TINY_SIDE, f"{size}: too small to show a small tumour.", side=short)
    if long > ELONGATED_RATIO * short:
        ratio = long / short
        sentence = f"{size}: {ratio:.1f} times as long as it is wide, which no head is."
        yield _finding(ELONGATED, [record], 1 - ELONGATED_RATIO / ratio, sentence, ratio=ratio)
    if look.bars >= LETTERBOX_BARS and long >= LETTERBOX_RATIO * short:
        sentence = f"{look.bars:.0%} of its longer side ({size}) is flat bars."
        yield _finding(LETTERBOXED, [record], look.bars, sentence, bars=look.bars)


def _content(record: Record, look: Appearance) -> Iterator[Finding]:
    """Yield what it holds besides, or instead of, one head in grey."""
    across, down = look.panels
    if across * down > 1:
        sentence = f"Several pictures in one: gaps part it into {across} across and {down} down."
        yield _finding(MONTAGE, [record], 1 - 1 / (across * down), sentence, panels=[across, down])
    if look.coloured >= COLOURED_SHARE:
        sentence = (
            f"{look.coloured:.1%} of its pixels are coloured: marks, letters, or the tint of a photographed film."
        )
        yield _finding(COLOURED, [record], min(1, 10 * look.coloured), sentence, share=look.coloured)


def _greys(record: Record, look: Appearance) -> Iterator[Finding]:
    """Yield what is odd about its intensities."""
    if look.corner >= INVERTED_CORNER and look.dark <= INVERTED_DARK:
        sentence = (
            f"White around the head, and only {look.dark:.1%} of the picture is dark: "
            "a negative, or a head cut out onto white."
        )
        yield _finding(INVERTED, [record], look.corner, sentence, corner=look.corner, dark=look.dark)
        return
    if any(look.frame):
        top, bottom, left, right = look.frame
        sentence = f"A bright frame: {top}, {bottom}, {left} and {right} pixels at top, bottom, left and right."
        yield _finding(FRAMED, [record], min(1, max(look.frame) / 20), sentence, frame=list(look.frame))
    if look.white >= RING_WHITE and look.ring >= RING_ENCLOSED:
        sentence = (
            f"A white line encloses {look.ring:.0%} of the head, and {look.white:.1%} of the pixels are white: "
            "bone on CT looks so, and so does fat that was clipped."
        )
        yield _finding(WHITE_RING, [record], min(1, 10 * look.white), sentence, white=look.white, enclosed=look.ring)
    elif look.white >= WHITE_SHARE:
        sentence = f"{look.white:.1%} of its pixels are as bright as can be: what they showed was clipped."
        yield _finding(CLIPPED, [record], min(1, 10 * look.white), sentence, white=look.white)


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
