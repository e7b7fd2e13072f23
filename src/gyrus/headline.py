"""The one sentence about a run's maps: does the best of them beat a rule of thumb?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def verdict(difference: Mapping[str, Any]) -> str:
    """Return "ahead" or "behind" where the 95 % interval of map minus rule leaves zero out, else "open".

    Args:
        difference: an interval as ``scores.json`` has it; one patient alone gives none, so nothing is decided.
    """
    if difference["low"] is None or difference["groups"] < 2:
        return "open"
    if difference["low"] > 0:
        return "ahead"
    return "behind" if difference["high"] < 0 else "open"


def finding(scores: Mapping[str, Any]) -> str:
    """Return in one sentence how the best map compares with the best no-network rule.

    Args:
        scores: the content of ``scores.json``.
    """
    contest = (scores["localization"] or {}).get("contest")
    if contest is None:
        return "No slice has a tumour outline that a map was scored on, so nothing is known of where this model looks."
    ours, theirs, gap = _pointing(scores, contest["map"]), _pointing(scores, contest["rule"]), contest["difference"]
    words = {
        "ahead": "more often than",
        "open": "not distinguishably more or less often than",
        "behind": "LESS often than",
    }[verdict(gap)]
    span = "" if gap["low"] is None else f", 95 % interval {gap['low']:+.3f} to {gap['high']:+.3f}"
    return (
        f"The best of {contest['tried']} maps ({contest['map']['name']} at {contest['map']['layer']}) has its maximum "
        f"inside the tumour in {ours['value']:.1%} of {ours['n']} slices, {words} the best rule without a network "
        f"({contest['rule']['name']}: {theirs['value']:.1%}; difference {gap['value']:+.3f}{span})."
    )


def _pointing(scores: Mapping[str, Any], key: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pointing score of the row that the contest names."""
    fields = ("kind", "name", "layer", "target", "grid")
    row = next(r for r in scores["localization"]["rows"] if all(r[f] == key[f] for f in fields))
    found: Mapping[str, Any] = row["metrics"]["all"]["pointing"]
    return found
