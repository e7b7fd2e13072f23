"""Calibrating a run: what is written, what is left alone, and what predictions are from then on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from commandline import Gyrus, tree
from discs import write_discs

from gyrus.artifacts import read_manifest, sha256
from gyrus.calibrate import calibrate_run
from gyrus.certainty.novelty import SCORES
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.evaluate import evaluate_run
from gyrus.models import load_model, save_model
from gyrus.models.classifier import pool
from gyrus.predictions import Predictions
from gyrus.preprocess import frame_of, prepare
from gyrus.records import Record
from gyrus.report import write_report
from gyrus.rundata import open_run_data
from gyrus.splits import Split, split_dataset
from gyrus.stages import explain_run, predict_files, predict_run, train_run
from gyrus.thresholds import find_threshold, learn
from gyrus.training import make_config


@pytest.fixture(scope="module")
def calibrated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run, calibrated to hold the true class in 0.6: two persons of a class are enough."""
    run = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(trained, run)
    calibrate_run(run, coverage=0.6, false_refusals=0.1, device="cpu")
    return run


@pytest.fixture(scope="module")
def predicted(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    """Its test part, read again from the file."""
    out = tmp_path_factory.mktemp("predicted") / "predict"
    predict_run(calibrated, out=out, device="cpu")
    return Predictions.load(out / "predictions.json")


def class_maps(run: Path, part: str) -> Iterator[tuple[Record, np.ndarray]]:
    """Yield the slices of a part, each with the class map of its predicted class laid over it."""
    data, split = open_run_data(run)
    model = load_model(run / "model")
    for record in data.select(split.part(part)):
        image = record.read()
        with torch.no_grad():
            evidence = model.class_map(
                model.features(model.normalise(torch.from_numpy(prepare(image, model.spec.preprocess))[None]))
            )[0]
            best = int(pool(evidence[None], model.spec.pooling).argmax())
        yield record, frame_of(image, model.spec.preprocess).place(evidence[best].numpy())


class TestFiles:
    def test_the_trained_model_is_left_alone_and_the_same_weights_stand_beside_it(
        self, trained: Path, calibrated: Path
    ) -> None:
        assert list(tree(calibrated / "model").values()) == list(tree(trained / "model").values())
        found = calibrated / "calibrate"
        assert {p.name for p in found.iterdir()} == {
            *("model.safetensors", "model.json", "card.md", "reference.safetensors", "run.json"),
        }
        assert sha256(found / "model.safetensors") == sha256(trained / "model" / "model.safetensors")
        manifest = read_manifest(found)
        assert (manifest["stage"], manifest["arguments"]["coverage"]) == ("calibrate", 0.6)
        assert (found / "reference.safetensors").stat().st_size < 2**20

    def test_a_run_stands_for_its_calibrated_model(self, calibrated: Path) -> None:
        spec = load_model(calibrated).spec
        assert spec.calibration is not None
        assert spec == load_model(calibrated / "calibrate").spec
        assert load_model(calibrated / "model").spec.calibration is None
        assert spec.model_copy(update={"calibration": None}) == load_model(calibrated / "model").spec

    def test_what_was_found(self, calibrated: Path) -> None:
        found = load_model(calibrated).spec.calibration
        split = Split.load(calibrated / "split.json")
        assert found is not None
        assert found.statement == f"the validation part of {split.statement}"
        assert (found.slices, found.persons) == (len(split.val), len({split.groups[i] for i in split.val}))
        assert found.reference_slices == len(split.train)
        assert sum(found.persons_per_class.values()) == found.persons

    def test_the_outline_is_cut_where_it_overlaps_most_on_the_validation_part(
        self, trained: Path, calibrated: Path
    ) -> None:
        found = load_model(calibrated).spec.calibration
        assert found is not None
        placed, masks = [], []
        for record, evidence in class_maps(trained, "val"):
            mask = record.read_mask(evidence.shape)
            if mask is not None and mask.any():
                placed.append(evidence)
                masks.append(mask)
        best = learn(placed, masks)
        assert best.learned is not None
        assert found.cut == best.name.removeprefix("learned ")
        assert found.cut_slices == len(masks)
        assert found.cut_iou == pytest.approx(best.learned.score, abs=1e-3)
        assert f"map cut at {found.cut}" in (calibrated / "calibrate" / "card.md").read_text(encoding="utf-8")

    def test_the_card_says_so(self, trained: Path, calibrated: Path) -> None:
        card = (calibrated / "calibrate" / "card.md").read_text(encoding="utf-8")
        assert "Calibrated on the validation part of" in card
        assert "true class of 60% of slices" in card
        assert "Not calibrated" in (trained / "model" / "card.md").read_text(encoding="utf-8")

    def test_every_score_can_be_chosen_and_is_kept_small(self, fresh_run: Path, tmp_path: Path) -> None:
        for score in SCORES:
            calibrate_run(fresh_run, novelty=score, out=tmp_path / score, device="cpu")
            model = load_model(tmp_path / score)
            assert model.spec.calibration is not None
            assert model.spec.calibration.novelty == score
            said = predict_run(fresh_run, part="val", out=tmp_path / f"{score}-predict", device="cpu")
            assert said.certainty is None  # a folder of its own is not what the run stands for

    def test_a_reference_of_another_model_is_refused(self, calibrated: Path, tmp_path: Path) -> None:
        model = Path(shutil.copytree(calibrated / "calibrate", tmp_path / "model"))
        whole = (model / "reference.safetensors").read_bytes()
        (model / "reference.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(InputError, match=r"reference\.safetensors is not the file"):
            load_model(model)
        (model / "reference.safetensors").unlink()
        with pytest.raises(InputError, match=r"reference\.safetensors does not exist"):
            load_model(model)

    def test_a_model_that_an_earlier_gyrus_calibrated_is_refused(self, calibrated: Path, tmp_path: Path) -> None:
        model = load_model(calibrated)
        model.reference = {name: values for name, values in model.reference.items() if name != "upright"}
        save_model(model, tmp_path / "model")
        with pytest.raises(InputError, match=r"of an earlier gyrus: remove .*model, and calibrate again"):
            load_model(tmp_path / "model")


class TestPredictions:
    def test_logits_stay_raw_and_probabilities_are_calibrated(
        self, calibrated: Path, trained: Path, predicted: Predictions, tmp_path: Path
    ) -> None:
        raw = predict_run(trained, out=tmp_path / "raw", device="cpu")
        assert raw.certainty is None
        assert np.array_equal(raw.logits, predicted.logits)
        spec = load_model(calibrated).spec
        assert spec.calibration is not None
        powers = np.exp(raw.logits.astype(float) / spec.calibration.temperature)
        assert predicted.probabilities == pytest.approx(powers / powers.sum(axis=1, keepdims=True))

    def test_a_set_holds_the_classes_above_their_thresholds(self, calibrated: Path, predicted: Predictions) -> None:
        spec = load_model(calibrated).spec
        assert spec.calibration is not None
        assert predicted.certainty is not None
        assert predicted.answered
        for i in predicted.answered:
            expected = tuple(
                c for c, p in zip(spec.classes, predicted.probabilities[i], strict=True)
                if p >= spec.calibration.thresholds[c]
            )  # fmt: skip
            assert predicted.certainty.sets[i] == expected
            assert (predicted.status[i] == "ok") == (predicted.reasons[i] == "")

    def test_the_outline_is_measured_where_a_tumour_is_answered(
        self, trained: Path, calibrated: Path, predicted: Predictions
    ) -> None:
        spec = load_model(calibrated).spec
        assert spec.calibration is not None
        marked = 0
        for row, (_, evidence) in zip(predicted.rows(), class_maps(trained, "test"), strict=True):
            if row["predicted"] in (None, "no_tumor"):
                assert row["outline"] is None
                continue
            kept = find_threshold(str(spec.calibration.cut)).keep(evidence)
            if row["outline"] is None:
                assert kept.sum() < 20  # two ways of adding up the same map may part at its cut
                continue
            marked += 1
            assert row["outline"]["area"] == pytest.approx(kept.sum(), abs=20)
            assert row["outline"]["unit"] == "px"
        assert marked > 2

    def test_one_slice_is_judged_as_among_many(
        self, calibrated: Path, tiny_phantom: Path, predicted: Predictions
    ) -> None:
        file = Path(predicted.files[0])
        alone = predict_files(calibrated, [file], device="cpu")
        assert (alone.status[0], alone.reasons[0]) == (predicted.status[0], predicted.reasons[0])
        assert alone.certainty is not None
        assert predicted.certainty is not None
        assert alone.certainty.novelty[0] == pytest.approx(predicted.certainty.novelty[0], rel=1e-3)

    def test_rubbish_is_refused_in_words(self, calibrated: Path, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        pictures = {
            "blank": np.full((80, 80), 90, np.uint8),
            "noise": rng.integers(0, 256, (80, 80), dtype=np.uint8),
            "photo": rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1),
        }
        files = [tmp_path / f"{name}.png" for name in pictures]
        for file, pixels in zip(files, pictures.values(), strict=True):
            cv2.imwrite(str(file), pixels)
        (tmp_path / "empty.png").write_bytes(b"")
        said = predict_files(calibrated, [*files, tmp_path / "empty.png"], keep_going=True, device="cpu")
        assert said.status == ("refused", "refused", "refused", "unreadable")
        assert said.predicted == (None,) * 4
        assert ["one grey" in said.reasons[0], "Noise alone" in said.reasons[1], "coloured" in said.reasons[2]] == [
            True
        ] * 3
        assert said.certainty is not None
        assert said.certainty.sets == (None,) * 4
        assert np.isfinite(said.logits[:3]).all()

    def test_only_unreadable_files(self, calibrated: Path, tmp_path: Path) -> None:
        (tmp_path / "empty.png").write_bytes(b"")
        said = predict_files(calibrated, [tmp_path / "empty.png"], keep_going=True, device="cpu")
        assert said.status == ("unreadable",)

    def test_the_models_modes_and_random_state_are_left_as_found(self, calibrated: Path, tiny_phantom: Path) -> None:
        model = load_model(calibrated).train()
        before = torch.get_rng_state()
        predict_files(model, [next((tiny_phantom / "images").iterdir())], device="cpu")
        assert all(m.training for m in model.modules())
        assert torch.equal(torch.get_rng_state(), before)


def test_scores_and_report_of_a_calibrated_run(calibrated: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(calibrated, tmp_path / "run"))
    predict_run(run, device="cpu")
    explain_run(run, methods=["cam"], device="cpu")
    scores = evaluate_run(run)
    found = scores["certainty"]
    assert found["calibrated"] is True
    assert found["sets"]["asked"] == 0.6
    assert sum(found["answers"]["counts"].values()) == found["brier"]["n"]
    page = write_report(run).read_text(encoding="utf-8")
    assert "The probabilities are calibrated" in page
    assert "Holds the true class" in page
    assert "Reliability per slice" in page


def test_two_exams_of_one_person_are_one(tmp_path: Path) -> None:
    """The split has merged their ids, which the records still carry."""
    discs = write_discs(tmp_path / "discs", patients=8, slices=2, side=40)
    table = discs.root / "manifest.csv"
    text = table.read_text(encoding="utf-8")
    for label, start in (("g", 1000), ("m", 2000)):
        for i in range(8):
            text = text.replace(f",{label}{i}\n", f",MR{start + i // 2}{'B' if i % 2 else ''}\n")
    table.write_text(text, encoding="utf-8")
    (split,) = split_dataset(discs.root, tmp_path / "split.json", fractions=(0.5, 0.25, 0.25))
    assert len({r.patient for r in open_dataset(discs.root).select(split.val)}) == 4
    config = make_config(model="mobilenetv2_100", pretrained="none", size=32, epochs=1, device="cpu")
    train_run(discs.root, tmp_path / "split.json", config, tmp_path / "run")
    made = calibrate_run(tmp_path / "run", coverage=0.4, false_refusals=0.1, device="cpu")
    found = made["runs"][0]["calibration"]
    assert (found["slices"], found["persons"]) == (8, 2)
    assert found["persons_per_class"] == {"glioma": 1, "meningioma": 1}


class TestRefusals:
    def test_a_second_time(self, calibrated: Path) -> None:
        with pytest.raises(InputError, match="already exists"):
            calibrate_run(calibrated)

    def test_a_split_without_validation(self, fresh_run: Path) -> None:
        split = Split.load(fresh_run / "split.json")
        (fresh_run / "split.json").unlink()
        Split(**{**split.__dict__, "val": (), "train": (*split.train, *split.val)}).save(fresh_run / "split.json")
        before = tree(fresh_run)
        with pytest.raises(InputError, match="without a validation part"):
            calibrate_run(fresh_run)
        assert tree(fresh_run) == before

    @pytest.mark.parametrize("options", [{"novelty": "magic"}, {"coverage": 1.0}, {"false_refusals": -1.0}])
    def test_options_out_of_range_leave_nothing(self, fresh_run: Path, options: dict[str, object]) -> None:
        before = tree(fresh_run)
        with pytest.raises(InputError, match="choose"):
            calibrate_run(fresh_run, device="cpu", **options)  # type: ignore[arg-type]
        assert tree(fresh_run) == before


def test_each_run_of_a_cross_validation_is_calibrated(trained: Path, tmp_path: Path) -> None:
    for name in ("fold-1", "fold-2"):
        shutil.copytree(trained, tmp_path / "folds" / name)
    with pytest.raises(InputError, match="leave out --out"):
        calibrate_run(tmp_path / "folds", out=tmp_path / "out")
    made = calibrate_run(tmp_path / "folds", device="cpu")
    assert [Path(r["model"]).parent.name for r in made["runs"]] == ["fold-1", "fold-2"]
    assert load_model(tmp_path / "folds" / "fold-2").spec.calibration is not None


def test_the_command_line(gyrus: Gyrus, fresh_run: Path, tmp_path: Path, tiny_phantom: Path) -> None:
    made = gyrus("calibrate", fresh_run, "--coverage", 0.6, "--json").document("gyrus.calibration/1")
    assert made["runs"][0]["calibration"]["coverage"] == 0.6
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((80, 80), 90, np.uint8))
    said = gyrus("predict", tmp_path / "blank.png", "--model", fresh_run, "--json").document("gyrus.predictions/2")
    assert said["calibrated"] is True
    assert (said["rows"][0]["status"], said["rows"][0]["predicted"]) == ("refused", None)
    printed = gyrus("predict", tmp_path / "blank.png", "--model", fresh_run).out
    assert "refused: " in printed
    assert "one grey" in printed
    text = gyrus("calibrate", fresh_run, "--coverage", 0.95, "--out", tmp_path / "more").out
    assert "at least 19 of a class are needed" in text
    assert json.loads((tmp_path / "more" / "model.json").read_text())["calibration"]["coverage"] == 0.95
    assert "choose from" in gyrus("calibrate", fresh_run, "--novelty", "magic").refusal()
