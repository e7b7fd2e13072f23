"""An exported model in use: loading, running, predicting, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exports import Exports, write_odd_pictures

from gyrus.artifacts import sha256
from gyrus.errors import InputError, MissingExtraError
from gyrus.exported import Description, Exported, _require_described, is_exported, predict_exported
from gyrus.inference import predict
from gyrus.models import load_model
from gyrus.prediction_tables import predictions
from gyrus.preprocess import Preprocess
from gyrus.records import Record
from gyrus.runtimes import Shape, Started, _usable_threads

ENGINES = ("onnx", "openvino")


@pytest.fixture(params=ENGINES)
def folder(exported: Exports, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(getattr(exported, request.param), tmp_path / "copy"))


def change(folder: Path, **values: Any) -> None:
    content = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(content | values))


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        Exported.load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("engine", ENGINES)
def test_the_table_is_that_of_torch(exported: Exports, engine: str) -> None:
    records = list(exported.discs)[::-1]
    ours = predict(load_model(exported.model), records)
    theirs = predict_exported(Exported.load(getattr(exported, engine)), records, batch_size=5)
    for name in ("classes", "ids", "files", "patients", "labels", "status", "predicted"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert theirs.logits.dtype == np.float32
    assert np.abs(ours.probabilities - theirs.probabilities).max() < 5e-3
    assert np.ptp(ours.probabilities[:, 0]) > 0.2  # slices differ by more than that
    assert len(set(ours.predicted)) == 2


class TestCalibrated:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_slices_are_judged_as_by_torch(self, calibrated: Exports, engine: str, tmp_path: Path) -> None:
        odd = write_odd_pictures(tmp_path, calibrated.discs.records[18].path)
        (tmp_path / "cut.png").write_bytes(b"")
        records = [*calibrated.discs, *odd, Record(id="cut", path=tmp_path / "cut.png")]
        ours = predict(load_model(calibrated.model), records, keep_going=True)
        theirs = predict_exported(Exported.load(getattr(calibrated, engine)), records, batch_size=5, keep_going=True)
        assert set(ours.status) == {"ok", "flagged", "refused", "unreadable"}
        calibration = load_model(calibrated.model).spec.calibration
        assert ours.certainty is not None
        assert calibration is not None
        assert {s for s in ours.certainty.sets if s} == {
            *(("glioma",), ("meningioma",), ("glioma", "meningioma")),
        }
        limit = calibration.novelty_limit
        for mine, its in zip(ours.rows(), theirs.rows(), strict=True):
            for name in ("id", "status", "set", "predicted", "temperature"):
                assert mine[name] == its[name], mine["id"]
            assert re.sub("[0-9.e+]+", "#", mine["reason"]) == re.sub("[0-9.e+]+", "#", its["reason"])
            if mine["probabilities"] is not None:
                assert its["probabilities"] == pytest.approx(mine["probabilities"], abs=5e-3)
            assert (mine["outline"] is None) == (its["outline"] is None)
            if mine["outline"] is not None:
                assert its["outline"]["area"] == pytest.approx(mine["outline"]["area"], rel=0.05)
                assert its["outline"]["unit"] == mine["outline"]["unit"] == "px"
            if mine["novelty"] is None:
                assert its["novelty"] is None
            else:
                assert its["novelty"] == pytest.approx(mine["novelty"], rel=1e-3, abs=1e-3 * limit)
        assert sum(row["outline"] is not None for row in ours.rows()) > 5
        reasons = " ".join(theirs.reasons)
        for words in ("Upside down", "Unlike the slices", "Noise alone", "none can be left out", "cut.png"):
            assert words in reasons

    def test_sequences_are_told_as_by_torch(self, calibrated: Exports) -> None:
        model, exported = load_model(calibrated.model), Exported.load(calibrated.onnx)
        assert model.spec.calibration is not None
        known = model.spec.calibration.model_copy(update={"sequences": ("T2",)})
        model.spec = model.spec.model_copy(update={"calibration": known})
        exported = replace(exported, description=exported.description.model_copy(update={"calibration": known}))
        ours, theirs = predict(model, list(calibrated.discs)), predict_exported(exported, list(calibrated.discs))
        assert [r.split("probable")[0] for r in ours.reasons] == [r.split("probable")[0] for r in theirs.reasons]
        answered = [r for r, status in zip(theirs.reasons, theirs.status, strict=True) if status != "refused"]
        assert answered
        assert all("T2" in r and "the model learned to tell tumours" in r for r in answered)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_an_answer_outside_its_set_is_flagged_as_by_torch(self, calibrated: Exports, engine: str) -> None:
        """Meningioma misses a threshold of its own where glioma passes a lower one."""
        model, graph = load_model(calibrated.model), Exported.load(getattr(calibrated, engine))
        assert model.spec.calibration is not None
        changes = {"thresholds": {"glioma": 0.05, "meningioma": 0.99}, "novelty_limit": 1e9}
        strict = model.spec.calibration.model_copy(update=changes)
        model.spec = model.spec.model_copy(update={"calibration": strict})
        graph = replace(graph, description=graph.description.model_copy(update={"calibration": strict}))
        records = list(calibrated.discs)
        ours, theirs = predict(model, records).rows(), predict_exported(graph, records).rows()
        outside = [r for r in ours if r["predicted"] == "meningioma" and r["set"] == ["glioma"]]
        assert outside
        assert all(r["status"] == "flagged" and "meningioma is the most probable" in r["reason"] for r in outside)
        names = ("predicted", "set", "status", "reason")
        assert [[r[n] for n in names] for r in theirs] == [[r[n] for n in names] for r in ours]

    def test_answers_of_an_int8_graph_come_with_its_warning(self, calibrated: Exports) -> None:
        graph, records = Exported.load(calibrated.onnx), list(calibrated.discs)[:1]
        told = {"precision": "int8", "int8": {"warning": "Fitted on another network."}}
        quantised = replace(graph, description=graph.description.model_copy(update=told))
        said = predict_exported(quantised, records)
        assert said.warning == said.to_dict()["warning"] == "Fitted on another network."
        assert predictions(said)[0] == "Fitted on another network."
        assert predict_exported(graph, records).warning == ""

    def test_the_graph_gives_calibrated_probabilities_and_the_score(self, calibrated: Exports) -> None:
        graph, records = Exported.load(calibrated.onnx), list(calibrated.discs)[:5]
        said, table = graph.run_all([graph.take(r.read()) for r in records]), predict_exported(graph, records)
        assert table.certainty is not None
        assert said.probabilities == pytest.approx(table.probabilities, abs=1e-5)
        assert said.novelty == pytest.approx(table.certainty.novelty)
        powers = np.exp(said.logits / 1.5)
        assert said.probabilities == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-5)

    def test_another_program_can_do_with_the_graph_and_its_weights(self, calibrated: Exports) -> None:
        from safetensors.numpy import load_file

        arrays = load_file(calibrated.onnx / "upright.safetensors")
        assert list(arrays) == ["upright"]
        assert np.array_equal(arrays["upright"], load_model(calibrated.model).reference["upright"])

    def test_changed_or_missing_weights_are_refused(self, calibrated: Exports, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(calibrated.openvino, tmp_path / "copy"))
        file = folder / "upright.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert refused(folder).endswith(
            "upright.safetensors is not the file that was exported (SHA-256 differs): copy or export it again"
        )
        file.write_bytes(b"junk")
        files = json.loads((folder / "export.json").read_text())["files"]
        change(folder, files=files | {file.name: sha256(file)})
        assert "upright.safetensors is no file of arrays" in refused(folder)
        file.unlink()
        assert refused(folder).endswith("upright.safetensors does not exist: copy the exported folder again, whole")

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"calibration": None}, "a novelty output exactly if its model is calibrated"),
            ({"outputs": ["logits", "probabilities", "class_map"]}, "a novelty output exactly if"),
            ({"temperature": 1.0}, "another temperature"),
            ({"classes": ["glioma", "pituitary"]}, "of other classes"),
        ],
    )
    def test_a_calibration_that_does_not_fit_is_refused(
        self, calibrated: Exports, values: dict[str, Any], says: str, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(calibrated.onnx, tmp_path / "copy"))
        change(folder, **values)
        assert says in refused(folder)

    def test_weights_that_are_not_named_are_refused(self, calibrated: Exports, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(calibrated.onnx, tmp_path / "copy"))
        files = json.loads((folder / "export.json").read_text())["files"]
        del files["upright.safetensors"]
        change(folder, files=files)
        assert "names no upright.safetensors among its files" in refused(folder)


def test_unreadable_files_have_a_row_that_says_why(exported: Exports, tmp_path: Path) -> None:
    graph = Exported.load(exported.onnx)
    (tmp_path / "empty.png").write_bytes(b"")
    bad = [Record(id=f"bad{i}", path=tmp_path / name) for i, name in enumerate(["empty.png", "absent.png"])]
    records = [bad[0], *exported.discs.records[:4], bad[1]]
    said = predict_exported(graph, records, batch_size=2, keep_going=True)
    assert np.isnan(said.logits[[0, 5]]).all()
    assert said.status == ("unreadable", "ok", "ok", "ok", "ok", "unreadable")
    assert "empty.png" in said.reasons[0]
    assert np.array_equal(said.logits[1:5], predict_exported(graph, records[1:5]).logits)
    with pytest.raises(InputError, match=r"empty\.png"):
        predict_exported(graph, records)
    assert predict_exported(graph, bad, keep_going=True).predicted == (None, None)
    assert len(predict_exported(graph, [])) == 0


def test_slices_of_several_sizes_keep_their_order(exported: Exports, tmp_path: Path) -> None:
    pixels = exported.discs.records[0].read().pixels.astype(np.uint8)
    shapes = [(80, 80), (40, 61), (80, 80), (133, 50), (40, 61)]
    records = []
    for i, (height, width) in enumerate(shapes):
        cv2.imwrite(str(tmp_path / f"{i}.png"), cv2.resize(np.roll(pixels, 9 * i), (width, height)))
        records.append(Record(id=str(i), path=tmp_path / f"{i}.png"))
    calls: list[tuple[str, int, int]] = []
    said = predict_exported(
        Exported.load(exported.onnx), records, batch_size=5, progress=lambda *call: calls.append(call)
    )
    expected = predict(load_model(exported.model), records)
    assert len({round(float(v), 3) for v in expected.logits[:, 0]}) == 5
    assert np.allclose(said.logits, expected.logits, atol=0.02 * np.abs(expected.logits).max())
    assert calls == [("predicting", 5, 5)]


def test_a_folder_whose_name_is_not_utf_8_is_run(exported: Exports, tmp_path: Path) -> None:
    for made in (exported.onnx, exported.openvino):
        odd = Path(os.fsdecode(os.fsencode(tmp_path / made.name) + b"\xff"))
        shutil.copytree(made, odd)
        records = list(exported.discs)[:2]
        ours, theirs = (predict_exported(Exported.load(folder), records).logits for folder in (odd, made))
        assert np.array_equal(ours, theirs)


def test_a_changed_byte_in_the_graph_is_found(folder: Path) -> None:
    name = "model.onnx" if (folder / "model.onnx").exists() else "model.bin"
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert "SHA-256 differs" in refused(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    for name in list(json.loads((folder / "export.json").read_text())["files"]):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        assert name in refused(folder)
        (folder / name).write_bytes(content)
    Exported.load(folder)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"schema": "gyrus.export/9"}, "gyrus.export/1"),
        ({"engine": "tflite"}, "engine"),
        ({"classes": ["one"]}, "classes"),
        ({"preprocess": {"size": 1}}, "preprocess.size"),
        ({"temperature": 0}, "temperature"),
        ({"colour": "red"}, "colour"),
        ({"files": {}}, "among its files"),
        ({"outputs": ["logits", "class_map"]}, "logits and probabilities at least"),
        ({"outputs": ["logits", "probabilities", "map"]}, "is not the graph that export.json beside it describes"),
        ({"input": "prepared"}, "is not the graph that export.json"),
        ({"classes": ["meningioma", "glioma"]}, "the classes are not those of the model"),
        ({"classes": ["a", "b", "c"], "model": {}}, "is not the graph that export.json"),
    ],
)
def test_a_changed_description_is_refused(folder: Path, values: dict[str, Any], says: str) -> None:
    change(folder, **values)
    assert says in refused(folder)


def test_a_graph_of_prepared_slices_is_of_the_size_that_is_described() -> None:
    description = Description(
        engine="onnx", files={}, classes=("a", "b"), input="prepared", outputs=("logits", "probabilities"),
        preprocess=Preprocess(size=64), model={},
    )  # fmt: skip
    scores: Shape = (None, 2)
    for side, fits in ((64, True), (None, True), (32, False)):
        shape: Shape = (None, side, side)
        found = Started(lambda _: (), {"prepared": shape}, dict.fromkeys(description.outputs, scores))
        if fits:
            _require_described(Path("model.onnx"), description, found)
        else:
            with pytest.raises(InputError, match=r"model\.onnx is not the graph"):
                _require_described(Path("model.onnx"), description, found)


def test_a_file_that_is_no_graph_is_refused_though_its_hash_is_right(folder: Path) -> None:
    name = "model.onnx" if (folder / "model.onnx").exists() else "model.xml"
    (folder / name).write_bytes(b"junk")
    files = json.loads((folder / "export.json").read_text())["files"]
    change(folder, files=files | {name: sha256(folder / name)})
    assert re.search(rf"{name} is no graph that \w+ can run \(\w+\): export it again$", refused(folder))


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_description_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "export.json").write_text(content)
    refused(folder)


def test_a_torch_model_is_told_from_an_exported_one(exported: Exports) -> None:
    assert is_exported(exported.onnx)
    assert not is_exported(exported.model)
    assert "export.json" in refused(exported.model)
    with pytest.raises(InputError, match="is an exported model"):
        load_model(exported.onnx)


def test_where_the_head_is_looked_for_the_graph_takes_prepared_slices(exported: Exports) -> None:
    graph = Exported.load(exported.onnx)
    image = exported.discs.records[0].read()
    assert graph.take(image) is image.pixels
    description = graph.description
    spec = description.preprocess.model_copy(update={"crop": "head"})
    prepared = replace(graph, description=description.model_copy(update={"input": "prepared", "preprocess": spec}))
    assert prepared.take(image).shape == (64, 64)
    assert prepared.take(image).dtype == np.float32


@pytest.mark.parametrize(("package", "engine"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_engine_is_named_with_its_pip_line(
    exported: Exports, package: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed: run pip install -e '\.\[export\]'"):
        Exported.load(getattr(exported, engine))


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("0", None), ("", None), ("many", None)])
def test_threads_are_those_torch_would_take(asked: str, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    found = _usable_threads()
    assert found == threads if threads else found >= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_torch_is_not_loaded(calibrated: Exports, engine: str) -> None:
    """Nor for judging: what a calibrated model loads holds all that another one does."""
    folder, discs = str(getattr(calibrated, engine)), str(calibrated.discs.root)
    code = (
        "import sys; from pathlib import Path; from gyrus.engines import predict_exported_files\n"
        f"said = predict_exported_files(Path({folder!r}), [Path({discs!r})])\n"
        "assert len(said) == 24 and said.certainty\n"
        "assert not {'torch', 'timm', 'onnx', 'onnxscript', 'matplotlib'} & set(sys.modules)\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
