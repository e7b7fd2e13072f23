"""Tables on screens of any width: nothing is lost, no word is broken that need not be, and no line is too long."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from gyrus.sheets import Column, Fitting, Sheet, filled, shortened

LINE = "│"


def printed(table: RenderableType, width: int, *, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stream:
        Console(width=width, file=stream, color_system=None, highlight=False).print(table)
        stream.flush()
        return raw.getvalue().decode(encoding).splitlines()


def cells(lines: Sequence[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(LINE)] for line in lines if LINE in line]


def interval(value: float) -> str:
    return f"{value:.3f} [{value - 0.1:.2f}, {value + 0.1:.2f}]"


class TestWhereThereIsRoom:
    def test_it_is_as_wide_as_it_needs(self) -> None:
        assert printed(Sheet("A title", ["name", "n"], [["a", 3], ["bc", None]], caption="below"), 80) == [
            "A title",
            "name ┃ n",
            "━━━━━╇━━",
            "a    │ 3",
            "bc   │  ",
            "below",
        ]

    def test_numbers_stand_to_the_right_and_text_to_the_left(self) -> None:
        rows = [["a", 3, interval(0.5), "1 of 2"], ["long", None, "-", "none"]]
        _, _, first, second = printed(Sheet("", ["name", "count", "share", "text"], rows), 80)
        assert first == "a    │     3 │ 0.500 [0.40, 0.60] │ 1 of 2"
        assert second == "long │       │                  - │ none  "

    def test_columns_without_content_are_left_out(self) -> None:
        made = Sheet("", ["name", "label", "n"], [["a", None, 1], ["b", "", 2]])
        assert printed(made, 80)[0].split() == ["name", "┃", "n"]

    def test_without_rows_the_heads_stay(self) -> None:
        assert printed(Sheet("T", ["a", "b"], []), 80)[:2] == ["T", "a ┃ b"]

    def test_markup_and_names_of_emoji_are_literal(self) -> None:
        text = "\n".join(printed(Sheet("[red]", ["[b]"], [["[bold]x[/bold]"], ["[/] :warning:"]]), 80))
        assert all(word in text for word in ("[red]", "[b]", "[bold]x[/bold]", "[/] :warning:"))

    def test_lines_of_a_cell_are_kept(self) -> None:
        assert cells(printed(Sheet("", ["a", "b"], [["one\ntwo", 1]]), 80)) == [["one", "1"], ["two", ""]]

    def test_wide_characters_are_measured_as_they_are_drawn(self) -> None:
        made = Sheet("", ["name", "n"], [["脳腫瘍", 1], ["a", 2]])
        assert [line.index(LINE) for line in printed(made, 80)[2:]] == [4, 7]


class TestWhereThereIsLess:
    def test_heads_give_way_first(self) -> None:
        made = Sheet("", ["name", "million weights", "weights on PyPI"], [["a" * 20, 2.2, "yes"]])
        lines = printed(made, 42)
        assert "million" in lines[0]
        assert "weights" in lines[1]
        assert cells(lines) == [["a" * 20, "2.2", "yes"]]

    def test_then_text_between_words(self) -> None:
        made = Sheet(
            "", ["name", "what", "n"], [["confidence_increase", "share of the slices it rises in", interval(0.5)]]
        )
        rows = cells(printed(made, 64))
        assert [row[0] for row in rows] == ["confidence_increase", ""]
        assert [row[2] for row in rows] == ["0.500 [0.40, 0.60]", ""]
        assert " ".join(row[1] for row in rows) == "share of the slices it rises in"

    def test_then_a_number_stands_above_its_interval(self) -> None:
        made = Sheet("", ["what", "accuracy", "f1"], [["the model", interval(0.5), interval(0.6)]])
        assert cells(printed(made, 40)) == [["the model", "0.500", "0.600"], ["", "[0.40, 0.60]", "[0.50, 0.70]"]]

    def test_then_it_is_cut_between_columns_and_the_keys_are_repeated(self) -> None:
        heads = ["map", "layer", *"abcdef"]
        made = Sheet("Title", heads, [["cam", "body", *(interval(n / 10) for n in range(1, 7))]], keys=2)
        lines = printed(made, 45)
        assert [line.split()[::2] for line in lines if "┃" in line] == [
            ["map", "layer", "a", "b"],
            ["map", "layer", "c", "d"],
            ["map", "layer", "e", "f"],
        ]
        assert [row[:2] for row in cells(lines)] == [["cam", "body"], ["", ""]] * 3
        assert sum("Title" in line for line in lines) == 1
        assert max(map(len, lines)) <= 45

    def test_what_is_whole_is_not_wrapped(self) -> None:
        row = ["glioma, meningioma", "what there is to say about it"]
        assert cells(printed(Sheet("", [Column("set", whole=True), "what"], [row]), 40))[0][0] == row[0]
        assert cells(printed(Sheet("", ["set", Column("what", whole=True)], [row]), 48))[0][1] == row[1]

    def test_one_endless_word_does_not_take_all_there_is(self) -> None:
        lines = printed(Sheet("", ["path", "what"], [["x" * 200, "some words that are short"]]), 60)
        assert "".join(row[0] for row in cells(lines)) == "x" * 200
        assert " ".join(row[1] for row in cells(lines)).strip() == "some words that are short"
        assert max(map(len, lines)) <= 60

    def test_no_screen_is_too_small(self) -> None:
        for width in range(1, 12):
            assert printed(Sheet("", ["a", "b", "c"], [["glioma", 0.5, "x"]], keys=2), width)

    @given(
        st.lists(st.lists(st.text("ab ", max_size=30), min_size=4, max_size=4), min_size=1, max_size=4),
        st.integers(30, 90),
        st.integers(1, 3),
    )
    def test_no_line_is_too_long_and_no_letter_is_lost(self, rows: list[list[str]], width: int, keys: int) -> None:
        made = Sheet("", [Column(n, least=8) for n in "wxyz"], rows, keys=keys)
        lines = printed(made, width)
        assert max(map(len, lines)) <= width
        letters = "".join(lines)
        for name in "ab":
            assert letters.count(name) >= sum(cell.count(name) for row in rows for cell in row)


class TestForms:
    WIDE = Sheet("", ["name", Column("formula", least=40)], [["iou", "what they share of what either of them covers"]])
    NARROW = Sheet("", ["name"], [["iou"]])

    @pytest.mark.parametrize(("width", "wide"), [(80, True), (47, True), (46, False), (20, False), (2, False)])
    def test_the_first_that_fits_is_printed_or_else_the_last(self, width: int, wide: bool) -> None:
        assert ("formula" in "".join(printed(Fitting([self.WIDE, self.NARROW]), width))) == wide


class TestShortened:
    def test_what_is_short_enough_stays(self) -> None:
        assert shortened(["a.png", "b" * 10], 10) == ["a.png", "b" * 10]

    def test_the_middle_goes_and_the_end_tells_more(self) -> None:
        assert shortened(["brats/BraTS-GLI-00000-000-t1c.nii.gz#axial-80"], 20) == ["brats/B….gz#axial-80"]

    def test_where_names_would_look_alike_they_are_cut_elsewhere(self) -> None:
        names = [f"{n}{'x' * 30}.png" for n in "ab"], [f"{'x' * 30}{n}{'y' * 20}" for n in "ab"]
        assert shortened(names[0], 12) == ["axxx…xxx.png", "bxxx…xxx.png"]
        assert shortened(names[1], 24) == [f"xx…{n}{'y' * 20}" for n in "ab"]

    def test_where_that_is_no_help_they_stay_whole(self) -> None:
        names = [f"{'x' * 30}{n}{'y' * 30}" for n in "ab"]
        assert shortened(names, 12) == names
        column = Column("file", middle=True)
        assert [
            *"".join(row[0] for row in cells(printed(Sheet("", [column, "n"], [[n, "x" * 20] for n in names]), 40)))
        ] == [*"".join(names)]

    def test_the_same_name_may_look_the_same(self) -> None:
        assert len(set(shortened(["x" * 40, "x" * 40], 12))) == 1

    @given(st.lists(st.text("ab脳#.", max_size=40), max_size=6), st.integers(1, 30))
    def test_different_names_stay_different_and_short_where_they_are_cut(self, names: list[str], width: int) -> None:
        cut = shortened(names, width)
        assert len(set(zip(names, cut, strict=True))) == len(set(names)) == len(set(cut))
        assert cut == names or max(map(cell_len, cut)) <= width

    def test_a_screen_without_that_mark_gets_dots(self) -> None:
        made = Sheet("", [Column("file", least=12, middle=True), "n"], [["x" * 80, 1], ["y" * 80, 1]])
        assert "…" in "".join(printed(made, 40))
        assert "xxx...xxx" in "".join(printed(made, 40, encoding="ascii"))


class TestFilled:
    def test_between_words(self) -> None:
        assert filled("one two three", 8) == "one two\nthree"
        assert filled("fits", 8) == "fits"
        assert filled("", 8) == ""

    def test_a_path_stays_whole(self) -> None:
        path = "/a/long/path/that/is/longer/than/the/screen.html"
        assert filled(f"page: {path} is there", 20) == f"page:\n{path}\nis there"

    def test_an_interval_is_not_torn_apart(self) -> None:
        assert filled("refused 0.167 [0.00, 0.33], rest", 24) == "refused 0.167\n[0.00, 0.33], rest"

    def test_blanks_and_lines_are_kept(self) -> None:
        assert filled("a  b\n\n  c", 80) == "a  b\n\n  c"
