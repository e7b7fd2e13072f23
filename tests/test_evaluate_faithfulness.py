"""Pixels taken and given: by hand, against torchcam and grad-cam, and on degenerate maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from grad_cam_road import by_grad_cam
from planted import SIDE, Planted, bright_images
from torch import Tensor, nn
from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

from gyrus.errors import InputError
from gyrus.evaluate.explaining import by_method
from gyrus.evaluate.faithfulness import CARDS, Faithfulness, blurred
from gyrus.models import create_model


class Sum(nn.Module):
    """Two logits: the weighted sum of the four pixels, and 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    def forward(self, images: Tensor) -> Tensor:
        first = (images * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([first, torch.zeros_like(first)], dim=1)


class Given:
    """What torchcam's metrics take for an extractor, giving the maps it was given."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, class_idx: object, scores: Tensor) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def small_net(seed: int = 0) -> nn.Module:
    """A trained-looking network with strong opinions on 20 x 20 px, batch normalisation included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(486, 3),
        )
        net.train()(torch.randn(16, 2, 20, 20) * 2 + 1)
    return net.eval()


def some(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 2, 20, 20, generator=generator)
    return images, torch.rand(n, 20, 20, generator=generator), torch.arange(n) % 3


def sigmoid(*values: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.array(values)))


def test_deletion_and_insertion_by_hand() -> None:
    images = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    maps = torch.tensor([[[5.0, 8.0], [6.0, 7.0]]])  # the order is 0.2, 0.4, 0.3, 0.1
    probe = Faithfulness(Sum(), images, torch.tensor([0]))
    whole = 0.1 + 0.4 + 0.9 + 1.6
    taken = probe.deletion(maps, steps=4)
    assert taken.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    expected = sigmoid(whole, whole - 0.4, whole - 2.0, whole - 2.9, 0)
    assert taken.scores[0].numpy() == pytest.approx(expected)
    assert taken.area[0] == pytest.approx((expected[0] / 2 + expected[1:4].sum() + expected[4] / 2) / 4)
    assert taken.hits.tolist() == [[True] * 5]  # a tie goes to the first class
    given = probe.insertion(maps, steps=2, baseline=torch.tensor(-1.0))
    # Behind -10 in all: 0.2 and 0.4 come back first, by 1.2 * 2 and 1.4 * 4.
    assert given.scores[0].numpy() == pytest.approx(sigmoid(-10, -10 + 1.2 * 2 + 1.4 * 4, whole))
    assert given.hits.tolist() == [[False, False, True]]
    other = Faithfulness(Sum(), images, torch.tensor([1])).deletion(maps, steps=4)
    assert other.scores[0].numpy() == pytest.approx(1 - expected, abs=1e-6)


