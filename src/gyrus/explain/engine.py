"""One pass through the network, many maps.

The layers before the target run without a graph. At the target layer the graph is cut: its output becomes a leaf, the
rest of the network runs on it, and one gradient of the chosen logit with respect to that leaf gives the pair
(activation A, gradient G) from which every gradient and activation map is arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain.methods import METHODS, Method
from gyrus.models.classifier import Classifier

TargetSpec = Literal["predicted", "all"] | int | Sequence[int] | Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Raw maps of one batch, and the logits from the same pass.

    Attributes:
        maps: (method, layer) -> (N, h, w) float32 at feature size, unscaled, signed where the method is signed;
            (N, classes, h, w) where the target was "all".
        logits: (N, classes) float32.
        target: (N,) int64 class explained per image; (N, classes) where the target was "all".
    """

    maps: Mapping[tuple[str, str], Tensor]
    logits: Tensor
    target: Tensor

    def status(self, method: str, layer: str) -> list[str]:
        """Return "ok", "blank" (every value equal), or "non-finite" for each map; "all" maps are listed row by row."""
        flat = self.maps[method, layer].flatten(-2).flatten(0, -2)
        finite = flat.isfinite().all(dim=1).tolist()
        blank = (flat.amax(dim=1) == flat.amin(dim=1)).tolist()
        return ["non-finite" if not f else "blank" if b else "ok" for f, b in zip(finite, blank, strict=True)]


class ForwardPass:
    """Activations and logits of one batch, and the graph between them.

    Attributes:
        logits: (N, classes), still attached to the graph from the earliest target layer on.
        activations: layer name -> (N, K, h, w).
    """

    def __init__(self, logits: Tensor, activations: Mapping[str, Tensor]) -> None:
        self.logits = logits
        self.activations = activations

    def gradients(self, target: Tensor) -> dict[str, Tensor]:
        """Return layer name -> (N, K, h, w) gradient of each image's own target logit; the graph is kept.

        Args:
            target: (N,) int64 class per image.

        Raises:
            InputError: a layer has no part in the logits.
        """
        with torch.inference_mode(False), torch.no_grad():
            # In evaluation mode no image influences another's logits, so one backward pass of the batch, with a one at
            # each image's own class, gives every image its own gradient.
            ones = torch.zeros_like(self.logits).scatter_(1, target.unsqueeze(1), 1)
            layers = list(self.activations.values())
            found = torch.autograd.grad(self.logits, layers, ones, retain_graph=True, allow_unused=True)
            gradients = {name: g for name, g in zip(self.activations, found, strict=True) if g is not None}
            aside = [name for name in self.activations if name not in gradients]
            if aside:
                raise InputError(_idle(aside[0]))
            return gradients


