"""Training that goes on from a trained run: its weights, its folds, and what it must not have seen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from discs import write_discs

from gyrus.artifacts import read_json
from gyrus.calibrate import calibrate_run
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.models import load_model
from gyrus.splits import Split, holdout, split_dataset
from gyrus.stages import train_folds, train_run
from gyrus.training import fit, make_config

STILL = {"size": 32, "epochs": 1, "device": "cpu", "learning_rate": 1e-9, "weight_decay": 0}
"""Learns nothing to speak of, so that the weights afterwards are those it began with."""


@pytest.fixture(scope="module")
def crossed(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds and a run on everyone. Look, do not touch."""
    root = tmp_path_factory.mktemp("onward")
    split_dataset(tiny_phantom, root / "folds", folds=3, val_fold=False)
    one = Split.load(root / "folds" / "fold-1.json")
    Split(**{**one.__dict__, "train": (*one.train, *one.test), "test": ()}).save(root / "everyone.json")
    config = make_config(size=32, epochs=1, device="cpu")
    train_folds(tiny_phantom, root / "folds", config, root / "first" / "cv")
    train_run(tiny_phantom, root / "everyone.json", config, root / "first" / "all")
    return root


def test_each_fold_goes_on_from_its_own(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    first = crossed / "first"
    again = make_config(**STILL, pretrained=str(first / "cv"))
    train_folds(tiny_phantom, crossed / "folds", again, tmp_path / "cv")
    for name in ("fold-1", "fold-2", "fold-3"):
        before, after = load_model(first / "cv" / name), load_model(tmp_path / "cv" / name)
        weights = dict(after.named_parameters())
        assert all(torch.allclose(value, weights[k], atol=1e-6) for k, value in before.named_parameters())
        assert after.spec.training["before"] == before.spec.training
        assert after.spec.training["learning_rate"] == 1e-9
        assert after.spec.pretrained == "none"
    train_folds(tiny_phantom, crossed / "folds", again, tmp_path / "cv", resume=True)

    whole = make_config(**STILL, pretrained=str(first / "all"))
    train_run(tiny_phantom, crossed / "everyone.json", whole, tmp_path / "all")
    calibrated = calibrate_run(tmp_path / "all", folds=tmp_path / "cv", coverage=0.6, false_refusals=0.1, device="cpu")
    assert calibrated["runs"][0]["calibration"]["slices"] == len(open_dataset(tiny_phantom))
    shutil.rmtree(tmp_path / "all" / "calibrate")
    with pytest.raises(InputError, match="name a cross-validation of the same recipe"):
        calibrate_run(tmp_path / "all", folds=first / "cv", coverage=0.6, false_refusals=0.1, device="cpu")


def test_a_run_that_has_seen_who_is_held_back_is_refused(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    dataset, split = open_dataset(tiny_phantom), Split.load(crossed / "folds" / "fold-2.json")
    for place in ("cv/fold-1", "cv/fold-1/model", "all"):
        config = make_config(**STILL, pretrained=str(crossed / "first" / place))
        with pytest.raises(InputError, match=r"has learned from '.+', which this split holds back, and \d+ more"):
            fit(dataset, split, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_model_came_from_must_not_have_seen_it_either(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    """A step over other data hides the split, not that these data took part."""
    first = crossed / "first" / "cv" / "fold-1"
    classes = load_model(first).classes
    discs = write_discs(tmp_path / "discs", patients=8, slices=1, side=32)
    others = replace(discs, records=tuple(replace(r, label=classes[i % 4]) for i, r in enumerate(discs)))
    fit(others, holdout(others, (1, 0, 0)), make_config(**STILL, pretrained=str(first)), tmp_path / "between")
    dataset, folds = open_dataset(tiny_phantom), crossed / "folds"
    config = make_config(**STILL, pretrained=str(tmp_path / "between"))
    with pytest.raises(
        InputError, match=r"goes back to a model that learned from this data by another split \(.*fold 1"
    ):
        fit(dataset, Split.load(folds / "fold-2.json"), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit(dataset, Split.load(folds / "fold-1.json"), config, tmp_path / "run")


def test_a_model_of_another_form_is_refused(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    dataset, split = open_dataset(tiny_phantom), Split.load(crossed / "folds" / "fold-1.json")
    run = crossed / "first" / "cv" / "fold-1"
    others = (("model", "resnet18", "architecture"), ("pooling", "lse", "pooling"), ("size", 48, "preprocess"))
    for field, value, named in others:
        config = make_config(**STILL | {field: value}, pretrained=str(run))
        with pytest.raises(InputError, match=f"has another {named}"):
            fit(dataset, split, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bare_model_says_what_it_learned_from(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(crossed / "first" / "cv" / "fold-1" / "model", bare)
    dataset, split = open_dataset(tiny_phantom), Split.load(crossed / "folds" / "fold-2.json")
    with pytest.raises(InputError, match="learned from this data by another split"):
        fit(dataset, split, make_config(**STILL, pretrained=str(bare)), tmp_path / "run")
    split = Split.load(crossed / "folds" / "fold-1.json")
    fit(dataset, split, make_config(**STILL, pretrained=str(bare)), tmp_path / "run")
    said = read_json(tmp_path / "run" / "model" / "model.json", "a model")["training"]["before"]
    assert said["split"] == load_model(bare).spec.training["split"]
    assert said["fingerprint"] == dataset.fingerprint


def test_a_run_of_the_same_split_with_a_val_part_goes_on(tiny_phantom: Path, tiny_split: Path, tmp_path: Path) -> None:
    dataset, split = open_dataset(tiny_phantom), Split.load(tiny_split)
    assert split.val
    fit(dataset, split, make_config(**STILL), tmp_path / "first")
    fit(dataset, split, make_config(**STILL, pretrained=str(tmp_path / "first")), tmp_path / "then")
    swapped = Split(**{**split.__dict__, "val": split.test, "test": split.val})
    with pytest.raises(InputError, match="which this split holds back"):
        fit(dataset, swapped, make_config(**STILL, pretrained=str(tmp_path / "first")), tmp_path / "swapped")


def test_a_folder_does_not_stand_for_a_source_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert make_config(pretrained="hub").begun is None
    assert make_config(pretrained="./hub").begun == Path("hub")


def test_a_fold_that_is_missing_is_named_before_any_training(crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "cv").mkdir()
    shutil.copytree(crossed / "first" / "cv" / "fold-1", tmp_path / "cv" / "fold-1")
    again = make_config(**STILL, pretrained=str(tmp_path / "cv"))
    with pytest.raises(InputError, match="has no finished run fold-2, which this fold needs"):
        train_folds(tiny_phantom, crossed / "folds", again, tmp_path / "out")
    assert not (tmp_path / "out").exists()
