"""The leaderboard's page: the finding in words, one table to sort, and the slices on which the map is wrong.

It is made from the leaderboard's files and the slices, without the model, and so without torch.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from gyrus.artifacts import read_json, read_manifest, refuse_existing
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.headline import verdict
from gyrus.page import render, write_page
from gyrus.page.pictures import data_uri, slice_panel, squared
from gyrus.page.words import Figure, number, percent, plural
from gyrus.paths import PathLike, maybe_path
from gyrus.records import Dataset
from gyrus.report.panels import draw_truth
from gyrus.report.words import row_title

PAGE = "leaderboard.html"
_TEMPLATE = Path(__file__).parent / "leaderboard.html.j2"
_FAMILIES = ("Localization", "IoU", "Dice", "Outline", "Faithfulness", "Robustness and sanity", "Truth-free")
_HEATED = ("pointing", "iou@learned", "auprc", "energy_inside")
"""Columns drawn as methods by layers; all run from 0 to 1."""
_NAMES = {
    "pointing": "pointing",
    "iou@learned": "IoU at the learned cut",
    "auprc": "AUPRC",
    "energy_inside": "energy inside",
    "confidence": "softmax confidence",
    "concentration": "concentration",
    "entropy": "entropy",
    "method_agreement": "agreement between methods",
    "flip_stability": "stability under flips",
}
_CUTS = {
    "percentile": "{}th percentile",
    "maximum": "{} of the maximum",
    "prominence": "{} of the peak over the median",
    "otsu": "Otsu\N{RIGHT SINGLE QUOTATION MARK}s level",
    "sigma": "mean + {} SD",
    "value": "above {}",
    "learned": "learned cut",
    "largest": "largest part",
}
_RIVALS, _WORST = 3, 12
"""Maps whose thresholds are compared; slices that are shown."""
_INTENSITY = (0.5, 99.5)

Entry = Mapping[str, Any]
"""A row of ``leaderboard.json``."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table; ``cut`` is the threshold in words, ``hint`` the card in a sentence."""

    name: str
    family: int
    title: str
    cut: str
    better: str
    arrow: str
    hint: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure; ``mark`` is "best", "tied" where it is not told apart from the best, or empty."""

    figure: Figure | None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A slice that the chosen map misses."""

    id: str
    label: str
    predicted: str
    confidence: float
    iou: float | None
    uri: str
    under: str


def write_leaderboard_page(folder: PathLike, *, data: PathLike | None = None, out: PathLike | None = None) -> Path:
    """Write a leaderboard's page: one self-contained HTML file whose table can be sorted.

    Args:
        folder: a leaderboard that :func:`gyrus.leaderboard.build_leaderboard` finished.
        data: the dataset, where it has moved since.
        out: the file to write; ``FOLDER/leaderboard.html`` by default.

    Returns:
        The path of the file.

    Raises:
        InputError: an unfinished leaderboard, a place that is taken, or data that has moved, changed or cannot be read.
    """
    folder, data = Path(folder), maybe_path(data)
    target = maybe_path(out) or folder / PAGE
    refuse_existing(target)
    manifest = read_manifest(folder)
    value = read_json(folder / "leaderboard.json", "a leaderboard")
    if not isinstance(value, dict) or value.get("schema") != "gyrus.leaderboard/1":
        raise InputError(f"{folder / 'leaderboard.json'} is not of schema gyrus.leaderboard/1: make it again")
    missed = _misses(folder / "slices.parquet")
    dataset = _open(manifest, data) if missed else None
    board = _Board(value)
    content = {
        "value": value,
        "manifest": manifest,
        "board": board,
        "families": _FAMILIES,
        "heats": [board.heat(c) for c in _HEATED if c in board.columns],
        "errors": [_errors(value["errors"], of) for of in dict.fromkeys(e["of"] for e in value["errors"])],
        "missed": len(missed),
        "cases": [_draw(dataset, row) for row in missed[:_WORST]] if dataset else [],
        "names": _NAMES,
        "title_of": _title,
        "cut_words": _cut_words,
        "dotted": _dotted,
        "verdict": verdict,
        "integrity": _integrity,
    }
    write_page(target, render(_TEMPLATE, content))
    return target


