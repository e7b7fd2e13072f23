"""The engine leaves a model as it found it, and gives the gradients a plain full graph would give."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain import METHODS, Explainer, attribute
from gyrus.explain.cards import LayerMethod
from gyrus.explain.targets import TargetSpec
from gyrus.models import Classifier, create_model

GRADIENT_METHODS = tuple(name for name, m in METHODS.items() if isinstance(m, LayerMethod) and not m.needs_head)
PASS_METHODS = tuple(name for name, m in METHODS.items() if m.one_pass and not m.needs_head)
ALL_METHODS = tuple(name for name, m in METHODS.items() if not m.needs_head)
FEW = {"rise": {"masks": 5}, "integrated-gradients": {"steps": 3}, "smoothgrad": {"samples": 2}}
FEW["occlusion"] = {"window": 4, "stride": 4}


class Net(nn.Module):
    """A stem, two parallel branches, a late layer followed by an in-place ReLU, dropout; and what must be refused."""

    def __init__(self, *, inplace: bool = True) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace))
        self.stem = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))
        self.stem_act = nn.ReLU(inplace)
        self.left = nn.Conv2d(6, 5, 3, padding=1)
        self.right = nn.Conv2d(6, 3, 1)
        self.late = nn.Sequential(nn.Conv2d(8, 7, 3, stride=(1, 2), padding=1), nn.BatchNorm2d(7))
        self.late_act = nn.ReLU(inplace)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(7, 3)
        self.twice = nn.Conv2d(7, 7, 1)
        self.aside = nn.Conv2d(4, 2, 1)
        self.unused = nn.Conv2d(1, 1, 1)
        self.fails = False

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        self.aside(x)
        x = self.stem_act(self.stem(x))
        x = self.late_act(self.late(torch.cat([self.left(x), torch.tanh(self.right(x))], dim=1)))
        if self.fails:
            raise ArithmeticError("in the middle of the forward pass")
        x = x + self.twice(self.twice(x))
        # Squared, so that the gradient varies over the map and XGrad-CAM, HiResCAM and Grad-CAM differ.
        return self.fc(self.drop(x.square().mean(dim=(2, 3))))


def make(*, inplace: bool = True) -> Net:
    """Return a net with seeded weights and batch statistics unlike any batch's own, in evaluation mode."""
    generator = torch.Generator().manual_seed(3)
    net = Net(inplace=inplace)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator) * 0.4)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return net.eval()


def pictures(n: int = 4) -> Tensor:
    return torch.randn(n, 1, 10, 14, generator=torch.Generator().manual_seed(5))


def explained(
    net: nn.Module, images: Tensor, layers: Sequence[str] = ("late",), target: TargetSpec = "predicted"
) -> dict[tuple[str, str], Tensor]:
    with Explainer(net, layers) as explain:
        return dict(explain(images, target=target, methods=GRADIENT_METHODS).maps)


def same(one: dict[tuple[str, str], Tensor], two: dict[tuple[str, str], Tensor], **tolerance: float) -> None:
    assert one.keys() == two.keys()
    assert one
    for key, found in one.items():
        torch.testing.assert_close(found, two[key], **tolerance, msg=lambda m, key=key: f"{key}: {m}")


