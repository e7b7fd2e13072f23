"""One forward pass, and the backward passes through the graph it leaves.

The layers before the earliest one explained run without a graph. There the graph is cut: the layer's output becomes a
leaf, and the rest of the network runs on it. Methods on the input move the cut to the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain.cards import INPUT
from gyrus.explain.fullgrad import BiasTap
from gyrus.explain.subject import frozen, one_hot


@dataclass(frozen=True, slots=True, eq=False)
class ForwardPass:
    """Activations and logits of one batch, and the graph between them.

    Attributes:
        images: (N, C, H, W), what the model was given; a leaf of the graph where the pass began at the input.
        logits: (N, classes), still attached to the graph.
        activations: layer name -> (N, K, h, w).
        tap: hands on the shares of the biases, where it was asked for.
    """

    images: Tensor
    logits: Tensor
    activations: Mapping[str, Tensor]
    tap: BiasTap | None = None

    def visit(self, target: Tensor, see: Callable[[str, Tensor], None]) -> None:
        """Run one backward pass, and hand each gradient to ``see`` as it arrives; the graph is kept.

        No gradient outlives its visit, so memory does not grow with the number of layers.

        Args:
            target: (N,) int64 class per image.
            see: called with a layer's name, or "input", and its (N, K, h, w) gradient of each image's own target logit.

        Raises:
            InputError: a layer has no part in the logits.
        """
        start = one_hot(target, self.logits)
        tensors = {**self.activations, **({INPUT: self.images} if self.images.requires_grad else {})}
        leaves = {name: t for name, t in tensors.items() if t.is_leaf}
        idle = set(tensors)

        def arrived(name: str, gradient: Tensor) -> None:
            idle.discard(name)
            see(name, gradient)

        with exact(self.logits.device), ExitStack() as stack:
            for name in tensors.keys() - leaves.keys():
                hooked: Any = tensors[name]  # torch does not type what follows
                stack.callback(hooked.register_hook(partial(arrived, name)).remove)
            found = torch.autograd.grad(self.logits, list(leaves.values()), start, retain_graph=True, allow_unused=True)
            for name, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    arrived(name, gradient)
        first = next((name for name in tensors if name in idle), None)
        if first is not None:
            raise InputError(idle_layer(first))

    @contextmanager
    def watching(self, see: Callable[[Tensor], None]) -> Iterator[None]:
        """Hand each bias's share of the target's logit to ``see`` during visits, if the pass watched the biases."""
        if self.tap is None:
            yield
            return
        self.tap.see = see
        try:
            yield
        finally:
            self.tap.see = None

    def gradients(self, target: Tensor) -> dict[str, Tensor]:
        """Return layer name -> (N, K, h, w) gradient of each image's own target logit; the graph is kept.

        Raises:
            InputError: as :meth:`visit`.
        """
        found: dict[str, Tensor] = {}
        self.visit(target, found.__setitem__)
        return {name: found[name] for name in self.activations}


def run_forward(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    images: Tensor,
    *,
    from_input: bool = False,
    biases: bool = False,
    lenient: bool = False,
) -> ForwardPass:
    """Run a model in evaluation mode once, with a graph only from the earliest layer on.

    Args:
        model: maps (N, C, H, W) float to (N, classes) logits.
        layers: name -> module whose output is kept.
        images: (N, C, H, W) float, as the model takes them.
        from_input: begin the graph at the images.
        biases: watch the biases too; begins the graph at the images.
        lenient: leave out layers that cannot be explained, instead of refusing.

    Raises:
        InputError: a layer did not run, ran twice, gives no feature map, or has no part in the logits; or the model
            does not give (N, classes) logits.
    """
    seen: dict[str, Tensor | None] = {}
    from_input = from_input or biases
    tap = BiasTap() if biases else None
    with ExitStack() as stack:
        # Hooks live for this pass only, so that the model can be run as usual in between.
        for name, module in layers.items():
            stack.enter_context(module.register_forward_hook(_cut(name, seen, lenient=lenient)))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(from_input))
        stack.enter_context(frozen(model))
        if tap is not None:
            stack.enter_context(tap)
        x = images.clone() if images.is_inference() else images
        x = x.detach().requires_grad_(True) if from_input else x
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError("the model does not give (N, classes) logits: wrap it in a module that does")
    missing = [name for name in layers if name not in seen]
    if missing and not lenient:
        raise InputError(f"layer {missing[0]!r} did not run in the forward pass: choose another layer")
    if (layers or from_input) and not logits.requires_grad:
        raise InputError(idle_layer(next(iter(layers), INPUT)))
    kept = {name: seen.get(name) for name in layers}
    return ForwardPass(x, logits, {name: t for name, t in kept.items() if t is not None}, tap)


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Compute plainly, whatever the caller's switches: no graph, no inference mode, no autocast."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


def idle_layer(layer: str) -> str:
    """Return the sentence for a layer that does not reach the logits."""
    return f"layer {layer!r} has no part in the logits, so it explains nothing: choose another"


def _cut(
    name: str, seen: dict[str, Tensor | None], *, lenient: bool
) -> Callable[[nn.Module, object, object], Tensor | None]:
    """Return a forward hook that notes a layer's output in ``seen`` and starts the graph there unless it has begun."""

    def cut(module: nn.Module, inputs: object, output: object) -> Tensor | None:  # noqa: ARG001 - torch's signature
        if not isinstance(output, Tensor) or output.ndim != 4:
            if lenient:
                return None
            raise InputError(f"layer {name!r} gives no (N, K, h, w) feature map: choose a convolutional layer")
        if lenient and (name in seen or output.shape[2:] == (1, 1)):
            seen[name] = None  # ambiguous, or nothing to see
            return None
        if name in seen:
            raise InputError(f"layer {name!r} runs more than once in a pass, so its map is ambiguous: choose another")
        torch.set_grad_enabled(True)  # from here on; run_forward's block restores it when it ends
        kept = output if output.requires_grad else output.detach().requires_grad_(True)
        seen[name] = kept
        return kept.clone()  # the next layer may work in place, which would overwrite what is explained

    return cut
