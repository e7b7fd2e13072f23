"""What goes to which stream: tables and documents to stdout, progress to a terminal's stderr."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from gyrus.console import PIPED_WIDTH, progress, show
from gyrus.sheets import Sheet


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
        show({}, as_json=False, quiet=False, tables=[Sheet("T", ["a"], [[long]])])
        assert long in capsys.readouterr().out

    def test_square_brackets_in_a_sentence_are_no_markup(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A path or a class may hold them."""
        show({}, as_json=False, quiet=False, tables=["report: runs/[red]a[/red]/[b].html", "note [/x]"])
        assert capsys.readouterr().out == "report: runs/[red]a[/red]/[b].html\nnote [/x]\n"


class TestWidth:
    def test_a_terminal_breaks_sentences_between_words_and_no_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = Terminal()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "20")
        path = "runs/a-long-name/of-a/page.html"
        show({}, as_json=False, quiet=False, tables=[f"page: {path}", "words that are :warning: many"])
        assert screen.getvalue() == f"page:\n{path}\nwords that are\n:warning: many\n"

    def test_piped_sentences_are_one_line_and_tables_as_wide_as_columns_says(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        long = " ".join(["word"] * 20)
        for columns, lines in (("40", 3), ("", 1), ("wide", 1), ("0", 1)):
            monkeypatch.setenv("COLUMNS", columns)
            show({}, as_json=False, quiet=False, tables=[long, Sheet("", ["a"], [[long]])])
            sentence, *rows = capsys.readouterr().out.splitlines()
            assert sentence == long
            assert len(rows) == 2 + lines


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
