"""The recogniser's network: a few convolutions on a small grey picture."""

from __future__ import annotations

from torch import Tensor, nn

SIZE = 64
WIDTHS = (16, 32, 64, 96)


class PlaneNet(nn.Module):
    """3 x 3 convolutions in four stages, each halving the resolution, and one linear layer that knows where.

    Orbits above a brain are of an axial slice, below it of a coronal one; so the last 4 x 4 cells are not averaged.

    Attributes:
        outputs: axial, coronal, sagittal, and a fourth for what is no slice of a head.
    """

    outputs = 4

    def __init__(self) -> None:
        super().__init__()
        before = WIDTHS[0]
        layers: list[nn.Module] = [*_conv(1, before, stride=2)]
        for width in WIDTHS[1:]:
            layers += [*_conv(before, width, stride=2), *_conv(width, width, stride=1)]
            before = width
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(before * (SIZE // 2 ** len(WIDTHS)) ** 2, self.outputs)

    def forward(self, slices: Tensor) -> Tensor:
        """Return (N, 4) logits of (N, 1, 64, 64) slices in any unit; each is standardised first."""
        mean = slices.mean(dim=(1, 2, 3), keepdim=True)
        deviation = slices.std(dim=(1, 2, 3), keepdim=True, correction=0)
        seen = self.features((slices - mean) / (deviation + 1e-3))
        logits: Tensor = self.head(self.drop(seen.flatten(1)))
        return logits


def _conv(before: int, width: int, *, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    conv = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)
