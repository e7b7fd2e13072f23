"""Training slices whose tumour is taken out, so that a network learns that without it there is nothing to tell.

A classifier may tell a glioma by the brain around it: by the plane, the scanner, the other ventricle. Shown the same
slice without the tumour, and asked to give every class the same probability, it has to look at the tumour. Calling such
a slice no_tumor instead makes a network call tumours that it does not see no_tumor, too, where it should be in doubt.
So that the trace of the filling tells little, other slices have a hole of the same kind filled in healthy tissue, and
keep their class.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import spsolve

from gyrus.holes import Pixels, Shape, inside, moved, places, reach, widened
from gyrus.preprocess import head_outline

_PULL = 1e-4  # of each filled pixel to the median around: what makes the equations soluble wherever the hole lies
_KEPT = (5, 90)  # percentiles of the tissue around, between which a filled pixel is kept
_FINE = 2.0  # pixels: what a blur of this sigma takes away is texture


def membrane(pixels: Pixels, hole: Shape, head: Shape, rng: np.random.Generator) -> Pixels:
    """Fill a hole with a membrane spanned over its rim, and with texture from elsewhere in the head.

    The membrane solves Laplace's equation with the rim's pixels as its boundary (Perez et al. 2003, eq. 2 and 4);
    neither :mod:`gyrus.stress` fill is one. What lies outside the head's inside is no boundary: bright scalp would be
    drawn into the brain.

    Args:
        pixels: (H, W) float32.
        hole: (H, W) boolean.
        head: (H, W) boolean, where the head is.
        rng: of the texture's place and strength.

    Returns:
        (H, W) float32, outside the hole as it was; all as it was where no tissue is left around the hole.
    """
    tissue = inside(head) & ~hole
    if not hole.any() or not tissue.any():
        return pixels.copy()
    usual, least, most = np.percentile(pixels[tissue], (50, *_KEPT))
    spanned = np.clip(_harmonic(pixels, hole, tissue, float(usual)), least, most)
    filled = spanned + rng.uniform(0.5, 1) * _texture(pixels, hole, tissue, rng)[hole]
    done = pixels.copy()
    done[hole] = np.clip(filled, pixels.min(), pixels.max())
    return done


def _harmonic(pixels: Pixels, hole: Shape, tissue: Shape, usual: float) -> NDArray[np.float64]:
    """Return the membrane's height at the hole's pixels, row by row."""
    rows, columns = np.nonzero(hole)
    number = np.full(hole.shape, -1)
    number[hole] = np.arange(len(rows))
    weight, known = np.full(len(rows), _PULL), np.full(len(rows), _PULL * usual)
    pairs = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        y, x = rows + down, columns + right
        there = (y >= 0) & (y < hole.shape[0]) & (x >= 0) & (x < hole.shape[1])
        at = np.flatnonzero(there)
        beside, rim = number[y[at], x[at]], tissue[y[at], x[at]]
        weight[at] += (beside >= 0) | rim
        known[at] += np.where(rim, pixels[y[at], x[at]], 0)
        pairs.append(np.stack([at, beside])[:, beside >= 0])
    i, j = np.concatenate([*pairs, np.stack([np.arange(len(rows))] * 2)], axis=1)
    values = np.concatenate([np.full(len(i) - len(rows), -1.0), weight])
    return np.asarray(spsolve(csr_array((values, (i, j))).tocsc(), known))


def _texture(pixels: Pixels, hole: Shape, tissue: Shape, rng: np.random.Generator) -> Pixels:
    """Return the fine detail of a place of the hole's shape, moved into it; of all its pixels shuffled if none fits."""
    fine = pixels - np.asarray(cv2.GaussianBlur(pixels, (0, 0), _FINE), dtype=np.float32)
    offsets = places(hole, tissue)
    if len(offsets):
        down, right = (int(n) for n in offsets[rng.integers(len(offsets))])
        return moved(fine, -down, -right)
    there = np.zeros_like(fine)
    there[hole] = rng.choice(fine[tissue], int(hole.sum()))
    return there


@dataclass(frozen=True, slots=True, eq=False)
class Erased:
    """A batch after its erasures.

    Attributes:
        slices: (N, S, S) uint8.
        outlines: (N, S, S) uint8, the share of each pixel that is tumour, in 255ths; 0 where it is gone.
        gone: (N,) boolean, whether the tumour is gone, and with it what tells the class.
    """

    slices: NDArray[np.uint8]
    outlines: NDArray[np.uint8]
    gone: NDArray[np.bool_]


def erase(
    slices: NDArray[np.uint8],
    outlines: NDArray[np.uint8],
    known: NDArray[np.float32],
    share: float,
    rng: np.random.Generator,
) -> Erased:
    """Take the tumour out of some slices of a batch, and fill holes in the healthy tissue of others.

    Args:
        slices: (N, S, S) prepared; unchanged.
        outlines: (N, S, S) share of each pixel that is tumour, in 255ths; unchanged.
        known: (N,) 1 where the outline is known, an empty one being that of a slice without tumour.
        share: of the slices with an outline that lose their tumour, but for tumours that reach out of the head or leave
            no tissue around. As many again, and twice the share of the slices without tumour, have a hole filled in
            healthy tissue, of the shape of a tumour of the batch, where one fits.
        rng: of every draw.
    """
    done = Erased(slices.copy(), outlines.copy(), np.zeros(len(slices), dtype=np.bool_))
    outlined = outlines.any(axis=(1, 2)) & (known > 0)
    shapes = np.flatnonzero(outlined)
    for i, drawn in enumerate(rng.random(len(slices))):
        if drawn >= 2 * share or not known[i] or not len(shapes):
            continue
        own = outlines[i] > 0
        shape = own if outlined[i] else outlines[rng.choice(shapes)] > 0
        hole = widened(shape, round(rng.uniform(1, 3) * reach(own.shape)))
        pixels = slices[i].astype(np.float32)
        head = head_outline(pixels)
        gone = bool(outlined[i] and drawn < share)
        if gone:
            if not (hole & head).any() or (own & ~head).any() or not (inside(head) & ~hole).any():
                continue  # something of the tumour would stay
        else:
            free = inside(head) & ~widened(own, reach(own.shape))
            offsets = places(hole, free)
            if not len(offsets):
                continue
            hole = moved(hole, *(int(n) for n in offsets[rng.integers(len(offsets))]))
        done.slices[i] = np.rint(membrane(pixels, hole & head, head, rng))
        if gone:
            done.gone[i], done.outlines[i] = True, 0
    return done
