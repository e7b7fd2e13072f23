"""Class activation maps: one pass, many maps, raw and measured."""

from __future__ import annotations

from typing import Any

from gyrus.explain.engine import Attribution, Explainer, ForwardPass
from gyrus.explain.methods import METHODS, Method
from gyrus.explain.run import explain_records
from gyrus.maps import MapKey, Maps

__all__ = [
    "METHODS",
    "Attribution",
    "Explainer",
    "ForwardPass",
    "MapKey",
    "Maps",
    "Method",
    "explain_records",
    "list_methods",
]


def list_methods() -> list[dict[str, Any]]:
    """Return one JSON-able card per explanation method."""
    fields = ("name", "title", "paper", "formula", "signed", "needs_head")
    return [{f: getattr(m, f) for f in fields} for m in METHODS.values()]
