"""Charts of a study: what is drawn is what was given, and nothing breaks where little was."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup

from gyrus.intervals import Interval
from gyrus.page.charts import standalone
from gyrus.page.words import NONE
from gyrus.studies.charts import ClaimRow, _over_tables, claims, confusion_heatmap, curves, shares, spread

NAN = math.nan
HOSTILE = '<b>&"$x^2$'


def texts(chart: Markup) -> list[str]:
    """Return the words of a chart in drawing order, having made sure that it is XML, inline and as a file."""
    ElementTree.fromstring(standalone(chart).encode())
    return [str(t.text) for t in ElementTree.fromstring(chart).iter("text")]


def styles(chart: Markup) -> list[tuple[str, str]]:
    """Return path and style of every shape."""
    return [(p.get("d", ""), p.get("style", "")) for p in ElementTree.fromstring(chart).iter("path")]


def extents(chart: Markup, colour: str) -> list[tuple[float, float]]:
    """Return the left and right ends of what is filled with a colour, outside the legend, from the top down."""
    found = []
    for path, style in styles(chart):
        if style.startswith(f"fill: var(--{colour})"):
            points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), dtype=float)
            if np.ptp(points[:, 1]) > 12:  # keys of the legend are lower
                found.append((points[:, 0].min(), points[:, 0].max()))
    return found


def table(epochs: int, *, validated: bool = True, shift: float = 0.0) -> list[dict[str, float]]:
    rows = []
    for e in range(1, epochs + 1):
        row = {"epoch": float(e), "seconds": 1.0}
        for part in ("train", "val") if validated else ("train",):
            rates = dict.fromkeys(("accuracy", "macro_precision", "macro_recall", "macro_f1"), 0.9 - 0.2 / e + shift)
            row |= {f"{part}_{n}": v for n, v in ({"loss": 1 / e + shift} | rates).items()}
        rows.append(row)
    return rows


class TestCurves:
    def test_one_chart_each_with_runs_and_parts_named(self) -> None:
        drawn = curves({"small": [table(5), table(5, shift=0.05)], HOSTILE: [table(5)]})
        titles = ["Loss", "Accuracy", "Macro precision", "Macro recall"]
        for chart, title in zip(drawn, titles, strict=True):
            said = texts(chart)
            assert title in said
            keys = [t for t in said if t in ("small", HOSTILE, "training", "validation", "lowest to highest")]
            assert len(keys) == 5
        dashed = [s for _, s in styles(drawn[0]) if "stroke-dasharray" in s]
        assert sum("--blue" in s for s in dashed) == sum("--orange" in s for s in dashed) == 1

    def test_mean_and_band_by_hand(self) -> None:
        tables = [
            [{"epoch": 1, "val_loss": 2.0}, {"epoch": 2, "val_loss": 1.0}],
            [{"epoch": 1, "val_loss": 4.0}, {"epoch": 2, "val_loss": NAN}, {"epoch": 3, "train_loss": 0.5}],
        ]
        assert _over_tables(tables, "val_loss").tolist() == [[1, 3, 2, 4], [2, 1, 1, 1]]
        assert _over_tables(tables, "train_loss").tolist() == [[3, 0.5, 0.5, 0.5]]
        assert _over_tables(tables, "val_accuracy").shape == (0, 4)

    def test_rates_share_a_scale(self) -> None:
        low = table(4)
        low[0]["val_macro_recall"] = 0.32
        _, *rates = curves({"a": [low]})
        for chart in rates:
            ticks = [t for t in texts(chart) if re.fullmatch(r"\d\.\d", t)]
            assert (ticks[0], ticks[-1]) == ("0.3", "1.0")

    def test_what_is_missing_is_left_out(self) -> None:
        assert curves({}) == curves({"a": []}) == curves({"a": [[]]}) == []
        only = curves({"a": [[{"epoch": 1, "train_loss": 0.3, "val_loss": NAN}]], "b": []})
        assert ["Loss" in texts(c) for c in only] == [True]
        assert "lowest to highest" not in texts(only[0])
        assert len(curves({"a": [table(1, validated=False)]})) == 4

    def test_a_single_epoch_is_seen(self) -> None:
        for chart in curves({"a": [table(1)]}):
            uses = [u.get("style", "") for u in ElementTree.fromstring(chart).iter("use")]
            assert sum("--blue" in s for s in uses) >= 3  # train, validation, and the key
            assert "1" in texts(chart)

    def test_many_runs_of_long_names(self) -> None:
        names = [f"EfficientNetB0, protocol {i}" for i in range(8)]
        assert set(names) <= set(texts(curves({n: [table(3)] for n in names})[0]))


class TestSpread:
    def test_numbers_by_hand(self) -> None:
        said = texts(spread({"five": [0.9, 0.92, 0.94], "one": [0.5], "none": [], "part": [0.2, NAN]}, "Accuracy"))
        assert said[said.index("0.920") :][:3] == ["0.920", "0.020", "3"]
        assert said[said.index("0.500") :][:3] == ["0.500", NONE, "1"]
        assert said[said.index("0.200") :][:3] == ["0.200", NONE, "1"]
        assert said[said.index("0.200") - 3 :][:3] == [NONE, NONE, "0"]

    def test_band_is_one_deviation_to_each_side(self) -> None:
        """The band of [0.1, 0.2, 0.3] ends where the outer points are."""
        chart = spread({"a": [0.1, 0.2, 0.3]}, "x")
        band = next(d for d, s in styles(chart) if "stroke-width: 9" in s)
        ends = [float(x) for x in re.findall(r"[ML] ([\d.]+) ", band)]
        uses = ElementTree.fromstring(chart).iter("use")
        points = [float(u.get("x", "")) for u in uses if "--blue" in u.get("style", "")]
        assert ends == pytest.approx([points[0], points[2]], abs=1e-4)


class TestConfusion:
    MATRIX = ((89, 4), (0, 0))

    @pytest.mark.parametrize("kind", [list, np.array])
    def test_counts_and_shares(self, kind: Callable[..., object]) -> None:
        said = texts(confusion_heatmap(kind(self.MATRIX), ["glioma", HOSTILE], "Own"))
        for word in ("Own", "labelled", "predicted", "89", "96 %", "4", "4.3 %"):
            assert said.count(word) == 1, word
        assert said.count("0") == 2
        assert said.count("glioma") == said.count(HOSTILE) == 2

    def test_tint_follows_the_share_of_the_row(self) -> None:
        shapes = [s for _, s in styles(confusion_heatmap([[3, 1], [0, 5]], ["a", "b"], "t"))]
        blue, orange = ([s for s in shapes if s.startswith(f"fill: var(--{c})")] for c in ("blue", "orange"))
        opacity = [float(re.findall(r"opacity: ([\d.]+)", s)[0]) for s in (*blue, *orange)]
        assert opacity == pytest.approx([0.5 * math.sqrt(share) for share in (0.75, 1, 0.25)], abs=1e-5)

    def test_writes_thousands(self) -> None:
        assert "1,320" in texts(confusion_heatmap([[1320]], ["tumor"], "t"))


class TestShares:
    def test_bars_are_as_long_as_their_shares(self) -> None:
        chart = shares({"all": {"a": 30, "b": 10}, "some": {"b": 3}}, "Balance")
        (left, middle), (start, end) = extents(chart, "blue")[0], extents(chart, "orange")[0]
        assert middle == pytest.approx(start)
        assert (middle - left) / (end - left) == pytest.approx(0.75)
        assert extents(chart, "orange")[1] == pytest.approx((left, end))

    def test_says_what_fits(self) -> None:
        said = texts(shares({"all": {"glioma": 9000, "x": 500, "pituitary": 1}, "no": {"glioma": 0}, "nil": {}}, "T"))
        assert "9,000 (95 %)" in said
        assert "500" in said
        assert "1" not in said
        assert said.count("glioma") == 2  # in the bar and in the legend
        assert said.count("pituitary") == 1
        assert said[said.index("9,501") :][:4] == ["9,501", "0", "0", "n"]


class TestClaims:
    def test_numbers_stand_in_columns(self) -> None:
        rows = [
            ClaimRow("accuracy", 0.98, Interval(0.97, 0.95, 0.99, 300, 60), Interval(0.91, 0.88, 0.94, 300, 60)),
            ClaimRow(HOSTILE, None, None, Interval(0.36, NAN, NAN, 1, 1)),
            ClaimRow("undefined", 0.5, Interval(NAN, NAN, NAN, 0, 0), None),
        ]
        said = texts(claims(rows))
        columns = ("claimed", "own", "honest", "0.980", "0.970", "0.910", NONE, NONE, "0.360", "0.500", NONE, NONE)
        assert tuple(said[said.index("claimed") :][: len(columns)]) == columns
        assert {"accuracy", HOSTILE, "own protocol", "honest protocol"} <= set(said)

    def test_interval_and_value_are_in_place(self) -> None:
        chart = claims([ClaimRow("a", 0.0, None, Interval(0.5, 0.25, 1.0, 9, 9))])
        line = next(d for d, s in styles(chart) if "--blue" in s and "stroke-width: 2.2" in s)
        low, high = (float(x) for x in re.findall(r"[ML] ([\d.]+) ", line))
        uses = list(ElementTree.fromstring(chart).iter("use"))
        claimed = next(float(u.get("x", "")) for u in uses if "fill: var(--ink)" in u.get("style", ""))
        value = next(float(u.get("x", "")) for u in uses if "fill: var(--blue)" in u.get("style", ""))
        assert [(x - claimed) / (high - claimed) for x in (low, value)] == pytest.approx([0.25, 0.5], abs=1e-4)

    def test_what_no_row_has_is_left_out(self) -> None:
        said = texts(claims([ClaimRow(n, None, None, Interval(0.9, 0.8, 0.95, 9, 9)) for n in ("VGG16", "VGG19")]))
        assert "honest" in said
        assert not {"claimed", "own", "own protocol"} & set(said)
        assert "VGG16" in texts(claims([ClaimRow("VGG16", None, None, None)]))


def test_nothing_is_said_to_be_nothing() -> None:
    empty = (spread({}, "Accuracy"), confusion_heatmap([], [], "Confusion"), shares({}, "Balance"), claims([]))
    assert all("nothing to show" in texts(chart) for chart in empty)


def test_charts_of_one_page_share_no_id() -> None:
    rows = {"a": {"x": 3}}
    drawn = [*curves({"a": [table(3)]}), *curves({"a": [table(4)]}), shares(rows, "1"), shares(rows, "2")]
    drawn += [confusion_heatmap([[n]], ["a"], "t") for n in range(3)]
    drawn += [spread({"a": [v]}, "x") for v in (0.1, 0.2)]
    ids = [i for chart in drawn for i in re.findall(r' id="([^"]+)"', chart)]
    assert len(ids) == len(set(ids))