class Explainer:
    """A model made ready for explanation, for as long as the ``with`` block lasts.

    On leaving the block, also by an exception, the model is exactly as it was: each module's mode, requires_grad,
    ``.grad``, hooks. Works on frozen weights, under ``no_grad`` and ``inference_mode``.

    Args:
        model: maps (N, C, H, W) float to (N, classes) logits.
        layers: names of the modules (as in ``named_modules()``) whose (N, K, h, w) output is explained; by default
            the last feature map of a gyrus model.

    Raises:
        InputError: no layer named for a model that is not gyrus's own, a name that does not exist, a model made under
            ``inference_mode``, or the block entered twice at once (one after the other is fine).

    Example:
        ```python
        with Explainer(model) as explain:
            result = explain(images, methods=("gradcam", "layercam"))
        ```
    """

    def __init__(self, model: nn.Module, layers: Sequence[str] | None = None) -> None:
        if layers is None:
            if not isinstance(model, Classifier):
                raise InputError("name the layers to explain: only gyrus's own models say which one is their last")
            layers = (model.spec.target_layer,)
        if not layers:
            raise InputError("there is no layer to explain: name at least one")
        if any(p.is_inference() for p in model.parameters()):
            raise InputError("the model was made under torch.inference_mode, so no gradient can pass: make it outside")
        self.model = model
        self.layers = {name: _submodule(model, name) for name in layers}
        self._undo: ExitStack | None = None

    def __enter__(self) -> Self:
        if self._undo is not None:
            raise InputError("this Explainer is in use already: leave its with-block first, or make a second one")
        with ExitStack() as undo:
            for module in self.model.modules():
                undo.callback(setattr, module, "training", module.training)
            self.model.eval()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._undo is not None:
            self._undo.close()
        self._undo = None

    def forward(self, images: Tensor) -> ForwardPass:
        """Run the network once, with a graph only from the earliest target layer on.

        Args:
            images: (N, C, H, W) float, as the model takes them.

        Raises:
            InputError: used outside its ``with`` block; a layer did not run, ran twice, gives no feature map, or has no
                part in the logits; or the model does not give (N, classes) logits.
        """
        if self._undo is None:
            raise InputError("an Explainer works inside its with-block: `with Explainer(model) as explain: ...`")
        seen: dict[str, Tensor] = {}
        with ExitStack() as stack:
            # Hooks live for this pass only, so that the model can be run as usual in between.
            for name, module in self.layers.items():
                stack.enter_context(module.register_forward_hook(_cut(name, seen)))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
            logits = self.model(images.clone() if images.is_inference() else images)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise InputError("the model does not give (N, classes) logits: wrap it in a module that does")
        missing = [name for name in self.layers if name not in seen]
        if missing:
            raise InputError(f"layer {missing[0]!r} did not run in the forward pass: choose another layer")
        if not logits.requires_grad:
            raise InputError(_idle(next(iter(self.layers))))
        return ForwardPass(logits, {name: seen[name] for name in self.layers})

    def __call__(
        self, images: Tensor, *, target: TargetSpec = "predicted", methods: Sequence[str] = ("gradcam",)
    ) -> Attribution:
        """Explain a batch.

        Args:
            images: (N, C, H, W) float, as the model takes them.
            target: "predicted" (each image's highest logit), "all" (every class), one class index for all images, or
                one per image.
            methods: names from :func:`gyrus.explain.list_methods`; any number costs one pass.

        Returns:
            Raw maps, logits, and the classes explained.

        Raises:
            InputError: an unknown method or class, or see :meth:`forward`.
        """
        chosen = self.find_methods(methods)
        run = self.forward(images)
        logits = run.logits.detach().float()
        if isinstance(target, str) and target == "all":
            n, classes = logits.shape
            per_class = [self.maps(run, torch.full((n,), c, device=logits.device), chosen) for c in range(classes)]
            stacked = {key: torch.stack([maps[key] for maps in per_class], dim=1) for key in per_class[0]}
            return Attribution(stacked, logits, torch.arange(classes, device=logits.device).expand(n, classes))
        classes_explained = resolve_target(target, logits)
        return Attribution(self.maps(run, classes_explained, chosen), logits, classes_explained)

    def find_methods(self, names: Sequence[str]) -> list[Method]:
        """Return the methods of these names.

        Raises:
            InputError: a name is unknown, or its method is defined at none of the chosen layers.
        """
        methods = [find_method(name) for name in names]
        for method in methods:
            if method.needs_head and not any(self._linear_in(layer) for layer in self.layers):
                raise InputError(
                    f"{method.name} is defined only where the class score is linear in the layer, which is "
                    f"none of {', '.join(self.layers)}: leave it out, or explain a gyrus model's last layer"
                )
        return methods

    def maps(self, run: ForwardPass, target: Tensor, methods: Sequence[Method]) -> dict[tuple[str, str], Tensor]:
        """Return (method, layer) -> (N, h, w) float32 raw maps for one class per image, from an existing pass.

        A method that needs the head is left out at the layers where the score is not linear.
        """
        gradients = run.gradients(target)
        maps = {}
        # The network may run in half precision; the arithmetic on what it gave is float32, whatever autocast is on.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(target.device.type, enabled=False):
            for layer, activation in run.activations.items():
                a, g, weight = activation.detach().float(), gradients[layer].float(), self._weight(layer, target)
                for method in methods:
                    if weight is not None or not method.needs_head:
                        maps[method.name, layer] = method.rule(a, g, weight)
        return maps

    def _linear_in(self, layer: str) -> bool:
        """Whether the class map is linear in this layer's output."""
        return isinstance(self.model, Classifier) and layer == self.model.spec.target_layer

    def _weight(self, layer: str, target: Tensor) -> Tensor | None:
        """Return (N, K) head weights of each image's class where the class map is linear in this layer, else None."""
        if isinstance(self.model, Classifier) and self._linear_in(layer):
            return self.model.head.weight.detach().float()[target, :, 0, 0]
        return None


def _cut(name: str, seen: dict[str, Tensor]) -> Callable[[nn.Module, object, object], Tensor]:
    """Return a forward hook that notes a layer's output in ``seen`` and starts the graph there unless it has begun."""

    def cut(module: nn.Module, inputs: object, output: object) -> Tensor:  # noqa: ARG001 - torch's signature
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise InputError(f"layer {name!r} gives no (N, K, h, w) feature map: choose a convolutional layer")
        if name in seen:
            raise InputError(f"layer {name!r} runs more than once in a pass, so its map is ambiguous: choose another")
        torch.set_grad_enabled(True)  # from here on; forward()'s no_grad block restores it when it ends
        seen[name] = output if output.requires_grad else output.detach().requires_grad_(True)
        return seen[name].clone()  # the next layer may work in place, which would overwrite what is explained

    return cut


def find_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in METHODS:
        raise InputError(f"there is no explanation method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def resolve_target(target: TargetSpec, logits: Tensor) -> Tensor:
    """Return the (N,) int64 class index to explain per image.

    Raises:
        InputError: an index outside the model's classes, or not one per image.
    """
    n, classes = logits.shape
    if isinstance(target, str):
        if target != "predicted":
            raise InputError(f"target {target!r} is unknown: use 'predicted', 'all', or class indices")
        return logits.argmax(dim=1)
    try:
        index = torch.as_tensor(target, device=logits.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"target {target!r} is no class index: use 'predicted', 'all', or class indices") from None
    index = index.expand(n) if index.ndim == 0 else index
    if index.shape != (n,):
        raise InputError(f"{n} images need {n} target classes, not an array of shape {tuple(index.shape)}")
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise InputError(f"target classes are whole numbers, not {str(index.dtype).removeprefix('torch.')}")
    index = index.long()
    if n and (int(index.min()) < 0 or int(index.max()) >= classes):
        raise InputError(f"target classes run from 0 to {classes - 1}, not {int(index.min())} to {int(index.max())}")
    return index


def _idle(layer: str) -> str:
    return f"layer {layer!r} has no part in the logits, so it explains nothing: choose another"


def _submodule(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        close = [n for n, _ in model.named_modules() if name.split(".")[-1] in n.split(".")][:5]
        hint = f"; did you mean {', '.join(close)}?" if close else ": print(model) shows the names"
        raise InputError(f"the model has no layer {name!r}{hint}") from None
