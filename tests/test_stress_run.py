"""The stress test on networks that provably look at one square, on everything degenerate, and as a user meets it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from commandline import Gyrus, Said, tree
from torch import Tensor, nn

from gyrus.artifacts import read_json, read_manifest, stage_folder
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.models import Classifier, ModelSpec
from gyrus.models.classifier import Body, Dense
from gyrus.preprocess import Preprocess
from gyrus.records import Record
from gyrus.splits import Split, holdout, kfold
from gyrus.stress import stress_run
from gyrus.stress.degradations import DEGRADATIONS
from gyrus.stress.judge import Answer, Judge, Row
from gyrus.stress.summary import METHODS, summarise
from gyrus.stress.views import CLEAN, FILLS, IN_CORNER, NO_OUTLINE, NO_PLACE, NO_TISSUE, SURROUNDED, filled, view

SIDE = 64
TUMOUR, ELSEWHERE, MARKER = (24, 14, 10), (40, 40, 6), (0, 0, 6)
"""Top, left and side of squares: the tumour, healthy tissue, and a mark burnt into the corner."""
CLASSES = ("glioma", "no_tumor")
COUNTED = "Of the slices that were predicted rightly, at 0.5 or more, the probability of the class falls below 0.5:"


class Look(nn.Module):
    """How far each pixel of one square is above a level; nothing else is let through."""

    num_features = 1

    def __init__(self, square: tuple[int, int, int], level: float) -> None:
        super().__init__()
        top, left, side = square
        self.level = level
        self.window = nn.Parameter(torch.zeros(SIDE, SIDE))
        with torch.no_grad():
            self.window[top : top + side, left : left + side] = 1

    def forward_features(self, images: Tensor) -> Tensor:
        return (images - self.level) * self.window


def looking_at(square: tuple[int, int, int], level: float = 0.7, *, dense: bool = False) -> Classifier:
    """A model that says glioma where a square is brighter than a level, and is sure of either."""
    spec = Preprocess(size=SIDE, intensity=(0, 100), mean=(0.0,), std=(1.0,))
    layers = Dense(nn.AdaptiveAvgPool2d(1), nn.Flatten(), width=1) if dense else None
    model = Classifier(
        Body(Look(square, level)), ModelSpec(architecture="handmade", classes=CLASSES, preprocess=spec), layers
    )
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([2000.0, -2000]).view(model.head.weight.shape))
        assert model.head.bias is not None
        model.head.bias.zero_()
    return model


def write_heads(root: Path, patients: int = 4, slices: int = 2, *, masks: bool = True) -> Path:
    """Heads of one grey with a bright scalp; half of the patients have a bright square in it, and a mark beside it."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radius, rng = np.hypot(y, x), np.random.default_rng(0)
    (root / "masks").mkdir(parents=True)
    rows = [("file", "label", "patient", "mask", "plane")]
    for patient in range(patients):
        for n in range(slices):
            grain = rng.integers(-3, 4, (SIDE, SIDE))  # or slices of two patients would be copies, and kept together
            pixels = np.where(radius <= 28, 100 + grain, 0).astype(np.uint8)
            pixels[(radius > 26) & (radius <= 28)] = 250
            label, mask = CLASSES[patient % 2], ""
            if label == "glioma":
                for top, left, side in (TUMOUR, MARKER):
                    pixels[top : top + side, left : left + side] = 250
                drawn = np.zeros((SIDE, SIDE), np.uint8)
                drawn[TUMOUR[0] :, TUMOUR[1] :][: TUMOUR[2], : TUMOUR[2]] = 255
                mask = f"masks/{patient}-{n}.png" if masks else ""
                cv2.imwrite(str(root / "masks" / f"{patient}-{n}.png"), drawn)
            cv2.imwrite(str(root / f"{patient}-{n}.png"), pixels)
            rows.append((f"{patient}-{n}.png", label, f"p{patient}", mask, "axial"))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return root


