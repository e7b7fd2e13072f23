"""Calibrating the runs of a cross-validation on one another, and a run on a cross-validation of its recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import Gyrus, tree
from discs import write_discs

from gyrus.artifacts import read_json, write_json
from gyrus.calibrate import calibrate_run
from gyrus.certainty.temperature import fit_temperature
from gyrus.errors import InputError
from gyrus.evaluate.classification import label_indices
from gyrus.models import load_model
from gyrus.rundata import open_folds
from gyrus.splits import Split, split_dataset
from gyrus.stages import predict_run, train_folds, train_run
from gyrus.training import make_config

ASKED = {"coverage": 0.6, "false_refusals": 0.1, "device": "cpu"}


@pytest.fixture(scope="module")
def crossed(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds without validation parts. Look, do not touch."""
    root = tmp_path_factory.mktemp("crossed")
    split_dataset(tiny_phantom, root / "folds", folds=3, val_fold=False)
    train_folds(tiny_phantom, root / "folds", make_config(size=32, epochs=1, device="cpu"), root / "cv")
    return root / "cv"


@pytest.fixture(scope="module")
def whole(crossed: Path, tiny_phantom: Path) -> Path:
    """A run of the same recipe that learned from every slice. Look, do not touch."""
    one = Split.load(crossed / "fold-1" / "split.json")
    everyone = Split(**{**one.__dict__, "train": (*one.train, *one.test), "test": ()})
    everyone.save(crossed.parent / "everyone.json")
    config = make_config(**read_json(crossed / "fold-1" / "config.json", "a recipe") | {"seed": 3})
    train_run(tiny_phantom, crossed.parent / "everyone.json", config, crossed.parent / "whole")
    return crossed.parent / "whole"


@pytest.fixture(scope="module")
def raw(crossed: Path) -> dict[str, tuple[np.ndarray, int]]:
    """Of every slice: what the model made of it that never saw its patient, and its class."""
    found = predict_run(crossed, out=crossed.parent / "raw", device="cpu")
    truth = label_indices(found.labels, found.classes)
    return {i: (row, int(c)) for i, row, c in zip(found.ids, found.logits, truth, strict=True)}


def temperature(raw: dict[str, tuple[np.ndarray, int]], ids: list[str]) -> float:
    return fit_temperature(np.array([raw[i][0] for i in ids]), np.array([raw[i][1] for i in ids]))


def test_each_fold_is_calibrated_on_the_others(
    crossed: Path, raw: dict[str, tuple[np.ndarray, int]], tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(crossed, tmp_path / "cv"))
    made = calibrate_run(runs, **ASKED)
    folds = open_folds(runs)
    for i, (fold, one) in enumerate(zip(folds, made["runs"], strict=True)):
        others = [name for j, other in enumerate(folds) if j != i for name in other.split.test]
        found = one["calibration"]
        assert found["temperature"] == pytest.approx(temperature(raw, others), rel=1e-4)
        assert found["slices"] == len(others)
        assert found["persons"] == len({fold.split.groups[name] for name in others})
        assert found["statement"].startswith("the test parts of the other folds of ")
        assert found["reference_slices"] == len(fold.split.train)
        assert load_model(fold.run).spec.calibration is not None
    said = predict_run(runs, out=tmp_path / "predict", device="cpu")
    assert said.certainty is not None
    assert len(set(said.certainty.temperature)) == 3


def test_a_run_that_learned_from_everyone_is_calibrated_on_all_folds(
    crossed: Path, whole: Path, raw: dict[str, tuple[np.ndarray, int]], tmp_path: Path
) -> None:
    before = tree(crossed), tree(whole)
    made = calibrate_run(whole, folds=crossed, out=tmp_path / "model", **ASKED)
    assert (tree(crossed), tree(whole)) == before
    (one,) = made["runs"]
    assert one["calibration"]["temperature"] == pytest.approx(temperature(raw, list(raw)), rel=1e-4)
    assert one["calibration"]["slices"] == len(raw)
    assert "did not learn from it" in one["calibration"]["statement"]
    # slices are compared with those that this model learned from, as it sees them
    model = load_model(tmp_path / "model")
    assert one["calibration"]["reference_slices"] == len(raw)
    assert (model.state_dict()["head.weight"] == load_model(whole / "model").state_dict()["head.weight"]).all()


def test_the_command_line(gyrus: Gyrus, crossed: Path, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    assert "--folds" in gyrus("calibrate", run).refusal()
    made = gyrus("calibrate", run, "--folds", crossed, "--coverage", 0.6, "--json").document("gyrus.calibration/1")
    assert "3 folds" in made["runs"][0]["calibration"]["statement"]


class TestRefusals:
    def test_one_run_without_a_validation_part(self, crossed: Path) -> None:
        before = tree(crossed)
        with pytest.raises(InputError, match=r"name a cross-validation of the same recipe with --folds"):
            calibrate_run(crossed / "fold-1", **ASKED)
        assert tree(crossed) == before

    def test_folds_of_folds(self, crossed: Path) -> None:
        with pytest.raises(InputError, match="leave out --folds"):
            calibrate_run(crossed, folds=crossed, **ASKED)

    def test_a_run_that_holds_back_a_test_part_or_a_single_fold(self, crossed: Path, whole: Path) -> None:
        with pytest.raises(InputError, match=r"fold-1 holds back a test part, on which the folds would calibrate it"):
            calibrate_run(crossed / "fold-1", folds=crossed, **ASKED)
        with pytest.raises(InputError, match=r"fold-2 is no cross-validation"):
            calibrate_run(whole, folds=crossed / "fold-2", **ASKED)

    def test_folds_that_were_not_trained_alike(self, crossed: Path, tmp_path: Path) -> None:
        runs = Path(shutil.copytree(crossed, tmp_path / "cv"))
        config = read_json(runs / "fold-2" / "config.json", "a recipe")
        write_json(runs / "fold-2" / "config.json", config | {"size": 48})
        with pytest.raises(InputError, match=r"fold-2 was trained with size 48 and .*fold-1 with 32"):
            calibrate_run(runs, **ASKED)
        assert not list(runs.glob("*/calibrate"))

    def test_another_recipe(self, crossed: Path, whole: Path, tmp_path: Path) -> None:
        run = Path(shutil.copytree(whole, tmp_path / "run"))
        config = read_json(run / "config.json", "a recipe")
        write_json(run / "config.json", config | {"epochs": 7})
        with pytest.raises(InputError, match=r"fold-1 was trained with epochs 1 and .*run with 7"):
            calibrate_run(run, folds=crossed, **ASKED)
        assert not (run / "calibrate").exists()

    def test_other_data(self, crossed: Path, tmp_path: Path) -> None:
        discs = write_discs(tmp_path / "discs", patients=8, slices=2, side=40)
        split_dataset(discs.root, tmp_path / "split.json", fractions=(1, 0, 0))
        config = make_config(**read_json(crossed / "fold-1" / "config.json", "a recipe"))
        train_run(discs.root, tmp_path / "split.json", config, tmp_path / "run")
        with pytest.raises(InputError, match=r"fold-1 was trained on other data than .*run"):
            calibrate_run(tmp_path / "run", folds=crossed, **ASKED)
