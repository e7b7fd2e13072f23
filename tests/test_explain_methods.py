"""The formulas at a layer against numbers worked out on paper, on maps that no flip or transpose leaves alone."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import InputError
from gyrus.explain import DEFAULT_METHODS, METHODS, Explainer, attribute, list_methods
from gyrus.explain.activation import first_component, layercam_fused
from gyrus.explain.cards import LayerMethod
from gyrus.explain.methods import find_method
from gyrus.models import Classifier, ModelSpec
from gyrus.models.classifier import Body
from gyrus.models.spec import Pooling

IMAGE = torch.arange(12.0).view(1, 1, 3, 4)
# conv() below turns IMAGE into two 2 x 3 channels:
#   A_0[i, j] = x[i, j]           sums to 18
#   A_1[i, j] = 6 - x[i + 1, j]   sums to -6, with both signs
A0 = torch.tensor([[0.0, 1, 2], [4, 5, 6]])
A1 = torch.tensor([[2.0, 1, 0], [-2, -3, -4]])
U = math.log(2) / 5  # so that exp(5 * U * a) = 2^a under log-sum-exp, whose sharpness is 5


def conv() -> nn.Conv2d:
    layer = nn.Conv2d(1, 2, kernel_size=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[1.0, 0], [0, 0]]], [[[0.0, 0], [-1, 0]]]]))
        layer.bias.copy_(torch.tensor([0.0, 6]))  # type: ignore[union-attr]
    return layer


class Features(nn.Module):
    """What gyrus asks of a timm network."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images)


def two_layer_net(weight: list[list[float]], bias: list[float], pooling: Pooling = "avg") -> Classifier:
    model = Classifier(Body(Features()), ModelSpec(architecture="handmade", classes=("left", "right"), pooling=pooling))
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor(weight).view(2, 2, 1, 1))
        model.head.bias.copy_(torch.tensor(bias))  # type: ignore[union-attr]
    return model


