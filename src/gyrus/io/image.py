"""The one value every file format is read into."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

VISIBLE = 0.05
"""Of full scale between a pixel's channels: an eye sees the tint, and compression leaves less in grey pictures."""
VIVID = 0.2
"""Of full scale: more than the tint of photographed film, and less than much of a colour photograph."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A greyscale 2-D image as stored in its file, before any preprocessing.

    Attributes:
        pixels: (H, W) float32, finite, in the file's own units (0..255 for 8-bit, 0..65535 for 16-bit), row 0 on
            top and column 0 on the left *as displayed*: an EXIF orientation has been applied. Colour is reduced to
            luminance (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B).
        spacing: (row, column) distance between pixel centres in millimetres, or None where the file does not say.
        meta: what else the file says: at least ``format``, ``bits`` per sample, ``channels``; ``colour``, the
            largest difference between a pixel's colour channels relative to full scale (0 for a grey image); and
            ``coloured`` and ``vivid``, the shares of pixels whose channels differ by more than :data:`VISIBLE` and
            :data:`VIVID`.
    """

    pixels: NDArray[np.float32]
    spacing: tuple[float, float] | None = None
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise TypeError(f"Image.pixels must be (H, W) float32, not {self.pixels.shape} {self.pixels.dtype}")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def aspect(self) -> float:
        """Height of a pixel over its width: 1 where the spacing is not known, or equal but for rounding."""
        if self.spacing is None or math.isclose(*self.spacing, rel_tol=1e-3):
            return 1.0
        return self.spacing[0] / self.spacing[1]
