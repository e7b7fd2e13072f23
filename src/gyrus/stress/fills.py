"""A tumour taken out of a slice, by two ways of filling that no network was trained on, and what serves as control.

All functions are pure: (H, W) float32 pixels in any unit and boolean shapes in, new pixels out. A fill that cannot be
made is None, never a guess.
"""

from __future__ import annotations

import cv2
import numpy as np

from gyrus.holes import Pixels, Shape, bounds, inside, moved, places, reach, widened

CORNER = 8
"""The shorter side of the picture over the side of a blanked corner."""
MIRROR, PATCH = "mirror", "patch"
_TRIED = 64  # places, of which the most alike is taken
_USUAL = (10, 90)  # percentiles of tissue
_PLAIN = 0.8  # of a patch that must lie between them, as the tissue as a whole does


def telea(pixels: Pixels, hole: Shape, head: Shape) -> Pixels | None:
    """Fill a hole from its edge inwards by the weighted mean of what is known nearby (Telea 2004), OpenCV's own.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean.
        head: (H, W) boolean, where the head is.

    Returns:
        (H, W) float32; None where nothing surrounds the hole. What is filled is kept between the quartiles of the
        tissue inside the head: bright scalp smeared into a brain would look like what was taken out.
    """
    if hole.all():
        return None
    if not hole.any():
        return pixels.copy()
    width = reach(pixels.shape)
    box = bounds(widened(hole, 2 * width))
    gone, around = hole[box], inside(head) & ~hole
    filled = cv2.inpaint(np.ascontiguousarray(pixels[box]), gone.astype(np.uint8), width, cv2.INPAINT_TELEA)
    least, most = np.percentile(pixels[around] if around.any() else pixels[~hole], (25, 75))
    done = pixels.copy()
    done[box][gone] = np.clip(filled[gone], least, most)
    return done


def tissue(
    pixels: Pixels, hole: Shape, head: Shape, avoid: Shape, rng: np.random.Generator, *, mirror: bool = True
) -> tuple[Pixels, str] | None:
    """Fill a hole with tissue of the same head: what lies at the mirrored place, or else a patch of equal shape.

    Either is shifted in brightness until its median along the hole's rim is that of the rim itself, as far as that
    lies inside the head, but to no more than the upper quartile of the tissue there, and faded in over the outer
    :func:`reach` pixels of the hole. The mean over a rim that touches the scalp would make a bright lump of it.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean, to be filled.
        head: (H, W) boolean, where the head is.
        avoid: (H, W) boolean, never a source: the widened tumour.
        rng: of the choice of a patch.
        mirror: False where the two sides of the picture are no two sides of a head, as in a sagittal slice.

    Returns:
        (H, W) float32, and :data:`MIRROR` or :data:`PATCH`; the patch is taken where the mirrored place lies partly
        outside the head or the picture, or holds tumour. None where neither can be had.
    """
    blocked = avoid | hole
    reflected = reflection(pixels, hole, head, blocked) if mirror else None
    if reflected is not None:
        return reflected, MIRROR
    patched = patch(pixels, hole, head, inside(head) & ~widened(blocked, reach(pixels.shape)), rng)
    return None if patched is None else (patched, PATCH)


def reflection(pixels: Pixels, hole: Shape, head: Shape, blocked: Shape) -> Pixels | None:
    """Fill a hole from its mirror image across the upright line through the middle of the head's box, or return None.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean.
        head: (H, W) boolean.
        blocked: (H, W) boolean, never a source.
    """
    if not head.any():
        return None
    side = bounds(head)[1]
    across = side.start + side.stop - 1 - np.arange(pixels.shape[1])
    there = (across >= 0) & (across < pixels.shape[1])
    source = pixels[:, np.where(there, across, 0)]
    usable = (head & ~blocked)[:, np.where(there, across, 0)] & there
    if (hole & ~usable).any():
        return None
    return _blended(pixels, source, hole, head, np.broadcast_to(there, hole.shape))


