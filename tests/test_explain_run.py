"""Explaining records from files: whose class, in which order, saved and read back, and in constant memory."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gyrus.errors import InputError
from gyrus.explain import DEFAULT_METHODS, Explainer, MapKey, Maps, attribute, explain_records, sweep_layers
from gyrus.models import Classifier, create_model
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record

CLASSES = ("glioma", "meningioma", "no_tumor")
LABELS = ("no_tumor", "glioma", "meningioma", "glioma", "no_tumor")


@pytest.fixture(scope="module")
def model() -> Classifier:
    model = create_model("resnet10t", CLASSES, preprocess=Preprocess(size=64), seed=3)
    with torch.no_grad():
        model.head.weight.mul_(20)  # so that slices are told apart
    return model.eval()


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Five slices of different sizes, one of them constant."""
    generator = np.random.default_rng(0)
    found = []
    for i, label in enumerate(LABELS):
        pixels = cv2.resize(generator.integers(0, 255, (5, 4)).astype(np.uint8), (40 + 7 * i, 60 - 3 * i))
        path = tmp_path / f"{i}.png"
        path.write_bytes(cv2.imencode(".png", np.zeros_like(pixels) if i == 3 else pixels)[1].tobytes())
        found.append(Record(id=f"{label}/{i}.png", path=path, label=label))
    return found


def by_hand(model: Classifier, records: Sequence[Record], target: Sequence[int]) -> dict[tuple[str, str], torch.Tensor]:
    slices = np.stack([prepare(r.read(), model.spec.preprocess) for r in records])
    with Explainer(model) as explain:
        return dict(explain(model.normalise(torch.from_numpy(slices)), target=target, methods=DEFAULT_METHODS).maps)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_each_slice_is_explained_for_its_predicted_and_its_true_class(
    model: Classifier, records: list[Record], batch_size: int
) -> None:
    calls: list[tuple[str, int, int]] = []
    maps = explain_records(model, records, batch_size=batch_size, progress=lambda *call: calls.append(call))
    slices = torch.from_numpy(np.stack([prepare(r.read(), model.spec.preprocess) for r in records]))
    with torch.no_grad():
        predicted = model(model.normalise(slices)).argmax(dim=1).tolist()
    true = [CLASSES.index(label) for label in LABELS]
    assert predicted != true
    assert maps.ids == tuple(r.id for r in records)
    assert maps.preprocess == model.spec.preprocess
    assert maps.explained == {"predicted": tuple(CLASSES[i] for i in predicted), "true": LABELS}
    assert maps.arrays.keys() == {MapKey(m, "body", t) for m in DEFAULT_METHODS for t in ("predicted", "true")}
    for kind, target in (("predicted", predicted), ("true", true)):
        for (method, layer), expected in by_hand(model, records, target).items():
            found = maps.arrays[MapKey(method, layer, kind)]
            assert found.dtype == np.float32
            assert found.shape == (5, 2, 2)
            scale = float(expected.abs().max())
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * scale)
    assert all(status == ("ok",) * 5 for status in maps.status.values())
    assert calls[-1] == ("explaining", 5, 5)
    assert [done for _, done, _ in calls] == sorted({min(n * batch_size, 5) for n in range(1, 6)})


def test_maps_survive_the_disk(model: Classifier, records: list[Record], tmp_path: Path) -> None:
    maps = explain_records(model, records, methods=("layercam", "cam"), layers=("body.net.layer3", "body"))
    maps.save(tmp_path)
    again = Maps.load(tmp_path)
    assert list(again.arrays) == list(maps.arrays)
    assert {str(key) for key in again.arrays} == {
        f"{m}|{layer}|{t}"
        for m, layer in (("layercam", "body.net.layer3"), ("layercam", "body"), ("cam", "body"))
        for t in ("predicted", "true")
    }
    for key, array in maps.arrays.items():
        np.testing.assert_array_equal(again.arrays[key], array, strict=True)
    assert again.arrays[MapKey("layercam", "body.net.layer3", "true")].shape == (5, 4, 4)
    assert (again.ids, again.status, again.explained) == (maps.ids, maps.status, maps.explained)