def plain_gradients(
    net: nn.Module, images: Tensor, layers: Sequence[str], target: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return (A, G) per layer with nothing clever: the whole graph, one image and one backward pass at a time."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            kept[name] = output
            return output.clone()

        return hook

    net = copy.deepcopy(net).eval()
    for name in layers:
        net.get_submodule(name).register_forward_hook(keep(name))
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    with torch.enable_grad():
        for image, c in zip(images, target, strict=True):
            score = net(image[None].clone().requires_grad_(True))[0, c]
            gradients = torch.autograd.grad(score, [kept[name] for name in layers])
            for name, gradient in zip(layers, gradients, strict=True):
                pairs[name].append((kept[name].detach(), gradient))
    return {name: (torch.cat([a for a, _ in p]), torch.cat([g for _, g in p])) for name, p in pairs.items()}


def state(net: nn.Module) -> dict[str, Any]:
    """Return everything about a model and its surroundings that an explanation must not change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modes": [m.training for m in net.modules()],
        "hooks": [len(getattr(m, kind)) for m in net.modules() for kind in hooks],
        "requires_grad": [p.requires_grad for p in net.parameters()],
        "grad": [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        "weights": {k: v.tolist() for k, v in net.state_dict().items()},
        "versions": [t._version for t in (*net.parameters(), *net.buffers())],
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],
        "python": random.getstate(),
        "switches": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
    }


@pytest.fixture
def mixed() -> Net:
    """A net in the middle of somebody's work: modes, frozen weights, gradients and hooks all over the place."""
    net = make()
    net.train()
    net.stem.eval()
    net.late[1].eval()
    net.drop.train()
    for p in net.left.parameters():
        p.requires_grad_(False)
    net.fc.weight.grad = torch.full_like(net.fc.weight, 2.5)
    net.late.register_forward_hook(lambda _m, _i, output: output)
    net.first.register_forward_pre_hook(lambda _m, inputs: inputs)
    return net


@pytest.fixture(params=["grad", "no_grad", "inference_mode", "autocast"])
def ambience(request: pytest.FixtureRequest, mixed: Net) -> Iterator[Net]:
    """The same net, made outside, under each of torch's switches."""
    around: dict[str, AbstractContextManager[Any]] = {
        "grad": torch.enable_grad(),
        "no_grad": torch.no_grad(),
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", torch.bfloat16),
    }
    with around[request.param]:
        yield mixed


def test_the_model_is_as_it_was_after_use(ambience: Net) -> None:
    mixed = ambience
    before = state(mixed)
    with Explainer(mixed, ["late", "stem"]) as explain:
        assert not any(m.training for m in mixed.modules())
        explain(pictures(), target="all", methods=ALL_METHODS, options=FEW, flips=True)
        inside = state(mixed)
        assert {k: v for k, v in inside.items() if k != "modes"} == {k: v for k, v in before.items() if k != "modes"}
    assert state(mixed) == before


@pytest.mark.parametrize("where", ["forward", "flat layer", "repeated layer", "bad input", "body", "target"])
def test_the_model_is_as_it_was_after_an_exception(ambience: Net, where: str) -> None:
    mixed = ambience
    mixed.fails = where == "forward"
    layers = {"flat layer": ["late", "fc"], "repeated layer": ["late", "twice"]}.get(where, ["stem", "late"])
    before = state(mixed)
    expected = {"forward": ArithmeticError, "bad input": RuntimeError, "body": KeyError}.get(where, InputError)
    images = pictures().repeat(1, 2, 1, 1) if where == "bad input" else pictures()

    def use() -> None:
        with Explainer(mixed, layers) as explain:
            explain(images, target=7 if where == "target" else 0)
            raise KeyError("in the body, after use")

    with pytest.raises(expected):
        use()
    assert state(mixed) == before


def test_an_explainer_goes_on_after_an_exception_inside_its_block() -> None:
    net = make()
    expected = explained(net, pictures(), target=1)
    with Explainer(net, ["late"]) as explain:
        net.fails = True
        with pytest.raises(ArithmeticError):
            explain(pictures())
        net.fails = False
        same(dict(explain(pictures(), target=1, methods=GRADIENT_METHODS).maps), expected, rtol=0, atol=0)


def test_the_model_still_trains_and_predicts_inside_the_block() -> None:
    net = make()
    plain = net(pictures()).detach()
    with Explainer(net, ["late"]) as explain:
        explain(pictures())
        with torch.no_grad():
            assert not net(pictures()).requires_grad
            assert not torch.is_grad_enabled()
            net(pictures())
        net(pictures()).sum().backward()
        explain(pictures())
    torch.testing.assert_close(net(pictures()).detach(), plain, rtol=0, atol=0)
    assert net.first[0].weight.grad is not None


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "layers",
    [["late"], ["stem"], ["stem", "late"], ["late", "stem"], ["left", "right"], ["right", "late", "first", "left"]],
)
def test_activations_and_gradients_are_those_of_a_plain_full_graph(layers: list[str], frozen: bool) -> None:
    net = make().requires_grad_(not frozen)
    target = torch.tensor([2, 0, 1, 2])
    with Explainer(net, layers) as explain:
        run = explain.forward(pictures())
        gradients = run.gradients(target)
    for name, (a, g) in plain_gradients(net, pictures(), layers, target).items():
        torch.testing.assert_close(run.activations[name].detach(), a, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradients[name], g, rtol=1e-4, atol=1e-6)
        assert float(g.abs().max()) > 1e-3
    torch.testing.assert_close(run.logits.detach(), net(pictures()).detach(), rtol=1e-5, atol=1e-6)


