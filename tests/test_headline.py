"""The one sentence about a run's maps, from scores written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from gyrus.headline import finding, verdict

MAP = {"kind": "method", "name": "cam", "layer": "body", "target": "predicted", "grid": [4, 4]}
RULE = {"kind": "baseline", "name": "intensity", "layer": "", "target": "", "grid": [0, 0]}


def interval(value: float, low: float | None = None, high: float | None = None, groups: int = 9) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 40, "groups": groups}


def scores(difference: dict[str, Any]) -> dict[str, Any]:
    rows = [
        MAP | {"layer": "body.net", "metrics": {"all": {"pointing": interval(0.1)}}},
        MAP | {"target": "true", "metrics": {"all": {"pointing": interval(0.99)}}},
        MAP | {"metrics": {"all": {"pointing": interval(0.75)}}},
        RULE | {"metrics": {"all": {"pointing": interval(0.4)}}},
    ]
    contest = {"map": MAP, "rule": RULE, "tried": 2, "difference": difference}
    return {"localization": {"slices": 40, "rows": rows, "contest": contest}}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.5, "ahead"),
        (-0.5, -0.01, "behind"),
        (-0.1, 0.5, "open"),
        (0.0, 0.5, "open"),
        (-0.5, 0.0, "open"),
        (0.0, 0.0, "open"),
        (None, None, "open"),
    ],
)
def test_verdict_needs_an_interval_that_leaves_zero_out(low: float | None, high: float | None, expected: str) -> None:
    assert verdict(interval(0.2, low, high)) == expected


def test_one_patient_decides_nothing() -> None:
    assert verdict(interval(0.2, 0.2, 0.2, groups=1)) == "open"


def test_ahead() -> None:
    assert finding(scores(interval(0.35, 0.2, 0.5))) == (
        "The best of 2 maps (cam at body) has its maximum inside the tumour in 75.0% of 40 slices, more often than the "
        "best rule without a network (intensity: 40.0%; difference +0.350, 95 % interval +0.200 to +0.500)."
    )


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (interval(-0.3, -0.5, -0.1), "LESS often than the best rule"),
        (interval(0.1, -0.1, 0.3), "not distinguishably more or less often than the best rule"),
        (interval(0.35), "not distinguishably more or less often than the best rule"),
    ],
)
def test_not_ahead_is_said_plainly(difference: dict[str, Any], words: str) -> None:
    said = finding(scores(difference))
    assert words in said
    assert ("interval" in said) == (difference["low"] is not None)


def test_nothing_to_compare() -> None:
    none = "No slice has a tumour outline that a map was scored on, so nothing is known of where this model looks."
    assert finding({"localization": None}) == none
    assert finding({"localization": {"rows": [], "contest": None}}) == none
