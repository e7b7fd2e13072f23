"""From an image to what the network sees, and from the network's grid back to the image.

The specification is saved inside the model and replayed at prediction; the same function prepares training slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.io import Image
from gyrus.io.checks import MAX_PIXELS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_Scalar = TypeVar("_Scalar", bound=np.generic)

_OUTLINE_SIDE = 256
"""The longer side, in pixels, at which a head is outlined; nothing finer matters to a convex outline."""


class Preprocess(BaseModel):
    """How an image of any size and depth becomes a network input.

    Attributes:
        crop: "none" keeps the whole image; "head" cuts to the bounding box of what is brighter than the background.
        background: "keep" leaves what surrounds the head; "blank" makes all outside :func:`head_outline` black, and
            crops to that outline where ``crop`` is "head"; "oval" also blanks what lies outside the ellipse that just
            fits the outline's box.
        margin: how far the crop reaches beyond the head on each side, as a share of the head's height and width.
        fit: "pad" keeps the aspect ratio and pads with black to a square; "stretch" squashes to a square.
        size: side of the square input in pixels.
        intensity: (low, high) percentiles that become 0 and 255, values outside being clipped: of the part of the
            image that is seen, or of the head where the background is blank.
        mean: per channel, of the input scaled to [0, 1]; one value per channel the network takes.
        std: per channel, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "head"] = "none"
    background: Literal["keep", "blank", "oval"] = "keep"
    margin: float = Field(default=0.0, ge=0, le=1)
    fit: Literal["pad", "stretch"] = "pad"
    size: int = Field(default=224, ge=16, le=2048)
    intensity: tuple[float, float] = (0.5, 99.5)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3) or min(self.std) <= 0:
            raise ValueError("mean and std need one value each for 1 or 3 channels, std above 0")
        if not 0 <= self.intensity[0] < self.intensity[1] <= 100:
            raise ValueError("intensity needs two percentiles, the lower first")
        return self

    @classmethod
    def canonical(cls, size: int = 224) -> Self:
        """Return the form that leaves least to learn from but the head itself.

        Every head is seen through the same oval window on the same canvas: its box is stretched to a fixed place within
        a black margin, and all around the oval is black, with it corners, borders, letters, and the size and shape of
        the file's picture. Intensities are scaled between the 1st and 99th percentile inside. What it costs: the
        proportions of the head, and what lies in the corners of its box, such as chin and neck.
        """
        return cls(crop="head", background="oval", margin=0.05, fit="stretch", size=size, intensity=(1, 99))

    @property
    def channels(self) -> int:
        """How many channels the network takes; a grey image is repeated over them."""
        return len(self.mean)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the network's square lies on the image it was cut from, so that maps can be laid back.

    Attributes:
        box: (top, left, bottom, right) in image pixels; may reach beyond the image where it was padded.
        shape: (H, W) of the image.
    """

    box: tuple[int, int, int, int]
    shape: tuple[int, int]

    def crop(self, pixels: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Return the part of an (H, W) image that lies in the box."""
        top, left, bottom, right = self.box
        return pixels[max(top, 0) : min(bottom, self.shape[0]), max(left, 0) : min(right, self.shape[1])]

    def square(self, seen: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Return what :meth:`crop` gave on the network's grid, with 0 where the box reaches beyond the image.

        Args:
            seen: (h, w) float32.
            size: side of the network's input.

        Returns:
            (size, size) float32.
        """
        top, left, bottom, right = self.box
        beyond = (max(-top, 0), max(bottom - self.shape[0], 0), max(-left, 0), max(right - self.shape[1], 0))
        if any(beyond):
            if (bottom - top) * (right - left) > MAX_PIXELS:  # 10 x 30,000 pixels: its square would fill gigabytes
                scale = 4 * size / max(bottom - top, right - left)
                height, width = (max(1, round(side * scale)) for side in seen.shape)
                seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
                beyond = tuple(round(side * scale) for side in beyond)  # type: ignore[assignment]
            seen = cv2.copyMakeBorder(seen, *beyond, cv2.BORDER_CONSTANT, value=0)  # type: ignore[assignment]
        # Averaging over the area when shrinking, since plain bilinear skips pixels and aliases fine texture.
        method = cv2.INTER_AREA if seen.shape[0] > size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(seen, (size, size), interpolation=method), dtype=np.float32)

    def place(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay a map over the image it explains.

        Args:
            grid: (h, w) float32 map over the whole network input.

        Returns:
            (H, W) float32: ``grid`` upsampled bilinearly with half-pixel centres (``align_corners=False``) over the
            box; image pixels outside the box, which the network never saw, get the map's minimum.
        """
        top, left, bottom, right = self.box
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, self.shape[0]), min(right, self.shape[1])
        # One axis after the other and only where there is image: a thin image's box is a huge square.
        rows = _stretched(grid, bottom - top, y0 - top, y1 - top)
        placed = np.full(self.shape, grid.min(), dtype=np.float32)
        placed[y0:y1, x0:x1] = _stretched(rows.T, right - left, x0 - left, x1 - left).T
        return placed

    def cut(self, mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
        """Take an (H, W) mask onto the network's grid.

        Returns:
            (size, size) float32 in [0, 1], the share of each input pixel that is mask; 0 beyond the image.
        """
        shares = self.square(self.crop(mask).astype(np.float32), size)
        return np.asarray(np.clip(shares, 0, 1), dtype=np.float32)  # sums of weights round to just above 1


def frame_of(image: Image, spec: Preprocess) -> Frame:
    """Return the part of the image that the network sees under ``spec``."""
    return _frame(image.shape, _head(image, spec), spec)


def prepare(image: Image, spec: Preprocess) -> NDArray[np.uint8]:
    """Crop, scale the intensity, and resize.

    The result is 8-bit whatever the source, so that a cached training slice and a freshly read one are the same.

    Args:
        image: as read from its file.
        spec: what to do.

    Returns:
        (size, size) uint8. A constant image becomes all zeros.
    """
    return prepare_framed(image, spec)[0]


def prepare_framed(image: Image, spec: Preprocess) -> tuple[NDArray[np.uint8], Frame]:
    """Return what :func:`prepare` and :func:`frame_of` do, the head being looked for once.

    Returns:
        The (size, size) uint8 slice, and where it lies on the image.
    """
    head = _head(image, spec)
    frame = _frame(image.shape, head, spec)
    seen = frame.crop(image.pixels)
    kept = None
    if head is not None and spec.background != "keep":
        kept = frame.crop(head & _oval(head) if spec.background == "oval" else head)
    low, high = np.percentile(seen if kept is None else seen[kept], spec.intensity)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = np.clip((seen - low) * scale, 0, 255).astype(np.float32)
    if kept is not None:
        scaled[~kept] = 0
    return np.asarray(np.rint(frame.square(scaled, spec.size)), dtype=np.uint8), frame


def prepare_all(images: Sequence[Image], spec: Preprocess) -> NDArray[np.uint8]:
    """Return :func:`prepare` of each image, stacked: (N, size, size) uint8."""
    stacked = np.empty((len(images), spec.size, spec.size), dtype=np.uint8)
    for i, image in enumerate(images):
        stacked[i] = prepare(image, spec)
    return stacked


def head_mask(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where the head is: the largest bright object, holes filled.

    Otsu's threshold (Otsu 1979) on the blurred image, halved because scalp and air differ far more than tissue does.

    Args:
        pixels: (H, W) float32 in any unit.

    Returns:
        (H, W) boolean; all True where the image holds no object at all.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.ones(pixels.shape, dtype=bool)
    grey = ((pixels - low) * (255 / (high - low))).astype(np.uint8)
    sigma = max(1.0, min(pixels.shape) / 100)
    blurred = cv2.GaussianBlur(grey, (0, 0), sigma)
    level, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    contours, _ = cv2.findContours((blurred > level / 2).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.ones(pixels.shape, dtype=bool)
    head = np.zeros(pixels.shape, dtype=np.uint8)
    cv2.drawContours(head, [max(contours, key=cv2.contourArea)], 0, 1, thickness=cv2.FILLED)
    return head.astype(bool)


def head_outline(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the inside of a convex line around the head and all its parts: what a blank background keeps.

    Sturdier than :func:`head_mask`, whose outline follows every notch: bright frames and panels around the picture are
    taken off, a white background is taken for black and a grey one into account, small bright things away from the head
    (letters, a scale) are left out, and a scalp that a dark skull parts from the brain is taken in.

    Args:
        pixels: (H, W) float32 in any unit.

    Returns:
        (H, W) boolean, convex; all True where the image holds no object at all.
    """
    scale = min(1.0, _OUTLINE_SIDE / max(pixels.shape))
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (0, 99))  # a few letters are brighter than any head
    if high <= low:
        return np.ones(pixels.shape, dtype=bool)
    grey = np.clip((small - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    top, left, bottom, right = _without_bright_edges(grey)
    hull = _hull(_on_black(grey[top:bottom, left:right]))
    if hull is None:
        return np.ones(pixels.shape, dtype=bool)
    outline = np.zeros(grey.shape, dtype=np.uint8)
    cv2.fillConvexPoly(outline, hull + np.array([left, top], dtype=np.int32), 1)
    full = cv2.resize(outline, pixels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(full, dtype=np.bool_)


def _without_bright_edges(grey: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return the box (top, left, bottom, right) inside any flat bright lines along the four sides."""
    top, left, bottom, right = 0, 0, *grey.shape
    for _ in range(2):  # a panel at the side hides that the row above the picture is flat, until it is taken off
        before, beyond = _bright_edges(grey[top:bottom, left:right])
        top, bottom = top + before, bottom - beyond
        before, beyond = _bright_edges(grey[top:bottom, left:right].T)
        left, right = left + before, right - beyond
    return top, left, bottom, right


def _bright_edges(grey: NDArray[np.uint8]) -> tuple[int, int]:
    """Return how many rows at the top, and at the bottom, are flat up to one that is bright; 0 where all are flat."""
    values = np.sort(grey, axis=1, kind="stable")  # for bytes a radix sort, 20 times as fast as the default
    n = grey.shape[1]
    middle, tail = values[:, n // 2], n // 40
    flat = values[:, n - 1 - tail].astype(int) - values[:, tail] <= 24  # 95 % of the row
    if flat.all():
        return 0, 0
    return _last_bright(middle, flat), _last_bright(middle[::-1], flat[::-1])


def _last_bright(middle: NDArray[np.uint8], flat: NDArray[np.bool_]) -> int:
    bright = np.flatnonzero(middle[: np.argmin(flat)] > 12)
    return int(bright[-1]) + 1 if len(bright) else 0


def _on_black(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture with the white around it made black, where at least three of its corners are white."""
    white = (grey >= 230).astype(np.uint8)
    _, parts = cv2.connectedComponents(white, connectivity=4)
    corners = {int(parts[y, x]) for y in (0, -1) for x in (0, -1)} - {0}
    if sum(int(white[y, x]) for y in (0, -1) for x in (0, -1)) < 3:
        return grey
    return np.where(np.isin(parts, list(corners)), 0, grey).astype(np.uint8)


def _hull(grey: NDArray[np.uint8]) -> NDArray[np.int32] | None:
    """Return the (N, 1, 2) corners x, y of the hull of everything large, or None where there is nothing large."""
    # What is thinner than three pixels goes: strokes of letters, grain, and lines, at the edge too, being set on black.
    smooth = cv2.medianBlur(cv2.copyMakeBorder(grey, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0), 5)[2:-2, 2:-2]
    corners = np.ix_(*((min(3, side - 1), -min(4, side)) for side in grey.shape))  # clear of the black around
    hull, enough = None, 0.0
    for background in (0.0, float(np.median(smooth[corners]))):
        shown = (np.sqrt(np.clip(smooth - background, 0, None) / 255) * 255).astype(np.uint8)
        level, _ = cv2.threshold(shown, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        bright = (shown > min(level, 100)).astype(np.uint8)  # in a close cut Otsu parts the brain from a bright tumour
        joined = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
        contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        # By the area of the hull: an arc of scalp is thin but spans much, a letter is small in both.
        large = [c for c in contours if cv2.contourArea(cv2.convexHull(c)) >= 0.03 * grey.size]
        if large:
            found = cv2.convexHull(np.concatenate(large)).astype(np.int32)
            hull = found if cv2.contourArea(found) >= enough else hull
        if joined[corners].sum() < 3:
            break
        enough = 0.5 * grey.size  # the head lies on grey, or is cut so close that the corners are head
    return hull


def _head(image: Image, spec: Preprocess) -> NDArray[np.bool_] | None:
    """Return where the head is as ``spec`` needs it, or None where it does not."""
    if spec.background != "keep":
        return head_outline(image.pixels)
    return head_mask(image.pixels) if spec.crop == "head" else None


def _frame(shape: tuple[int, int], head: NDArray[np.bool_] | None, spec: Preprocess) -> Frame:
    top, left, bottom, right = 0, 0, *shape
    if head is not None and spec.crop == "head":
        top, left, bottom, right = _box(head)
        more = round(spec.margin * (bottom - top)), round(spec.margin * (right - left))
        top, left, bottom, right = top - more[0], left - more[1], bottom + more[0], right + more[1]
    if spec.fit == "pad":
        height, width = bottom - top, right - left
        side = max(height, width)
        top, left = top - (side - height) // 2, left - (side - width) // 2
        bottom, right = top + side, left + side
    return Frame((top, left, bottom, right), shape)


def _box(head: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _oval(head: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels whose centres lie in the ellipse that just fits the box of ``head``."""
    top, left, bottom, right = _box(head)
    y = (2 * np.arange(head.shape[0]) + 1 - top - bottom) / (bottom - top)
    x = (2 * np.arange(head.shape[1]) + 1 - left - right) / (right - left)
    return np.asarray(y[:, None] ** 2 + x**2 <= 1)


def _stretched(values: NDArray[np.float32], length: int, start: int, stop: int) -> NDArray[np.float32]:
    """Return rows ``start`` to ``stop`` of (h, w) values stretched to ``length`` rows: bilinear, half-pixel centres."""
    last = len(values) - 1
    at = np.clip((np.arange(start, stop) + 0.5) * (len(values) / length) - 0.5, 0, last)
    before = at.astype(np.intp)
    share = (at - before).astype(np.float32)[:, None]
    low, high = values[before], values[np.minimum(before + 1, last)]
    return np.asarray(low + (high - low) * share, dtype=np.float32)  # exact between equal ones
