"""The exported graph: its preprocessing, every kind of model through both runtimes, its check, int8, telemetry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from exports import Exports
from handmade_slices import write_png
from test_refusal import CALIBRATION

from gyrus.artifacts import plain, sha256
from gyrus.certainty.novelty import SCORES, Score, learn_reference, novelty
from gyrus.certainty.upright import UPRIGHT, edges, learn_upright
from gyrus.errors import InputError, MissingExtraError
from gyrus.export import Parity, export_model, run
from gyrus.export.graph import OPSET, Graph, Novelty, Preparation, write_onnx
from gyrus.export.int8 import quantise
from gyrus.export.parity import compare
from gyrus.exported import Exported, predict_exported
from gyrus.inference import predict
from gyrus.io import Image
from gyrus.models import Classifier, create_model, load_model, save_model
from gyrus.models.classifier import averaged
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record

SHAPES = [(1, 1), (1, 90), (40, 64), (64, 64), (65, 64), (97, 203), (128, 128), (160, 40), (203, 97), (512, 511)]


def picture(shape: tuple[int, int], scale: float = 1.0, seed: int = 0) -> Image:
    """Return noise, smoothed where there is room, as whole numbers times ``scale``."""
    pixels = np.random.default_rng(seed).normal(110, 60, shape).astype(np.float32)
    smooth = cv2.GaussianBlur(pixels, (0, 0), 1.2) if min(shape) > 8 else pixels
    return Image(np.clip(np.rint(smooth), 0, 255).astype(np.float32) * np.float32(scale))


def in_graph(image: Image, spec: Preprocess) -> np.ndarray:
    return np.asarray(Preparation(spec)(torch.from_numpy(image.pixels)[None])[0].numpy())


class TestPreparation:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("fit", ["pad", "stretch"])
    def test_equals_prepare_whatever_the_size(self, shape: tuple[int, int], fit: Any) -> None:
        image, spec = picture(shape), Preprocess(size=64, fit=fit)
        ours, theirs = in_graph(image, spec), prepare(image, spec).astype(np.float32)
        assert np.abs(ours - theirs).max() <= 1  # a value between two grey levels may be rounded either way
        assert (ours != theirs).mean() < 0.01

    @pytest.mark.parametrize("intensity", [(0, 100), (0.5, 99.5), (1, 99), (25, 75), (0.37, 50)])
    @pytest.mark.parametrize("scale", [1.0, 257.0, 1e-4, 1e6])
    def test_percentiles_are_those_of_numpy(self, intensity: Any, scale: float) -> None:
        image, spec = picture((70, 90), scale), Preprocess(size=64, intensity=intensity)
        ours, theirs = in_graph(image, spec), prepare(image, spec).astype(np.float32)
        assert np.abs(ours - theirs).max() <= 1
        assert (ours != theirs).mean() < 0.01

    def test_shrinking_to_half_averages_four_pixels(self) -> None:
        pixels = np.zeros((32, 32), dtype=np.float32)
        pixels[:2, 2:4] = [[40, 80], [120, 160]]
        pixels[30:, 30:] = 200
        found = in_graph(Image(pixels), Preprocess(size=16, intensity=(0, 100)))
        assert found[0, 1] == np.rint(100 * 255 / 200)
        assert found[15, 15] == 255
        assert (found > 0).sum() == 2

    def test_padding_puts_black_on_both_sides(self) -> None:
        pixels = np.full((16, 8), 10, dtype=np.float32)
        pixels[0, 0] = 0
        found = in_graph(Image(pixels), Preprocess(size=16, intensity=(0, 100)))
        assert (found[:, :4] == 0).all()
        assert (found[:, 12:] == 0).all()
        assert (found[:, 4:12] > 0).sum() == 127

    @pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
    def test_a_constant_image_becomes_black(self, value: float) -> None:
        found = in_graph(Image(np.full((20, 30), value, dtype=np.float32)), Preprocess(size=16))
        assert (found == 0).all()

    def test_each_slice_of_a_batch_has_its_own_percentiles(self) -> None:
        first, second = picture((80, 70), seed=1), picture((80, 70), scale=100, seed=2)
        spec = Preprocess(size=64)
        both = Preparation(spec)(torch.from_numpy(np.stack([first.pixels, second.pixels]))).numpy()
        assert np.array_equal(both[0], in_graph(first, spec))
        assert np.array_equal(both[1], in_graph(second, spec))


def mobilenet_fused() -> Classifier:
    return create_model("mobilenetv2_100", ("a", "b", "c"), fuse=16, pooling="lse", preprocess=Preprocess(size=64))


def resnet_average() -> Classifier:
    return create_model("resnet18", ("a", "b", "c"), preprocess=Preprocess(size=64, fit="stretch"))


def sigmoid_grey() -> Classifier:
    return create_model(
        "mobilenetv2_100", ("a", "b"), head="sigmoid", output_stride=8, truncate=True, channels=1,
        preprocess=Preprocess(size=48),
    )  # fmt: skip


def alexnet() -> Classifier:
    return create_model("alexnet", ("a", "b"), pooling="lse", preprocess=Preprocess(size=96))


def dense() -> Classifier:
    return create_model("small_cnn", ("a", "b"), channels=1, preprocess=Preprocess(size=32))


def attention() -> Classifier:
    model = create_model("cam_attention", ("a", "b"), channels=1, preprocess=Preprocess(size=48))
    model.switch_attention(True)  # type: ignore[operator]
    return model


def canonical() -> Classifier:
    return create_model("mobilenetv2_100", ("a", "b"), output_stride=16, preprocess=Preprocess.canonical(64))


MODELS = (mobilenet_fused, resnet_average, sigmoid_grey, alexnet, dense, attention, canonical)


def lively(model: Classifier) -> Classifier:
    """Give the last layer weights that tell slices apart, and everything running statistics that are not 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.head.weight.normal_(std=0.3, generator=generator)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_graph_says_what_torch_says(make: Any, tmp_path: Path) -> None:
    """Through both runtimes, for batches of any length and slices of any size."""
    model = lively(make())
    before = torch.get_rng_state()
    write_onnx(model, tmp_path / "source.onnx")
    assert torch.equal(torch.get_rng_state(), before)
    onnx.checker.check_model(tmp_path / "source.onnx", full_check=True)
    images = [picture(shape, seed=i) for i, shape in enumerate([(64, 64), (90, 130), (90, 130), (33, 41), (90, 130)])]
    slices = torch.from_numpy(np.stack([prepare(image, model.spec.preprocess) for image in images]))
    with torch.inference_mode():
        features = model.features(model.normalise(slices))
        logits = model.finish(features).numpy()
        maps = model.class_map(features).numpy() if model.has_class_map else None
    assert np.ptp(logits[:, 0]) > 1e-3
    for engine in ("onnx", "openvino"):
        run.install(tmp_path / "source.onnx", tmp_path / engine, run.describe_graph(model, engine, ""), {})
        graph = Exported.load(tmp_path / engine)
        said = graph.run_all([graph.take(image) for image in images])
        scale = np.abs(logits).max()
        assert np.abs(said.logits - logits).max() < 2e-3 * scale, engine
        assert np.abs(said.probabilities - torch.softmax(torch.from_numpy(logits), 1).numpy()).max() < 2e-3
        assert said.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
        if maps is None:
            assert said.class_map is None
        else:
            assert said.class_map is not None
            assert said.class_map.shape == maps.shape
            assert np.abs(said.class_map - maps).max() < 5e-3 * np.abs(maps).max()
        alone = graph.run(graph.take(images[1])[None])  # a batch of one, which is not special
        assert np.allclose(alone.logits[0], said.logits[1], atol=1e-4 * scale)