def test_the_graph_begins_at_the_earliest_layer() -> None:
    net = make()
    begun: list[bool] = []
    for module in (net.first, net.stem[0], net.left, net.late[0]):
        module.register_forward_pre_hook(lambda _m, inputs: begun.append(inputs[0].requires_grad))
    with Explainer(net, ["late", "stem"]) as explain:
        run = explain.forward(pictures())
    assert begun == [False, False, True, True]
    assert run.activations["stem"].is_leaf
    assert not run.activations["late"].is_leaf
    with Explainer(net, ["late"]) as explain:
        run = explain.forward(pictures())
    assert begun[4:] == [False] * 4
    assert run.activations["late"].is_leaf


def test_several_layers_at_once_give_what_each_gives_alone() -> None:
    net = make()
    together = explained(net, pictures(), ["late", "left", "right", "stem", "late.0"], target=1)
    for layer in ("late", "left", "right", "stem", "late.0"):
        alone = explained(net, pictures(), [layer], target=1)
        same(alone, {key: found for key, found in together.items() if key[1] == layer}, rtol=1e-4, atol=1e-6)
    assert together["gradcam", "stem"].shape == (4, 5, 7)
    assert together["gradcam", "late"].shape == (4, 5, 4)


def test_an_in_place_layer_behind_the_target_changes_nothing() -> None:
    layers = ["stem", "late", "late.1"]
    same(
        explained(make(inplace=True), pictures(), layers),
        explained(make(inplace=False), pictures(), layers),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize(
    "around",
    [torch.no_grad, torch.inference_mode, lambda: torch.set_grad_enabled(True)],
    ids=["no", "inference", "grad"],
)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_switches_frozen_weights_and_modes_do_not_change_the_maps(
    around: Callable[[], AbstractContextManager[Any]], frozen: bool, training: bool
) -> None:
    expected = explained(make(), pictures(), ["stem", "late"], target=[0, 1, 2, 0])
    net = make().requires_grad_(not frozen).train(training)
    with around():
        images = pictures()  # made inside, so that it is an inference tensor where that is the mode
        found = explained(net, images, ["stem", "late"], target=torch.tensor([0, 1, 2, 0]))
    same(found, expected, rtol=0, atol=0)
    assert not any(m.requires_grad or m.is_inference() for m in found.values())


def test_training_mode_would_give_other_logits() -> None:
    """The tests above say nothing unless dropout and batch statistics matter to this net."""
    net = make().train()
    assert not torch.allclose(net(pictures()), make()(pictures()), atol=0.01)


def test_each_image_is_explained_for_its_own_class() -> None:
    net = make()
    with torch.no_grad():
        net.fc.bias.sub_(net(pictures()).mean(dim=0))  # so that the predicted classes differ
    every = explained(net, pictures(), target="all")
    logits = net(pictures())
    targets: list[tuple[Any, list[int]]] = [
        ("predicted", logits.argmax(dim=1).tolist()),
        (1, [1, 1, 1, 1]),
        (np.int64(2), [2, 2, 2, 2]),
        ([2, 0, 1, 0], [2, 0, 1, 0]),
        (np.array([0, 1, 2, 0]), [0, 1, 2, 0]),
        (torch.tensor([0, 2, 2, 1], dtype=torch.int32), [0, 2, 2, 1]),
    ]
    assert len(set(targets[0][1])) > 1
    with Explainer(net, ["late"]) as explain:
        for target, classes in targets:
            result = explain(pictures(), target=target, methods=GRADIENT_METHODS)
            assert result.target.tolist() == classes
            assert result.target.dtype == torch.int64
            torch.testing.assert_close(result.logits, logits.detach())
            for key, found in result.maps.items():
                torch.testing.assert_close(found, every[key][torch.arange(4), classes], rtol=1e-5, atol=1e-7)
        whole = explain(pictures(), target="all")
    assert whole.maps["gradcam", "late"].shape == (4, 3, 5, 4)
    assert whole.target.tolist() == [[0, 1, 2]] * 4
    assert whole.status("gradcam", "late") == ["ok"] * 12


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "from 0 to 2, not 3 to 3"),
        (-1, "from 0 to 2, not -1 to -1"),
        ([0, 1, 2, 3], "from 0 to 2, not 0 to 3"),
        ([0, 1, 2], r"4 images need 4 target classes, not an array of shape \(3,\)"),
        ([[0, 1, 2, 0]], r"4 images need 4 target classes, not an array of shape \(1, 4\)"),
        ([], r"4 images need 4 target classes, not an array of shape \(0,\)"),
        ([0.5, 1.0, 2.0, 0.0], "whole numbers, not float32"),
        (1.5, "whole numbers, not float32"),
        ([True, False, True, True], "whole numbers, not bool"),
        ("glioma", "target 'glioma' is unknown: use 'predicted', 'all', or class indices"),
        (["glioma"] * 4, "no class index"),
        (None, "no class index"),
    ],
)
def test_a_wrong_target_is_refused(target: Any, message: str) -> None:
    with pytest.raises(InputError, match=message), Explainer(make(), ["late"]) as explain:
        explain(pictures(), target=target)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["lte"], "no layer 'lte': print"),
        (["net.late"], "no layer 'net.late'; did you mean late"),
        (["fc"], r"'fc' gives no \(N, K, h, w\) feature map"),
        (["twice"], "'twice' runs more than once"),
        (["late", "unused"], "'unused' did not run"),
        (["aside"], "'aside' has no part in the logits"),
        (["late", "aside"], "'aside' has no part in the logits"),
        ([], "no layer to explain"),
        (None, "name the layers to explain"),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_layer_that_cannot_be_explained_is_refused(layers: list[str] | None, message: str, frozen: bool) -> None:
    net = make().requires_grad_(not frozen)
    with pytest.raises(InputError, match=message), Explainer(net, layers) as explain:
        explain(pictures())


