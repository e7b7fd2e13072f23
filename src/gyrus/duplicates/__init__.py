"""Copies of slices, within and across datasets: identical files, identical pixels, and near-duplicates.

The way there: every file is decoded once and reduced to a sketch; an index over the sketches proposes pairs; each pair
is aligned and compared, and one rule decides; verified pairs are joined into clusters.
"""

from __future__ import annotations

from gyrus.duplicates.clusters import Copies, Pair
from gyrus.duplicates.find import find_copies

__all__ = ["Copies", "Pair", "find_copies"]
