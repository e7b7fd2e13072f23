"""Charts as parts of a page and as files: what they take from the page, and that any viewer can open them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from markupsafe import Markup

import gyrus.page
from gyrus.page import charts

SVG = "{http://www.w3.org/2000/svg}"
LABEL = 'Tom & "Jerry" <b>'


def draw(salt: str = "a") -> Markup:
    with matplotlib.rc_context(charts.style(salt)):
        figure, axes = charts.panel((4.0, 3.0), "A <title> & $x$")
        axes.plot([0, 1, 2], [0, 2, 1], color=charts.BLUE, marker="o", label="line")
        axes.fill_between([0, 1], [0, 0], [1, 1], color=charts.TINT, alpha=0.5)
        figure.legend(loc="outside lower center")
        return charts.to_svg(figure, LABEL)


@pytest.fixture(scope="module")
def inline() -> Markup:
    return draw()


@pytest.fixture(scope="module")
def file(inline: Markup) -> str:
    return charts.standalone(inline)


@pytest.fixture(scope="module")
def light() -> dict[str, str]:
    """The variables of the page's light theme."""
    css = (Path(gyrus.page.__file__).parent / "page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--(\w+): ([^;]+);", css.split("}")[0]))


class TestInline:
    def test_colours_and_type_are_the_pages(self, inline: Markup, light: dict[str, str]) -> None:
        used = set(re.findall(r"var\(--(\w+)\)", inline))
        assert {"blue", "ink", "muted", "rule", "tint"} <= used <= set(light)
        assert not re.search(r"#[0-9a-f]{6}\b|font-family|<style|<script", inline)

    def test_is_labelled_and_escaped(self, inline: Markup) -> None:
        root = ElementTree.fromstring(inline)
        assert root.get("aria-label") == LABEL
        assert "A <title> & $x$" in [text.text for text in root.iter("text")]

    def test_ids_are_used_and_its_own(self, inline: Markup) -> None:
        ids = re.findall(r' id="([^"]+)"', inline)
        assert ids
        assert set(ids) == set(re.findall(r'(?:url\(|href=")#(\w+)', inline))
        assert not set(ids) & set(re.findall(r' id="([^"]+)"', draw("b")))
        assert draw() == inline

    def test_every_token_is_a_variable_of_the_style_sheet(self, light: dict[str, str]) -> None:
        names = re.findall(r"var\(--(\w+)\)", " ".join(charts._TOKENS.values()))
        assert len(names) == len(charts._TOKENS)
        assert set(names) <= set(light)
        assert len(charts.SERIES) == len(charts.DASHES) == len(charts.MARKERS)


class TestStandalone:
    def test_is_xml_with_a_size_and_a_title(self, file: str) -> None:
        root = ElementTree.fromstring(file.encode())
        assert root.tag == f"{SVG}svg"
        assert [root.get(n) for n in ("width", "height", "viewBox")] == ["304pt", "232pt", "-8 -8 304 232"]
        assert root.findtext(f"{SVG}title") == LABEL

    def test_is_light_on_white_and_needs_no_page(self, file: str, light: dict[str, str]) -> None:
        root = ElementTree.fromstring(file.encode())
        ground = root.find(f"{SVG}rect")
        assert ground is not None
        assert [ground.get(n) for n in ("x", "y", "width", "height")] == ["-8", "-8", "304", "232"]
        assert ground.get("fill") == light["paper"] == "#ffffff"
        assert root.get("font-family") == light["sans"]
        assert light["blue"] in file
        assert "var(" not in file
        assert "class=" not in file

    def test_what_it_points_at_is_in_it(self, file: str) -> None:
        root = ElementTree.fromstring(file.encode())
        ids = {e.get("id") for e in root.iter()}
        uses = [e.get("{http://www.w3.org/1999/xlink}href") for e in root.iter(f"{SVG}use")]
        assert uses
        assert {str(u)[1:] for u in uses} <= ids
        assert set(re.findall(r"url\(#([^)]+)\)", file)) <= ids

    def test_a_word_like_a_variable_stays(self) -> None:
        with matplotlib.rc_context(charts.style("word")):
            figure, _ = charts.panel((2.0, 1.0), "var(--unheardof)")
            assert "var(--unheardof)" in charts.standalone(charts.to_svg(figure, "a"))