def test_a_model_made_under_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        net = make()
    with pytest.raises(InputError, match=r"made under torch\.inference_mode"):
        Explainer(net, ["late"])


def test_a_model_without_plain_logits_is_refused() -> None:
    class Pair(Net):
        def forward(self, images: Tensor) -> Any:
            return super().forward(images), images

    for net, layer in ((Pair(), "late"), (nn.Sequential(nn.Conv2d(1, 2, 3)), "0")):
        with (
            pytest.raises(InputError, match=r"does not give \(N, classes\) logits"),
            Explainer(net, [layer]) as explain,
        ):
            explain(pictures())


def test_a_method_that_needs_the_head_is_refused_where_there_is_none() -> None:
    with pytest.raises(InputError, match="cam is defined only where"), Explainer(make(), ["late"]) as explain:
        explain(pictures(), methods=("gradcam", "cam"))
    with pytest.raises(InputError, match="no explanation method 'score'"), Explainer(make(), ["late"]) as explain:
        explain(pictures(), methods=("score",))


def test_gyrus_models_know_their_layer_and_leave_cam_out_elsewhere() -> None:
    model = create_model("resnet10t", ("a", "b"), seed=1)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with Explainer(model) as explain:
        assert {key: tuple(m.shape) for key, m in explain(images, methods=("cam",)).maps.items()} == {
            ("cam", "body"): (2, 2, 3)
        }
    with Explainer(model, ["body.net.layer3", "body"]) as explain:
        found = explain(images, methods=("cam", "layercam")).maps
    assert list(found) == [("layercam", "body.net.layer3"), ("cam", "body"), ("layercam", "body")]
    assert found["layercam", "body.net.layer3"].shape == (2, 4, 6)
    assert model.training


