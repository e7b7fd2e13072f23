"""Which map, from which layer, at which threshold, can I believe on this model?

Names are imported on first use: the page is made from files and needs no torch, the leaderboard does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gyrus.leaderboard.page import write_leaderboard_page
    from gyrus.leaderboard.run import build_leaderboard, make_settings
    from gyrus.leaderboard.settings import Settings
    from gyrus.leaderboard.store import Scores

_HOMES = {
    "gyrus.leaderboard.page": ("write_leaderboard_page",),
    "gyrus.leaderboard.run": ("build_leaderboard", "make_settings"),
    "gyrus.leaderboard.settings": ("Settings",),
    "gyrus.leaderboard.store": ("Scores",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["Scores", "Settings", "build_leaderboard", "make_settings", "write_leaderboard_page"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gyrus.leaderboard' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
