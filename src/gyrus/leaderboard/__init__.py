"""Which map, from which layer, at which threshold, can I believe on this model?"""

from __future__ import annotations

from gyrus.leaderboard.run import build_leaderboard, make_settings
from gyrus.leaderboard.settings import Settings
from gyrus.leaderboard.store import Scores

__all__ = ["Scores", "Settings", "build_leaderboard", "make_settings"]
