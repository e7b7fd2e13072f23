"""Our raw maps against three other libraries, each one's own ReLU, scaling and resizing undone or applied to ours too.

Where a library disagrees, the test says which of the two follows the formula, and shows it by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
import torchcam.methods
from captum.attr import LayerGradCam, LayerGradientXActivation
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from gyrus.explain import Explainer
from gyrus.models import create_model

CLASSES = [2, 0, 1, 2]  # one image each, so that a peer or we mixing up the images is seen
GRAD_CAM = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "xgradcam": XGradCAM,
    "hirescam": HiResCAM,
    "layercam": LayerCAM,
}
TORCHCAM = {
    "gradcam": torchcam.methods.GradCAM,
    "xgradcam": torchcam.methods.XGradCAM,
    "layercam": torchcam.methods.LayerCAM,
}


@dataclass(frozen=True)
class Case:
    """One network and layer, and our maps there."""

    net: nn.Module
    layer: str
    images: Tensor
    maps: dict[str, Tensor]
    activation: Tensor
    gradient: Tensor

    @property
    def module(self) -> nn.Module:
        return self.net.get_submodule(self.layer)


def varied(net: nn.Module) -> nn.Module:
    """Give a network of random weights batch statistics and a head that make channels and classes differ."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
        head = net.get_submodule("head" if hasattr(net, "head") else "fc")
        head.weight.normal_(0, 1, generator=generator)  # type: ignore[operator, union-attr]
    return net.eval()


# At the last layer under the average the gradient is constant over the map, and several methods agree with each other;
# earlier in the network, and under log-sum-exp, it is not, and a mistake in any one shows.
@pytest.fixture(scope="module", params=["average, last", "average, third stage", "log-sum-exp, last", "plain timm"])
def case(request: pytest.FixtureRequest) -> Case:
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randn(4, 3, 6, 8, generator=generator)
    images = 2 * nn.functional.interpolate(coarse, (96, 128), mode="bilinear")  # blobs: each image its own, asymmetric
    layer = {"average, third stage": "body.net.layer3", "plain timm": "layer3"}.get(request.param, "body")
    if request.param == "plain timm":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            net = varied(timm.create_model("resnet10t", num_classes=3))
    else:
        pooling: Any = "lse" if "log" in request.param else "avg"
        net = varied(create_model("resnet10t", ("a", "b", "c"), pooling=pooling, seed=4))
    with Explainer(net, [layer]) as explain:
        methods = tuple(GRAD_CAM) + (("cam",) if layer == "body" else ())
        result = explain(images, target=CLASSES, methods=methods)
        run = explain.forward(images)
        gradient = run.gradients(torch.tensor(CLASSES))[layer]
    maps = {method: found for (method, _), found in result.maps.items()}
    return Case(net, layer, images, maps, run.activations[layer].detach(), gradient)


def agree(ours: Tensor | NDArray[np.float32], theirs: Tensor | NDArray[np.float32]) -> None:
    """Compare to 1e-4 of each image's largest absolute value; where a ReLU left nothing, both must be zero."""
    one, two = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert one.shape == two.shape
    largest = np.abs(two).max(axis=(1, 2), keepdims=True)
    assert (largest > 0).sum() >= 2
    assert float((np.abs(one - two) / np.where(largest > 0, largest, 1)).max()) < 1e-4


