"""Which engine runs a model, on the command line and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import Gyrus
from exports import Exports, write_odd_pictures

import gyrus as library
from gyrus.engines import choose_engine
from gyrus.errors import InputError


def test_the_engine_is_what_the_model_is_for(exported: Exports) -> None:
    assert choose_engine(exported.model) == choose_engine(exported.model, "torch") == "torch"
    assert choose_engine(exported.onnx) == choose_engine(exported.onnx, "onnx") == "onnx"
    assert choose_engine(exported.openvino) == choose_engine(exported.openvino, "openvino") == "openvino"


def test_another_engine_is_refused_with_the_way_to_it(exported: Exports) -> None:
    with pytest.raises(InputError, match=r"export it first, by `gyrus export .* --to onnx --out FOLDER`"):
        choose_engine(exported.model, "onnx")
    with pytest.raises(InputError, match=r"was exported for onnx, .* leave --engine out"):
        choose_engine(exported.onnx, "openvino")
    with pytest.raises(InputError, match="was exported for openvino"):
        choose_engine(exported.openvino, "torch")
    with pytest.raises(InputError, match="no engine 'caffe': choose one of torch, onnx, openvino"):
        choose_engine(exported.model, "caffe")
    with pytest.raises(InputError, match="nowhere does not exist: name a model's folder"):
        choose_engine(Path("nowhere"), "onnx")


def test_python_predicts_by_any_of_them(exported: Exports) -> None:
    paths = [exported.discs.root]
    tables = [library.predict_files(f, paths) for f in (exported.model, exported.onnx, exported.openvino)]
    for table in tables[1:]:
        assert table.ids == tables[0].ids
        assert np.abs(table.probabilities - tables[0].probabilities).max() < 5e-3
    with pytest.raises(InputError, match="export it first"):
        library.predict_files(exported.model, paths, engine="onnx")


class TestCommandLine:
    def test_an_exported_folder_picks_its_engine(self, gyrus: Gyrus, exported: Exports, tmp_path: Path) -> None:
        image = exported.discs.records[0].path
        ours = gyrus("predict", image, "--model", exported.model, "--json").document("gyrus.predictions/2")
        for words in (["--model", exported.onnx], ["--model", exported.openvino, "--engine", "openvino"]):
            theirs = gyrus("predict", image, *words, "--json").document("gyrus.predictions/2")
            assert theirs["rows"][0]["predicted"] == ours["rows"][0]["predicted"]
            assert theirs["rows"][0]["probabilities"] == pytest.approx(ours["rows"][0]["probabilities"], abs=5e-3)
        said = gyrus("predict", image, "--model", exported.onnx, "--out", tmp_path / "table.csv", "--quiet")
        assert said.code == 0
        assert (tmp_path / "table.csv").read_text().startswith("file,id,patient,label,predicted,p_glioma")

    def test_a_calibrated_model_refuses_by_any_engine(self, gyrus: Gyrus, calibrated: Exports, tmp_path: Path) -> None:
        blank = next(r.path for r in write_odd_pictures(tmp_path, calibrated.discs.records[18].path) if r.id == "blank")
        said = []
        for folder in (calibrated.model, calibrated.onnx, calibrated.openvino):
            document = gyrus("predict", blank, "--model", folder, "--json").document("gyrus.predictions/2")
            assert (document["calibrated"], document["coverage"]) == (True, 0.95)
            said.append(document["rows"][0])
            assert "refused: " in gyrus("predict", blank, "--model", folder).out
        for row in said:
            assert (row["status"], row["predicted"], row["probabilities"], row["set"]) == ("refused", None, None, None)
            assert row["temperature"] == 1.5
            assert row["novelty"] == pytest.approx(said[0]["novelty"], rel=1e-3)
            assert "one grey" in row["reason"]

    def test_what_cannot_be_is_refused(self, gyrus: Gyrus, exported: Exports) -> None:
        image = exported.discs.records[0].path
        said = gyrus("predict", image, "--model", exported.model, "--engine", "onnx").refusal()
        assert f"gyrus export {exported.model} --to onnx" in said
        assert "name files" in gyrus("predict", "--model", exported.onnx).refusal()
        assert "on the CPU" in gyrus("predict", image, "--model", exported.onnx, "--device", "cuda").refusal()
        said = gyrus("predict", image, "--model", exported.openvino, "--device", "foo").refusal()
        assert said.endswith("which gyrus runs on the CPU, not on 'foo': choose --device cpu")
        assert "is an exported model" in gyrus("explain", image, "--model", exported.onnx, "--out", "x").refusal()

    def test_export_prints_what_it_wrote(self, gyrus: Gyrus, exported: Exports, tmp_path: Path) -> None:
        words = ("export", exported.model, "--to", "openvino", "--int8", "--check", exported.discs.root)
        value = gyrus(*words, "--out", tmp_path / "a", "--json").document("gyrus.export/1")
        assert value.pop("out") == str(tmp_path / "a")
        assert value == json.loads((tmp_path / "a" / "export.json").read_text())
        assert value["int8"]["calibrated_on_checked"] is True
        assert "already exists" in gyrus(*words, "--out", tmp_path / "a").refusal()