def test_an_explainer_works_only_in_its_block_and_may_be_used_again() -> None:
    net = make().train()
    explainer = Explainer(net, ["late"])
    for _ in range(2):
        with pytest.raises(InputError, match="inside its with-block"):
            explainer(pictures())
        with explainer as explain:
            one = explain(pictures(), methods=GRADIENT_METHODS)
            two = explain(pictures(), methods=GRADIENT_METHODS)
        same(dict(one.maps), dict(two.maps), rtol=0, atol=0)
        assert net.training


def test_entering_twice_at_once_is_refused_and_harmless() -> None:
    net = make().train()
    before = state(net)
    with Explainer(net, ["late"]) as explain:
        with pytest.raises(InputError, match="in use already"), explain:
            pass
        explain(pictures())
    assert state(net) == before


def test_two_explainers_of_one_model_do_not_disturb_each_other() -> None:
    net = make().train()
    before = state(net)
    with Explainer(net, ["late"]) as outer, Explainer(net, ["stem", "late"]) as inner:
        for _ in range(2):
            same(
                dict(outer(pictures(), target=0).maps),
                {("gradcam", "late"): inner(pictures(), target=0).maps["gradcam", "late"]},
            )
    assert state(net) == before


def test_one_image_gives_what_it_gives_in_any_batch() -> None:
    net = make()
    whole = explained(net, pictures(), target=[0, 1, 2, 1])
    for rows in ([2], [3, 1], [1, 1, 0]):
        target = [[0, 1, 2, 1][i] for i in rows]
        part = explained(net, pictures()[rows], target=target)
        same(part, {key: found[rows] for key, found in whole.items()}, rtol=1e-4, atol=1e-6)


def test_status_tells_blank_and_non_finite_from_ok() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    net = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    images = torch.arange(6.0).view(1, 1, 2, 3).repeat(5, 1, 1, 1)
    images[1] = 0.0
    images[2] = 3.0
    images[3, 0, 0, 1] = float("nan")
    images[4, 0, 1, 2] = float("inf")
    with Explainer(net, ["0"]) as explain:
        result = explain(images, target=1)
        everything = explain(images[:2], target="all")
    assert result.status("gradcam", "0") == ["ok", "blank", "blank", "non-finite", "non-finite"]
    assert everything.status("gradcam", "0") == ["ok", "ok", "blank", "blank"]


