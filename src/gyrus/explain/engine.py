"""One pass through the network, many maps.

At each layer one gradient of the chosen logit gives the pair (activation A, gradient G) from which every gradient and
activation map is arithmetic; at the input, the pair (image, gradient). Whatever needs the network more than once comes
after, and may use what the one pass found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain.cards import (
    FUSED,
    INPUT,
    FullMethod,
    FusedMethod,
    InputMethod,
    LayerMethod,
    Method,
    Options,
    RepeatedMethod,
)
from gyrus.explain.fullgrad import Shares
from gyrus.explain.layers import LayerSpec, resolve_layers
from gyrus.explain.methods import check_options, find_method
from gyrus.explain.passes import ForwardPass, exact, run_forward
from gyrus.explain.subject import Precision, Subject
from gyrus.explain.targets import TargetSpec, resolve_target
from gyrus.models.classifier import Classifier, no_class_map

MapDict = dict[tuple[str, str], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """Raw maps of one batch, and the logits from the same pass.

    Attributes:
        maps: (method, layer) -> (N, h, w) float32 at feature size, unscaled, signed where the method is signed;
            (N, classes, h, w) where the target was "all". The layer is "input" for maps of the input's size, and
            "fused" for those of several layers.
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


class Explainer:
    """A model made ready for explanation, for as long as the ``with`` block lasts.

    On leaving the block, also by an exception, the model is exactly as it was: each module's mode, requires_grad,
    ``.grad``, hooks. Works on frozen weights, under ``no_grad`` and ``inference_mode``.

    Args:
        model: maps (N, C, H, W) float to (N, classes) logits.
        layers: names of the modules (as in ``named_modules()``) whose (N, K, h, w) output is explained; by default
            the last feature map of a gyrus model. Or "stages", the last map of each size in a gyrus model, or "sweep",
            every convolution, without those whose output is a single cell or that do not run exactly once.
        scorer: what the perturbation methods ask in place of the model, thousands of times: a network of the same
            logits that is faster, such as :func:`gyrus.models.folding.folded` makes; by default the model.

    Raises:
        InputError: a name that does not exist, a model made under ``inference_mode``, or the block entered twice at
            once (one after the other is fine).

    Example:
        ```python
        with Explainer(model) as explain:
            result = explain(images, methods=("gradcam", "layercam"))
        ```
    """

    def __init__(self, model: nn.Module, layers: LayerSpec = None, *, scorer: nn.Module | None = None) -> None:
        if any(p.is_inference() for p in model.parameters()):
            raise InputError("the model was made under torch.inference_mode, so no gradient can pass: make it outside")
        self.model = model
        self.scorer = model if scorer is None else scorer
        self.layers = resolve_layers(model, layers)
        if INPUT in self.layers:
            raise InputError(f"a layer called {INPUT!r} cannot be told from the input itself: rename the module")
        self.sweeps = layers == "sweep"
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

    def __call__(
        self,
        images: Tensor,
        *,
        target: TargetSpec = "predicted",
        methods: Sequence[str] = ("gradcam",),
        flips: bool = False,
        options: Options | None = None,
    ) -> Attribution:
        """Explain a batch.

        Args:
            images: (N, C, H, W) float, as the model takes them.
            target: "predicted" (each image's highest logit), "all" (every class), one class index for all images, or
                one per image.
            methods: names from :func:`gyrus.explain.list_methods`; any number of one-pass methods costs one pass.
            flips: average each map with that of the image mirrored left to right, mirrored back.
            options: method name -> options that differ from its card.

        Returns:
            Raw maps, logits, and the classes explained.

        Raises:
            InputError: an unknown method, option or class, a layer that cannot be explained, or no (N, classes) logits.
        """
        return self.several(images, {"": target}, methods=methods, flips=flips, options=options)[""]

    def several(
        self,
        images: Tensor,
        targets: Mapping[str, TargetSpec],
        *,
        methods: Sequence[str],
        flips: bool = False,
        options: Options | None = None,
    ) -> dict[str, Attribution]:
        """Explain a batch for several choices of classes, each under a name, from one forward pass; else as a call."""
        chosen = self.find_methods(methods, options)
        run = self.forward(images, chosen)
        logits = run.logits.detach().float()
        explained = {name: resolve_target(target, logits) for name, target in targets.items()}
        maps = {name: self._maps(run, classes, chosen, options) for name, classes in explained.items()}
        if flips:
            del run  # with its graph, before the next one is made
            mirrored = self.forward(images.flip(-1), chosen)
            for name, classes in explained.items():
                others = self._maps(mirrored, classes, chosen, options)
                maps[name] = {key: (m + others[key].flip(-1)) / 2 for key, m in maps[name].items()}
        return {name: Attribution(maps[name], logits, classes) for name, classes in explained.items()}

    def find_methods(self, names: Sequence[str], options: Options | None = None) -> list[Method]:
        """Return the methods of these names.

        Raises:
            InputError: a name is unknown, its method is defined at none of the chosen layers, or an option is not one
                of a method named.
        """
        methods = [find_method(name) for name in names]
        if not self.layers and any(m.where != "input" for m in methods):
            raise InputError("name the layers to explain: only gyrus's own models say which one is their last")
        for method in methods:
            if method.needs_head and not any(self._linear_in(layer) for layer in self.layers):
                if isinstance(self.model, Classifier) and not self.model.has_class_map:
                    raise InputError(no_class_map(self.model.spec))
                raise InputError(
                    f"{method.name} is defined only where the class score is linear in the layer, which is "
                    f"none of {', '.join(self.layers)}: leave it out, or explain a gyrus model's last layer"
                )
        for name, changed in (options or {}).items():
            if name not in names:
                raise InputError(f"there are options for {name}, which is not among the methods: name it too")
            check_options(find_method(name), changed)
        return methods

    def forward(self, images: Tensor, methods: Sequence[Method] | None = None) -> ForwardPass:
        """Run the network once, with a graph only from the earliest layer on that these methods explain.

        Args:
            images: (N, C, H, W) float, as the model takes them.
            methods: what the pass is for; by default, methods on the layers.

        Raises:
            InputError: used outside its ``with`` block; a layer did not run, ran twice, gives no feature map, or has no
                part in the logits; or the model does not give (N, classes) logits.
        """
        if self._undo is None:
            raise InputError("an Explainer works inside its with-block: `with Explainer(model) as explain: ...`")
        chosen = methods or ()
        on_layers = methods is None or any(m.where != "input" for m in chosen)
        return run_forward(
            self.model,
            self.layers if on_layers else {},
            images,
            from_input=any(isinstance(m, InputMethod) for m in chosen),
            biases=any(isinstance(m, FullMethod) for m in chosen),
            lenient=self.sweeps,
        )

    def maps(
        self, run: ForwardPass, target: Tensor, methods: Sequence[Method], options: Options | None = None
    ) -> MapDict:
        """Return (method, layer) -> (N, h, w) float32 raw maps for one class per image, from an existing pass.

        A method that needs the head is left out at the layers where the score is not linear.

        Args:
            run: from :meth:`forward`, called with the same methods.
            target: (N,) int64 class per image.
            methods: from :meth:`find_methods`.
            options: method name -> options that differ from its card.
        """
        found = self._shared(run, target, [m for m in methods if m.one_pass])
        precision = Precision.current(target.device.type)
        for method in methods:
            if isinstance(method, RepeatedMethod):
                choice = {**method.options, **(options or {}).get(method.name, {})}
                for layer, subject in self._subjects(run, target, method, precision).items():
                    with exact(target.device):
                        found[method.name, layer] = method.rule(subject, **choice)
        layers = (*run.activations, FUSED, INPUT)
        return {(m.name, layer): found[m.name, layer] for layer in layers for m in methods if (m.name, layer) in found}

    def _maps(self, run: ForwardPass, target: Tensor, methods: Sequence[Method], options: Options | None) -> MapDict:
        """Return maps for (N,) classes, or for all of (N, classes) stacked."""
        if target.ndim == 1:
            return self.maps(run, target, methods, options)
        per_class = [self.maps(run, column, methods, options) for column in target.unbind(1)]
        return {key: torch.stack([maps[key] for maps in per_class], dim=1) for key in per_class[0]}

    def _shared(self, run: ForwardPass, target: Tensor, methods: Sequence[Method]) -> MapDict:
        """Return the maps of methods that share one backward pass, each made as its gradient arrives."""
        fused = [m for m in methods if isinstance(m, FusedMethod)]
        layered = {m: None for m in methods if isinstance(m, LayerMethod)} | {m.base: None for m in fused}
        on_input = [m for m in methods if isinstance(m, InputMethod)]
        shares = Shares([m for m in methods if isinstance(m, FullMethod)])
        found: MapDict = {}

        def see(layer: str, gradient: Tensor) -> None:
            with exact(target.device):
                # The network may run in half precision; the arithmetic on what it gave is float32.
                g = gradient.float()
                if layer == INPUT:
                    x = run.images.detach().float()
                    shares.add(x * g)
                    found.update({(m.name, INPUT): m.rule(x, g) for m in on_input})
                    return
                a, weight = run.activations[layer].detach().float(), self._weight(layer, target)
                for method in layered:
                    if weight is not None or not method.needs_head:
                        found[method.name, layer] = method.rule(a, g, weight)

        if not methods:
            return found
        with run.watching(shares.add):
            run.visit(target, see)
        with exact(target.device):
            found |= shares.maps((run.images.shape[2], run.images.shape[3]))
            for method in fused:
                found[method.name, FUSED] = method.rule([found[method.base.name, layer] for layer in run.activations])
        return found

    def _subjects(
        self, run: ForwardPass, target: Tensor, method: RepeatedMethod, precision: Precision
    ) -> dict[str, Subject]:
        """Return what a method works with, at each layer it is defined on."""
        images = run.images.detach()
        if method.where == "input":
            return {INPUT: Subject(self.model, self.scorer, images, target, precision)}
        return {
            layer: Subject(self.model, self.scorer, images, target, precision, self.layers[layer], a.detach().float())
            for layer, a in run.activations.items()
        }

    def _linear_in(self, layer: str) -> bool:
        """Whether the class map is linear in this layer's output."""
        if not isinstance(self.model, Classifier) or not self.model.has_class_map:
            return False
        return layer == self.model.spec.target_layer

    def _weight(self, layer: str, target: Tensor) -> Tensor | None:
        """Return (N, K) head weights of each image's class where the class map is linear in this layer, else None."""
        if isinstance(self.model, Classifier) and self._linear_in(layer):
            return self.model.class_weights().detach().float()[target]
        return None


