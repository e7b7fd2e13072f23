"""Depthwise gradients under bfloat16: the same forward, float32's gradients, and torch's own way everywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gyrus import depthwise
from gyrus.datasets import open_dataset
from gyrus.depthwise import SwiftDepthwise
from gyrus.splits import holdout
from gyrus.training import fit, make_config

CHANNELS = 6
FORMS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 5, "padding": 2},
    {"kernel_size": 5, "stride": 2},
    {"kernel_size": (1, 7), "padding": (0, 3)},
    {"kernel_size": 5, "dilation": 2, "padding": 4, "bias": True},
    {"kernel_size": 3, "stride": (1, 2), "bias": True},
]


def convolution(**form: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(CHANNELS, CHANNELS, groups=CHANNELS, **({"bias": False} | form))


def run(net: nn.Module, *, bf16: bool, swift: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output, and the gradients of a weighted sum of it by the image and each weight."""
    images = torch.randn(3, CHANNELS, 17, 20, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if swift:
            with SwiftDepthwise():
                out = net(images)
        else:
            out = net(images)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(2))
    leaves = {"images": images, **dict(net.named_parameters())}
    found = torch.autograd.grad((out.float() * slope).sum(), list(leaves.values()))
    return out.detach(), dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_forward_as_torch_backward_as_float32(form: dict[str, Any]) -> None:
    net = convolution(**form)
    torchs, _ = run(net, bf16=True, swift=False)
    ours, slopes = run(net, bf16=True, swift=True)
    _, exact = run(net, bf16=False, swift=False)
    assert ours.dtype == torchs.dtype == torch.bfloat16
    torch.testing.assert_close(ours, torchs, rtol=0.01, atol=0.01 if "bias" in form else 0)
    for name, slope in exact.items():
        assert slopes[name].dtype == torch.float32
        assert (slopes[name] - slope).norm() < 0.01 * slope.norm(), name


def ways(net: nn.Module, images: Tensor, *, bf16: bool = True) -> str:
    """Return the name of the function that made the output."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), SwiftDepthwise():
        out: Tensor = net(images)
    assert out.grad_fn is not None
    return str(out.grad_fn.name())


def test_only_what_is_slow_goes_our_way() -> None:
    images = torch.randn(2, CHANNELS, 12, 12)
    assert "_Depthwise" in ways(convolution(kernel_size=5), images)
    assert "_Depthwise" in ways(convolution(kernel_size=3, stride=2), images)
    assert "_Depthwise" not in ways(convolution(kernel_size=5), images, bf16=False)
    assert "_Depthwise" not in ways(convolution(kernel_size=3), images)
    assert "_Depthwise" not in ways(convolution(kernel_size=5, padding="same"), images)
    assert "_Depthwise" not in ways(nn.Conv2d(CHANNELS, CHANNELS, 5), images)
    assert "_Depthwise" not in ways(nn.Conv2d(CHANNELS, CHANNELS, 5, groups=2), images)
    assert "_Depthwise" not in ways(nn.Conv2d(CHANNELS, 2 * CHANNELS, 5, groups=CHANNELS), images)


def test_autocast_to_another_type_is_left_alone() -> None:
    net, images = convolution(kernel_size=5), torch.randn(2, CHANNELS, 12, 12)
    with torch.autocast("cpu", torch.float16), SwiftDepthwise():
        assert net(images).dtype == torch.float16


def test_an_image_that_needs_no_gradient_gets_none() -> None:
    net = convolution(kernel_size=5)
    with torch.autocast("cpu", torch.bfloat16), SwiftDepthwise():
        net(torch.randn(2, CHANNELS, 12, 12)).float().sum().backward()
    assert net.weight.grad is not None


def test_training_takes_it(tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    forward = depthwise._Depthwise.forward

    def counted(ctx: Any, *inputs: Any) -> Tensor:
        taken.append(1)
        return forward(ctx, *inputs)

    monkeypatch.setattr(depthwise._Depthwise, "forward", staticmethod(counted))
    dataset = open_dataset(tiny_phantom)
    config = make_config(model="mobilenetv2_100", size=64, channels=1, epochs=1, pretrained="none", precision="bf16")
    fit(dataset, holdout(dataset, (0.5, 0.25, 0.25)), config, tmp_path / "run")
    assert len(taken) >= 4  # of each step, the four depthwise convolutions that stride
