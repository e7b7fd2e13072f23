"""Networks that timm lacks: AlexNet, and the small ones of two published studies, each a plain chain of layers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import torchvision
from torch import Tensor, nn


class Chain(nn.Module):
    """Layers in a row, behind that part of timm's interface which a body and the choice of layers need.

    Attributes:
        features: the layers, by number.
        feature_info: for each stride its last layer: ``reduction``, ``num_chs``, ``module``.
        num_features: channels of the last.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.feature_info = _stages(layers)
        self.num_features: int = self.feature_info[-1]["num_chs"]

    def forward_features(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, K, h, w) features."""
        return cast(Tensor, self.features(images))

    def forward_intermediates(self, images: Tensor, stages: list[int], **_: Any) -> list[Tensor]:
        """Return the features of one stage, which :meth:`prune_intermediate_layers` has made the last."""
        assert stages == [len(self.feature_info) - 1]
        return [self.forward_features(images)]

    def prune_intermediate_layers(self, stages: list[int], **_: Any) -> None:
        """Drop what comes after one stage."""
        self.feature_info = self.feature_info[: stages[0] + 1]
        self.features = self.features[: int(self.feature_info[-1]["module"].rpartition(".")[2]) + 1]


def _stages(layers: tuple[nn.Module, ...]) -> list[dict[str, Any]]:
    stride, channels = 1, 0
    stages: dict[int, dict[str, Any]] = {}
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            channels, stride = layer.out_channels, stride * layer.stride[0]
        elif isinstance(layer, nn.MaxPool2d):
            stride *= cast(int, layer.stride)
        stages[stride] = {"reduction": stride, "num_chs": channels, "module": f"features.{i}"}
    return list(stages.values())


def alexnet(channels: int) -> Chain:
    """AlexNet's convolutions in the form of Krizhevsky 2014, as torchvision has them (BSD-3) and their weights fit."""

    def convolution(inputs: int, outputs: int, side: int, stride: int, padding: int) -> tuple[nn.Module, nn.Module]:
        return nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU(inplace=True)

    return Chain(
        *convolution(channels, 64, 11, 4, 2),
        nn.MaxPool2d(3, 2),
        *convolution(64, 192, 5, 1, 2),
        nn.MaxPool2d(3, 2),
        *convolution(192, 384, 3, 1, 1),
        *convolution(384, 256, 3, 1, 1),
        *convolution(256, 256, 3, 1, 1),
        nn.MaxPool2d(3, 2),
    )


def small_cnn(channels: int) -> Chain:
    """Four blocks of a 3 x 3 convolution (8, 16, 32, 64 filters), ReLU and 2 x 2 max-pooling."""
    blocks = [
        (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2, 2))
        for before, after in pairwise((channels, 8, 16, 32, 64))
    ]
    return Chain(*(layer for block in blocks for layer in block))


def attention_stem(channels: int) -> Chain:
    """What comes before the attention in :class:`gyrus.models.attention.CamAttention`: 240 px become (32, 60, 60)."""
    return Chain(nn.Conv2d(channels, 32, 5, padding=2), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.MaxPool2d(4, 4))


def torchvision_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of one architecture, downloaded once into torch's cache.

    Raises:
        OSError: no network and nothing in the cache.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))


LEAST = {"alexnet": 63}
"""Name -> side of the smallest image of which anything reaches its last layer, where that is more than 32 px."""

CHAINS: dict[str, Callable[[int], Chain]] = {
    "alexnet": alexnet,
    "small_cnn": small_cnn,
    "cam_attention": attention_stem,
}
"""Name -> the function that makes it, given the channels of its input."""
