"""Published studies as recipes, and the runner that measures what they claim, under their own protocol and honestly.

Names are imported on first use: charts are made from figures alone and need no torch, a run does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gyrus.studies.recipe import Recipe, find_study, list_studies
    from gyrus.studies.run import run_study, show_study

_HOMES = {
    "gyrus.studies.recipe": ("Recipe", "find_study", "list_studies"),
    "gyrus.studies.run": ("run_study", "show_study"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["Recipe", "find_study", "list_studies", "run_study", "show_study"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gyrus.studies' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
