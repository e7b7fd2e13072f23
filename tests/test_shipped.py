"""The model in the package: it is whole, small, and answers with no connection."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import socket
from pathlib import Path

import cv2
import pytest
from commandline import Gyrus
from exports import Exports

from gyrus.datasets import open_dataset
from gyrus.models import load_model
from gyrus.models.saved import CARD, model_folder
from gyrus.phantom.anatomy import build_atlas
from gyrus.shipped import DEFAULT, find_model, list_shipped
from gyrus.stages import predict_files
from gyrus.words import SEQUENCES

ROOT = Path(__file__).parents[1]
CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something asked for a connection")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_it_is_small_calibrated_and_named() -> None:
    assert list_shipped() == [DEFAULT] == ["gyrus-base"]
    folder = find_model(None)
    assert sum(p.stat().st_size for p in folder.iterdir()) < 10e6
    model = load_model(folder)
    assert sum(p.numel() for p in model.parameters()) <= 5e6
    assert model.classes == CLASSES
    found = model.spec.calibration
    assert found is not None
    assert found.cut is not None
    assert found.always == ()
    assert "5 folds" in found.statement


def test_its_card_is_in_the_documentation() -> None:
    card = (find_model(None) / CARD).read_text(encoding="utf-8")
    assert card == (ROOT / "docs" / "gyrus-base.md").read_text(encoding="utf-8")
    assert json.loads((find_model(None) / "model.json").read_text())["sha256"] in card
    for words in ("not a medical device", "Known failures", "champion/train.py", "Out of"):
        assert words in " ".join(card.split())


def test_what_the_readme_says_of_it_is_what_its_card_says() -> None:
    card = (find_model(None) / CARD).read_text(encoding="utf-8")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    figure = r"([01]\.\d+) \[([01]\.\d+), ([01]\.\d+)\]"
    for there, here in (
        (rf"it is right in {figure} of the slices", rf"accuracy \*\*{figure}\*\* per slice"),
        (rf"inside the tumour in {figure}", rf"\| all \| {figure}"),
    ):
        said, measured = (re.search(pattern, text) for pattern, text in ((there, readme), (here, card)))
        assert said
        assert measured
        assert said[1] == measured[1]
        assert [float(x) for x in said.groups()] == pytest.approx([float(x) for x in measured.groups()], abs=0.0056)


def test_its_card_tells_how_it_was_trained() -> None:
    training = json.loads((find_model(None) / "model.json").read_text())["training"]
    card = " ".join((find_model(None) / CARD).read_text(encoding="utf-8").split())
    assert f"{training['epochs']} epochs, of which the last is kept" in card
    made = training["synthetic"]
    assert f"{made['slices']:,} slices of {made['patients']} synthetic people" in card


def test_its_name_is_a_model_unless_a_folder_is_called_so(
    exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model(Path(DEFAULT)) == find_model(None) == model_folder(Path(DEFAULT))
    assert find_model(Path("elsewhere") / DEFAULT) == Path("elsewhere") / DEFAULT
    assert find_model(Path("other")) == Path("other")
    shutil.copytree(exported.model, DEFAULT)
    assert find_model(Path(DEFAULT)) == Path(DEFAULT)
    assert load_model(Path(DEFAULT)).classes == ("glioma", "meningioma")
    assert load_model(find_model(None)).classes == CLASSES


@pytest.mark.usefixtures("no_network")
def test_a_file_is_answered_with_no_model_named_and_no_connection(
    gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path
) -> None:
    files = [r.path for r in open_dataset(tiny_phantom)][:4]
    made = gyrus("predict", *files, "--json").document("gyrus.predictions/2")
    assert made["calibrated"]
    assert tuple(made["classes"]) == CLASSES
    assert {row["status"] for row in made["rows"]} <= {"ok", "flagged", "refused"}
    assert all(row["reason"] for row in made["rows"] if row["status"] != "ok")
    named = predict_files(Path(DEFAULT), files, device="cpu")
    assert [row["logits"] for row in named.rows()] == [row["logits"] for row in made["rows"]]
    text = gyrus("predict", files[0], "--save", tmp_path / "answers").out
    assert "1 slice in" in text
    assert len(list((tmp_path / "answers").glob("*.png"))) == 1


def test_a_folder_of_its_name_answers_only_where_it_is_named(
    gyrus: Gyrus, exported: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported.onnx, DEFAULT)
    file = exported.discs.records[0].path
    unnamed = gyrus("predict", file, "--json").document("gyrus.predictions/2")
    named = gyrus("predict", file, "--model", DEFAULT, "--json").document("gyrus.predictions/2")
    assert tuple(unnamed["classes"]) == CLASSES
    assert named["classes"] == ["glioma", "meningioma"]


@pytest.mark.usefixtures("no_network")
def test_it_explains_files_too(gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
    file = next(iter(open_dataset(tiny_phantom))).path
    gyrus("explain", file, "--methods", "cam", "--out", tmp_path / "maps", "--quiet")
    assert (tmp_path / "maps" / "maps.safetensors").is_file()


def test_a_sequence_that_it_knows_no_tumour_on_is_flagged(tiny_phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tumours were on T1 after contrast medium; the phantom as T2 is answered, and the answer is doubted."""
    found = load_model(find_model(None)).spec.calibration
    assert found is not None
    assert found.sequences == ("T1-CE",)
    monkeypatch.syspath_prepend(ROOT / "recipes")
    recipe = importlib.import_module("sequence_slices")
    atlas = build_atlas()
    drawn = [s for n in range(6) for s in recipe.sequence_slices(atlas, n, 78) if s.sequence == SEQUENCES.index("T2")]
    folder = tiny_phantom.parent / "t2"
    folder.mkdir()
    for i, s in enumerate(drawn):
        assert cv2.imwrite(str(folder / f"{i}.png"), s.pixels)
    said = predict_files(Path(DEFAULT), [folder])
    assert len(said) > 8
    doubted = "the model learned to tell tumours on T1-CE alone, and may miss one here."
    assert sum(r["status"] == "refused" or doubted in r["reason"] for r in said.rows()) >= 0.9 * len(said)
    assert sum(r["reason"].startswith("Looks like T2: ") for r in said.rows()) >= len(said) / 2
