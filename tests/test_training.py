from __future__ import annotations

import csv
import json
import logging
import math
import random
import resource
import shutil
import signal
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from discs import STILL, small_config, write_discs

from gyrus import training
from gyrus.artifacts import read_manifest, sha256
from gyrus.batches import Batches
from gyrus.epochs import EpochTable, WholeFiles
from gyrus.errors import GyrusError, InputError
from gyrus.inference import predict
from gyrus.loading import load_slices
from gyrus.models import Classifier, create_model, load_model
from gyrus.records import Dataset
from gyrus.splits import Split, holdout
from gyrus.training import TrainConfig, fit, make_config

# lightning 2.6 asks torch 2.15 for something that it announces to drop; nothing a caller of Trainer can change

PARTS = [
    f"{p}_{f}" for p in ("train", "val") for f in ("loss", "accuracy", "macro_precision", "macro_recall", "macro_f1")
]
COLUMNS = ["epoch", *PARTS, "learning_rate", "seconds"]


class StopError(Exception):
    """Raised from a progress callback."""


@dataclass
class Run:
    dataset: Dataset
    split: Split
    config: TrainConfig
    out: Path
    model: Classifier
    said: list[tuple[str, int, int]]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "epochs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def description(out: Path) -> dict[str, object]:
    return json.loads((out / "model" / "model.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stopping_at(step: int) -> object:
    def progress(what: str, done: int, total: int) -> None:
        if what.startswith("epoch") and done == step:
            raise StopError

    return progress


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("training") / "discs")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("training") / "few", patients=4, slices=2)


@pytest.fixture(scope="module")
def run(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run, whose test files were turned into garbage of the same size before it began."""
    split = holdout(discs, (0.6, 0.2, 0.2))
    for held_out in split.test:
        path = discs[held_out].path
        path.write_bytes(held_out.encode().ljust(path.stat().st_size, b"\x00"))
    config = small_config(epochs=6, batch_size=4)
    out, said = tmp_path_factory.mktemp("training") / "deep" / "run", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(out / "absent"))  # nothing may go by way of another disk
        model = fit(discs, split, config, out, progress=lambda *call: said.append(call))
    return Run(discs, split, config, out, model, said)


@pytest.fixture(scope="module")
def half(few: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped in its second epoch."""
    out = tmp_path_factory.mktemp("training") / "half"
    with pytest.raises(StopError):
        fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(), out, progress=stopping_at(2))
    return out


@pytest.fixture
def unfinished(half: Path, tmp_path: Path) -> Path:
    return shutil.copytree(half, tmp_path / "unfinished")


def test_it_learns(run: Run) -> None:
    chosen = rows_of(run.out)[run.model.spec.training["epoch"] - 1]
    assert float(chosen["val_accuracy"]) > 0.9
    val = predict(run.model, [run.dataset[i] for i in run.split.val])
    assert np.mean([a == b for a, b in zip(val.predicted, val.labels, strict=True)]) > 0.9


def test_the_test_part_is_never_read(run: Run) -> None:
    assert len(run.split.test) == 16
    for held_out in run.split.test:
        with pytest.raises(InputError):
            run.dataset[held_out].read()
    assert (run.out / "run.json").is_file()


def test_epochs_csv_has_one_row_per_epoch(run: Run) -> None:
    rows = rows_of(run.out)
    assert list(rows[0]) == COLUMNS
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(float(v)) for row in rows for v in row.values())
    assert all(0 <= float(row[c]) <= 1 for row in rows for c in PARTS if "loss" not in c)
    rates = [float(row["learning_rate"]) for row in rows]
    assert max(rates) <= run.config.learning_rate
    assert rates[-1] == min(rates)


def test_the_kept_epoch_is_the_one_of_least_validation_loss(run: Run) -> None:
    rows = rows_of(run.out)
    losses = [float(row["val_loss"]) for row in rows]
    chosen = losses.index(min(losses))
    assert run.model.spec.training["epoch"] == chosen + 1
    assert description(run.out)["training"]["epoch"] == chosen + 1
    assert description(run.out)["metrics"] == {k: float(v) for k, v in rows[chosen].items() if k.startswith("val_")}