class _Board:
    """What ``leaderboard.json`` holds, arranged for the page.

    Args:
        value: its content.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.value = value
        self.columns = {c["column"]: _column(c) for c in value["columns"]}
        self._rows: Sequence[Entry] = value["rows"]
        self._by_entry = {(r["kind"], r["name"], r["layer"]): r for r in self._rows}
        self._best = {c: self._leading(column) for c, column in self.columns.items()}

    @cached_property
    def blocks(self) -> list[tuple[str, str, list[Entry]]]:
        """Return name, title and rows of each part of the table, the best pointing first."""
        kinds = (
            ("chosen", "Chosen on training patients", ("chosen",)),
            ("all", "Every map and rule", ("method", "baseline", "null")),
            ("ceiling", "Ceilings: the most a map can score; of a grid, the best IoU and Dice found", ("ceiling",)),
        )
        order = sorted(self._rows, key=lambda r: -_rank(r, "pointing"))
        found = [(name, title, [r for r in order if r["kind"] in own]) for name, title, own in kinds]
        return [block for block in found if block[2]]

    @property
    def chosen(self) -> Entry | None:
        """Return the row of the map that was chosen on training patients."""
        return self._by_entry.get(("chosen", "map", ""))

    @property
    def rule(self) -> Entry | None:
        """Return the row of the rule without a network that was chosen on training patients."""
        return self._by_entry.get(("chosen", "rule", ""))

    def cells(self, row: Entry) -> Iterable[tuple[Column, Cell]]:
        """Yield what stands in a row of the table."""
        for name, column in self.columns.items():
            figure = row["scores"].get(name)
            mark = self._mark(row, name, figure) if row["kind"] == "method" and figure else ""
            yield column, Cell(figure, mark)

    def choices(self, of: str) -> list[str]:
        """Return in words which map, or rule, was chosen, the most frequent first where models differ."""
        made = [m["chosen"][of] for m in self.value["models"] if of in m["chosen"]]
        said = Counter(f"{_title(c)}{_at(c)}, cut: {_cut_words(c['threshold'])}" for c in made)
        return [f"{words} ({plural(n, 'model')})" if len(said) > 1 else words for words, n in said.most_common()]

    def origin(self, of: str) -> str:
        """Return what the chosen map, or rule, is where all models chose the same, and that they differ where not."""
        made = {(_title(c), _at(c)) for m in self.value["models"] for c in (m["chosen"].get(of),) if c}
        return "".join(next(iter(made))) if len(made) == 1 else "differs by model"

    def unbeaten(self, column: str) -> list[tuple[Entry, str]]:
        """Return the rules that the chosen map does not beat in a column, and its verdict: "open" or "behind".

        The chosen rule is one of them by another name, and is named only where it alone is not beaten.
        """
        found = [(r, verdict(r["differences"][column])) for r in self.value["finding"]["against"]]
        lost = [(row, said) for row, said in found if said != "ahead"]
        return [(row, said) for row, said in lost if row["kind"] == "baseline"] or lost

    def heat(self, name: str) -> dict[str, Any]:
        """Return one column as methods by layers, from fine to coarse, with the best rule and the ceiling beside."""
        column = self.columns[name]
        maps = [r for r in self._rows if r["kind"] == "method"]
        grid_of = {r["layer"]: r["grid"] or 0 for r in maps}
        layers = sorted(grid_of, key=lambda layer: (layer == "fused", layer != "input", -grid_of[layer]))
        leading = {r["name"]: r for r in sorted(maps, key=lambda r: _rank(r, "pointing"))}  # of each method the best
        rules = [r for r in self._rows if r["kind"] == "baseline" and name in r["scores"]]
        sides = [grid_of[layer] for layer in layers]
        ceilings = [self._scores("ceiling", f"{side} x {side} map").get(name) for side in sides]
        return {
            "column": column,
            "layers": list(zip(layers, sides, strict=True)),
            "rows": [
                (row, [self._scores("method", method, layer).get(name) for layer in layers])
                for method, row in sorted(leading.items(), key=lambda item: -_rank(item[1], "pointing"))
            ],
            "rule": max(rules, key=lambda r: _rank(r, name), default=None),
            "ceilings": ceilings if any(ceilings) else None,
        }

    @cached_property
    def thresholds(self) -> dict[str, Any] | None:
        """Return IoU by threshold of the chosen map, of the best others, and of the chosen rule."""
        cuts = [c for c in self.columns if c.startswith("iou@")]
        chosen = self.chosen
        if chosen is None or not cuts:
            return None
        key = "iou@learned" if "iou@learned" in cuts else cuts[0]
        maps = [r for r in self._rows if r["kind"] == "method" and r["slices"] == chosen["slices"]]
        others = sorted((r for r in maps if r["scores"] != chosen["scores"]), key=lambda r: -_rank(r, key))
        area = self._scores("ceiling", "area kept")
        return {
            "rivals": [chosen, *others[: _RIVALS - 1], *([self.rule] if self.rule else [])],
            "cuts": [(self.columns[c], area.get(c)) for c in cuts],
        }

    def _scores(self, kind: str, name: str, layer: str = "") -> Mapping[str, Figure]:
        row = self._by_entry.get((kind, name, layer))
        return row["scores"] if row else {}

    def _leading(self, column: Column) -> float | None:
        """Return the best map's value; None where the column does not judge."""
        values = [_value(r, column.name) for r in self._rows if r["kind"] == "method"]
        known = [v for v in values if v is not None]
        if not known or column.better == "neither":
            return None
        return min(known) if column.better == "lower" else max(known)

    def _mark(self, row: Entry, column: str, figure: Figure) -> str:
        if figure["value"] is None or self._best[column] is None:
            return ""
        if figure["value"] == self._best[column]:
            return "best"
        behind = row.get("behind", {}).get(column)
        return "tied" if behind is not None and verdict(behind) == "open" else ""


