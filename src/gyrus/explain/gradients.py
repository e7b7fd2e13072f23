"""Maps on the pixels of the input, from the gradient of the class score there."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from gyrus.explain.cards import InputMethod, RepeatedMethod
from gyrus.explain.subject import Subject


@partial(
    InputMethod,
    name="saliency",
    paper="Simonyan et al. 2014, sec. 3.1",
    formula="max_c |ds/dx_c|",
    signed=False,
    direction="sensitivity",
    where="input",
)
def saliency(_x: Tensor, gradient: Tensor) -> Tensor:
    """How much the score reacts to each pixel, either way."""
    return gradient.abs().amax(dim=1)


@partial(
    InputMethod,
    name="inputxgradient",
    paper="Shrikumar et al. 2016",
    formula="sum_c x_c ds/dx_c",
    signed=True,
    where="input",
)
def input_x_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Each pixel's share of the score to first order, as seen from an input of zeros."""
    return (x * gradient).sum(dim=1)


@partial(
    RepeatedMethod,
    name="integrated-gradients",
    paper="Sundararajan et al. 2017, eq. 1, by Gauss-Legendre quadrature",
    formula="sum_c (x_c - b) integral_0^1 ds/dx_c(b + t (x - b)) dt; adds up to s(x) - s(b)",
    signed=True,
    where="input",
    cost="steps x (forward + backward)",
    options={"steps": 50, "baseline": 0.0},
)
def integrated_gradients(subject: Subject, *, steps: int, baseline: float) -> Tensor:
    """The gradient averaged on the straight way from a uniform image of ``baseline`` to the input."""
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    away = subject.images - baseline
    mean = torch.zeros_like(away, dtype=torch.float32)
    for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
        mean += float(share) * subject.gradients(baseline + float(node) * away)
    return (away.float() * mean).sum(dim=1)


@partial(
    RepeatedMethod,
    name="smoothgrad",
    paper="Smilkov et al. 2017",
    formula="max_c |mean over samples of ds/dx_c(x + e)|, e ~ N(0, [noise (max x - min x)]^2)",
    signed=False,
    direction="sensitivity",
    where="input",
    cost="samples x (forward + backward)",
    options={"samples": 50, "noise": 0.15, "seed": 0},
)
def smoothgrad(subject: Subject, *, samples: int, noise: float, seed: int) -> Tensor:
    """Saliency of the gradient averaged over noisy copies; every image meets the same noise, whatever its batch."""
    images = subject.images
    generator = torch.Generator().manual_seed(seed)
    spread = noise * (images.amax(dim=(1, 2, 3), keepdim=True) - images.amin(dim=(1, 2, 3), keepdim=True))
    total = torch.zeros_like(images, dtype=torch.float32)
    for _ in range(samples):
        draw = torch.randn((1, *images.shape[1:]), generator=generator).to(images)
        total += subject.gradients(images + spread * draw)
    return (total / samples).abs().amax(dim=1)
