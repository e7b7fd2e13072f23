"""Every convolution's map from one forward and one backward pass, and what "stages" and "sweep" mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain import Explainer, attribute, stage_layers, sweep_layers
from gyrus.models import create_model


@pytest.mark.parametrize(
    ("name", "convolutions", "stages"),
    [("resnet10t", 14, 5), ("mobilenetv2_100", 52, 5), ("vgg16", 13, 6), ("efficientnet_b0", 81, 5)],
)
def test_what_a_sweep_and_the_stages_of_a_network_are(name: str, convolutions: int, stages: int) -> None:
    model = create_model(name, ("a", "b"))
    swept = sweep_layers(model)
    assert len(swept) == len(set(swept)) == convolutions
    assert all(isinstance(model.get_submodule(n), nn.Conv2d) for n in swept)
    assert "head" not in swept
    found = stage_layers(model)
    assert len(found) == stages
    assert found[-1] == "body"
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = attribute(model, images, method="layercam", layers="stages").maps
    sizes = [m.shape[-1] for m in maps.values()]
    assert [layer for _, layer in maps] == list(found)
    assert sizes == sorted(set(sizes), reverse=True)


def test_a_truncated_model_has_the_stages_it_kept() -> None:
    model = create_model("resnet18", ("a", "b"), output_stride=16, truncate=True)
    assert stage_layers(model)[-2:] == ("body.net.layer2", "body")
    attribute(model, torch.zeros(1, 3, 64, 64), method="layercam", layers="stages")


def test_a_sweep_is_one_forward_and_one_backward_pass_and_gives_what_each_layer_gives_alone() -> None:
    model = create_model("resnet10t", ("a", "b", "c"), seed=3)
    with torch.no_grad():
        model.head.weight.mul_(50)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    passes = {"forward": 0, "backward": 0}

    def count(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        passes["forward"] += 1
        if output.requires_grad:
            output.register_hook(lambda _g: passes.__setitem__("backward", passes["backward"] + 1))

    methods = ("gradcam", "layercam", "hirescam", "eigencam", "saliency")
    with Explainer(model, "sweep") as explain, model.register_forward_hook(count):
        swept = explain(images, target=[1, 2], methods=methods).maps
    assert passes == {"forward": 1, "backward": 1}
    assert [layer for method, layer in swept if method == "gradcam"] == list(sweep_layers(model))
    for layer in sweep_layers(model)[::4]:
        alone = attribute(model, images, target=[1, 2], method=methods, layers=[layer]).maps
        for key, found in alone.items():
            scale = float(found.abs().max())
            torch.testing.assert_close(swept[key], found, rtol=1e-3, atol=1e-4 * scale)


def test_a_sweep_leaves_out_what_cannot_be_explained() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 3, 3)
            self.gate = nn.Conv2d(3, 3, 1)  # works on a single cell, as squeeze-and-excitation does
            self.twice = nn.Conv2d(3, 3, 1)
            self.unused = nn.Conv2d(1, 1, 1)
            self.last = nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            x = self.first(images)
            x = x * self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
            return self.last(self.twice(self.twice(x))).mean(dim=(2, 3))

    images = torch.randn(2, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    maps = attribute(Odd(), images, method="hirescam", layers="sweep", target=1).maps
    assert list(maps) == [("hirescam", "first"), ("hirescam", "last")]
    with pytest.raises(InputError, match="'twice' runs more than once"):
        attribute(Odd(), images, layers=["first", "twice"])


def test_only_a_gyrus_model_knows_its_stages() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert sweep_layers(net) == ("0",)
    with pytest.raises(InputError, match="only gyrus's own models say what their stages are"):
        attribute(net, torch.zeros(1, 1, 5, 5), layers="stages")
    with pytest.raises(InputError, match="there is no layer to explain"):
        attribute(nn.Flatten(), torch.zeros(1, 1, 5, 5), layers="sweep")


def test_one_layer_may_be_named_by_itself() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    assert list(attribute(net, images, layers="0").maps) == [("gradcam", "0")]