def test_the_kept_weights_are_those_of_the_kept_epoch(run: Run) -> None:
    val = predict(load_model(run.out), [run.dataset[i] for i in run.split.val])
    labels = torch.tensor([val.classes.index(str(label)) for label in val.labels])
    loss = F.cross_entropy(torch.from_numpy(val.logits), labels).item()
    assert loss == pytest.approx(run.model.spec.metrics["val_loss"], rel=1e-3, abs=1e-6)


def test_the_returned_model_is_the_saved_one(run: Run) -> None:
    loaded = load_model(run.out)
    assert loaded.spec == run.model.spec
    assert not any(m.training for m in run.model.modules())
    state = run.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())
    assert {p.device.type for p in run.model.parameters()} == {"cpu"}


def test_the_run_says_what_it_was(run: Run) -> None:
    manifest = json.loads((run.out / "run.json").read_text())
    assert manifest["stage"] == "train"
    assert manifest["seed"] == 0
    assert manifest["data"]["fingerprint"] == run.dataset.fingerprint
    assert manifest["split"] == run.split.statement
    assert manifest["record_wise"] is False
    assert TrainConfig.model_validate(manifest["arguments"]) == run.config
    files = {"config.json", "epochs.csv", "split.json", *(f"model/model.{s}" for s in ("json", "safetensors"))}
    assert set(manifest["outputs"]) == files | {"model/card.md"}
    assert all(sha256(run.out / name) == entry["sha256"] for name, entry in manifest["outputs"].items())
    assert set(contents(run.out)) == {*manifest["outputs"], "run.json"}
    assert Split.load(run.out / "split.json") == run.split


def test_the_model_says_what_it_learned_from(run: Run) -> None:
    training = run.model.spec.training
    assert training["data"] == "manifest"
    assert training["fingerprint"] == run.dataset.fingerprint
    assert "no patient is on both sides" in training["split"]
    assert training["record_wise"] is False
    assert run.model.classes == ("glioma", "meningioma")
    assert run.model.spec.preprocess.size == 64


def test_progress_is_told_of_every_step(run: Run) -> None:
    steps = [(what, done, total) for what, done, total in run.said if what.startswith("epoch")]
    assert [done for _, done, _ in steps] == list(range(1, 6 * 12 + 1))
    assert {total for _, _, total in steps} == {72}
    assert (steps[0][0], steps[-1][0]) == ("epoch 1/6", "epoch 6/6")
    assert ("reading train", 48, 48) in run.said
    assert ("reading val", 16, 16) in run.said


def test_a_finished_run_is_never_written_to(run: Run) -> None:
    before = contents(run.out)
    for resume in (False, True):
        with pytest.raises(InputError, match="holds a finished run"):
            fit(run.dataset, run.split, run.config, run.out, resume=resume)
    assert contents(run.out) == before


