"""Does the model decide by the tumour, and how much does it bear? Slices without their tumour, and degraded ones."""

from __future__ import annotations

from gyrus.stress.run import stress_run

__all__ = ["stress_run"]
