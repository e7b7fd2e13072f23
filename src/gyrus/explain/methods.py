"""Maps that are arithmetic on one activation A and one gradient G of the class score, both (N, K, h, w).

Each returns the raw (N, h, w) map, before the ReLU and the scaling that papers apply for display: those are choices of
whoever shows or thresholds a map, and are named there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rule = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Method:
    """A map's card and its formula.

    Attributes:
        name: in the registry, on the command line, in tables.
        title: as its paper writes it.
        paper: authors, year, equation.
        formula: of the raw map, in plain text; sums over k are over channels, over ij over positions.
        signed: whether negative values (evidence against) occur in the raw map.
        needs_head: whether it is only defined where the class score is linear in the layer.
        rule: (A, G, head weights (N, K) or None) -> (N, h, w).
    """

    name: str
    title: str
    paper: str
    formula: str
    signed: bool
    needs_head: bool
    rule: Rule


METHODS: dict[str, Method] = {}


def _method(
    name: str, title: str, paper: str, formula: str, *, signed: bool, needs_head: bool = False
) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        METHODS[name] = Method(name, title, paper, formula, signed, needs_head, rule)
        return rule

    return register


@_method(
    "cam",
    "CAM",
    "Zhou et al. 2016, eq. 2",
    "sum_k w_k A_k, w the head's weights for the class",
    signed=True,
    needs_head=True,
)
def cam(a: Tensor, _g: Tensor, weight: Tensor | None) -> Tensor:
    """Class activation map: the class map itself without its bias; needs no gradient."""
    assert weight is not None, "the engine leaves methods that need a head out where there is none"
    return _weighted(a, weight)


@_method("gradcam", "Grad-CAM", "Selvaraju et al. 2017, eq. 1-2", "sum_k mean_ij(G_k) A_k", signed=True)
def gradcam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by their mean gradient. The paper's final ReLU is left to the reader of the map."""
    return _weighted(a, g.mean(dim=(2, 3)))


@_method(
    "gradcam++",
    "Grad-CAM++",
    "Chattopadhay et al. 2018, eq. 19 with exp as the last layer's activation",
    "sum_k [sum_ij alpha_k relu(G_k)] A_k, alpha_k = G_k^2 / (2 G_k^2 + G_k^3 sum_ab A_k + 1e-6)",
    signed=True,
)
def gradcam_plus_plus(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by a pixel-wise mean of the positive gradients.

    The common factor exp(score) of the paper's derivatives cancels in alpha and scales the whole map, so it is dropped.
    Where the denominator vanishes the weight is zero, as the gradient is.
    """
    square = g.square()
    denominator = 2 * square + square * g * a.sum(dim=(2, 3), keepdim=True)
    alpha = square / (denominator + _EPSILON)
    return _weighted(a, (alpha * g.relu()).sum(dim=(2, 3)))


@_method(
    "xgradcam",
    "XGrad-CAM",
    "Fu et al. 2020, eq. 8",
    "sum_k [sum_ij(G_k A_k) / (sum_ij A_k + 1e-7)] A_k",
    signed=True,
)
def xgradcam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Channels weighted by their gradient averaged with the activation as weights; a silent channel gets none."""
    return _weighted(a, (g * a).sum(dim=(2, 3)) / (a.sum(dim=(2, 3)) + _TINY))


@_method("hirescam", "HiResCAM", "Draelos & Carin 2020, eq. 4", "sum_k G_k A_k", signed=True)
def hirescam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Gradient times activation, position by position: evidence where it is, even if the gradient varies."""
    return (g * a).sum(dim=1)


@_method("layercam", "LayerCAM", "Jiang et al. 2021, eq. 6-7", "sum_k relu(G_k) A_k", signed=True)
def layercam(a: Tensor, g: Tensor, _weight: Tensor | None) -> Tensor:
    """Activations weighted by the positive gradient at their own position; meant for any layer."""
    return (g.relu() * a).sum(dim=1)


# The two constants grad-cam uses, so that results agree to the last digits where denominators nearly vanish.
_EPSILON = 1e-6
_TINY = 1e-7


def _weighted(a: Tensor, weight: Tensor) -> Tensor:
    """Return sum_k weight_k A_k: (N, K, h, w) and (N, K) to (N, h, w)."""
    return (weight.unsqueeze(1) @ a.flatten(2)).reshape(a.shape[0], *a.shape[2:])