def with_calibration(model: Classifier, score: Score = "energy", temperature: float = 1.5) -> Classifier:
    """Give a model a calibration against noise, whose every limit is far away."""
    rng = np.random.default_rng(5)
    slices = rng.integers(0, 256, (40, model.spec.preprocess.size, model.spec.preprocess.size), dtype=np.uint8)
    with torch.inference_mode():
        features = averaged(model.features(model.normalise(torch.from_numpy(slices)))).numpy()
    model.reference = {**learn_reference(score, features, np.arange(40) % 2), UPRIGHT: learn_upright(edges(slices))}
    changes = {"novelty": score, "novelty_limit": 1e6, "temperature": temperature}
    shares = {"thresholds": dict.fromkeys(model.classes, 0.2), "persons_per_class": dict.fromkeys(model.classes, 9)}
    calibration = CALIBRATION.model_copy(update=changes | shares)
    model.spec = model.spec.model_copy(update={"calibration": calibration})
    return model


def test_the_temperature_divides_the_logits_of_the_probabilities_alone() -> None:
    model = lively(sigmoid_grey())
    slices = torch.from_numpy(picture((48, 48)).pixels)[None]
    with torch.inference_mode():
        logits, probabilities, class_map = Graph(model).eval()(slices)
        same, warmer, too, energy = Graph(with_calibration(model, temperature=2.5)).eval()(slices)
    assert torch.equal(logits, same)
    assert torch.equal(class_map, too)
    assert torch.allclose(warmer, torch.softmax(logits / 2.5, dim=1))
    assert not torch.allclose(warmer, probabilities)
    assert torch.allclose(energy, -torch.logsumexp(logits, dim=1))  # of the logits as they are