def _column(card: Mapping[str, Any]) -> Column:
    metric, _, cut = card["column"].partition("@")
    families = {"faithfulness": 4, "robustness": 5, "sanity": 5, "truth-free": 6, "agreement": 6}
    family = {"iou": 1, "dice": 2}.get(metric, 3) if cut else families.get(card["family"], 0)
    title = card["title"].partition(" (")[0]
    arrow = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}.get(card["better"], "")
    range_ = f"{card['low']:g} to {card['high']:g}" if card["high"] is not None else f"from {card['low']:g}"
    hint = f"{card['title']}, {range_}: {card['formula']}. {card['paper']}. Undefined: {card['undefined']}."
    return Column(card["column"], family, title, _cut_words(cut) if cut else "", card["better"], arrow, hint)


def _cut_words(name: str) -> str:
    """Return a threshold for people: "99.5th percentile", "learned cut, largest part"."""
    parts = [part.partition(":") for part in name.removeprefix("learned ").split("+")]
    return ", ".join(_CUTS.get(rule, rule + colon + number).format(number) for rule, colon, number in parts)


def _title(row: Entry) -> str:
    """Return an entry's name for people."""
    if row["kind"] == "chosen":
        return f"The chosen {row['name']}"
    title = row_title(row)
    return title[:1].upper() + title[1:]


def _at(row: Entry) -> str:
    where = {"": "", "input": " at the input", "fused": " over all stages"}
    return where.get(row["layer"], f" at {row['layer']}")


def _dotted(name: str) -> Markup:
    """Return a layer's name as HTML in which a line may end after each dot."""
    return escape(name).replace(".", Markup(".<wbr>"))


def _value(row: Entry, column: str) -> float | None:
    """Return a row's value in a column; None where there is none."""
    found: float | None = row["scores"].get(column, {}).get("value")
    return found


def _rank(row: Entry, column: str) -> float:
    """Return what rows are sorted by in a column where higher is better; those without a value come last."""
    value = _value(row, column)
    return -1.0 if value is None else value


