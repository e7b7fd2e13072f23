"""One card for every metric, complete."""

from __future__ import annotations

import json

import pytest

from gyrus.errors import InputError
from gyrus.evaluate import ranking
from gyrus.evaluate.cards import FAMILIES
from gyrus.evaluate.registry import CARDS, list_metrics


def test_every_card_is_complete() -> None:
    assert len(CARDS) == 38
    for card in CARDS.values():
        assert all((card.title, card.formula, card.paper, card.undefined)), card.name
        assert card.high is None or card.low < card.high
        assert card.better in ("higher", "lower", "neither")


def test_names_occur_once() -> None:
    from gyrus.evaluate import agreement, boundaries, calibration, faithfulness, robustness, sanity, truthfree

    parts = (agreement, boundaries, calibration, faithfulness, robustness, sanity, truthfree)
    names = [c.name for part in parts for c in part.CARDS] + list(ranking.METRICS)
    assert sorted(names) == sorted(CARDS)


def test_families() -> None:
    families = [card.family for card in CARDS.values()]
    assert set(families) == set(FAMILIES)
    assert families == sorted(families, key=FAMILIES.index)
    assert [c["name"] for c in list_metrics("localization")] == list(ranking.METRICS)
    assert sum(len(list_metrics(f)) for f in FAMILIES) == len(list_metrics()) == len(CARDS)
    json.dumps(list_metrics(), allow_nan=False)
    with pytest.raises(InputError, match="no family"):
        list_metrics("magic")
