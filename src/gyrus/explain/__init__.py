"""Attribution maps: one pass, many methods, raw and measured."""

from __future__ import annotations

from gyrus.explain.cards import FUSED, INPUT, Method
from gyrus.explain.engine import Attribution, Explainer, attribute
from gyrus.explain.layers import stage_layers, sweep_layers
from gyrus.explain.methods import DEFAULT_METHODS, METHODS, list_methods
from gyrus.explain.passes import ForwardPass
from gyrus.explain.run import explain_records
from gyrus.maps import MapKey, Maps

__all__ = [
    "DEFAULT_METHODS",
    "FUSED",
    "INPUT",
    "METHODS",
    "Attribution",
    "Explainer",
    "ForwardPass",
    "MapKey",
    "Maps",
    "Method",
    "attribute",
    "explain_records",
    "list_methods",
    "stage_layers",
    "sweep_layers",
]
