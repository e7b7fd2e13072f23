"""Heads other than one output per class: a single sigmoid unit, and dense layers, which leave no class map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_vgg import vgg_tiny  # noqa: F401 - registers itself
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain import Explainer, attribute, list_methods, stage_layers, sweep_layers
from gyrus.models import Classifier, ModelSpec, create_model, load_model, save_model
from gyrus.models.networks import CHAINS, alexnet
from gyrus.preprocess import Preprocess

PAIR = ("no_tumor", "tumor")
SIDE = 64


def small(**arguments: object) -> Classifier:
    """Return a small network whose head has large weights and a bias, in evaluation mode and double precision."""
    model = create_model("mobilenetv2_100", PAIR, output_stride=8, truncate=True, **arguments).double()
    woken(model.head)
    return model.eval()


def woken(head: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))


def dense(name: str, size: int = SIDE, classes: tuple[str, ...] = PAIR, **arguments: object) -> Classifier:
    spec = Preprocess(size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = create_model(name, classes, preprocess=spec, **arguments)
    woken(model.head)
    return model.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestSigmoid:
    @pytest.mark.parametrize("pooling", ["avg", "lse"])
    def test_softmax_of_the_logits_is_the_sigmoid_of_the_unit(self, pooling: str) -> None:
        model, images = small(head="sigmoid", pooling=pooling), noise(5, 3, SIDE, SIDE).double()
        maps = model.head(model.body(images))
        assert maps.shape == (5, 1, 8, 8)
        logits = model(images)
        if pooling == "avg":
            unit = maps.mean(dim=(1, 2, 3))
            assert torch.allclose(logits.softmax(dim=1)[:, 1], unit.sigmoid(), atol=1e-12)
            assert ((logits[:, 1] > logits[:, 0]) == (unit.sigmoid() > 0.5)).all()
        assert torch.allclose(model.class_map(model.body(images)), torch.cat([-maps / 2, maps / 2], dim=1))

    def test_cross_entropy_is_the_binary_one_and_so_is_its_gradient(self) -> None:
        model, images = small(head="sigmoid"), noise(4, 3, SIDE, SIDE).double()
        labels = torch.tensor([0, 1, 1, 0])
        ours = F.cross_entropy(model(images), labels)
        (gradient,) = torch.autograd.grad(ours, model.head.weight)
        features = model.body(images).mean(dim=(2, 3))
        theirs = nn.BCEWithLogitsLoss()(features @ model.head.weight[0, :, 0, 0] + model.head.bias, labels.double())
        (expected,) = torch.autograd.grad(theirs, model.head.weight)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
        assert torch.allclose(gradient, expected, atol=1e-14)

    def test_cam_is_the_class_map_without_its_bias_and_opposite_for_the_two_classes(self) -> None:
        model, images = small(head="sigmoid").float(), noise(2, 3, SIDE, SIDE)
        maps = attribute(model, images, method=("cam", "gradcam"), target="all").maps
        with torch.no_grad():
            expected = model.class_map(model.body(images)) - torch.tensor([-0.5, 0.5])[:, None, None] * model.head.bias
        torch.testing.assert_close(maps["cam", "body"], expected)
        torch.testing.assert_close(maps["gradcam", "body"] * 64, expected)
        torch.testing.assert_close(maps["cam", "body"][:, 0], -maps["cam", "body"][:, 1])

    def test_weights_per_class(self) -> None:
        one, two = small(head="sigmoid"), small()
        weight = one.head.weight[0, :, 0, 0]
        assert torch.equal(one.class_weights(), torch.stack([-weight / 2, weight / 2]))
        assert torch.equal(two.class_weights(), two.head.weight[:, :, 0, 0])

    def test_is_saved_as_such(self, tmp_path: Path) -> None:
        model, images = small(head="sigmoid").float(), noise(2, 3, SIDE, SIDE)
        save_model(model, tmp_path / "saved")
        loaded = load_model(tmp_path / "saved")
        assert loaded.spec.head == "sigmoid"
        assert torch.equal(loaded(images), model(images))

    def test_is_refused_for_more_than_two_classes(self) -> None:
        with pytest.raises(
            InputError, match=r"^one sigmoid unit decides between two classes, not 3: use head softmax$"
        ):
            create_model("mobilenetv2_100", ("a", "b", "c"), head="sigmoid")


class TestDropout:
    def test_leaves_out_whole_channels_and_nothing_in_evaluation(self) -> None:
        model = small(dropout=0.5)
        features = torch.ones(1, 32, 4, 4).double()
        assert torch.equal(model.finish(features), small().finish(features))
        torch.manual_seed(0)
        dropped = model.train().dropout(features)
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(dropped, dropped[:, :, :1, :1].expand_as(dropped))

    def test_of_none_draws_no_number(self) -> None:
        before = torch.get_rng_state()
        small().train().dropout(torch.ones(1, 32, 4, 4))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("pooling", ["avg", "lse"])
def test_what_is_embedded_and_finished_is_what_the_network_gives(pooling: str) -> None:
    model, images = small(pooling=pooling), noise(3, 3, SIDE, SIDE).double()
    embedded = model.embed(images)
    assert embedded.shape[2:] == ((1, 1) if pooling == "avg" else (8, 8))
    assert torch.allclose(model.finish(embedded), model(images), atol=1e-12)


class TestAlexnet:
    def test_is_torchvisions(self) -> None:
        import torchvision

        theirs = torchvision.models.alexnet(weights=None).features.eval()
        ours = alexnet(3)
        ours.load_state_dict({f"features.{k}": v for k, v in theirs.state_dict().items()})
        images = noise(2, 3, 96, 96)
        assert torch.equal(ours.forward_features(images), theirs(images))

    def test_its_stages(self) -> None:
        model, images = create_model("alexnet", PAIR), noise(1, 3, 224, 224)
        assert stage_layers(model) == ("body.net.features.1", "body.net.features.4", "body.net.features.11", "body")
        assert len(sweep_layers(model)) == 5
        sizes = [m.shape[-1] for m in attribute(model, images, method="layercam", layers="stages").maps.values()]
        assert sizes == [55, 27, 13, 6]

    def test_ends_before_its_last_pooling_where_the_stride_is_16(self, tmp_path: Path) -> None:
        """As in Zhou et al. 2016: a map of 13 x 13."""
        whole, short = (create_model("alexnet", PAIR, truncate=t, output_stride=16 if t else None) for t in (0, 1))
        images = noise(1, 3, 224, 224)
        assert torch.equal(F.max_pool2d(short.body(images), 3, 2), whole.body(images))
        save_model(short.eval(), tmp_path / "short")
        assert torch.equal(load_model(tmp_path / "short")(images), short(images))

    def test_of_too_small_a_slice_nothing_is_left(self) -> None:
        least = Preprocess(size=63)
        assert create_model("alexnet", PAIR, preprocess=least).body(noise(1, 3, 63, 63)).shape == (1, 256, 1, 1)
        with pytest.raises(InputError, match=r"^alexnet has no feature map of 62 px: give it 63 px or more$"):
            create_model("alexnet", PAIR, preprocess=Preprocess(size=62))
        short = create_model("alexnet", PAIR, preprocess=Preprocess(size=32), truncate=True, output_stride=8)
        assert short.body(noise(1, 3, 32, 32)).shape[2:] == (3, 3)

    def test_the_hub_is_torchvisions(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Read from torch's cache; what lies there is torchvision's own form, classifier and all."""
        import torchvision

        theirs = torchvision.models.alexnet(weights=None)
        found = torchvision.models.AlexNet_Weights.DEFAULT
        asked: list[dict[str, object]] = []

        def cached(self: object, *_: object, **options: object) -> dict[str, Tensor]:
            asked.append(options)
            return theirs.state_dict()

        monkeypatch.setattr(type(found), "get_state_dict", cached)
        model = create_model("alexnet", PAIR, pretrained="hub")
        images = noise(1, 3, 96, 96)
        assert torch.equal(model.body(images), theirs.features(images))
        assert asked[0]["weights_only"] is True
        monkeypatch.setattr(type(found), "get_state_dict", offline)
        with pytest.raises(InputError, match=r"torchvision's weights for alexnet.*go online once"):
            create_model("alexnet", PAIR, pretrained="hub")


