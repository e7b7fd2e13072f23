"""Attention guided by the class map, piece by piece and as a network that is trained."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from discs import small_config, write_discs
from torch import Tensor

from gyrus.errors import InputError
from gyrus.explain import attribute, stage_layers, sweep_layers
from gyrus.models import create_model, load_model, save_model
from gyrus.models.attention import CamAttention, ChannelAttention, SpatialAttention, evidence
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset
from gyrus.splits import Split, holdout
from gyrus.training import TrainConfig, fit

PAIR = ("no_tumor", "tumor")


class StopError(Exception):
    """Raised from a progress callback."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network(size: int = 64, *, attends: bool = True, head: str = "sigmoid") -> CamAttention:
    spec = Preprocess(size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = create_model("cam_attention", PAIR, preprocess=spec, head=head)
    assert isinstance(model, CamAttention)
    with torch.no_grad():
        model.head.weight.copy_(noise(*model.head.weight.shape, seed=3))
        model.head.bias.fill_(0.25)
    model.switch_attention(attends)
    return model.eval()


def test_evidence_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])  # two channels of 1 x 2
    for_first = torch.tensor([1.0, 2.0, -1.0, -1.0])  # the map of the first class is 1 - 3 = -2, 4 - 1 = 3
    weights = torch.stack([for_first, -for_first])
    found = evidence(features, weights, torch.zeros(2))
    assert found.shape == (1, 1, 1, 2)
    assert found.flatten().tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
    other = evidence(features, weights, torch.tensor([0.0, 5.0]))  # 1 against -1 + 5: the second class, map 2, -3
    assert other.flatten().tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_evidence_is_even_where_there_is_none_and_knows_no_scale() -> None:
    features, weights = noise(3, 4, 2, 5).relu(), noise(2, 40, seed=1)
    zero = torch.zeros(2)
    assert torch.equal(evidence(torch.zeros(1, 4, 2, 5), weights, zero), torch.ones(1, 1, 2, 5))
    torch.testing.assert_close(
        evidence(features, 10 * weights, zero), evidence(features, weights, zero), atol=1e-5, rtol=0
    )
    assert not evidence(features.requires_grad_(True), weights, zero).requires_grad


