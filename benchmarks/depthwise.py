"""How much faster a training step is in bfloat16 when slow depthwise gradients are computed in float32.

Timed on the same network and batch, one after the other, over and over, all but the first under bfloat16 autocast:

- float32: one training step, forward and backward, without autocast;
- PyTorch: the same step in bfloat16 as PyTorch takes it;
- gyrus: the same inside ``gyrus.depthwise.SwiftDepthwise``, as ``gyrus train`` takes it.

Each ratio is the median over the rounds of that round's own ratio. How close the depthwise weights' gradients are to
those of float32 is printed for both ways, the median cosine. Run it as

    MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_THRESHOLD_=4294967296 python benchmarks/depthwise.py

for steadier numbers. Networks have random weights: the time does not depend on them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from cam_engine import alternate, machine, ratio
from torch import Tensor, nn

from gyrus.depthwise import SwiftDepthwise

MODELS = ("mobilenetv2_100", "tf_efficientnet_lite2", "efficientnet_b0", "resnet18")
CLASSES = 4


def step(net: nn.Module, images: Tensor, *, bf16: bool = True, swift: bool = False) -> None:
    """Take the gradient of a loss by every weight."""
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), SwiftDepthwise() if swift else contextlib.nullcontext():
        logits = net(images)
    torch.autograd.backward(F.cross_entropy(logits.float(), torch.arange(len(images)) % CLASSES))


def depthwise_slopes(net: nn.Module, images: Tensor, **how: bool) -> list[Tensor]:
    """Return the gradients of a step by the depthwise weights."""
    step(net, images, **how)
    kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    return [w.grad.flatten().clone() for w in kernels if w.grad is not None]


def closeness(net: nn.Module, images: Tensor) -> dict[str, float | None]:
    """Return how close both ways come to the gradients of float32."""
    exact = depthwise_slopes(net, images, bf16=False)
    found: dict[str, float | None] = {}
    for name, swift in (("pytorch", False), ("gyrus", True)):
        slopes = depthwise_slopes(net, images, swift=swift)
        cosines = [F.cosine_similarity(a, b, dim=0).item() for a, b in zip(exact, slopes, strict=True)]
        found[name] = statistics.median(cosines) if cosines else None
    return found


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one network."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=CLASSES).to(memory_format=torch.channels_last).train()
    images = torch.rand(arguments.batch, 3, arguments.size, arguments.size).to(memory_format=torch.channels_last)
    times = alternate(
        {
            "float32": partial(step, net, images, bf16=False),
            "pytorch": partial(step, net, images),
            "gyrus": partial(step, net, images, swift=True),
        },
        arguments.repeats,
    )
    return {
        "model": name,
        "seconds": {way: statistics.median(spent) for way, spent in times.items()},
        "times_faster": ratio(times["pytorch"], times["gyrus"]),
        "times_faster_than_float32": ratio(times["float32"], times["gyrus"]),
        "cosine_with_float32": closeness(net, images),
    }


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results for people."""
    lines = [
        "| one step | float32 | bfloat16, PyTorch | gyrus | faster by | than float32 by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        spent = r["seconds"]
        lines.append(
            f"| {r['model']} | {spent['float32']:.2f} s | {spent['pytorch']:.2f} s | {spent['gyrus']:.2f} s "
            f"| {r['times_faster']:.2f}x | {r['times_faster_than_float32']:.2f}x |"
        )
    lines += ["", "Cosine of the depthwise weights' gradients with those of float32, PyTorch and gyrus:"]
    for r in results:
        close = r["cosine_with_float32"]
        if close["gyrus"] is not None:
            lines.append(f"{r['model']}: {close['pytorch']:.3f} and {close['gyrus']:.3f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description="Training in bfloat16 on a processor: depthwise gradients.")
    parser.add_argument("--batch", type=int, default=16, help="images per batch")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="timm architectures")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    facts = machine()
    results = [measure(name, arguments) for name in arguments.models]
    if arguments.json:
        document = {"schema": "gyrus.benchmark.depthwise/1", "arguments": vars(arguments), "machine": facts}
        print(json.dumps({**document, "results": results}, indent=2))
    else:
        print(", ".join(f"{k} {v}" for k, v in facts.items()), table(results), sep="\n\n")


if __name__ == "__main__":
    main()
