from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from gyrus.models import Classifier, ModelSpec, create_model
from gyrus.models.classifier import pool
from gyrus.preprocess import Preprocess

MAPS = arrays(np.float64, (2, 3, 3, 4), elements=st.floats(-50, 50))


def small(pooling: str = "avg", channels: int = 3) -> Classifier:
    """Return a small network whose head has a bias, in evaluation mode and double precision."""
    model = create_model(
        "mobilenetv2_100",
        ("a", "b", "c"),
        output_stride=8,
        truncate=True,
        pooling=pooling,
        channels=channels,
    )
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(3))
        model.head.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
    return model.double().eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_class_map_is_linear_in_the_features() -> None:
    model = small()
    first, second = noise(2, 32, 4, 4), noise(2, 32, 4, 4, seed=1)
    bias = model.head.bias.view(1, 3, 1, 1)
    mixed = model.class_map(2 * first - 3 * second)
    parts = 2 * (model.class_map(first) - bias) - 3 * (model.class_map(second) - bias) + bias
    assert torch.allclose(mixed, parts, atol=1e-12)


def test_the_class_map_is_the_weighted_sum_of_the_feature_maps() -> None:
    model = small()
    features = noise(1, 32, 2, 2)
    weight, bias = model.head.weight[:, :, 0, 0], model.head.bias
    by_hand = torch.stack([sum(weight[c, k] * features[0, k] for k in range(32)) + bias[c] for c in range(3)])
    assert torch.allclose(model.class_map(features)[0], by_hand, atol=1e-12)


def test_average_pooling_is_global_average_pooling_then_a_linear_layer() -> None:
    model = small("avg")
    images = noise(2, 3, 64, 64)
    pooled = model.body(images).mean(dim=(2, 3))
    expected = pooled @ model.head.weight[:, :, 0, 0].T + model.head.bias
    assert torch.allclose(model(images), expected, atol=1e-12)


def test_log_sum_exp_by_hand() -> None:
    cells = torch.tensor([[[[0.0, 1.0], [2.0, -1.0]]]], dtype=torch.float64)
    by_hand = math.log((1 + math.exp(5) + math.exp(10) + math.exp(-5)) / 4) / 5
    assert pool(cells, "lse").item() == pytest.approx(by_hand, rel=1e-12)
    assert pool(cells, "avg").item() == 0.5


def test_a_model_pools_as_its_spec_says() -> None:
    images = noise(2, 3, 64, 64)
    avg, lse = small("avg"), small("lse")
    evidence = lse.class_map(lse.body(images))
    assert torch.allclose(lse(images), (5 * evidence).exp().mean(dim=(2, 3)).log() / 5, atol=1e-12)
    assert (lse(images) > avg(images)).all()


@given(cells=MAPS)
@settings(max_examples=60, deadline=None)
def test_log_sum_exp_lies_between_mean_and_maximum(cells: np.ndarray) -> None:
    evidence = torch.from_numpy(cells)
    pooled = pool(evidence, "lse")
    assert (pooled >= pool(evidence, "avg") - 1e-9).all()
    assert (pooled <= evidence.amax(dim=(2, 3)) + 1e-9).all()


@pytest.mark.parametrize("pooling", ["avg", "lse"])
@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_pooling_an_even_map_gives_its_value(pooling: str, value: float) -> None:
    assert torch.allclose(pool(torch.full((1, 2, 5, 5), value), pooling), torch.full((1, 2), value))


def test_normalise_by_hand() -> None:
    spec = Preprocess(mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0))
    model = create_model("mobilenetv2_100", ("a", "b"), preprocess=spec, output_stride=8, truncate=True)
    slices = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    grey = torch.tensor([[0.0, 1.0], [0.2, 0.4]])
    expected = torch.stack([(grey - 0.5) / 0.5, grey, (grey - 1) / 2]).unsqueeze(0)
    assert torch.allclose(model.normalise(slices), expected)
    assert torch.equal(model.normalise(slices.float()), model.normalise(slices))
    assert torch.equal(slices, torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8))


def test_normalise_gives_as_many_channels_as_the_network_takes() -> None:
    slices = torch.zeros(4, 32, 32, dtype=torch.uint8)
    assert small(channels=1).normalise(slices).shape == (4, 1, 32, 32)
    assert small(channels=3).normalise(slices).shape == (4, 3, 32, 32)


def test_floating_slices_are_not_changed_in_place() -> None:
    model, slices = small(channels=1), noise(1, 32, 32)
    before = slices.clone()
    model.normalise(slices)
    assert torch.equal(slices, before)


def test_a_hook_on_the_target_layer_sees_the_features() -> None:
    model, images, seen = small(), noise(2, 3, 64, 64), []
    handle = model.get_submodule(model.spec.target_layer).register_forward_hook(lambda m, a, out: seen.append(out))
    logits = model(images)
    handle.remove()
    assert seen[0].shape == (2, 32, 8, 8)
    assert torch.equal(pool(model.class_map(seen[0]), "avg"), logits)


def test_the_state_holds_weights_only_and_classes_come_from_the_spec() -> None:
    model = small()
    assert {k.split(".")[0] for k in model.state_dict()} == {"body", "head"}
    assert model.classes == ("a", "b", "c")


def test_a_spec_is_frozen_and_refuses_what_it_does_not_know() -> None:
    spec = ModelSpec(architecture="resnet18", classes=("a", "b"))
    with pytest.raises(ValidationError):
        spec.pooling = "lse"
    with pytest.raises(ValidationError):
        ModelSpec(architecture="resnet18", classes=("a", "b"), colour="red")
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