class Positional(nn.Module):
    """A score that weighs every position by itself, so that the gradient varies over the map."""

    def __init__(self, *weights: list[list[float]]) -> None:
        super().__init__()
        self.conv = conv()
        self.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        score = (self.conv(images) * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([score, -score], dim=1)


def close(found: Tensor, expected: Tensor | list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-6)


def by_singular_values(channels: Tensor) -> Tensor:
    """Return X v_1 of one image's (K, h, w) features by a full decomposition in double precision."""
    x = channels.detach().double().flatten(1).T
    x = x - x.mean(dim=0)
    _, _, v = torch.linalg.svd(x, full_matrices=False)
    found = x @ v[0]
    found = found if float(found @ x.sum(dim=1)) >= 0 else -found
    return found.view(channels.shape[1:]).float()


def test_the_handmade_features_are_what_the_sums_below_assume() -> None:
    torch.testing.assert_close(conv()(IMAGE).detach()[0], torch.stack([A0, A1]), rtol=0, atol=0)


def test_average_pooling_by_hand() -> None:
    # The logit is sum_k w_k mean(A_k) + b, so G_k = w_k / 6 everywhere.
    #   left:  w = (6, -12), G = (1, -2);   logit (6 * 18 + 12 * 6) / 6 + 5 = 35
    #   right: w = (3, 12),  G = (0.5, 2);  logit (3 * 18 - 12 * 6) / 6 + 7 = 4
    model = two_layer_net([[6, -12], [3, 12]], [5, 7])
    with Explainer(model) as explain:
        result = explain(IMAGE.repeat(2, 1, 1, 1), target=[0, 1], methods=DEFAULT_METHODS)
    close(result.logits, [[35.0, 4], [35, 4]])
    maps = {method: found for (method, _), found in result.maps.items()}
    assert {layer for _, layer in result.maps} == {"body"}
    assert all(found.shape == (2, 2, 3) and found.dtype == torch.float32 for found in maps.values())
    left = torch.tensor([[-24.0, -6, 12], [48, 66, 84]])  # 6 A0 - 12 A1
    right = torch.tensor([[24.0, 15, 6], [-12, -21, -30]])  # 3 A0 + 12 A1
    cam = torch.stack([left, right])
    close(maps["cam"], cam)
    # With the average, four of the six are one map up to the factor h w: a constant G_k is its own mean (Grad-CAM), its
    # own mean weighted by A_k (XGrad-CAM), and the same at every position (HiResCAM).
    for method in ("gradcam", "xgradcam", "hirescam"):
        close(maps[method], cam / 6)
    # relu(G) drops channel 1 on the left; on the right both gradients are positive.
    close(maps["layercam"], torch.stack([A0, right / 6]))
    # alpha = G^2 / (2 G^2 + G^3 sum A); the weight sums alpha relu(G) over six positions.
    #   left:  channel 0: 1 / (2 + 18) = 1/20, weight 6/20 = 3/10;  channel 1: relu(-2) = 0
    #   right: channel 0: .25 / (.5 + .125 * 18) = 1/11, weight 6 * .5 / 11 = 3/11
    #          channel 1: 4 / (8 - 8 * 6) = -1/10, weight 6 * 2 * -.1 = -6/5
    close(maps["gradcam++"], torch.stack([0.3 * A0, 3 / 11 * A0 - 1.2 * A1]))


def test_a_gradient_that_varies_over_the_map_by_hand() -> None:
    # The logit is sum_k sum_ij V_k A_k, so G = V: now no two of the five methods agree.
    model = Positional([[1, 0, -1], [4, 0, 0]], [[0, 1, 0], [0, 0, -2]])
    gradient_methods = (*DEFAULT_METHODS[1:], "elementwise", "eigengradcam", "eigencam")
    with Explainer(model, ["conv"]) as explain:
        result = explain(IMAGE, target=0, methods=gradient_methods)
    maps = {method: found[0] for (method, _), found in result.maps.items()}
    close(maps["gradcam"], [[-1 / 3, 1 / 2, 4 / 3], [3, 23 / 6, 14 / 3]])  # 4/6 A0 - 1/6 A1
    close(maps["hirescam"], [[0, 1, -2], [16, 0, 8]])  # V_0 A_0 + V_1 A_1
    close(maps["layercam"], [[0, 1, 0], [16, 0, 0]])  # the same without the negative entries of V
    close(maps["elementwise"], [[0, 1, 0], [16, 0, 8]])  # HiResCAM's positive terms: V_0 A_0 = -2 at the top right
    # XGrad-CAM: channel 0: (1*0 - 1*2 + 4*4) / 18 = 7/9; channel 1: (1*1 + -2*-4) / -6 = -3/2
    close(maps["xgradcam"], [[-3, -13 / 18, 14 / 9], [55 / 9, 151 / 18, 32 / 3]])
    # Grad-CAM++: channel 0: 1 / (2 + 18) + 4 * 16 / (32 + 64 * 18) = 1/20 + 2/37 = 77/740
    #             channel 1: 1 / (2 - 6) = -1/4
    close(maps["gradcam++"], 77 / 740 * A0 - A1 / 4)
    # Eigen-CAM: A_1 = 2 - A_0, so the points lie on a line, v_1 = (1, -1) / sqrt 2, and the map is sqrt 2 (A0 - 3). The
    # sum over the channels is 2 everywhere: neither sign is better.
    close(maps["eigencam"].abs(), math.sqrt(2) * (A0 - 3).abs())
    close(maps["eigengradcam"], by_singular_values(torch.stack([model.weight[0] * A0, model.weight[1] * A1])))
    # Here HiResCAM alone adds up to the logit: 0 + 1 - 2 + 16 + 0 + 8 = 23.
    close(result.logits, [[23.0, -23]])
    assert float(maps["hirescam"].sum()) == pytest.approx(23)


def test_log_sum_exp_pooling_by_hand() -> None:
    # Head w = (2 U, U): class map m = 2 U A0 + U A1 = U (A0 + 2), since A1 = 2 - A0. So exp(5 m) = 4 * 2^A0, which is
    # 4 * (1, 2, 4; 16, 32, 64) and sums to 4 * 119. The logit's gradient in m is p = 2^A0 / 119, and G_k = w_k p.
    model = two_layer_net([[2 * U, U], [0, 0]], [0, 0], "lse")
    p = torch.tensor([[1.0, 2, 4], [16, 32, 64]]) / 119
    with Explainer(model) as explain:
        result = explain(IMAGE, target=0, methods=DEFAULT_METHODS)
    maps = {method: found[0] for (method, _), found in result.maps.items()}
    assert float(result.logits[0, 0]) == pytest.approx(math.log(4 * 119 / 6) / 5)
    cam = U * torch.tensor([[2.0, 3, 4], [6, 7, 8]])
    close(maps["cam"], cam)
    # p sums to one, so the mean of G_k is w_k / 6 as with the average: Grad-CAM is CAM / (h w) here too...
    close(maps["gradcam"], cam / 6)
    # ...and it is the methods that keep the gradient's position which differ, following p to the winning corner.
    close(maps["hirescam"], U / 119 * torch.tensor([[2.0, 6, 16], [96, 224, 512]]))
    close(maps["layercam"], p * cam)
    # XGrad-CAM: sum p A0 = (2 + 8 + 64 + 160 + 384) / 119 = 618/119; sum p A1 = 2 - 618/119 = -380/119
    close(maps["xgradcam"], 2 * U * 618 / 119 / 18 * A0 + U * 380 / 119 / 6 * A1)
    assert not torch.allclose(maps["hirescam"] / maps["hirescam"].max(), cam / cam.max(), atol=0.1)


def test_log_sum_exp_layercam_drops_the_negative_channel() -> None:
    # w = (U, -U): m = U (2 A0 - 2), p = 4^A0 / 5397, G_1 < 0 everywhere, so LayerCAM is U p A0.
    model = two_layer_net([[U, -U], [0, 0]], [0, 0], "lse")
    with Explainer(model) as explain:
        found = explain(IMAGE, target=0, methods=("layercam",)).maps["layercam", "body"][0]
    close(found, U / 5397 * torch.tensor([[0.0, 4, 32], [1024, 5120, 24576]]))


def test_gradcam_plus_plus_where_the_gradient_is_small_is_ruled_by_its_constant() -> None:
    # G = 1e-3 and sum A = 0: the paper's alpha is 1/2; with the constant it is 1e-6 / (2e-6 + 1e-6) = 1/3.
    a = torch.tensor([[[[1.0, -1]]]])
    g = torch.full((1, 1, 1, 2), 1e-3)
    close(AT_A_LAYER["gradcam++"].rule(a, g, None), (2 * 1e-3 / 3 * a)[0])


AT_A_LAYER = {name: m for name, m in METHODS.items() if isinstance(m, LayerMethod)}


@pytest.mark.parametrize("name", AT_A_LAYER)
def test_no_gradient_and_no_activation_give_a_zero_map(name: str) -> None:
    zero = torch.zeros(2, 3, 4, 5)
    found = AT_A_LAYER[name].rule(zero, zero, torch.zeros(2, 3))
    torch.testing.assert_close(found, torch.zeros(2, 4, 5), rtol=0, atol=0)


@pytest.mark.parametrize("name", AT_A_LAYER)
def test_signed_methods_keep_their_sign(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, g = (torch.randn(2, 5, 3, 4, generator=generator) for _ in range(2))
    found = AT_A_LAYER[name].rule(a, g, torch.randn(2, 5, generator=generator))
    assert found.shape == (2, 3, 4)
    assert METHODS[name].signed == (float(found.min()) < 0 < float(found.max()))


@pytest.mark.parametrize("name", AT_A_LAYER)
def test_memory_layout_does_not_matter(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    a, g = (torch.randn(2, 5, 3, 4, generator=generator) for _ in range(2))
    weight = torch.randn(2, 5, generator=generator)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (a, g)]
    close(AT_A_LAYER[name].rule(*last, weight), AT_A_LAYER[name].rule(a, g, weight))


@pytest.mark.parametrize("name", AT_A_LAYER)
def test_what_is_tiny_huge_or_constant_gives_a_finite_map(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-30, 1e-12, 1.0, 1e8):
        for a in (torch.randn(2, 5, 3, 4, generator=generator), torch.ones(2, 5, 3, 4), torch.zeros(2, 5, 3, 4)):
            for g in (torch.randn(2, 5, 3, 4, generator=generator), -torch.ones(2, 5, 3, 4)):
                found = AT_A_LAYER[name].rule(a * scale, g * scale, torch.ones(2, 5))
                assert bool(found.isfinite().all()), (scale, a[0, 0], g[0, 0])


def test_a_denominator_of_exactly_zero_gives_no_weight() -> None:
    a = torch.tensor([[[[1.0, -1.0 - 1e-7]]]])
    a[0, 0, 0, 1] = -1 - (float(a.sum()) + 1e-7) if float(a.sum()) != -1e-7 else a[0, 0, 0, 1]
    g = torch.ones_like(a)
    assert bool(AT_A_LAYER["xgradcam"].rule(a, g, None).isfinite().all())
    # Grad-CAM++: 2 g^2 + g^3 sum A + 1e-6 = 0 for g = 1 and sum A = -2 - 1e-6, as near as float32 comes
    b = torch.tensor([[[[-2.000001]]]])
    assert bool(AT_A_LAYER["gradcam++"].rule(b, torch.ones_like(b), None).isfinite().all())


class TestFirstComponent:
    @pytest.mark.parametrize("shape", [(3, 5, 6), (40, 3, 4), (12, 3, 4), (1, 4, 5), (6, 1, 1)])
    def test_either_gram_matrix_gives_what_a_full_decomposition_gives(self, shape: tuple[int, int, int]) -> None:
        features = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1)).relu()
        expected = torch.stack([by_singular_values(one) for one in features])
        largest = expected.abs().amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        assert float(((first_component(features) - expected) / largest).abs().max()) < 1e-4

    def test_by_hand(self) -> None:
        # One channel: the map is the channel, centred. Its double beside it: v_1 = (1, 2) / sqrt 5, map = sqrt 5 x.
        x = torch.tensor([[1.0, 2], [3, 6]])
        close(first_component(x.view(1, 1, 2, 2))[0], x - 3)
        close(first_component(torch.stack([x, 2 * x])[None])[0], math.sqrt(5) * (x - 3))
        # The sign follows the sum over the channels: here that falls where the first channel rises.
        close(first_component(torch.stack([x, -2 * x])[None])[0], -math.sqrt(5) * (x - 3))

    def test_a_map_that_is_not_finite_leaves_the_others_alone(self) -> None:
        features = torch.randn(3, 6, 4, 5, generator=torch.Generator().manual_seed(1))
        alone = first_component(features)
        features[1, 2, 3, 4] = float("nan")
        features[2, 0, 0, 0] = float("inf")
        found = first_component(features)
        torch.testing.assert_close(found[0], alone[0], rtol=1e-5, atol=1e-6)
        assert bool(found[1:].isnan().all())

    def test_the_scale_passes_through(self) -> None:
        features = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(1))
        for scale in (1e-25, 1e-6, 1e10):
            close(first_component(features * scale) / scale, first_component(features))


