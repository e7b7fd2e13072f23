"""What one slice looks like, in a dozen numbers: everything :mod:`gyrus.appearance.faults` judges a picture by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.io import Image
from gyrus.preprocess import head_mask

SIDE = 256
"""Longer side, in pixels, of the copy on which everything but edges and extremes is measured."""

_FLAT = 0.025  # of the range along a line that counts as one grey: six levels of 255, what JPEG leaves of a flat bar
_BRIGHT, _EVEN = 0.6, 0.15  # a frame's line: how bright it is at least, and how far its pixels lie apart
_LEAST = 16  # pixels; what a frame leaves of a picture at least
_CORNER = 0.06  # of the shorter side
_DARK = 0.1  # of the range above black
_NEAR_TOP = 0.02  # of the range below the brightest pixel: JPEG blurs a clipped plateau by as much
_RING_BRIGHT = 0.9
_OBJECT = 0.06  # of the range off the background
_GAP = 0.1  # of a line that objects may fill where two panels meet: letters, a scale
_BLOCK = 8  # pixels; of JPEG
_PANEL, _FULL = 0.12, 0.25  # of the picture's side that a panel spans, and of a line that a head fills where widest
_TOGETHER = 0.5  # of the side that panels span together: without skull, a slice of several lobes spans 0.44

Grey = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Appearance:
    """Measurements of one slice; shares are in [0, 1].

    Attributes:
        shape: (H, W) in pixels.
        pixel: (height, width) of one in mm; (1, 1) where it is square, or its size is unknown.
        format: of the file, such as "JPEG".
        bits: per sample.
        channels: as stored.
        span: from the 0.5th to the 99.5th percentile, as a share of 255 (8 bits or fewer) or of the value that one
            pixel in a thousand exceeds.
        structure: the part of the variance that is left when noise is blurred away.
        frame: bright, even lines along the (top, bottom, left, right) edge, in pixels.
        bars: the part of the longer side that lies in flat bars at both of its ends.
        corner: brightness of the second-darkest corner inside the frame, as a share of the range.
        dark: pixels inside the frame in the lowest tenth of the range.
        white: pixels inside the frame at the upper end of the range.
        ring: the part of the head that the largest white line or area encloses.
        panels: (across, down), pictures that gaps tell apart.
        coloured: pixels whose colour channels differ visibly, see :class:`gyrus.io.Image`.
        vivid: those whose channels differ by much, likewise.
        blocks: how much steeper the picture inside the frame is across the borders of a grid of 8 x 8 pixels than
            within its cells: about 1, and more where JPEG has thrown away all that is finer than such a block.
    """

    shape: tuple[int, int]
    pixel: tuple[float, float]
    format: str
    bits: int
    channels: int
    span: float
    structure: float
    frame: tuple[int, int, int, int]
    bars: float
    corner: float
    dark: float
    white: float
    ring: float
    panels: tuple[int, int]
    coloured: float
    vivid: float
    blocks: float


def measure(image: Image) -> Appearance:
    """Measure one slice."""
    pixel = (1.0, 1.0) if image.spacing is None or image.aspect == 1 else image.spacing
    low, high = np.percentile(image.pixels, (0.5, 99.5))
    frame = _frame(_scaled(image.pixels, low, high))
    inner = _inside(image.pixels, frame)
    small = _shrunk(inner)
    grey = _scaled(small, *np.percentile(small, (0.5, 99.5)))
    exact = _scaled(inner, inner.min(), inner.max())
    return Appearance(
        shape=image.shape,
        pixel=pixel,
        format=str(image.meta.get("format")),
        bits=int(image.meta.get("bits", 0)),
        channels=int(image.meta.get("channels", 1)),
        span=_span(image, float(high - low)),
        structure=_structure(small),
        frame=frame,
        bars=_bars(image.pixels, pixel),
        corner=_corner(grey),
        dark=float((grey < _DARK).mean()),
        white=float((exact >= 1 - _NEAR_TOP).mean()),
        ring=_ring(_scaled(small, small.min(), small.max()), small),
        panels=_panels(_scaled(small, small.min(), small.max())),
        coloured=float(image.meta.get("coloured", 0)),
        vivid=float(image.meta.get("vivid", 0)),
        blocks=_blocks(inner),
    )


def _scaled(pixels: Grey, low: float, high: float) -> Grey:
    """Return the pixels with ``low`` at 0 and ``high`` at 1, clipped; all 0 where there is no range."""
    return np.clip((pixels - low) / (high - low), 0, 1, dtype=np.float32) if high > low else np.zeros_like(pixels)


def _shrunk(pixels: Grey) -> Grey:
    scale = SIDE / max(pixels.shape)
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _span(image: Image, span: float) -> float:
    colour = image.meta.get("channels", 1) > 1
    if image.meta.get("bits", 16) <= 8 and (colour or _whole(image.pixels)):  # else the file rescales its bits
        return span / 255
    # Not the greatest value: one hot pixel among 16 bits would make any slice next to one grey.
    full = float(np.percentile(np.abs(image.pixels), 99.9, method="lower"))
    return span / full if full else 0.0


def _whole(pixels: Grey) -> bool:
    return np.array_equal(pixels, np.rint(pixels))


def _structure(small: Grey) -> float:
    """Return var(blurred) / var: near 0 for noise, whose pixels know nothing of each other, and 0 for one grey."""
    variance = float(small.var())
    return float(cv2.GaussianBlur(small, (0, 0), SIDE / 64).var()) / variance if variance else 0.0


def _edges(pixels: Grey, belongs: Callable[[Grey], bool]) -> tuple[int, int, int, int]:
    """Return how many lines from the top, bottom, left and right belong together, at most half of each side's."""
    counts = []
    for lines in (pixels, pixels[::-1], pixels.T, pixels.T[::-1]):
        half = len(lines) // 2
        counts.append(next((i for i in range(half) if not belongs(lines[i])), half))
    return counts[0], counts[1], counts[2], counts[3]


