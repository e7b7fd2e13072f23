"""Every verb as a user meets it: exit codes, the two streams, the files it leaves."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commandline import CLASSES, FRACTIONS, RECIPE, Gyrus, Said, in_its_own_process, tree, without
from discs import write_discs

import gyrus as package
from gyrus.artifacts import read_json, read_manifest
from gyrus.splits import PARTS, Split

# see test_training.py

ROW = ["file", "id", "patient", "label", "predicted", "probabilities", "set", "status", "reason"]
ROW += ["logits", "temperature", "novelty", "outline"]
CARDS = {
    "datasets": {"name", "title", "citation", "licence", "classes", "faults"},
    "models": {"name", "paper", "parameters", "dilates", "packaged", "mean", "std"},
    "methods": {
        "name", "title", "paper", "formula", "signed", "direction", "where", "needs_head", "cost", "one_pass",
        "options",
    },
    "baselines": {"name", "title", "per_class"},
    "thresholds": {"name", "title", "formula", "paper", "undefined", "default"},
    "metrics": {"name", "family", "title", "formula", "paper", "undefined", "low", "high", "better"},
}  # fmt: skip
LEAK = "RECORD-WISE: slices of one patient may be on both sides, so test figures are optimistic"


def assert_row(row: Mapping[str, Any], classes: tuple[str, ...] = CLASSES) -> None:
    """Whether a prediction row is whole: its class is the likeliest, its probabilities the softmax of its logits."""
    assert list(row) == ROW
    assert tuple(row["probabilities"]) == tuple(row["logits"]) == classes
    powers = {c: math.exp(v) for c, v in row["logits"].items()}
    for name, share in row["probabilities"].items():
        assert share == pytest.approx(powers[name] / sum(powers.values()), abs=1e-9)
    assert row["predicted"] == max(row["probabilities"], key=row["probabilities"].get)
    assert row["status"] == "ok"


class TestOwnProcess:
    """Slow to start, so only what another process alone can show."""

    def test_train_prints_one_document_and_no_progress(self, training: Said, trained: Path) -> None:
        value = json.loads(training.out)
        assert value["schema"] == "gyrus.training/1"
        assert value["run"] == str(trained)
        assert value["classes"] == list(CLASSES)
        assert [row["epoch"] for row in value["epochs"]] == [1, 2]
        assert value["chosen_epoch"] in (1, 2)
        assert "patient-wise" in value["statement"]
        # torch tells Lightning on stderr of a renamed function, whatever gyrus does; of gyrus and Lightning: nothing
        others = [line for line in training.err.splitlines() if "LeafSpec" not in line]
        assert others == []

    @pytest.mark.parametrize("asked", ["version", "--version"])
    def test_version(self, asked: str) -> None:
        assert in_its_own_process(asked) == Said(0, f"{package.__version__}\n", "")

    def test_bad_input_is_one_line_and_exit_code_2(self, tmp_path: Path) -> None:
        said = in_its_own_process("data", "info", "nowhere", "--json", cwd=tmp_path)
        assert said.refusal() == "nowhere does not exist: check the path"

    def test_bad_usage_is_one_line_and_exit_code_2(self) -> None:
        said = in_its_own_process("guess")
        assert said.refusal() == "No such command 'guess': see `gyrus --help`"

    def test_predict_pipes_json_and_nothing_else(self, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        image = sorted((tiny_phantom / "images").iterdir())[0]
        before = tree(trained)
        value = in_its_own_process("predict", "--model", trained, image, "--json", cwd=tmp_path).document(
            "gyrus.predictions/2"
        )
        assert [row["file"] for row in value["rows"]] == [str(image)]
        assert tree(trained) == before
        assert list(tmp_path.iterdir()) == []


class TestUsage:
    def test_no_verb_shows_the_help(self, gyrus: Gyrus) -> None:
        said = gyrus()
        assert (said.code, said.err) == (2, "")
        for verb in ("info", "data", "split", "train", "predict", "explain", "evaluate", "report", "demo"):
            assert re.search(rf"^\W*{verb} ", said.out, re.MULTILINE), verb

    @pytest.mark.parametrize(
        "verb",
        ["", "info", "data", "data info", "data phantom", "split", "train", "predict", "explain", "evaluate", "report"],
    )
    def test_help_is_no_error(self, gyrus: Gyrus, verb: str) -> None:
        said = gyrus(*verb.split(), "--help")
        assert (said.code, said.err) == (0, "")
        assert "Usage: gyrus" in said.out

    @pytest.mark.parametrize(
        ("line", "names"),
        [
            ("guess", "'guess'"),
            ("data guess", "'guess'"),
            ("info --guess", "--guess"),
            ("split", "'data'"),
            ("split somewhere", "--out"),
            ("split somewhere --out x --seed many", "--seed"),
            ("split somewhere --out x --seed -1", "--seed"),
            ("split somewhere --out x --fractions 0.5 0.5", "--fractions"),
            ("split somewhere --out x --fractions a b c", "--fractions"),
            ("split somewhere --fractions 0.7 0.3 --out x", "--fractions"),
            ("train somewhere --split s --out x --epochs 2.5", "--epochs"),
            ("predict", "--model"),
            ("demo --patients 3", "--patients"),
        ],
    )
    def test_one_sentence_names_what_is_wrong_and_the_help(
        self, gyrus: Gyrus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, names: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        sentence = gyrus(*line.split()).refusal()
        assert names in sentence
        assert re.search(r": see `gyrus[a-z ]* --help`$", sentence)
        assert ("it takes 3 values" in sentence) == (names == "--fractions" and "requires" not in sentence)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("line", "verb"),
        [
            ("split somewhere --out x --fractions 0.7 0.3", "split"),  # one value too few, and then the line ends
            ("split somewhere --out x --fractions 0.7 0.3 --seed 1", "split"),
            ("data convert somewhere --out x --window 1", "data convert"),
            ("data phantom x --patients", "data phantom"),
            ("study run cam-iou --data", "study run"),
            ("stress run --guess", "stress"),
            ("data guess", "data"),
            ("predict --slices", "predict"),
            ("--guess", ""),
            ("split split --out", "split"),
        ],
    )
    def test_the_help_is_that_of_the_verb(self, gyrus: Gyrus, line: str, verb: str) -> None:
        assert gyrus(*line.split()).refusal().endswith(f": see `{f'gyrus {verb}'.strip()} --help`")

    @pytest.mark.parametrize("verb", ["info", "data info", "data phantom", "split", "train", "predict", "explain"])
    def test_the_same_flags_everywhere(self, gyrus: Gyrus, verb: str) -> None:
        said = gyrus(*verb.split(), "--help").out
        assert all(flag in said for flag in ("--json", "--quiet", "-q"))

    def test_what_fails_for_no_fault_of_the_input_exits_1(
        self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that is full, told by the one call that can tell it."""

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device", str(tmp_path / "split.json"))

        monkeypatch.setattr(Path, "write_text", full)
        said = gyrus("split", tiny_phantom, "--out", tmp_path / "split.json", *FRACTIONS)
        assert said == Said(1, "", f"error: {tmp_path / 'split.json'} cannot be used (No space left on device)\n")

    def test_a_path_that_no_file_can_have_exits_2(self, gyrus: Gyrus) -> None:
        said = gyrus("predict", "a" * 300)
        name = f"a name of 300 letters, {'a' * 60}..., is longer than a file's can be"
        assert said == Said(2, "", f"error: {name}: shorten it\n")


