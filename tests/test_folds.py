"""Cross-validation as one run: trained fold by fold, every slice predicted by a model that never saw its patient."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import RECIPE, Gyrus

from gyrus.artifacts import read_json, read_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.evaluate import evaluate_run
from gyrus.evaluate.floors import majority_class
from gyrus.leaderboard.sources import find_sources
from gyrus.predictions import Predictions, joined
from gyrus.rundata import joint_statement, open_folds, runs_in
from gyrus.splits import split_dataset
from gyrus.stages import predict_run, train_folds
from gyrus.training import make_config

FOLDS = 3


@pytest.fixture(scope="module")
def folds(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "folds"
    split_dataset(tiny_phantom, out, folds=FOLDS)
    return out


@pytest.fixture(scope="module")
def crossed(folds: Path, tiny_phantom: Path) -> Path:
    """A cross-validation, trained and predicted. Look, do not touch."""
    out = folds.parent / "crossed"
    config = make_config(size=32, epochs=1, pretrained="none", augment={"flip": 0.0})
    value = train_folds(tiny_phantom, folds, config, out)
    assert [Path(run["run"]).name for run in value["runs"]] == ["fold-1", "fold-2", "fold-3"]
    predict_run(out, device="cpu")
    return out


def test_each_slice_is_predicted_once_by_the_model_that_never_saw_its_patient(crossed: Path) -> None:
    predictions = Predictions.load(crossed / "predict" / "predictions.json")
    found = open_folds(crossed)
    assert sorted(predictions.ids) == sorted(r.id for r in found[0].dataset)
    start = 0
    for fold in found:
        own = predictions.ids[start : start + len(fold.split.test)]
        assert sorted(own) == sorted(fold.split.test)
        seen = {fold.dataset[i].patient for i in (*fold.split.train, *fold.split.val)}
        assert not seen & {fold.dataset[i].patient for i in own}
        alone = predict_run(fold.run, out=crossed.parent / f"alone-{fold.run.name}", device="cpu")
        assert (alone.logits == predictions.logits[start : start + len(own)]).all()
        start += len(own)
    assert f"{FOLDS} folds" in predictions.statement
    assert "out of fold" in predictions.statement


def test_scores_are_of_all_slices_and_floors_are_fitted_fold_by_fold(crossed: Path, tmp_path: Path) -> None:
    scores = evaluate_run(crossed, out=tmp_path / "scores")
    assert scores["localization"] is None
    slices = len(open_folds(crossed)[0].dataset)
    assert scores["classification"]["slice"]["n"] == slices
    assert all(floor["accuracy"]["n"] == slices for floor in scores["floors"])
    classes = Predictions.load(crossed / "predict" / "predictions.json").classes
    right = 0
    for fold in open_folds(crossed):
        train, test = (
            [classes.index(str(fold.dataset[i].label)) for i in p] for p in (fold.split.train, fold.split.test)
        )
        right += int((majority_class(np.array(train), len(test)) == np.array(test)).sum())
    assert scores["floors"][0]["accuracy"]["value"] == pytest.approx(right / slices)


def test_finished_folds_are_left_alone_on_resuming(
    crossed: Path, folds: Path, tiny_phantom: Path, tmp_path: Path
) -> None:
    out = tmp_path / "crossed"
    shutil.copytree(crossed, out)
    shutil.rmtree(out / "fold-3")
    before = (out / "fold-1" / "run.json").read_bytes()
    config = make_config(**read_json(out / "fold-1" / "config.json", "a recipe"))
    with pytest.raises(InputError, match="already exists"):
        train_folds(tiny_phantom, folds, config, out)
    with pytest.raises(InputError, match="another split or recipe"):
        train_folds(tiny_phantom, folds, config.model_copy(update={"epochs": 2}), out, resume=True)
    value = train_folds(tiny_phantom, folds, config, out, resume=True)
    assert (out / "fold-1" / "run.json").read_bytes() == before
    assert read_manifest(out / "fold-3")["stage"] == "train"
    assert len(value["runs"]) == FOLDS


def test_runs_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("fold-10", "fold-2"):
        (tmp_path / name).mkdir()
        for file in ("run.json", "split.json"):
            (tmp_path / name / file).write_text("{}")
    assert [p.name for p in runs_in(tmp_path)] == ["fold-2", "fold-10"]


def test_an_unfinished_fold_is_refused(crossed: Path, tmp_path: Path) -> None:
    out = tmp_path / "crossed"
    shutil.copytree(crossed, out)
    (out / "fold-2" / "run.json").unlink()
    with pytest.raises(InputError, match="fold-2 has no run"):
        predict_run(out, out=tmp_path / "predict")
    assert not (tmp_path / "predict").exists()


def test_runs_that_share_a_test_slice_are_no_cross_validation(crossed: Path, tmp_path: Path) -> None:
    out = tmp_path / "twice"
    for name in ("fold-1", "again"):
        shutil.copytree(crossed / "fold-1", out / name)
    with pytest.raises(InputError, match="no folds of one cross-validation"):
        predict_run(out, out=tmp_path / "predict")
    with pytest.raises(InputError, match="no folds of one cross-validation"):
        find_sources(out, None, learn=2, seed=0)


def test_a_statement_says_how(crossed: Path) -> None:
    splits = [fold.split for fold in open_folds(crossed)]
    assert joint_statement(splits[:1]) == splits[0].statement
    assert "patient-wise" in joint_statement(splits)


def test_models_of_other_classes_are_not_put_together(crossed: Path) -> None:
    predictions = Predictions.load(crossed / "predict" / "predictions.json")
    other = replace(predictions, classes=tuple(f"{c}!" for c in predictions.classes))
    with pytest.raises(InputError, match="same classes"):
        joined([predictions, other])


def test_the_command_line_trains_a_folder_of_splits(
    gyrus: Gyrus, folds: Path, tiny_phantom: Path, tmp_path: Path
) -> None:
    few = tmp_path / "two"
    few.mkdir()
    for name in ("fold-1.json", "fold-2.json"):
        shutil.copy(folds / name, few)
    said = gyrus("train", tiny_phantom, "--split", few, "--out", tmp_path / "crossed", *RECIPE, "--json")
    assert said.code == 0, said.err
    value: dict[str, Any] = json.loads(said.out)
    assert [run["statement"][:20] for run in value["runs"]] == ["phantom, fold 1 of 3", "phantom, fold 2 of 3"]
    assert len(open_dataset(tiny_phantom)) > len(open_folds(tmp_path / "crossed")[0].split.test)


def test_an_empty_folder_of_splits_is_refused(gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said = gyrus("train", tiny_phantom, "--split", tmp_path / "none", "--out", tmp_path / "out", *RECIPE)
    assert said.code == 2
    assert "holds no split" in said.err


def test_without_a_validation_fold_each_model_trains_on_all_the_others(
    gyrus: Gyrus, tiny_phantom: Path, tmp_path: Path
) -> None:
    said = gyrus("split", tiny_phantom, "--folds", "4", "--no-val", "--out", tmp_path / "folds", "--json")
    slices = len(open_dataset(tiny_phantom))
    for split in said.document("gyrus.splits/1")["splits"]:
        assert split["parts"]["val"] == []
        assert len(split["parts"]["train"]) + len(split["parts"]["test"]) == slices
    refused = gyrus("split", tiny_phantom, "--no-val", "--out", tmp_path / "one.json").refusal()
    assert "--folds" in refused


def test_what_is_printed_of_the_folds_names_the_leaderboard(gyrus: Gyrus, crossed: Path, tmp_path: Path) -> None:
    said = gyrus("evaluate", crossed, "--out", tmp_path / "scores")
    assert said.code == 0, said.err
    assert "gyrus explain --leaderboard" in said.out


class TestLeaderboardFlags:
    def test_it_judges_runs_not_files(self, gyrus: Gyrus, crossed: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        words = ("explain", "--leaderboard", "--model", crossed)
        assert "leave paths" in gyrus(*words, tiny_phantom, "--out", tmp_path / "board").refusal()
        assert "add --out" in gyrus(*words).refusal()

    def test_its_flags_mean_nothing_without_it(self, gyrus: Gyrus, crossed: Path) -> None:
        assert "add --leaderboard" in gyrus("explain", "--model", crossed / "fold-1", "--sample", "3").refusal()

    def test_over_the_folds(self, gyrus: Gyrus, crossed: Path, tmp_path: Path) -> None:
        board = tmp_path / "board"
        words = ("--methods", "cam,saliency", "--layers", "last", "--sample", "2", "--seed", "1")
        said = gyrus(
            "explain", "--leaderboard", "--model", crossed, "--out", board, *words, "--device", "cpu", "--json"
        )
        value = said.document("gyrus.leaderboard/1")
        assert [m["name"] for m in value["models"]] == ["fold-1", "fold-2", "fold-3"]
        assert value["slices"] == sum(m["slices"] for m in value["models"])
        assert "out of fold" in value["statement"]
        assert (board / "leaderboard.html").is_file()
