"""Scoring a run from its files: a small untrained network, its predictions and maps, every table beside."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gyrus.artifacts import read_manifest, stage_folder
from gyrus.baselines import BASELINES
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.evaluate import evaluate_run, open_run_data
from gyrus.evaluate.ranking import METRICS
from gyrus.explain import explain_records
from gyrus.inference import predict
from gyrus.maps import MapKey, Maps
from gyrus.models import create_model, save_model
from gyrus.phantom import make_phantom
from gyrus.predictions import Predictions
from gyrus.preprocess import Preprocess
from gyrus.records import Record
from gyrus.splits import holdout

SIDE = 64
METHODS = ("cam", "gradcam")


def plant(records: Sequence[Record], maps: Maps) -> Maps:
    """Add each slice's own mask as a map, and its complement."""
    masks = np.zeros((len(records), SIDE, SIDE), dtype=np.float32)
    for i, record in enumerate(records):
        mask = record.read_mask((SIDE, SIDE))
        masks[i] = 0 if mask is None else mask
    added = {MapKey("planted", "body", "true"): masks, MapKey("complement", "body", "true"): 1 - masks}
    status = {k: ("ok",) * len(records) for k in added}
    return Maps(maps.ids, {**maps.arrays, **added}, {**maps.status, **status}, maps.explained, maps.preprocess)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, a phantom, and ``run``: everything but its scores."""
    root = tmp_path_factory.mktemp("made")
    make_phantom(root / "data", patients=8, slices_per_plane=1, size=SIDE)
    return make_run(root)


def make_run(root: Path) -> Path:
    """Add to a folder with ``data`` the ``run`` of a network that has learned nothing, on half of it."""
    data = open_dataset(root / "data")
    split = holdout(data, (0.5, 0.0, 0.5))
    spec = Preprocess(size=SIDE, mean=(0.5,), std=(0.25,))
    model = create_model("resnet10t", data.classes, channels=1, preprocess=spec)
    facts = {"data": {"name": data.info.name, "root": str(data.root)}, "split": split.statement}
    with stage_folder(root / "run", "train", arguments={"model": "resnet10t"}, facts=facts) as folder:
        split.save(folder / "split.json")
        save_model(model, folder / "model")
    records = list(data.select(split.test))
    about = {"arguments": {"part": "test"}, "facts": {"preprocess": spec.model_dump()}}
    with stage_folder(root / "run" / "predict", "predict", **about) as folder:
        predict(model, records, statement=split.statement).save(folder / "predictions.json")
    with stage_folder(root / "run" / "explain", "explain", **about) as folder:
        plant(records, explain_records(model, records)).save(folder)
    return root


@pytest.fixture(scope="module")
def scores(made: Path) -> dict[str, Any]:
    return evaluate_run(made / "run", out=made / "scored")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoilt."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def rows(scores: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [r for r in scores["localization"]["rows"] if r["kind"] == kind]


def test_the_file_is_what_is_returned_in_strict_json(made: Path, scores: dict[str, Any]) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (made / "scored" / "scores.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == json.loads(json.dumps(scores, default=str))
    assert scores["schema"] == "gyrus.scores/1"
    assert (scores["synthetic"], scores["record_wise"], scores["part"]) == (True, False, "test")
    assert "patient-wise" in scores["statement"]
    assert scores["model"]["model"] == "resnet10t"
    manifest = read_manifest(made / "scored")
    assert sorted(manifest["outputs"]) == ["localization.csv", "scores.json"]
    assert (manifest["stage"], manifest["arguments"]) == ("evaluate", {"seed": 0})


def test_every_method_stands_beside_its_floors_and_ceilings(scores: dict[str, Any]) -> None:
    methods = {(r["name"], r["target"]) for r in rows(scores, "method")} - {("planted", "true"), ("complement", "true")}
    names = {n for n, _ in methods}
    assert len(names) == 6
    assert set(METHODS) <= names
    assert methods == {(n, t) for n in names for t in ("predicted", "true")}
    assert {r["name"] for r in rows(scores, "baseline")} == set(BASELINES)
    assert {r["name"] for r in rows(scores, "ceiling")} == {"area kept", "2 x 2 map", "64 x 64 map"}
    assert all(set(r["metrics"]["all"]) == set(METRICS) for r in scores["localization"]["rows"])


def test_intervals_draw_a_person_with_all_their_exams(tmp_path: Path) -> None:
    make_phantom(tmp_path / "data", patients=16, slices_per_plane=1, size=SIDE)
    manifest = tmp_path / "data" / "manifest.csv"
    rows = list(csv.reader(manifest.read_text(encoding="utf-8").splitlines()))
    label, patient = rows[0].index("label"), rows[0].index("patient")
    of_class: dict[str, list[str]] = {}
    for row in rows[1:]:
        of_class.setdefault(row[label], []).append(row[patient])
    for row in rows[1:]:  # of each class every other patient is a second exam of the one before
        names = sorted(set(of_class[row[label]]))
        n = names.index(row[patient])
        row[patient] = f"{row[label]}{1000 + n // 2}{'B' if n % 2 else ''}"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    scores = evaluate_run(make_run(tmp_path) / "run")
    data = open_dataset(tmp_path / "data")
    tested = data.select(Predictions.load(tmp_path / "run" / "predict" / "predictions.json").ids)
    exams = {str(r.patient) for r in tested}
    persons = {e.rstrip("B") for e in exams}
    assert len(persons) == 4 < len(exams)
    classification, certainty, localization = (scores[k] for k in ("classification", "certainty", "localization"))
    assert classification["slice"]["accuracy"]["groups"] == classification["patient"]["n"] == 4
    assert certainty["brier"]["groups"] == 4
    assert {f["accuracy"]["groups"] for f in scores["floors"]} == {4}
    with_tumour = {str(r.patient).rstrip("B") for r in tested if r.mask is not None}
    assert localization["patients"] == len(with_tumour) == 3
    assert {r["metrics"]["all"]["energy_inside"]["groups"] for r in localization["rows"] if r["name"] == "cam"} == {3}


def test_the_planted_mask_and_its_complement(scores: dict[str, Any]) -> None:
    means = {r["name"]: {m: v["value"] for m, v in r["metrics"]["all"].items()} for r in rows(scores, "method")}
    best, worst = means["planted"], means["complement"]
    for metric in ("pointing", "energy_inside", "rank_accuracy", "auprc", "iou_half", "iou_otsu"):
        assert best[metric] == pytest.approx(1.0)
    for metric in ("pointing", "energy_inside", "rank_accuracy", "iou_half", "iou_otsu"):
        assert worst[metric] == 0.0


def test_the_table_per_slice(made: Path, scores: dict[str, Any]) -> None:
    with (made / "scored" / "localization.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    n = scores["localization"]["slices"]
    data = open_dataset(made / "data")
    predictions = Predictions.load(made / "run" / "predict" / "predictions.json")
    assert n == sum(r.mask is not None for r in data.select(predictions.ids))
    assert len(table) == n * len(scores["localization"]["rows"])
    pointing = [float(r["pointing"]) for r in table if (r["name"], r["target"]) == ("gradcam", "true")]
    row = next(r for r in rows(scores, "method") if (r["name"], r["target"]) == ("gradcam", "true"))
    assert np.mean(pointing) == pytest.approx(row["metrics"]["all"]["pointing"]["value"])
    assert 0 < scores["localization"]["median_tumour_share"] < 0.2
    assert scores["localization"]["patients"] == len({r["patient"] for r in table})


def test_the_floors_stand_below_the_accuracy(scores: dict[str, Any]) -> None:
    assert [f["name"] for f in scores["floors"]] == [
        "majority class",
        "four corners alone",
        "pixel 1-nearest-neighbour",
    ]
    accuracy = scores["classification"]["slice"]["accuracy"]
    for floor in scores["floors"]:
        assert 0 <= floor["accuracy"]["low"] <= floor["accuracy"]["value"] <= floor["accuracy"]["high"] <= 1
        assert (floor["accuracy"]["n"], floor["accuracy"]["groups"]) == (accuracy["n"], accuracy["groups"])
    assert scores["floors"][0]["balanced_accuracy"]["value"] == pytest.approx(1 / 4)


def test_twice_is_the_same_and_never_over_the_first(made: Path, scores: dict[str, Any], tmp_path: Path) -> None:
    calls: list[str] = []
    assert evaluate_run(made / "run", out=tmp_path / "again", progress=lambda what, *_: calls.append(what)) == scores
    assert (tmp_path / "again" / "scores.json").read_bytes() == (made / "scored" / "scores.json").read_bytes()
    assert list(dict.fromkeys(calls)) == ["scoring maps", "reading train", "reading test"]
    with pytest.raises(InputError, match="scored already exists"):
        evaluate_run(made / "run", out=made / "scored")


def test_data_that_moved_is_found_where_it_is_named(made: Path, run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(made / "data", moved)
    data, split = open_run_data(run, moved)
    assert data.root == moved
    assert len(split.test) == len(data) / 2
    evaluate_run(run, data=moved)
    assert read_manifest(run / "evaluate")["stage"] == "evaluate"


def test_other_or_missing_data_is_refused_and_nothing_is_written(made: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "other")
    table = tmp_path / "other" / "manifest.csv"
    table.write_text(table.read_text().replace(",glioma,", ",meningioma,", 1))
    with pytest.raises(InputError, match="the split was made for other data"):
        evaluate_run(run, data=tmp_path / "other")
    with pytest.raises(InputError, match="is not there any more: name its new place with --data"):
        evaluate_run(run, data=tmp_path / "gone")
    assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in (made / "run").iterdir())


@pytest.mark.parametrize("stage", ["", "predict", "explain"])
def test_an_unfinished_stage_is_refused(run: Path, stage: str) -> None:
    (run / stage / "run.json").unlink()
    with pytest.raises(InputError, match=r"has no run\.json, so the run in it did not finish"):
        evaluate_run(run)
    assert not (run / "evaluate").exists()


def test_without_outlines_only_the_classes_are_scored(made: Path, run: Path, tmp_path: Path) -> None:
    """No dataset with outlines, no maps asked for; and outlines only on slices that were not explained."""
    bare = tmp_path / "bare"
    shutil.copytree(made / "data", bare)
    with (bare / "manifest.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    tested = set(open_run_data(run)[1].test)
    for keep in ("none", "training"):
        with (bare / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(
                r | ({} if keep == "training" and r["file"] not in tested else {"mask": ""}) for r in table
            )
        scores = evaluate_run(run, data=bare, out=tmp_path / keep)
        assert scores["localization"] is None
        assert [p.name for p in (tmp_path / keep).iterdir() if p.suffix == ".csv"] == []
        assert scores["classification"]["slice"]["n"] == len(tested)
        if keep == "none":
            shutil.rmtree(run / "explain")  # not needed where there are no outlines
            assert evaluate_run(run, data=bare, out=tmp_path / "unexplained")["localization"] is None
            shutil.copytree(made / "run" / "explain", run / "explain")


def test_slices_that_could_not_be_read_are_left_out_of_the_floors_too(
    made: Path, run: Path, scores: dict[str, Any]
) -> None:
    path = run / "predict" / "predictions.json"
    value = json.loads(path.read_text())
    nothing = {"logits": None, "probabilities": None, "predicted": None}
    value["rows"][0] |= nothing | {"status": "unreadable", "reason": "it was empty"}
    path.write_text(json.dumps(value))
    got = evaluate_run(run)
    whole = scores["classification"]["slice"]["n"]
    assert got["classification"]["unreadable"] == 1
    assert got["classification"]["slice"]["n"] == whole - 1
    assert got["floors"][1]["accuracy"]["n"] == whole - 1
