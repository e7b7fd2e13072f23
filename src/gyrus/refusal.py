"""From what was seen of a slice to a status and its reason in words: answered, flagged, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from gyrus.appearance import Fault
from gyrus.appearance.faults import BLANK, BLOCKY, COLOURED, INVERTED, MONTAGE, WHITE_RING
from gyrus.certainty import Calibration
from gyrus.predictions import FLAGGED, OK, REFUSED

REFUSES = MappingProxyType({BLANK: 0.0, MONTAGE: 0.0, INVERTED: 0.0, WHITE_RING: 0.0, COLOURED: 1.0, BLOCKY: 0.0})
"""Fault -> the degree from which on it refuses a picture: a few coloured letters do not, a colour photograph does."""


def refusing_kinds(faults: Sequence[Fault]) -> frozenset[str]:
    """Return the kinds among a picture's faults that could refuse it."""
    return frozenset(f.kind for f in faults if f.kind in REFUSES and f.degree >= REFUSES[f.kind])


def judge(
    calibration: Calibration, faults: Sequence[Fault], novelty: float, turned: float, members: Sequence[str]
) -> tuple[str, str]:
    """Return ``(status, reason)`` of one slice.

    "refused": the picture has a fault that refuses, is upside down, or is stranger than the limit. "flagged": it has
    another fault, or its set does not hold exactly one class. "ok" otherwise, with an empty reason.

    Args:
        calibration: of the model.
        faults: of the picture.
        novelty: its score.
        turned: how much likelier it is upside down.
        members: the classes in its set.
    """
    refusing = refusing_kinds(faults) & set(calibration.refusing)
    against = [f.sentence for f in faults if f.kind in refusing]
    if turned > calibration.turned_limit:
        against.append("Upside down: turned by 180 degrees it is far more like the slices the model learned from.")
    if not novelty <= calibration.novelty_limit:  # what is no number is refused too
        against.append(
            f"Unlike the slices the model learned from: its {calibration.novelty} score is {novelty:.4g}, "
            f"and the limit {calibration.novelty_limit:.4g}."
        )
    if against:
        return REFUSED, " ".join(against)
    doubts = [f.sentence for f in faults] + _doubts(calibration, members)
    return (FLAGGED, " ".join(doubts)) if doubts else (OK, "")


def _doubts(calibration: Calibration, members: Sequence[str]) -> list[str]:
    """Return the sentence about a set that does not hold exactly one class."""
    if len(members) == 1:
        return []
    if not members:
        return [f"No class is probable enough to be in its set at a coverage of {calibration.coverage:.0%}."]
    *others, last = members
    said = f"{', '.join(others)} or {last}: none can be left out at a coverage of {calibration.coverage:.0%}."
    forced = [c for c in members if c in calibration.always]
    return [f"{said} Too few persons had {' or '.join(forced)} when the model was calibrated." if forced else said]