class TestNovelty:
    """The score in the graph's float32 against numpy's float64."""

    @staticmethod
    def both(score: Score, reference: Any, features: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        graph = Novelty(score, reference)(*(torch.from_numpy(a.astype(np.float32)) for a in (features, logits)))
        assert graph.dtype == torch.float32
        return graph.numpy(), novelty(score, reference, features.astype(np.float32), logits)

    @pytest.mark.parametrize("beside", [3.0, 1e-3, 0.0])
    @pytest.mark.parametrize("score", SCORES)
    def test_equals_it_however_little_lies_beside_the_directions(self, score: Score, beside: float) -> None:
        rng = np.random.default_rng(6)
        truth = rng.integers(0, 3, 300)
        spread = rng.standard_normal((100, 640))
        features = 20 + 5 * truth[:, None] + rng.standard_normal((300, 100)) @ spread
        features += beside * rng.standard_normal(features.shape)
        reference = learn_reference(score, features, truth)
        new = 20 + rng.standard_normal((30, 100)) @ spread + beside * rng.standard_normal((30, 640))
        found, expected = self.both(score, reference, new, 4 * rng.standard_normal((30, 3)))
        assert np.ptp(expected) > 0.05 * np.abs(expected).max()
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)

    @pytest.mark.parametrize("score", SCORES)
    @pytest.mark.parametrize("width", [4, 300])
    def test_features_of_nothing_and_few_slices_stay_finite(self, score: Score, width: int) -> None:
        features = np.zeros((6, width))
        features[:, 0] = range(6)
        reference = learn_reference(score, features, np.zeros(6, dtype=int))
        new = np.stack([np.zeros(width), np.full(width, 1e-3)])
        found, expected = self.both(score, reference, new, np.zeros((2, 2)))
        assert np.isfinite(found).all()
        assert found == pytest.approx(expected, rel=1e-3)

    def test_the_nearest_class_counts(self) -> None:
        truth = np.repeat([0, 1], 50)
        features = np.random.default_rng(7).standard_normal((100, 5)) + 50 * truth[:, None]
        reference = learn_reference("mahalanobis", features, truth)
        found, _ = self.both("mahalanobis", reference, np.array([[0.0] * 5, [50] * 5, [25] * 5]), np.zeros((3, 2)))
        assert (found[:2] < 5).all()
        assert found[2] > 1000


