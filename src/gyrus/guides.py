"""The losses of a training: what the answer should be, and where its map should look."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def answer_loss(logits: Tensor, labels: Tensor, gone: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    """Return the mean cross-entropy of a batch, of slices without their tumour against equal probabilities.

    Args:
        logits: (N, classes) float32.
        labels: (N,) class numbers; what a slice was where its tumour is gone, which is not asked for.
        gone: (N,) boolean, whether the tumour is gone: see :func:`gyrus.erasure.erase`.
        weight: (classes,) of the classes; 1 of a slice without its tumour.
        smoothing: share of the target spread over all classes (Szegedy et al. 2016).

    Returns:
        The weighted mean, a scalar.
    """
    told = F.cross_entropy(logits, labels, weight=weight, label_smoothing=smoothing, reduction="none")
    doubt = -logits.log_softmax(dim=1).mean(dim=1)
    return torch.where(gone, doubt, told).sum() / torch.where(gone, 1.0, weight[labels]).sum()


def mask_loss(maps: Tensor, outlines: Tensor) -> Tensor:
    """Return how far class maps are from the tumours' outlines, slice by slice.

    Binary cross-entropy of the map as logits, averaged over its cells, plus the soft Dice loss of its sigmoid
    (Milletari et al. 2016, eq. in sec. 3, with one cell added to both sides): the first has a gradient everywhere, the
    second does not drown a tumour of 1 % in the other 99. Where nothing is outlined both pull the map to nothing.

    Args:
        maps: (N, h, w) raw map of each slice's true class, as logits.
        outlines: (N, h, w) share of each cell that is tumour, in [0, 1].

    Returns:
        (N,) at least 0.
    """
    entropy = F.binary_cross_entropy_with_logits(maps, outlines, reduction="none").mean(dim=(1, 2))
    said = maps.sigmoid()
    both, either = (said * outlines).sum(dim=(1, 2)), said.sum(dim=(1, 2)) + outlines.sum(dim=(1, 2))
    return entropy + 1 - (2 * both + 1) / (either + 1)


def true_maps(class_map: Tensor, labels: Tensor) -> Tensor:
    """Return the (N, h, w) map of each slice's own class from an (N, classes, h, w) class map."""
    n, _, h, w = class_map.shape
    return class_map.gather(1, labels.view(n, 1, 1, 1).expand(n, 1, h, w)).squeeze(1)


def at_grid(outlines: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (N, H, W) shares averaged onto the cells of a map: (N, h, w)."""
    return F.adaptive_avg_pool2d(outlines.unsqueeze(1), grid).squeeze(1)
