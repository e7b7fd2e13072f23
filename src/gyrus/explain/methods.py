"""The registry of explanation methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gyrus.errors import InputError
from gyrus.explain import activation, fullgrad, gradients, perturbation
from gyrus.explain.cards import Method, Option

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        activation.cam,
        activation.gradcam,
        activation.gradcam_plus_plus,
        activation.xgradcam,
        activation.hirescam,
        activation.layercam,
        activation.elementwise,
        activation.eigencam,
        activation.eigengradcam,
        activation.layercam_fused,
        fullgrad.fullgrad,
        fullgrad.fullgrad_raw,
        gradients.saliency,
        gradients.input_x_gradient,
        gradients.integrated_gradients,
        gradients.smoothgrad,
        perturbation.scorecam,
        perturbation.ablationcam,
        perturbation.occlusion,
        perturbation.rise,
    )
}

DEFAULT_METHODS = ("cam", "gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
"""What is explained unless methods are named: those that argue for a class at the last layer, where the one pass they
share costs little more than a prediction."""


def list_methods() -> list[dict[str, Any]]:
    """Return one JSON-able card per explanation method; see :class:`gyrus.explain.Method` for its fields."""
    return [method.card() for method in METHODS.values()]


def find_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in METHODS:
        raise InputError(f"there is no explanation method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def check_options(method: Method, changed: Mapping[str, Option]) -> None:
    """Refuse options a method does not have.

    Raises:
        InputError: the message lists those it has.
    """
    unknown = sorted(changed.keys() - method.options.keys())
    if unknown:
        has = f"its options are {', '.join(method.options)}" if method.options else "it has none"
        raise InputError(f"{method.name} has no option {unknown[0]!r}: {has}")
