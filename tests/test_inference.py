from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from discs import write_discs

from gyrus.datasets import open_files
from gyrus.errors import InputError
from gyrus.inference import predict
from gyrus.loading import load_slices
from gyrus.models import Classifier, create_model
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset, Record


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("inference") / "discs", patients=3, slices=2)


@pytest.fixture
def model() -> Classifier:
    """A network of random weights and running statistics, whose head tells slices apart."""
    model = create_model(
        "mobilenetv2_100",
        ("glioma", "meningioma", "pituitary"),
        output_stride=8,
        truncate=True,
        preprocess=Preprocess(size=64),
    )
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture
def broken(tmp_path: Path, discs: Dataset) -> list[Record]:
    """Six readable slices with unreadable ones at the front, twice within, and at the end."""
    (tmp_path / "cut.png").write_bytes(discs.records[0].path.read_bytes()[:100])
    bad = [Record(id=f"bad{i}", path=tmp_path / name) for i, name in enumerate(["cut.png", "absent.png"] * 2)]
    good = list(discs.records[:6])
    return [bad[0], *good[:3], bad[1], bad[2], *good[3:], bad[3]]


def by_hand(model: Classifier, records: list[Record]) -> np.ndarray:
    """Return the logits of one slice at a time, straight through the network."""
    model.eval()
    with torch.no_grad():
        rows = [model(model.normalise(torch.from_numpy(load_slices([r], model.spec.preprocess)))) for r in records]
    return torch.cat(rows).numpy()


def test_rows_come_in_the_order_of_the_records(model: Classifier, discs: Dataset) -> None:
    records = [discs.records[i] for i in (7, 0, 11, 3, 5)]
    said = predict(model, records, batch_size=2, statement="a split")
    assert said.ids == tuple(r.id for r in records)
    assert said.labels == ("meningioma", "glioma", "meningioma", "glioma", "glioma")
    assert said.patients == tuple(r.patient for r in records)
    assert said.files == tuple(str(r.path) for r in records)
    assert said.status == ("ok",) * 5
    assert said.statement == "a split"
    assert said.classes == model.classes
    expected = by_hand(model, records)
    assert len({round(float(v), 4) for v in expected[:, 0]}) == 5  # no two alike, so a swap would show
    assert np.allclose(said.logits, expected, atol=1e-4)
    assert said.logits.dtype == np.float32


@pytest.mark.parametrize("size", [1, 5, 12, 100])
def test_batch_size_does_not_change_the_result(model: Classifier, discs: Dataset, size: int) -> None:
    first, second = (predict(model, discs.records, batch_size=n).logits for n in (size, 4))
    assert np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 32])
def test_keep_going_gives_an_unreadable_file_a_row_that_says_why(
    model: Classifier, broken: list[Record], size: int
) -> None:
    said = predict(model, broken, batch_size=size, keep_going=True)
    bad = [i for i, r in enumerate(broken) if r.id.startswith("bad")]
    good = [i for i in range(len(broken)) if i not in bad]
    assert bad == [0, 4, 5, 9]
    assert np.isnan(said.logits[bad]).all()
    assert np.allclose(said.logits[good], by_hand(model, [broken[i] for i in good]), atol=1e-4)
    assert [said.status[i] == "ok" for i in range(len(broken))] == [i in good for i in range(len(broken))]
    assert {said.status[i] for i in bad} == {"unreadable"}
    assert all(broken[i].path.name in said.reasons[i] for i in bad)
    assert all(said.reasons[i] == "" for i in good)
    assert [said.predicted[i] is None for i in range(len(broken))] == [i in bad for i in range(len(broken))]


def test_an_unreadable_file_is_named_otherwise_and_modes_are_restored(model: Classifier, broken: list[Record]) -> None:
    model.train()
    with pytest.raises(InputError, match=r"cut\.png"):
        predict(model, broken)
    assert all(m.training for m in model.modules())


def test_modes_weights_and_statistics_are_left_as_found(model: Classifier, discs: Dataset) -> None:
    model.train()
    model.body.eval()
    model.body.net.conv_stem.train()
    modes = [m.training for m in model.modules()]
    assert len(set(modes)) == 2
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = torch.get_rng_state()
    trained_mode = predict(model, discs.records)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert np.array_equal(predict(model.eval(), discs.records).logits, trained_mode.logits)


def test_unlabelled_records_are_predicted(model: Classifier, discs: Dataset) -> None:
    files = open_files([r.path for r in discs.records[:3]])
    said = predict(model, list(files))
    assert said.labels == (None, None, None)
    assert said.patients == (None, None, None)
    assert np.allclose(said.logits, predict(model, discs.records[:3]).logits)
    mixed = [replace(discs.records[0], label=None), discs.records[1]]
    assert predict(model, mixed).labels == (None, "glioma")


def test_no_records_give_no_rows(model: Classifier) -> None:
    said = predict(model, [])
    assert len(said) == 0
    assert said.logits.shape == (0, 3)


def test_only_unreadable_records(model: Classifier, broken: list[Record]) -> None:
    said = predict(model, [broken[0], broken[4]], keep_going=True)
    assert said.predicted == (None, None)


def test_progress_counts_records(model: Classifier, discs: Dataset) -> None:
    calls: list[tuple[str, int, int]] = []
    predict(model, discs.records, batch_size=5, progress=lambda *call: calls.append(call))
    assert calls == [("predicting", 5, 12), ("predicting", 10, 12), ("predicting", 12, 12)]


def test_gradients_can_be_taken_afterwards(model: Classifier, discs: Dataset) -> None:
    predict(model, discs.records[:2])
    slices = torch.from_numpy(load_slices(discs.records[:2], model.spec.preprocess))
    model(model.normalise(slices)).sum().backward()
    assert model.head.weight.grad is not None
