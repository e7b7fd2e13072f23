"""The classifier every backbone becomes: features, a class map linear in them, and a pooling."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from gyrus.certainty.novelty import Reference
from gyrus.errors import InputError
from gyrus.models.spec import ModelSpec, Pooling

LSE_SHARPNESS = 5.0


class Body(nn.Module):
    """A network up to one feature map, as one module so that a hook can name its output.

    Args:
        net: a timm model, or a :class:`gyrus.models.networks.Chain`, which has the same interface; weights loaded.
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


class Dense(nn.Sequential):
    """Layers that turn (N, K, h, w) features into the (N, ``width``) vector that the last layer of a model takes."""

    def __init__(self, *layers: nn.Module, width: int) -> None:
        super().__init__(*layers)
        self.width = width


class Classifier(nn.Module):
    """Backbone, 1x1 linear head, pooling: ``logits = pool(W A + b)``.

    The head comes before the pooling, so the class map ``W A + b`` of shape (N, classes, h, w) is linear in the last
    features A for either pooling. With the average this is exactly global average pooling followed by a linear layer,
    since the two commute (Zhou et al. 2016, eq. 2). With log-sum-exp, ``(1/r) log mean exp(r m)`` (Pinheiro &
    Collobert 2015, eq. 3; r = 5), one small strong region can decide the class. Grad-CAM equals CAM up to the factor
    1 / (h w) for both, since the weights of either pooling sum to one over the map; methods that look at each
    position's own gradient (HiResCAM, LayerCAM) equal it only for the average.

    A model may have dense layers instead of the pooling: ``logits = W dense(A) + b``. It then has no class map.

    With ``spec.head`` "sigmoid" the last layer has one output m for two classes, and the logits are -m/2 and +m/2.
    Their softmax is (1 - sigmoid(m), sigmoid(m)), their cross-entropy the binary one of m, and the larger is the
    second where sigmoid(m) > 0.5, so everything that takes logits works as it does for two outputs.

    Args:
        body: the backbone.
        spec: classes, preprocessing and provenance.
        dense: layers between features and head.
        dropout: share of what the head takes that is left out in each training step (Srivastava et al. 2014). Before
            a class map these are whole channels, the same at every position, which equals dropout on the averaged
            features; in evaluation mode nothing is left out and the class map is linear as ever.

    Attributes:
        spec: classes, preprocessing and provenance; saved with the weights.
        body: (N, C, H, W) -> (N, K, h, w), the default target layer of explanations.
        dense: the layers between features and head, or None.
        head: the last, linear layer, with bias: a 1x1 convolution where there is a class map.
        reference: what a calibrated model compares slices with, by name; empty otherwise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: Body, spec: ModelSpec, dense: Dense | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.reference: Reference = {}
        self.body = body
        self.dense = dense
        kind = nn.Dropout2d if dense is None else nn.Dropout
        self.dropout = kind(dropout) if dropout else nn.Identity()
        outputs = 1 if spec.head == "sigmoid" else len(spec.classes)
        self.head: nn.Linear | nn.Conv2d = (
            nn.Conv2d(body.channels, outputs, kernel_size=1) if dense is None else nn.Linear(dense.width, outputs)
        )
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.head.bias))
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.preprocess.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.preprocess.std).view(shape), persistent=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.spec.classes

    @property
    def has_class_map(self) -> bool:
        """Whether the class scores are a pooled map that is linear in the last features."""
        return self.dense is None

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
        """Return (N, classes, h, w) evidence from (N, K, h, w) features.

        Raises:
            InputError: the model has dense layers instead.
        """
        if not self.has_class_map:
            raise InputError(no_class_map(self.spec))
        return self._per_class(self.head(features))

    def class_weights(self) -> Tensor:
        """Return the head's (classes, K) weights: row c holds what class c adds up the head's K inputs with."""
        return self._per_class(self.head.weight.flatten(1).T).T

    def embed(self, images: Tensor) -> Tensor:
        """Map normalised (N, C, H, W) images to what :meth:`finish` takes.

        That is all that stays the same when only the last layer learns: (N, K, h, w) features, averaged to
        (N, K, 1, 1) where the class map is averaged anyway, or the (N, D) vector of the dense layers.
        """
        features = self.features(images)
        if self.dense is not None or self.spec.pooling == "lse":
            return features
        return features.mean(dim=(2, 3), keepdim=True)

    def features(self, images: Tensor) -> Tensor:
        """Map normalised (N, C, H, W) images to (N, K, h, w) features, or the (N, D) vector of the dense layers."""
        features = self.body(images)
        return cast(Tensor, features if self.dense is None else self.dense(features))

    def finish(self, features: Tensor) -> Tensor:
        """Map features from :meth:`features` or :meth:`embed` to (N, classes) logits."""
        features = self.dropout(features)
        if self.has_class_map:
            return pool(self.class_map(features), self.spec.pooling)
        return self._per_class(self.head(features))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (N, C, H, W) images to (N, classes) logits."""
        return self.finish(self.features(images))

    def _per_class(self, outputs: Tensor) -> Tensor:
        """Return (N, classes, ...) from the head's (N, outputs, ...)."""
        return outputs if self.spec.head == "softmax" else torch.cat([-outputs / 2, outputs / 2], dim=1)


def no_class_map(spec: ModelSpec) -> str:
    """Return the sentence for a model without a class map."""
    return f"this {spec.architecture} ends in dense layers, so it has no class map and no cam: use gradcam instead"


def averaged(features: Tensor) -> Tensor:
    """Return (N, D) of what :meth:`Classifier.features` gives, averaged over the map: what strangeness is told by."""
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def pool(class_map: Tensor, pooling: Pooling) -> Tensor:
    """Pool a (N, classes, h, w) class map to (N, classes) logits; see :class:`Classifier` for the two formulas."""
    if pooling == "avg":
        return class_map.mean(dim=(2, 3))
    cells = class_map.flatten(2)
    return (torch.logsumexp(LSE_SHARPNESS * cells, dim=2) - math.log(cells.shape[2])) / LSE_SHARPNESS
