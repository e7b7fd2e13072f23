"""Two networks that provably look at one known square, and where each method says that they look."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gyrus.explain import METHODS, attribute
from gyrus.explain.cards import LayerMethod
from gyrus.models import Classifier, ModelSpec
from gyrus.models.classifier import Body

SIDE, CELL = 64, 8
# (top, left) of the 16 px squares: upright stripes speak for the first class, level ones for the second
SQUARES = ((16, 40), (40, 8))
OPTIONS = {"rise": {"masks": 1500}, "occlusion": {"window": 8, "stride": 4}, "smoothgrad": {"samples": 10}}


class Stripes(nn.Module):
    """How much of each kind of stripe there is in each cell of 8 x 8, less a threshold: nothing else is let through."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 4, 2, bias=False)
        upright = torch.tensor([[1.0, -1], [1, -1]]) / 4
        with torch.no_grad():
            self.filters.weight.copy_(torch.stack([upright, -upright, upright.T, -upright.T]).unsqueeze(1))
        self.cells = nn.Conv2d(4, 2, CELL, stride=CELL)
        with torch.no_grad():
            self.cells.weight.zero_()
            for kind in (0, 1):
                self.cells.weight[kind, 2 * kind : 2 * kind + 2] = 1 / CELL**2
            self.cells.bias.fill_(-0.3)  # type: ignore[union-attr]

    def forward_features(self, images: Tensor) -> Tensor:
        return self.cells(self.filters(nn.functional.pad(images, (0, 1, 0, 1))).relu()).relu()


def planted() -> Classifier:
    model = Classifier(Body(Stripes()), ModelSpec(architecture="handmade", classes=("upright", "level")))
    with torch.no_grad():
        model.head.weight.copy_(200 * torch.eye(2).view(2, 2, 1, 1))
        model.head.bias.zero_()  # type: ignore[union-attr]
    return model


def slice_with_stripes() -> Tensor:
    image = 0.1 * torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    stripes = torch.arange(16) % 2 * 2.0 - 1
    for (top, left), pattern in zip(SQUARES, (stripes[None, :], stripes[:, None]), strict=True):
        image[top : top + 16, left : left + 16] = pattern
    return image[None, None]


def inside(c: int, size: torch.Size, margin: int = 0) -> Tensor:
    """Return (h, w) truth: the square of class c, in a map of any size; ``margin`` in pixels of the input."""
    scale = SIDE // size[-1]
    (top, left), square = SQUARES[c], torch.zeros(size, dtype=torch.bool)
    rows, columns = (slice((start - margin) // scale, (start + 16 + margin) // scale) for start in (top, left))
    square[rows, columns] = True
    return square


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("c", [0, 1])
def test_every_method_points_at_the_square_the_class_is_read_from(name: str, c: int) -> None:
    options = {k: v for k, v in OPTIONS.items() if k == name}
    result = attribute(planted(), slice_with_stripes(), method=name, target=c, options=options)
    (found,) = result.maps.values()
    top = int(found[0].argmax())
    squares = [inside(k, found[0].shape).flatten()[top].item() for k in (c, 1 - c)]
    if METHODS[name].direction == "activity":
        assert any(squares)  # it knows no class: either square will do
    else:
        assert squares == [True, False]


# Eigen-Grad-CAM is centred and so has something everywhere; Score-CAM gives the other channel a little weight.
EXACT = [n for n, m in METHODS.items() if isinstance(m, LayerMethod) and not n.startswith("eigen")]


@pytest.mark.parametrize("name", [*EXACT, "layercam-fused", "ablationcam"])
def test_all_of_the_map_is_in_the_square(name: str) -> None:
    (found,) = attribute(planted(), slice_with_stripes(), method=name, target=0).maps.values()
    square = inside(0, found[0].shape)
    assert float(found[0][square].min()) > 0
    assert float(found[0][~square].abs().max()) == 0


@pytest.mark.parametrize("name", ["saliency", "inputxgradient", "smoothgrad"])
def test_all_of_the_gradient_is_in_the_square(name: str) -> None:
    options = {k: v for k, v in OPTIONS.items() if k == name}
    (found,) = attribute(planted(), slice_with_stripes(), method=name, target=0, options=options).maps.values()
    square = inside(0, found[0].shape, margin=1)  # a filter of 2 x 2 reaches one pixel out
    assert float(found[0][~square].abs().max()) == 0
    assert float(found[0][square].abs().sum()) > 0


class Blinkered(nn.Module):
    """Sees features everywhere and reads them in one square only, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
        self.looks = nn.Parameter(torch.zeros(32, 32), requires_grad=False)
        self.looks[4:12, 20:28] = 1
        self.fc = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((self.features(images) * self.looks).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    "name", [n for n, m in METHODS.items() if n not in ("cam", "fullgrad") and m.direction != "activity"]
)
def test_what_follows_the_gradients_place_is_in_the_square_read_and_channel_weights_are_not(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        net = Blinkered()
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"rise": {"masks": 1500}, "occlusion": {"window": 4, "stride": 2}, "smoothgrad": {"samples": 5}}
    chosen = {k: v for k, v in options.items() if k == name}
    (found,) = attribute(net, image, method=name, target=0, layers=["features"], options=chosen).maps.values()
    square = torch.zeros(32, 32, dtype=torch.bool)
    square[4:12, 20:28] = True
    spreads = name in ("gradcam", "gradcam++", "xgradcam", "scorecam", "ablationcam")
    if spreads:
        # One weight for a whole channel shows what the channel sees, also where nobody reads it (Draelos & Carin 2020).
        assert float(found[0][~square].abs().max()) > 0.1 * float(found[0].abs().max())
    elif name == "rise":
        assert float(found[0][square].mean()) != float(found[0][~square].mean())  # noisy: no place is exactly zero
    else:
        margin = torch.zeros(32, 32, dtype=torch.bool)
        reach = {"occlusion": 4, "eigengradcam": 0}.get(name, 1)
        margin[4 - reach : 12 + reach, 20 - reach : 28 + reach] = True
        floor = found[0] - (found[0][0, 0] if name == "eigengradcam" else 0)  # centred: a constant where nothing is
        assert float(floor[~margin].abs().max()) <= 1e-6 * float(floor.abs().max())
        assert float(floor[margin].abs().max()) > 0
