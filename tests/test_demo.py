"""The whole way in one call: the demo's own code on a phantom and a network small enough for a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commandline import Gyrus, tree

from gyrus import demo
from gyrus.artifacts import is_finished, read_json
from gyrus.headline import finding
from gyrus.models.registry import BACKBONES
from gyrus.models.weights import PACKAGED
from gyrus.splits import Split
from gyrus.training import TrainConfig

# see test_training.py


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """The smallest demo there can be, what it returned, and what it said on the way."""
    out, said = tmp_path_factory.mktemp("demo") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        value = demo.run_demo(out, seed=1, device="cpu", progress=lambda what, done, total: said.append(what))
    return out, value, said


def small(patch: pytest.MonkeyPatch) -> None:
    """40 patients are what the demo's tenths need; everything else is as little as can be."""
    recipe = demo.demo_config

    def smaller(*, seed: int = 0, device: str = "auto") -> TrainConfig:
        config = recipe(seed=seed, device=device)
        return config.model_copy(update={"size": 64, "epochs": 1, "precision": "fp32"})

    patch.setattr(demo, "demo_config", smaller)
    patch.setattr(demo, "PATIENTS", 40)
    patch.setattr(demo, "SLICES_PER_PLANE", 1)


def test_leaves_every_stage_finished(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, value, _ = made
    assert {p.name for p in out.iterdir()} == {"phantom", "split.json", "run"}
    for stage in (".", "predict", "explain", "evaluate"):
        assert is_finished(out / "run" / stage), stage
    assert Path(value["report"]) == out / "run" / "report.html"
    assert Path(value["report"]).stat().st_size > 10_000
    assert Split.load(out / "split.json").seed == 1
    assert read_json(out / "run" / "config.json", "a recipe")["seed"] == 1


def test_document(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    out, value, _ = made
    assert set(value) == {"schema", "scores", "finding", "report", "seconds"}
    assert value["schema"] == "gyrus.demo/1"
    assert value["scores"] == read_json(out / "run" / "evaluate" / "scores.json", "scores")
    assert value["finding"] == finding(value["scores"])
    assert re.match(r"The best of 11 maps \(\S+ at body\S*\) has its maximum inside the tumour in ", value["finding"])
    assert value["scores"]["synthetic"] is True
    layers = {r["layer"] for r in value["scores"]["localization"]["rows"] if r["kind"] == "method"}
    assert layers == set(demo.LAYERS)


def test_progress_is_told(made: tuple[Path, dict[str, Any], list[str]]) -> None:
    said = made[2]
    for what in ("reading train", "epoch 1/1", "predicting", "explaining"):
        assert what in said, what


def test_does_not_write_into_what_is_there(made: tuple[Path, dict[str, Any], list[str]], gyrus: Gyrus) -> None:
    out = made[0]
    before = tree(out)
    assert gyrus("demo", "--out", out).refusal() == f"{out} already exists: choose another --out, or remove it first"
    assert tree(out) == before


def test_verb_prints_what_the_function_returns(
    gyrus: Gyrus, monkeypatch: pytest.MonkeyPatch, made: tuple[Path, dict[str, Any], list[str]]
) -> None:
    calls: list[tuple[Any, ...]] = []

    def again(out: Path, *, seed: int, device: str, progress: object) -> dict[str, Any]:
        calls.append((out, seed, device, progress))
        return made[1]

    monkeypatch.setattr(demo, "run_demo", again)
    assert gyrus("demo", "--out", "x", "--seed", 3, "--device", "cpu", "--json").document("gyrus.demo/1") == made[1]
    shown = gyrus("demo")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[-2:] == [made[1]["finding"], f"report: {made[1]['report']}"]
    assert gyrus("demo", "-q").out == ""
    assert [c[:3] for c in calls[:2]] == [(Path("x"), 3, "cpu"), (Path("gyrus-demo"), 0, "auto")]


def test_recipe_needs_no_download() -> None:
    config = demo.demo_config(seed=5, device="cpu")
    assert (config.seed, config.device, config.pretrained) == (5, "cpu", "package")
    assert BACKBONES[config.model].packaged
    assert config.model in PACKAGED
