"""What goes to which stream: tables and documents to stdout, progress to a terminal's stderr."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from gyrus.console import PIPED_WIDTH, console, progress, show, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestShow:
    def test_json_is_all_there_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        show({"a": float("nan"), "b": (1, 2)}, as_json=True, quiet=False, tables=["a table"])
        out, err = capsys.readouterr()
        assert json.loads(out) == {"a": None, "b": [1, 2]}
        assert err == ""

    def test_json_is_what_was_asked_for_even_if_quiet(self, capsys: pytest.CaptureFixture[str]) -> None:
        show({"a": 1}, as_json=True, quiet=True, tables=[])
        assert json.loads(capsys.readouterr().out) == {"a": 1}

    def test_quiet_is_silent(self, capsys: pytest.CaptureFixture[str]) -> None:
        show({"a": 1}, as_json=False, quiet=True, tables=["a table"])
        assert capsys.readouterr() == ("", "")

    def test_a_long_cell_is_not_cut_where_the_output_is_piped(self, capsys: pytest.CaptureFixture[str]) -> None:
        long = "x" * (PIPED_WIDTH - 10)
        show({}, as_json=False, quiet=False, tables=[table("T", ["a"], [[long]])])
        assert long in capsys.readouterr().out

    def test_square_brackets_in_a_sentence_are_no_markup(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A path or a class may hold them."""
        show({}, as_json=False, quiet=False, tables=["report: runs/[red]a[/red]/[b].html", "note [/x]"])
        assert capsys.readouterr().out == "report: runs/[red]a[/red]/[b].html\nnote [/x]\n"


class TestTable:
    def test_numbers_stand_to_the_right_and_text_to_the_left(self) -> None:
        made = table("T", ["name", "n", "share", "none"], [["a", 3, "0.5 [0.4, 0.6]", None], ["b", None, "-", None]])
        assert [c.justify for c in made.columns] == ["left", "right", "right", "left"]
        assert made.row_count == 2

    def test_markup_is_literal(self, capsys: pytest.CaptureFixture[str]) -> None:
        console().print(table("T", ["a"], [["[bold]x[/bold]"], ["[/]"]]))
        out = capsys.readouterr().out
        assert "[bold]x[/bold]" in out
        assert "[/]" in out

    def test_no_rows(self, capsys: pytest.CaptureFixture[str]) -> None:
        console().print(table("T", ["a", "b"], []))
        assert "a" in capsys.readouterr().out


class TestProgress:
    def test_piped_or_quiet_there_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        for quiet in (False, True):
            with progress(quiet=quiet) as report:
                assert report is None
        assert capsys.readouterr() == ("", "")

    def test_on_a_terminal_it_is_drawn_on_stderr(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen, out = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("TERM", "xterm")
        with progress(quiet=False) as report:
            assert report is not None
            report("reading train", 1, 3)
            report("epoch 1/2", 1, 4)
            report("epoch 2/2", 4, 4)
        assert out.getvalue() == ""
        assert "reading train" in screen.getvalue()
        assert "4/4" in screen.getvalue()
        with progress(quiet=True) as report:
            assert report is None

    def test_lightning_keeps_its_advice_to_itself(self) -> None:
        names = ("lightning.pytorch", "lightning.fabric")
        before = [logging.getLogger(n).level for n in names]
        try:
            for n in names:
                logging.getLogger(n).setLevel(logging.INFO)  # as importing Lightning does
            with progress(quiet=False):
                assert all(not logging.getLogger(f"{n}.utilities.rank_zero").isEnabledFor(logging.INFO) for n in names)
        finally:
            for n, level in zip(names, before, strict=True):
                logging.getLogger(n).setLevel(level)
