"""What is drawn over the small pictures of the galleries: a heatmap, two outlines, a peak."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from gyrus.page.pictures import data_uri, fit, placement

TRUTH = (86, 180, 233)
"""Sky blue, drawn solid: where the tumour is (Okabe & Ito 2008, told apart by every colour vision)."""
CUT = (240, 160, 30)
"""Orange, drawn dashed: what is kept of the map."""
COLOURS = "magma"
_DASH, _GAP = 7, 4


def heat_panel(placed: NDArray[np.float32], top: float | None = None) -> NDArray[np.uint8]:
    """Return the positive part of an (H, W) map in colour, (SIDE, SIDE, 3) uint8.

    Args:
        placed: raw map, laid over its slice.
        top: the value drawn brightest; the map's own maximum by default, a common one where maps are compared.
    """
    positive = np.maximum(np.nan_to_num(placed, nan=0.0, posinf=0.0, neginf=0.0), 0)
    scale = float(positive.max()) if top is None else top
    share = fit(np.asarray(positive / scale if scale > 0 else np.zeros_like(positive), dtype=np.float32))
    lut = _colours()
    return np.asarray(lut[np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)])


def draw_truth(panel: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Draw the outline of an (H, W) mask onto a panel, in place."""
    for line in _outlines(mask):
        for width, colour in ((3, (0, 0, 0)), (2, TRUTH)):
            cv2.polylines(panel, [line], isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA)


def draw_cut(panel: NDArray[np.uint8], kept: NDArray[np.bool_]) -> None:
    """Draw the dashed outline of what an (H, W) map keeps onto a panel, in place."""
    for line in _outlines(kept):
        dashes = [line[i : i + _DASH] for i in range(0, len(line), _DASH + _GAP)]
        for width, colour in ((3, (0, 0, 0)), (2, CUT)):
            cv2.polylines(panel, dashes, isClosed=False, color=colour, thickness=width, lineType=cv2.LINE_AA)


def draw_peak(panel: NDArray[np.uint8], placed: NDArray[np.float32]) -> None:
    """Mark the maximum of an (H, W) map by a cross, in place; of several equal ones the first."""
    y, x = np.unravel_index(int(placed.argmax()), placed.shape)
    scale, top, left = placement(placed.shape)
    at = (round(left + (float(x) + 0.5) * scale - 0.5), round(top + (float(y) + 0.5) * scale - 0.5))
    for width, colour in ((3, (0, 0, 0)), (1, (255, 255, 255))):
        cv2.drawMarker(panel, at, colour, cv2.MARKER_CROSS, markerSize=11, thickness=width, line_type=cv2.LINE_AA)


def colour_bar() -> str:
    """Return the colours from 0 to the maximum as a data URI, for the legend."""
    return data_uri(np.repeat(_colours()[None], 10, axis=0))


def kept_above(placed: NDArray[np.float32], percentile: float = 95.0) -> NDArray[np.bool_]:
    """Return the pixels of a map above one of its percentiles; none where it is blank or not finite."""
    if not np.isfinite(placed).all():
        return np.zeros(placed.shape, dtype=bool)
    return np.asarray(placed > np.percentile(placed, percentile))


def _colours() -> NDArray[np.uint8]:
    """Return the (256, 3) uint8 table of the perceptually uniform map that heat is drawn in."""
    return np.asarray(np.rint(matplotlib.colormaps[COLOURS](np.arange(256))[:, :3] * 255), dtype=np.uint8)


def _outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
    """Return the closed outlines of a mask on the panel, every point of them."""
    inside = (fit(mask.astype(np.float32)) >= 0.5).astype(np.uint8)
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(line, dtype=np.int32) for line in lines]