def _frame(grey: Grey) -> tuple[int, int, int, int]:
    def belongs(line: Grey) -> bool:
        low, high = np.percentile(line, (5, 95))
        return bool(low >= _BRIGHT and high - low <= _EVEN)

    return _edges(grey, belongs)


def _inside(pixels: Grey, frame: tuple[int, int, int, int]) -> Grey:
    """Return what the frame leaves, or the whole picture where that is next to nothing."""
    top, bottom, left, right = frame
    inner = pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
    return inner if min(inner.shape) >= _LEAST else pixels


def _bars(pixels: Grey, pixel: tuple[float, float]) -> float:
    height, width = pixels.shape
    wide = width * pixel[1] >= height * pixel[0]
    flat = _FLAT * float(np.ptp(pixels))
    top, bottom, left, right = _edges(pixels, lambda line: bool(np.ptp(line) <= flat))
    return float((left + right) / width if wide else (top + bottom) / height)


def _corner(grey: Grey) -> float:
    """Return the second-darkest corner: letters and a cut-off head fill no more than one."""
    side = max(1, round(min(grey.shape) * _CORNER))
    patches = (grey[:side, :side], grey[:side, -side:], grey[-side:, :side], grey[-side:, -side:])
    return sorted(float(np.median(patch)) for patch in patches)[1]


def _ring(grey: Grey, small: Grey) -> float:
    closed = cv2.morphologyEx((grey >= _RING_BRIGHT).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return 0.0
    enclosed = cv2.drawContours(np.zeros_like(closed), [max(contours, key=cv2.contourArea)], 0, 1, cv2.FILLED)
    return min(1.0, float(enclosed.sum() / head_mask(small).sum()))


def _panels(grey: Grey) -> tuple[int, int]:
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    objects = np.abs(cv2.GaussianBlur(grey, (0, 0), 1) - np.median(edge)) > _OBJECT
    across, down = (objects.mean(axis=axis) * (np.ptp(grey, axis=axis) > _FLAT) for axis in (0, 1))
    return _count_panels(across), _count_panels(down)


def _count_panels(filled: NDArray[np.floating]) -> int:
    """Count the wide and full stretches between gaps, of (n,) shares of a line that objects fill.

    One, where all of them together are small: these are parts of one head.
    """
    is_gap = np.concatenate([[True], filled <= _GAP, [True]])
    starts, ends = np.flatnonzero(is_gap[:-1] & ~is_gap[1:]), np.flatnonzero(~is_gap[:-1] & is_gap[1:])
    panels = [
        (start, end)
        for start, end in zip(starts, ends, strict=True)
        if end - start >= _PANEL * len(filled) and filled[start:end].max() >= _FULL
    ]
    small = bool(panels) and panels[-1][1] - panels[0][0] < _TOGETHER * len(filled)
    return 1 if small else len(panels)


def _blocks(pixels: Grey) -> float:
    """Return the mean step across the borders of 8 x 8 blocks over that within them, wherever the grid starts."""
    steps = [np.abs(np.diff(pixels, axis=axis)).mean(axis=1 - axis) for axis in (0, 1)]
    if min(len(s) for s in steps) < 4 * _BLOCK or not all(s.any() for s in steps):
        return 1.0
    return min(_steepest(s) for s in steps)  # in both directions: an edge of the head lies along one


def _steepest(steps: NDArray[np.floating]) -> float:
    """Return the greatest ratio, over the eight places where a grid can start, of every eighth step to the others.

    What is steep at every second or fourth place as well is no grid of eight but a picture enlarged pixel by pixel.
    """
    sums = np.array([steps[start::_BLOCK].sum() for start in range(_BLOCK)])
    counts = np.array([len(steps[start::_BLOCK]) for start in range(_BLOCK)])
    others = (steps.sum() - sums) / (len(steps) - counts)
    finer = np.roll(sums / counts, _BLOCK // 2)
    return float((sums / counts / np.maximum(np.maximum(others, finer), 1e-9 * steps.max())).max())