def test_channel_attention_with_an_even_map_is_that_of_cbam() -> None:
    module, features = ChannelAttention(32), noise(2, 32, 6, 6).relu()
    first, second = module.shared[0], module.shared[2]
    assert first.out_features == 4

    def shared(descriptor: Tensor) -> Tensor:
        return (descriptor @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias

    expected = (shared(features.mean(dim=(2, 3))) + shared(features.amax(dim=(2, 3)))).sigmoid()
    torch.testing.assert_close(module(features, torch.ones(2, 1, 6, 6))[:, :, 0, 0], expected)


def test_channel_attention_sees_only_where_the_evidence_is() -> None:
    module, features = ChannelAttention(8), noise(1, 8, 2, 2).relu()
    where = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    alone = features[:, :, :1, 1:]
    torch.testing.assert_close(module(features, where), module(alone, torch.ones(1, 1, 1, 1)))


def test_spatial_attention_by_hand() -> None:
    module, features = SpatialAttention(), noise(1, 4, 9, 9)
    both = F.pad(torch.stack([features.mean(dim=1), features.amax(dim=1)], dim=1), (3, 3, 3, 3))
    weight, bias = module.conv.weight[0], module.conv.bias
    by_hand = torch.stack(
        [(both[0, :, y : y + 7, x : x + 7] * weight).sum() + bias[0] for y in range(9) for x in range(9)]
    )
    torch.testing.assert_close(module(features).flatten(), by_hand.sigmoid())


def test_sizes_at_240_pixels() -> None:
    model = create_model(
        "cam_attention", PAIR, head="sigmoid", preprocess=Preprocess(size=240, mean=(0.0,), std=(1.0,)), channels=1
    )
    images = noise(1, 1, 240, 240)
    assert model.body(images).shape == (1, 32, 60, 60)
    assert model.dense[0](model.body(images)).shape == (1, 32, 15, 15)
    assert model.head.weight.shape == (1, 7200)
    assert model(images).shape == (1, 2)


def test_a_new_network_attends_to_nothing_until_it_is_switched_on() -> None:
    model, images = network(attends=False), noise(2, 3, 64, 64)
    plain = model.body(images)
    expected = F.max_pool2d(plain, 4).flatten(1) @ model.head.weight[0] + model.head.bias
    torch.testing.assert_close(model(images), torch.stack([-expected / 2, expected / 2], dim=1))
    model.switch_attention(True)
    where = model.guide(plain)
    assert where.shape == (2, 1, 16, 16)
    scaled = plain * model.channel(plain, where)
    scaled = scaled * model.spatial(scaled)
    expected = F.max_pool2d(scaled, 4).flatten(1) @ model.head.weight[0] + model.head.bias
    torch.testing.assert_close(model(images), torch.stack([-expected / 2, expected / 2], dim=1))


def test_switched_on_in_a_new_network_attention_leaves_most_of_the_features() -> None:
    """Two factors of about 0.88, where gates that begin half open would leave a quarter."""
    model = create_model("cam_attention", PAIR).eval()
    slices = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    before = model.features(slices).sum()
    model.switch_attention(True)
    assert 0.7 < (model.features(slices).sum() / before).item() < 0.9


def test_every_weight_learns_once_attention_is_on() -> None:
    for attends, idle in ((False, {"channel", "spatial"}), (True, set())):
        model = network(attends=attends).train()
        model(noise(4, 3, 64, 64))[:, 0].sum().backward()
        assert {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None} == idle


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_at_the_last_layer_hirescam_is_the_exact_class_map(head: str) -> None:
    model, images = network(head=head), noise(2, 3, 64, 64)
    maps = attribute(model, images, method="hirescam", target=1).maps["hirescam", "dense.0"]
    assert maps.shape == (2, 4, 4)
    bias = 0.125 if head == "sigmoid" else 0.25
    torch.testing.assert_close(maps.sum(dim=(1, 2)) + bias, model(images)[:, 1].detach())


def test_cam_is_refused_and_stages_and_sweep_are_there() -> None:
    model, images = network(), noise(1, 3, 64, 64)
    with pytest.raises(InputError, match=r"^this cam_attention ends in dense layers.*use gradcam instead$"):
        attribute(model, images, method="cam")
    assert stage_layers(model) == ("body.net.features.2", "body.net.features.3", "dense.0")
    assert sweep_layers(model) == ("body.net.features.0", "spatial.conv")
    for layers in ("stages", "sweep"):
        sizes = [m.shape[-1] for m in attribute(model, images, method="layercam", layers=layers).maps.values()]
        assert sizes == ([64, 16, 4] if layers == "stages" else [64, 16])
    model.switch_attention(False)
    assert len(attribute(model, images, method="layercam", layers="sweep").maps) == 1


def test_the_saved_model_remembers_whether_it_attends(tmp_path: Path) -> None:
    images = noise(1, 3, 64, 64)
    for attends in (True, False):
        model = network(attends=attends)
        save_model(model, tmp_path / f"{attends}")
        loaded = load_model(tmp_path / f"{attends}")
        assert isinstance(loaded, CamAttention)
        assert bool(loaded.attends) is attends
        assert torch.equal(loaded(images), model(images))


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_discs(tmp_path_factory.mktemp("attention") / "discs", patients=8)


@pytest.fixture(scope="module")
def split(discs: Dataset) -> Split:
    return holdout(discs, (0.5, 0.25, 0.25))


class TestTraining:
    @staticmethod
    def config(**fields: object) -> TrainConfig:
        own = {"model": "cam_attention", "head": "sigmoid", "output_stride": None, "truncate": False, "epochs": 4}
        return small_config(**own, **fields)

    def test_attention_is_switched_on_in_its_epoch(self, discs: Dataset, split: Split, tmp_path: Path) -> None:
        never, third, late = (
            fit(discs, split, self.config(attention_from=a, choose="last"), tmp_path / f"{a}") for a in (None, 3, 9)
        )
        assert [bool(m.attends) for m in (never, third, late)] == [False, True, False]
        assert [m.spec.training["attention_from"] for m in (never, third, late)] == [None, 3, None]
        rows = [self.losses(tmp_path / name) for name in ("None", "3", "9")]
        assert rows[0] == rows[2]
        assert rows[0][:2] == rows[1][:2]
        assert rows[0][2] != rows[1][2]

    def test_the_switch_survives_resuming(self, discs: Dataset, split: Split, tmp_path: Path) -> None:
        def stop(what: str, done: int, total: int) -> None:
            if what.startswith("epoch 4"):
                raise StopError

        config = self.config(attention_from=3)
        with pytest.raises(StopError):
            fit(discs, split, config, tmp_path / "run", progress=stop)
        model = fit(discs, split, config, tmp_path / "run", resume=True)
        unbroken = fit(discs, split, config, tmp_path / "unbroken").state_dict()
        assert self.losses(tmp_path / "run") == self.losses(tmp_path / "unbroken")
        assert all(torch.equal(v, unbroken[k]) for k, v in model.state_dict().items())

    def test_an_epoch_kept_from_before_the_switch_does_not_attend(
        self, discs: Dataset, split: Split, tmp_path: Path
    ) -> None:
        model = fit(discs, split, self.config(attention_from=4, choose="loss"), tmp_path / "run")
        assert bool(load_model(tmp_path / "run").attends) is (model.spec.training["epoch"] == 4)

    def test_a_model_without_attention_is_refused(self, discs: Dataset, split: Split, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="mobilenetv2_100 has no attention to switch on"):
            fit(discs, split, small_config(attention_from=1), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @staticmethod
    def losses(out: Path) -> list[str]:
        with (out / "epochs.csv").open(newline="", encoding="utf-8") as file:
            return [row["train_loss"] for row in csv.DictReader(file)]
