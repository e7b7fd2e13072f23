"""Maps from what the class score does when the input, or a layer, is changed: batched, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from gyrus.explain.activation import weighted_sum
from gyrus.explain.cards import RepeatedMethod
from gyrus.explain.subject import BATCH, Subject


@partial(
    RepeatedMethod,
    name="scorecam",
    paper="Wang et al. 2020, alg. 1",
    formula="sum_k softmax_k(s(x H_k)) A_k, H_k = A_k enlarged bilinearly and scaled to 0..1",
    signed=True,
    cost="1 forward per live channel and image",
)
def scorecam(subject: Subject) -> Tensor:
    """Channels weighted by the score of the input seen through each one.

    The score of the black image, which the paper subtracts, cancels in its softmax. A channel that does not vary is
    scaled to zero and lets nothing through: all of them share one forward pass.
    """
    a = subject.features
    rows, channels = (a.amax(dim=(2, 3)) > a.amin(dim=(2, 3))).nonzero(as_tuple=True)
    nothing = subject.logits(torch.zeros_like(subject.images[:1]))[0, subject.target]
    scores = nothing.unsqueeze(1).repeat(1, a.shape[1])
    for r, c in zip(torch.split(rows, BATCH), torch.split(channels, BATCH), strict=True):
        masks = F.interpolate(a[r, c].unsqueeze(1), subject.images.shape[2:], mode="bilinear")
        low, high = masks.amin(dim=(2, 3), keepdim=True), masks.amax(dim=(2, 3), keepdim=True)
        masks = (masks - low) / (high - low).clamp_min(torch.finfo(masks.dtype).tiny)
        scores[r, c] = subject.scores(subject.images[r] * masks.to(subject.images), r)
    return weighted_sum(a, scores.softmax(dim=1))


@partial(
    RepeatedMethod,
    name="ablationcam",
    paper="Desai & Ramaswamy 2020, sec. 3",
    formula="sum_k [(s - s_k) / |s|] A_k, s_k the score with channel k set to zero",
    signed=True,
    cost="1 forward per live channel and image, from the layer on",
)
def ablationcam(subject: Subject) -> Tensor:
    """Channels weighted by the fall of the score when they are silenced.

    The paper divides by s, which it takes to be positive; the modulus keeps the map's direction where it is not. All
    scores come the same way out of the same layer: a channel's fall is so small that another rounding of s would be
    most of it.
    """
    a = subject.features
    n = len(a)
    score = torch.stack([subject.finished(row, a[row : row + 1])[0] for row in range(n)])
    silenced = score.unsqueeze(1).repeat(1, a.shape[1])
    for row in range(n):
        live = (a[row] != 0).flatten(1).any(dim=1).nonzero().squeeze(1)
        for channels in torch.split(live, 4 * BATCH):
            variants = a[row].repeat(len(channels), 1, 1, 1)
            variants[torch.arange(len(channels)), channels] = 0
            silenced[row, channels] = subject.finished(row, variants)
    fall = score.unsqueeze(1) - silenced
    scale = torch.where(score == 0, 1, score.abs()).unsqueeze(1)
    return weighted_sum(a, fall / scale)


@partial(
    RepeatedMethod,
    name="occlusion",
    paper="Zeiler & Fergus 2014, sec. 4.2",
    formula="mean over the squares that cover a pixel of s(x) - s(x with the square set to b)",
    signed=True,
    where="input",
    cost="1 forward per square and image",
    options={"window": 32, "stride": 16, "baseline": 0.0},
)
def occlusion(subject: Subject, *, window: int, stride: int, baseline: float) -> Tensor:
    """The fall of the score when a square of ``window`` pixels, moved by ``stride``, is painted over."""
    images = subject.images
    n = len(images)
    down, across = (_windows(side, window, stride).to(images.device) for side in images.shape[2:])
    every = torch.arange(n * len(down) * len(across), device=images.device)
    falls = subject.scores(images, torch.arange(n, device=images.device)).repeat_interleave(len(down) * len(across))
    for part in torch.split(every, BATCH):
        r, square = part // (len(down) * len(across)), part % (len(down) * len(across))
        covered = down[square // len(across)].unsqueeze(2) & across[square % len(across)].unsqueeze(1)
        falls[part] -= subject.scores(images[r].masked_fill(covered.unsqueeze(1), baseline), r)
    rows, columns = down.float(), across.float()
    total = rows.T @ falls.view(n, len(down), len(across)) @ columns
    return total / torch.outer(rows.sum(dim=0), columns.sum(dim=0)).clamp_min(1)


@partial(
    RepeatedMethod,
    name="rise",
    paper="Petsiuk et al. 2018, sec. 3",
    formula="sum over masks m of p(class | x m) m, divided by their number and by the share kept",
    signed=False,
    where="input",
    cost="masks forward passes per image",
    options={"masks": 4000, "cells": 7, "keep": 0.5, "seed": 0},
)
def rise(subject: Subject, *, masks: int, cells: int, keep: float, seed: int) -> Tensor:
    """The mean of random masks, each weighted by the class's probability under it; all images meet the same masks."""
    images = subject.images
    n, side = len(images), images.shape[2:]
    total = torch.zeros(n, side[0] * side[1], device=images.device)
    for some in random_masks(masks, (side[0], side[1]), cells, keep, seed, at_once=max(1, BATCH // n)):
        m = len(some)
        seen = some.to(images.device).repeat(n, 1, 1, 1)  # (n m, 1, H, W), image by image
        rows = torch.arange(n, device=images.device).repeat_interleave(m)
        p = subject.logits(images[rows] * seen.to(images)).softmax(dim=1)
        p = p.gather(1, subject.target[rows].unsqueeze(1)).view(n, m)
        total += p @ seen[:m].flatten(1)
    return (total / (masks * keep)).view(n, *side)


def random_masks(
    number: int, side: tuple[int, int], cells: int, keep: float, seed: int, *, at_once: int
) -> Iterator[Tensor]:
    """Yield RISE's masks, (M, 1, H, W) in 0..1, ``at_once`` or fewer at a time; the draws depend on the seed alone.

    Each is a grid of ``cells`` x ``cells``, every cell open with probability ``keep``, enlarged bilinearly to one cell
    more than the image in each direction, and cut out at a random offset (Petsiuk et al. 2018, sec. 3.2).
    """
    generator = torch.Generator().manual_seed(seed)
    grids = (torch.rand(number, 1, cells, cells, generator=generator) < keep).float()
    cell = [-(-length // cells) for length in side]
    offsets = torch.stack([torch.randint(0, c, (number,), generator=generator) for c in cell], dim=1).tolist()
    for start in range(0, number, at_once):
        large = F.interpolate(grids[start : start + at_once], [(cells + 1) * c for c in cell], mode="bilinear")
        cuts = zip(large, offsets[start : start + at_once], strict=True)
        yield torch.stack([mask[:, y : y + side[0], x : x + side[1]] for mask, (y, x) in cuts])


def _windows(side: int, window: int, stride: int) -> Tensor:
    """Return (windows, side) truth: which pixels of a line each window covers; the last is cut off at the border."""
    count = -(-max(side - window, 0) // stride) + 1
    starts = stride * torch.arange(count).unsqueeze(1)
    pixels = torch.arange(side)
    return (pixels >= starts) & (pixels < starts + window)
