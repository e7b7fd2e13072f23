"""Paths as users write them: every public function takes text as well as a Path."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import Exports
from handmade_slices import pictured
from handmade_volumes import AFFINE, BLOCK, save_nifti, save_series

import gyrus
from gyrus import drawings, inference, io, leaderboard
from gyrus.datasets import records_in
from gyrus.evaluate import open_run_data
from gyrus.explain import MapKey
from gyrus.models.weights import packaged_weights
from gyrus.paths import all_paths, maybe_path
from gyrus.preprocess import Preprocess
from gyrus.training import make_config

PARTS = ("", ".datasets", ".evaluate", ".explain", ".export", ".io", ".leaderboard", ".models", ".studies", ".training")
HOLD_PATHS = {"Dataset", "DatasetReader", "Record", "Series"}  # what is made of paths, not asked for them
SALT = b"0123456789abcdef"


def public_callables() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public function, and every public method of every public class."""
    for part in PARTS:
        package = importlib.import_module(f"gyrus{part}")
        for name in package.__all__:
            thing = getattr(package, name)
            if inspect.isfunction(thing):
                yield f"gyrus{part}.{name}", thing
            if inspect.isclass(thing) and name not in HOLD_PATHS:
                methods = inspect.getmembers(thing, lambda m: inspect.isfunction(m) or inspect.ismethod(m))
                yield from ((f"{name}.{n}", m) for n, m in methods if m.__module__.startswith("gyrus."))


def test_one_path_or_several() -> None:
    assert all_paths("a/b") == all_paths(Path("a/b")) == all_paths(["a/b"]) == [Path("a/b")]
    assert all_paths(p for p in ("b", Path("a"))) == [Path("b"), Path("a")]
    assert all_paths(()) == []
    assert maybe_path("a") == Path("a")
    assert maybe_path(None) is None


def test_no_public_function_asks_for_a_path_alone() -> None:
    asking = {
        name
        for name, thing in public_callables()
        for parameter in inspect.signature(thing).parameters.values()
        if re.search(r"\bPath\b", str(parameter.annotation))
    }
    assert asking == set()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that names alone are paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


