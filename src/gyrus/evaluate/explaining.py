"""How a metric that needs more maps than it was given asks for them: of another network, or of other images."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gyrus.explain import Explainer

Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images (N, C, H, W), target (N,)) -> (N, h, w) maps. It must read the model it is handed, and no other."""


def by_method(method: str, layer: str | None = None) -> Explain:
    """Return the :data:`Explain` that makes one method's raw maps at one layer.

    Args:
        method: a name from :func:`gyrus.explain.list_methods`.
        layer: a module's name, looked up in whichever model is handed in; by default a gyrus model's last feature map.

    Raises:
        InputError: when it is called; see :class:`gyrus.explain.Explainer`.
    """

    def explain(model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        with Explainer(model, None if layer is None else (layer,)) as explainer:
            return next(iter(explainer(images, target=target, methods=(method,)).maps.values()))

    return explain
