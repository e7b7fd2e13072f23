"""Augmentation of whole batches on tensors, every draw from the generator it is given.

Drawing the parameters and applying them are two functions, so that a picture of an augmented batch, a test, and a
resumed run can all replay the same transformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Augment(BaseModel):
    """How far a training slice may be changed, drawn per slice; from flip to contrast every range is symmetric.

    Attributes:
        flip: probability of a left-right mirror image.
        rotate: degrees.
        translate: share of the side.
        scale: relative change of size.
        brightness: added to the slice in [0, 1].
        contrast: relative change of the distance from the slice's mean.
        clahe: probability of contrast-limited adaptive histogram equalisation (Zuiderveld 1994; clip 2, 8 x 8 tiles),
            the one step done per slice on the CPU, before the others; off by default because it costs more than all of
            them.
        bias: greatest strength, about, of a smooth field that the slice is multiplied by, as uneven coils do; from 0.
        noise: greatest sigma of Rician noise, as a share of 255. Half of the slices get none, the others from 0 to it.
        peel: probability that the slice is enlarged by 1.1 to 1.35, cut to an oval of the size that a canonical head
            has, and its brightest percent made white again: roughly a head whose skull was stripped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(default=0.5, ge=0, le=1)
    rotate: float = Field(default=15.0, ge=0, le=180)
    translate: float = Field(default=0.06, ge=0, le=0.5)
    scale: float = Field(default=0.12, ge=0, le=0.9)
    brightness: float = Field(default=0.12, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    clahe: float = Field(default=0.0, ge=0, le=1)
    bias: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0, le=1)
    peel: float = Field(default=0.0, ge=0, le=1)


_COARSE = 4
_OVAL = 1 / 1.1  # of the side: where the head's box ends in the canonical form

