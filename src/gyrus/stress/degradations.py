"""What happens to slices on their way: JPEG, a tilted head, uneven receive coils, noise. Each in growing strength.

All act on pixels as read from a file, before any preprocessing, and are pure: (H, W) float32 in, the same out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.holes import Pixels, Shape
from gyrus.phantom.fields import rician
from gyrus.preprocess import head_outline
from gyrus.stress.fills import background

_ORDER = 3


@dataclass(frozen=True, slots=True)
class Degradation:
    """One kind of degradation.

    Attributes:
        name: in files.
        title: for people.
        said: a strength in words, as a format string.
        strengths: in growing order of harm.
        rule: (pixels, strength, generator) -> pixels.
        turns: whether the outline turns with the picture.
    """

    name: str
    title: str
    said: str
    strengths: tuple[float, ...]
    rule: Callable[[Pixels, float, np.random.Generator], Pixels]
    turns: bool = False


def jpeg(pixels: Pixels, quality: float, _rng: np.random.Generator | None = None) -> Pixels:
    """Store a picture as 8-bit grey JPEG and read it again.

    Args:
        pixels: (H, W) float32; its least value is stored as 0, its greatest as 255. A constant picture stays.
        quality: of libjpeg, 1 to 100.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return pixels.copy()
    grey = np.rint((pixels - low) * (255 / (high - low))).astype(np.uint8)
    done, stored = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    assert done, "OpenCV encodes every 8-bit picture"
    read = np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), dtype=np.float32)
    return np.asarray(read * ((high - low) / 255) + low, dtype=np.float32)


def rotated(pixels: Pixels, degrees: float, _rng: np.random.Generator | None = None) -> Pixels:
    """Turn a picture about its centre, counter-clockwise, bilinearly, on the same canvas.

    Args:
        pixels: (H, W) float32; what is turned in from outside is its background.
        degrees: of the turn.
    """
    return _turned(pixels, degrees, float(background(pixels, head_outline(pixels))))


def rotated_mask(mask: Shape, degrees: float) -> Shape:
    """Turn a mask as :func:`rotated` turns its picture; a pixel is in it where at least half of it is."""
    return np.asarray(_turned(mask.astype(np.float32), degrees, 0.0) >= 0.5)


def biased(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Multiply a picture by a smooth field, as the uneven reception of coils does.

    The field is 1 + strength * f, with f a polynomial of third order in both coordinates (the model of Van Leemput et
    al. 1999) of normally distributed coefficients, shifted and scaled until it runs from -1 to 1 over the head, and
    held at these beyond.

    Args:
        pixels: (H, W) float32; multiplied is what they lie above their least value.
        strength: in [0, 1).
        rng: of the coefficients.
    """
    y, x = (np.linspace(-1, 1, n) for n in pixels.shape)
    powers = [(i, j) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) if i + j > 0]
    weights = rng.standard_normal(len(powers))
    field = np.sum([w * y[:, None] ** i * x**j for w, (i, j) in zip(weights, powers, strict=True)], axis=0)
    over = field[head_outline(pixels)]
    middle, half = (over.max() + over.min()) / 2, (over.max() - over.min()) / 2
    f = np.clip((field - middle) / (half if half > 0 else 1.0), -1, 1)
    low = pixels.min()
    return np.asarray((pixels - low) * (1 + strength * f) + low, dtype=np.float32)


def noisy(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Add Rician noise, that of a magnitude image (Gudbjartsson & Patz 1995).

    Args:
        pixels: (H, W) float32; taken from their least value on.
        strength: sigma of the noise in either channel, as a share of the 99th percentile.
        rng: of the noise.
    """
    low = pixels.min()
    above = pixels - low
    return np.asarray(rician(above, strength * float(np.percentile(above, 99)), rng) + low, dtype=np.float32)


DEGRADATIONS = (
    Degradation("jpeg", "JPEG", "quality {:g}", (90, 50, 20, 10, 5), jpeg),
    Degradation("rotation", "rotation", "{:g} degrees", (5, 10, 20, 45), rotated, turns=True),
    Degradation("bias", "bias field", "strength {:g}", (0.1, 0.3, 0.5), biased),
    Degradation("noise", "Rician noise", "sigma {:g}", (0.02, 0.05, 0.1, 0.2), noisy),
)


def _turned(values: NDArray[np.float32], degrees: float, outside: float) -> NDArray[np.float32]:
    height, width = values.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turned = cv2.warpAffine(
        values, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )
    return np.asarray(turned, dtype=np.float32)
