"""Randomised layers and labels, and networks whose maps are known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from planted import SIDE, Planted, bright_images
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.evaluate.explaining import by_method
from gyrus.evaluate.ranking import score_map
from gyrus.evaluate.sanity import (
    compare_models,
    layers_from_the_top,
    null_model,
    randomise_layers,
    shuffle_labels,
)
from gyrus.models import create_model
from gyrus.records import Record

METHODS = ("gradcam", "hirescam", "layercam", "xgradcam")
TARGET = torch.tensor([1, 1, 1])


def square(top: int, left: int, side: int = 6) -> np.ndarray:
    made = np.zeros((SIDE, SIDE), dtype=bool)
    made[top : top + side, left : left + side] = True
    return made


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_looks_at_the_square_points_there_and_passes(method: str) -> None:
    model, images, explain = Planted(4, 13), bright_images(), by_method(method, "window")
    for placed in explain(model, images, TARGET).numpy():
        here, there = score_map(placed, square(4, 13)).values, score_map(placed, square(14, 2)).values
        assert (here["pointing"], here["energy_inside"], here["rank_accuracy"]) == (1.0, 1.0, 1.0)
        assert (there["pointing"], there["energy_inside"], there["rank_accuracy"]) == (0.0, 0.0, 0.0)
    found = randomise_layers(explain, model, images, TARGET)
    assert found.layers == ("head", "window", "look")
    assert np.abs(found.last.rank).max() < 0.25
    assert np.abs(found.last.structure).max() < 0.25


@pytest.mark.parametrize("method", METHODS)
def test_one_that_looks_elsewhere_scores_nothing(method: str) -> None:
    model, images = Planted(14, 2), bright_images()
    for placed in by_method(method, "window")(model, images, TARGET).numpy():
        got = score_map(placed, square(4, 13)).values
        assert (got["pointing"], got["energy_inside"], got["rank_accuracy"]) == (0.0, 0.0, 0.0)


def test_a_map_of_the_image_alone_fails() -> None:
    found = randomise_layers(lambda _m, images, _t: images[:, 0], Planted(), bright_images(), TARGET)
    for step in found.steps:
        assert step.rank == pytest.approx(np.ones(3))
        assert step.structure == pytest.approx(np.ones(3))


def test_cascading_keeps_what_is_random_and_independent_puts_it_back() -> None:
    seen: list[dict[str, Tensor]] = []

    def explain(model: nn.Module, images: Tensor, _t: Tensor) -> Tensor:
        seen.append(state(model))
        return images[:, 0]

    model = Planted()
    before = state(model)
    changed = {}
    for order in ("cascading", "independent"):
        seen.clear()
        randomise_layers(explain, model, bright_images(), TARGET, order=order)  # type: ignore[arg-type]
        changed[order] = [{k.split(".")[0] for k, v in s.items() if not torch.equal(v, before[k])} for s in seen]
    assert changed["cascading"] == [set(), {"head"}, {"head", "window"}, {"head", "window", "look"}]
    assert changed["independent"] == [set(), {"head"}, {"window"}, {"look"}]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_every_weight_of_a_real_network_becomes_random_from_the_top() -> None:
    model = create_model("mobilenetv2_100", ("a", "b"), channels=1, output_stride=8, truncate=True).train()
    images, target = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1])
    names = layers_from_the_top(model, images[:1])
    owners = {n for n, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))}
    assert set(names) == owners
    assert (names[0], names[-1]) == ("head", "body.net.conv_stem")
    before, last = state(model), {}

    def explain(net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        last.update(state(net))
        return by_method("gradcam")(net, x, t)

    random = torch.get_rng_state()
    found = randomise_layers(explain, model, images, target)
    weights = {k for k, _ in model.named_parameters()}
    assert {k for k, v in last.items() if not torch.equal(v, before[k])} == weights
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert torch.equal(torch.get_rng_state(), random)
    assert len(found.steps) == len(names)
    assert (found.last.rank < 0.9).all()


def test_a_normal_of_the_layer_s_own_size_is_drawn() -> None:
    model = nn.Sequential(nn.Conv2d(4, 64, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        model[0].weight.normal_(3.0, 0.5, generator=torch.Generator().manual_seed(0))
    drawn: list[Tensor] = []

    def explain(net: nn.Module, x: Tensor, _t: Tensor) -> Tensor:
        drawn.append(net.get_parameter("0.weight").detach().clone())
        return x[:, 0]

    randomise_layers(explain, model, torch.rand(1, 4, 8, 8), torch.zeros(1, dtype=torch.long))
    own, new = drawn
    assert (own != new).all()
    assert float(new.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(new.std()) == pytest.approx(0.5, rel=0.03)


def test_a_layer_without_weights_is_refused() -> None:
    explain = by_method("gradcam", "window")
    for name in ("", "nowhere"):
        with pytest.raises(InputError, match="no layer"):
            randomise_layers(explain, Planted(), bright_images(), TARGET, layers=[name])
    with pytest.raises(InputError, match="no layer with weights"):
        randomise_layers(explain, nn.Flatten(), bright_images(), TARGET)


def test_the_null_model_is_the_same_network_with_other_weights() -> None:
    model = create_model("mobilenetv2_100", ("a", "b", "c"), channels=1, output_stride=8, truncate=True, seed=0)
    first, same, other = null_model(model, 7), null_model(model, 7), null_model(model, 8)
    assert first.spec.preprocess == model.spec.preprocess
    assert (first.spec.output_stride, first.spec.truncate, first.classes) == (8, True, model.classes)
    assert not first.training
    weights = [dict(m.named_parameters())["head.weight"] for m in (model, first, same, other)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[3])
    images = torch.rand(2, 1, 64, 64)
    got = compare_models(by_method("gradcam"), model.eval(), model, images, torch.tensor([0, 1]))
    assert got.rank == pytest.approx(np.ones(2))
    unlike = compare_models(by_method("gradcam"), model, first, images, torch.tensor([0, 1]))
    assert (unlike.rank < 0.99).all()


def test_labels_are_dealt_to_patients_anew() -> None:
    records = [
        Record(f"{p}-{s}.png", Path(f"{p}-{s}.png"), label="glioma" if p % 2 else "meningioma", patient=f"p{p}")
        for p in range(40)
        for s in range(3)
    ]
    shuffled = shuffle_labels(records, 3)
    assert [r.id for r in shuffled] == [r.id for r in records]
    assert all(len({r.label for r in shuffled if r.patient == p}) == 1 for p in {r.patient for r in records})
    assert sum(r.label == "glioma" for r in shuffled) == 60
    moved = sum(a.label != b.label for a, b in zip(records, shuffled, strict=True))
    assert 20 < moved < 100
    assert shuffle_labels(records, 3) == shuffled != shuffle_labels(records, 4)
    alone = [Record("a.png", Path("a.png"), label="x"), Record("b.png", Path("b.png"))]
    assert [r.label for r in shuffle_labels(alone)] == ["x", None]
