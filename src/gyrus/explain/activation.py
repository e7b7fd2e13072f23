"""Maps that are arithmetic on one activation A and one gradient G of the class score, both (N, K, h, w).

Each returns the raw (N, h, w) map, before the ReLU and the scaling that papers apply for display: those are choices of
whoever shows or thresholds a map, and are named there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gyrus.explain.cards import FusedMethod, LayerMethod

# The two constants grad-cam uses, so that results agree to the last digits where denominators nearly vanish.
_EPSILON = 1e-6
_TINY = 1e-7
_SHARPNESS = 2.0  # gamma of LayerCAM's eq. 9


@partial(
    LayerMethod,
    name="cam",
    paper="Zhou et al. 2016, eq. 2",
    formula="sum_k w_k A_k, w the head's weights for the class",
    signed=True,
    where="last layer",
)
def cam(a: Tensor, _g: Tensor, weight: Tensor | None) -> Tensor:
    """Class activation map: the class map itself without its bias; needs no gradient."""
    assert weight is not None, "the engine leaves methods that need a head out where there is none"
    return weighted_sum(a, weight)


@partial(
    LayerMethod,
    name="gradcam",
    paper="Selvaraju et al. 2017, eq. 1-2",
    formula="sum_k mean_ij(G_k) A_k",
    signed=True,
)
def gradcam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by their mean gradient. The paper's final ReLU is left to the reader of the map."""
    return weighted_sum(a, g.mean(dim=(2, 3)))


