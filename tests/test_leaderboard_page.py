"""The leaderboard's page: what it says about scores given by hand, and that it needs nothing but its own file."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gyrus.artifacts import read_json, write_json, write_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.leaderboard.entries import Entry
from gyrus.leaderboard.page import _cut_words, _error_words, write_leaderboard_page
from gyrus.leaderboard.settings import Settings
from gyrus.leaderboard.sources import Source
from gyrus.leaderboard.store import Scores, join_parts, write_part
from gyrus.leaderboard.summary import summarise
from gyrus.splits import Split
from gyrus.thresholds import Learned, find_threshold

GOOD, POOR = Entry("method", "layercam", "early<b>&"), Entry("method", "cam", "last")
CLOSE, RULE = Entry("method", "hirescam", "last"), Entry("baseline", "intensity*prior")
NULL, CEILING = Entry("null", "cam", "last"), Entry("ceiling", "area kept")
MISSED = 2
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
PRIOR = "blurred intensity squared \N{MULTIPLICATION SIGN} class prior"


class Page(HTMLParser):
    """The parts of a page that the tests look at."""

    VOID = ("meta", "link", "img", "br", "wbr", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.policy = self.script = ""
        self.words: list[str] = []
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(self.html)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.references += [values[a] for a in ("src", "href", "srcset", "action") if a in values]
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data
        elif not {"style", "title"} & set(self.open):
            self.words.append(data)

    def row(self, start: str) -> str:
        """Return the HTML of the first row of the sortable table whose header starts so."""
        found = re.search(rf'<tr class="\w+"><th scope="row">{start}.*?</tr>', self.html, re.DOTALL)
        assert found is not None, start
        return found[0]


@pytest.fixture(scope="module")
def source(tiny_phantom: Path, tiny_split: Path) -> Source:
    dataset, split = open_dataset(tiny_phantom), Split.load(tiny_split)
    tested = tuple(r for r in dataset.select(split.test) if r.mask is not None)
    learning = tuple(r for r in dataset.select(split.train) if r.mask is not None)
    return Source("run", tiny_phantom.parent / "trained", dataset, split, split.groups, tested, learning, learning, ())


@pytest.fixture(scope="module")
def folder(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard whose chosen map hits all tumours but two, and whose best rule hits none."""
    return make_board(tmp_path_factory.mktemp("board") / "lb", source, rule_hits=0)


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_leaderboard_page(folder))


@pytest.fixture
def altered(folder: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Page]:
    """Write the page of a copy in which ``leaderboard.json`` was changed in place."""

    def alter(change: Callable[[dict[str, Any]], object]) -> Page:
        copy = tmp_path / "altered"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.html"))
        value = read_json(copy / "leaderboard.json", "")
        change(value)
        write_json(copy / "leaderboard.json", value)
        return Page(write_leaderboard_page(copy))

    return alter


