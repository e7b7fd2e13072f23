"""FullGrad: the class score told apart into the input's share and every bias's share.

A network of convolutions, folded batch normalisations, pooling, and activations that are linear on both sides of zero
(ReLU, leaky ReLU) obeys s = sum x ds/dx + sum over biases b of b ds/db (Srinivas & Fleuret 2019).
A clipped unit (ReLU6 above six), a smooth activation or a gate holds a share that no bias has; it is then missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gyrus.explain.cards import INPUT, FullMethod

_TINY = 1e-7  # grad-cam's, for agreement to the last digits
_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d)


class BiasTap(TorchFunctionMode):
    """While it is entered, notes every bias that is added to a feature map; later hands on each one's share.

    Functions are watched rather than modules: a module may hold more than its bias, as timm's batch normalisation does
    its activation. A hook set on a tensor before an in-place activation still sees the gradient before it.

    Attributes:
        see: called with each share b ds/db of shape (N, K, h, w) in the course of a backward pass; None: nobody asks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.see: Callable[[Tensor], None] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the function, and hook its output if it adds a bias to a feature map."""
        output = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            bias = _argument(args, kwargs, 2, "bias")
        elif func is F.batch_norm:
            bias = _folded(args, kwargs or {})
        else:
            return output
        if bias is not None and output.ndim == 4 and output.requires_grad:
            output.register_hook(partial(self._hand_on, bias.detach().float().view(1, -1, 1, 1)))
        return output

    def _hand_on(self, bias: Tensor, gradient: Tensor) -> None:
        if self.see is not None:
            self.see(bias * gradient.float())


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any] | None, place: int, name: str) -> Any:
    return args[place] if len(args) > place else (kwargs or {}).get(name)


def _folded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the (K,) constant that batch normalisation adds to its scaled input: beta - gamma mean / sigma."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = {"eps": 1e-5, **dict(zip(names, args, strict=False)), **kwargs}
    mean, variance = given["running_mean"], given["running_var"]
    if given.get("training") or mean is None:
        return given.get("bias")
    shift: Tensor = -mean / (variance + given["eps"]).sqrt()
    shift = shift if given.get("weight") is None else shift * given["weight"]
    return shift if given.get("bias") is None else shift + given["bias"]


class Shares:
    """The sums of one backward pass: for each method, one map per size of feature map, so that memory stays small."""

    def __init__(self, methods: Sequence[FullMethod]) -> None:
        self._sums: dict[FullMethod, dict[tuple[int, int], Tensor]] = {method: {} for method in methods}

    def add(self, share: Tensor) -> None:
        """Add one share of shape (N, K, h, w)."""
        with torch.no_grad(), torch.autocast(share.device.type, enabled=False):
            for method, sums in self._sums.items():
                part = method.rule(share)
                size = (part.shape[1], part.shape[2])
                sums[size] = sums[size] + part if size in sums else part

    def maps(self, size: tuple[int, int]) -> dict[tuple[str, str], Tensor]:
        """Return (method, "input") -> (N, H, W)."""
        return {
            (method.name, INPUT): torch.stack([method.place(part, size) for part in sums.values()]).sum(dim=0)
            for method, sums in self._sums.items()
        }


def spread(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (N, h, w) maps enlarged to (N, H, W) bilinearly, each keeping its sum."""
    rows, columns = (_shares(n, to).to(maps) for n, to in zip(maps.shape[1:], size, strict=True))
    return rows.T @ maps @ columns


def _shares(cells: int, to: int) -> Tensor:
    """Return (cells, to): how much of each cell every pixel of a line receives; rows sum to one."""
    mode = "linear" if to >= cells else "area"  # interpolation to fewer pixels would pass cells by
    weights = F.interpolate(torch.eye(cells).unsqueeze(0), to, mode=mode).squeeze(0)
    return weights / weights.sum(dim=1, keepdim=True)


@partial(
    FullMethod,
    place=lambda maps, size: F.interpolate(maps.unsqueeze(1), size, mode="bilinear").squeeze(1),
    name="fullgrad",
    paper="Srinivas & Fleuret 2019, the saliency map",
    formula="sum over the input's and every bias's channels of up(m / max m), m = |share| - min |share|",
    signed=False,
    direction="sensitivity",
    where="input",
)
def fullgrad(share: Tensor) -> Tensor:
    """The paper's map: every channel's absolute share scaled to 0..1, enlarged and summed."""
    size = share.abs()
    size = size - size.amin(dim=(2, 3), keepdim=True)
    return (size / (size.amax(dim=(2, 3), keepdim=True) + _TINY)).sum(dim=1)


@partial(
    FullMethod,
    place=spread,
    name="fullgrad-raw",
    paper="Srinivas & Fleuret 2019, the decomposition, each share spread bilinearly without loss",
    formula="sum over the input's and every bias's channels of spread(share); adds up to s less dense layers' biases",
    signed=True,
    where="input",
)
def fullgrad_raw(share: Tensor) -> Tensor:
    """The shares themselves, signed and unscaled, so that the map adds up to the score."""
    return share.sum(dim=1)