def test_the_same_seed_gives_the_same_weights_and_no_generator_is_touched(few: Dataset, tmp_path: Path) -> None:
    split = holdout(few, (0.5, 0.25, 0.25))
    torch.manual_seed(11)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = fit(few, split, small_config(), tmp_path / "first").state_dict()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])
    torch.manual_seed(12)
    second = fit(few, split, small_config(), tmp_path / "second").state_dict()
    other = fit(few, split, small_config(seed=1), tmp_path / "other").state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_record_wise_split_is_named_everywhere(few: Dataset, tmp_path: Path) -> None:
    split = holdout(few, (0.5, 0.25, 0.25), grouping="record-wise")
    model = fit(few, split, small_config(epochs=1), tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "RECORD-WISE" in manifest["split"]
    assert manifest["record_wise"] is True
    assert "RECORD-WISE" in description(tmp_path / "run")["training"]["split"]
    assert model.spec.training["record_wise"] is True
    assert "RECORD-WISE" in (tmp_path / "run" / "model" / "card.md").read_text()


def test_without_a_validation_part_the_last_epoch_is_kept(few: Dataset, tmp_path: Path) -> None:
    model = fit(few, holdout(few, (0.5, 0, 0.5)), small_config(), tmp_path / "run")
    assert model.spec.training["epoch"] == 2
    assert model.spec.metrics == {}
    rows = rows_of(tmp_path / "run")
    assert list(rows[0]) == [c for c in COLUMNS if not c.startswith("val_")]
    assert len(rows) == 2
    assert "Measured on the validation part" in (tmp_path / "run" / "model" / "card.md").read_text()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_by_hand(few: Dataset, tmp_path: Path, weighted: bool, smoothing: float) -> None:
    """One step over all slices, nothing augmented: the loss of the new network, 6 discs against 2 rings."""
    whole = holdout(few, (0.5, 0, 0.5))
    discs = [i for i in (*whole.train, *whole.test) if few[i].label == "glioma"][:6]
    rings = [i for i in whole.train if few[i].label == "meningioma"][:2]
    split = replace(whole, train=(*discs, *rings), test=())
    config = small_config(epochs=1, batch_size=8, augment=STILL, class_weights=weighted, label_smoothing=smoothing)
    fit(few, split, config, tmp_path / "run")
    model = create_model("mobilenetv2_100", ("glioma", "meningioma"), output_stride=8, truncate=True, channels=1)
    records = [few[i] for i in split.train]
    slices = load_slices(records, model.spec.preprocess.model_copy(update={"size": 64}))
    with torch.no_grad():
        logits = model(model.normalise(torch.from_numpy(slices))).double().numpy()  # in training mode
    likely = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    target = np.array([[1, 0]] * 6 + [[0, 1]] * 2) * (1 - smoothing) + smoothing / 2
    weight = np.array([8 / (2 * 6), 8 / (2 * 2)]) if weighted else np.ones(2)
    by_hand = -(target * weight * likely).sum() / (6 * weight[0] + 2 * weight[1])
    assert float(rows_of(tmp_path / "run")[0]["train_loss"]) == pytest.approx(by_hand, rel=1e-4)


def test_a_left_over_slice_never_stands_alone_in_a_batch(few: Dataset, tmp_path: Path) -> None:
    """At 32 px and stride 32 a batch of one has one number per channel, which no batch normalisation takes."""
    whole = holdout(few, (0.5, 0, 0.5))
    split = replace(whole, train=whole.train[1:6], test=())
    assert {few[i].label for i in split.train} == {"glioma", "meningioma"}
    config = small_config(size=32, truncate=False, output_stride=None, batch_size=2, epochs=1)
    assert fit(few, split, config, tmp_path / "run").spec.training["epoch"] == 1


def test_bfloat16_on_request(few: Dataset, tmp_path: Path) -> None:
    model = fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(precision="bf16"), tmp_path / "run")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    losses = [float(row["train_loss"]) for row in rows_of(tmp_path / "run")]
    assert all(0 < loss < 5 for loss in losses)


