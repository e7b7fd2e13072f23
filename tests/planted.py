"""Networks that provably look at one square, so that what a metric must say of their maps is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIDE = 24


class Window(nn.Module):
    """Multiplies each position by a weight of its own, a parameter that was "learned" to be a square of ones."""

    def __init__(self, top: int, left: int, side: int) -> None:
        super().__init__()
        weight = torch.zeros(SIDE, SIDE)
        weight[top : top + side, left : left + side] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weight


class Planted(nn.Module):
    """(N, 1, 24, 24) to two logits, the second of which is the mean brightness of one square, the first its negative.

    Nothing outside the square can change the logits, so every faithful map is zero there.
    """

    def __init__(self, top: int = 4, left: int = 13, side: int = 6) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 2, 1)
        self.window = Window(top, left, side)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([1.0, 0.5]).view(2, 1, 1, 1))
            self.look.bias.zero_()
            self.head.weight.copy_(torch.tensor([[-40.0, -40.0], [40.0, 40.0]]))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.window(self.look(images).relu()).mean(dim=(2, 3)))
        return logits


def bright_images(n: int = 3, seed: int = 0) -> Tensor:
    """(n, 1, 24, 24) positive noise."""
    return torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) + 0.1
