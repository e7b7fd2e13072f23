"""The planted set: slices of known origin, and for each one altered copy, so that every finding can be checked.

A copy is its source cropped, brightened, resized, mirrored, turned and encoded again, in this order, by amounts that
are drawn from the ranges below. The sources are slices of which no two are the same: those that are
adjacent in one patient are the hard negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.records import Record

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Change:
    """What is done to a source.

    Attributes:
        crop: share of the height or width cut from the top, bottom, left and right.
        gamma: exponent on intensities scaled to [0, 1].
        contrast: factor about mid-grey, after gamma; what leaves the range is clipped.
        scale: of both edges.
        mirrored: left and right exchanged.
        turns: quarter turns, anticlockwise, after mirroring.
        quality: of the JPEG, or None for a PNG.
    """

    crop: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    gamma: float = 1.0
    contrast: float = 1.0
    scale: float = 1.0
    mirrored: bool = False
    turns: int = 0
    quality: int | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the changed copy of an (H, W) slice, before it is encoded."""
        height, width = pixels.shape
        top, bottom, left, right = self.crop
        seen = pixels[round(top * height) : height - round(bottom * height)]
        seen = seen[:, round(left * width) : width - round(right * width)]
        grey = (np.arange(256) / 255) ** self.gamma
        seen = np.clip(np.rint(255 * ((grey - 0.5) * self.contrast + 0.5)), 0, 255).astype(np.uint8)[seen]
        if self.scale != 1:
            shape = (max(1, round(seen.shape[1] * self.scale)), max(1, round(seen.shape[0] * self.scale)))
            how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_CUBIC
            seen = np.asarray(cv2.resize(seen, shape, interpolation=how), dtype=np.uint8)
        return np.ascontiguousarray(np.rot90(seen[:, ::-1] if self.mirrored else seen, self.turns))


def _encoded(rng: np.random.Generator, change: Change) -> Change:
    return replace(change, quality=int(rng.integers(30, 96)))


def _resized(rng: np.random.Generator, change: Change) -> Change:
    return replace(change, scale=float(2 ** rng.uniform(-1, 1)))


def _cropped(rng: np.random.Generator, change: Change) -> Change:
    top, bottom, left, right = rng.uniform(0.02, 0.10, 4)
    return replace(change, crop=(float(top), float(bottom), float(left), float(right)))


def _brightened(rng: np.random.Generator, change: Change) -> Change:
    gamma = 2 ** rng.uniform(np.log2(0.7), np.log2(1.4))
    return replace(change, gamma=float(gamma), contrast=float(rng.uniform(0.8, 1.2)))


def _flipped(rng: np.random.Generator, change: Change) -> Change:
    return replace(change, mirrored=True, turns=2 * int(rng.integers(2)))


def _turned(rng: np.random.Generator, change: Change) -> Change:
    return replace(change, turns=int(rng.integers(1, 4)))


def _laid(rng: np.random.Generator, change: Change) -> Change:
    return replace(change, mirrored=bool(rng.integers(2)), turns=int(rng.integers(4)))


_Step = Callable[[np.random.Generator, Change], Change]
CHANGES: dict[str, tuple[_Step, ...]] = {
    "re-encoded": (_encoded,),
    "gamma, contrast": (_brightened,),
    "resized": (_resized,),
    "cropped": (_cropped,),
    "flipped": (_flipped,),
    "turned": (_turned,),
    "all but flips and turns": (_cropped, _brightened, _resized, _encoded),
    "all at once": (_cropped, _brightened, _resized, _laid, _encoded),
}
"""What each kind of copy goes through: JPEG quality 30-95; gamma 0.7-1.4 and contrast 0.8-1.2; both edges times 0.5-2;
2-10 % off each of the four sides, each its own; left-right or up-down flip; a quarter, half or three-quarter turn."""

UPRIGHT = ("re-encoded", "gamma, contrast", "resized", "cropped", "all but flips and turns")
"""The kinds that leave the picture the way up it was, which is all that methods without flips can be asked for."""


def draw(kind: str, rng: np.random.Generator) -> Change:
    """Return one change of this kind, its amounts drawn uniformly (of gamma and scale, the logarithm)."""
    change = Change()
    for step in CHANGES[kind]:
        change = step(rng, change)
    return change


@dataclass(frozen=True, slots=True)
class Planted:
    """Sources and their copies: ``records[i]`` is a source for i < n, and ``records[n + i]`` its copy.

    Attributes:
        records: 2 n of them.
        kinds: per source, what its copy went through: a key of :data:`CHANGES`.
        groups: per source, the person it shows, or the slice itself where that is unknown.
    """

    records: tuple[Record, ...]
    kinds: tuple[str, ...]
    groups: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many sources there are."""
        return len(self.kinds)


def plant(sources: Sequence[Record], out: Path, *, seed: int = 0) -> Planted:
    """Write sources and copies into ``out``, under names that tell nothing, and return what is what.

    The sources are written as 8-bit PNG, scaled by their largest value, for every method is to read the same files.
    Kinds are dealt in turn, so each has as many copies; the draws of a copy depend on ``seed`` and its number only.
    """
    (out / "sources").mkdir(parents=True)
    (out / "copies").mkdir()
    names = list(CHANGES)

    def write(i: int) -> tuple[Record, Record]:
        pixels = _eight_bits(sources[i])
        source, copy = out / "sources" / f"{i:05d}.png", out / "copies" / f"{i:05d}"
        _save(source, cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])
        change = draw(names[i % len(names)], np.random.default_rng((seed, i)))
        if change.quality is None:
            copy = copy.with_suffix(".png")
            encoded = cv2.imencode(".png", change(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        else:
            copy = copy.with_suffix(".jpg")
            encoded = cv2.imencode(".jpg", change(pixels), [cv2.IMWRITE_JPEG_QUALITY, change.quality])[1]
        _save(copy, encoded)
        return tuple(Record(id=str(p.relative_to(out)), path=p) for p in (source, copy))  # type: ignore[return-value]

    with ThreadPoolExecutor(2) as pool:
        pairs = list(pool.map(write, range(len(sources))))
    return Planted(
        records=(*(s for s, _ in pairs), *(c for _, c in pairs)),
        kinds=tuple(names[i % len(names)] for i in range(len(sources))),
        groups=tuple(f"{r.source}:{r.patient or r.id}" for r in sources),
    )


def _eight_bits(record: Record) -> Pixels:
    pixels = record.read().pixels
    if pixels.max() > 255:
        pixels = pixels * (255 / pixels.max())
    return np.asarray(np.rint(np.maximum(pixels, 0)), dtype=np.uint8)


def _save(path: Path, encoded: NDArray[Any]) -> None:
    path.write_bytes(encoded.tobytes())
