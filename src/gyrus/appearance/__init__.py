"""What one picture looks like, and what is wrong with it: the audit asks this of data, prediction of each slice."""

from __future__ import annotations

from gyrus.appearance.faults import Fault, find_faults
from gyrus.appearance.measures import Appearance, measure

__all__ = ["Appearance", "Fault", "find_faults", "measure"]
