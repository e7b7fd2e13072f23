"""Depthwise convolutions whose backward pass does not crawl in bfloat16 on a processor.

oneDNN has no bfloat16 kernel there for two gradients of a depthwise convolution: by the input where it strides, and by
a weight larger than 3 x 3. What PyTorch falls back on takes three to fifteen times as long as the same gradient in
float32, and was a third of a training step of MobileNetV2 and half of EfficientNet-Lite's
(``benchmarks/depthwise.py``). So these are computed in float32. Forward, only a
bias is added apart, with one rounding more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SWIFT = 3
"""The largest side of a kernel whose gradient is not slow."""


class SwiftDepthwise(TorchFunctionMode):
    """A context whose depthwise convolutions are fast to differentiate under autocast to bfloat16 on a processor.

    Elsewhere it changes nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or our own convolution in place of torch's."""
        if func is torch.conv2d and torch.is_autocast_enabled("cpu"):
            return _convolve(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Do what ``torch.conv2d`` does, whose parameters these are."""
    steps = _pair(stride)
    bf16 = input.device.type == "cpu" and torch.get_autocast_dtype("cpu") == torch.bfloat16
    depthwise = input.ndim == 4 and input.shape[1] == groups == len(weight)
    slow = max(steps) > 1 or max(weight.shape[2:]) > _SWIFT
    if not (bf16 and depthwise and slow) or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    out: Tensor = _Depthwise.apply(input, weight, steps, _pair(padding), _pair(dilation))
    return out if bias is None else out + bias.to(out.dtype)[:, None, None]


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution, (N, C, H, W) by (C, 1, h, w): forward in bfloat16, backward in float32."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]
    ) -> Tensor:
        images, kernel = images.to(torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, dilation
        return torch.conv2d(images, kernel, None, stride, padding, dilation, len(kernel))

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        images, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], False]
        by_images, by_weight, _ = torch.ops.aten.convolution_backward(
            slope.float(), images.float(), weight.float(), None, *ctx.geometry, False, [0, 0], len(weight), wanted
        )
        return by_images, by_weight, None, None, None
