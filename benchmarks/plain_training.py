"""Fine-tune the same network on the same fold without gyrus: is a low accuracy the pipeline's fault or the data's?

    gyrus split cheng --folds 5 --no-val --out folds
    python benchmarks/plain_training.py cheng folds/fold-4.json mobilenet_v2-b0353104.pth

Everything but the file list is done by torchvision, PIL and torch alone: slices are squeezed to a square, greyscale
three times over, normalised as ImageNet's; flipped, turned, moved, scaled, brightened; AdamW, one cycle, bfloat16. The
test part is scored after every epoch, to be printed, and decides nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gyrus.datasets import open_dataset
from gyrus.records import Record
from gyrus.splits import Split

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def load(records: Sequence[Record], classes: Sequence[str], size: int) -> tuple[Tensor, Tensor]:
    """Return (N, size, size) uint8 slices and (N,) class indices."""
    images = [Image.open(r.path).convert("L").resize((size, size), Image.Resampling.BILINEAR) for r in records]
    labels = [classes.index(str(r.label)) for r in records]
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])), torch.tensor(labels)


def changed(slices: Tensor) -> Tensor:
    """Return (N, H, W) float32 slices, each flipped, turned, moved, scaled, brightened in its own way."""
    n, values = len(slices), slices.float().unsqueeze(1)

    def within(reach: float) -> Tensor:
        return (2 * torch.rand(n) - 1) * reach

    mirror = 1 - 2 * (torch.rand(n) < 0.5).float()
    angle, scale = within(np.pi / 12), 1 + within(0.1)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = [torch.stack([mirror * cos, -sin, within(0.1)], 1), torch.stack([mirror * sin, cos, within(0.1)], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(values.shape), align_corners=False)
    moved = F.grid_sample(values, grid, align_corners=False).squeeze(1)
    mean = moved.mean((1, 2), keepdim=True)
    factor, offset = 1 + within(0.2).view(-1, 1, 1), 255 * within(0.1).view(-1, 1, 1)
    return ((moved - mean) * factor + mean + offset).clamp(0, 255)


def logits(model: nn.Module, slices: Tensor) -> Tensor:
    """Return (N, classes) of (N, H, W) slices in 0..255."""
    inputs = ((slices.unsqueeze(1) / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        said: Tensor = model(inputs)
    return said.float()


def train(data: Path, split_file: Path, weights: Path, *, size: int, epochs: int, rate: float, seed: int) -> None:
    """Train, and print the accuracy on the test part after every epoch."""
    torch.manual_seed(seed)
    dataset, split = open_dataset(data), Split.load(split_file)
    split.check(dataset)
    classes = dataset.classes
    slices, labels = load(dataset.select((*split.train, *split.val)).records, classes, size)
    tested, truth = load(dataset.select(split.test).records, classes, size)
    model = torchvision.models.mobilenet_v2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, len(classes)))
    model = model.to(memory_format=torch.channels_last)
    steps = -(-len(slices) // 32)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps * epochs)
    started = time.time()
    for epoch in range(1, epochs + 1):
        model.train()
        for chunk in torch.randperm(len(slices)).tensor_split(steps):
            loss = F.cross_entropy(logits(model, changed(slices[chunk])), labels[chunk])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            said = torch.cat([logits(model, part.float()) for part in torch.split(tested, 64)]).argmax(1)
        recalls = ", ".join(f"{c} {(said[truth == k] == k).float().mean():.3f}" for k, c in enumerate(classes))
        accuracy = float((said == truth).float().mean())
        print(f"epoch {epoch}: accuracy {accuracy:.3f} ({recalls}), {time.time() - started:.0f} s", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the Cheng images")
    parser.add_argument("split", type=Path, help="one fold, as `gyrus split` writes it")
    parser.add_argument("weights", type=Path, help="torchvision's ImageNet file of MobileNetV2")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(
        given.data, given.split, given.weights,
        size=given.size, epochs=given.epochs, rate=given.rate, seed=given.seed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