@partial(
    LayerMethod,
    name="gradcam++",
    paper="Chattopadhay et al. 2018, eq. 19 with exp as the last layer's activation",
    formula="sum_k [sum_ij alpha_k relu(G_k)] A_k, alpha_k = G_k^2 / (2 G_k^2 + G_k^3 sum_ab A_k + 1e-6)",
    signed=True,
)
def gradcam_plus_plus(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by a pixel-wise mean of the positive gradients.

    The common factor exp(score) of the paper's derivatives cancels in alpha and scales the whole map, so it is dropped.
    Where the denominator vanishes the weight is zero, as the gradient is.
    """
    square = g.square()
    denominator = 2 * square + square * g * a.sum(dim=(2, 3), keepdim=True)
    alpha = _divided(square, denominator + _EPSILON)
    return weighted_sum(a, (alpha * g.relu()).sum(dim=(2, 3)))


@partial(
    LayerMethod,
    name="xgradcam",
    paper="Fu et al. 2020, eq. 8",
    formula="sum_k [sum_ij(G_k A_k) / (sum_ij A_k + 1e-7)] A_k",
    signed=True,
)
def xgradcam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by their gradient averaged with the activation as weights; a silent channel gets none."""
    return weighted_sum(a, _divided((g * a).sum(dim=(2, 3)), a.sum(dim=(2, 3)) + _TINY))


@partial(
    LayerMethod,
    name="hirescam",
    paper="Draelos & Carin 2020, eq. 4",
    formula="sum_k G_k A_k",
    signed=True,
)
def hirescam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Gradient times activation, position by position: evidence where it is, even if the gradient varies."""
    return (g * a).sum(dim=1)


@partial(
    LayerMethod,
    name="layercam",
    paper="Jiang et al. 2021, eq. 6-7",
    formula="sum_k relu(G_k) A_k",
    signed=True,
)
def layercam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Activations weighted by the positive gradient at their own position; meant for any layer."""
    return (g.relu() * a).sum(dim=1)


@partial(
    LayerMethod,
    name="elementwise",
    paper="Gildenblat et al. 2021, the package grad-cam",
    formula="sum_k relu(G_k A_k)",
    signed=False,
)
def elementwise(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """HiResCAM without the channels that argue against the class at a position."""
    return (g * a).relu_().sum(dim=1)


@partial(
    LayerMethod,
    name="eigencam",
    paper="Muhammad & Yeasin 2020; channels centred, as in the package grad-cam",
    formula="X v_1, X = A, each channel centred, v_1 its first principal axis, cov(map, sum_k A_k) >= 0",
    signed=True,
    direction="activity",
)
def eigencam(a: Tensor, _g: Tensor, _weight: Tensor | None) -> Tensor:
    """What varies most over the layer; knows no class and no gradient, so every class has the same map."""
    return first_component(a)


@partial(
    LayerMethod,
    name="eigengradcam",
    paper="Gildenblat et al. 2021, the package grad-cam, after Muhammad & Yeasin 2020",
    formula="X v_1, X = G A, each channel centred, v_1 its first principal axis, cov(map, sum_k X_k) >= 0",
    signed=True,
)
def eigengradcam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """What varies most among the channels' evidence for the class."""
    return first_component(g * a)


@partial(
    FusedMethod,
    base=layercam,
    name="layercam-fused",
    paper="Jiang et al. 2021, eq. 9",
    formula="max over layers of tanh(2 M / max_ij M), M = relu(LayerCAM), bilinear to the largest layer",
    signed=False,
    where="all layers",
)
def layercam_fused(maps: Sequence[Tensor]) -> Tensor:
    """The strongest of several layers' maps at each position, each scaled to its own maximum.

    The paper scales the shallow layers' maps so; here every layer's is, since which are shallow depends on the network.
    """
    h, w = (max(sizes) for sizes in zip(*(m.shape[1:] for m in maps), strict=True))
    scaled = (torch.tanh(_SHARPNESS * _of_maximum(m.relu())) for m in maps)
    sized = [F.interpolate(m.unsqueeze(1), (h, w), mode="bilinear").squeeze(1) for m in scaled]
    return torch.stack(sized).amax(dim=0)


def weighted_sum(a: Tensor, weight: Tensor) -> Tensor:
    """Return sum_k weight_k A_k: (N, K, h, w) and (N, K) to (N, h, w)."""
    return (weight.unsqueeze(1) @ a.flatten(2)).reshape(a.shape[0], *a.shape[2:])


def first_component(features: Tensor) -> Tensor:
    """Return each position's score on the first principal component of its channels: (N, K, h, w) to (N, h, w).

    With X the (positions, K) features of one image, each channel centred, and X = U S V^T, this is X v_1 = s_1 u_1.
    It follows from the largest eigenvalue and its vector of either Gram matrix, X X^T or X^T X. The smaller one is
    decomposed, for all images at once.

    A vector's sign is arbitrary; here the map rises with the sum over the channels, so that a high value means more of
    what the features count. A map is zero where the features do not vary, and NaN where they are not finite.
    """
    n, k, h, w = features.shape
    x = features.flatten(2)  # (N, K, P), the transpose of the X above
    x = x - x.mean(dim=2, keepdim=True)
    finite = x.isfinite().all(dim=2).all(dim=1).view(n, 1, 1)
    size = torch.where(finite, x.abs().amax(dim=(1, 2), keepdim=True), 1)
    # To size one, since squares of small gradients leave float32's range; and the decomposition raises on a NaN.
    x = torch.where(finite & (size > 0), x / size, 0)
    wide = k > h * w
    gram = x.transpose(1, 2) @ x if wide else x @ x.transpose(1, 2)
    values, vectors = torch.linalg.eigh(gram)  # ascending
    axis = vectors[:, :, -1:]
    found = axis.transpose(1, 2) * values[:, -1:, None].clamp_min(0).sqrt() if wide else axis.transpose(1, 2) @ x
    falls = (found * x.sum(dim=1, keepdim=True)).sum(dim=2, keepdim=True) < 0
    found = torch.where(falls, -found, found) * size
    return torch.where(finite, found, torch.nan).reshape(n, h, w)


def _divided(above: Tensor, below: Tensor) -> Tensor:
    """Return above / below, zero where below is."""
    return torch.where(below == 0, 0, above / below)


def _of_maximum(maps: Tensor) -> Tensor:
    """Return non-negative (N, h, w) maps as fractions of each one's maximum, a zero map as it is."""
    return _divided(maps, maps.amax(dim=(1, 2), keepdim=True).expand_as(maps))