def attribute(
    model: nn.Module,
    images: Tensor,
    *,
    method: str | Sequence[str] = "gradcam",
    target: TargetSpec = "predicted",
    layers: LayerSpec = None,
    flips: bool = False,
    options: Options | None = None,
    scorer: nn.Module | None = None,
) -> Attribution:
    """Explain a batch by one method or several, leaving the model exactly as found.

    The one-call form of :class:`Explainer`, which is for many batches.

    Args:
        model: maps (N, C, H, W) float to (N, classes) logits.
        images: (N, C, H, W) float, as the model takes them.
        method: one name from :func:`gyrus.explain.list_methods`, or several, which share what passes they can.
        target: "predicted", "all", one class index for all images, or one per image.
        layers: names of modules, "last", "stages" or "sweep"; see :class:`Explainer`.
        flips: average each map with that of the image mirrored left to right, mirrored back.
        options: method name -> options that differ from its card.
        scorer: what perturbation methods ask in place of the model; see :class:`Explainer`.

    Returns:
        Raw maps under (method, layer), logits, and the classes explained.

    Raises:
        InputError: as :class:`Explainer` and its call.

    Example:
        ```python
        maps = attribute(model, images, method=("layercam", "saliency"), target=1).maps
        ```
    """
    methods = (method,) if isinstance(method, str) else method
    with Explainer(model, layers, scorer=scorer) as explain:
        return explain(images, target=target, methods=methods, flips=flips, options=options)