def test_a_run_killed_before_it_is_listed_is_finished_without_training_again(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, called = holdout(few, (0.5, 0.25, 0.25)), list[str]()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(few, split, small_config(), tmp_path / "run")
    first = load_model(tmp_path / "run").state_dict()
    model = fit(
        few, split, small_config(), tmp_path / "run", resume=True, progress=lambda what, *_: called.append(what)
    )
    assert not [what for what in called if what.startswith("epoch")]
    assert all(torch.equal(value, first[k]) for k, value in model.state_dict().items())
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert not [name for name in read_manifest(tmp_path / "run")["outputs"] if "checkpoints" in name]


def test_a_full_disk_is_told_as_one_and_leaves_no_half(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # no file may grow beyond, as on a disk with no room
    try:
        with pytest.raises(OSError, match="is the disk full") as said:
            WholeFiles().save_checkpoint({"weights": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.value.filename == str(tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_continued_only_on_request(unfinished: Path, few: Dataset) -> None:
    before = contents(unfinished)
    assert "run.json" not in before
    assert "checkpoints/last.ckpt" in before
    with pytest.raises(InputError, match="continue it with --resume"):
        fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(), unfinished)
    assert contents(unfinished) == before


@pytest.mark.parametrize("changed", [{"epochs": 3}, {"seed": 1}, {"augment": STILL}, {"pretrained": "hub"}])
def test_other_arguments_are_refused_on_resuming(unfinished: Path, few: Dataset, changed: dict[str, object]) -> None:
    before = contents(unfinished)
    with pytest.raises(InputError, match="other arguments"):
        fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(**changed), unfinished, resume=True)
    assert contents(unfinished) == before


def test_another_split_is_refused_on_resuming(unfinished: Path, few: Dataset) -> None:
    before = contents(unfinished)
    with pytest.raises(InputError, match="another split"):
        fit(few, holdout(few, (0.5, 0.25, 0.25), seed=1), small_config(), unfinished, resume=True)
    assert contents(unfinished) == before


def test_a_run_killed_before_its_recipe_was_written_is_continued(few: Dataset, tmp_path: Path) -> None:
    split, out = holdout(few, (0.5, 0.25, 0.25)), tmp_path / "run"
    split.save(out / "split.json")
    (out / ".config.json.partial").write_text("{")
    with pytest.raises(InputError, match="not a training run"):
        fit(few, split, small_config(epochs=1), out)
    with pytest.raises(InputError, match="another split"):
        fit(few, holdout(few, (0.5, 0.25, 0.25), seed=1), small_config(epochs=1), out, resume=True)
    fit(few, split, small_config(epochs=1), out, resume=True)
    assert set(contents(out)) == {*json.loads((out / "run.json").read_text())["outputs"], "run.json"}


def test_a_split_for_other_data_is_refused_and_nothing_is_written(run: Run, few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made for other data"):
        fit(few, run.split, small_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for resume in (False, True):
        with pytest.raises(InputError, match="not a training run"):
            fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(), tmp_path, resume=resume)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unreadable_training_slice_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    data = write_discs(tmp_path / "discs", patients=2, slices=1)
    split = holdout(data, (0.5, 0, 0.5))
    path = data[split.train[0]].path
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(InputError, match=path.name):
        fit(data, split, small_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_that_only_validation_has_is_refused(few: Dataset, tmp_path: Path) -> None:
    whole = holdout(few, (0.5, 0.25, 0.25))
    split = replace(whole, train=tuple(i for i in whole.train if few[i].label == "glioma"))
    with pytest.raises(InputError, match="a class that the train part lacks"):
        fit(few, split, small_config(), tmp_path / "run")
    with pytest.raises(InputError, match="classes"):
        fit(few, replace(split, val=()), small_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ctrl_c_is_passed_on_and_stays_switched_on(few: Dataset, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("epoch 2"):
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    split = holdout(few, (0.5, 0.25, 0.25))
    with pytest.raises(KeyboardInterrupt):
        fit(few, split, small_config(), tmp_path / "run", progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "run" / "run.json").exists()
    fit(few, split, small_config(), tmp_path / "run", resume=True)
    assert [int(row["epoch"]) for row in rows_of(tmp_path / "run")] == [1, 2]


def test_lightnings_chatter_is_quiet_at_the_level_of_warnings(
    few: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(epochs=1), tmp_path / "run")
    finally:
        logger.setLevel(level)
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


def test_a_loss_that_is_no_number_is_never_chosen_over_one_that_is() -> None:
    table = EpochTable()
    table.rows = [{"epoch": 1, "val_loss": math.nan}, {"epoch": 2, "val_loss": 0.7}, {"epoch": 3, "val_loss": 0.7}]
    assert table.chosen["epoch"] == 2
    table.rows = [{"epoch": 1, "val_loss": math.nan}, {"epoch": 2, "val_loss": math.nan}]
    assert table.chosen["epoch"] == 1


def test_which_epoch_is_kept() -> None:
    rows = [(1, 0.9, 0.7), (2, 0.4, 0.8), (3, 0.6, 0.9), (4, 0.5, 0.9), (5, 0.55, 0.9)]
    for choose, kept in (("loss", 2), ("accuracy", 4), ("last", 5)):
        table = EpochTable(choose)
        table.rows = [{"epoch": e, "val_loss": loss, "val_accuracy": accuracy} for e, loss, accuracy in rows]
        assert table.chosen["epoch"] == kept
        table.rows = [{"epoch": e} for e, _, _ in rows]  # no validation part
        assert table.chosen["epoch"] == 5


@pytest.mark.parametrize("choose", ["accuracy", "last"])
def test_the_epoch_asked_for_is_kept(few: Dataset, tmp_path: Path, choose: str) -> None:
    config = small_config(epochs=3, choose=choose, learning_rate=0.02)
    model = fit(few, holdout(few, (0.5, 0.25, 0.25)), config, tmp_path / "run")
    rows = rows_of(tmp_path / "run")
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert model.spec.training["epoch"] == (3 if choose == "last" else int(best["epoch"]))
    assert model.spec.metrics["val_loss"] == float(rows[model.spec.training["epoch"] - 1]["val_loss"])


def test_one_sigmoid_unit_trains_like_any_head(few: Dataset, tmp_path: Path) -> None:
    model = fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(head="sigmoid"), tmp_path / "run")
    assert model.head.weight.shape[0] == 1
    assert predict(model, list(few)[:2]).logits.sum(axis=1) == pytest.approx(0, abs=1e-6)
    assert "one sigmoid unit" in (tmp_path / "run" / "model" / "card.md").read_text()


def test_epoch_figures_by_hand(tmp_path: Path) -> None:
    """Two batches of unequal size: losses are weighted by it, and rates come from the summed confusion."""
    table = EpochTable()
    table.add("val", torch.tensor(1.0), torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 0]))
    table.add("val", torch.tensor(3.0), torch.tensor([[0.0, 2.0]]), torch.tensor([1]))

    class Trainer:
        current_epoch = 4
        optimizers = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.125),)

    table.on_train_epoch_end(Trainer(), None)
    row = table.rows[0]
    assert row["epoch"] == 5
    assert row["val_loss"] == pytest.approx((3 * 1 + 3) / 4)
    assert row["val_accuracy"] == 0.75
    assert row["val_macro_recall"] == pytest.approx((2 / 3 + 1) / 2)
    assert row["val_macro_precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert row["val_macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert row["learning_rate"] == 0.125


def test_a_recipe_from_plain_values() -> None:
    assert make_config(epochs=3, augment={"flip": 0.0}).augment.flip == 0
    for fields in ({"epochs": 0}, {"batch_size": 1}, {"modle": "x"}, {"augment": {"flip": 2}}):
        with pytest.raises(InputError, match=next(iter(fields))):
            make_config(**fields)


def test_every_pass_has_its_own_order_and_holds_each_slice_once() -> None:
    """The order depends on (seed, epoch) alone; there is no way to see it from outside a run."""
    pixels, labels = np.arange(7, dtype=np.uint8).reshape(7, 1, 1), torch.arange(7)
    epoch = [0]
    batches = Batches(pixels, labels, small_config(batch_size=3), epoch=lambda: epoch[0])

    def order() -> list[int]:
        passed = list(batches)
        assert [len(labels) for _, labels in passed] == [3, 2, 2]
        assert len(batches) == 3
        assert all(torch.equal(slices.flatten().long(), labels) for slices, labels in passed)
        return torch.cat([labels for _, labels in passed]).tolist()

    first = order()
    assert order() == first
    epoch[0] = 1
    assert order() != first
    assert sorted(order()) == sorted(first) == list(range(7))
    other = Batches(pixels, labels, small_config(batch_size=3, seed=1), epoch=lambda: 0)
    assert torch.cat([labels for _, labels in other]).tolist() != first
    plain = Batches(pixels, labels, small_config(batch_size=3))
    assert torch.cat([labels for _, labels in plain]).tolist() == list(range(7))


def test_a_loss_that_is_not_a_number_leaves_no_model(few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GyrusError, match=r"training loss of epoch . is not a number.*lower the learning rate"):
        fit(few, holdout(few, (0.5, 0.25, 0.25)), small_config(epochs=3, learning_rate=1e30), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / "run.json").exists()
