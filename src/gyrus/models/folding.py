"""A copy of a network for many forward passes: the same logits in less time.

Four things make it fast on a processor, in the order of what they bring: batch normalisation is folded into the
convolutions; activations lie with the channels last; few enough images go at once that the activations stay in memory
the process holds already; and the weights are laid out for oneDNN once, not in each pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_ROUNDING = 1e-3
_PIXELS = 4 * 224 * 224
"""Of the images in one pass on a processor. Activations of more make the allocator take new pages from the system in
every pass and give them back: for MobileNetV2, 32 images of 224 px at once take 1.7 times as long as 8 times 4."""


class Folded(nn.Module):
    """What :func:`folded` returns: a network for many forward passes, not for training.

    Attributes:
        net: the copy.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) images to (N, classes) logits."""
        return in_parts(self.net, images)


def in_parts(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return a network's outputs for images that need no gradient, on a processor a few at a time.

    Args:
        net: a network in evaluation mode, or a part of one; no image influences another's output.
        images: (N, C, H, W).
    """
    images = images.contiguous(memory_format=torch.channels_last)
    if images.device.type != "cpu":
        return net(images)
    at_once = max(1, _PIXELS // (images.shape[2] * images.shape[3]))
    return torch.cat([net(part) for part in torch.split(images, at_once)])


class Packed(nn.Module):
    """A convolution whose weights lie as oneDNN multiplies them.

    That is so for float32 forward passes; gradients and autocast get the convolution as it was.

    Args:
        plain: with zeros, or nothing, as padding.
        size: (N, C, H, W) of an input it is likely to get.
    """

    def __init__(self, plain: nn.Conv2d, size: Sequence[int]) -> None:
        super().__init__()
        self.plain = plain
        self.geometry = (plain.padding, plain.stride, plain.dilation, plain.groups)
        weight = plain.weight.detach().to_mkldnn()
        self.weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *self.geometry, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, K, h, w)."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or x.dtype != torch.float32:
            return cast(Tensor, self.plain(x))
        convolve = torch.ops.mkldnn._convolution_pointwise  # what torch.compile makes of a convolution too
        return cast(Tensor, convolve(x, self.weight, self.plain.bias, *self.geometry, "none", [], ""))


def folded(model: nn.Module, sample: Tensor) -> Folded:
    """Return a copy in evaluation mode that gives the same logits in less time; the model is left untouched.

    Where a batch normalisation takes a convolution's output as it is, which one pass of ``sample`` shows, its scale and
    shift go into the convolution's weights (Jacob et al. 2018, sec. 3.2). The logits of ``sample`` are compared before
    and after; if they differ by more than rounding, as in a network that reads a convolution's output twice, the copy
    is left unfolded. For forward passes without gradients on a processor, weights are laid out as oneDNN wants them.

    Args:
        model: any network; one that is folded already is returned as it is.
        sample: (N, C, H, W) input; one image is enough.
    """
    if isinstance(model, Folded):
        return model
    net = _ready(model)
    with torch.no_grad():
        before, pairs = _pairs(net, sample)
        _fold(net, pairs)
        _pack(net, sample)
        after = net(sample)
    same = torch.allclose(before, after, rtol=_ROUNDING, atol=_ROUNDING * float(before.abs().max()))
    return Folded(net if same else _ready(model))


def _ready(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().to(memory_format=torch.channels_last)


def _pairs(net: nn.Module, sample: Tensor) -> tuple[Tensor, dict[nn.BatchNorm2d, nn.Conv2d]]:
    """Return the logits, and each batch normalisation that can be folded with the convolution before it."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # with the tensor, so that its id is not given away meanwhile
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made and module.running_mean is not None:
            pairs[module] = made[id(inputs[0])][0]

    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    logits: Tensor = net(sample)
    for hook in hooks:
        hook.remove()
    return logits, pairs


def _fold(net: nn.Module, pairs: Mapping[nn.BatchNorm2d, nn.Conv2d]) -> None:
    for norm, convolution in pairs.items():
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None, "those without running statistics are not paired"
        assert variance is not None, "there are both or none"
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
    # timm's normalisations bring their activation along
    _replace(net, {norm: getattr(norm, "act", nn.Identity()) for norm in pairs})


def _pack(net: nn.Module, sample: Tensor) -> None:
    """Lay out the weights of the plain convolutions, each for the size of input that it meets."""
    onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if sample.device.type != "cpu" or not onednn or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return
    sizes: dict[nn.Module, torch.Size] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[module] = inputs[0].shape

    def packs(module: nn.Module) -> bool:  # not timm's subclasses, which pad as they go
        return (
            type(module) is nn.Conv2d
            and module.weight.dtype == torch.float32
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )

    hooks = [m.register_forward_pre_hook(note) for m in net.modules() if packs(m)]
    net(sample)
    for hook in hooks:
        hook.remove()
    _replace(net, {m: Packed(m, size) for m, size in sizes.items() if isinstance(m, nn.Conv2d)})


def _replace(net: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if child in new:
                setattr(parent, name, new[child])