def patch(pixels: Pixels, hole: Shape, head: Shape, free: Shape, rng: np.random.Generator) -> Pixels | None:
    """Fill a hole with a patch of the same shape from :func:`alike`, or return None where there is no such place.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean.
        head: (H, W) boolean.
        free: (H, W) boolean, what a patch may be taken from.
        rng: of the places.
    """
    offset = alike(pixels, hole, free, rng)
    if offset is None:
        return None
    down, right = offset
    return _blended(pixels, moved(pixels, -down, -right), hole, head, moved(np.ones_like(hole), -down, -right))


def alike(pixels: Pixels, hole: Shape, free: Shape, rng: np.random.Generator) -> tuple[int, int] | None:
    """Return the offset (down, right) of the place, of 64 drawn, that differs least from the median of the hole's rim.

    What surrounds a tumour in a brain is brain, and so is the place found, rather than an eye or a jaw.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean.
        free: (H, W) boolean, on which the whole shape must lie.
        rng: of the draw.

    Returns:
        The offset of least mean absolute difference; None where the shape fits nowhere, or where even there more than a
        fifth of it is darker or brighter than the middle eight tenths of what is free, and so no plain tissue.
    """
    offsets = places(hole, free)
    if not len(offsets):
        return None
    rim = widened(hole, reach(pixels.shape)) & ~hole
    usual = np.median(pixels[rim] if rim.any() else pixels)
    rows, columns = np.nonzero(hole)
    drawn = offsets[rng.permutation(len(offsets))[:_TRIED]]
    unlike = [float(np.abs(pixels[rows + down, columns + right] - usual).mean()) for down, right in drawn]
    down, right = (int(n) for n in drawn[int(np.argmin(unlike))])
    found, (least, most) = pixels[rows + down, columns + right], np.percentile(pixels[free], _USUAL)
    return (down, right) if ((found >= least) & (found <= most)).mean() >= _PLAIN else None


def healthy(pixels: Pixels, tumour: Shape, head: Shape, rng: np.random.Generator) -> Shape | None:
    """Return the tumour's shape at a place from :func:`alike` inside the head that does not touch it, or None.

    Args:
        pixels: (H, W) float32.
        tumour: (H, W) boolean, widened already.
        head: (H, W) boolean.
        rng: of the place.
    """
    offset = alike(pixels, tumour, inside(head) & ~widened(tumour, reach(tumour.shape)), rng)
    return None if offset is None else moved(tumour, *offset)


def corners(shape: tuple[int, int]) -> Shape:
    """Return (H, W) boolean, True in the four corners: squares of an 8th of the shorter side."""
    side = max(1, round(min(shape) / CORNER))
    found = np.zeros(shape, dtype=bool)
    for rows in (slice(None, side), slice(-side, None)):
        for columns in (slice(None, side), slice(-side, None)):
            found[rows, columns] = True
    return found


def blanked(pixels: Pixels, where: Shape, head: Shape) -> Pixels:
    """Return the picture with background in place of a shape; see :func:`background`."""
    return np.where(where, background(pixels, head), pixels).astype(np.float32)


def background(pixels: Pixels, head: Shape) -> np.float32:
    """Return the median of the pixels outside the head; the least pixel where the head is everywhere."""
    return np.float32(pixels.min() if head.all() else np.median(pixels[~head]))


def _blended(pixels: Pixels, source: Pixels, hole: Shape, head: Shape, there: Shape) -> Pixels | None:
    """Fade a source into the hole, its median along the rim made the picture's; None where there is no rim."""
    width = reach(pixels.shape)
    ring = widened(hole, width) & ~hole & there
    ring = ring & inside(head) if (ring & inside(head)).any() else ring
    if not ring.any():
        return None
    tissue_around = pixels[inside(head) & ~hole]
    most = np.percentile(tissue_around, 75) if tissue_around.size else np.inf
    lifted = source + (min(np.median(pixels[ring]), most) - np.median(source[ring]))
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share = np.minimum(depth / width, 1)
    filled = np.clip(pixels + share * (lifted - pixels), pixels[~hole].min(), pixels[~hole].max())
    return np.where(hole, filled, pixels).astype(np.float32)