def test_confidence_by_hand() -> None:
    images = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]], [[[-0.1, 0.2], [-0.3, -0.4]]]])
    maps = torch.tensor([[[-3.0, 2.0], [4.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    drop, increase = Faithfulness(Sum(), images, torch.tensor([0, 0])).confidence(maps)
    before = sigmoid(3.0, -2.2)
    after = sigmoid(0.5 * 0.4 + 0.9, 0.4)
    assert drop.numpy() == pytest.approx([(before[0] - after[0]) / before[0], 0])
    assert increase.tolist() == [0, 1]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_curves_agree_with_torchcam(batch_size: int) -> None:
    net = small_net()
    images, maps, target = some()
    peer = DeletionInsertionMetric(Given(net, maps), lambda x: x.softmax(dim=1), steps=20, batch_size=3)
    peer.update(images, target.tolist())
    probe = Faithfulness(net, images, target, batch_size=batch_size)
    black = torch.zeros_like(images)
    got = probe.deletion(maps, steps=20).area.mean(), probe.insertion(maps, steps=20, baseline=black).area.mean()
    assert [float(g) for g in got] == pytest.approx(list(peer.summary().values()), abs=1e-6)


def test_confidence_agrees_with_torchcam() -> None:
    net = small_net()
    images, maps, target = some(8)
    maps = maps / maps.amax(dim=(1, 2), keepdim=True)
    peer = ClassificationMetric(Given(net, maps), lambda x: x.softmax(dim=1))
    peer.update(images, target.tolist())
    drop, increase = Faithfulness(net, images, target).confidence(maps)
    assert float(drop.mean()) == pytest.approx(peer.summary()["avg_drop"], abs=1e-6)
    assert float(increase.mean()) == pytest.approx(peer.summary()["conf_increase"])
    assert 0 < float(increase.mean()) < 1


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_road_removes_by_rank_and_imputes_as_grad_cam_does(order: str) -> None:
    net = small_net().requires_grad_(False)
    images, maps, target = some()
    got = Faithfulness(net, images, target).road(maps, order=order, percentages=(10, 50, 90), noise=0)  # type: ignore[arg-type]
    for column, n in enumerate((40, 200, 360)):
        for i, c in enumerate(target.tolist()):
            ranked = maps[i].flatten().argsort(descending=order == "morf")[:n].numpy()
            removed = np.isin(np.arange(400), ranked).reshape(20, 20)
            picture = torch.from_numpy(by_grad_cam(images[i].numpy(), removed)).float()
            expected = net(picture.unsqueeze(0)).softmax(dim=1)[0, c]
            assert float(got.scores[i, column]) == pytest.approx(float(expected), abs=1e-5)
    assert got.mean.numpy() == pytest.approx(got.scores.numpy().mean(axis=1))
    assert got.shares.tolist() == pytest.approx([0.1, 0.5, 0.9])


def test_the_noise_is_seeded_and_the_same_for_any_batch() -> None:
    net = small_net()
    images, maps, target = some()
    scores = [
        Faithfulness(net, images, target, batch_size=b, seed=s).road(maps, noise=0.5).scores
        for b, s in ((4, 0), (64, 0), (64, 1))
    ]
    assert torch.allclose(scores[0], scores[1], atol=1e-6)
    assert not torch.allclose(scores[0], scores[2], atol=1e-3)
    turned = Faithfulness(net, images.flip(0), target.flip(0)).road(maps.flip(0), noise=0.5).scores
    assert torch.allclose(scores[0], turned.flip(0), atol=1e-6)


def test_a_network_that_looks_at_one_square_needs_only_that() -> None:
    images, target = bright_images(), torch.tensor([1, 1, 1])
    maps = by_method("hirescam", "window")(Planted(), images, target)
    probe = Faithfulness(Planted(), images, target)
    right, wrong = probe.deletion(maps, steps=16), probe.deletion(-maps, steps=16)
    # The square is 36 of 576 pixels, a sixteenth: one step takes it all, and nothing after that matters.
    assert right.scores[:, 1:].numpy() == pytest.approx(np.full((3, 16), 0.5))
    assert wrong.scores[:, :16].numpy() == pytest.approx(right.scores[:, :1].numpy().repeat(16, axis=1))
    given = probe.insertion(maps, steps=16, baseline=torch.zeros(1))
    assert given.scores[:, 0].numpy() == pytest.approx(np.full(3, 0.5))
    assert given.scores[:, 1:].numpy() == pytest.approx(right.scores[:, :1].numpy().repeat(16, axis=1))
    assert (probe.road(maps).mean < probe.road(maps, order="lerf").mean).all()
    drop, _ = probe.confidence((maps > 0).float())
    assert drop.numpy() == pytest.approx(np.zeros(3))


def test_steps_that_change_no_pixel_cost_no_pass() -> None:
    net = small_net()
    images, maps, target = some()
    images[:, :, 10:] = 0  # half of each image is the baseline already
    maps[:, 10:] -= 10  # and comes last
    probe = Faithfulness(net, images, target, batch_size=1)
    passes: list[int] = []
    probe.net.register_forward_hook(lambda *_: passes.append(1))
    curve = probe.deletion(maps, steps=20)
    assert len(passes) == 5 * 11
    assert (curve.scores[:, 11:] == curve.scores[:, 10:11]).all()
    with torch.no_grad():
        for n in range(0, 401, 20):
            order = maps.flatten(1).argsort(dim=1, descending=True)[:, :n]
            deleted = images.flatten(2).scatter(2, order.unsqueeze(1).expand(-1, 2, -1), 0).reshape_as(images)
            expected = net(deleted).softmax(dim=1)[torch.arange(5), target]
            assert curve.scores[:, n // 20].numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_pictures_that_curves_share_are_looked_at_once() -> None:
    images, maps, target = some()
    probe = Faithfulness(small_net(), images, target)
    looked: list[int] = []
    probe.net.register_forward_hook(lambda _, inputs, __: looked.append(len(inputs[0])))
    black = torch.zeros(1)
    first = probe.deletion(maps, steps=4), probe.insertion(maps, steps=4, baseline=black)
    # Three steps of each image, both ways; the images, as deletion's start; and one black picture for all of them.
    assert sum(looked) == 2 * 3 * 5 + 5 + 1
    assert torch.equal(first[0].scores[:, 0], first[1].scores[:, -1])
    assert torch.equal(first[0].scores[:, -1], first[1].scores[:, 0])
    looked.clear()
    probe.deletion(1 - maps, steps=4)
    probe.confidence(maps)
    assert sum(looked) == 3 * 5 + 5
    looked.clear()
    probe.deletion(maps, steps=4, baseline=1.0)
    assert sum(looked) == 3 * 5 + 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_has_no_score_and_harms_no_other(bad: float) -> None:
    net = small_net()
    images, maps, target = some()
    broken = maps.clone()
    broken[2, 3, 3] = bad
    probe = Faithfulness(net, images, target)
    for rule in (probe.deletion, probe.insertion, probe.road):
        clean, got = rule(maps), rule(broken)
        assert got.scores[2].isnan().all()
        assert not got.hits[2].any()
        kept = [0, 1, 3, 4]
        assert torch.allclose(got.scores[kept], clean.scores[kept], atol=1e-6)
    for values in probe.confidence(broken):
        assert values.isnan().tolist() == [False, False, True, False, False]
    nothing = Faithfulness(net, images[:1], target[:1]).deletion(torch.full((1, 20, 20), bad))
    assert nothing.scores.isnan().all()


def test_a_blank_map_removes_at_random_and_hides_all() -> None:
    net = small_net()
    images, _, target = some()
    blank = torch.zeros(5, 20, 20)
    probe = Faithfulness(net, images, target)
    first, second = probe.deletion(blank), probe.deletion(blank + 3)
    assert torch.equal(first.scores, second.scores)
    assert not torch.equal(first.scores, Faithfulness(net, images, target, seed=1).deletion(blank).scores)
    assert first.scores.isfinite().all()
    assert probe.road(blank).scores.isfinite().all()
    drop, increase = probe.confidence(blank)
    before, after = (net(x).softmax(dim=1)[torch.arange(5), target].detach() for x in (images, images * 0))
    assert drop.numpy() == pytest.approx(((before - after).relu() / before).numpy(), abs=1e-6)
    assert (increase.bool() == (after > before)).all()


def test_a_coarse_map_is_laid_over_the_input() -> None:
    net = small_net()
    images, _, target = some()
    coarse = torch.rand(5, 4, 5, generator=torch.Generator().manual_seed(3))
    fine = nn.functional.interpolate(coarse.unsqueeze(1), (20, 20), mode="bilinear", align_corners=False).squeeze(1)
    probe = Faithfulness(net, images, target)
    assert torch.equal(probe.deletion(coarse).scores, probe.deletion(fine).scores)


def test_the_model_is_left_as_it_was() -> None:
    model = create_model("mobilenetv2_100", ("a", "b"), channels=1, output_stride=8, truncate=True).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.randn(2, 1, 32, 32)
    random = torch.get_rng_state()
    probe = Faithfulness(model, images, torch.tensor([0, 1]))
    probe.deletion(torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)), steps=2)
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    assert all(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_wrong_shapes_and_percentages_are_refused() -> None:
    images, maps, target = some()
    with pytest.raises(InputError, match="need 5 target classes"):
        Faithfulness(small_net(), images, target[:2])
    probe = Faithfulness(small_net(), images, target)
    for wrong in (maps[:2], maps.unsqueeze(1)):
        with pytest.raises(InputError, match="need as many"):
            probe.deletion(wrong)
    for p in (0, 100):
        with pytest.raises(InputError, match="percentages"):
            probe.road(maps, percentages=(50, p))


def test_the_blur_is_gaussian() -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[0, 0, 20, 20] = 1
    got = blurred(point, sigma=3.0)[0, 0]
    assert float(got.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(got[20, 23] / got[20, 20]) == pytest.approx(np.exp(-0.5), rel=1e-4)
    flat = torch.full((2, 3, SIDE, SIDE), 0.7)
    assert blurred(flat).numpy() == pytest.approx(flat.numpy(), abs=1e-6)  # no dark border


def test_the_cards_say_which_way_is_better() -> None:
    lower = {c.name for c in CARDS if c.better == "lower"}
    assert lower == {"deletion", "road_morf", "confidence_drop"}
