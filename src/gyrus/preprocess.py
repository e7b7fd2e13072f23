"""From an image to what the network sees, and from the network's grid back to the image.

The specification is saved inside the model and replayed at prediction; the same function prepares training slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.io import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocess(BaseModel):
    """How an image of any size and depth becomes a network input.

    Attributes:
        crop: "none" keeps the whole image; "head" cuts to the bounding box of what is brighter than the background.
        fit: "pad" keeps the aspect ratio and pads with black to a square; "stretch" squashes to a square.
        size: side of the square input in pixels.
        intensity: (low, high) percentiles of the image that become 0 and 255, values outside being clipped.
        mean: per channel, of the input scaled to [0, 1]; one value per channel the network takes.
        std: per channel, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "head"] = "none"
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

    def crop(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the part of an (H, W) image that lies in the box."""
        top, left, bottom, right = self.box
        return pixels[max(top, 0) : min(bottom, self.shape[0]), max(left, 0) : min(right, self.shape[1])]

    def pad(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what :meth:`crop` gave, with black where the box reaches beyond the image."""
        top, left, bottom, right = self.box
        beyond = (max(-top, 0), max(bottom - self.shape[0], 0), max(-left, 0), max(right - self.shape[1], 0))
        if not any(beyond):
            return seen
        return np.asarray(cv2.copyMakeBorder(seen, *beyond, cv2.BORDER_CONSTANT, value=0), dtype=np.float32)

    def place(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay a map over the image it explains.

        Args:
            grid: (h, w) float32 map over the whole network input.

        Returns:
            (H, W) float32: ``grid`` upsampled bilinearly with half-pixel centres (``align_corners=False``) over the
            box; image pixels outside the box, which the network never saw, get the map's minimum.
        """
        top, left, bottom, right = self.box
        over = cv2.resize(grid, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        if self.box == (0, 0, *self.shape):
            return np.asarray(over, dtype=np.float32)
        placed = np.full(self.shape, grid.min(), dtype=np.float32)
        y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, self.shape[0]), min(right, self.shape[1])
        placed[y0:y1, x0:x1] = over[y0 - top : y1 - top, x0 - left : x1 - left]
        return placed

    def cut(self, mask: NDArray[np.bool_], size: int) -> NDArray[np.float32]:
        """Take an (H, W) mask onto the network's grid.

        Returns:
            (size, size) float32 in [0, 1], the share of each input pixel that is mask; 0 beyond the image.
        """
        seen = self.pad(self.crop(mask.astype(np.float32)))
        method = cv2.INTER_AREA if seen.shape[0] > size else cv2.INTER_LINEAR
        shares = cv2.resize(seen, (size, size), interpolation=method)
        return np.asarray(np.clip(shares, 0, 1), dtype=np.float32)  # sums of weights round to just above 1


def frame_of(image: Image, spec: Preprocess) -> Frame:
    """Return the part of the image that the network sees under ``spec``."""
    top, left, bottom, right = _head_box(image.pixels) if spec.crop == "head" else (0, 0, *image.shape)
    if spec.fit == "pad":
        height, width = bottom - top, right - left
        side = max(height, width)
        top, left = top - (side - height) // 2, left - (side - width) // 2
        bottom, right = top + side, left + side
    return Frame((top, left, bottom, right), image.shape)


def prepare(image: Image, spec: Preprocess) -> NDArray[np.uint8]:
    """Crop, scale the intensity, and resize.

    The result is 8-bit whatever the source, so that a cached training slice and a freshly read one are the same.

    Args:
        image: as read from its file.
        spec: what to do.

    Returns:
        (size, size) uint8. A constant image becomes all zeros.
    """
    frame = frame_of(image, spec)
    low, high = np.percentile(frame.crop(image.pixels), spec.intensity)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = frame.pad(np.clip((frame.crop(image.pixels) - low) * scale, 0, 255).astype(np.float32))
    # Averaging over the area when shrinking, since plain bilinear skips pixels and aliases fine texture.
    method = cv2.INTER_AREA if scaled.shape[0] > spec.size else cv2.INTER_LINEAR
    resized = cv2.resize(scaled, (spec.size, spec.size), interpolation=method)
    return np.asarray(np.rint(resized), dtype=np.uint8)


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


def _head_box(pixels: NDArray[np.float32]) -> tuple[int, int, int, int]:
    head = head_mask(pixels)
    rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
