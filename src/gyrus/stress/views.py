"""One slice in every form that the network is asked about: as it is, filled, and degraded."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gyrus.holes import Pixels, Shape, reach, widened
from gyrus.io import Image
from gyrus.planes import recognise_planes
from gyrus.preprocess import Frame, Preprocess, head_outline, prepare, prepare_framed
from gyrus.records import Record
from gyrus.stress import fills
from gyrus.stress.degradations import DEGRADATIONS, rotated_mask

Fill = tuple[str, str]
"""Where something is filled, and with what."""
Level = tuple[str, float]
"""A degradation's name and its strength."""

CLEAN: Level = ("clean", 0.0)
LEVELS: tuple[Level, ...] = (CLEAN, *((d.name, float(s)) for d in DEGRADATIONS for s in d.strengths))
TUMOUR, HEALTHY, CORNERS = "tumour", "healthy", "corners"
TELEA, TISSUE, BACKGROUND = "telea", "tissue", "background"
FILLS: tuple[Fill, ...] = (
    *((TUMOUR, how) for how in (TELEA, TISSUE)),
    *((HEALTHY, how) for how in (TELEA, TISSUE)),
    (CORNERS, BACKGROUND),
)
NO_OUTLINE, SURROUNDED = "empty outline", "nothing around the tumour"
NO_PLACE, NO_TISSUE, IN_CORNER = "no healthy place of its shape", "no tissue of its shape", "tumour in a corner"
"""Why a fill of a slice is left out."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A picture as the network sees it.

    Attributes:
        slice: (S, S) uint8.
        frame: where it lies on the picture.
        mask: (H, W) tumour on the picture, or None.
    """

    slice: NDArray[np.uint8]
    frame: Frame
    mask: Shape | None


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """The pictures of one slice with something filled.

    Attributes:
        pixels: (H, W) float32 each.
        sources: where the tissue of a fill comes from: "mirror" or "patch".
        missing: why a fill cannot be made.
    """

    pixels: dict[Fill, Pixels] = field(default_factory=dict)
    sources: dict[Fill, str] = field(default_factory=dict)
    missing: dict[Fill, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Everything the network is asked about one slice.

    Attributes:
        record: the slice.
        levels: clean and degraded.
        filled: the same slice with something filled, as the network sees it.
        sources: see :class:`Filled`.
        missing: see :class:`Filled`.
        shown: the clean and the filled pictures themselves, where they are to be shown, and the outline.
    """

    record: Record
    levels: Mapping[Level, View]
    filled: Mapping[Fill, NDArray[np.uint8]]
    sources: Mapping[Fill, str]
    missing: Mapping[Fill, str]
    shown: tuple[Image, Mapping[Fill, Pixels], Shape] | None = None


def view(record: Record, spec: Preprocess, seed: int, *, fill: bool, show: bool = False) -> Views:
    """Read a slice and make every form of it.

    Args:
        record: the slice.
        spec: how the network's input is made, of each form anew: it is what a file of that form would be.
        seed: of every draw; the draws of a slice depend on it and the slice's id alone.
        fill: also fill its tumour; it must have an outline then.
        show: keep the pictures.

    Raises:
        InputError: the slice or its mask cannot be read.
    """
    image = record.read()
    mask = record.read_mask(image.shape)
    levels = {CLEAN: _seen(image, mask, spec)}
    for degradation in DEGRADATIONS:
        for strength in degradation.strengths:
            rng = _generator(
                seed, record, degradation.name
            )  # the same draw for each strength, so that curves are smooth
            changed = replace(image, pixels=degradation.rule(image.pixels, strength, rng))
            there = rotated_mask(mask, strength) if degradation.turns and mask is not None else mask
            levels[degradation.name, float(strength)] = _seen(changed, there, spec)
    if not fill:
        return Views(record, levels, {}, {}, {})
    assert mask is not None, "only slices with an outline are filled"
    found = filled(image, mask, plane=record.plane, rng=_generator(seed, record, "fill"))
    seen = {key: prepare(replace(image, pixels=pixels), spec) for key, pixels in found.pixels.items()}
    shown = (image, found.pixels, mask) if show else None
    return Views(record, levels, seen, found.sources, found.missing, shown)


def filled(image: Image, mask: Shape, *, plane: str | None, rng: np.random.Generator) -> Filled:
    """Return a slice with its tumour, the same shape elsewhere, and its corners filled, each as far as it can be.

    Args:
        image: as read.
        mask: (H, W) boolean, the tumour.
        plane: of the slice; told from its pixels where it is None. A sagittal one has no other side of the head.
        rng: of the healthy place, and of patches.
    """
    found, pixels = Filled(), image.pixels
    if not mask.any():
        found.missing.update(dict.fromkeys(FILLS, NO_OUTLINE))
        return found
    head = head_outline(pixels)
    tumour = widened(mask, reach(image.shape))
    mirror = (plane or recognise_planes([image])[0].plane) != "sagittal"
    elsewhere = fills.healthy(pixels, tumour, head, rng)
    for place, hole in ((TUMOUR, tumour), (HEALTHY, elsewhere)):
        if hole is None:
            found.missing.update({(place, how): NO_PLACE for how in (TELEA, TISSUE)})
            continue
        smeared = fills.telea(pixels, hole, head)
        taken = fills.tissue(pixels, hole, head, tumour, rng, mirror=mirror)
        if smeared is None:
            found.missing[place, TELEA] = SURROUNDED
        else:
            found.pixels[place, TELEA] = smeared
        if taken is None:
            found.missing[place, TISSUE] = NO_TISSUE
        else:
            found.pixels[place, TISSUE], found.sources[place, TISSUE] = taken
    corners = fills.corners(image.shape)
    if (corners & tumour).any():
        found.missing[CORNERS, BACKGROUND] = IN_CORNER
    else:
        found.pixels[CORNERS, BACKGROUND] = fills.blanked(pixels, corners, head)
    return found


def _seen(image: Image, mask: Shape | None, spec: Preprocess) -> View:
    return View(*prepare_framed(image, spec), mask)


def _generator(seed: int, record: Record, what: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{what} {record.id}".encode("utf-8", "surrogateescape"))])
