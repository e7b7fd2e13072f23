"""The copy that runs faster gives the same logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gyrus.models import BACKBONES, Classifier, create_model
from gyrus.models.folding import Packed, folded
from gyrus.preprocess import Preprocess


def lived_in(net: nn.Module, images: Tensor) -> nn.Module:
    """Return the network with running statistics and scales as after training."""
    generator = torch.Generator().manual_seed(0)
    net.train()
    with torch.no_grad():
        net(images * 2 + 0.5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.add_(0.3 * torch.randn(module.weight.shape, generator=generator))
                module.bias.add_(0.3 * torch.randn(module.bias.shape, generator=generator))
    return net.eval()


def left(net: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def alike(net: Tensor, plain: Tensor) -> bool:
    return torch.allclose(net, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def pictures(n: int = 3, side: int = 64) -> Tensor:
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(1))


def made(name: str, **how: Any) -> Classifier:
    size = Preprocess(size=64, mean=(0.5,), std=(0.5,))
    return create_model(name, how.pop("classes", ("a", "b", "c")), channels=1, preprocess=size, **how)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, {}) for name in BACKBONES),
        ("mobilenetv2_100", {"fuse": 8}),
        ("resnet18", {"output_stride": 8}),
        ("resnet18", {"classes": ("a", "b"), "head": "sigmoid", "pooling": "lse"}),
    ],
)
def test_a_copy_gives_the_same_logits_and_leaves_the_model_alone(name: str, how: dict[str, Any]) -> None:
    images, model = pictures(), made(name, **how)
    lived_in(model, images)
    model.train()
    hook = model.head.register_forward_hook(lambda *_: None)
    kept, modules = {k: v.clone() for k, v in model.state_dict().items()}, dict(model.named_modules())
    net = folded(model, images[:1])
    assert all(m.training for m in modules.values())
    assert dict(model.named_modules()) == modules
    assert list(model.head._forward_hooks) == [hook.id]
    assert model.state_dict().keys() == kept.keys()
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        expected = model.eval()(images)
        assert alike(net(images), expected)
    assert left(net) == 0
    assert alike(net(images), expected)  # with gradients, which the laid out weights have none of


def test_attention_that_takes_part_does_so_in_the_copy() -> None:
    images, model = pictures(), made("cam_attention")
    with torch.no_grad():
        model.head.weight.mul_(30)
        off = folded(model, images)(images)
        model.switch_attention(True)  # type: ignore[operator]
        on, expected = folded(model, images)(images), model.eval()(images)
    assert alike(on, expected)
    assert not alike(on, off)


def test_gradients_and_autocast_take_the_convolution_as_it_was() -> None:
    images, model = pictures(), made("mobilenetv2_100")
    lived_in(model, images)
    net = folded(model, images)
    packed = [m for m in net.modules() if isinstance(m, Packed)]
    assert len(packed) == 53  # 52 in the body, and the head
    leaves = [images.clone().requires_grad_(True) for _ in range(2)]
    found, plain = (torch.autograd.grad(m(x).square().sum(), x)[0] for m, x in zip((net, model), leaves, strict=True))
    # as a whole: at a kink of the activations rounding takes the other slope, which moves single pixels by any amount
    assert float((found - plain).norm() / plain.norm()) < 0.05
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert net(images).dtype == torch.bfloat16


def test_many_pictures_go_a_few_at_a_time() -> None:
    """On a processor, for memory's sake; the sizes of what follows do not matter to the logits."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net, sizes = folded(model, pictures(1, 448)), []
    net.net.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    with torch.inference_mode():
        assert alike(net(pictures(3, 448)), model(pictures(3, 448)))
        assert net(pictures(0, 448)).shape == (0, 2)
        assert sizes == [1, 1, 1, 0]
        net(pictures(50, 64))
    assert sizes[4:] == [49, 1]


class ReadTwice(nn.Module):
    """What comes out of the convolution is used without its normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.conv(images)
        both: Tensor = (seen + self.norm(seen) ** 2).mean(dim=(2, 3))
        return both


def test_a_network_that_cannot_be_folded_is_left_as_it_is() -> None:
    images = torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0)) + 1
    model = lived_in(ReadTwice(), images)
    net = folded(model, images[:1])
    assert left(net) == 1
    assert net.net is not model
    assert folded(net, images) is net
    assert torch.allclose(net(images), model(images), atol=1e-6)


def test_one_without_normalisation_or_running_statistics_passes() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        images = torch.rand(2, 1, 9, 9)
        nets = (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()),
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()),
            nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2, affine=False), nn.Flatten()),
        )
    for net in nets:
        assert torch.allclose(folded(net, images)(images), net.eval()(images), atol=1e-6)
