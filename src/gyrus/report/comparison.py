"""Which map stands for the run, which rule without a network stands against it, and who is ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gyrus.headline import verdict
from gyrus.report.source import Source

ROW = ("kind", "name", "layer", "target", "grid")


@dataclass(frozen=True, slots=True)
class Contest:
    """The map of the headline and its opponent.

    Attributes:
        map: the row of the map with the best pointing score among those for the predicted class.
        rule: the row of the best rule without a network that is told no label.
        difference: map minus rule in pointing, on the same slices: an interval like any other.
        tried: among how many maps the best was sought.
    """

    map: dict[str, Any]
    rule: dict[str, Any]
    difference: dict[str, Any]
    tried: int

    @property
    def verdict(self) -> str:
        """Who is ahead: "ahead", "behind", or "open" where the difference's interval holds zero or there is none."""
        return verdict(self.difference)


def find_contest(source: Source) -> Contest | None:
    """Return the headline's map and its opponent as ``scores.json`` names them, or None where no map was scored."""
    found = (source.scores["localization"] or {}).get("contest")
    if found is None:
        return None
    ours, theirs = (
        next(r for r in source.rows if all(r[k] == found[side][k] for k in ROW)) for side in ("map", "rule")
    )
    return Contest(ours, theirs, found["difference"], found["tried"])