class TestFile:
    def test_is_in_the_folder_and_is_never_overwritten(self, folder: Path, page: Page) -> None:
        assert (folder / "leaderboard.html").read_text(encoding="utf-8") == page.html
        with pytest.raises(InputError, match=r"leaderboard\.html already exists"):
            write_leaderboard_page(folder)

    def test_goes_where_it_is_told_and_is_the_same_each_time(self, folder: Path, page: Page, tmp_path: Path) -> None:
        out = write_leaderboard_page(folder, out=tmp_path / "new" / "a.html")
        assert out.read_text(encoding="utf-8") == page.html

    def test_asks_for_nothing_outside_itself(self, page: Page) -> None:
        assert all(r.startswith(("data:", "#")) for r in page.references), page.references
        assert not re.search(r"@import|@font-face|url\(", page.html)
        assert not {"iframe", "object", "embed", "form"} & set(page.tags)
        assert not re.search("fetch|XMLHttp|import|eval|innerHTML|http", page.script)

    def test_its_policy_allows_its_one_script(self, page: Page) -> None:
        assert page.tags.count("script") == 1
        digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page.policy
        assert "default-src 'none'" in page.policy

    def test_is_well_formed(self, page: Page) -> None:
        assert page.unclosed + page.open == []
        assert len(page.ids) == len(set(page.ids))
        assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
        assert page.tags.count("h1") == 1
        assert page.tags.count("caption") == page.tags.count("table")

    def test_does_not_import_torch(self, folder: Path, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from gyrus.leaderboard.page import write_leaderboard_page as write;"
            f"write(Path({str(folder)!r}), out=Path({str(tmp_path / 'a.html')!r}));"
            "print(sorted({'torch', 'timm', 'matplotlib.pyplot'} & set(sys.modules)))"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == "[]"

    def test_refuses_what_is_no_finished_leaderboard(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="did not finish"):
            write_leaderboard_page(tmp_path)
        other = shutil.copytree(folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.html"))
        write_json(other / "leaderboard.json", {"schema": "gyrus.scores/1"})
        with pytest.raises(InputError, match=r"not of schema gyrus\.leaderboard/1"):
            write_leaderboard_page(other)

    def test_refuses_data_that_moved_or_changed(self, folder: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not there any more"):
            write_leaderboard_page(folder, data=tmp_path / "gone", out=tmp_path / "a.html")
        changed = shutil.copytree(tiny_phantom, tmp_path / "changed")
        with next((changed / "images").glob("*.png")).open("ab") as file:
            file.write(b"\0")
        with pytest.raises(InputError, match="is not what the leaderboard was made on"):
            write_leaderboard_page(folder, data=changed, out=tmp_path / "a.html")
        assert not (tmp_path / "a.html").exists()


class TestFinding:
    def test_split_comes_first_and_the_data_is_called_synthetic(self, source: Source, page: Page) -> None:
        assert page.text.startswith(f"Split {source.split.statement}")
        assert "Synthetic data." in page.text
        assert "Record-wise" not in page.text

    def test_names_what_was_chosen_with_its_cut(self, page: Page) -> None:
        said = "The map that was best on training patients is LayerCAM at early<b>&, cut: mean + 3 SD."
        assert said in page.text
        assert f"{PRIOR}, cut: 97.5th percentile" in page.text

    def test_a_share_is_named_without_an_article(self, altered: Callable[..., Page]) -> None:
        said = altered(lambda value: value["models"][0]["chosen"]["map"].update(threshold="learned maximum:0.4")).text
        assert "LayerCAM at early<b>&, cut: 0.4 of the maximum." in said

    def test_says_that_the_map_beats_every_rule(self, folder: Path, page: Page) -> None:
        assert read_json(folder / "leaderboard.json", "")["finding"]["beats_all"]["pointing"] is True
        assert "It beats every rule without a network in pointing and in IoU, with intervals apart." in page.text
        assert "does not beat" not in page.text

    def test_flips_when_the_rule_is_as_good(self, source: Source, tmp_path: Path) -> None:
        board = make_board(tmp_path / "lb", source, rule_hits=len(source.tested) - MISSED)
        said = Page(write_leaderboard_page(board)).text
        assert "It does not beat every rule without a network." in said
        found = re.search(r"In pointing it is (.*?)\. +In IoU it beats them all\.", said)
        assert found is not None
        assert found[1].startswith(f"not told apart from {PRIOR} (difference 0.000")
        assert "with intervals apart." not in said[: said.index("Leaderboard")]

    def test_says_so_where_the_map_is_behind(self, altered: Callable[..., Page]) -> None:
        def lose(value: dict[str, Any]) -> None:
            for row in value["finding"]["against"]:
                row["differences"]["iou@learned"] |= {"value": -0.2, "low": -0.3, "high": -0.1}

        said = altered(lose).text
        assert "In pointing it beats them all." in said
        difference = f"{MINUS}0.200, {MINUS}0.300 to {MINUS}0.100"
        assert f"In IoU it is behind {PRIOR} (difference {difference})" in said

    def test_one_patient_decides_nothing(self, altered: Callable[..., Page]) -> None:
        def alone(value: dict[str, Any]) -> None:
            for row in value["finding"]["against"]:
                row["differences"]["pointing"] |= {"low": None, "high": None, "groups": 1}

        assert "In pointing it is not told apart from" in altered(alone).text

    def test_a_record_wise_split_is_no_evidence(self, altered: Callable[..., Page]) -> None:
        said = altered(lambda value: value.update(record_wise=True, synthetic=False)).text
        assert "Record-wise split: these figures are not evidence." in said
        assert "never saw" not in said[: said.index("Leaderboard")]
        assert "Synthetic" not in said

    def test_without_a_chosen_map_nothing_is_claimed(self, altered: Callable[..., Page]) -> None:
        def none(value: dict[str, Any]) -> None:
            value |= {"finding": None, "errors": []}
            value["rows"] = [r for r in value["rows"] if r["kind"] != "chosen"]
            value["models"][0]["chosen"] = {}

        said = altered(none).text
        assert "nothing is known of whether a map of this model beats a rule" in said
        assert "beats every rule" not in said


class TestTable:
    def test_every_entry_is_a_row_and_every_column_a_header(self, folder: Path, page: Page) -> None:
        value = read_json(folder / "leaderboard.json", "")
        table = re.search(r'<table class="sortable">.*?</table>', page.html, re.DOTALL)
        assert table is not None
        assert table[0].count('<th scope="row">') == len(value["rows"])
        assert table[0].count('<th scope="col"') == 2 + len(value["columns"])
        assert table[0].count("<td ") == len(value["rows"]) * (1 + len(value["columns"]))

    def test_what_is_absent_is_a_dash(self, page: Page) -> None:
        cells = re.findall(r"<td class=\"k .*?</td>", page.row("Area kept"))
        assert sum(f'<span class="none">{DASH}</span>' in c for c in cells) == len(cells) - 1
        assert not re.search(">(nan|None)<", page.html)

    def test_best_is_marked_and_so_is_what_is_not_told_apart(self, page: Page) -> None:
        assert re.search(r'k0 best"><b>0\.\d{3}</b>', page.row("LayerCAM"))
        assert re.search(r'k0 tied"><b>0\.\d{3}</b>', page.row("HiResCAM"))
        assert not re.search("best|tied", page.row("CAM<small>map"))
        assert not re.search("best|tied", page.row("Blurred intensity squared"))

    def test_names_are_escaped(self, page: Page) -> None:
        assert "early&lt;b&gt;&amp;" in page.html
        assert "early<b>" not in page.html

    def test_rows_say_what_they_are_and_on_how_many_slices(self, source: Source, page: Page) -> None:
        assert "random weights, last" in page.row("CAM<small>random")
        assert f'<td class="slices">{len(source.tested)}</td>' in page.row("LayerCAM")
        assert '<td class="slices">4</td>' in page.row("CAM<small>random")

    def test_heat_runs_from_fine_to_coarse_on_one_scale(self, page: Page) -> None:
        heat = page.html[page.html.index('<table class="heat">') :]
        assert heat.index("early&lt;b") < heat.index(">last<")
        assert 'style="--v:1.0"' not in heat[: heat.index("</tbody>")]
        assert re.search(r"<td colspan=\"2\" style=\"--v:[\d.]+\".*?blurred intensity squared", heat)


class TestThresholds:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("learned percentile:99.5", "99.5th percentile"),
            ("maximum:0.2", "0.2 of the maximum"),
            ("otsu+largest", "Otsu\N{RIGHT SINGLE QUOTATION MARK}s level, largest part"),
            ("sigma:2", "mean + 2 SD"),
            ("value:-0.5", "above -0.5"),
            ("learned", "learned cut"),
        ],
    )
    def test_are_put_in_words(self, name: str, words: str) -> None:
        assert _cut_words(name) == words

    def test_the_ceiling_stands_beside_them(self, page: Page) -> None:
        assert "Ceilings: the most a map can score; of a grid, the best IoU and Dice found" in page.html
        assert "no map can exceed" not in page.html  # the IoU of a grid is a lower bound of its ceiling
        cuts = page.html[page.html.index('id="thresholds"') :]
        assert re.search(r'class="tick" x1="58\.0".*?0\.400', cuts, re.DOTALL)  # 2 + 140 * 0.4


class TestErrors:
    def interval(self, value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
        return {"value": value, "low": low, "high": high, "n": 50, "groups": 9}

    def test_a_number_that_works_the_other_way_round_counts(self) -> None:
        rows = {"confidence": self.interval(0.6, 0.4, 0.75), "entropy": self.interval(0.1, 0.05, 0.2)}
        gains = {"confidence": self.interval(0, 0, 0), "entropy": self.interval(0.3, 0.1, 0.5)}
        said = _error_words("map", 20, 50, rows, gains)
        assert said == (
            "20 of 50 maps are wrong. The softmax confidence does not tell them from the right ones (AUROC 0.600). Of "
            "what the map says of itself, entropy (high where wrong, 0.100) does. Better than the softmax, "
            "slice for slice: entropy."
        )
        level = {**gains, "entropy": self.interval(0.3, -0.1, 0.5)}
        assert "None does so better than the softmax" in _error_words("map", 20, 50, rows, level)

    def test_nothing_tells(self) -> None:
        rows = {"confidence": self.interval(0.8, 0.6, 0.9), "entropy": self.interval(0.6, 0.4, 0.7)}
        said = _error_words("prediction", 20, 50, rows, {})
        assert "The softmax confidence tells them" in said
        assert said.endswith("Nothing that the map says of itself does: every interval holds 0.5.")

    def test_told_no_better_than_by_the_softmax(self) -> None:
        rows = {"confidence": self.interval(0.8, 0.6, 0.9), "entropy": self.interval(0.2, 0.1, 0.3)}
        assert "None does so better than the softmax" in _error_words(
            "map", 20, 50, rows, {"entropy": self.interval(0.0, -0.1, 0.1)}
        )

    def test_where_none_is_wrong_nothing_can_be_told(self) -> None:
        rows = {"confidence": self.interval(None, None, None)}
        assert _error_words("prediction", 0, 50, rows, {}) == "0 of 50 predictions are wrong, so nothing can be told."

    def test_both_are_on_the_page(self, source: Source, page: Page) -> None:
        n = len(source.tested)
        assert f"0 of {n} predictions are wrong, so nothing can be told." in page.text
        assert f"{MISSED} of {n} maps are wrong." in page.text


class TestWorst:
    def test_the_missed_slices_come_surest_first(self, source: Source, page: Page) -> None:
        worst = page.html[page.html.index('id="worst"') :]
        shown = [re.sub("<.*?>", "", t) for t in re.findall(r'<span class="id">(.*?)</span>', worst)]
        assert shown == [source.tested[1].id, source.tested[0].id]
        assert f"on 2 slices of {len(source.tested)}." in page.text
        assert "(0.910)" in worst[: worst.index("(0.900)")]

    def test_the_tumour_is_outlined(self, page: Page) -> None:
        pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page.html)
        assert len(pictures) == MISSED
        for picture in pictures:
            panel = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_UNCHANGED)
            assert panel is not None
            assert (np.ptp(panel.astype(int), axis=2) > 100).any()  # sky blue on grey

    def test_where_the_map_never_misses_no_data_is_needed(self, source: Source, tmp_path: Path) -> None:
        board = make_board(tmp_path / "lb", source, rule_hits=0, missed=0)
        said = Page(write_leaderboard_page(board, data=tmp_path / "gone"))
        assert "lies inside the tumour on every slice that was scored." in said.text
        assert "img" not in said.tags


