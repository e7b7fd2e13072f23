"""The tables on screen say what the documents hold."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from gyrus import tables
from gyrus.console import show
from gyrus.maps import MapKey, Maps
from gyrus.preprocess import Preprocess
from gyrus.sheets import Lines

CLASSES = ("glioma", "no_tumor")


def shown(lines: Lines) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        show({}, as_json=False, quiet=False, tables=lines)
    return stream.getvalue()


def interval(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 4, "groups": 2}


def test_maps() -> None:
    key, other = MapKey("cam", "body", "predicted"), MapKey("layercam", "body.net", "true")
    made = Maps(
        ids=("a", "b"),
        arrays={key: np.zeros((2, 4, 5), np.float32), other: np.zeros((2, 8, 8), np.float32)},
        status={key: ("ok", "blank"), other: ("ok", "ok")},
        explained={"predicted": CLASSES, "true": CLASSES},
        preprocess=Preprocess(),
    )
    text = shown(tables.maps(made))
    assert "Raw maps of 2 slices" in text
    cells = [[c.strip() for c in line.split("│")] for line in text.splitlines() if "body" in line]
    assert cells == [
        ["cam", "body", "predicted", "4 x 5", "ok 1, blank 1"],
        ["layercam", "body.net", "true", "8 x 8", "ok 2"],
    ]


def test_training() -> None:
    epochs = [
        {"epoch": 1.0, "train_loss": 1.5, "train_accuracy": 0.25, "train_macro_f1": 0.2, "seconds": 2.0},
        {"epoch": 2.0, "train_loss": 0.5, "train_accuracy": 0.75, "train_macro_f1": 0.7, "seconds": 2.0},
    ]
    value = {"statement": "how", "run": "runs/[a]", "chosen_epoch": 2.0, "epochs": epochs}
    text = shown(tables.training(value))
    assert text.startswith("how\n")
    assert "0.7500" in text
    assert text.endswith("kept epoch 2 in runs/[a]\n")


def dataset(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        **{"name": "folder", "title": "T", "citation": "", "licence": "not stated", "fingerprint": "0" * 16},
        **{"slices": 9, "patients": None, "studies": None, "masks": 0, "planes": {}, "subsets": {}},
        **{"classes": {"glioma": 5, "no_tumor": 4}, "patients_per_class": {}, "faults": [], "notes": []},
        "sizes": [{"height": 10, "width": 20, "slices": 9}],
    }
    return plain | fields


class TestDataset:
    def test_unknown_patients_come_with_what_to_do(self) -> None:
        text = shown(tables.dataset(dataset()))
        assert "--group auto" in text
        assert "20x10 (9)" in text
        assert "citation" not in text

    def test_known_patients(self) -> None:
        value = dataset(patients=3, patients_per_class={"glioma": 2, "no_tumor": 1}, planes={"axial": 9})
        text = shown(tables.dataset(value))
        assert "--record-wise" not in text
        row = next(line for line in text.splitlines() if line.startswith("glioma"))
        assert [cell.strip() for cell in row.split("│")] == ["glioma", "5", "2"]
        assert "axial 9" in text

    def test_faults_and_notes_are_whole(self) -> None:
        text = shown(tables.dataset(dataset(faults=["It leaks [badly]."], notes=["Two files left out."])))
        assert text.endswith("fault: It leaks [badly].\nnote: Two files left out.\n")

    def test_many_sizes_are_cut(self) -> None:
        sizes = [{"height": 10 + i, "width": 20, "slices": 1} for i in range(9)]
        text = shown(tables.dataset(dataset(sizes=sizes)))
        assert "20x15 (1) and 3 more" in text


METRICS = {m: interval(None) for m in tables.SHOWN} | {"pointing": interval(0.5, 0.25, 0.75)}


def scores(**fields: Any) -> dict[str, Any]:
    figures = {a: interval(0.9, 0.8, 0.95) for a in tables.ACCURACIES}
    one = {n: interval(0.7) for n in ("precision", "recall", "f1")} | {"roc_auc": interval(None)}
    level = {"n": 4, **figures, "per_class": {"glioma": one, "no_tumor": one}}
    rows = [
        {"kind": "method", "name": "cam", "layer": "body", "target": "true", "grid": [4, 5]},
        {"kind": "baseline", "name": "centre", "layer": "", "target": "", "grid": [0, 0]},
        {"kind": "ceiling", "name": "4 x 5 map", "layer": "", "target": "", "grid": [4, 5]},
    ]
    value = {
        "statement": "how",
        "classification": {"slice": level, "patient": None, "unreadable": 0, "interval_over": "slices"},
        "certainty": {
            "calibrated": False,
            **{n: interval(0.1, 0.05, 0.2) for n in ("ece", "brier")},
            "uncalibrated": None,
            "empty_bins": 9,
            "sets": None,
        },
        "floors": [
            {"name": "majority class", "accuracy": interval(0.5, 0.4, 0.6), "balanced_accuracy": interval(0.25)}
        ],
        "localization": {"slices": 3, "rows": [r | {"metrics": {"all": METRICS}} for r in rows]},
    }
    return value | fields


def cells(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("│")] for line in text.splitlines()]


class TestScores:
    def test_accuracy_stands_beside_its_floor(self) -> None:
        text = shown(tables.scores(scores()))
        assert text.startswith("how\n")
        rows = [[c.strip() for c in line.split("│")] for line in text.splitlines()]
        assert ["model, per slice (n = 4)", *["0.900 [0.80, 0.95]"] * 3] in rows
        assert ["majority class", "0.500 [0.40, 0.60]", "0.250", "-"] in rows
        assert ["glioma", "0.700", "0.700", "0.700", "-"] in rows
        assert not any("per patient" in row[0] for row in rows)

    def test_certainty_without_calibration(self) -> None:
        text = shown(tables.scores(scores()))
        assert "Probabilities, 9 of 15 bins empty" in text
        assert ["not calibrated", *["0.100 [0.05, 0.20]"] * 2] in cells(text)
        assert "Sets asked" not in text

    def test_certainty_of_a_calibrated_model(self) -> None:
        sets = {"asked": 0.9, "per_class": {"glioma": interval(0.8)}, "empty": 0}
        sets |= {n: interval(v) for n, v in (("coverage", 0.7), ("size", 1.25), ("single", 0.6))}
        answers = {"counts": {"ok": 3, "flagged": 0, "refused": 1}, "refused": interval(0.25), "accuracy": interval(1)}
        before = {n: interval(0.3) for n in ("ece", "brier")}
        found = scores()["certainty"] | {"calibrated": True, "uncalibrated": before, "sets": sets, "answers": answers}
        text = shown(tables.scores(scores(certainty=found)))
        assert ["before calibration", "0.300", "0.300"] in cells(text)
        assert ["all classes", "0.700", "1.250", "0.600"] in cells(text)
        assert ["glioma", "0.800", "", ""] in cells(text)
        assert "Answers: ok 3, flagged 0, refused 1; refused 0.250, accuracy of the rest 1.000" in text

    def test_patients_where_they_are_known(self) -> None:
        value = scores()
        value["classification"]["patient"] = value["classification"]["slice"] | {"n": 2}
        assert "model, per patient (n = 2)" in shown(tables.scores(value))

    def test_rows_say_what_they_are(self) -> None:
        text = shown(tables.localization(scores()))
        assert "n = 3 slices" in text
        names = [line.split("│")[0].strip() for line in text.splitlines() if "0.500 [0.25, 0.75]" in line]
        assert names == ["cam 4x5 (true class)", "no network: centre", "ceiling: 4 x 5 map"]

    def test_layers_of_one_method_are_told_apart(self) -> None:
        """Two layers may have the same grid."""
        value = scores()
        first = value["localization"]["rows"][0]
        value["localization"]["rows"] = [first, first | {"layer": "body.net.blocks.4"}]
        lines = [line for line in shown(tables.localization(value)).splitlines() if line.startswith("cam")]
        assert len(set(lines)) == 2

    def test_without_outlines(self) -> None:
        text = shown(tables.scores(scores(localization=None, data={"masks": 0})))
        assert text.endswith("No slice has a tumour outline, so maps cannot be scored.\n")

    def test_of_several_folds(self) -> None:
        text = shown(tables.scores(scores(localization=None, data={"masks": 9})))
        assert text.endswith("judged by `gyrus explain --leaderboard`.\n")

    def test_demo_ends_with_the_report(self) -> None:
        text = shown(tables.demo({"scores": scores(), "finding": "It looks [there].", "report": "out/[run]/r.html"}))
        assert text.endswith("It looks [there].\nreport: out/[run]/r.html\n")


class TestExport:
    PARITY: dict[str, Any] = {  # noqa: RUF012
        "slices": 24,
        "probability_difference": 0.000123456,
        "map_difference": None,
        "map_rank_correlation": None,
        "least_map_rank_correlation": None,
        "same_class": 1.0,
        "labelled": 0,
        "accuracy_torch": None,
        "accuracy_exported": None,
        "novelty_difference": None,
        "same_answer": None,
    }

    def rows(self, value: dict[str, Any]) -> dict[str, list[str]]:
        text = shown(tables.export({"engine": "onnx", "out": "exported", "input": "pixels"} | value))
        assert text.endswith("onnx graph in exported, which takes pixels\n")
        cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
        return {name: rest for name, *rest in cells}

    def test_one_column_of_what_was_measured(self) -> None:
        rows = self.rows({"parity": self.PARITY, "int8": None})
        assert rows["slices checked"] == ["24"]
        assert rows["largest difference of a probability"] == ["0.000123"]
        assert rows["largest difference of a map, of its maximum"] == [""]
        assert rows["share predicted alike"] == ["1"]

    def test_a_second_one_for_int8(self) -> None:
        changed = self.PARITY | {"same_class": 0.9583, "labelled": 24, "accuracy_torch": 0.5, "accuracy_exported": 0.25}
        changed["warning"] = ""
        rows = self.rows({"parity": self.PARITY, "int8": changed})
        assert rows["share predicted alike"] == ["1", "0.9583"]
        assert rows["accuracy of torch"] == ["", "0.5"]
        assert rows["accuracy of the graph"] == ["", "0.25"]

    def test_a_calibrated_one_says_how_it_answers_and_what_int8_does_to_it(self) -> None:
        answered = self.PARITY | {"novelty_difference": 0.0004, "same_answer": 1.0}
        rows = self.rows({"parity": answered, "int8": None})
        assert rows["largest difference of the novelty score, of its size"] == ["0.0004"]
        assert rows["share with the same status and set"] == ["1"]
        value = {"engine": "onnx", "out": "exported", "input": "pixels", "parity": answered}
        text = shown(tables.export(value | {"int8": answered | {"warning": "Nothing is promised."}}))
        assert text.endswith("which takes pixels\nNothing is promised.\n")
