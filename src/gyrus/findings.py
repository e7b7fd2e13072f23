"""One thing that is wrong with some data: the row that every check of the audit writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check noticed about one slice, or about a few that belong together.

    Attributes:
        kind: the check's name for it ("identical pixels", "contradicting labels"), the same for all of its kind.
        score: in [0, 1], how much it should worry the reader; rows are shown worst first.
        slices: ids of the records it is about, the one to look at first in front.
        sentence: what was seen, in plain words, with the figures that made it a finding.
        facts: those figures by name, JSON-able.
    """

    kind: str
    score: float
    slices: tuple[str, ...]
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise ValueError(f"a finding's score lies in [0, 1], not {self.score}")
