"""A metric's card: what it is called, between what it lies, which way is better, and when it is not defined."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Family = Literal[
    "localization", "boundary", "faithfulness", "robustness", "sanity", "agreement", "truth-free", "certainty"
]
"""What a metric asks: is the map where the tumour is; does what it keeps have the tumour's outline; does the network
need what it marks; does it hold still under noise; does it depend on what was learned; is it like another map; what it
says of itself; and, of the model and not of a map, is it as often right as it says."""

FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, slots=True)
class Card:
    """What a reader must know of a number before believing it.

    Attributes:
        name: in tables and files.
        family: one of :data:`FAMILIES`.
        title: for people.
        formula: in plain text.
        paper: authors, year, and the equation where there is one.
        undefined: what it returns where a map or mask is degenerate.
        low: the least value.
        high: the greatest; None where there is none.
        better: "higher", "lower", or "neither" for a number that describes and does not judge.
    """

    name: str
    family: Family
    title: str
    formula: str
    paper: str
    undefined: str
    low: float = 0.0
    high: float | None = 1.0
    better: Literal["higher", "lower", "neither"] = "higher"

    def plain(self) -> dict[str, Any]:
        """Return the card as a JSON-able object."""
        return asdict(self)
