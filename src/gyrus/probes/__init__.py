"""Probes that should fail on honest data: each predicts the class from something that carries no anatomy."""

from __future__ import annotations

from gyrus.probes.features import PROBES, Probe
from gyrus.probes.result import MARGIN, ClassFigures, ProbeResult
from gyrus.probes.run import compare_probes, corner_floor, probe_views, run_probes
from gyrus.probes.views import Views, view_records

__all__ = [
    "MARGIN",
    "PROBES",
    "ClassFigures",
    "Probe",
    "ProbeResult",
    "Views",
    "compare_probes",
    "corner_floor",
    "probe_views",
    "run_probes",
    "view_records",
]
