"""Small pictures of slices, as data URIs that a page carries inside."""

from __future__ import annotations

import base64
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", np.float32, np.bool_)
SIDE = 220
"""Side of a panel in pixels."""


def slice_panel(pixels: NDArray[np.float32], intensity: tuple[float, float]) -> NDArray[np.uint8]:
    """Return an (H, W) slice as (SIDE, SIDE, 3) uint8: the percentiles ``intensity`` become black and white."""
    low, high = np.percentile(pixels, intensity)
    grey = np.clip((pixels - low) / (high - low if high > low else 1.0), 0, 1).astype(np.float32)
    square = np.rint(np.clip(fit(grey, cv2.INTER_CUBIC), 0, 1) * 255).astype(np.uint8)
    return np.repeat(square[:, :, None], 3, axis=2)


def squared(pixels: NDArray[Value], aspect: float) -> NDArray[Value]:
    """Return an (H, W) slice, map or mask, enlarged along one axis so that its pixels are as high as they are wide.

    Args:
        pixels: what is to be drawn.
        aspect: height of its pixels over their width, as :attr:`gyrus.Image.aspect` has it.

    Returns:
        Of the same type, (aspect * H, W) or (H, W / aspect), whichever is larger.
    """
    if aspect == 1:
        return pixels
    rows, columns = pixels.shape
    size = (columns, round(rows * aspect)) if aspect > 1 else (round(columns / aspect), rows)
    larger = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return (larger >= 0.5 if pixels.dtype == np.bool_ else larger).astype(pixels.dtype)


def data_uri(panel: NDArray[np.uint8]) -> str:
    """Return an (H, W, 3) RGB picture as a PNG data URI; a grey one is stored as grey."""
    grey = bool((panel == panel[:, :, :1]).all())
    stored = panel[:, :, 0] if grey else cv2.cvtColor(panel, cv2.COLOR_RGB2BGR)
    done, png = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done, "OpenCV encodes every 8-bit picture"
    return png_uri(png.tobytes())


def png_uri(png: bytes) -> str:
    """Return the content of a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def placement(shape: tuple[int, ...]) -> tuple[float, int, int]:
    """Return the scale, top and left at which an (H, W) picture stands in the middle of its square."""
    scale = SIDE / max(shape)
    height, width = (max(1, round(n * scale)) for n in shape)
    return scale, (SIDE - height) // 2, (SIDE - width) // 2


def fit(pixels: NDArray[np.float32], enlarge: int = cv2.INTER_LINEAR) -> NDArray[np.float32]:
    """Resize to fit the square, with black beside it where the slice is not square; bilinear never overshoots."""
    scale, top, left = placement(pixels.shape)
    height, width = (max(1, round(n * scale)) for n in pixels.shape)
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else enlarge)
    square = np.zeros((SIDE, SIDE), dtype=np.float32)
    square[top : top + height, left : left + width] = resized
    return square