CONFIG = make_config(epochs=1)
REFUSALS: dict[str, Callable[[], object]] = {
    "open_dataset": lambda: gyrus.open_dataset("none"),
    "open_files": lambda: gyrus.open_files("none"),
    "open_cases": lambda: gyrus.open_cases("none"),
    "records_in": lambda: records_in("none"),
    "describe": lambda: gyrus.describe("none"),
    "read_image": lambda: gyrus.read_image("none"),
    "read_volume": lambda: gyrus.read_volume("none"),
    "convert_data": lambda: gyrus.convert_data("none", "out"),
    "restore": lambda: gyrus.restore("none"),
    "to_nifti": lambda: gyrus.to_nifti("none", None, "out.nii"),
    "audit_data": lambda: gyrus.audit_data("none", "out"),
    "join_datasets": lambda: gyrus.join_datasets(["none", "neither"], "out"),
    "load_model": lambda: gyrus.load_model("none"),
    "export_model": lambda: gyrus.export_model("none", "out", to="onnx", check="none"),
    "Exported.load": lambda: gyrus.Exported.load("none"),
    "Maps.load": lambda: gyrus.Maps.load("none"),
    "Predictions.load": lambda: gyrus.Predictions.load("none"),
    "open_run_data": lambda: open_run_data("none", "neither"),
    "calibrate_run": lambda: gyrus.calibrate_run("none", folds="neither", data="neither", out="out"),
    "stress_run": lambda: gyrus.stress_run("none", data="neither", out="out"),
    "write_report": lambda: gyrus.write_report("none", data="neither", out="out"),
    "build_leaderboard": lambda: gyrus.build_leaderboard("none", "out", data="neither"),
    "write_leaderboard_page": lambda: leaderboard.write_leaderboard_page("none", data="neither", out="out"),
    "Split.load": lambda: gyrus.Split.load("none"),
    "split_dataset": lambda: gyrus.split_dataset("none", "out"),
    "train_run": lambda: gyrus.train_run("none", "neither", CONFIG, "out"),
    "train_folds": lambda: gyrus.train_folds("none", "neither, none", CONFIG, "out"),
    "predict_run": lambda: gyrus.predict_run("none", data="neither", out="out"),
    "predict_files": lambda: gyrus.predict_files("gyrus-base", "none", save="out"),
    "predict_files save": lambda: gyrus.predict_files("gyrus-base", "none", save="file"),
    "explain_run": lambda: gyrus.explain_run("none", data="neither", out="out"),
    "explain_files": lambda: gyrus.explain_files("gyrus-base", "none", "out"),
    "evaluate_run": lambda: gyrus.evaluate_run("none", data="neither", out="out"),
    "run_study": lambda: gyrus.run_study(Path("none.yaml"), "none", "out"),
    "run_study data": lambda: gyrus.run_study("cam-attention", "none", "out"),
    "run_demo": lambda: gyrus.run_demo("file/out"),
    "make_phantom": lambda: gyrus.make_phantom("file"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_text_that_leads_nowhere_is_refused_as_a_path_is(here: Path, name: str) -> None:
    (here / "file").touch()
    with pytest.raises(gyrus.InputError, match=r"\bnone|\bfile"):
        REFUSALS[name]()
    assert [p.name for p in here.iterdir()] == ["file"]


class TestText:
    def test_names_files_and_folders_to_read(self, here: Path) -> None:
        pictured(here / "set" / "glioma", 2)
        pictured(here / "set" / "pituitary", 1)
        assert len(gyrus.open_dataset("set")) == len(records_in("set")) == len(records_in(["set"])) == 3
        assert [r.id for r in gyrus.open_files("set/glioma/0.png")] == ["0.png"]
        assert gyrus.describe("set")["slices"] == 3
        assert gyrus.read_image("set/glioma/0.png").shape == (20, 24)
        assert gyrus.write_manifest(gyrus.open_dataset("set"), "m.csv") == Path("m.csv")

    def test_names_volumes(self, here: Path) -> None:
        save_nifti(here / "v.nii.gz", BLOCK)
        save_series(here / "dcm", BLOCK, AFFINE)
        assert gyrus.convert_data("v.nii.gz", "cut") == Path("cut")
        assert (gyrus.restore("cut").voxels == gyrus.read_volume("v.nii.gz").voxels).all()
        assert gyrus.to_nifti("cut", None, "again.nii.gz") == Path("again.nii.gz")
        assert io.read_grid("dcm").shape == (5, 6, 7)
        (series,) = io.list_series("dcm")
        assert (io.read_series(str(f) for f in series.files).voxels == gyrus.read_volume("dcm").voxels).all()
        assert (len(io.patient_key("dcm", SALT)), len(io.study_key("dcm", SALT))) == (16, 16)
        io.write_nifti("w.nii", BLOCK.astype(np.float32), AFFINE)
        assert io.is_volume("w.nii")

    def test_names_models(self, here: Path, exported: Exports) -> None:
        model = gyrus.load_model(str(exported.model))
        gyrus.save_model(model, "saved")
        assert gyrus.load_model("saved").classes == model.classes
        assert gyrus.Exported.load(str(exported.onnx)).classes == model.classes
        gyrus.Exported.load(exported.onnx).description.save(".")
        assert (here / "export.json").is_file()
        said = gyrus.predict(model, exported.discs.records[:2])
        drawn = drawings.save_drawings(
            partial(inference.evidence, model), exported.discs.records[:2], said, "drawn",
            preprocess=model.spec.preprocess, calibration=None,
        )  # fmt: skip
        assert [p.parent for p in drawn] == [Path("drawn")] * 2

    def test_names_models_of_any_engine_and_files_to_classify(self, here: Path, exported: Exports) -> None:
        file = exported.discs.records[0].path
        given = [exported.model, str(exported.model), exported.onnx, str(exported.onnx)]
        said = [gyrus.predict_files(model, path) for model in given for path in (file, str(file), [str(file)])]
        assert len({one.files for one in said}) == len({one.rows()[0]["predicted"] for one in said}) == 1
        gyrus.predict_files(str(exported.model), str(file), save="drawn")
        assert (here / "drawn" / "run.json").is_file()
        gyrus.explain_files(str(exported.model), str(file), "maps", methods=("cam",))
        assert gyrus.Maps.load("maps").ids == said[0].ids

    def test_names_splits_and_runs(self, here: Path) -> None:
        for label in ("glioma", "pituitary"):
            pictured(here / "set" / label, 4)
        (made,) = gyrus.split_dataset("set", "split.json", fractions=(0.5, 0.25, 0.25), group="record-wise")
        made.save("again.json")
        assert gyrus.Split.load("again.json") == gyrus.Split.load(Path("split.json")) == made
        config = make_config(model="small_cnn", size=32, epochs=1, channels=1, precision="fp32", device="cpu")
        gyrus.train_run("set", "split.json", config, "run")
        gyrus.predict_run("run")
        gyrus.explain_run("run", methods=("gradcam",))
        assert gyrus.evaluate_run("run", data="set")["part"] == "test"
        assert gyrus.write_report("run") == Path("run/report.html")

    def test_names_predictions_and_maps(self, here: Path, exported: Exports) -> None:
        said = gyrus.predict(gyrus.load_model(exported.model), exported.discs.records[:2])
        said.save("p.json")
        said.save("p.csv")
        assert gyrus.Predictions.load("p.json").ids == said.ids
        assert (here / "p.csv").read_text().startswith("file,id,")
        key = MapKey("cam", "body", "predicted")
        maps = gyrus.Maps(
            ("a",), {key: np.ones((1, 2, 2), np.float32)}, {key: ("ok",)}, {"predicted": ("b",)}, Preprocess()
        )
        maps.save(".")
        assert gyrus.Maps.load(".").ids == ("a",)

    def test_names_weights(self) -> None:
        weights = packaged_weights("tf_efficientnet_lite0")
        made = [gyrus.create_model("tf_efficientnet_lite0", ("a", "b"), pretrained=p) for p in (weights, str(weights))]
        assert made[0].spec == made[1].spec
        assert made[0].spec.pretrained == weights.name
        with pytest.raises(gyrus.InputError, match="'hubb' is none of none, hub, package, nor a file that is there"):
            gyrus.create_model("tf_efficientnet_lite0", ("a", "b"), pretrained="hubb")

    def test_names_one_dataset_to_audit_not_one_per_letter(self, here: Path) -> None:
        """Text is a sequence of texts: "/data" was once taken for "/", "d", "a", "t", "a"."""
        pictured(here / "set" / "glioma", 2)
        pictured(here / "set" / "pituitary", 2)
        value = gyrus.audit_data("set", "audit", skip=["quality", "planes", "shortcuts", "disagreements"])
        assert [d["root"] for d in value["datasets"]] == ["set"]

    def test_of_a_record_and_of_a_dataset_becomes_a_path(self, here: Path) -> None:
        (one,) = pictured(here, 1)
        record = gyrus.Record("0.png", "0.png")
        assert record == gyrus.Record("0.png", Path("0.png"))
        assert gyrus.Record("0.png", one.path).path is one.path  # shared by the slices of a volume
        made = gyrus.Dataset(gyrus.dataset_info("folder"), ".", (record,))
        assert (made.root, len(made.fingerprint)) == (Path(), 16)
        assert gyrus.find_copies([record, record]).clusters == ((0, 1),)


def test_a_recipe_takes_a_path_where_it_keeps_text() -> None:
    config = make_config(pretrained=Path("run"), guide=Path("teacher"), synthetic=Path("phantom"))
    assert config == make_config(pretrained="run", guide="teacher", synthetic="phantom")
    assert make_config(synthetic=None).synthetic is None
    with pytest.raises(gyrus.InputError, match="pretrained = 3 cannot be used"):
        make_config(pretrained=3)
    with pytest.raises(gyrus.InputError, match="guide = '' cannot be used"):
        make_config(guide="")
