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
from handmade_volumes import BLOCK, save_nifti

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

    def test_a_name_that_two_folders_share_and_a_file_met_twice(self, tmp_path: Path) -> None:
        one, other = picture(tmp_path / "a" / "1.png"), picture(tmp_path / "b" / "1.png")
        assert [r.id for r in records_in([one, other, one])] == ["a/1.png", "b/1.png"]
        assert [r.id for r in records_in([other, tmp_path / "a", tmp_path / "b"])] == ["b/1.png", "a/1.png"]
        volumes = [save_nifti(tmp_path / name / "T1.nii.gz", BLOCK) for name in ("c", "d")]
        assert [r.id for r in records_in(volumes, slices=[0, 1])] == [
            f"{name}/T1.nii.gz#axial-{i}" for name in ("c", "d") for i in (0, 1)
        ]

    def test_datasets_among_files_keep_their_place_and_ids_of_their_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        plain = [picture(Path(name)) for name in ("x.png", "z.png")]
        sets = [Path("first"), Path("second")]
        for folder, name in ((folder, name) for folder in sets for name in ("no", "yes")):
            picture(folder / name / "a.png")
        found = records_in([plain[0], sets[0], plain[1], sets[1], sets[0]])
        assert [(r.id, r.label) for r in found] == [
            *(("x.png", None), ("first/no/a.png", "no_tumor"), ("first/yes/a.png", "tumor"), ("z.png", None)),
            *(("second/no/a.png", "no_tumor"), ("second/yes/a.png", "tumor")),
        ]
        assert [r.id for r in records_in([sets[0], plain[0]])] == ["no/a.png", "yes/a.png", "x.png"]
        assert [r.label for r in records_in([sets[0], sets[0] / "no" / "a.png"])] == ["no_tumor", "tumor"]

    def test_a_plane_that_is_none_is_refused_of_pictures_too(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no plane 'foo': choose axial, coronal or sagittal"):
            records_in([picture(tmp_path / "a.png")], plane="foo")

    def test_a_spacing_is_known_or_not_however_the_volume_is_named(self, tmp_path: Path) -> None:
        """Brain-Tumor-Progression's NIfTI copies say 1 x 1 x 1 mm of a head that would then be 24 mm high."""
        head = np.zeros((128, 128, 24), np.int16)
        for name in ("Pre_Scan_T1", "Pre_Mask"):
            save_nifti(tmp_path / "01" / f"{name}.nii.gz", head, np.diag([-1.0, -1, 1, 1]))
        scan = tmp_path / "01" / "Pre_Scan_T1.nii.gz"
        for path in (scan, tmp_path / "01", tmp_path):
            (record,) = records_in([path], slices="middle")
            assert (record.path, record.read().spacing) == (scan, None)

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
