"""Which layers of a network to explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from gyrus.errors import InputError
from gyrus.models.classifier import Classifier

LayerSpec = Sequence[str] | Literal["last", "stages", "sweep"] | None
"""Names of modules (as in ``named_modules()``). Or "last", a gyrus model's last feature map, which None means too;
"stages", its last feature map of each size; "sweep", every convolution's, of any model."""


def sweep_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of every 2-D convolution before the head and its dense layers, in the order of definition."""
    behind: set[nn.Module] = set()
    if isinstance(model, Classifier):
        behind = {model.head, *(model.dense.modules() if model.dense is not None else ())}
    return tuple(n for n, module in model.named_modules() if isinstance(module, nn.Conv2d) and module not in behind)


def stage_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a gyrus model's stages, from fine to coarse; the coarsest is the last feature map.

    Raises:
        InputError: the model is not gyrus's own, and so does not say what its stages are.
    """
    if not isinstance(model, Classifier):
        raise InputError("name the layers to explain: only gyrus's own models say what their stages are")
    by_stride: dict[int, str] = {}
    stages = list(getattr(model.body.net, "feature_info", ()))
    for stage in stages if model.body.stage is None else stages[: model.body.stage + 1]:
        by_stride[stage["reduction"]] = f"body.net.{stage['module']}"
    if model.spec.target_layer == "body":
        by_stride.popitem()  # the last stage is the body's output
    return (*by_stride.values(), model.spec.target_layer)


def resolve_layers(model: nn.Module, layers: LayerSpec) -> dict[str, nn.Module]:
    """Return name -> module of the layers meant; none for a foreign model of which none was named.

    Raises:
        InputError: no layer is named, or one that does not exist.
    """
    if layers is None or layers == "last":
        names: Sequence[str] = (model.spec.target_layer,) if isinstance(model, Classifier) else ()
        return {name: _submodule(model, name) for name in names}
    if layers == "stages":
        layers = stage_layers(model)
    elif layers == "sweep":
        layers = sweep_layers(model)
    names = (layers,) if isinstance(layers, str) else layers
    if not names:
        raise InputError("there is no layer to explain: name at least one")
    return {name: _submodule(model, name) for name in names}


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        close = [n for n, _ in model.named_modules() if name.split(".")[-1] in n.split(".")][:5]
        hint = f"; did you mean {', '.join(close)}?" if close else ": print(model) shows the names"
        raise InputError(f"the model has no layer {name!r}{hint}") from None
