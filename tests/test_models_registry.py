from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from gyrus.errors import InputError
from gyrus.models import BACKBONES, Classifier, create_model, list_models, load_model, save_model
from gyrus.models.networks import CHAINS
from gyrus.models.registry import normalisation
from gyrus.preprocess import Preprocess

SIDE = 64
CLASSES = ("glioma", "meningioma", "pituitary")
TIMMS = [name for name in BACKBONES if name not in CHAINS]


def images(model: Classifier, n: int = 2) -> torch.Tensor:
    slices = torch.randint(0, 256, (n, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    return model.normalise(slices.to(torch.uint8))


def without_gradient(model: Classifier) -> list[str]:
    """Return the weights that no image of a batch can move; blocks that start as zero are woken up first."""
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.fill_(0.1)
    model.train()
    logits = model(images(model))
    (logits * torch.arange(1.0, logits.numel() + 1).view_as(logits)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()]


@pytest.fixture(scope="module", params=TIMMS)
def model(request: pytest.FixtureRequest) -> Classifier:
    return create_model(request.param, CLASSES)


def test_list_models_is_json_and_complete() -> None:
    rows = json.loads(json.dumps(list_models()))
    assert [row["name"] for row in rows] == list(BACKBONES)
    assert all(row["paper"] and len(row["mean"]) == 3 for row in rows)


@pytest.mark.parametrize("name", TIMMS)
def test_declared_normalisation_is_the_one_of_timms_weights(name: str) -> None:
    known = timm.get_pretrained_cfg(name)
    assert normalisation(name) == (tuple(known.mean), tuple(known.std))


def test_architectures_outside_the_registry_bring_their_own_normalisation() -> None:
    known = timm.get_pretrained_cfg("xception41")
    assert tuple(known.mean) != BACKBONES["resnet18"].mean
    assert normalisation("xception41") == (tuple(known.mean), tuple(known.std))


def test_declared_parameters(model: Classifier) -> None:
    assert millions(model) == pytest.approx(BACKBONES[model.spec.architecture].parameters, abs=0.1)


@pytest.mark.parametrize("name", CHAINS)
def test_declared_parameters_of_what_timm_lacks(name: str) -> None:
    assert millions(create_model(name, CLASSES)) == pytest.approx(BACKBONES[name].parameters, rel=0.25)


def millions(model: Classifier) -> float:
    return sum(p.numel() for p in model.body.parameters()) / 1e6


def test_a_new_model_trains_in_float32_on_three_channels(model: Classifier) -> None:
    assert model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.spec.preprocess.mean == BACKBONES[model.spec.architecture].mean


def test_save_and_load_give_the_same_logits(model: Classifier, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(images(loaded)), model(images(model)))
    assert loaded.spec == model.spec
    assert not loaded.training
    assert torch.equal(torch.get_rng_state(), before)


def test_forward_gives_the_logits_of_a_class_map_and_every_weight_learns(model: Classifier) -> None:
    features = model.body(images(model))
    assert features.shape == (2, model.body.channels, SIDE // 32, SIDE // 32)
    assert model.class_map(features).shape == (2, 3, SIDE // 32, SIDE // 32)
    assert model(images(model)).shape == (2, 3)
    assert without_gradient(model) == []


@pytest.mark.parametrize("name", TIMMS)
def test_one_channel_and_log_sum_exp(name: str) -> None:
    model = create_model(name, CLASSES, channels=1, pooling="lse")
    assert images(model).shape == (2, 1, SIDE, SIDE)
    assert model.spec.preprocess.mean == pytest.approx([sum(BACKBONES[name].mean) / 3])
    assert model.spec.preprocess.std == pytest.approx([sum(BACKBONES[name].std) / 3])
    assert model(images(model)).isfinite().all()
    assert without_gradient(model) == []


@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_gives_a_finer_map_from_the_same_weights(name: str, stride: int) -> None:
    plain, fine = create_model(name, CLASSES), create_model(name, CLASSES, output_stride=stride)
    assert fine.body(images(fine)).shape == (2, plain.body.channels, SIDE // stride, SIDE // stride)
    states = plain.state_dict(), fine.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0] if "running" not in k and "num_b" not in k)
    assert without_gradient(fine) == []


@pytest.mark.parametrize(
    ("name", "stride", "end"),
    [
        ("mobilenetv2_100", 8, "blocks.2"),
        ("mobilenetv2_100", 16, "blocks.4"),
        ("resnet18", 8, "layer2"),
        ("resnet18", 16, "layer3"),
        ("vgg16", 8, "features.22"),
        ("vgg16", 16, "features.29"),
    ],
)
def test_truncation_ends_the_same_network_earlier(name: str, stride: int, end: str) -> None:
    short = create_model(name, CLASSES, output_stride=stride, truncate=True).eval()
    whole = create_model(name, CLASSES).eval()
    seen: list[torch.Tensor] = []
    whole.body.net.get_submodule(end).register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        features = short.body(images(short))
        whole(images(whole))
    assert features.shape == (2, short.body.channels, SIDE // stride, SIDE // stride)
    assert torch.equal(features, seen[0])
    fewer, all_of_them = (sum(p.numel() for p in m.parameters()) for m in (short, whole))
    assert fewer <= all_of_them
    assert without_gradient(short) == []


def test_truncated_and_dilated_models_are_saved_as_such(tmp_path: Path) -> None:
    for truncate in (True, False):
        model = create_model("mobilenetv2_100", CLASSES, output_stride=8, truncate=truncate).eval()
        save_model(model, tmp_path / f"{truncate}")
        loaded = load_model(tmp_path / f"{truncate}")
        with torch.no_grad():
            assert torch.equal(loaded(images(loaded)), model(images(model)))


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(5)
    first = create_model("mobilenetv2_100", CLASSES, seed=1).state_dict()
    torch.manual_seed(6)
    second = create_model("mobilenetv2_100", CLASSES, seed=1).state_dict()
    other = create_model("mobilenetv2_100", CLASSES, seed=2).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert not torch.equal(first["body.net.conv_stem.weight"], other["body.net.conv_stem.weight"])


def test_global_generators_are_left_as_they_were() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    create_model("mobilenetv2_100", CLASSES, seed=3)
    create_model("mobilenetv3_small_050", CLASSES, seed=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "densenet121", "resnet10t.c3_in1k"])
def test_other_convolutional_networks_work_by_name(name: str) -> None:
    model = create_model(name, CLASSES)
    assert model.training
    assert all(m.training for m in model.modules())
    assert model(images(model)).shape == (2, 3)


def test_looking_at_an_unknown_network_leaves_its_statistics_alone() -> None:
    net = create_model("resnet10t", CLASSES).body.net
    means = [m.running_mean for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert means
    assert not any(mean.any() for mean in means)


def test_preprocess_is_kept_and_its_channels_follow_the_network() -> None:
    spec = Preprocess(size=96, crop="head", mean=(0.1, 0.2, 0.6), std=(0.2, 0.2, 0.5))
    assert create_model("mobilenetv2_100", CLASSES, preprocess=spec).spec.preprocess == spec
    grey = create_model("mobilenetv2_100", CLASSES, preprocess=spec, channels=1).spec.preprocess
    assert grey.mean == pytest.approx([0.3])
    assert grey.std == pytest.approx([0.3])
    assert (grey.size, grey.crop) == (96, "head")


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("no_such_net", {}, "no architecture 'no_such_net'"),
        ("vit_tiny_patch16_224", {}, "choose a convolutional network"),
        ("vit_tiny_patch16_384", {}, "choose a convolutional network"),
        ("swin_tiny_patch4_window7_224", {}, "choose a convolutional network"),
        ("mixer_s32_224", {"output_stride": 8}, "choose another"),
        ("vgg16", {"output_stride": 8}, "truncate instead of dilating"),
        ("densenet121", {"output_stride": 16}, "truncate instead of dilating"),
        ("selecsls42", {"output_stride": 32}, "no output stride of 32"),
        ("mobilenetv2_100", {"output_stride": 4}, "output_stride = 4"),
        ("mobilenetv2_100", {"output_stride": 64, "truncate": True}, "output_stride = 64"),
        ("mobilenetv2_100", {"truncate": True}, "give output_stride too"),
        ("vgg11", {"fuse": 16, "keep_dense": True}, "leave fuse or keep_dense out"),
        ("mobilenetv2_100", {"pooling": "max"}, "pooling = 'max'"),
        ("mobilenetv2_100", {"pretrained": "imagenet"}, "'imagenet' is none of none, hub, package"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        create_model(name, CLASSES, **arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [(), ("glioma",), ("glioma", "glioma")])
def test_fewer_than_two_different_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="class"):
        create_model("mobilenetv2_100", classes)
