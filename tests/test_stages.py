"""Predicting and explaining as stages: what they take, where they write, and what their manifests say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commandline import tree

from gyrus.artifacts import is_finished, read_manifest, sha256
from gyrus.datasets import open_dataset
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.maps import Maps
from gyrus.models import load_model
from gyrus.predictions import Predictions
from gyrus.splits import Split
from gyrus.stages import explain_files, explain_run, predict_files, predict_run, records_in, train_run
from gyrus.training import make_config


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 20), 9, np.uint8))
    return path


class TestRecordsIn:
    def test_files_keep_their_order(self, tmp_path: Path) -> None:
        paths = [picture(tmp_path / name) for name in ("b.png", "a.png")]
        assert [r.path for r in records_in(paths)] == paths
        assert all(r.label is r.patient is None for r in records_in(paths))

    def test_a_folder_of_images(self, tmp_path: Path) -> None:
        for name in ("10.png", "9.png"):
            picture(tmp_path / "set" / name)
        assert [r.path.name for r in records_in([tmp_path / "set"])] == ["9.png", "10.png"]

    def test_folders_that_are_no_classes(self, tmp_path: Path) -> None:
        """One sub-folder is one class, which is no dataset; its images can be looked at all the same."""
        picture(tmp_path / "set" / "monday" / "a.png")
        (record,) = records_in([tmp_path / "set"])
        assert record.label is None

    def test_a_folder_of_classes_brings_its_labels(self, tmp_path: Path) -> None:
        for name in ("no", "yes"):
            picture(tmp_path / "set" / name / "a.png")
        assert [r.label for r in records_in([tmp_path / "set"])] == ["no_tumor", "tumor"]

    def test_a_dataset_brings_what_it_knows(self, tiny_phantom: Path, tmp_path: Path) -> None:
        records = records_in([picture(tmp_path / "a.png"), tiny_phantom])
        assert len(records) == 49
        assert [r.patient for r in records[1:]] == [r.patient for r in open_dataset(tiny_phantom)]

    def test_a_damaged_dataset_is_not_taken_for_a_folder_of_images(self, tmp_path: Path) -> None:
        picture(tmp_path / "set" / "a.png")
        (tmp_path / "set" / "manifest.csv").write_text("file\na.png\na.png\n")
        with pytest.raises(InputError, match="a second time"):
            records_in([tmp_path / "set"])

    def test_nothing(self, tmp_path: Path) -> None:
        for paths in ([], [tmp_path], [tmp_path / "gone"]):
            with pytest.raises(InputError):
                records_in(paths)


class TestPickDevice:
    def test_names(self) -> None:
        assert pick_device("cpu") == torch.device("cpu")
        assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
        with pytest.raises(InputError, match="'gpu'"):
            pick_device("gpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
    def test_no_cuda(self) -> None:
        with pytest.raises(InputError, match="no CUDA device"):
            pick_device("cuda")


class TestRun:
    def test_predictions_are_what_the_folder_holds(self, fresh_run: Path, tmp_path: Path) -> None:
        before = tree(fresh_run)
        made = predict_run(fresh_run, part="val", out=tmp_path / "val", device="cpu")
        assert tree(fresh_run) == before
        kept = Predictions.load(tmp_path / "val" / "predictions.json")
        split = Split.load(fresh_run / "split.json")
        assert kept.ids == made.ids == split.val
        assert np.array_equal(kept.logits, made.logits)
        assert kept.statement == split.statement
        manifest = read_manifest(tmp_path / "val")
        assert (manifest["stage"], manifest["arguments"]) == ("predict", {"part": "val"})
        assert manifest["split"] == split.statement
        assert manifest["preprocess"]["size"] == 64
        digest = sha256(tmp_path / "val" / "predictions.json")
        assert manifest["outputs"]["predictions.json"]["sha256"] == digest

    def test_maps_are_what_the_folder_holds(self, fresh_run: Path) -> None:
        made = explain_run(fresh_run, methods=("cam", "hirescam"), device="cpu")
        kept = Maps.load(fresh_run / "explain")
        assert kept.ids == made.ids == Split.load(fresh_run / "split.json").test
        assert kept.arrays.keys() == made.arrays.keys()
        assert all(np.array_equal(kept.arrays[k], made.arrays[k], equal_nan=True) for k in made.arrays)
        assert {k.target for k in kept.arrays} == {"predicted", "true"}
        assert read_manifest(fresh_run / "explain")["arguments"] == {
            "part": "test", "methods": ["cam", "hirescam"], "layers": None,
        }  # fmt: skip

    def test_an_interrupted_stage_leaves_nothing(self, fresh_run: Path) -> None:
        before = tree(fresh_run)

        def interrupt(what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        for stage in (predict_run, explain_run):
            with pytest.raises(KeyboardInterrupt):
                stage(fresh_run, device="cpu", progress=interrupt)
        assert tree(fresh_run) == before
        assert not is_finished(fresh_run / "predict")

    def test_a_part_that_is_empty(self, fresh_run: Path) -> None:
        """A split without validation has nothing to explain there."""
        path = fresh_run / "split.json"
        split = Split.load(path)
        path.unlink()
        Split(**{**split.__dict__, "val": ()}).save(path)
        with pytest.raises(InputError, match="no slices to explain"):
            explain_run(fresh_run, part="val", device="cpu")
        assert not (fresh_run / "explain").exists()


class TestFiles:
    def test_a_model_in_memory_its_folder_and_its_run_agree(self, trained: Path, tiny_phantom: Path) -> None:
        image = sorted((tiny_phantom / "images").iterdir())[0]
        found = [
            predict_files(model, [image], device="cpu").logits
            for model in (trained, trained / "model", load_model(trained))
        ]
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], found[2])

    def test_a_model_folder_alone_is_enough(self, trained: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        model = Path(shutil.copytree(trained / "model", tmp_path / "elsewhere"))
        image = sorted((tiny_phantom / "images").iterdir())[0]
        maps = explain_files(model, [image], tmp_path / "maps", methods=["cam"], device="cpu")
        assert [k.target for k in maps.arrays] == ["predicted"]
        assert read_manifest(tmp_path / "maps")["arguments"]["paths"] == [str(image)]

    def test_where_all_labels_are_known_the_true_class_is_explained(
        self, trained: Path, tiny_phantom: Path, tmp_path: Path
    ) -> None:
        maps = explain_files(trained, [tiny_phantom], tmp_path / "a", methods=["cam"], device="cpu")
        assert [k.target for k in maps.arrays] == ["predicted", "true"]
        assert list(maps.explained["true"]) == [r.label for r in open_dataset(tiny_phantom)]
        mixed = [tiny_phantom, sorted((tiny_phantom / "masks").iterdir())[0]]
        maps = explain_files(trained, mixed, tmp_path / "b", methods=["cam"], device="cpu")
        assert [k.target for k in maps.arrays] == ["predicted"]


def test_training_opens_data_and_split_and_returns_the_table(
    tiny_phantom: Path, tiny_split: Path, tmp_path: Path
) -> None:
    config = make_config(size=32, epochs=1, pretrained="none")
    value = train_run(tiny_phantom, tiny_split, config, tmp_path / "run")
    assert json.loads(json.dumps(value))["classes"] == ["glioma", "meningioma", "no_tumor", "pituitary"]
    assert value["chosen_epoch"] == 1
    assert {"epoch", "train_loss", "val_macro_f1"} <= set(value["epochs"][0])
    assert "no patient is on both sides" in value["statement"]
