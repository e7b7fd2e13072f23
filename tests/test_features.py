"""What a frozen network makes of slices: computed once, kept, and the same as if it were not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_vgg  # noqa: F401 - registers itself
import torch
from handmade_slices import pictured, write_png
from safetensors.numpy import load_file, save_file

from gyrus.errors import InputError
from gyrus.features import embed_records
from gyrus.inference import predict, predict_frozen
from gyrus.models import Classifier, create_model
from gyrus.preprocess import Preprocess
from gyrus.records import Record

CLASSES = ("glioma", "meningioma", "pituitary")


def make(*, size: int = 32, seed: int = 0, **fields: object) -> Classifier:
    return create_model("vgg_tiny", CLASSES, preprocess=Preprocess(size=size), seed=seed, **fields).eval()  # type: ignore[arg-type]


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return pictured(tmp_path / "slices", 5)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def file_of(store: Path) -> Path:
    (file,) = store.iterdir()
    return file


def test_kept_features_are_those_that_are_computed(records: list[Record], store: Path) -> None:
    model = make()
    by_hand = []
    from gyrus.loading import load_slices

    with torch.no_grad():
        by_hand = model.embed(model.normalise(torch.from_numpy(load_slices(records, model.spec.preprocess)))).numpy()
    computed = embed_records(model, records, precision="fp32")
    assert computed.shape == (5, 16, 1, 1)
    assert computed == pytest.approx(by_hand, abs=1e-6)
    first, second = (embed_records(model, records, store=store, precision="fp32") for _ in range(2))
    assert np.array_equal(first, computed)
    assert np.array_equal(second, computed)


def test_what_is_kept_is_not_computed_again(records: list[Record], store: Path) -> None:
    model = make()
    embed_records(model, records[:3], store=store, precision="fp32")
    file = file_of(store)
    kept = load_file(file)
    save_file({name: np.full_like(row, 7) for name, row in kept.items()}, file)
    told: list[tuple[str, int, int]] = []
    found = embed_records(
        model, records[::-1], store=store, precision="fp32", what="new", progress=lambda *call: told.append(call)
    )
    assert told == [("new", 2, 2)]
    assert (found[2:] == 7).all()
    assert np.array_equal(found[:2], embed_records(model, records[:2:-1], precision="fp32"))


@pytest.mark.parametrize("damage", [lambda kept: kept[: len(kept) // 2], lambda kept: b""], ids=["cut", "empty"])
def test_what_is_damaged_is_computed_again(
    records: list[Record], store: Path, damage: Callable[[bytes], bytes]
) -> None:
    model = make()
    right = embed_records(model, records, store=store, precision="fp32")
    file = file_of(store)
    file.write_bytes(damage(file.read_bytes()))
    assert np.array_equal(embed_records(model, records, store=store, precision="fp32"), right)
    assert len(load_file(file)) == 5


def test_nothing_is_written_where_nothing_is_new(records: list[Record], store: Path) -> None:
    model = make()
    embed_records(model, records, store=store, precision="fp32")
    file = file_of(store)
    os.utime(file, ns=(1, 1))
    embed_records(model, records[1:4], store=store, precision="fp32")
    assert file.stat().st_mtime_ns == 1
    assert file_of(store) == file  # nor is anything left beside it


def test_the_head_does_not_matter(records: list[Record], store: Path) -> None:
    model = make()
    embed_records(model, records, store=store)
    with torch.no_grad():
        model.head.weight.add_(1)
    embed_records(model, records, store=store)
    assert len(list(store.iterdir())) == 1


def test_whatever_else_decides_them_does(records: list[Record], store: Path) -> None:
    model = make()
    moved = make()
    with torch.no_grad():
        next(moved.body.parameters()).add_(1e-3)
    embed_records(model, records, store=store, precision="fp32")
    for n, other in enumerate((make(size=40), make(seed=1), moved, make(pooling="lse")), start=2):
        embed_records(other, records, store=store, precision="fp32")
        assert len(list(store.iterdir())) == n
    embed_records(model, records, store=store, precision="bf16")
    assert len(list(store.iterdir())) == 6


def test_the_same_weights_give_other_features_at_another_stride(records: list[Record], store: Path) -> None:
    for n, stride in enumerate((None, 8), start=1):
        model = create_model("mobilenetv2_100", CLASSES, preprocess=Preprocess(size=32), seed=0, output_stride=stride)
        computed, kept = (embed_records(model, records, store=at, precision="fp32") for at in (None, store))
        assert np.array_equal(computed, kept)
        assert len(list(store.iterdir())) == n


def test_a_changed_slice_is_computed_again(records: list[Record], store: Path) -> None:
    model = make()
    before = embed_records(model, records, store=store, precision="fp32")
    write_png(records[1].path, np.full((20, 24), 90, dtype=np.uint8))
    after = embed_records(model, records, store=store, precision="fp32")
    assert not np.array_equal(before[1], after[1])
    assert np.array_equal(np.delete(before, 1, axis=0), np.delete(after, 1, axis=0))


def test_a_slice_that_is_gone_is_named(records: list[Record], store: Path) -> None:
    model = make()
    embed_records(model, records, store=store)
    records[2].path.unlink()
    with pytest.raises(InputError, match=r"2\.png"):
        embed_records(model, records, store=store)


def test_the_model_is_left_as_it_was(records: list[Record], store: Path) -> None:
    model = make(dropout=0.5).train()
    first, second = (embed_records(model, records, precision="fp32") for _ in range(2))
    assert np.array_equal(first, second)
    assert model.training
    assert not any(embed_records(model.eval(), []).shape)
    assert not model.training


@pytest.mark.parametrize("fields", [{}, {"pooling": "lse"}, {"keep_dense": True, "dropout": 0.4}])
def test_predictions_from_features_are_those_from_slices(
    records: list[Record], store: Path, fields: dict[str, object]
) -> None:
    model = make(**fields)
    whole = predict(model, records, statement="split")
    for _ in range(2):  # computed, then kept
        frozen = predict_frozen(model, records, store, precision="fp32", statement="split")
        assert frozen.logits == pytest.approx(whole.logits, abs=1e-5)
        assert (frozen.ids, frozen.files, frozen.labels, frozen.patients, frozen.status, frozen.statement) == (
            whole.ids, whole.files, whole.labels, whole.patients, whole.status, whole.statement
        )  # fmt: skip
    assert not model.training


def test_predictions_leave_the_mode_alone(records: list[Record], store: Path) -> None:
    model = make(dropout=0.9).train()
    one, two = (predict_frozen(model, records, store, precision="fp32").logits for _ in range(2))
    assert np.array_equal(one, two)
    assert model.training
