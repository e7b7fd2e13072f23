from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_refusal import CALIBRATION

from gyrus.artifacts import sha256
from gyrus.errors import InputError
from gyrus.models import Classifier, create_model, load_model, save_model

CLASSES = ("glioma", "meningioma")


def small(**arguments: Any) -> Classifier:
    return create_model("mobilenetv2_100", CLASSES, output_stride=8, truncate=True, **arguments)


def logits(model: Classifier) -> torch.Tensor:
    slices = torch.randint(0, 256, (2, 48, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(model.normalise(slices))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(small(), tmp_path / "saved")
    return tmp_path / "saved"


def refused(folder: Path) -> str:
    """Return the message of the refusal, after checking that it is one line that names the folder."""
    with pytest.raises(InputError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def change(folder: Path, **values: Any) -> None:
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | values))


def test_round_trip(tmp_path: Path) -> None:
    model = small(pooling="lse", channels=1, seed=7)
    model.train()
    for _ in range(3):
        logits(model)  # so that the running statistics are no longer those of a new network
    model.spec = model.spec.model_copy(update={"training": {"data": "x"}, "metrics": {"val_loss": 0.25}})
    save_model(model, tmp_path / "deep" / "saved")
    assert model.training
    loaded = load_model(tmp_path / "deep" / "saved")
    assert not any(m.training for m in loaded.modules())
    assert loaded.spec == model.spec
    assert torch.equal(logits(loaded), logits(model.eval()))


def test_channels_last_models_are_saved_alike(tmp_path: Path) -> None:
    model = small().eval()
    expected = logits(model)
    save_model(model.to(memory_format=torch.channels_last), tmp_path / "saved")
    assert torch.allclose(logits(load_model(tmp_path / "saved")), expected, atol=1e-6)


def test_the_folder_holds_three_plain_files(folder: Path) -> None:
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "model.json", "card.md"}
    weights = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])  # numbers and a table of them, nothing that could be run
    assert "head.weight" in header
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert len(weights) == 8 + size + end


def test_model_json_says_what_is_needed(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    assert content["schema"] == "gyrus.model/1"
    assert content["sha256"] == sha256(folder / "model.safetensors")
    assert content["classes"] == list(CLASSES)
    assert content["architecture"] == "mobilenetv2_100"
    assert (content["output_stride"], content["truncate"]) == (8, True)
    assert content["preprocess"]["size"] == 224


def test_the_card(folder: Path) -> None:
    card = (folder / "card.md").read_text()
    assert "not a medical device" in card
    assert card.startswith("# mobilenetv2_100 for glioma, meningioma\n")
    assert "these weights are untrained" in card


def test_the_card_of_a_trained_model_says_on_what_and_how_well(tmp_path: Path) -> None:
    model = small()
    statement = "RECORD-WISE: slices of one patient may be on both sides"
    model.spec = model.spec.model_copy(update={"training": {"split": statement}, "metrics": {"val_accuracy": 0.91234}})
    save_model(model, tmp_path / "saved")
    card = (tmp_path / "saved" / "card.md").read_text()
    assert statement in card
    assert "val_accuracy: 0.9123\n" in card
    assert "untrained" not in card


def test_the_card_says_that_figures_are_optimistic_only_where_they_chose_the_epoch(tmp_path: Path) -> None:
    model = small()
    for choose, optimistic in (("loss", True), ("last", False)):
        model.spec = model.spec.model_copy(update={"training": {"choose": choose}, "metrics": {"val_accuracy": 0.9}})
        save_model(model, tmp_path / choose)
        assert ("used to choose the checkpoint" in (tmp_path / choose / "card.md").read_text()) == optimistic


def test_a_run_is_loaded_through_its_model_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    folder.rename(tmp_path / "run" / "model")
    assert load_model(tmp_path / "run").classes == CLASSES


def test_a_changed_byte_in_the_weights_is_found(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert "SHA-256 differs" in refused(folder)


def test_other_weights_are_found(folder: Path, tmp_path: Path) -> None:
    save_model(small(seed=1), tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    assert "SHA-256 differs" in refused(folder)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"colour": "red"}, "colour"),
        ({"classes": ["one"]}, "classes"),
        ({"pooling": "max"}, "pooling"),
        ({"preprocess": {"size": 1}}, "preprocess.size"),
        ({"schema": "gyrus.model/9"}, "gyrus.model/1"),
        ({"sha256": "0"}, "SHA-256 differs"),
        ({"architecture": "resnet18"}, "does not hold the network"),
        ({"classes": ["a", "b", "c"]}, "does not hold the network"),
        ({"truncate": False}, "does not hold the network"),
    ],
)
def test_a_changed_description_is_refused(folder: Path, values: dict[str, Any], says: str) -> None:
    change(folder, **values)
    assert says in refused(folder)


def test_an_architecture_that_does_not_exist_is_refused(folder: Path) -> None:
    change(folder, architecture="no_such_net")
    with pytest.raises(InputError, match="no_such_net"):
        load_model(folder)


def test_a_missing_key_is_refused(folder: Path) -> None:
    content = json.loads((folder / "model.json").read_text())
    del content["architecture"]
    (folder / "model.json").write_text(json.dumps(content))
    assert refused(folder).endswith("model.json: architecture is missing: restore the file as it was saved")


@pytest.mark.parametrize("keep", [0, 1000, 100_000])
def test_weights_that_end_early_are_refused_though_their_hash_is_right(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    change(folder, sha256=sha256(weights))
    assert "does not hold the network" in refused(folder)


class TestCalibrated:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        model = create_model("mobilenetv2_100", tuple(CALIBRATION.thresholds), output_stride=8, truncate=True)
        model.spec = model.spec.model_copy(update={"calibration": CALIBRATION})
        model.reference = {"upright": np.zeros(4, np.float32), "bank": np.ones((2, 3), np.float16)}
        save_model(model, tmp_path / "saved")
        load_model(tmp_path / "saved")
        return tmp_path / "saved"

    def test_a_reference_that_is_none_is_refused_though_its_hash_is_right(self, folder: Path) -> None:
        (folder / "reference.safetensors").write_bytes(b"junk")
        change(folder, reference_sha256=sha256(folder / "reference.safetensors"))
        assert "reference.safetensors is no file of arrays" in refused(folder)

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"novelty": "mahalanobis"}, "holds no means, which the calibration needs"),
            ({"sequences": ["BOLD"]}, "sequences are some of T1, T1-CE, T2, FLAIR"),
        ],
    )
    def test_a_calibration_that_does_not_fit_is_refused(self, folder: Path, values: dict[str, Any], says: str) -> None:
        content = json.loads((folder / "model.json").read_text())["calibration"]
        change(folder, calibration=content | values)
        assert says in refused(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x00"])
def test_a_description_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "model.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder)


def test_a_missing_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file")


def test_an_existing_folder_is_never_written_to(folder: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(InputError, match="already exists"):
        save_model(small(seed=2), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="already exists"):
        save_model(small(), tmp_path / "empty")