def write_run(run: Path, data: Path, split: Split) -> Path:
    """What a finished training leaves, but for its model."""
    facts = {"data": {"root": str(data)}, "split": split.statement}
    with stage_folder(run, "train", arguments={}, facts=facts) as folder:
        split.save(folder / "split.json")
    return run


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Stress one model on half of the heads, or one for each fold."""

    def call(*models: Classifier, masks: bool = True, **options: Any) -> dict[str, Any]:
        data = write_heads(tmp_path / "data", masks=masks)
        dataset, run = open_dataset(data), tmp_path / "run"
        if len(models) == 1:
            write_run(run, data, holdout(dataset, (0.5, 0.0, 0.5)))
        else:
            for i, split in enumerate(kfold(dataset, len(models), val_fold=False), start=1):
                write_run(run / f"fold-{i}", data, split)
        waiting = iter(models)
        monkeypatch.setattr("gyrus.stress.run.load_model", lambda _run, device: next(waiting))
        return stress_run(run, device="cpu", **options)

    return call


def fill(value: dict[str, Any], place: str, how: str) -> dict[str, Any]:
    return next(f for f in value["inpainting"] if (f["place"], f["fill"]) == (place, how))


def falls(value: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    return {key: fill(value, *key)["falls"]["value"] for key in FILLS}


class TestPlanted:
    def test_a_model_that_looks_at_the_tumour(self, ask: Ask, tmp_path: Path) -> None:
        value = ask(looking_at(TUMOUR))
        assert falls(value) == {key: float(key[0] == "tumour") for key in FILLS}
        for how in ("telea", "tissue"):
            row = fill(value, "tumour", how)
            assert row["slices"] == 2
            assert row["before"]["value"] == pytest.approx(1, abs=1e-4)
            assert row["after"]["value"] == pytest.approx(0, abs=1e-4)
            assert row["switches"]["value"] == 1
            assert row["falls_per_class"] == {"glioma": row["falls"]}
            assert fill(value, "healthy", how)["change"]["value"] == pytest.approx(0, abs=1e-6)
        assert fill(value, "tumour", "tissue")["sources"] == {"mirror": 2}
        clean = value["robustness"]["clean"]
        assert {m: clean[m]["value"] for m in clean} == pytest.approx({"accuracy": 1, "pointing": 1, "iou": 1})
        assert (clean["accuracy"]["n"], clean["pointing"]["n"]) == (4, 2)  # no_tumor has no outline
        turned = next(c for c in value["robustness"]["changes"] if c["name"] == "rotation")["levels"][-1]
        assert (turned["strength"], turned["said"]) == (45, "45 degrees")
        assert turned["pointing"]["value"] == 0  # the tumour turns away from the square, and its outline with it
        assert turned["accuracy"]["value"] == 0.5
        finding = value["finding"].replace("\N{NO-BREAK SPACE}", " ")
        assert finding.startswith(
            f"{COUNTED} by Telea's method, in 100 % with the tumour filled in and in 0 % with as much"
        )
        assert [(c["fill"], c["slices"], c["tumour"]["value"]) for c in value["controlled"]] == [
            ("telea", 2, 1.0), ("tissue", 2, 1.0)
        ]  # fmt: skip
        assert "on clean slices and least" in value["finding"]
        assert value["lacks"] == []
        assert value == json.loads((tmp_path / "run" / "stress" / "stress.json").read_text(encoding="utf-8"))

    def test_a_model_that_looks_elsewhere(self, ask: Ask) -> None:
        """It says glioma of every slice because of tissue that no fill changes by much."""
        value = ask(looking_at(ELSEWHERE, level=0.2))
        assert falls(value) == dict.fromkeys(FILLS, 0.0)
        assert value["robustness"]["clean"]["accuracy"]["value"] == 0.5
        assert value["robustness"]["clean"]["pointing"]["value"] == 0

    def test_a_model_that_reads_a_mark_in_the_corner(self, ask: Ask) -> None:
        value = ask(looking_at(MARKER, level=0.5))
        assert value["robustness"]["clean"]["accuracy"]["value"] == 1
        assert falls(value) == {key: float(key[0] == "corners") for key in FILLS}

    def test_each_fold_is_judged_by_its_own_model(self, ask: Ask, tmp_path: Path) -> None:
        value = ask(looking_at(TUMOUR), looking_at(MARKER, level=0.5))
        assert value["slices"] == 8
        assert falls(value) == dict.fromkeys(FILLS, 0.5) | dict.fromkeys(FILLS[2:4], 0.0)
        assert fill(value, "tumour", "telea")["falls"]["groups"] == 2
        assert "2 folds" in value["statement"]
        assert read_manifest(tmp_path / "run" / "stress")["split"] == value["statement"]

    def test_a_slice_that_was_wrong_before_does_not_count(self, ask: Ask) -> None:
        value = ask(looking_at(TUMOUR, level=1.5))  # nothing is as bright: no_tumor throughout
        row = fill(value, "tumour", "telea")
        assert row["falls"] == {"value": None, "low": None, "high": None, "n": 0, "groups": 0}
        assert row["change"]["value"] == pytest.approx(0, abs=1e-4)
        assert "Telea" not in value["finding"]

    def test_without_a_class_map(self, ask: Ask) -> None:
        value = ask(looking_at(TUMOUR, dense=True))
        assert falls(value)["tumour", "telea"] == 1
        assert value["robustness"]["clean"]["pointing"]["value"] is None
        assert value["lacks"] == [
            "No pointing game and no IoU: this handmade ends in dense layers, so it has no class map."
        ]

    def test_without_outlines(self, ask: Ask) -> None:
        value = ask(looking_at(TUMOUR), masks=False)
        assert (value["inpainting"], value["controlled"]) == ([], [])
        assert value["robustness"]["clean"]["accuracy"]["value"] == 1
        assert value["lacks"] == ["No in-painting, pointing game or IoU: no slice has a tumour outline."]

    def test_the_files(self, ask: Ask, tmp_path: Path) -> None:
        ask(looking_at(TUMOUR))
        folder = tmp_path / "run" / "stress"
        assert {p.name for p in folder.iterdir()} == {"stress.json", "slices.csv", "stress.html", "run.json"}
        with (folder / "slices.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 4 * 17 + 2 * 5
        one = [r for r in rows if r["change"] == "tumour tissue"]
        assert [(r["label"], r["predicted"], r["note"]) for r in one] == [("glioma", "no_tumor", "mirror")] * 2
        page = (folder / "stress.html").read_text(encoding="utf-8")
        assert page.count('<svg class="chart"') == 4
        assert page.count("<img") == 2 * 6

    def test_the_sample_is_drawn_by_the_seed(self, ask: Ask) -> None:
        value = ask(looking_at(TUMOUR), looking_at(TUMOUR), sample=3, seed=4)
        assert (value["slices"], value["sample"], value["seed"]) == (3, 3, 4)

    def test_a_sample_of_none(self, ask: Ask) -> None:
        with pytest.raises(InputError, match="leave --sample out"):
            ask(looking_at(TUMOUR), sample=0)

    def test_weights_that_are_not_finite(self, ask: Ask) -> None:
        model = looking_at(TUMOUR)
        with torch.no_grad():
            assert model.head.bias is not None
            model.head.bias.fill_(torch.nan)
        with pytest.raises(InputError, match="run holds weights that are not finite"):
            ask(model)


class TestControls:
    """Twenty large tumours whose filling tips the answer, and twenty small ones whose filling does not."""

    @staticmethod
    def rows(controls: Callable[[str, int], bool]) -> list[Row]:
        made = []
        for i in range(40):
            after = 0.1 if i < 20 else 0.9
            sure, fallen = Answer(0.9, "glioma"), Answer(after, "glioma" if after > 0.5 else "no_tumor")
            places = {(p, h): fallen if p == "tumour" else sure for p in ("tumour", "healthy") for h in METHODS}
            filled = {key: said for key, said in places.items() if key[0] == "tumour" or controls(key[1], i)}
            record = Record(f"{i}.png", Path(f"{i}.png"), "glioma", f"p{i}")
            levels = {CLEAN: sure} | {(d.name, float(s)): sure for d in DEGRADATIONS for s in d.strengths}
            missing = {key: NO_PLACE for key in places if key not in filled}
            made.append(Row(record, levels, filled, {}, missing))
        return made

    def said(self, controls: Callable[[str, int], bool]) -> tuple[dict[str, Any], str]:
        rows = self.rows(controls)
        value = summarise(rows, [str(r.record.patient) for r in rows], seed=0)
        return value, str(value["finding"]).replace("\N{NO-BREAK SPACE}", " ")

    def test_tumours_are_compared_with_their_own_controls(self) -> None:
        """Only the small ones leave a healthy place: of the same slices no answer falls with or without the tumour."""
        value, finding = self.said(lambda _, i: i >= 20)
        no_more = "in 0 % with the tumour filled in and in 0 % with as much healthy tissue (20 slices with both fills)"
        assert finding.startswith(f"{COUNTED} by Telea's method, {no_more}; by tissue, {no_more}. Accuracy is")
        assert [(c["tumour"].value, c["healthy"].value, c["tumour"].n) for c in value["controlled"]] == [(0, 0, 20)] * 2
        assert [f["falls"].value for f in value["inpainting"] if f["place"] == "tumour"] == [0.5, 0.5]

    def test_without_a_control_the_tumours_stand_alone(self) -> None:
        value, finding = self.said(lambda how, i: how == "tissue" and i < 1)
        assert (
            "by Telea's method, in 50 % with the tumour filled in (40 slices, none with a place for a control"
            in finding
        )
        assert (
            "by tissue, in 100 % with the tumour filled in and in 0 % with as much healthy tissue (1 slice with"
            in finding
        )
        assert [(c["slices"], c["healthy"].n) for c in value["controlled"]] == [(0, 0), (1, 1)]


def test_the_model_is_left_as_it_was_and_draws_are_the_slices_own(tmp_path: Path) -> None:
    records = list(open_dataset(write_heads(tmp_path / "data")))
    model = looking_at(TUMOUR).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    spec = model.spec.preprocess
    first = view(records[0], spec, 0, fill=True)
    rows = Judge(model).answers([view(records[3], spec, 0, fill=False), first])
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    alone = Judge(model).answers([view(records[0], spec, 0, fill=True)])
    assert rows[1].filled == alone[0].filled
    assert rows[1].levels == alone[0].levels
    noise = "noise", 0.2
    assert not np.array_equal(first.levels[noise].slice, view(records[0], spec, 1, fill=False).levels[noise].slice)


class TestDegenerate:
    @staticmethod
    def missing(pixels: np.ndarray, mask: np.ndarray) -> dict[tuple[str, str], str]:
        found = filled(Image(pixels.astype(np.float32)), mask, plane="axial", rng=np.random.default_rng(0))
        assert set(found.pixels) | set(found.missing) == set(FILLS)
        assert all(np.isfinite(p).all() and p.dtype == np.float32 for p in found.pixels.values())
        return found.missing

    def test_an_empty_outline(self) -> None:
        mask = np.zeros((32, 32), bool)
        assert self.missing(np.ones((32, 32)), mask) == dict.fromkeys(FILLS, NO_OUTLINE)

    def test_a_full_outline(self) -> None:
        said = self.missing(np.random.default_rng(0).random((32, 32)), np.ones((32, 32), bool))
        assert said == {
            ("tumour", "telea"): SURROUNDED, ("tumour", "tissue"): NO_TISSUE, ("healthy", "telea"): NO_PLACE,
            ("healthy", "tissue"): NO_PLACE, ("corners", "background"): IN_CORNER,
        }  # fmt: skip

    def test_an_outline_around_the_whole_head(self) -> None:
        pixels = np.zeros((64, 64))
        pixels[16:48, 16:48] = 9
        said = self.missing(pixels, pixels > 0)
        assert set(said) == {("tumour", "tissue"), ("healthy", "telea"), ("healthy", "tissue")}

    def test_a_blank_picture(self) -> None:
        mask = np.zeros((32, 32), bool)
        mask[10:14, 10:14] = True
        assert self.missing(np.full((32, 32), 7.0), mask) == {}

    @pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2)])
    def test_tiny_pictures(self, shape: tuple[int, int]) -> None:
        mask = np.zeros(shape, bool)
        mask[0, 0] = True
        assert ("healthy", "tissue") in self.missing(np.arange(np.prod(shape)).reshape(shape), mask)


class TestCommandLine:
    def test_document_tables_and_quiet(self, gyrus: Gyrus, fresh_run: Path, tmp_path: Path) -> None:
        value = gyrus("stress", fresh_run, "--sample", 3, "--device", "cpu", "--json").document("gyrus.stress/1")
        assert value == read_json(fresh_run / "stress" / "stress.json", "a stress test")
        assert value["slices"] == 3
        assert value["synthetic"] is True
        manifest = read_manifest(fresh_run / "stress")
        assert (manifest["stage"], manifest["arguments"]) == ("stress", {"sample": 3, "seed": 0})
        before = tree(fresh_run)
        assert "already exists" in gyrus("stress", fresh_run, "--sample", 3).refusal()
        again = gyrus("stress", fresh_run, "--sample", 3, "--out", tmp_path / "again")
        assert (again.code, again.err) == (0, "")
        assert "Rician noise" in again.out
        assert "patient-wise" in again.out.splitlines()[0]
        assert read_json(tmp_path / "again" / "stress.json", "a stress test") == value  # nothing is left to chance
        quiet = gyrus("stress", fresh_run, "--sample", 1, "--out", tmp_path / "quiet", "--quiet")
        assert quiet == Said(0, "", "")
        assert tree(fresh_run) == before

    def test_bad_input(self, gyrus: Gyrus, fresh_run: Path, tmp_path: Path) -> None:
        assert str(tmp_path / "gone") in gyrus("stress", tmp_path / "gone").refusal()
        assert "--sample" in gyrus("stress", fresh_run, "--sample", 0).refusal()
        said = gyrus("stress", fresh_run, "--device", "tpu", "--sample", 1).refusal()
        assert "'tpu'" in said
        (fresh_run / "run.json").unlink()
        assert "did not finish" in gyrus("stress", fresh_run).refusal()
        assert not (fresh_run / "stress").exists()

    def test_a_slice_that_cannot_be_read(self, gyrus: Gyrus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = write_heads(tmp_path / "data")
        split = holdout(open_dataset(data), (0.5, 0.0, 0.5))
        run = write_run(tmp_path / "run", data, split)
        monkeypatch.setattr("gyrus.stress.run.load_model", lambda _run, device: looking_at(TUMOUR))
        path = data / split.test[0]
        path.write_bytes(b"\0" * path.stat().st_size)  # of the same size, so that the fingerprint stays
        assert str(path) in gyrus("stress", run).refusal()
        assert not (run / "stress").exists()
