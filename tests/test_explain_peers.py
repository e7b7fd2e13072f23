"""Our raw maps against three other libraries, each one's own ReLU, scaling and resizing undone or applied to ours too.

Where a library disagrees, the test says which of the two follows the formula, and shows it by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import captum.attr
import cv2
import numpy as np
import pytest
import timm
import torch
import torchcam.methods
from captum.attr import LayerGradCam, LayerGradientXActivation
from numpy.typing import NDArray
from pytorch_grad_cam import (
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    FullGrad,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from gyrus.explain import Explainer, attribute
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


def raw_by_grad_cam(cam_class: Any, case: Case) -> NDArray[np.float32]:
    """Return what grad-cam computes before its ReLU, scaling and resizing."""
    with cam_class(model=case.net, target_layers=[case.module]) as cam:
        outputs = cam.activations_and_grads(case.images)
        targets = [ClassifierOutputTarget(c) for c in CLASSES]
        if cam.uses_gradients:
            sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        kept = cam.activations_and_grads
        gradient = kept.gradients[0].numpy() if cam.uses_gradients else None
        raw = cam.get_cam_image(case.images, case.module, targets, kept.activations[0].numpy(), gradient, False)
        return np.asarray(raw)


def ours(case: Case, method: str, **options: float) -> NDArray[np.float32]:
    result = attribute(
        case.net, case.images, method=method, target=CLASSES, layers=[case.layer], options={method: options}
    )
    (found,) = result.maps.values()
    return found.numpy()


def test_grad_cam_elementwise(case: Case) -> None:
    agree(ours(case, "elementwise"), raw_by_grad_cam(GradCAMElementWise, case))


@pytest.mark.parametrize(("method", "peer"), [("eigencam", EigenCAM), ("eigengradcam", EigenGradCAM)])
def test_grad_cam_eigen(case: Case, method: str, peer: Any) -> None:
    """grad-cam leaves the sign to the decomposition; that undone, the maps are one."""
    mine, theirs = ours(case, method), raw_by_grad_cam(peer, case)
    agree(mine, theirs * np.sign((mine * theirs).sum(axis=(1, 2), keepdims=True)))


@pytest.mark.parametrize("case", ["average, last", "plain timm"], indirect=True)
def test_grad_cam_score_cam(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """grad-cam enlarges with aligned corners, so that its masks do not lie where the features do; that undone."""

    def unaligned(size: Any) -> nn.Module:
        return nn.Upsample(size=size, mode="bilinear")

    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", unaligned)
    few = replace(case, images=case.images[:, :, :32, :48], layer=FEW_CHANNELS[case.layer])
    agree(ours(few, "scorecam"), raw_by_grad_cam(ScoreCAM, few))


# Score-CAM and Ablation-CAM run the network once per channel: an early layer has few.
FEW_CHANNELS = {"body": "body.net.layer1", "layer3": "layer1"}


@pytest.mark.parametrize("case", ["average, last", "log-sum-exp, last", "plain timm"], indirect=True)
def test_grad_cam_ablation_cam(case: Case) -> None:
    """grad-cam divides by the score with its sign, so the map of a negative score points the other way; that undone."""
    few = replace(case, images=case.images[:, :, :32, :48], layer=FEW_CHANNELS[case.layer])
    with torch.no_grad():
        sign = case.net(few.images).gather(1, torch.tensor(CLASSES)[:, None]).sign().view(4, 1, 1).numpy()
    agree(ours(few, "ablationcam"), sign * raw_by_grad_cam(AblationCAM, few))


def test_grad_cam_ablates_signed_features_to_minus_ten_million_not_to_zero() -> None:
    """A = (1, 2) and (-1, 0), s = sum A = 2: silenced, the channels leave -1 and 3. A fall of 3/2 and of -1/2."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.fill_(1)
        net[0].bias.copy_(torch.tensor([0.0, -2]))
        net[3].weight.fill_(2)  # over two positions, 2 mean(A) = sum(A)
    image = torch.tensor([[[[1.0, 2]]]])
    found = attribute(net, image, method="ablationcam", layers=["0"], target=0).maps["ablationcam", "0"]
    torch.testing.assert_close(found, torch.tensor([[[3 / 2 + 1 / 2, 3.0]]]))
    with AblationCAM(model=net, target_layers=[net[0]]) as cam:
        targets = [ClassifierOutputTarget(0)]
        weights = cam.get_cam_weights(image, net[0], targets, net[0](image).detach().numpy(), None)
    assert float(weights.min()) > 1e6


