"""Small numerical parts the phantom is made of: trilinear sampling, periodic noise, soft steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


def soft_step(x: Floats, edge: ArrayLike, width: float) -> Floats:
    """Return 0 well below ``edge``, 1 well above it, and a smoothstep of total length ``width`` between."""
    t = np.clip((x - np.asarray(edge, np.float32)) / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def band(x: Floats, low: ArrayLike, high: ArrayLike, width: float) -> Floats:
    """Return 1 between ``low`` and ``high``, 0 outside, with edges ``width`` wide."""
    return soft_step(x, low, width) - soft_step(x, high, width)


def mix(a: Floats, b: ArrayLike, t: Floats) -> Floats:
    """Return ``a`` where ``t`` is 0, ``b`` where it is 1, and the weighted mean between."""
    return np.asarray(a + (np.asarray(b, np.float32) - a) * t, np.float32)


def trilinear(volume: Floats, coords: Floats, *, wrap: bool = False) -> Floats:
    """Sample all channels of a volume at once.

    One gather of a whole row of channels costs about as much as one of a single value, which is what makes this
    several times faster than a ``map_coordinates`` call per channel.

    Args:
        volume: (X, Y, Z, C) float32.
        coords: (N, 3) voxel coordinates.
        wrap: repeat the volume for ever; otherwise its border values are.

    Returns:
        (N, C) float32.
    """
    nx, ny, nz, channels = volume.shape
    floor = np.floor(coords)
    low = floor.astype(np.int64)
    frac = (coords - floor).astype(np.float32)
    axes = []
    for axis, n in enumerate((nx, ny, nz)):
        a, b = low[:, axis], low[:, axis] + 1
        axes.append((a % n, b % n) if wrap else (np.clip(a, 0, n - 1), np.clip(b, 0, n - 1)))
    flat = volume.reshape(-1, channels)
    out = np.zeros((len(coords), channels), np.float32)
    for i in (0, 1):
        wx = frac[:, 0] if i else 1 - frac[:, 0]
        row = axes[0][i] * ny
        for j in (0, 1):
            wxy = wx * (frac[:, 1] if j else 1 - frac[:, 1])
            line = (row + axes[1][j]) * nz
            for k in (0, 1):
                weight = wxy * (frac[:, 2] if k else 1 - frac[:, 2])
                out += flat.take(line + axes[2][k], axis=0) * weight[:, None]
    return out


def periodic_noise(rng: np.random.Generator, n: int, sigma: float, channels: int) -> Floats:
    """Return (n, n, n, channels) of smooth, unit-variance Gaussian noise that tiles seamlessly.

    Args:
        rng: where the noise comes from.
        n: edge length in voxels.
        sigma: width of the Gaussian it is smoothed with, in voxels.
        channels: how many independent fields.
    """
    freq = np.fft.fftfreq(n)[:, None, None] ** 2 + np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n) ** 2
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * freq)
    transfer[0, 0, 0] = 0
    fields = []
    for _ in range(channels):
        field = np.fft.irfftn(np.fft.rfftn(rng.standard_normal((n, n, n))) * transfer, s=(n, n, n), axes=(0, 1, 2))
        fields.append(field / field.std())
    return np.ascontiguousarray(np.stack(fields, axis=-1), np.float32)


def rician(image: Floats, sigma: float, rng: np.random.Generator) -> Floats:
    """Return the magnitude of a signal with normal noise in its real and its imaginary channel.

    Args:
        image: the magnitude without noise, 0 or more.
        sigma: standard deviation of either channel's noise, in the image's unit.
        rng: of the noise.
    """
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(image + real, imaginary), np.float32)
