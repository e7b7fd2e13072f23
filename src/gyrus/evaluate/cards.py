"""A metric's card: what it is called, between what it lies, which way is better, and when it is not defined."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Card:
    """What a reader must know of a number before believing it.

    Attributes:
        name: in tables and files.
        family: "localization", "boundary", "faithfulness", "robustness", "sanity", "agreement" or "truth-free".
        title: for people.
        formula: in plain text.
        paper: authors, year, and the equation where there is one.
        undefined: what it returns where a map or mask is degenerate.
        low: the least value; None where there is none.
        high: the greatest; None where there is none.
        better: "higher", "lower", or "neither" for a number that describes and does not judge.
    """

    name: str
    family: str
    title: str
    formula: str
    paper: str
    undefined: str
    low: float | None = 0.0
    high: float | None = 1.0
    better: Literal["higher", "lower", "neither"] = "higher"

    def plain(self) -> dict[str, Any]:
        """Return the card as a JSON-able object."""
        return asdict(self)