def test_fused_maps_by_hand() -> None:
    # Each to its maximum, tanh(2 m): 1/2 -> tanh 1, 1 -> tanh 2; negatives are cut; then the larger at each position.
    one, two = math.tanh(1), math.tanh(2)
    fine = torch.tensor([[[4.0, 2], [-3, 0]]])
    other = torch.tensor([[[0.0, 0.1], [0.05, 0]]])
    close(layercam_fused.rule([fine, other]), [[[two, two], [one, 0]]])
    close(layercam_fused.rule([torch.zeros(1, 2, 2), torch.zeros(1, 1, 1)]), torch.zeros(1, 2, 2))
    # A single cell is the same everywhere once enlarged.
    close(layercam_fused.rule([torch.full((1, 1, 1), 7.0), torch.zeros(1, 2, 3)]), torch.full((1, 2, 3), two))


def test_the_fused_map_is_made_of_the_layers_asked_for() -> None:
    model = two_layer_net([[6, -12], [3, 12]], [5, 7])
    layers = ["body.net.conv", "body"]
    both = attribute(model, IMAGE, method=("layercam", "layercam-fused"), layers=layers, target=0).maps
    assert list(both) == [("layercam", "body.net.conv"), ("layercam", "body"), ("layercam-fused", "fused")]
    alone = attribute(model, IMAGE, method="layercam-fused", layers=layers, target=0).maps
    assert list(alone) == [("layercam-fused", "fused")]
    close(alone["layercam-fused", "fused"], both["layercam-fused", "fused"])
    close(alone["layercam-fused", "fused"][0], torch.tanh(2 * A0 / 6))


