"""Maps on the input: by hand, and adding up to the score where their papers say that they do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gyrus.explain import attribute
from gyrus.explain.fullgrad import spread
from gyrus.models import create_model

# A score 2 a b + 3 c of an image of two channels and two pixels: x = ((a, d), (b, c)).
IMAGE = torch.tensor([[[[4.0, 9]], [[-1, 5]]]])


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        score = 2 * x[:, 0, 0, 0] * x[:, 1, 0, 0] + 3 * x[:, 1, 0, 1]
        return torch.stack([score, -score], dim=1)


def input_map(net: nn.Module, images: Tensor, method: str, target: object = 0, **options: float) -> Tensor:
    found = attribute(net, images, method=method, target=target, options={method: options})  # type: ignore[arg-type]
    return found.maps[method, "input"]


def test_saliency_and_input_x_gradient_by_hand() -> None:
    # The gradient: channel 0 (2 b, 0) = (-2, 0), channel 1 (2 a, 3) = (8, 3).
    torch.testing.assert_close(input_map(Product(), IMAGE, "saliency"), torch.tensor([[[8.0, 3]]]))
    torch.testing.assert_close(input_map(Product(), IMAGE, "saliency", 1), torch.tensor([[[8.0, 3]]]))
    torch.testing.assert_close(input_map(Product(), IMAGE, "inputxgradient"), torch.tensor([[[-8.0 - 8, 15]]]))
    torch.testing.assert_close(input_map(Product(), IMAGE, "inputxgradient", 1), torch.tensor([[[16.0, -15]]]))


def test_integrated_gradients_by_hand() -> None:
    # On the way t x the gradient of 2 a b is t (2 b, 2 a), and its integral half of that: each factor gets a b.
    torch.testing.assert_close(input_map(Product(), IMAGE, "integrated-gradients"), torch.tensor([[[-8.0, 15]]]))
    # From (1, 1; 1, 1): 2 a b - 2 = -10 at the first pixel, 3 (c - 1) = 12 at the second.
    found = input_map(Product(), IMAGE, "integrated-gradients", baseline=1.0)
    torch.testing.assert_close(found, torch.tensor([[[-10.0, 12]]]))


def convolutional(act: nn.Module, pool: nn.Module | None = None) -> nn.Sequential:
    """A network with every kind of bias, normalisation before and after its activation, and a gradient that varies."""
    head = [pool or nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(5, 3)]
    layers = [nn.Conv2d(2, 4, 3, padding=1), act, nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, stride=2, bias=False)]
    net = nn.Sequential(*layers, nn.BatchNorm2d(5), act, *head)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator))
        for module in net:
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return net.eval()


def pictures(n: int = 3) -> Tensor:
    return torch.randn(n, 2, 9, 12, generator=torch.Generator().manual_seed(5))


def test_integrated_gradients_add_up_to_the_difference_of_the_scores() -> None:
    net = convolutional(nn.Softplus(), nn.AdaptiveAvgPool2d(1))
    target = torch.tensor([2, 0, 1])
    found = input_map(net, pictures(), "integrated-gradients", target, baseline=0.5)
    with torch.no_grad():
        difference = net(pictures()) - net(torch.full_like(pictures(), 0.5))
    expected = difference.gather(1, target[:, None]).squeeze(1)
    assert float(expected.abs().min()) > 0.1
    torch.testing.assert_close(found.sum(dim=(1, 2)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.3), nn.Identity()])
def test_full_gradients_add_up_to_the_score(act: nn.Module) -> None:
    net = convolutional(act)
    logits, bias = net(pictures()).detach(), net[-1].bias.detach()
    for c in range(3):
        found = input_map(net, pictures(), "fullgrad-raw", c).sum(dim=(1, 2))
        torch.testing.assert_close(found + bias[c], logits[:, c], rtol=1e-4, atol=1e-4)
        # what the biases hold is no small part: the input's own share alone is far off
        alone = input_map(net, pictures(), "inputxgradient", c).sum(dim=(1, 2)) + bias[c]
        assert float((alone - logits[:, c]).abs().min()) > 0.05


def test_full_gradients_of_a_residual_network_add_up_to_the_score() -> None:
    model = create_model("resnet10t", ("a", "b", "c"), seed=4).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_buffers():
            if "running" in name:
                value.uniform_(0.5, 1.5, generator=generator)
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_(0, 0.3, generator=generator)
        model.head.weight.normal_(0, 1, generator=generator)
    images = torch.randn(3, 3, 64, 96, generator=generator)
    result = attribute(model, images, method=("fullgrad-raw", "inputxgradient"), target="all")
    total = result.maps["fullgrad-raw", "input"].sum(dim=(2, 3))
    torch.testing.assert_close(total, result.logits, rtol=1e-3, atol=1e-3 * float(result.logits.abs().max()))
    alone = result.maps["inputxgradient", "input"].sum(dim=(2, 3))
    assert float((alone - result.logits).abs().max()) > 0.1 * float(result.logits.abs().max())


def test_full_gradients_by_hand() -> None:
    # s = mean relu(2 x + b) over (-1, 1, 3, 0), b = 1: (0, 3, 7, 1) / 4; the gradient in the sum is (0, 1, 1, 1) / 4.
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        net[0].weight.fill_(2)
        net[0].bias.fill_(1)
    x = torch.tensor([[[[-1.0, 1], [3, 0]]]])
    raw = input_map(net, x, "fullgrad-raw")
    torch.testing.assert_close(raw, torch.tensor([[[0.0, 2 + 1], [6 + 1, 0 + 1]]]) / 4)
    # The paper's map: the input's share (0, 2; 6, 0) / 4 over its range 6/4, the bias's (0, 1; 1, 1) / 4 over 1/4.
    found = input_map(net, x, "fullgrad")
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1 / 3 + 1], [1 + 1, 1]]]), rtol=1e-5, atol=1e-6)


def test_a_clipped_unit_holds_a_share_that_no_bias_has() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        net[0].weight.fill_(2)
        net[0].bias.fill_(1)
    x = torch.tensor([[[[1.0, 20]]]])  # units of 3, and of 41 clipped to 6: the score is 9/2, the map holds 3/2 of it
    torch.testing.assert_close(input_map(net, x, "fullgrad-raw"), torch.tensor([[[1.5, 0]]]))


@pytest.mark.parametrize(
    ("small", "large"), [((7, 7), (224, 224)), ((3, 5), (10, 11)), ((1, 1), (4, 6)), ((9, 4), (4, 4))]
)
def test_spreading_loses_nothing(small: tuple[int, int], large: tuple[int, int]) -> None:
    maps = torch.randn(2, *small, generator=torch.Generator().manual_seed(0))
    found = spread(maps, large)
    assert found.shape == (2, *large)
    torch.testing.assert_close(found.sum(dim=(1, 2)), maps.sum(dim=(1, 2)), rtol=1e-4, atol=1e-4)
    if large[0] % small[0] == large[1] % small[1] == 0:
        scale = large[0] // small[0] * (large[1] // small[1])
        plain = nn.functional.interpolate(maps[:, None], large, mode="bilinear").squeeze(1) / scale
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)


class TestSmoothGrad:
    def test_a_linear_score_has_the_gradient_it_always_has(self) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(24, 2))
        images = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
        smooth = input_map(net, images, "smoothgrad", samples=3)
        torch.testing.assert_close(smooth, input_map(net, images, "saliency"))

    def test_it_is_the_mean_over_the_noise_the_card_describes(self) -> None:
        net, images = convolutional(nn.Softplus()), pictures()
        found = input_map(net, images, "smoothgrad", 1, samples=4, noise=0.2, seed=9)
        generator = torch.Generator().manual_seed(9)
        width = 0.2 * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
        mean = torch.zeros_like(images)
        for _ in range(4):
            draw = torch.randn(1, *images.shape[1:], generator=generator)
            noisy = (images + width.view(-1, 1, 1, 1) * draw).requires_grad_(True)
            (gradient,) = torch.autograd.grad(net(noisy)[:, 1].sum(), noisy)
            mean += gradient / 4
        torch.testing.assert_close(found, mean.abs().amax(dim=1), rtol=1e-4, atol=1e-6)

    def test_the_seed_decides(self) -> None:
        net, images = convolutional(nn.Softplus()), pictures()
        one, two, other = (input_map(net, images, "smoothgrad", samples=2, seed=s) for s in (0, 0, 1))
        assert torch.equal(one, two)
        assert not torch.allclose(one, other, rtol=1e-3)

    def test_a_constant_image_meets_no_noise(self) -> None:
        net = convolutional(nn.Softplus())
        flat = torch.full((1, 2, 9, 12), 0.7)
        torch.testing.assert_close(input_map(net, flat, "smoothgrad", samples=2), input_map(net, flat, "saliency"))


def test_quadrature_of_a_smooth_score_is_exact() -> None:
    class Exponential(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum(dim=(2, 3)).exp()

    x = torch.tensor([[[[0.5, 1.5]]]])
    found = input_map(Exponential(), x, "integrated-gradients", steps=8)
    # Each pixel's share of e^2 - 1 is in proportion to it: the gradient is the same at both.
    torch.testing.assert_close(found, (math.exp(2) - 1) * x[0] / 2)