def plain_network() -> nn.Module:
    """A network whose normalisations are torch's own, the only ones grad-cam's FullGrad looks for."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        first = (nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        second = (nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        net = nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.add_module("fc", nn.Linear(12, 3))
    return varied(net)


@pytest.mark.parametrize("case", ["average, last"], indirect=True)
def test_grad_cam_full_grad(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    net = plain_network()
    result = attribute(net, case.images, method=("fullgrad", "fullgrad-raw"), target=CLASSES)
    with FullGrad(model=net, target_layers=[]) as cam:
        theirs = cam(input_tensor=case.images, targets=[ClassifierOutputTarget(c) for c in CLASSES])
    agree(min_max(result.maps["fullgrad", "input"].numpy()), theirs)
    # Both take the biases of two normalisations and a convolution, and so all of the score but the dense layer's bias.
    total = result.maps["fullgrad-raw", "input"].sum(dim=(1, 2)) + net.fc.bias.detach()[CLASSES]
    torch.testing.assert_close(total, result.logits.gather(1, torch.tensor(CLASSES)[:, None]).squeeze(1))


@pytest.mark.parametrize("case", ["average, last"], indirect=True)
def test_grad_cam_full_grad_sees_no_bias_of_mobilenet(case: Case) -> None:
    """It asks for nn.BatchNorm2d itself; timm's of MobileNet and EfficientNet are of a class derived from it.

    They hold their activation too, so that a hook on the module would see the gradient behind it.
    """
    net = plain_network()
    for place in (1, 4):
        normalised = BatchNormAct2d(net[place].num_features)
        normalised.load_state_dict(net[place].state_dict())
        net[place] = normalised
    net[2], net[5] = nn.Identity(), nn.Identity()
    with FullGrad(model=net.eval(), target_layers=[]) as cam:
        assert [type(layer) for layer in cam.target_layers] == [nn.Conv2d]
    result = attribute(net, case.images, method="fullgrad-raw", target="all")
    total = result.maps["fullgrad-raw", "input"].sum(dim=(2, 3)) + net.fc.bias.detach()
    torch.testing.assert_close(total, result.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.logits, plain_network()(case.images).detach())


@pytest.mark.parametrize("case", ["average, last", "log-sum-exp, last", "plain timm"], indirect=True)
@pytest.mark.parametrize("method", ["saliency", "inputxgradient", "integrated-gradients", "smoothgrad", "occlusion"])
def test_captum_on_the_input(case: Case, method: str) -> None:
    case = replace(case, images=case.images[:, :, :64, :64].clone().requires_grad_(True))  # captum warns otherwise
    net, images = case.net, case.images
    few = {"integrated-gradients": {"steps": 6}, "smoothgrad": {"samples": 3}}
    few["occlusion"] = {"window": 32, "stride": 32, "baseline": 0.5}
    if method == "saliency":
        theirs = captum.attr.Saliency(net).attribute(images, target=CLASSES).amax(dim=1)
    elif method == "inputxgradient":
        theirs = captum.attr.InputXGradient(net).attribute(images, target=CLASSES).sum(dim=1)
    elif method == "integrated-gradients":
        theirs = captum.attr.IntegratedGradients(net).attribute(images, target=CLASSES, n_steps=6).sum(dim=1)
    elif method == "smoothgrad":  # captum draws from the global generator: the same noise is given to both
        generator = torch.Generator().manual_seed(0)
        plain = images.detach()
        width = 0.15 * (plain.amax(dim=(1, 2, 3), keepdim=True) - plain.amin(dim=(1, 2, 3), keepdim=True))
        noisy = [plain + width * torch.randn(1, *images.shape[1:], generator=generator) for _ in range(3)]
        each = [captum.attr.Saliency(net).attribute(n.requires_grad_(True), CLASSES, abs=False) for n in noisy]
        theirs = torch.stack(each).mean(dim=0).abs().amax(dim=1)
    else:
        occlusion = captum.attr.Occlusion(net)
        windows: Any = {"sliding_window_shapes": (3, 32, 32), "strides": (3, 32, 32), "baselines": 0.5}
        theirs = occlusion.attribute(images, target=CLASSES, **windows)[:, 0]
    agree(ours(case, method, **few.get(method, {})), theirs.detach())


@pytest.mark.parametrize("case", ["average, last", "plain timm"], indirect=True)
def test_torchcam_fused_layer_cam(case: Case) -> None:
    """torchcam scales what it is given: each map to its own maximum before, as in the paper."""
    layers = [FEW_CHANNELS[case.layer], case.layer]
    result = attribute(case.net, case.images, method=("layercam", "layercam-fused"), target=CLASSES, layers=layers)
    positive = [result.maps["layercam", layer].relu() for layer in layers]
    scaled = [m / m.amax(dim=(1, 2), keepdim=True) for m in positive]
    agree(result.maps["layercam-fused", "fused"], torchcam.methods.LayerCAM.fuse_cams(scaled))
