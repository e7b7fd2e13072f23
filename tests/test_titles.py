"""What methods are called in print, on their cards and on the report's page."""

from __future__ import annotations

import pytest

from gyrus.explain import METHODS
from gyrus.report.words import row_title
from gyrus.titles import METHOD_TITLES


def test_every_method_has_a_title_of_its_own_and_its_card_says_it() -> None:
    assert {name: method.title for name, method in METHODS.items()} == METHOD_TITLES
    assert len(set(METHOD_TITLES.values())) == len(METHOD_TITLES)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("gradcam++", "Grad-CAM++"),
        ("rise", "RISE"),
        ("inputxgradient", "Input \N{MULTIPLICATION SIGN} gradient"),
        ("someone's", "someone's"),  # a method of another version is called by its name
    ],
)
def test_the_report_calls_a_method_by_its_title(name: str, title: str) -> None:
    assert row_title({"kind": "method", "name": name}) == title
