"""The table of predictions: probabilities, rows that could not be read, and its two file forms."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gyrus.artifacts import write_json
from gyrus.errors import InputError
from gyrus.predictions import BEFORE, SCHEMA, Certainty, Predictions, joined

WHY = "c.png is empty (0 bytes): restore it"


@pytest.fixture
def table() -> Predictions:
    logits = np.array([[1.0, 3.0, 0.5], [500.0, -500.0, 0.1], [np.nan] * 3], dtype=np.float32)
    return Predictions(
        classes=("glioma", "meningioma", "pituitary"),
        ids=("a", "b", "c"),
        files=("x/a.png", "x/b, too.png", "x/c.png"),
        patients=("p1", None, "p2"),
        labels=("meningioma", None, "glioma"),
        logits=logits,
        status=("ok", "ok", "unreadable"),
        reasons=("", "", WHY),
        statement="hand, holdout 0.7/0.1/0.2, seed 0",
    )


def test_probabilities_are_a_softmax(table: Predictions) -> None:
    powers = np.exp([1.0, 3.0, 0.5])
    assert table.probabilities[0] == pytest.approx(powers / powers.sum())
    assert table.probabilities[1] == pytest.approx([1, 0, 0])
    assert np.isnan(table.probabilities[2]).all()
    assert table.probabilities[:2].sum(axis=1) == pytest.approx([1, 1])
    assert table.predicted == ("meningioma", "glioma", None)
    assert len(table) == 3


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_logits_that_are_not_finite_predict_nothing(table: Predictions, bad: float) -> None:
    table.logits[0, 1] = bad
    assert np.isnan(table.probabilities[0]).all()
    assert table.predicted[0] is None
    assert table.rows()[0]["logits"] is None


def test_a_row_has_the_documented_fields(table: Predictions) -> None:
    first, _, unreadable = table.rows()
    assert list(first) == [
        *("file", "id", "patient", "label", "predicted", "probabilities", "set", "status", "reason"),
        *("logits", "temperature", "novelty", "outline"),
    ]
    assert (first["set"], first["temperature"], first["novelty"], first["reason"]) == (None, None, None, "")
    assert first["logits"] == {"glioma": 1.0, "meningioma": 3.0, "pituitary": 0.5}
    assert (first["file"], first["id"], first["patient"], first["label"]) == ("x/a.png", "a", "p1", "meningioma")
    assert (first["predicted"], first["status"]) == ("meningioma", "ok")
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert (unreadable["predicted"], unreadable["probabilities"], unreadable["logits"]) == (None, None, None)
    assert (unreadable["status"], unreadable["reason"]) == ("unreadable", WHY)
    assert json.loads(json.dumps(table.rows(), allow_nan=False)) == table.rows()


def test_json_and_back(table: Predictions, tmp_path: Path) -> None:
    table.save(tmp_path / "p.json")
    got = Predictions.load(tmp_path / "p.json")
    for name in ("classes", "ids", "files", "patients", "labels", "status", "reasons", "statement"):
        assert getattr(got, name) == getattr(table, name)
    assert got.logits.dtype == np.float32
    assert np.array_equal(got.logits, table.logits, equal_nan=True)
    got.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "p.json").read_bytes()
    assert json.loads((tmp_path / "p.json").read_text())["schema"] == SCHEMA


def test_an_empty_table_and_back(tmp_path: Path) -> None:
    empty = Predictions(("a", "b"), (), (), (), (), np.empty((0, 2), dtype=np.float32), (), ())
    empty.save(tmp_path / "p.json")
    got = Predictions.load(tmp_path / "p.json")
    assert (len(got), got.logits.shape, got.probabilities.shape, got.predicted) == (0, (0, 2), (0, 2), ())


@pytest.mark.parametrize("name", ["p.csv", "P.CSV"])
def test_csv(table: Predictions, tmp_path: Path, name: str) -> None:
    table.save(tmp_path / name)
    with (tmp_path / name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("file", "id", "patient", "label", "predicted"),
        *("p_glioma", "p_meningioma", "p_pituitary"),
        *("status", "reason"),
    ]
    assert [float(rows[0][f"p_{c}"]) for c in table.classes] == table.probabilities[0].tolist()
    assert (rows[1]["file"], rows[1]["patient"], rows[1]["label"]) == ("x/b, too.png", "", "")
    assert (rows[2]["predicted"], rows[2]["p_glioma"]) == ("", "")
    assert (rows[2]["status"], rows[2]["reason"]) == ("unreadable", WHY)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_csv_keeps_the_bytes_of_a_name_that_is_not_utf_8(table: Predictions, tmp_path: Path) -> None:
    replace(table, files=("caf\udce9.png", "b", "c")).save(tmp_path / "p.csv")
    assert b"\ncaf\xe9.png," in (tmp_path / "p.csv").read_bytes()


def test_a_csv_that_cannot_be_written_leaves_nothing(table: Predictions, tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        replace(table, files=("\ud800", "b", "c")).save(tmp_path / "p.csv")  # stands for no byte at all
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: [v],
        lambda v: v | {"rows": None},
        lambda v: {k: x for k, x in v.items() if k != "classes"},
        lambda v: v | {"classes": ["glioma", "edema"]},
        lambda v: v | {"rows": [v["rows"][0] | {"logits": {"glioma": "much", "meningioma": 1, "pituitary": 2}}]},
        lambda v: v | {"schema": "another/1"},
    ],
    ids=["list", "no rows", "no classes", "other classes", "no number", "other schema"],
)
def test_what_is_no_table_is_refused(table: Predictions, tmp_path: Path, damage: object) -> None:
    write_json(tmp_path / "p.json", damage(table.to_dict()))
    with pytest.raises(InputError, match=r"p\.json is no table of predictions"):
        Predictions.load(tmp_path / "p.json")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.json does not exist: name a table of predictions"):
        Predictions.load(tmp_path / "p.json")


class TestCertainty:
    @pytest.fixture
    def calibrated(self, table: Predictions) -> Predictions:
        """The first slice doubted, the second refused, the third unreadable."""
        certainty = Certainty(
            0.9, np.array([2.0, 2.0, 2.0]), np.array([1.5, 99.0, np.nan]), (("glioma", "meningioma"), None, None)
        )
        reasons = ("glioma or meningioma", "strange", WHY)
        return replace(table, status=("flagged", "refused", "unreadable"), reasons=reasons, certainty=certainty)

    def test_probabilities_are_of_logits_over_the_temperature(self, calibrated: Predictions) -> None:
        powers = np.exp([0.5, 1.5, 0.25])
        assert calibrated.probabilities[0] == pytest.approx(powers / powers.sum())
        assert calibrated.logits[0].tolist() == [1.0, 3.0, 0.5]

    def test_a_refused_slice_is_given_no_answer_but_keeps_its_logits(self, calibrated: Predictions) -> None:
        first, refused, _ = calibrated.rows()
        assert first["set"] == ["glioma", "meningioma"]
        assert (first["temperature"], first["novelty"]) == (2.0, 1.5)
        assert (refused["predicted"], refused["probabilities"], refused["set"]) == (None, None, None)
        assert refused["logits"]["glioma"] == 500
        assert refused["novelty"] == 99
        assert (calibrated.readable, calibrated.answered) == ([0, 1], [0])

    def test_json_and_back(self, calibrated: Predictions, tmp_path: Path) -> None:
        calibrated.save(tmp_path / "p.json")
        got = Predictions.load(tmp_path / "p.json")
        assert got.to_dict() == calibrated.to_dict()
        assert (got.to_dict()["calibrated"], got.to_dict()["coverage"]) == (True, 0.9)
        assert np.array_equal(got.probabilities, calibrated.probabilities, equal_nan=True)

    def test_csv_has_sets_and_reasons(self, calibrated: Predictions, tmp_path: Path) -> None:
        calibrated.save(tmp_path / "p.csv")
        with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0])[-4:] == ["set", "novelty", "status", "reason"]
        assert (rows[0]["set"], rows[0]["status"]) == ("glioma|meningioma", "flagged")
        assert (rows[1]["set"], rows[1]["p_glioma"], rows[1]["reason"]) == ("", "", "strange")

    def test_outlines_are_kept_and_joined(self, calibrated: Predictions, tmp_path: Path) -> None:
        outline = {"box": [1, 2, 3, 5], "area": 4.0, "diameter": 3.25, "unit": "mm"}
        marked = replace(calibrated, outlines=(outline, None, None))
        assert [row["outline"] for row in marked.rows()] == [outline, None, None]
        marked.save(tmp_path / "p.json")
        got = Predictions.load(tmp_path / "p.json")
        assert (got.outlines, got.to_dict()["outlined"]) == ((outline, None, None), True)
        marked.save(tmp_path / "p.csv")
        with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["diameter"], row["unit"]) for row in rows] == [("3.25", "mm"), ("", ""), ("", "")]
        assert joined([marked, marked]).outlines == (outline, None, None) * 2
        assert joined([marked, calibrated]).outlines is None
        assert Predictions.load(tmp_path / "p.json").rows() == marked.rows()

    def test_joined(self, calibrated: Predictions, table: Predictions) -> None:
        both = joined([calibrated, calibrated])
        assert both.rows() == calibrated.rows() * 2
        assert joined([table, table]).certainty is None
        with pytest.raises(InputError, match="not all calibrated"):
            joined([calibrated, table])


def test_a_table_of_the_schema_before_is_read(table: Predictions, tmp_path: Path) -> None:
    value = table.to_dict() | {"schema": BEFORE}
    rows = [{k: row[k] for k in ("file", "id", "patient", "label", "predicted", "logits")} for row in table.rows()]
    value["rows"] = [row | {"status": status} for row, status in zip(rows, ("ok", "ok", WHY), strict=True)]
    write_json(tmp_path / "p.json", {k: value[k] for k in ("schema", "classes", "statement", "rows")})
    assert Predictions.load(tmp_path / "p.json").rows() == table.rows()