class TestInfo:
    def test_document(self, gyrus: Gyrus) -> None:
        value = gyrus("info", "--json").document("gyrus.info/1")
        assert value == json.loads(json.dumps(package.info()))
        for key, fields in CARDS.items():
            assert value[key], key
            assert all(set(card) == fields for card in value[key]), key
        assert {"cheng", "folder", "sartaj", "nickparvar", "br35h", "navoneel", "manifest", "phantom"} <= {
            d["name"] for d in value["datasets"]
        }
        assert {"mobilenetv2_100", "tf_efficientnet_lite0", "vgg19"} <= {m["name"] for m in value["models"]}
        methods = {"cam", "gradcam", "gradcam++", "xgradcam", "hirescam", "layercam"}
        assert methods < {m["name"] for m in value["methods"]}

    def test_tables_name_everything_in_the_document(self, gyrus: Gyrus) -> None:
        shown = gyrus("info")
        assert (shown.code, shown.err) == (0, "")
        value = package.info()
        for key in CARDS:
            assert all(card["name"] in shown.out for card in value[key]), key

    @pytest.mark.parametrize("width", [80, 100, 140])
    def test_no_name_is_broken_on_a_narrow_screen(
        self, gyrus: Gyrus, monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        lines = gyrus("info").out.splitlines()
        assert max(map(len, lines)) <= width
        firsts = {line.split("│")[0].strip() for line in lines if "│" in line}
        value = package.info()
        for key in CARDS:
            assert {card["name"] for card in value[key]} <= firsts, key
        whole = " ".join(" ".join(lines).split())
        assert all(card["better"] in whole for card in value["metrics"])
        dilated = next(line for line in lines if line.startswith("mobilenetv2_100 "))
        plain = next(line for line in lines if line.startswith("vgg16 "))
        assert [line.split("│")[3].strip() for line in (dilated, plain)] == ["yes", ""]

    def test_quiet(self, gyrus: Gyrus) -> None:
        assert gyrus("info", "--quiet") == Said(0, "", "")


class TestData:
    def test_phantom_is_written_and_described(self, gyrus: Gyrus, tmp_path: Path) -> None:
        out, size = tmp_path / "new" / "phantom", ("--patients", 8, "--slices-per-plane", 1, "--size", 64)
        made = gyrus("data", "phantom", out, *size, "--seed", 3, "--json").document("gyrus.data/1")
        assert made["slices"] == 24
        assert made["patients"] == 8
        assert made["sizes"] == [{"height": 64, "width": 64, "slices": 24}]
        assert made["masks"] == 18
        assert made["planes"] == {"axial": 8, "coronal": 8, "sagittal": 8}
        assert made["classes"] == dict.fromkeys(CLASSES, 6)
        assert "synthetic" in made["title"]
        assert gyrus("data", "info", out, "--json").document("gyrus.data/1") == made
        shown = gyrus("data", "info", out).out
        assert "synthetic" in shown
        assert made["fingerprint"] in shown
        assert "64x64 (24)" in shown
        assert gyrus("data", "info", out, "-q") == Said(0, "", "")

    def test_as_names_the_reader(self, gyrus: Gyrus, tiny_phantom: Path) -> None:
        value = gyrus("data", "info", tiny_phantom, "--as", "manifest", "--json").document("gyrus.data/1")
        assert value["slices"] == 48
        assert "'guess'" in gyrus("data", "info", tiny_phantom, "--as", "guess").refusal()


class TestSplit:
    def test_holdout(self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "split.json"
        value = gyrus("split", tiny_phantom, "--out", out, *FRACTIONS, "--json").document("gyrus.splits/1")
        assert value["out"] == str(out)
        (split,) = value["splits"]
        assert split == {k: v for k, v in read_json(out, "a split").items() if k != "schema"}
        assert {p: len(split["parts"][p]) for p in PARTS} == {"train": 24, "val": 12, "test": 12}
        sides = [{split["groups"][i] for i in split["parts"][p]} for p in PARTS]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 16
        assert "no patient is on both sides" in split["statement"]

    def test_tables_and_quiet(self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
        said = gyrus("split", tiny_phantom, "--out", tmp_path / "a.json", *FRACTIONS)
        assert said == Said(0, Split.load(tmp_path / "a.json").statement + "\n", "")
        assert gyrus("split", tiny_phantom, "--out", tmp_path / "b.json", *FRACTIONS, "-q") == Said(0, "", "")
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()

    def test_seed_changes_the_split(self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
        for seed in (0, 1):
            gyrus("split", tiny_phantom, "--out", tmp_path / f"{seed}.json", *FRACTIONS, "--seed", seed)
        first, second = (Split.load(tmp_path / f"{seed}.json") for seed in (0, 1))
        assert first.test != second.test

    def test_folds_cover_every_slice_once(self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
        out = tmp_path / "folds"
        value = gyrus("split", tiny_phantom, "--out", out, "--folds", 4, "--json").document("gyrus.splits/1")
        assert sorted(p.name for p in out.iterdir()) == [f"fold-{i}.json" for i in range(1, 5)]
        assert [s["scheme"] for s in value["splits"]] == [f"fold {i} of 4" for i in range(1, 5)]
        tested = [i for s in value["splits"] for i in s["parts"]["test"]]
        assert len(tested) == len(set(tested)) == 48

    def test_by_study_where_that_is_all_there_is(self, gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
        words = (*FRACTIONS, "--group", "study")
        assert "group by patient" in gyrus("split", tiny_phantom, "--out", tmp_path / "s.json", *words).refusal()
        table = tmp_path / "slices.csv"
        with (tiny_phantom / "manifest.csv").open(newline="", encoding="utf-8") as file:
            rows = [(tiny_phantom / r["file"], r["label"], r["study"]) for r in csv.DictReader(file)]
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "label", "study"), *rows])
        said = gyrus("split", table, "--out", tmp_path / "s.json", *words)
        assert "no study is on both sides" in said.out


class TestTrain:
    def test_a_run_is_whole(self, trained: Path) -> None:
        manifest = read_manifest(trained)
        assert set(manifest["outputs"]) == {
            *("config.json", "epochs.csv", "split.json"),
            *("model/card.md", "model/model.json", "model/model.safetensors"),
        }
        assert {p.name for p in trained.iterdir()} == {"config.json", "epochs.csv", "model", "run.json", "split.json"}
        assert manifest["stage"] == "train"
        assert manifest["record_wise"] is False
        assert manifest["arguments"]["size"] == 64

    def test_tables(self, gyrus: Gyrus, tiny_phantom: Path, tiny_split: Path, tmp_path: Path) -> None:
        said = gyrus(
            *("train", tiny_phantom, "--split", tiny_split, "--out", tmp_path / "deep" / "run", *RECIPE),
            *("--epochs", 1, "--no-class-weights"),
        )
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith(Split.load(tiny_split).statement)
        assert "kept epoch 1" in said.out
        assert read_manifest(tmp_path / "deep" / "run")["arguments"]["class_weights"] is False


class TestPredict:
    def test_run_part(self, gyrus: Gyrus, fresh_run: Path, tiny_split: Path) -> None:
        value = gyrus("predict", "--model", fresh_run, "--json").document("gyrus.predictions/2")
        split = Split.load(tiny_split)
        assert value["classes"] == list(CLASSES)
        assert value["statement"] == split.statement
        assert [r["id"] for r in value["rows"]] == list(split.test)
        for row in value["rows"]:
            assert_row(row)
            assert row["patient"] == split.groups[row["id"]]
            assert row["label"] in CLASSES
        assert read_json(fresh_run / "predict" / "predictions.json", "predictions") == value
        assert read_manifest(fresh_run / "predict")["arguments"] == {"part": "test"}

    def test_another_part_elsewhere(self, gyrus: Gyrus, fresh_run: Path, tiny_split: Path, tmp_path: Path) -> None:
        out = tmp_path / "deep" / "val"
        value = gyrus("predict", "--model", fresh_run, "--part", "val", "--out", out, "--json")
        rows = value.document("gyrus.predictions/2")["rows"]
        assert [r["id"] for r in rows] == list(Split.load(tiny_split).val)
        assert sorted(p.name for p in out.iterdir()) == ["predictions.json", "run.json"]
        assert not (fresh_run / "predict").exists()

    def test_files_folder_dataset(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path) -> None:
        before = tree(trained)
        images = sorted((tiny_phantom / "images").iterdir())
        said = gyrus("predict", "--model", trained, images[1], images[0], "--json")
        files = said.document("gyrus.predictions/2")["rows"]
        assert [r["file"] for r in files] == [str(images[1]), str(images[0])]
        assert all(r["label"] is None and r["patient"] is None for r in files)
        folder = gyrus("predict", "--model", trained / "model", tiny_phantom / "images", "--json")
        folder_rows = {r["file"]: r for r in folder.document("gyrus.predictions/2")["rows"]}
        assert len(folder_rows) == 48
        dataset = gyrus("predict", "--model", trained, tiny_phantom, "--json").document("gyrus.predictions/2")["rows"]
        assert len(dataset) == 48
        for row in dataset:
            assert_row(row)
            assert row["label"] in CLASSES
            same = folder_rows[str(tiny_phantom / "images" / Path(row["file"]).name)]
            assert row["logits"] == pytest.approx(same["logits"], abs=1e-5)
        assert tree(trained) == before

    def test_tables_of_two_forms_agree(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        image, words = sorted((tiny_phantom / "images").iterdir())[0], ("predict", "--model", trained)
        value = gyrus(*words, image, "--out", tmp_path / "new" / "p.json", "--json").document("gyrus.predictions/2")
        assert read_json(tmp_path / "new" / "p.json", "predictions") == value
        assert gyrus(*words, image, "--out", tmp_path / "p.CSV", "--quiet") == Said(0, "", "")
        with (tmp_path / "p.CSV").open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
        (same,) = value["rows"]
        assert list(row) == ["file", "id", "patient", "label", "predicted", *(f"p_{c}" for c in CLASSES), *ROW[7:9]]
        assert row["predicted"] == same["predicted"]
        assert [float(row[f"p_{c}"]) for c in CLASSES] == pytest.approx(list(same["probabilities"].values()))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "p.CSV"]

    def test_keep_going(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        good = sorted((tiny_phantom / "images").iterdir())[0]
        bad = tmp_path / "bad.png"
        bad.write_text("no image")
        words = ("predict", "--model", trained, bad, good)
        assert str(bad) in gyrus(*words).refusal()
        spoilt, whole = gyrus(*words, "--keep-going", "--json").document("gyrus.predictions/2")["rows"]
        assert_row(whole)
        assert spoilt["predicted"] is spoilt["probabilities"] is spoilt["logits"] is None
        assert (spoilt["status"], str(bad) in spoilt["reason"]) == ("unreadable", True)
        shown = gyrus(*words, "--keep-going")
        assert (shown.code, shown.err) == (0, "")
        assert f"unreadable: {bad}" in shown.out

    def test_keep_going_over_a_part_of_the_run(self, gyrus: Gyrus, fresh_run: Path, tmp_path: Path) -> None:
        data, split = moved_data(fresh_run, tmp_path)
        spoil = data / split.test[0]
        spoil.write_bytes(b"x" * spoil.stat().st_size)  # of the same size, so that it passes for the same data
        words = ("predict", "--model", fresh_run, "--data", data)
        assert str(spoil) in gyrus(*words).refusal()
        assert not (fresh_run / "predict").exists()
        first, *others = gyrus(*words, "--keep-going", "--json").document("gyrus.predictions/2")["rows"]
        assert (first["status"], str(spoil) in first["reason"]) == ("unreadable", True)
        assert all(r["status"] == "ok" for r in others)

    def test_many_rows_are_cut_on_screen_only(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path) -> None:
        shown = gyrus("predict", "--model", trained, tiny_phantom)
        assert shown.code == 0
        assert shown.out.count(".png") == 40
        assert "and 8 more" in shown.out


def moved_data(run: Path, folder: Path) -> tuple[Path, Split]:
    """Copy the data a run was trained on; return where to, and the run's split."""
    root = Path(read_manifest(run)["data"]["root"])
    return Path(shutil.copytree(root, folder / "moved")), Split.load(run / "split.json")


class TestExplain:
    def test_run_part(self, gyrus: Gyrus, fresh_run: Path) -> None:
        value = gyrus("explain", "--model", fresh_run, "--json").document("gyrus.maps/1")
        assert value["slices"] == 12
        found = [(m["method"], m["layer"], m["target"]) for m in value["maps"]]
        names = ("cam", "gradcam", "gradcam++", "xgradcam", "hirescam", "layercam")
        assert sorted(found) == sorted((n, "body", t) for n in names for t in ("predicted", "true"))
        assert all(m["grid"] == [4, 4] and sum(m["status"].values()) == 12 for m in value["maps"])
        assert sorted(p.name for p in (fresh_run / "explain").iterdir()) == [
            "maps.json", "maps.safetensors", "run.json",
        ]  # fmt: skip

    def test_files_into_a_folder(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        image, out, before = sorted((tiny_phantom / "images").iterdir())[0], tmp_path / "deep" / "maps", tree(trained)
        words = ("explain", "--model", trained, image, "--methods", "gradcam, layercam")
        assert "--out" in gyrus(*words).refusal()
        layers = "body,body.net.blocks.2"
        value = gyrus(*words, "--layers", layers, "--out", out, "--json").document("gyrus.maps/1")
        assert value["slices"] == 1
        assert [(m["method"], m["layer"], m["target"], m["grid"]) for m in value["maps"]] == [
            ("gradcam", "body", "predicted", [4, 4]),
            ("layercam", "body", "predicted", [4, 4]),
            ("gradcam", "body.net.blocks.2", "predicted", [8, 8]),
            ("layercam", "body.net.blocks.2", "predicted", [8, 8]),
        ]
        assert read_manifest(out)["arguments"]["methods"] == ["gradcam", "layercam"]
        assert tree(trained) == before

    def test_tables_and_quiet(self, gyrus: Gyrus, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        image = sorted((tiny_phantom / "images").iterdir())[0]
        words = ("explain", "--model", trained, image, "--methods", "cam", "--out")
        shown = gyrus(*words, tmp_path / "a")
        assert (shown.code, shown.err) == (0, "")
        assert "Raw maps of 1 slice\n" in shown.out
        assert gyrus(*words, tmp_path / "b", "--quiet") == Said(0, "", "")


class TestEvaluateAndReport:
    def test_documents(self, gyrus: Gyrus, scored_run: Path, tmp_path: Path) -> None:
        value = gyrus("evaluate", scored_run, "--out", tmp_path / "again", "--json").document("gyrus.scores/1")
        assert value == read_json(scored_run / "evaluate" / "scores.json", "scores")  # nothing is drawn at random
        assert value["record_wise"] is False
        assert value["synthetic"] is True
        assert [f["name"] for f in value["floors"]] == [
            "majority class",
            "four corners alone",
            "pixel 1-nearest-neighbour",
        ]
        assert value["classification"]["slice"]["n"] == 12
        assert value["classification"]["patient"]["n"] == 4
        assert value["localization"]["slices"] == 9
        assert {r["kind"] for r in value["localization"]["rows"]} == {"method", "baseline", "ceiling"}
        without(scored_run, "report.html")
        made = gyrus("report", scored_run, "--json").document("gyrus.report/1")
        assert made == {"schema": "gyrus.report/1", "report": str(scored_run / "report.html")}
        assert "patient-wise" in first_line(scored_run / "report.html")
        assert "synthetic" in (scored_run / "report.html").read_text(encoding="utf-8").lower()

    def test_page_elsewhere_of_data_that_has_moved(self, gyrus: Gyrus, scored_run: Path, tmp_path: Path) -> None:
        data, _ = moved_data(scored_run, tmp_path)
        manifest = read_manifest(scored_run)
        manifest["data"]["root"] = str(tmp_path / "gone")
        (scored_run / "run.json").write_text(json.dumps(manifest))
        page = scored_run / "elsewhere" / "page.html"
        assert "--data" in gyrus("report", scored_run, "--out", page).refusal()
        assert gyrus("report", scored_run, "--out", page, "--data", data) == Said(0, f"report: {page}\n", "")
        without(scored_run, "report.html")
        assert gyrus("report", scored_run, "--data", data, "-q") == Said(0, "", "")
        assert (scored_run / "report.html").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def first_line(report: Path) -> str:
    """Return the text before the first paragraph of a page ends."""
    body = report.read_text(encoding="utf-8").split("<body", 1)[1].split("</p>", 1)[0]
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", ">" + body, flags=re.DOTALL).split())


def test_a_name_that_is_no_text_is_printed_as_far_as_it_goes(
    trained: Path, tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy(sorted((tiny_phantom / "images").iterdir())[0], tmp_path / name)
    said = in_its_own_process("predict", "--model", trained, name, cwd=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert "caf\\udce9.png" in said.out


def test_record_wise_is_said_everywhere(gyrus: Gyrus, tmp_path: Path) -> None:
    """From data without patients, which is refused until the leak is accepted by name, to the last page."""
    data, split, run = tmp_path / "data", tmp_path / "split.json", tmp_path / "run"
    classes = ("glioma", "meningioma")
    for source in write_discs(tmp_path / "discs", patients=4, slices=2):
        (data / str(source.label)).mkdir(parents=True, exist_ok=True)
        shutil.copy(source.path, data / str(source.label))
    assert "--record-wise" in gyrus("split", data, "--out", split, *FRACTIONS).refusal()
    by_group = gyrus("split", data, "--out", split, *FRACTIONS, "--group", "record-wise")
    assert by_group.refusal() == "--group says what may not cross: let patients cross by --record-wise"
    assert not split.exists()
    said = gyrus("split", data, "--out", split, *FRACTIONS, "--record-wise", "--json")
    assert LEAK in said.document("gyrus.splits/1")["splits"][0]["statement"]
    assert LEAK in read_json(split, "a split")["statement"]
    words = ("--model", "mobilenetv2_100", "--pretrained", "none", "--output-stride", 8, "--truncate", "--size", 64)
    shown = gyrus(
        *("train", data, "--split", split, "--out", run, *words, "--channels", 1),
        *("--epochs", 1, "--device", "cpu", "--precision", "fp32"),
    )
    assert LEAK in shown.out.splitlines()[0]
    about = read_json(run / "model" / "model.json", "a model")["training"]
    assert about["record_wise"] is True
    assert LEAK in about["split"]
    assert LEAK in (run / "model" / "card.md").read_text(encoding="utf-8")
    assert LEAK in read_manifest(run)["split"]
    shown = gyrus("predict", "--model", run)
    assert LEAK in shown.out.splitlines()[0]
    assert LEAK in read_json(run / "predict" / "predictions.json", "predictions")["statement"]
    for row in read_json(run / "predict" / "predictions.json", "predictions")["rows"]:
        assert_row(row, classes)
    assert gyrus("explain", "--model", run, "--methods", "cam", "-q").code == 0
    assert LEAK in read_manifest(run / "explain")["split"]
    shown = gyrus("evaluate", run)
    assert LEAK in shown.out.splitlines()[0]
    assert "No slice has a tumour outline" in shown.out
    scores = read_json(run / "evaluate" / "scores.json", "scores")
    assert scores["record_wise"] is True
    assert LEAK in scores["statement"]
    assert scores["localization"] is None
    gyrus("report", run)
    assert re.search(r"record.wise", first_line(run / "report.html"), re.IGNORECASE)


def test_a_blank_slice_gives_finite_numbers(gyrus: Gyrus, tmp_path: Path, trained: Path) -> None:
    """A slice without contrast, which becomes all zeros."""
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.full((40, 40), 7, np.uint8))
    said = gyrus("predict", "--model", trained, image, "--json")
    json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert_row(said.document("gyrus.predictions/2")["rows"][0])