def offline(*_: object, **__: object) -> None:
    raise OSError


class TestSmallCnn:
    def test_its_layers(self) -> None:
        model = dense("small_cnn", 256, ("a", "b", "c", "d"))
        shapes = [tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")]
        assert shapes == [(8, 3, 3, 3), (16, 8, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (100, 64 * 256), (4, 100)]
        assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.25]
        assert model.body(noise(1, 3, 256, 256)).shape == (1, 64, 16, 16)

    def test_has_no_class_map_and_says_what_to_use(self) -> None:
        model, images = dense("small_cnn"), noise(1, 3, SIDE, SIDE)
        said = r"^this small_cnn ends in dense layers, so it has no class map and no cam: use gradcam instead$"
        with pytest.raises(InputError, match=said):
            attribute(model, images, method=("gradcam", "cam"))
        with pytest.raises(InputError, match=said):
            model.class_map(model.body(images))

    def test_a_sweep_has_its_four_convolutions(self) -> None:
        model = dense("small_cnn")
        maps = attribute(model, noise(1, 3, SIDE, SIDE), method="gradcam", layers="sweep").maps
        assert [(layer, m.shape[-1]) for (_, layer), m in maps.items()] == [
            ("body.net.features.0", 64), ("body.net.features.3", 32),
            ("body.net.features.6", 16), ("body.net.features.9", 8),
        ]  # fmt: skip

    def test_stride_and_pooling_are_refused(self) -> None:
        for arguments in ({"pooling": "lse"}, {"output_stride": 8, "truncate": True}, {"truncate": True}):
            for name in ("small_cnn", "cam_attention"):
                with pytest.raises(InputError, match="ends in dense layers of fixed size"):
                    create_model(name, PAIR, **arguments)
        with pytest.raises(InputError, match="no weights for small_cnn anywhere"):
            create_model("small_cnn", PAIR, pretrained="hub")


@pytest.mark.parametrize("name", ["small_cnn", "cam_attention"])
def test_every_method_but_cam_explains_a_network_with_dense_layers(name: str) -> None:
    model = dense(name, 32)
    names = [m["name"] for m in list_methods() if not m["needs_head"]]
    with Explainer(model) as explain:
        result = explain(noise(2, 3, 32, 32), methods=names)
    assert {method for method, _ in result.maps} == set(names)
    assert all("non-finite" not in result.status(*key) for key in result.maps)


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", ["small_cnn", "cam_attention"])
def test_networks_with_dense_layers_are_saved_and_loaded(name: str, head: str, tmp_path: Path) -> None:
    model, images = dense(name, head=head), noise(2, 3, SIDE, SIDE)
    save_model(model, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert loaded.spec == model.spec
    assert torch.equal(loaded(images), model(images))
    assert torch.equal(model.finish(model.embed(images)), model(images))


def test_chains_cannot_be_dilated_and_keep_no_dense_layers() -> None:
    for name in CHAINS:
        with pytest.raises(InputError):
            create_model(name, PAIR, output_stride=8)
        with pytest.raises(InputError):
            create_model(name, PAIR, keep_dense=True)
    with pytest.raises(InputError, match="only VGG has"):
        create_model("resnet18", PAIR, keep_dense=True)


class TestVggsDenseLayers:
    def test_stand_between_features_and_head(self) -> None:
        kept, gone = (create_model("vgg_tiny", PAIR, keep_dense=k).eval() for k in (True, False))
        images = noise(2, 3, 32, 32)
        vector = kept.embed(images)
        assert vector.shape == (2, 4096)
        features = kept.body(images)
        assert features.shape == gone.body(images).shape == (2, 16, 8, 8)
        first, second = kept.dense[0].fc1, kept.dense[0].fc2
        assert torch.allclose(vector, second(first(features).relu()).relu().mean(dim=(2, 3)), atol=1e-6)
        assert torch.equal(kept(images), kept.head(vector))
        assert not kept.has_class_map
        assert gone.has_class_map
        assert sweep_layers(kept) == sweep_layers(gone)
        attribute(kept, images, method=("gradcam", "layercam"), layers="stages")

    @pytest.mark.parametrize("form", ["torchvision", "timm"])
    def test_come_from_a_file_of_either_form(self, form: str, tmp_path: Path) -> None:
        source = create_model("vgg_tiny", PAIR, keep_dense=True, seed=5).eval()
        state = {k.removeprefix("body.net."): v for k, v in source.state_dict().items() if k.startswith("body")}
        for i, name in ((0, "fc1"), (3, "fc2")):
            for kind in ("weight", "bias"):
                value = source.state_dict()[f"dense.0.{name}.{kind}"]
                where = f"classifier.{i}.{kind}" if form == "torchvision" else f"pre_logits.{name}.{kind}"
                state[where] = value.flatten(1) if form == "torchvision" and kind == "weight" else value
        state |= {"classifier.6.weight": torch.zeros(1000, 4096), "classifier.6.bias": torch.zeros(1000)}
        torch.save(state, tmp_path / "vgg.pth")
        loaded = create_model("vgg_tiny", PAIR, keep_dense=True, pretrained=tmp_path / "vgg.pth").eval()
        images = noise(1, 3, 32, 32)
        assert torch.equal(loaded.embed(images), source.embed(images))
        for key in [k for k in state if "classifier" in k or "pre_logits" in k]:
            del state[key]
        torch.save(state, tmp_path / "features.pth")
        with pytest.raises(InputError, match=r"features\.pth does not fit .* no tensor for pre_logits\.fc1\.weight"):
            create_model("vgg_tiny", PAIR, keep_dense=True, pretrained=tmp_path / "features.pth")

    def test_are_saved_and_loaded(self, tmp_path: Path) -> None:
        model, images = create_model("vgg_tiny", PAIR, keep_dense=True).eval(), noise(1, 3, 32, 32)
        save_model(model, tmp_path / "saved")
        assert torch.equal(load_model(tmp_path / "saved")(images), model(images))

    def test_the_last_layer_has_16388_weights_for_four_classes(self) -> None:
        with torch.device("meta"):
            model = create_model("vgg16", ("a", "b", "c", "d"), keep_dense=True)
        assert sum(p.numel() for p in model.head.parameters()) == 16_388
        assert sum(p.numel() for p in model.parameters()) == 134_276_932  # as stated for VGG16 with four classes


def test_an_old_description_reads_as_before() -> None:
    spec = ModelSpec.model_validate({"architecture": "resnet18", "classes": ["a", "b"]})
    assert (spec.head, spec.keep_dense) == ("softmax", False)
