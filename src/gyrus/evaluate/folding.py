"""A copy of a network for many forward passes: batch normalisation folded into the convolutions, channels last."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_ROUNDING = 1e-3


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
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits


def folded(model: nn.Module, sample: Tensor) -> Folded:
    """Return a copy in evaluation mode that gives the same logits in less time; the model is left untouched.

    Where a batch normalisation takes a convolution's output as it is, which one pass of ``sample`` shows, its scale and
    shift go into the convolution's weights (Jacob et al. 2018, sec. 3.2). The logits of ``sample`` are compared before
    and after; if they differ by more than rounding, as in a network that reads a convolution's output twice, the copy
    is left unfolded.

    Args:
        model: any network; one that is folded already is returned as it is.
        sample: (N, C, H, W) input; one image is enough.
    """
    if isinstance(model, Folded):
        return model
    net = _ready(model)
    with torch.no_grad():
        before, pairs = _pairs(net, sample)
        for norm, convolution in pairs.items():
            _fold(net, norm, convolution)
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


def _fold(net: nn.Module, norm: nn.BatchNorm2d, convolution: nn.Conv2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None, "those without running statistics are not paired"
    assert variance is not None, "there are both or none"
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    rest = getattr(norm, "act", nn.Identity())  # timm's normalisations bring their activation along
    for parent in net.modules():
        for name, child in parent.named_children():
            if child is norm:
                setattr(parent, name, rest)
