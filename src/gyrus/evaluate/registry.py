"""Every metric there is, by name: one card each, from the module that computes it."""

from __future__ import annotations

from typing import Any

from gyrus.errors import InputError
from gyrus.evaluate import agreement, boundaries, calibration, faithfulness, ranking, robustness, sanity, truthfree
from gyrus.evaluate.cards import FAMILIES, Card

_EVERY: tuple[Card, ...] = (
    *(metric.card for metric in ranking.METRICS.values()),
    *boundaries.CARDS,
    *faithfulness.CARDS,
    *robustness.CARDS,
    *sanity.CARDS,
    *agreement.CARDS,
    *truthfree.CARDS,
    *calibration.CARDS,
)
CARDS: dict[str, Card] = {c.name: c for c in sorted(_EVERY, key=lambda card: FAMILIES.index(card.family))}
"""Name -> card, family by family."""


def list_metrics(family: str | None = None) -> list[dict[str, Any]]:
    """Return one JSON-able card per metric, of one family or of all.

    Raises:
        InputError: there is no such family.
    """
    if family is not None and family not in FAMILIES:
        raise InputError(f"there is no family of metrics {family!r}: choose from {', '.join(FAMILIES)}")
    return [card.plain() for card in CARDS.values() if family in (None, card.family)]