def test_a_sweep_with_methods_flips_and_options_on_request(model: Classifier, records: list[Record]) -> None:
    maps = explain_records(
        model,
        records,
        methods=("layercam", "rise"),
        layers="sweep",
        true_class=False,
        flips=True,
        options={"rise": {"masks": 8}},
        batch_size=2,
    )
    assert {key.method: 0 for key in maps.arrays} == {"layercam": 0, "rise": 0}
    assert {key.layer for key in maps.arrays} == {*sweep_layers(model), "input"}
    assert maps.arrays[MapKey("rise", "input", "predicted")].shape == (5, 64, 64)
    slices = torch.from_numpy(np.stack([prepare(r.read(), model.spec.preprocess) for r in records]))
    whole = attribute(model, model.normalise(slices), method="layercam", layers="sweep", flips=True)
    for (method, layer), found in whole.maps.items():
        mine = maps.arrays[MapKey(method, layer, "predicted")]
        np.testing.assert_allclose(mine, found.numpy(), rtol=1e-3, atol=1e-5 * float(found.abs().max()))


def test_unlabelled_slices_are_explained_for_the_predicted_class_only(model: Classifier, records: list[Record]) -> None:
    records[2] = replace(records[2], label=None)
    for maps in (
        explain_records(model, records, methods=("cam",)),
        explain_records(model, records[:2], methods=("cam",), true_class=False),
    ):
        assert list(maps.arrays) == [MapKey("cam", "body", "predicted")]
        assert list(maps.explained) == ["predicted"]


def test_blank_and_non_finite_maps_are_marked(records: list[Record]) -> None:
    model = create_model("resnet10t", CLASSES, preprocess=Preprocess(size=64), seed=3)
    with torch.no_grad():
        model.head.weight[0] = 0.0
        model.head.weight[1] = float("nan")
    maps = explain_records(model, records, methods=("cam",))
    status = {"no_tumor": "ok", "glioma": "blank", "meningioma": "non-finite"}
    assert maps.status[MapKey("cam", "body", "true")] == tuple(status[label] for label in LABELS)


def test_what_cannot_be_explained_is_refused_by_name(model: Classifier, records: list[Record]) -> None:
    with pytest.raises(InputError, match="there are no slices to explain"):
        explain_records(model, [])
    unknown = replace(records[3], label="pituitary")
    with pytest.raises(InputError, match=r"3\.png is labelled 'pituitary', which the model does not know \(glioma, "):
        explain_records(model, [*records[:3], unknown])
    assert len(explain_records(model, [unknown], true_class=False).ids) == 1
    broken = records[4].path
    broken.write_bytes(broken.read_bytes()[:40])
    model.train()
    with pytest.raises(InputError, match=r"4\.png"):
        explain_records(model, records, batch_size=2)
    assert all(m.training for m in model.modules())
    model.eval()
    with pytest.raises(InputError, match="no explanation method 'gradcam2'"):
        explain_records(model, records[:1], methods=("gradcam2",))


def test_the_model_is_left_as_found(records: list[Record]) -> None:
    model = create_model("resnet10t", CLASSES, preprocess=Preprocess(size=64), seed=3).requires_grad_(False)
    model.body.eval()
    before = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode():
        explain_records(model, records)
    assert [m.training for m in model.modules()] == before[0]
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_thousand_slices_take_constant_memory(records: list[Record]) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("resident memory is read from /proc/self/statm, which this system lacks")

    def megabytes() -> float:
        gc.collect()
        return int(statm.read_text().split()[1]) * mmap.PAGESIZE / 2**20

    model = create_model("resnet10t", CLASSES, preprocess=Preprocess(size=32), seed=3)
    many = [replace(records[i % 5], id=str(i)) for i in range(1000)]
    # An early layer too, whose graph is large: one kept per batch would show.
    layers = ("body.net.layer1", "body")
    explain_records(model, many[:96], layers=layers)
    before = megabytes()
    maps = explain_records(model, many, layers=layers)
    assert megabytes() - before < 50
    assert all(len(array) == 1000 for array in maps.arrays.values())
    for key, array in maps.arrays.items():
        np.testing.assert_allclose(array[995:], array[:5], rtol=1e-3, atol=1e-5 * np.abs(array).max(), err_msg=str(key))
