"""Whether two slices are copies: aligned to a fraction of a pixel, then compared window by window."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.duplicates.sketch import Sketch

SIMILAR = 0.97
"""The one threshold: a pair at least this similar is a copy."""
RESEMBLING = 0.9
"""What copies of one slice, each altered in its own way, have in common at least; it joins nothing, it cuts chains."""

_HOPELESS = 0.65  # similarity before the alignment is refined, below which no copy has been seen
_OVERLAP = 0.3  # of the first thumbnail that the second must cover
_STRUCTURED = 0.05  # of the overlap that must show something, so that empty pictures are alike to nothing
_BLUR, _WINDOW = 1.3, 1.5  # standard deviations in thumbnail pixels
_REACH = 3.0  # standard deviations to either side beyond which a Gaussian is cut
_GRAIN = 0.25  # variance that a pixel as wide as 1 adds to a blur: a twelfth by averaging, a sixth by interpolation
_EDGE = 2  # thumbnail pixels along each edge of a picture that are not compared
_FAINT = 1e-3  # variance, white being 1, at which a window counts half
_STEPS, _STILL = 15, 1e-3

Floats = NDArray[np.float32]


def compare(first: Sketch, second: Sketch, start: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Align the second thumbnail with the first and return how similar they are.

    Unless the start is good enough to call them copies, the map is refined by maximising the enhanced correlation
    coefficient (Evangelidis & Psarakis 2008) over the six parameters of an affine map.

    Args:
        first: the one, whose pixel grid is used.
        second: the other.
        start: (2, 3) affine map from pixels of the first to those of the second, right to a few pixels.

    Returns:
        The similarity, at most 1, as :func:`similarity` has it, and the map it was seen under. It is 0 where they
        cannot be compared: too small an overlap, or too little to see in it.
    """
    rough = _similarity_under(first, second, start)
    if rough < _HOPELESS:
        return 0.0, start
    if rough >= SIMILAR:
        return rough, start
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _STILL)
    try:
        _, refined = cv2.findTransformECC(first.thumb, second.thumb, start.astype(np.float32), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # it does not converge, so they are no copies
        return rough, start
    finer = np.asarray(refined, dtype=np.float64)
    fine = _similarity_under(first, second, finer)
    return (fine, finer) if fine > rough else (rough, start)


def similarity(one: Floats, other: Floats, seen: NDArray[np.bool_]) -> float:
    """Return the mean correlation of two pictures over small windows, those that show something.

    Within a window an increasing change of the intensities (gamma, brightness, contrast) is nearly linear, and a
    correlation does not see it; a window without structure has nothing to correlate. With the covariance c and the
    standard deviations s and t of a Gaussian window (of 1.5 px),

        similarity = sum(c / (s t + f)) / sum(s t / (s t + f)),

    which is 1 for equal pictures, about 0 for unrelated ones, and in which a window counts by how far s t is above the
    variance f = 0.001 of what is too faint to tell from noise.

    Args:
        one: (h, w), white being 1.
        other: (h, w), aligned with it.
        seen: (h, w), where both are known.

    Returns:
        In [-1, 1], but 0 if the windows show something in less than a twentieth of ``seen``.
    """
    known = seen.astype(np.float32)
    weight = np.maximum(_smooth(known, _WINDOW), 1e-6)

    def mean(values: Floats) -> Floats:  # of values that are 0 where they are not known
        return np.asarray(_smooth(values, _WINDOW) / weight)

    one, other = one * known, other * known
    a, b = mean(one), mean(other)
    together = mean(one * other) - a * b
    spread = np.sqrt(np.maximum(mean(one * one) - a * a, 0) * np.maximum(mean(other * other) - b * b, 0))
    counted = known / (spread + _FAINT)
    structure = float(np.vdot(spread, counted))
    if structure <= _STRUCTURED * known.sum():
        return 0.0
    return float(np.vdot(together, counted)) / structure


def _similarity_under(first: Sketch, second: Sketch, to_second: NDArray[np.float64]) -> float:
    (a, b), (c, d) = to_second[:, :2].tolist()
    larger = abs(a * d - b * c) ** 0.5
    grains = first.grain, second.grain / larger  # in pixels of the first
    blurs = ((_BLUR**2 + _GRAIN * (max(grains) ** 2 - grain**2)) ** 0.5 for grain in grains)
    one = _smooth(np.float32(1 / 255) * first.thumb, next(blurs))
    other = _smooth(np.float32(1 / 255) * second.thumb, next(blurs) * larger)
    moved = _moved(other, to_second, first, cv2.INTER_LINEAR)
    inside = _moved(_interior(second), to_second, first, cv2.INTER_NEAREST) * _interior(first) > 0
    return similarity(one, moved, inside) if inside.mean() >= _OVERLAP else 0.0


def _moved(picture: Floats, to_second: NDArray[np.float64], first: Sketch, how: int) -> Floats:
    """Lay a picture of the second's size over the first; 0 where it does not reach."""
    height, width = first.thumb.shape
    laid = cv2.warpAffine(picture, to_second.astype(np.float32), (width, height), flags=how | cv2.WARP_INVERSE_MAP)
    return np.asarray(laid, dtype=np.float32)


def _smooth(values: Floats, sigma: float) -> Floats:
    reach = 2 * round(_REACH * sigma) + 1
    return np.asarray(cv2.GaussianBlur(values, (reach, reach), sigma), dtype=np.float32)


def _interior(sketch: Sketch) -> Floats:
    """Return 1 but for the edges, where the blur has reached beyond the picture and a crop differs from its source."""
    inside = np.zeros(sketch.thumb.shape, dtype=np.float32)
    inside[_EDGE:-_EDGE, _EDGE:-_EDGE] = 1
    return inside