def min_max(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / (high - low + 1e-7)


@pytest.mark.parametrize("method", GRAD_CAM)
def test_grad_cam(case: Case, method: str) -> None:
    with GRAD_CAM[method](model=case.net, target_layers=[case.module]) as cam:
        shown = cam(input_tensor=case.images, targets=[ClassifierOutputTarget(c) for c in CLASSES])
        kept = cam.activations_and_grads
        raw = cam.get_cam_image(
            case.images, case.module, CLASSES, kept.activations[0].numpy(), kept.gradients[0].numpy(), False
        )
    agree(case.maps[method], raw)
    # What a user of grad-cam gets: ReLU, min-max, bilinear to the input's size, and min-max once more.
    positive = min_max(np.maximum(case.maps[method].numpy(), 0))
    agree(min_max(np.stack([cv2.resize(m, (128, 96)) for m in positive])), shown)


@pytest.mark.parametrize("method", TORCHCAM)
def test_torchcam(case: Case, method: str) -> None:
    with TORCHCAM[method](case.net, target_layer=case.layer) as extract:
        scores = case.net(case.images)
        (theirs,) = extract(CLASSES, scores, normalized=False)
    agree(case.maps[method].relu(), theirs.detach())


@pytest.mark.parametrize("case", ["average, last", "log-sum-exp, last"], indirect=True)
def test_torchcam_cam(case: Case) -> None:
    with torchcam.methods.CAM(case.net, target_layer="body", fc_layer="head") as extract:
        case.net(case.images)
        (theirs,) = extract(CLASSES, normalized=False)
    agree(case.maps["cam"], theirs)


def test_torchcam_leaves_the_denominator_out_of_gradcam_plus_plus(case: Case) -> None:
    """Its alpha is G^2 alone: the division runs on a copy that boolean indexing made (0.5.0, gradient.py)."""
    with torchcam.methods.GradCAMpp(case.net, target_layer=case.layer) as extract:
        scores = case.net(case.images)
        (theirs,) = extract(CLASSES, scores, normalized=False)
    g, a = case.gradient, case.activation
    undivided = ((g.square() * g.relu()).sum(dim=(2, 3), keepdim=True) * a).sum(dim=1)
    agree(undivided.relu(), theirs.detach())


def test_torchcam_gradcam_plus_plus_by_hand() -> None:
    """A = (1, 3; 0, 2), logit 8 mean(A) = 2 sum(A): G = 2, alpha = 4 / (8 + 8 * 6) = 1/14, weight = 4 * 2/14 = 4/7."""
    a = torch.tensor([[[[1.0, 3], [0, 2]]]])
    net = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False))
    nn.init.constant_(net[3].weight, 8.0)
    with Explainer(net, ["0"]) as explain:
        ours = explain(a, methods=("gradcam++",)).maps["gradcam++", "0"]
    torch.testing.assert_close(ours, 4 / 7 * a[0], rtol=1e-5, atol=0)
    with torchcam.methods.GradCAMpp(net, target_layer="0") as extract:
        (theirs,) = extract(0, net(a.clone().requires_grad_(True)), normalized=False)
    # Undivided: four positions of G^2 relu(G) = 8.
    torch.testing.assert_close(theirs.detach(), 32 * a[0], rtol=1e-5, atol=0)


CAPTUM: dict[str, Callable[..., Any]] = {"gradcam": LayerGradCam, "hirescam": LayerGradientXActivation}


@pytest.mark.parametrize("method", CAPTUM)
def test_captum(case: Case, method: str) -> None:
    attribution = CAPTUM[method](case.net, case.module)
    options = {"relu_attributions": False} if method == "gradcam" else {}
    theirs = attribution.attribute(case.images, target=CLASSES, **options).sum(dim=1)
    agree(case.maps[method], theirs.detach())


def test_the_peers_are_asked_something_they_could_get_wrong(case: Case) -> None:
    for name, found in case.maps.items():
        if name not in ("layercam", "gradcam++"):  # their weights are positive, and so is what a ReLU lets through
            assert float(found.min()) < 0 < float(found.max()), name
        scaled = min_max(found.numpy())
        assert float(np.abs(scaled - scaled[:, ::-1]).max()) > 0.1
        assert float(np.abs(scaled - scaled[:, :, ::-1]).max()) > 0.1
        assert float(np.abs(scaled[0] - scaled[3]).max()) > 0.1
    varies = bool(case.gradient.std(dim=(2, 3)).max() > 1e-6)
    assert varies == (case.layer != "body" or case.net.spec.pooling == "lse")  # type: ignore[union-attr]