def make_board(folder: Path, source: Source, *, rule_hits: int, missed: int = MISSED) -> Path:
    """Write a finished leaderboard whose chosen map misses the first slices, the more surely the later they come."""
    rows = []
    for i, record in enumerate(source.tested):
        about: dict[str, Any] = {"id": record.id, "patient": record.patient, "label": record.label}
        about |= {"predicted": record.label, "source": "run", "confidence": 0.9 + 0.01 * i, "tumour_share": 0.02}
        hit = float(i >= missed)
        good = {"pointing": hit, "iou@percentile:95": 0.3, "iou@learned": 0.5 + 0.01 * i, "entropy": 0.1 * i}
        close = {"pointing": float(i not in (1, 2, 3)), "iou@learned": 0.2}
        rule = {"pointing": float(i >= len(source.tested) - rule_hits), "iou@learned": 0.1}
        scored: list[tuple[Entry, dict[str, float]]] = [
            (POOR, {"pointing": 0.0, "iou@learned": 0.1, "grid": 12}),
            (CLOSE, close | {"grid": 12}),
            (GOOD, good | {"grid": 24}),
            (RULE, rule),
            (Entry("chosen", "map"), good | {"grid": 24}),
            (Entry("chosen", "rule"), rule),
        ]
        if i < 4:
            scored += [
                (NULL, {"pointing": 0.0, "iou@learned": 0.01, "grid": 12}),
                (CEILING, {"iou@percentile:95": 0.4}),
            ]
        rows += [{**about, **entry._asdict(), **values} for entry, values in scored]
    folder.mkdir()
    write_part(folder / "part.parquet", rows)
    join_parts([folder / "part.parquet"], folder / "slices.parquet")
    (folder / "part.parquet").unlink()
    cuts = {GOOD: ("sigma:3", 0.4), POOR: ("otsu", 0.2), RULE: ("percentile:97.5", 0.1)}
    learned = {e: replace(find_threshold(name), learned=Learned(8, iou, 26)) for e, (name, iou) in cuts.items()}
    settings = Settings(methods=("cam", "hirescam", "layercam"), sample=4, learn=8)
    write_json(folder / "leaderboard.json", summarise(Scores(folder / "slices.parquet"), settings, [source], [learned]))
    arguments = {"runs": [{"run": "run", "data": source.dataset.fingerprint}]}
    facts = {"data": str(source.dataset.root.absolute())}
    write_manifest(folder, "leaderboard", started=time.time(), arguments=arguments, facts=facts)
    return folder
