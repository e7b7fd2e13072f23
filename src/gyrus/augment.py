"""Augmentation of whole batches on tensors, every draw from the generator it is given.

Drawing the parameters and applying them are two functions, so that a picture of an augmented batch, a test, and a
resumed run can all replay the same transformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class Augment(BaseModel):
    """How far a training slice may be changed; every range is symmetric and drawn uniformly per slice.

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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(default=0.5, ge=0, le=1)
    rotate: float = Field(default=15.0, ge=0, le=180)
    translate: float = Field(default=0.06, ge=0, le=0.5)
    scale: float = Field(default=0.12, ge=0, le=0.9)
    brightness: float = Field(default=0.12, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    clahe: float = Field(default=0.0, ge=0, le=1)


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
    """

    affine: Tensor
    contrast: Tensor
    brightness: Tensor
    clahe: Tensor


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
    return AugmentParams(torch.stack(rows, 1), contrast, brightness, torch.rand(n, generator=generator) < spec.clahe)


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
    mean = moved.mean(dim=(1, 2), keepdim=True)
    factor, offset = (v.to(moved.device).view(-1, 1, 1) for v in (params.contrast, params.brightness))
    return ((moved - mean) * factor + mean + 255 * offset).clamp_(0, 255)


def move(slices: Tensor, params: AugmentParams) -> Tensor:
    """Mirror, turn, shift and scale (N, H, W) slices or masks: float32 in their own range, 0 where nothing was."""
    values = slices.float().unsqueeze(1)
    grid = F.affine_grid(params.affine.to(values.device), list(values.shape), align_corners=False)
    return F.grid_sample(values, grid, padding_mode="zeros", align_corners=False).squeeze(1)


def _equalise(slices: Tensor, chosen: Tensor) -> Tensor:
    clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    arrays = slices.cpu().numpy().copy()
    for i in np.flatnonzero(chosen.numpy()):
        arrays[i] = clahe.apply(arrays[i])
    return torch.from_numpy(arrays).to(slices.device)