@pytest.mark.parametrize(
    ("make", "score"),
    [(canonical, "mahalanobis"), (dense, "knn"), (attention, "energy")],
    ids=["mahalanobis", "knn", "energy"],
)
def test_every_score_is_torchs_through_both_runtimes(make: Any, score: Score, tmp_path: Path) -> None:
    """From pixels and from prepared slices, from a map and from dense layers, with and without a class map."""
    model = with_calibration(lively(make()), score)
    records = []
    for i, shape in enumerate([(70, 70), (90, 130), (90, 130)]):
        write_png(tmp_path / f"{i}.png", picture(shape, seed=i).pixels.astype(np.uint8))
        records.append(Record(id=str(i), path=tmp_path / f"{i}.png"))
    write_onnx(model, tmp_path / "source.onnx")
    ours = predict(model, records)
    assert ours.certainty is not None
    assert np.ptp(ours.certainty.novelty) > 0
    for engine in ("onnx", "openvino"):
        description = run.describe_graph(model, engine, "")
        run.install(tmp_path / "source.onnx", tmp_path / engine, description, model.reference)
        theirs = predict_exported(Exported.load(tmp_path / engine), records)
        assert theirs.certainty is not None
        assert theirs.certainty.novelty == pytest.approx(ours.certainty.novelty, rel=1e-2, abs=1e-3)
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=5e-3)
        assert (theirs.status, theirs.certainty.sets) == (ours.status, ours.certainty.sets)


