"""What a method that runs the network again and again works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from gyrus.models.folding import in_parts

BATCH = 32
"""Images per forward pass of a perturbation method: memory does not grow with their number."""


@dataclass(frozen=True, slots=True, eq=False)
class Precision:
    """The autocast the caller chose: the network runs in it, the arithmetic on its outputs in float32.

    Gradients by the image, and scores whose small differences are the map, are computed in float32 whatever it is: in
    bfloat16 they would be its rounding.
    """

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def current(cls, device: str) -> Precision:
        """Return what holds where this is called."""
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def restored(self) -> AbstractContextManager[object]:
        """Return a context in which it holds again."""
        return torch.autocast(self.device, self.dtype, self.enabled)

    def exact(self) -> AbstractContextManager[object]:
        """Return a context of float32."""
        return torch.autocast(self.device, enabled=False)


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model in evaluation mode, a batch, and the class of each image.

    Attributes:
        model: maps (N, C, H, W) to (N, classes).
        scorer: the model, or one with the same logits that is faster at many forward passes.
        images: (N, C, H, W), as the model takes them.
        target: (N,) int64 class explained per image.
        precision: in which the model runs.
        layer: the module explained, or None for methods on the input.
        activation: its (N, K, h, w) float32 output, or None.
    """

    model: nn.Module
    scorer: nn.Module
    images: Tensor
    target: Tensor
    precision: Precision
    layer: nn.Module | None = None
    activation: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """The layer's (N, K, h, w) float32 output, of a method that is defined on a layer."""
        assert self.activation is not None, "the engine gives methods on a layer its activation"
        return self.activation

    def logits(self, images: Tensor) -> Tensor:
        """Return (M, classes) float32 logits of (M, C, H, W) images."""
        with torch.no_grad(), self.precision.restored():
            return in_parts(self.scorer, images).float()

    def scores(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the (M,) float32 logits of M images, each made from the image of that row, for its class."""
        return self.logits(images).gather(1, self.target[rows].unsqueeze(1)).squeeze(1)

    def gradients(self, images: Tensor) -> Tensor:
        """Return the (N, C, H, W) float32 gradient of each image's own class in images that stand for the batch."""
        leaf = images.detach().requires_grad_(True)
        with frozen(self.model), torch.enable_grad(), self.precision.exact():
            logits = self.model(leaf)
        (found,) = torch.autograd.grad(logits, leaf, one_hot(self.target, logits))
        return found.float()

    def finished(self, row: int, features: Tensor) -> Tensor:
        """Return the (M,) float32 scores of image ``row`` had the layer put out these (M, K, h, w) features.

        The layers before it see the image once, and what goes past the layer broadcasts against the M variants.
        """
        assert self.layer is not None, "the engine gives methods on a layer its module"
        given = features

        def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            return given.to(output.dtype)

        image = self.images[row : row + 1]
        with self.layer.register_forward_hook(replace):
            try:
                logits = self._at_once(image)
            except RuntimeError:
                # Concatenation (DenseNet) does not broadcast: the image itself is repeated then.
                logits = self._at_once(image.expand(len(features), -1, -1, -1))
        return logits[:, int(self.target[row])]

    def _at_once(self, images: Tensor) -> Tensor:
        """Return (M, classes) float32 logits of the model itself, in one pass of float32."""
        with torch.no_grad(), self.precision.exact():
            return cast(Tensor, self.model(images.contiguous(memory_format=torch.channels_last))).float()


def one_hot(target: Tensor, logits: Tensor) -> Tensor:
    """Return (N, classes) with a one at each image's class: what a backward pass starts from.

    In evaluation mode no image influences another's logits, so one such pass gives every image its own gradient.
    """
    return torch.zeros_like(logits).scatter_(1, target.unsqueeze(1), 1)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Let no gradient reach the weights, so that the graph holds only what leads to the activations."""
    with ExitStack() as undo:
        for parameter in model.parameters():
            if parameter.requires_grad:
                undo.callback(parameter.requires_grad_, True)
                parameter.requires_grad_(False)
        yield