def _errors(every: Sequence[Mapping[str, Any]], of: str) -> dict[str, Any]:
    """Return the numbers that may tell wrong from right, of predictions or of maps, and what they say in words."""
    rows = {e["number"]: e["auroc"] for e in every if e["of"] == of}
    gains = {e["number"]: e["gain"] for e in every if e["of"] == of}
    first = next(e for e in every if e["of"] == of)
    wrong, of_all = first["wrong"], first["auroc"]["n"]
    return {
        "of": of,
        "wrong": wrong,
        "n": of_all,
        "rows": rows,
        "gains": gains,
        "sentence": _error_words(of, wrong, of_all, rows, gains),
    }


def _error_words(of: str, wrong: int, n: int, rows: Mapping[str, Figure], gains: Mapping[str, Figure]) -> str:
    start = f"{wrong} of {plural(n, of)} {'is' if wrong == 1 else 'are'} wrong"
    softmax, own = rows["confidence"], {k: v for k, v in rows.items() if k != "confidence"}
    if softmax["value"] is None:
        return f"{start}, so nothing can be told."
    telling = {k: v for k, v in own.items() if _told(v)}
    said = [f"The softmax confidence {'tells' if _told(softmax) else 'does not tell'} them from the right ones"]
    said[0] += f" (AUROC {number(softmax['value'])})."
    if telling:
        sign = {k: "low" if v["value"] > 0.5 else "high" for k, v in telling.items()}
        shown = [f"{_NAMES.get(k, k)} ({sign[k]} where wrong, {number(v['value'])})" for k, v in telling.items()]
        said.append(f"Of what the map says of itself, {_listed(shown)} {'does' if len(telling) == 1 else 'do'}.")
        above = [_NAMES.get(k, k) for k in telling if (gains[k]["low"] or 0) > 0]
        said.append(
            f"Better than the softmax, slice for slice: {_listed(above)}." if above
            else "None does so better than the softmax, slice for slice."
        )  # fmt: skip
    else:
        said.append("Nothing that the map says of itself does: every interval holds 0.5.")
    few = " With so few wrong ones the intervals are too narrow." if 0 < wrong < 10 else ""
    return f"{start}. {' '.join(said)}{few}"


def _told(figure: Figure) -> bool:
    return figure["low"] is not None and (figure["low"] > 0.5 or figure["high"] < 0.5)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _misses(table: Path) -> list[dict[str, Any]]:
    """Return the slices whose tumour the chosen map's highest point misses, the most confident prediction first."""
    import pyarrow.parquet as pq

    columns = ["id", "label", "predicted", "confidence", "tumour_share", "pointing", "iou@learned"]
    chosen = [("kind", "=", "chosen"), ("name", "=", "map")]
    rows: list[dict[str, Any]] = pq.read_table(table, columns=columns, filters=chosen).to_pylist()
    missed = [r for r in rows if r["pointing"] is not None and r["pointing"] < 0.5]  # a blank map scores a share
    return sorted(missed, key=lambda r: (-r["confidence"], r["id"]))


def _open(manifest: Mapping[str, Any], data: Path | None) -> Dataset:
    """Return the data that the leaderboard was made on, or raise InputError where it has moved or changed."""
    root = data or Path(manifest["data"])
    if not root.exists():
        raise InputError(f"{root}, which the leaderboard was made on, is not there any more: name its new place (data)")
    dataset = open_dataset(root)
    expected = manifest["arguments"]["runs"][0]["data"]
    if dataset.fingerprint != expected:
        raise InputError(
            f"{root} (fingerprint {dataset.fingerprint}) is not what the leaderboard was made on "
            f"(fingerprint {expected}): name that data"
        )
    return dataset


def _draw(dataset: Dataset, row: Mapping[str, Any]) -> Case:
    record = dataset[row["id"]]
    image = record.read()
    panel, mask = slice_panel(squared(image.pixels, image.aspect), _INTENSITY), record.read_mask(image.shape)
    if mask is not None:
        draw_truth(panel, squared(mask, image.aspect))
    under = f"tumour fills {percent(row['tumour_share'])}"
    facts = (row["id"], row["label"], row["predicted"], row["confidence"], row["iou@learned"])
    return Case(*facts, uri=data_uri(panel), under=under)


def _integrity(script: str) -> str:
    """Return the hash by which the page's policy allows its own script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}"
