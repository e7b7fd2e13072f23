"""The copy that runs faster gives the same logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gyrus.evaluate.folding import folded
from gyrus.models import create_model


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


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "efficientnet_b0"])
def test_every_normalisation_of_a_backbone_is_folded(name: str) -> None:
    images = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    model = lived_in(create_model(name, ("a", "b", "c"), channels=1), images)
    before, count = {k: v.clone() for k, v in model.state_dict().items()}, left(model)
    net = folded(model, images[:1])
    assert count > 15
    assert (left(net), left(model)) == (0, count)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(net(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in (*net.modules(), *model.modules()))


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
    images = torch.rand(2, 1, 9, 9)
    for net in (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2, affine=False), nn.Flatten()),
    ):
        assert torch.allclose(folded(net, images)(images), net.eval()(images), atol=1e-6)
