"""Which class of each image is explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from gyrus.errors import InputError

TargetSpec = Literal["predicted", "all"] | int | Sequence[int] | Tensor
"""Each image's highest logit, every class, one class for all images, or one per image."""


def resolve_target(target: TargetSpec, logits: Tensor) -> Tensor:
    """Return the (N,) int64 class index to explain per image; (N, classes) for "all".

    Raises:
        InputError: an index outside the model's classes, or not one per image.
    """
    n, classes = logits.shape
    if isinstance(target, str):
        if target == "all":
            return torch.arange(classes, device=logits.device).expand(n, classes)
        if target != "predicted":
            raise InputError(f"target {target!r} is unknown: use 'predicted', 'all', or class indices")
        return logits.argmax(dim=1)
    try:
        index = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"target {target!r} is no class index: use 'predicted', 'all', or class indices") from None
    index = index.expand(n) if index.ndim == 0 else index
    if index.shape != (n,):
        raise InputError(f"{n} images need {n} target classes, not an array of shape {tuple(index.shape)}")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise InputError(f"target classes are whole numbers, not {str(index.dtype).removeprefix('torch.')}")
    index = index.long()
    if n and (int(index.min()) < 0 or int(index.max()) >= classes):
        raise InputError(f"target classes run from 0 to {classes - 1}, not {int(index.min())} to {int(index.max())}")
    return index