@pytest.mark.parametrize("layer", ["late", "stem"])
def test_maps_are_float32_under_bf16_autocast(layer: str) -> None:
    net = make()
    expected = explained(net, pictures(), [layer], target=0)
    with torch.autocast("cpu", torch.bfloat16), Explainer(net, [layer]) as explain:
        result = explain(pictures(), target=0, methods=GRADIENT_METHODS)
        run = explain.forward(pictures())
        g = run.gradients(torch.zeros(4, dtype=torch.int64))[layer].float()
    assert result.logits.dtype == torch.float32
    assert run.activations[layer].dtype == torch.bfloat16
    for key, found in result.maps.items():
        assert found.dtype == torch.float32
        # The network ran in bf16 (8 bits, 0.4 %), so its maps are near, not equal; XGrad-CAM divides by near-zero sums.
        if key[0] != "xgradcam":
            assert float((found - expected[key]).abs().max()) < 0.1 * float(expected[key].abs().max()), key
    # What is done with the bf16 activation and gradient is float32 arithmetic, to the last digits.
    a = run.activations[layer].detach().float()
    exact = (g.double().mean(dim=(2, 3))[..., None, None] * a.double()).sum(dim=1).float()
    torch.testing.assert_close(result.maps["gradcam", layer], exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_maps_are_float32_whatever_the_model(dtype: torch.dtype) -> None:
    found = explained(make().to(dtype), pictures().to(dtype))
    assert {m.dtype for m in found.values()} == {torch.float32}


def test_a_pass_is_freed_with_its_last_reference() -> None:
    net = make()
    gc.collect()
    gc.disable()  # so that only reference counts free it: a cycle would keep every batch until the collector runs
    try:
        with Explainer(net, ["late"]) as explain:
            run = explain.forward(pictures())
            explain.maps(run, torch.zeros(4, dtype=torch.int64), explain.find_methods(GRADIENT_METHODS))
            watched = [weakref.ref(run.activations["late"]), weakref.ref(run.logits)]
            del run
            assert [w() for w in watched] == [None, None]
    finally:
        gc.enable()


def test_repeated_calls_leave_no_tensors_behind() -> None:
    net = make()

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    with Explainer(net, ["late", "stem"]) as explain:
        explain(pictures(), methods=GRADIENT_METHODS)
        before = tensors()
        for _ in range(5):
            explain(pictures(), target="all", methods=GRADIENT_METHODS)
        assert tensors() == before


def test_a_classifier_under_every_pooling_gives_each_image_its_own_gradient() -> None:
    for pooling in ("avg", "lse"):
        model = create_model("resnet10t", ("a", "b", "c"), pooling=pooling, seed=2)  # type: ignore[arg-type]
        images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        target = torch.tensor([2, 0, 1])
        with Explainer(model) as explain:
            found = explain.forward(images).gradients(target)["body"]
        _, g = plain_gradients(model, images, ["body"], target)["body"]
        torch.testing.assert_close(found, g, rtol=1e-4, atol=1e-8)
        assert isinstance(model, Classifier)


def test_the_callers_autocast_block_still_trains_after_an_explanation() -> None:
    net = make()
    with torch.autocast("cpu", torch.bfloat16):
        explained(net, pictures())
        net(pictures()).sum().backward()
    used = [p for name, p in net.named_parameters() if not name.startswith(("aside", "unused"))]
    assert all(p.grad is not None for p in used)


def test_ten_methods_are_what_each_is_alone_and_cost_one_pass() -> None:
    net = make()
    runs: list[int] = []
    net.register_forward_hook(lambda _m, _i, output: runs.append(len(output)))
    together = attribute(net, pictures(), method=PASS_METHODS, target=1, layers=["stem", "late"])
    assert len(PASS_METHODS) >= 10
    assert runs == [4]
    for name in PASS_METHODS:
        alone = attribute(net, pictures(), method=name, target=1, layers=["stem", "late"])
        mine = {key: found for key, found in together.maps.items() if key[0] == name}
        same(dict(alone.maps), mine, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(alone.logits, together.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_every_method_gives_each_image_and_class_its_own_map_in_every_ambience(name: str) -> None:
    net = make().requires_grad_(False)
    target = torch.tensor([2, 0, 1, 2])
    options = {k: v for k, v in FEW.items() if k == name}
    whole = attribute(net, pictures(), method=name, target=target, layers=["late"], options=options)
    every = attribute(net, pictures(), method=name, target="all", layers=["late"], options=options)
    with torch.inference_mode():
        part = attribute(net, pictures()[[3, 1]], method=name, target=[2, 0], layers=["late"], options=options)
    ((key, found),) = whole.maps.items()
    place = {"all layers": "fused", "input": "input"}.get(METHODS[name].where, "late")
    assert key == (name, place)
    assert found.shape == ((4, 10, 14) if place == "input" else (4, 5, 4))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert not part.maps[key].is_inference()
    scale = float(found.abs().max())
    assert scale > 0
    torch.testing.assert_close(part.maps[key], found[[3, 1]], rtol=1e-3, atol=1e-5 * scale)
    torch.testing.assert_close(every.maps[key][torch.arange(4), target], found, rtol=1e-3, atol=1e-5 * scale)
    assert METHODS[name].signed or float(found.min()) >= 0
    agnostic = METHODS[name].direction == "activity"
    assert agnostic == torch.allclose(every.maps[key][:, 0], every.maps[key][:, 1], rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("name", ALL_METHODS)
def test_every_method_is_defined_on_blank_images_and_without_a_gradient(name: str) -> None:
    images = torch.stack([torch.zeros(1, 10, 14), torch.full((1, 10, 14), 3.0), pictures(1)[0]])
    options = {k: v for k, v in FEW.items() if k == name}
    for head in (1.0, 0.0):
        net = make()
        with torch.no_grad():
            net.fc.weight.mul_(head)
        result = attribute(net, images, method=name, target=0, layers=["late"], options=options)
        (found,) = result.maps.values()
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", ALL_METHODS)
def test_what_is_not_finite_says_so_and_stays_with_its_image(name: str) -> None:
    images = pictures(3)
    options = {k: v for k, v in FEW.items() if k == name}
    clean = attribute(make(), images, method=name, target=0, layers=["late"], options=options)
    images[1] = float("nan")
    result = attribute(make(), images, method=name, target=0, layers=["late"], options=options)
    (key,) = result.maps
    assert result.status(*key) == ["ok", "non-finite", "ok"]
    torch.testing.assert_close(result.maps[key][[0, 2]], clean.maps[key][[0, 2]], rtol=1e-3, atol=1e-5)


def test_flips_average_the_map_of_the_mirrored_image() -> None:
    net = make()
    plain = attribute(net, pictures(), method=("layercam", "saliency"), target=1, layers=["late"])
    other = attribute(net, pictures().flip(-1), method=("layercam", "saliency"), target=1, layers=["late"])
    both = attribute(net, pictures(), method=("layercam", "saliency"), target=1, layers=["late"], flips=True)
    for key, found in both.maps.items():
        torch.testing.assert_close(found, (plain.maps[key] + other.maps[key].flip(-1)) / 2)
        assert not torch.allclose(found, plain.maps[key])
    torch.testing.assert_close(both.logits, plain.logits)
    mirrored = attribute(
        net, pictures().flip(-1), method=("layercam", "saliency"), target=1, layers=["late"], flips=True
    )
    for key, found in both.maps.items():
        torch.testing.assert_close(mirrored.maps[key].flip(-1), found)


def test_flips_keep_the_class_predicted_for_the_image_itself() -> None:
    net = make()
    images = torch.cat([pictures(), 3 * pictures(8)])
    with torch.no_grad():
        net.fc.bias.sub_(net(images).mean(dim=0))  # so that the predicted classes differ
    one, two = (attribute(net, i, method="saliency").target for i in (images, images.flip(-1)))
    assert one.tolist() != two.tolist()
    assert attribute(net, images, method="saliency", flips=True).target.tolist() == one.tolist()


def test_methods_on_the_input_need_no_layer() -> None:
    net = make()
    found = attribute(
        net, pictures(), method=("saliency", "fullgrad", "occlusion"), options={"occlusion": {"window": 5}}
    )
    assert {key: tuple(m.shape) for key, m in found.maps.items()} == {
        (name, "input"): (4, 10, 14) for name in ("saliency", "fullgrad", "occlusion")
    }
    with pytest.raises(InputError, match="name the layers to explain"):
        attribute(net, pictures(), method=("saliency", "gradcam"))


def test_gradients_are_seen_one_at_a_time() -> None:
    """So that explaining every layer needs no more memory than the largest of them."""
    net = make()
    alive: list[weakref.ref[Tensor]] = []
    with Explainer(net, ["first", "stem", "left", "late"]) as explain:
        run = explain.forward(pictures())

        def see(_name: str, gradient: Tensor) -> None:
            assert sum(w() is not None for w in alive) <= 1  # autograd itself may still hold the one before
            alive.append(weakref.ref(gradient))

        run.visit(torch.zeros(4, dtype=torch.int64), see)
    assert len(alive) == 4


def test_a_layer_called_input_is_refused() -> None:
    net = nn.Sequential()
    net.add_module("input", nn.Conv2d(1, 2, 3))
    with pytest.raises(InputError, match="rename the module"):
        Explainer(net, ["input"])
