"""A fine last map from a coarse network: its features of three strides, brought together from the coarsest down."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from gyrus.models.classifier import Body

STRIDES = (8, 16, 32)


class Fusion(Body):
    """A backbone whose features of stride 8, 16 and 32 become one map of stride 8.

    The top-down path of a feature pyramid (Lin et al. 2017, fig. 3), without its upper outputs: a stage is brought to
    K channels by a 1x1 convolution, the coarser sum is enlarged bilinearly and added, and the finest is smoothed by a
    3x3 convolution per channel and a 1x1 convolution across them. What a cell knows of its wide surroundings comes from
    the coarse stages, where it lies from the fine ones. The head reads these features, so the class map stays linear in
    the last features, at four times the resolution per side.

    Args:
        net: a timm network, weights loaded; its layers behind the last stage are dropped.
        channels: K.

    Attributes:
        stages: of ``net.feature_info``, the last of each stride.
    """

    def __init__(self, net: nn.Module, channels: int) -> None:
        super().__init__(net)
        timm_model: Any = net
        info = timm_model.feature_info
        self.stages = [max(i for i, s in enumerate(info) if s["reduction"] == stride) for stride in STRIDES]
        timm_model.prune_intermediate_layers([self.stages[-1]], prune_head=True)
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(info[i]["num_chs"], channels, kernel_size=1) for i in self.stages)
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, K, H/8, W/8) features."""
        net: Any = self.net
        maps = net.forward_intermediates(images, self.stages, stop_early=True, intermediates_only=True)
        fine, middle, coarse = (layer(stage) for layer, stage in zip(self.lateral, maps, strict=True))
        return cast(Tensor, self.smooth(fine + _enlarged(middle + _enlarged(coarse, middle), fine)))


def _enlarged(coarse: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(coarse, size=like.shape[2:], mode="bilinear", align_corners=False)
