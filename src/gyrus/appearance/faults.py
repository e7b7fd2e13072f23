"""What is wrong with one picture: a sentence for each fault, with the figure that gave it away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gyrus.appearance.measures import Appearance

BLANK, MONTAGE, INVERTED, WHITE_RING = "blank", "montage", "inverted", "white ring"
COLOURED, BLOCKY, TINY, FRAMED = "coloured", "blocky", "tiny", "bright frame"
CLIPPED, LETTERBOXED, ELONGATED = "clipped", "letterboxed", "elongated"
FAULTS = (
    *(BLANK, MONTAGE, INVERTED, WHITE_RING, COLOURED, BLOCKY),
    *(TINY, FRAMED, CLIPPED, LETTERBOXED, ELONGATED),
)

BLANK_SPAN = 0.03
"""Of full scale: eight grey levels of 255. The flattest of 5,277 real slices spans 0.36."""
BLANK_STRUCTURE = 0.1
"""Of the variance left by a blur: white noise keeps 0.005, the least of 5,277 real slices 0.28."""
TINY_SIDE = 64
"""Pixels: over a head of 24 cm one of them is then more than 3.75 mm, and a small tumour three of them."""
ELONGATED_RATIO = 2.0
"""Longer side to shorter, in mm where pixels are known not to be square: a head with its neck is 1.4 to 1, a wide
screen 1.8 to 1."""
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
PICTURE_SHARE = 0.05
"""Of the pixels vivid: the least of eight colour photographs has 0.15, the three of film in navoneel have none."""
BLOCKY_RATIO = 2.0
"""Of steps across the borders of 8 x 8 blocks to others: the greatest of 5,277 real slices, most of them JPEGs, is
1.73, and saved again at quality 5 nearly all of them exceed 2."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is odd about a picture.

    Attributes:
        kind: one of :data:`FAULTS`.
        degree: in [0, 1], how far beyond its threshold.
        sentence: what was seen, in plain words, with the figures that made it a fault.
        facts: those figures by name, JSON-able.
    """

    kind: str
    degree: float
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def find_faults(look: Appearance) -> tuple[Fault, ...]:
    """Return what is wrong with a picture, whatever it shows; every threshold stands above with its reason.

    A blank one is found blank and nothing else; an inverted one is not also called framed or clipped.
    """
    if look.span < BLANK_SPAN:
        sentence = f"Next to one grey: its pixels span {look.span:.1%} of full scale."
        return (Fault(BLANK, 1, sentence, {"span": look.span}),)
    if look.structure < BLANK_STRUCTURE:
        sentence = f"Noise alone: a blur leaves {look.structure:.1%} of its variance."
        return (Fault(BLANK, 1, sentence, {"structure": look.structure}),)
    return (*_shape(look), *_content(look), *_greys(look))


def _shape(look: Appearance) -> Iterator[Fault]:
    """Yield what is odd about the picture's size."""
    short, long = min(look.shape), max(look.shape)
    height, width = look.pixel
    size = f"{look.shape[1]} x {look.shape[0]} pixels"
    size += "" if height == width else f" of {width:.3g} x {height:.3g} mm"
    if short < TINY_SIDE:
        yield Fault(TINY, 1 - short / TINY_SIDE, f"{size}: too small to show a small tumour.", {"side": short})
    narrow, wide = sorted((look.shape[0] * height, look.shape[1] * width))
    if wide > ELONGATED_RATIO * narrow:
        ratio = wide / narrow
        sentence = f"{size}: {ratio:.1f} times as long as it is wide, which no head is."
        yield Fault(ELONGATED, 1 - ELONGATED_RATIO / ratio, sentence, {"ratio": ratio})
    elif long > ELONGATED_RATIO * short:  # the head may be as it should, but a model is shown pixels
        ratio = long / short
        sentence = f"{size}: pixel by pixel it is {ratio:.1f} times as long as wide, which no head is."
        yield Fault(ELONGATED, 1 - ELONGATED_RATIO / ratio, sentence, {"ratio": ratio})
    if look.bars >= LETTERBOX_BARS and wide >= LETTERBOX_RATIO * narrow:
        sentence = f"{look.bars:.0%} of its longer side ({size}) is flat bars."
        yield Fault(LETTERBOXED, look.bars, sentence, {"bars": look.bars})


def _content(look: Appearance) -> Iterator[Fault]:
    """Yield what it holds besides, or instead of, one head in grey."""
    across, down = look.panels
    if across * down > 1:
        sentence = f"Several pictures in one: gaps part it into {across} across and {down} down."
        yield Fault(MONTAGE, 1 - 1 / (across * down), sentence, {"panels": [across, down]})
    if look.coloured >= COLOURED_SHARE:
        what = ": marks, letters, or the tint of a photographed film."
        if look.vivid >= PICTURE_SHARE:
            what = f", {look.vivid:.1%} strongly: a colour picture, or one painted over."
        degree = min(1, max(look.coloured / 2, look.vivid / PICTURE_SHARE))
        facts = {"share": look.coloured, "vivid": look.vivid}
        yield Fault(COLOURED, degree, f"{look.coloured:.1%} of its pixels are coloured{what}", facts)
    if look.blocks >= BLOCKY_RATIO:
        sentence = (
            f"Steps at the borders of 8 x 8 pixels are {look.blocks:.1f} times those within: JPEG so coarse that only "
            "its blocks are left."
        )
        yield Fault(BLOCKY, min(1, look.blocks / 10), sentence, {"ratio": look.blocks})


def _greys(look: Appearance) -> Iterator[Fault]:
    """Yield what is odd about its intensities."""
    if look.corner >= INVERTED_CORNER and look.dark <= INVERTED_DARK:
        sentence = (
            f"White around the head, and only {look.dark:.1%} of the picture is dark: "
            "a negative, or a head cut out onto white."
        )
        yield Fault(INVERTED, look.corner, sentence, {"corner": look.corner, "dark": look.dark})
        return
    if any(look.frame):
        top, bottom, left, right = look.frame
        sentence = f"A bright frame: {top}, {bottom}, {left} and {right} pixels at top, bottom, left and right."
        yield Fault(FRAMED, min(1, max(look.frame) / 20), sentence, {"frame": list(look.frame)})
    if look.white >= RING_WHITE and look.ring >= RING_ENCLOSED:
        sentence = (
            f"A white line encloses {look.ring:.0%} of the head, and {look.white:.1%} of the pixels are white: "
            "bone on CT looks so, and so does fat that was clipped."
        )
        yield Fault(WHITE_RING, min(1, 10 * look.white), sentence, {"white": look.white, "enclosed": look.ring})
    elif look.white >= WHITE_SHARE:
        sentence = f"{look.white:.1%} of its pixels are as bright as can be: what they showed was clipped."
        yield Fault(CLIPPED, min(1, 10 * look.white), sentence, {"white": look.white})
