"""The classifier every backbone becomes: features, a class map linear in them, and a pooling."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from gyrus.models.spec import ModelSpec, Pooling

LSE_SHARPNESS = 5.0


class Body(nn.Module):
    """A timm network up to one feature map, as one module so that a hook can name its output.

    Args:
        net: a timm model, weights loaded.
        stage: end after this entry of its ``feature_info`` and drop the rest; None uses the whole network.
    """

    def __init__(self, net: nn.Module, stage: int | None = None) -> None:
        super().__init__()
        timm_model: Any = net  # timm's models share an interface that no type describes
        self.net = net
        self.stage = stage
        self.channels: int = timm_model.num_features if stage is None else timm_model.feature_info[stage]["num_chs"]
        if stage is not None:
            timm_model.prune_intermediate_layers([stage], prune_head=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, K, h, w) features."""
        net: Any = self.net
        if self.stage is None:
            return cast(Tensor, net.forward_features(images))
        maps = net.forward_intermediates(images, [self.stage], stop_early=True, intermediates_only=True)
        return cast(Tensor, maps[0])


class Classifier(nn.Module):
    """Backbone, 1x1 linear head, pooling: ``logits = pool(W A + b)``.

    The head comes before the pooling, so the class map ``W A + b`` of shape (N, classes, h, w) is linear in the last
    features A for either pooling. With the average this is exactly global average pooling followed by a linear layer,
    since the two commute (Zhou et al. 2016, eq. 2). With log-sum-exp, ``(1/r) log mean exp(r m)`` (Pinheiro &
    Collobert 2015, eq. 3; r = 5), one small strong region can decide the class. Grad-CAM equals CAM up to the factor
    1 / (h w) for both, since the weights of either pooling sum to one over the map; methods that look at each
    position's own gradient (HiResCAM, LayerCAM) equal it only for the average.

    Attributes:
        spec: classes, preprocessing and provenance; saved with the weights.
        body: (N, C, H, W) -> (N, K, h, w), the default target layer of explanations.
        head: the linear layer, as a 1x1 convolution with bias.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: Body, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = body
        self.head = nn.Conv2d(body.channels, len(spec.classes), kernel_size=1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.head.bias))
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.preprocess.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.preprocess.std).view(shape), persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.spec.classes

    def normalise(self, slices: Tensor) -> Tensor:
        """Turn prepared slices into network input.

        Args:
            slices: (N, H, W) uint8, or float in 0..255, from :func:`gyrus.preprocess.prepare`.

        Returns:
            (N, C, H, W) float on the model's device, grey repeated over the channels, normalised by mean and std.
        """
        grey = slices.to(self.mean.device, self.mean.dtype).div(255).unsqueeze(1)
        return grey.sub(self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)

    def class_map(self, features: Tensor) -> Tensor:
        """Return (N, classes, h, w) evidence from (N, K, h, w) features."""
        return cast(Tensor, self.head(features))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (N, C, H, W) images to (N, classes) logits."""
        return pool(self.class_map(self.body(images)), self.spec.pooling)


def pool(class_map: Tensor, pooling: Pooling) -> Tensor:
    """Pool a (N, classes, h, w) class map to (N, classes) logits; see :class:`Classifier` for the two formulas."""
    if pooling == "avg":
        return class_map.mean(dim=(2, 3))
    cells = class_map.flatten(2)
    return (torch.logsumexp(LSE_SHARPNESS * cells, dim=2) - math.log(cells.shape[2])) / LSE_SHARPNESS
