"""Words of the field that several parts of gyrus compare with."""

from __future__ import annotations

HEALTHY = "no_tumor"
"""The class of slices without a tumour; every other class is a tumour's."""
SEQUENCES = ("T1", "T1-CE", "T2", "FLAIR")
"""Of MRI; T1-CE is T1 after a contrast medium."""