def test_every_method_has_a_card() -> None:
    cards = {card["name"]: card for card in list_methods()}
    assert list(cards) == list(METHODS)
    assert list(cards)[:6] == list(DEFAULT_METHODS)
    assert [name for name, card in cards.items() if card["needs_head"]] == ["cam"]
    fields = {"name", "title", "paper", "formula", "signed", "direction", "where", "needs_head", "cost", "one_pass"}
    for card in cards.values():
        assert card.keys() == fields | {"options"}
        assert all(card[field] for field in ("title", "paper", "formula", "direction", "where", "cost"))
        assert card["one_pass"] == (card["cost"] == "one pass, shared")
    assert json.loads(json.dumps(list(cards.values()))) == list(cards.values())


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no explanation method 'grad-cam': choose from cam, gradcam, gradcam\+\+"):
        find_method("grad-cam")


def test_an_option_a_method_does_not_have_is_refused() -> None:
    model = two_layer_net([[6, -12], [3, 12]], [5, 7])
    for method, options, message in (
        ("rise", {"rise": {"mask": 3}}, "rise has no option 'mask': its options are masks, cells, keep, seed"),
        ("scorecam", {"scorecam": {"masks": 3}}, "scorecam has no option 'masks': it has none"),
        ("scorecam", {"rise": {"masks": 3}}, "options for rise, which is not among the methods"),
    ):
        with pytest.raises(InputError, match=message):
            attribute(model, IMAGE, method=method, options=options)
