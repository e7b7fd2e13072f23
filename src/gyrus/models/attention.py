"""Attention guided by the class map: the network of study 5, whose text gives its order and sizes but no formula.

Three ideas, one small piece each: the class map says where the evidence is (:func:`evidence`), channel attention asks
what is there (:class:`ChannelAttention`), spatial attention then where to look (:class:`SpatialAttention`).
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gyrus.models.classifier import Body, Classifier, Dense
from gyrus.models.spec import ModelSpec

POOL = 4
GATE = 2.0
"""Where the attention's sigmoids begin: at factors of about 0.9 and not 0.5, which, one after the other, would quarter
the features of a head that has learned without attention when it is switched on."""
_EPSILON = 1e-6


def evidence(features: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Return where the features speak for the class that they speak for most.

    The class map of a flatten-and-linear head is ``M_c[i, j] = sum_k W_c[k, i, j] A_k[i, j]``, whose sum over the
    positions plus the bias is the class's score. Of the class c of the highest score, what is positive is kept and set
    against its maximum, ``S = (relu(M_c) + e) / (max relu(M_c) + e)``: the usual heatmap, in (0, 1], whatever the
    size of the weights, and 1 everywhere where nothing speaks for the class.

    Args:
        features: (N, K, h, w), what the head would take without attention.
        weights: (classes, K * h * w) of the head.
        bias: (classes,) of the head.

    Returns:
        (N, 1, h, w). No gradient passes: the map tells the attention where to look, and is not to be bent by it.
    """
    with torch.no_grad():
        n, k, h, w = features.shape
        maps = torch.einsum("nkhw,ckhw->nchw", features, weights.view(-1, k, h, w))
        best = (maps.sum(dim=(2, 3)) + bias).argmax(dim=1)
        positive = maps[torch.arange(n, device=maps.device), best].relu().unsqueeze(1)
        return (positive + _EPSILON) / (positive.amax(dim=(2, 3), keepdim=True) + _EPSILON)


class ChannelAttention(nn.Module):
    """What to look at: one factor in (0, 1) per channel, ``sigmoid(MLP(average) + MLP(maximum))``.

    The two descriptors of CBAM's channel attention (Woo et al. 2018, eq. 2), each weighted by the class map S:
    ``average_k = sum S A_k / sum S`` and ``maximum_k = max S A_k``. Both see most of a channel where the evidence is,
    and an even S gives CBAM back exactly, which is why the weights enter here and in no other place.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = channels // reduction
        last = nn.Linear(hidden, channels)
        nn.init.constant_(last.bias, GATE / 2)  # which is added twice
        self.shared = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), last)

    def forward(self, features: Tensor, where: Tensor) -> Tensor:
        """Map (N, K, h, w) features and an (N, 1, h, w) class map to (N, K, 1, 1) factors."""
        weighted = features * where
        average = weighted.sum(dim=(2, 3)) / where.sum(dim=(2, 3))
        return cast(Tensor, self.shared(average) + self.shared(weighted.amax(dim=(2, 3)))).sigmoid()[:, :, None, None]


class SpatialAttention(nn.Module):
    """Where to look: one factor in (0, 1) per position, from the mean and the maximum over the channels.

    ``sigmoid(conv7x7([mean; max]))`` (Woo et al. 2018, eq. 3).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)
        nn.init.constant_(cast(Tensor, self.conv.bias), GATE)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, K, h, w) features to (N, 1, h, w) factors."""
        both = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        return cast(Tensor, self.conv(both)).sigmoid()


class CamAttention(Classifier):
    """Study 5's network: 5 x 5 convolution, attention guided by the class map, and one linear layer.

    At 240 px: convolution with 32 filters, batch normalisation, ReLU and max-pooling by 4 give (32, 60, 60); channel,
    then spatial attention (CBAM's order) scale them; max-pooling by 4 gives (32, 15, 15), flattened into the head.

    The class map that guides the attention is that of the head itself: its present weights on the features as they are
    pooled without attention. It says nothing while the head is untrained, which is a reason to begin without attention,
    as the study does for two epochs, and to switch it on later. A new model has it off. The switch is a buffer, so a
    saved model is as it was trained.

    There is no cam here, as each position has weights of its own; at the default layer, which the head reads,
    hirescam is the exact class map: its sum plus the bias is the class's score.
    """

    LAST: ClassVar[str] = "dense.0"
    """The module whose (N, 32, 15, 15) output the head reads."""

    attends: Tensor

    def __init__(self, body: Body, spec: ModelSpec, dropout: float = 0.0) -> None:
        side = spec.preprocess.size // POOL // POOL
        dense = Dense(nn.MaxPool2d(POOL, POOL), nn.Flatten(), width=body.channels * side**2)
        super().__init__(body, spec, dense, dropout)
        self.channel = ChannelAttention(body.channels)
        self.spatial = SpatialAttention()
        self.register_buffer("attends", torch.tensor(False))

    def switch_attention(self, on: bool) -> None:
        """Let the attention take part from now on, or no more."""
        self.attends.fill_(on)

    def features(self, images: Tensor) -> Tensor:
        """Map normalised (N, C, H, W) images to the (N, D) vector that the head takes."""
        features = self.body(images)
        if self.attends:
            features = features * self.channel(features, self.guide(features))
            features = features * self.spatial(features)
        return cast(Tensor, self.dense(features)) if self.dense is not None else features

    def guide(self, features: Tensor) -> Tensor:
        """Return the (N, 1, h, w) class map of (N, K, h, w) features from the body, each cell over its own patch."""
        bias = self._per_class(cast(Tensor, self.head.bias)[None])[0]
        coarse = evidence(F.max_pool2d(features, POOL), self.class_weights(), bias)
        return F.interpolate(coarse, size=features.shape[2:], mode="nearest")
