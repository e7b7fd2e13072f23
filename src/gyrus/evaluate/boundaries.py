"""What a thresholded map keeps against the tumour: overlap, distances between boundaries in mm, lesions found.

The distances are MONAI's to the last digit, on SciPy's k-d tree: MONAI is an extra that this needs nothing else of.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from gyrus.evaluate.cards import Card
from gyrus.thresholds import components

TOLERANCE_MM = 2.0
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)

CARDS = (
    Card("iou", "boundary", "IoU", "|K & M| / |K | M|", "Jaccard 1912", "0 where nothing is kept"),
    Card("dice", "boundary", "Dice", "2 |K & M| / (|K| + |M|)", "Dice 1945", "0 where nothing is kept"),
    Card(
        "hausdorff95",
        "boundary",
        "95 % Hausdorff distance in mm",
        "max(P95 of d(bK, bM), P95 of d(bM, bK)), b the pixels with a 4-neighbour outside",
        "Huttenlocher et al. 1993, eq. 5, at 95 %",
        "the image's diagonal where nothing is kept; NaN where the spacing is not known",
        high=None,
        better="lower",
    ),
    Card(
        "surface_dice_2mm",
        "boundary",
        "Surface Dice at 2 mm",
        "share of the pixels of bK and bM that lie within 2 mm of the other boundary",
        "Nikolov et al. 2021",
        "0 where nothing is kept; NaN where the spacing is not known",
    ),
    Card(
        "lesion_hits",
        "boundary",
        "Lesion-wise hit rate",
        "share of the 8-connected parts of M that K touches",
        "Lesion-wise sensitivity, Commowick et al. 2018",
        "0 where nothing is kept, 1 where all is: read it beside the IoU",
    ),
)


def score_kept(
    kept: NDArray[np.bool_], mask: NDArray[np.bool_], spacing: tuple[float, float] | None = None
) -> dict[str, float]:
    """Score what a threshold keeps by every metric of :data:`CARDS`.

    Args:
        kept: (H, W) boolean, K.
        mask: (H, W) boolean tumour, M.
        spacing: (row, column) millimetres, or None where it is not known.

    Returns:
        metric -> score; NaN throughout where the mask is empty or full.
    """
    if not mask.any() or mask.all():
        return dict.fromkeys((c.name for c in CARDS), np.nan)
    both, either = int((kept & mask).sum()), int((kept | mask).sum())
    distance, surface = boundary_distances(kept, mask, spacing) if spacing is not None else (np.nan, np.nan)
    return {
        "iou": both / either,
        "dice": 2 * both / (both + either),
        "hausdorff95": distance,
        "surface_dice_2mm": surface,
        "lesion_hits": lesion_hits(kept, mask),
    }


def boundary_distances(
    kept: NDArray[np.bool_], mask: NDArray[np.bool_], spacing: tuple[float, float], tolerance: float = TOLERANCE_MM
) -> tuple[float, float]:
    """Return the 95 % Hausdorff distance in mm and the surface Dice at a tolerance.

    Args:
        kept: (H, W) boolean; where nothing is kept the scores are the image's diagonal and 0.
        mask: (H, W) boolean, not empty.
        spacing: (row, column) millimetres.
        tolerance: millimetres within which two boundaries count as one.
    """
    if not kept.any():
        return float(np.hypot(kept.shape[0] * spacing[0], kept.shape[1] * spacing[1])), 0.0
    ours, theirs = (np.argwhere(_boundary(area)) * spacing for area in (kept, mask))
    there, _ = KDTree(theirs).query(ours)
    back, _ = KDTree(ours).query(theirs)
    near = (there <= tolerance).sum() + (back <= tolerance).sum()
    distance = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(distance), float(near / (len(ours) + len(theirs)))


def lesion_hits(kept: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Return the share of the mask's 8-connected parts that ``kept`` touches; NaN for an empty mask."""
    labels, areas = components(mask)
    return len(np.unique(labels[kept & mask])) / len(areas) if len(areas) else np.nan


def _boundary(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a set that have one of their four neighbours outside it, or lie on the image's border."""
    inner = cv2.erode(area.astype(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(area & (inner == 0))
