"""Everything an audit found, before it is written down."""

from __future__ import annotations

from dataclasses import dataclass, field

from gyrus.audit.leaks import Leak
from gyrus.audit.shortcuts import Shortcuts
from gyrus.duplicates import Copies
from gyrus.findings import Finding
from gyrus.planes import PlaneGuess
from gyrus.records import Dataset
from gyrus.sequences import SequenceGuess


@dataclass
class Examined:
    """What every check made of some data.

    Attributes:
        dataset: all slices, pooled.
        copies: of them.
        parts: the splits that could leak, see :func:`gyrus.audit.pool.parts_of`.
        leaks: one for each of ``parts``.
        findings: worst first.
        planes: one guess for each slice; empty where that check was left out.
        sequences: likewise.
        shortcuts: per dataset, and of all together; empty where that check was left out.
        skipped: check -> why.
        seconds: check -> wall-clock time.
    """

    dataset: Dataset
    copies: Copies
    parts: dict[str, dict[str, str]]
    leaks: list[Leak] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    planes: list[PlaneGuess] = field(default_factory=list)
    sequences: list[SequenceGuess] = field(default_factory=list)
    shortcuts: list[Shortcuts] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
