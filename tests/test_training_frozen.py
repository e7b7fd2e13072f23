"""Training the last layer alone, on features that are computed once."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from discs import small_config, write_discs
from numpy.typing import NDArray
from tiny_vgg import vgg_tiny  # noqa: F401 - registers itself

from gyrus.errors import InputError
from gyrus.inference import predict
from gyrus.loading import load_slices
from gyrus.models import Classifier, create_model, load_model
from gyrus.records import Dataset
from gyrus.splits import Split, holdout
from gyrus.training import TrainConfig, fit, make_config

CLASSES = ("glioma", "meningioma")


Array = NDArray[np.float64]


class StopError(Exception):
    """Raised from a progress callback."""


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("frozen") / "discs", patients=8)


@pytest.fixture(scope="module")
def split(discs: Dataset) -> Split:
    return holdout(discs, (0.5, 0.25, 0.25))


def frozen(**fields: object) -> TrainConfig:
    return small_config(frozen=True, epochs=6, learning_rate=0.05, **fields)


def new(config: TrainConfig) -> Classifier:
    """Return the network as it is before training, in evaluation mode."""
    return create_model(
        config.model, CLASSES, output_stride=8, truncate=True, channels=1, preprocess=config.preprocess(),
        pooling=config.pooling,
    ).eval()  # fmt: skip


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "epochs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("pooling", ["avg", "lse"])
def test_the_head_alone_learns_and_predictions_are_those_of_the_whole_network(
    discs: Dataset, split: Split, tmp_path: Path, pooling: str
) -> None:
    config = frozen(pooling=pooling)
    model = fit(discs, split, config, tmp_path / "run")
    before, after = new(config).state_dict(), load_model(tmp_path / "run").state_dict()
    assert {k for k in after if not torch.equal(before[k], after[k])} == {"head.weight", "head.bias"}
    rows = rows_of(tmp_path / "run")
    assert len(rows) == 6
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    val = predict(model, [discs[i] for i in split.val])
    labels = torch.tensor([CLASSES.index(str(label)) for label in val.labels])
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(val.logits), labels).item()
    assert loss == pytest.approx(float(rows[model.spec.training["epoch"] - 1]["val_loss"]), rel=1e-4)


def test_each_slice_goes_through_the_network_once(discs: Dataset, split: Split, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    fit(discs, split, frozen(batch_size=10), tmp_path / "run", progress=lambda *call: said.append(call))
    looked = [call for call in said if call[0].startswith("features of")]
    assert looked == [("features of train", 32, 32), ("features of val", 16, 16)]
    assert len([call for call in said if call[0].startswith("epoch")]) == 6 * 4


def steps(name: str, gradient: Callable[[Array], Array], start: Array, rate: float, decay: float) -> Array:
    """Return the weights after three steps of an optimiser, from its paper."""
    weight, momentum, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for n in (1, 2, 3):
        g = gradient(weight)
        if name == "sgd":
            momentum = 0.9 * momentum + g + decay * weight
            weight = weight - rate * momentum
            continue
        g = g + decay * weight if name == "adam" else g
        weight = weight * (1 - rate * decay) if name == "adamw" else weight
        momentum, square = 0.9 * momentum + 0.1 * g, 0.999 * square + 0.001 * g**2
        weight = weight - rate * (momentum / (1 - 0.9**n)) / (np.sqrt(square / (1 - 0.999**n)) + 1e-8)
    return weight


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_three_steps_by_hand(discs: Dataset, split: Split, tmp_path: Path, optimizer: str) -> None:
    """All slices at once, at a constant rate, in numpy."""
    config = small_config(
        frozen=True, epochs=3, batch_size=64, optimizer=optimizer, schedule="constant", learning_rate=0.05,
        weight_decay=0.1, label_smoothing=0, choose="last",
    )  # fmt: skip
    start = new(config)
    after = fit(discs, split, config, tmp_path / "run").head
    records = [discs[i] for i in split.train]
    slices = torch.from_numpy(load_slices(records, start.spec.preprocess))
    with torch.no_grad():
        features = start.body(start.normalise(slices)).mean(dim=(2, 3)).double().numpy()
    features = np.concatenate([features, np.ones((32, 1))], axis=1)  # the last column is for the bias
    right = np.eye(2)[[CLASSES.index(str(r.label)) for r in records]]

    def gradient(weight: Array) -> Array:
        odds = np.exp(features @ weight.T)
        return np.asarray((odds / odds.sum(axis=1, keepdims=True) - right).T @ features / 32)

    first = np.concatenate([start.head.weight[:, :, 0, 0].detach().double().numpy(), np.zeros((2, 1))], axis=1)
    expected = steps(optimizer, gradient, first, 0.05, 0.1)
    assert np.abs(expected - first).max() > 0.01
    np.testing.assert_allclose(after.weight[:, :, 0, 0].detach(), expected[:, :-1], atol=1e-4)
    np.testing.assert_allclose(after.bias.detach(), expected[:, -1], atol=1e-4)
    assert [float(row["learning_rate"]) for row in rows_of(tmp_path / "run")] == [0.05] * 3


def test_dropout_changes_training_and_nothing_else(discs: Dataset, split: Split, tmp_path: Path) -> None:
    plain, dropped = (fit(discs, split, frozen(dropout=p), tmp_path / f"{p}") for p in (0.0, 0.4))
    assert not torch.equal(plain.head.weight, dropped.head.weight)
    assert plain.spec.model_copy(update={"training": {}, "metrics": {}}) == dropped.spec.model_copy(
        update={"training": {}, "metrics": {}}
    )
    assert dropped.spec.training["dropout"] == 0.4


def test_vggs_own_dense_layers_are_part_of_what_is_computed_once(discs: Dataset, split: Split, tmp_path: Path) -> None:
    config = small_config(
        model="vgg_tiny", keep_dense=True, frozen=True, output_stride=None, truncate=False, size=32, channels=3
    )
    model = fit(discs, split, config, tmp_path / "run")
    assert [tuple(p.shape) for p in model.parameters() if p.requires_grad] == [(2, 4096), (2,)]
    loaded = load_model(tmp_path / "run")
    assert "so no class map" in (tmp_path / "run" / "model" / "card.md").read_text()
    fresh = create_model("vgg_tiny", CLASSES, keep_dense=True, preprocess=config.preprocess()).state_dict()
    assert {k for k, v in loaded.state_dict().items() if not torch.equal(v, fresh[k])} == {"head.weight", "head.bias"}


def test_a_stopped_run_continues_to_the_same_result(discs: Dataset, split: Split, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("epoch 4"):
            raise StopError

    config = frozen(dropout=0.3)
    with pytest.raises(StopError):
        fit(discs, split, config, tmp_path / "run", progress=stop)
    kept = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert set(kept) == {"model.head.weight", "model.head.bias"}
    fit(discs, split, config, tmp_path / "run", resume=True)
    fit(discs, split, config, tmp_path / "unbroken")
    first, second = (load_model(tmp_path / name).state_dict() for name in ("run", "unbroken"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert [r["val_loss"] for r in rows_of(tmp_path / "run")] == [r["val_loss"] for r in rows_of(tmp_path / "unbroken")]


def test_augmentation_and_attention_are_refused() -> None:
    with pytest.raises(InputError, match="leave augment out"):
        make_config(frozen=True, augment={"flip": 0.1})
    with pytest.raises(InputError, match="leave frozen or attention_from out"):
        make_config(frozen=True, attention_from=3)
    assert make_config(frozen=True, augment=json.loads(frozen().model_dump_json())["augment"]) == make_config(
        frozen=True
    )