STILL = Augment(flip=0, rotate=0, translate=0, scale=0, brightness=0, contrast=0, clahe=0)
"""Slices as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class AugmentParams:
    """What happens to each of N slices.

    Attributes:
        affine: (N, 2, 3) output-to-input coordinates in [-1, 1], as ``affine_grid`` takes them.
        contrast: (N,) factor.
        brightness: (N,) offset in [0, 1].
        clahe: (N,) boolean.
        zoom: (N,) by which a peeled slice is enlarged; 1 for the others.
        bias: (N, 4, 4) in (-1, 1), the field at coarse points.
        noise: (N,) sigma, as a share of 255.
        grain: seed of the noise itself.
    """

    affine: Tensor
    contrast: Tensor
    brightness: Tensor
    clahe: Tensor
    zoom: Tensor
    bias: Tensor
    noise: Tensor
    grain: int = 0


def draw(spec: Augment, n: int, generator: torch.Generator) -> AugmentParams:
    """Draw parameters for n slices from ``generator`` and nothing else."""

    def symmetric(reach: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator) - 1) * reach

    mirror = 1 - 2 * (torch.rand(n, generator=generator) < spec.flip).float()
    angle = symmetric(spec.rotate * math.pi / 180)
    size = 1 + symmetric(spec.scale)
    shift_x, shift_y = symmetric(2 * spec.translate), symmetric(2 * spec.translate)
    cos, sin = angle.cos() / size, angle.sin() / size
    rows = [torch.stack([mirror * cos, -sin, shift_x], 1), torch.stack([mirror * sin, cos, shift_y], 1)]
    contrast, brightness = 1 + symmetric(spec.contrast), symmetric(spec.brightness)
    clahe = torch.rand(n, generator=generator) < spec.clahe
    peeled = torch.rand(n, generator=generator) < spec.peel
    zoom = torch.where(peeled, 1.1 + 0.25 * torch.rand(n, generator=generator), 1)
    field = torch.randn(n, _COARSE, _COARSE, generator=generator)
    field = field / field.abs().amax(dim=(1, 2), keepdim=True)
    bias = spec.bias * torch.rand(n, 1, 1, generator=generator) * field
    noise = spec.noise * (2 * torch.rand(n, generator=generator) - 1).clamp(min=0)
    grain = int(torch.randint(2**62, (), generator=generator))
    return AugmentParams(torch.stack(rows, 1), contrast, brightness, clahe, zoom, bias, noise, grain)


def apply(slices: Tensor, params: AugmentParams) -> Tensor:
    """Transform prepared slices.

    Args:
        slices: (N, H, W) uint8.
        params: one set per slice.

    Returns:
        (N, H, W) float32 in 0..255; what is turned in from outside is black.
    """
    if params.clahe.any():
        slices = _equalise(slices, params.clahe)
    moved = move(slices, params)
    peeled = params.zoom > 1
    if peeled.any():
        moved[peeled] = _whitened(moved[peeled])
    if params.bias.any():
        coarse = params.bias.to(moved.device).unsqueeze(1)
        field = F.interpolate(coarse, size=moved.shape[1:], mode="bicubic", align_corners=True).squeeze(1)
        moved = moved * (1 + field).clamp_(min=0)
    if params.noise.any():
        moved = _grainy(moved, params)
    mean = moved.mean(dim=(1, 2), keepdim=True)
    factor, offset = (v.to(moved.device).view(-1, 1, 1) for v in (params.contrast, params.brightness))
    return ((moved - mean) * factor + mean + 255 * offset).clamp_(0, 255)


def move(slices: Tensor, params: AugmentParams) -> Tensor:
    """Mirror, turn, shift, scale and peel (N, H, W) slices or masks: float32 in their own range, 0 where nothing is."""
    values = slices.float().unsqueeze(1)
    affine = params.affine.clone()
    affine[:, :, :2] /= params.zoom.view(-1, 1, 1)
    grid = F.affine_grid(affine.to(values.device), list(values.shape), align_corners=False)
    moved = F.grid_sample(values, grid, padding_mode="zeros", align_corners=False).squeeze(1)
    peeled = params.zoom > 1
    if peeled.any():
        y, x = ((2 * torch.arange(n, device=moved.device) + 1) / n - 1 for n in moved.shape[1:])
        moved[peeled] *= y[:, None] ** 2 + x**2 <= _OVAL**2
    return moved


def keep_shown(params: AugmentParams, outlines: Tensor) -> AugmentParams:
    """Return the parameters without the peelings that would take off more than a third of a tumour, at the skull.

    Args:
        params: as drawn.
        outlines: (N, H, W) share of each pixel that is tumour, in any unit.
    """
    before = outlines.float().sum(dim=(1, 2))
    area = torch.linalg.det(params.affine[:, :, :2]).abs().to(before.device) / params.zoom.to(before.device) ** 2
    left = move(outlines, params).sum(dim=(1, 2)) * area
    cut = (left < before * 2 / 3).to(params.zoom.device)
    return replace(params, zoom=torch.where(cut, 1.0, params.zoom))


def _whitened(slices: Tensor) -> Tensor:
    """Return slices whose 99th percentile, of what is not black, is 255."""
    for grey in slices:
        shown = grey[grey > 0]
        if len(shown):
            grey *= 255 / shown.quantile(0.99)
    return slices.clamp_(max=255)


def _grainy(slices: Tensor, params: AugmentParams) -> Tensor:
    """Return slices with Rician noise (Gudbjartsson & Patz 1995) wherever they are not black."""
    generator = torch.Generator().manual_seed(params.grain)
    sigma = 255 * params.noise.view(1, -1, 1, 1)
    real, imaginary = (torch.randn((2, *slices.shape), generator=generator) * sigma).to(slices.device)
    return torch.where(slices > 0, torch.hypot(slices + real, imaginary), slices)


def _equalise(slices: Tensor, chosen: Tensor) -> Tensor:
    clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    arrays = slices.cpu().numpy().copy()
    for i in np.flatnonzero(chosen.numpy()):
        arrays[i] = clahe.apply(arrays[i])
    return torch.from_numpy(arrays).to(slices.device)
