"""How far a map moves when its image is changed by less than an eye would notice, or turned over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gyrus.evaluate.agreement import rank_correlation
from gyrus.evaluate.cards import Card
from gyrus.evaluate.explaining import Explain

RADIUS, SAMPLES = 0.02, 10
ROWS, COLUMNS = -2, -1

CARDS = (
    Card(
        "max_sensitivity",
        "robustness",
        "Max-sensitivity",
        "max over |y - x| <= 0.02 of |map(y) - map(x)| / |map(x)|, Euclidean norms of maps",
        "Yeh et al. 2019, def. 3, sampled; divided by the map's norm as captum does",
        "NaN where the map is zero everywhere or not finite",
        high=None,
        better="lower",
    ),
    Card(
        "flip_stability",
        "truth-free",
        "Stability under flips",
        "mean rank correlation of the map with the maps of the flipped images, flipped back",
        "Test-time augmentation as a measure of uncertainty, Wang et al. 2019",
        "0 where one of the two maps is blank; NaN where both are, or where a map is not finite",
        low=-1.0,
        better="neither",
    ),
)


def max_sensitivity(
    explain: Explain,
    model: nn.Module,
    images: Tensor,
    target: Tensor,
    *,
    radius: float = RADIUS,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Tensor:
    """Return the largest relative change of each map among images changed by uniform noise.

    Args:
        explain: makes the maps.
        model: of which.
        images: (N, C, H, W), one batch as the model takes it.
        target: (N,) class explained.
        radius: greatest change of any value of the input.
        samples: changed images tried for each; more can only raise the score.
        seed: of the noise.

    Returns:
        (N,) float32 from 0; see :data:`CARDS`.
    """
    own = explain(model, images, target)
    worst = torch.zeros(len(images), device=own.device)
    for moved in noisy(images, radius=radius, samples=samples, seed=seed):
        worst = torch.maximum(worst, relative_change(own, explain(model, moved, target)))
    return worst


def noisy(images: Tensor, *, radius: float = RADIUS, samples: int = SAMPLES, seed: int = 0) -> Iterator[Tensor]:
    """Yield the images ``samples`` times, each value moved by uniform noise of at most ``radius``, the same in each."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        noise = torch.rand((1, *images.shape[1:]), generator=generator).mul_(2).sub_(1).mul_(radius)
        yield images + noise.to(images)


def relative_change(own: Tensor, moved: Tensor) -> Tensor:
    """Return (N,) Euclidean norms of the change of N maps over those of the maps; NaN where a map is 0 throughout."""
    size = own.flatten(1).norm(dim=1)
    change = (moved - own).flatten(1).norm(dim=1)
    relative: Tensor = change / size.where(own.flatten(1).any(dim=1), torch.nan)
    return relative


def flip_stability(
    explain: Explain, model: nn.Module, images: Tensor, target: Tensor, *, axes: Sequence[int] = (COLUMNS,)
) -> Tensor:
    """Return how well each map agrees in rank with those of the flipped images, flipped back.

    Args:
        explain: makes the maps.
        model: of which.
        images: (N, C, H, W).
        target: (N,) class explained, of the flipped images too.
        axes: the flips, one image each: left-right by default, which is what training flips as well.

    Returns:
        (N,) float64 in [-1, 1].
    """
    own = explain(model, images, target).cpu().numpy()
    back = [explain(model, images.flip(axis), target).flip(axis).cpu().numpy() for axis in axes]
    return torch.stack([torch.from_numpy(rank_correlation(own, maps)) for maps in back]).mean(dim=0)