class TestExport:
    @pytest.mark.parametrize(("to", "files"), [("onnx", ["model.onnx"]), ("openvino", ["model.xml", "model.bin"])])
    def test_the_folder_says_what_it_holds(self, exported: Exports, to: str, files: list[str]) -> None:
        folder = exported.model.parent / to
        assert {p.name for p in folder.iterdir()} == {*files, "export.json", "run.json"}
        content = json.loads((folder / "export.json").read_text())
        assert content["schema"] == "gyrus.export/1"
        assert content["files"] == {name: sha256(folder / name) for name in files}
        source = json.loads((exported.model / "model.json").read_text())
        assert content["model"] == {k: v for k, v in source.items() if k not in ("schema", "calibration")}
        assert content["calibration"] is source["calibration"] is None
        assert content["model"]["sha256"] == sha256(exported.model / "model.safetensors")
        assert content["preprocess"] == source["preprocess"]
        assert content["classes"] == ["glioma", "meningioma"]
        assert (content["engine"], content["precision"], content["input"]) == (to, "float32", "pixels")
        assert content["outputs"] == ["logits", "probabilities", "class_map"]
        assert (content["temperature"], content["int8"]) == (1.0, None)
        assert plain(exported.documents[to]) == content | {"out": str(folder)}

    def test_of_a_run_the_calibrated_model_is_taken(
        self, exported: Exports, calibrated: Exports, tmp_path: Path
    ) -> None:
        home = tmp_path / "run"
        shutil.copytree(exported.model, home / "model")
        shutil.copytree(calibrated.model, home / "calibrate")
        checked = [exported.discs.root]
        (home / "calibrate" / "run.json").write_text("{}")
        for place, temperature in ((home, 1.5), (home / "model", 1.0)):
            document = export_model(place, tmp_path / f"out-{temperature}", to="onnx", check=checked)
            assert document["temperature"] == temperature
            assert (document["calibration"] is None) == (temperature == 1)

    def test_the_folder_of_a_calibrated_model_holds_the_calibration_once(self, calibrated: Exports) -> None:
        folder = calibrated.onnx
        files = {"model.onnx", "upright.safetensors"}
        assert {p.name for p in folder.iterdir()} == {*files, "export.json", "run.json"}
        content = json.loads((folder / "export.json").read_text())
        assert content["files"] == {name: sha256(folder / name) for name in files}
        source = json.loads((calibrated.model / "model.json").read_text())
        assert content["calibration"] == source["calibration"]
        assert content["temperature"] == source["calibration"]["temperature"] == 1.5
        assert content["model"] == {
            k: v for k, v in source.items() if k not in ("schema", "calibration", "reference_sha256")
        }
        assert content["outputs"] == ["logits", "probabilities", "class_map", "novelty"]
        assert plain(calibrated.documents["onnx"]) == content | {"out": str(folder)}

    def test_the_parity_of_a_calibrated_model_goes_to_the_end(self, calibrated: Exports) -> None:
        recorded, model = calibrated.documents["onnx"]["parity"], load_model(calibrated.model)
        assert recorded["same_answer"] == 1
        assert 0 < recorded["novelty_difference"] < 1e-3
        graph, records = Exported.load(calibrated.openvino), list(calibrated.discs)
        assert compare(model, graph, records).same_answer == 1
        calibration = graph.description.calibration
        assert calibration is not None
        refusing = calibration.model_copy(update={"novelty_limit": -1.0})
        other = replace(graph, description=graph.description.model_copy(update={"calibration": refusing}))
        refused = predict(model, records).status.count("refused")
        assert 0 < refused < 12
        assert compare(model, other, records).same_answer == pytest.approx(refused / 24)  # those, and no others

    def test_a_graph_of_another_score_is_refused(
        self, calibrated: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = Novelty.forward
        monkeypatch.setattr(Novelty, "forward", lambda self, *given: 1.05 * whole(self, *given))
        with pytest.raises(InputError, match=r"not exported: .* the novelty score, .* differs from torch's by 0\.05"):
            export_model(calibrated.model, tmp_path / "out", to="onnx", check=[calibrated.discs.root])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("slices", "others", "fine"), [(24, 1, True), (24, 2, False), (3, 1, True), (60, 3, True)])
    def test_answers_that_differ_by_more_than_rounding_are_refused(
        self, calibrated: Exports, slices: int, others: int, fine: bool
    ) -> None:
        recorded = Parity(**calibrated.documents["onnx"]["parity"])
        parity = replace(recorded, slices=slices, same_answer=1 - others / slices)
        if fine:
            run._require_equal(parity, calibrated.model)
        else:
            with pytest.raises(InputError, match=r"2 of the 24 slices checked get another status or set than by torch"):
                run._require_equal(parity, calibrated.model)

    def test_int8_of_a_calibrated_model_says_that_nothing_is_promised(
        self, calibrated: Exports, tmp_path: Path
    ) -> None:
        discs = calibrated.discs.root
        value = export_model(calibrated.model, tmp_path / "out", to="onnx", int8=True, check=[discs])
        assert value["int8"]["warning"] == run.FITTED_ON_FLOAT
        assert value["int8"]["novelty_difference"] > value["parity"]["novelty_difference"]
        assert 0 <= value["int8"]["same_answer"] <= 1
        said = predict_exported(Exported.load(tmp_path / "out"), list(calibrated.discs))
        assert said.certainty is not None

    @pytest.mark.parametrize("to", ["onnx", "openvino"])
    def test_the_parity_recorded_is_what_is_measured(self, exported: Exports, to: str) -> None:
        recorded = exported.documents[to]["parity"]
        folder = exported.model.parent / to
        measured = compare(load_model(exported.model), Exported.load(folder), list(exported.discs))
        assert recorded["slices"] == recorded["labelled"] == len(exported.discs) == 24
        assert recorded["probability_difference"] == pytest.approx(measured.probability_difference, abs=1e-5)
        assert recorded["map_difference"] == pytest.approx(measured.map_difference, abs=1e-5)
        assert recorded["probability_difference"] < 5e-3
        assert recorded["least_map_rank_correlation"] > 0.99
        assert recorded["same_class"] == 1
        assert recorded["accuracy_torch"] == recorded["accuracy_exported"]

    def test_the_graph_is_plain_and_names_no_machine(self, exported: Exports) -> None:
        content = (exported.onnx / "model.onnx").read_bytes()
        assert str(Path(torch.__file__).parent).encode() not in content
        assert str(Path(run.__file__).parent).encode() not in content
        graph = onnx.load(exported.onnx / "model.onnx")
        assert [(o.domain, o.version) for o in graph.opset_import] == [("", OPSET)]
        assert {node.domain for node in graph.graph.node} == {""}
        for name in ("model.xml", "model.bin"):
            assert str(exported.model.parent).encode() not in (exported.openvino / name).read_bytes()

    def test_the_default_check_is_the_phantom(self, exported: Exports, tmp_path: Path) -> None:
        value = export_model(exported.model, tmp_path / "out", to="onnx")
        assert value["parity"]["slices"] == 24
        assert 0 < value["parity"]["labelled"] < 24  # those of no_tumor and pituitary are not the model's
        assert [p.name for p in tmp_path.iterdir()] == ["out"]

    def test_int8_is_smaller_and_says_what_it_cost(self, exported: Exports, tmp_path: Path) -> None:
        discs = exported.discs.root
        value = export_model(exported.model, tmp_path / "out", to="onnx", int8=True, check=[discs], calibrate=[discs])
        assert value["precision"] == "int8"
        small, large = ((folder / "model.onnx").stat().st_size for folder in (tmp_path / "out", exported.onnx))
        assert small < 0.7 * large
        assert value["int8"]["calibration_slices"] == 24
        assert value["int8"]["calibrated_on_checked"] is False
        assert value["int8"]["warning"] == ""
        assert value["int8"]["map_rank_correlation"] > 0.9
        assert value["int8"]["probability_difference"] > value["parity"]["probability_difference"]
        kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
        measured = compare(load_model(exported.model), Exported.load(tmp_path / "out"), list(exported.discs))
        assert measured.same_class == value["int8"]["same_class"]

    def test_int8_leaves_the_convolutions_that_need_float_alone(self, exported: Exports, tmp_path: Path) -> None:
        model = create_model("mobilenetv2_035", ("a", "b"), channels=1, preprocess=Preprocess(size=32))
        write_onnx(model, tmp_path / "source.onnx")
        description = run.describe_graph(model, "onnx", "0" * 64)
        run.install(tmp_path / "source.onnx", tmp_path / "float32", description, model.reference)
        graph = Exported.load(tmp_path / "float32")
        quantise(tmp_path / "source.onnx", tmp_path / "int8.onnx", graph, list(exported.discs)[:4])
        nodes = onnx.load(tmp_path / "int8.onnx").graph.node
        made_by = {name: node.op_type for node in nodes for name in node.output}
        takes = [made_by.get(node.input[1]) for node in nodes if node.op_type == "Conv"]
        assert takes == [
            None,
            None,
            *["DequantizeLinear"] * (len(takes) - 3),
            None,
        ]  # first, first depthwise, class map

    def test_int8_that_ruins_the_map_is_refused(self, exported: Exports, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "black.png"), np.zeros((80, 80), dtype=np.uint8))  # ranges of nothing
        with pytest.raises(InputError, match=r"not exported: in int8 .* name training slices by --calibrate"):
            export_model(
                exported.model, tmp_path / "out", to="onnx", int8=True, check=[exported.discs.root],
                calibrate=[tmp_path / "black.png"],
            )  # fmt: skip
        assert [p.name for p in tmp_path.iterdir()] == ["black.png"]

    def test_a_graph_that_differs_is_refused(
        self, exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The graph of another model: a real difference, such as a runtime's fault would make."""
        spec = load_model(exported.model).spec
        other = create_model(
            spec.architecture, spec.classes, output_stride=8, truncate=True, channels=1, preprocess=spec.preprocess,
            seed=5,
        )  # fmt: skip
        lively(other)
        monkeypatch.setattr(run, "write_onnx", lambda model, path: write_onnx(other, path))
        with pytest.raises(InputError, match=r"not exported: on the slices checked .* differs from torch's by") as said:
            export_model(exported.model, tmp_path / "out", to="onnx", check=[exported.discs.root])
        assert "\n" not in str(said.value)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("what", [0, 1], ids=["probability", "map"])
    def test_either_difference_suffices(self, exported: Exports, what: int, monkeypatch: pytest.MonkeyPatch) -> None:
        parity = compare(load_model(exported.model), Exported.load(exported.onnx), list(exported.discs))
        run._require_equal(parity, exported.model)
        monkeypatch.setattr(run, ("PROBABILITY_LIMIT", "MAP_LIMIT")[what], 1e-12)
        with pytest.raises(InputError, match=("a probability differs", "a class map, .* differs")[what]):
            run._require_equal(parity, exported.model)

    def test_bad_requests_are_refused_before_any_work(self, exported: Exports, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with pytest.raises(InputError, match="no engine 'tflite' to export to: choose onnx or openvino"):
            export_model(exported.model, out, to="tflite")
        with pytest.raises(InputError, match="add --int8"):
            export_model(exported.model, out, to="onnx", calibrate=[exported.discs.root])
        with pytest.raises(InputError, match="exported model already"):
            export_model(exported.onnx, out, to="openvino")
        with pytest.raises(InputError, match="already exists"):
            export_model(exported.model, exported.onnx, to="onnx")
        with pytest.raises(InputError, match="absent"):
            export_model(exported.model, out, to="onnx", check=[tmp_path / "absent"])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("package", "to"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
    def test_a_missing_package_is_named_with_its_pip_line(
        self, exported: Exports, tmp_path: Path, package: str, to: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"{package} is not installed: run pip install -e '\.\[export\]'"):
            export_model(exported.model, tmp_path / "out", to=to)
        assert list(tmp_path.iterdir()) == []

    def test_a_model_without_class_map_has_parity_of_probabilities_alone(
        self, exported: Exports, tmp_path: Path
    ) -> None:
        save_model(lively(dense()), tmp_path / "model")
        value = export_model(tmp_path / "model", tmp_path / "out", to="onnx", check=[exported.discs.root])
        assert value["outputs"] == ("logits", "probabilities")
        assert value["parity"]["map_difference"] is value["parity"]["map_rank_correlation"] is None
        assert value["parity"]["labelled"] == 0  # its classes are a and b
        assert value["parity"]["accuracy_torch"] is None


def test_nothing_is_reported_to_anybody(exported: Exports, tmp_path: Path) -> None:
    """Exporting to OpenVINO and predicting opens no connection and leaves no identifier behind.

    A bare ``import openvino`` does both, by way of its converter.
    """
    listening = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event.startswith('socket.') or event == 'urllib.Request':\n"
        "        print(event, file=sys.stderr, flush=True)\n"
        "sys.addaudithook(hook)\n"
    )
    work = (
        "from pathlib import Path\n"
        "from gyrus.export import export_model\n"
        "from gyrus.engines import predict_exported_files\n"
        f"discs = Path({str(exported.discs.root)!r})\n"
        f"export_model(Path({str(exported.model)!r}), Path('out'), to='openvino', check=[discs])\n"
        "assert len(predict_exported_files(Path('out'), [discs])) == 24\n"
        "assert not [m for m in sys.modules if m.startswith(('openvino_telemetry', 'openvino.tools.ovc'))]\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(home), "OMP_NUM_THREADS": "1"}

    def said(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", listening + code],
            capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert said(work) == ""
    assert not (home / "intel").exists()
    assert "socket.getaddrinfo" in said("import socket; socket.getaddrinfo('localhost', 80)\n")  # it would be seen
