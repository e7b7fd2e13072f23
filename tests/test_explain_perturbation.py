"""Maps from what the score does when the input or a layer is changed: by hand, against plain loops, in any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gyrus.explain import attribute
from gyrus.explain.perturbation import random_masks
from gyrus.models import create_model
from gyrus.models.folding import folded


class Weighed(nn.Module):
    """Two feature channels, the image and its negative, and a score that is a weighted sum of what is in them."""

    def __init__(self, *weights: float, bias: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, len(weights), 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([(-1.0) ** k for k in range(len(weights))]).view(-1, 1, 1, 1))
        self.weights = weights
        self.bias = bias

    def forward(self, images: Tensor) -> Tensor:
        a = self.features(images)
        score = sum(w * a[:, k].sum(dim=(1, 2)) for k, w in enumerate(self.weights)) + self.bias
        return torch.stack([score, -score], dim=1)


IMAGE = torch.tensor([[[[1.0, 2], [4, 0]]]])


class TestAblationCAM:
    def test_by_hand(self) -> None:
        # A = (x, -x), which add up to 7 and -7: s = 3 * 7 - 1 * 7 + 1 = 15.
        # Without channel 0: -7 + 1 = -6, a fall of 21; without channel 1: 21 + 1 = 22, a fall of -7.
        net = Weighed(3, 1, bias=1)
        found = attribute(net, IMAGE, method="ablationcam", layers=["features"], target="all")
        assert found.logits.tolist() == [[15, -15]]
        x = IMAGE[0, 0]
        torch.testing.assert_close(found.maps["ablationcam", "features"][0, 0], (21 * x + 7 * x) / 15)
        # The other class has the opposite score; divided by it as the paper writes, its map would be the same.
        torch.testing.assert_close(found.maps["ablationcam", "features"][0, 1], -(21 * x + 7 * x) / 15)

    def test_a_score_of_zero_is_not_divided_by(self) -> None:
        found = attribute(Weighed(3, 3), IMAGE, method="ablationcam", layers=["features"], target=0)
        assert found.logits[0, 0] == 0
        torch.testing.assert_close(found.maps["ablationcam", "features"][0], 42 * IMAGE[0, 0])

    @pytest.mark.parametrize("layer", ["block.0", "block", "joined"])
    def test_skips_and_concatenations_past_the_layer_see_the_image(self, layer: str) -> None:
        class Joined(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(2, 3, 3, padding=1)
                self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
                self.joined = nn.Conv2d(6, 4, 1)
                self.seen = 0

            def forward(self, images: Tensor) -> Tensor:
                x = self.stem(images)
                self.seen += len(x)
                y = self.joined(torch.cat([x, x + self.block(x)], dim=1))
                return y.square().mean(dim=(2, 3))

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            net = Joined().eval()
        images = torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(1))
        target = [1, 3]
        found = attribute(net, images, method="ablationcam", layers=[layer], target=target)
        module = net.get_submodule(layer)
        with torch.no_grad():
            kept: list[Tensor] = []
            with module.register_forward_hook(lambda _m, _i, o: kept.append(o)):
                scores = net(images)
            a = kept[0]
            expected = torch.zeros(2, *a.shape[2:])
            for k in range(a.shape[1]):

                def silence(_m: nn.Module, _i: object, output: Tensor, k: int = k) -> Tensor:
                    output = output.clone()
                    output[:, k] = 0
                    return output

                with module.register_forward_hook(silence):
                    without = net(images)
                for n, c in enumerate(target):
                    expected[n] += (scores[n, c] - without[n, c]) / scores[n, c].abs() * a[n, k]
        torch.testing.assert_close(found.maps["ablationcam", layer], expected, rtol=1e-4, atol=1e-6)

    def test_the_layers_before_see_each_image_once_a_batch(self) -> None:
        net = create_model("resnet10t", ("a", "b"), seed=1)
        seen: list[int] = []
        net.body.net.layer1.register_forward_hook(lambda _m, _i, output: seen.append(len(output)))
        attribute(net, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), method="ablationcam")
        assert max(seen) == 2  # the batch itself; never 512 channels


class TestScoreCAM:
    def test_by_hand(self) -> None:
        # Channel 0 is x, channel 1 -x. Enlarged to their own size, scaled to 0..1: x / 4 and 1 - x / 4.
        # s = sum x: through the first, sum x^2 / 4 = 21/4; through the second, 7 - 21/4 = 7/4.
        net = Weighed(1, 0)
        found = attribute(net, IMAGE, method="scorecam", layers=["features"], target=0)
        w = torch.tensor([21 / 4, 7 / 4]).softmax(dim=0)
        torch.testing.assert_close(found.maps["scorecam", "features"][0], (w[0] - w[1]) * IMAGE[0, 0])

    def test_it_is_the_papers_loop(self) -> None:
        net = create_model("resnet10t", ("a", "b", "c"), seed=3).eval()
        with torch.no_grad():
            net.head.weight.mul_(50)
        images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
        found = attribute(net, images, method="scorecam", layers=["body.net.layer1"], target=[2, 0])
        with torch.no_grad():
            kept: list[Tensor] = []
            with net.body.net.layer1.register_forward_hook(lambda _m, _i, o: kept.append(o)):
                net(images)
            a = kept[0]
            expected = []
            for n, c in enumerate([2, 0]):
                up = nn.functional.interpolate(a[n][:, None], (32, 48), mode="bilinear")
                low, high = up.amin(dim=(1, 2, 3), keepdim=True), up.amax(dim=(1, 2, 3), keepdim=True)
                masks = torch.where(high > low, (up - low) / (high - low), 0)
                scores = net(images[n] * masks)[:, c] - net(torch.zeros(1, 3, 32, 48))[0, c]
                expected.append((scores.softmax(dim=0)[:, None, None] * a[n]).sum(dim=0))
        largest = float(torch.stack(expected).abs().max())
        torch.testing.assert_close(
            found.maps["scorecam", "body.net.layer1"], torch.stack(expected), rtol=1e-3, atol=1e-5 * largest
        )

    def test_channels_that_do_not_vary_share_one_pass(self) -> None:
        class Mostly(Weighed):
            def forward(self, images: Tensor) -> Tensor:
                self.seen = getattr(self, "seen", 0) + len(images)
                return super().forward(images)

        net = Mostly(1, 0, 0, 0)
        with torch.no_grad():
            net.features.weight[1:] = 0
        found = attribute(net, IMAGE, method="scorecam", layers=["features"], target=0)
        assert net.seen == 3  # the image, the image through channel 0, and through nothing
        w = torch.tensor([21 / 4, 0, 0, 0]).softmax(dim=0)
        torch.testing.assert_close(found.maps["scorecam", "features"][0], w[0] * IMAGE[0, 0])


class TestOcclusion:
    def test_by_hand(self) -> None:
        # s = sum x; squares of one pixel painted 10: the fall is x - 10 there.
        found = attribute(
            Weighed(1, 0), IMAGE, method="occlusion", target=0,
            options={"occlusion": {"window": 1, "stride": 1, "baseline": 10}},
        )  # fmt: skip
        torch.testing.assert_close(found.maps["occlusion", "input"], IMAGE[:, 0] - 10)

    @pytest.mark.parametrize(("window", "stride"), [(3, 2), (2, 3), (4, 4), (50, 7)])
    def test_it_is_the_mean_over_the_squares_that_cover_a_pixel(self, window: int, stride: int) -> None:
        net = create_model("resnet10t", ("a", "b"), seed=3).eval()
        with torch.no_grad():
            net.head.weight.mul_(50)
        images = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
        options = {"occlusion": {"window": window, "stride": stride, "baseline": 0.5}}
        found = attribute(net, images, method="occlusion", target=1, options=options).maps["occlusion", "input"]
        total, count = torch.zeros(2, 7, 9), torch.zeros(7, 9)
        for y in range(0, max(7 - window, 0) + stride, stride):
            for x in range(0, max(9 - window, 0) + stride, stride):
                painted = images.clone()
                painted[:, :, y : y + window, x : x + window] = 0.5
                with torch.no_grad():
                    fall = (net(images) - net(painted))[:, 1]
                total[:, y : y + window, x : x + window] += fall[:, None, None]
                count[y : y + window, x : x + window] += 1
        largest = float(found.abs().max())
        assert largest > 0
        torch.testing.assert_close(found, total / count.clamp_min(1), rtol=1e-3, atol=1e-4 * largest)


class TestRISE:
    def test_it_is_the_mean_of_masks_weighted_by_the_probability(self) -> None:
        net = create_model("resnet10t", ("a", "b", "c"), seed=3).eval()
        with torch.no_grad():
            net.head.weight.mul_(50)
        images = torch.randn(3, 3, 32, 40, generator=torch.Generator().manual_seed(0))
        options = {"rise": {"masks": 30, "cells": 4, "keep": 0.3, "seed": 5}}
        found = attribute(net, images, method="rise", target=[2, 0, 1], options=options).maps["rise", "input"]
        (masks,) = random_masks(30, (32, 40), 4, 0.3, 5, at_once=30)
        with torch.no_grad():
            for n, c in enumerate([2, 0, 1]):
                p = net(images[n] * masks).softmax(dim=1)[:, c]
                expected = (p[:, None, None] * masks[:, 0]).sum(dim=0) / (30 * 0.3)
                torch.testing.assert_close(found[n], expected, rtol=1e-3, atol=1e-5)

    def test_masks_are_the_papers(self) -> None:
        (masks,) = random_masks(3000, (30, 44), 7, 0.5, 0, at_once=3000)
        assert masks.shape == (3000, 1, 30, 44)
        assert float(masks.min()) == 0
        assert float(masks.max()) == 1
        # Open cells are half of all, everywhere in the image; a pixel's mean has an error of at most 0.5 / sqrt(3000)
        mean = masks.mean(dim=0)
        assert 0.45 < float(mean.min()) < float(mean.max()) < 0.55

    def test_masks_depend_on_the_seed_alone(self) -> None:
        (whole,) = random_masks(20, (16, 16), 3, 0.5, 1, at_once=20)
        parts = torch.cat(list(random_masks(20, (16, 16), 3, 0.5, 1, at_once=7)))
        (other,) = random_masks(20, (16, 16), 3, 0.5, 2, at_once=20)
        assert torch.equal(whole, parts)
        assert not torch.equal(whole, other)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam", "occlusion", "rise"])
def test_the_network_never_sees_more_than_a_batch(method: str) -> None:
    net = create_model("resnet10t", ("a", "b"), seed=1)
    seen: list[int] = []
    net.register_forward_pre_hook(lambda _m, inputs: seen.append(len(inputs[0])))
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"rise": {"masks": 40}, "occlusion": {"window": 8, "stride": 8}}
    chosen = {k: v for k, v in options.items() if k == method}
    attribute(net, images, method=method, layers="body.net.layer1", options=chosen)
    assert len(seen) > 3
    assert max(seen) <= 32


@pytest.mark.parametrize(("method", "options"), [("scorecam", {}), ("occlusion", {}), ("rise", {"rise": {"masks": 4}})])
def test_perturbation_runs_the_network_in_the_callers_precision(method: str, options: dict[str, Any]) -> None:
    net = create_model("resnet10t", ("a", "b"), seed=1)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kinds: set[torch.dtype] = set()
    net.body.net.layer1.register_forward_hook(lambda _m, _i, output: kinds.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        result = attribute(net, images, method=method, layers="body.net.layer1", options=options)
    assert {m.dtype for m in result.maps.values()} == {torch.float32}
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("integrated-gradients", {"integrated-gradients": {"steps": 3}}),
        ("smoothgrad", {"smoothgrad": {"samples": 3}}),
    ],
)
def test_gradients_by_the_image_are_not_rounded_to_bf16(method: str, options: dict[str, Any]) -> None:
    net = create_model("resnet10t", ("a", "b"), seed=1)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    own = attribute(net, images, method=method, target=0, options=options)
    with torch.autocast("cpu", torch.bfloat16):
        got = attribute(net, images, method=method, target=0, options=options)
    for key, expected in own.maps.items():
        torch.testing.assert_close(got.maps[key], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fast", [False, True])
def test_a_channels_fall_is_not_rounded_away_under_bf16(fast: bool) -> None:
    net = create_model("resnet10t", ("a", "b"), seed=1).eval()
    with torch.no_grad():
        net.head.weight.mul_(30)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    scorer = {"scorer": folded(net, images[:1])} if fast else {}
    kept: list[Tensor] = []
    note = net.body.register_forward_hook(lambda _m, _i, output: kept.append(output.float().detach()))
    with torch.autocast("cpu", torch.bfloat16), note:
        found = attribute(net, images, method="ablationcam", layers="body", target=[0, 1], **scorer)
    a, weight, bias = kept[0], net.head.weight.detach()[:, :, 0, 0], net.head.bias
    assert bias is not None
    means = a.mean(dim=(2, 3))  # pooled by the average, so that the falls are known in closed form
    for i, c in enumerate((0, 1)):
        score = weight[c] @ means[i] + bias.detach()[c]
        expected = ((weight[c] * means[i] / score.abs())[:, None, None] * a[i]).sum(dim=0)
        torch.testing.assert_close(found.maps["ablationcam", "body"][i], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["scorecam", "occlusion", "rise"])
def test_a_faster_network_is_asked_in_place_of_the_model(method: str) -> None:
    net = create_model("resnet10t", ("a", "b"), seed=1).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"rise": {"rise": {"masks": 40}}, "occlusion": {"occlusion": {"window": 16, "stride": 16}}}.get(method)
    fast = folded(net, images[:1])
    asked: list[int] = []
    fast.register_forward_pre_hook(lambda _m, inputs: asked.append(len(inputs[0])))
    own = attribute(net, images, method=method, layers="body.net.layer1", options=options)
    got = attribute(net, images, method=method, layers="body.net.layer1", options=options, scorer=fast)
    assert asked
    for key, expected in own.maps.items():
        torch.testing.assert_close(got.maps[key], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
