"""How fast six class activation maps are: gyrus in one pass, against grad-cam as its README calls it.

Three things are timed on the same network, batch and thread count, one after the other, over and over:

- gyrus: all six maps (CAM, Grad-CAM, Grad-CAM++, XGrad-CAM, HiResCAM, LayerCAM) in one pass, one ``with`` block;
- grad-cam: the five of these that it has (it lacks CAM), each in its own ``with`` block, as its README shows; its maps
  come scaled and resized to the input, which is part of what its README's call does and of what is timed;
- the floor: one plain forward pass under ``inference_mode``.

The second table compares the five shared methods one to one: gyrus asked for that method alone, against grad-cam.

Each ratio is the median over the rounds of that round's own ratio, so that neither a stall of the machine, which spoils
one round, nor a slow spell, which stretches both sides of several, moves it. For steadier numbers still, run it as

    MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_THRESHOLD_=4294967296 python benchmarks/cam_engine.py

because glibc otherwise gives each large activation back to the kernel and asks for it again in the next pass, and on a
small machine the page faults cost as much as the arithmetic, at random.

The networks have random weights: what they compute does not depend on them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from gyrus.explain import METHODS, Explainer
from gyrus.models import Classifier, create_model

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
GRAD_CAM = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "xgradcam": XGradCAM,
    "hirescam": HiResCAM,
    "layercam": LayerCAM,
}
GOAL_SPEED, GOAL_COST = 8.0, 1.5


def by_gyrus(model: Classifier, images: Tensor, classes: Sequence[int], methods: Sequence[str]) -> None:
    """Explain the batch in one pass."""
    with Explainer(model) as explain:
        explain(images, target=classes, methods=methods)


def by_grad_cam(model: Classifier, images: Tensor, classes: Sequence[int], method: str) -> None:
    """Explain the batch by one method, as grad-cam's README does."""
    targets = [ClassifierOutputTarget(c) for c in classes]
    with GRAD_CAM[method](model=model, target_layers=[model.body]) as cam:
        cam(input_tensor=images, targets=targets)


def by_forward(model: Classifier, images: Tensor) -> None:
    """Run the network once, as for a prediction: the floor."""
    with torch.inference_mode():
        model(images)


def seconds(work: Callable[[], None]) -> float:
    """Return the wall time of one call, garbage of earlier calls being collected before it."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time each piece of work once per round, every other round in reverse order, after two rounds of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 2):
        for name in works if turn % 2 else reversed(works):
            spent = seconds(works[name])
            if turn >= 2:
                times[name].append(spent)
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the per-round ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def measure(name: str, batch: int, size: int, repeats: int, layout: torch.memory_format) -> dict[str, Any]:
    """Return every timing of one network."""
    model = create_model(name, CLASSES, seed=0).eval().to(memory_format=layout)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    classes = [i % len(CLASSES) for i in range(batch)]
    works: dict[str, Callable[[], None]] = {
        "forward": lambda: by_forward(model, images),
        "gyrus": lambda: by_gyrus(model, images, classes, tuple(METHODS)),
    }
    for method in GRAD_CAM:
        works[f"gyrus {method}"] = partial(by_gyrus, model, images, classes, (method,))
        works[f"grad-cam {method}"] = partial(by_grad_cam, model, images, classes, method)
    times = alternate(works, repeats)
    five = [sum(each) for each in zip(*(times[f"grad-cam {method}"] for method in GRAD_CAM), strict=True)]
    return {
        "model": name,
        "forward_seconds": statistics.median(times["forward"]),
        "gyrus_six_seconds": statistics.median(times["gyrus"]),
        "grad_cam_five_seconds": statistics.median(five),
        "times_faster": ratio(five, times["gyrus"]),
        "cost_in_forward_passes": ratio(times["gyrus"], times["forward"]),
        "single": {
            method: {
                "gyrus_seconds": statistics.median(times[f"gyrus {method}"]),
                "grad_cam_seconds": statistics.median(times[f"grad-cam {method}"]),
                "times_faster": ratio(times[f"grad-cam {method}"], times[f"gyrus {method}"]),
            }
            for method in GRAD_CAM
        },
    }


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "timm", "grad-cam")}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "malloc_trim_threshold": os.environ.get("MALLOC_TRIM_THRESHOLD_", "default"),
        "malloc_mmap_threshold": os.environ.get("MALLOC_MMAP_THRESHOLD_", "default"),
        **packages,
    }


def table(facts: Mapping[str, Any], results: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the results for people."""
    lines = [
        f"Six class activation maps: batch of {arguments.batch} at {arguments.size} px, float32, {arguments.layout};",
        f"medians of {arguments.repeats} alternating rounds after 2 of warm-up",
        ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        f"{'network':<18}{'forward':>10}{'gyrus, 6 maps':>15}{'grad-cam, 5':>13}{'faster by':>11}{'cost/forward':>14}",
    ]
    lines += [
        f"{r['model']:<18}{r['forward_seconds']:>9.3f}s{r['gyrus_six_seconds']:>14.3f}s{r['grad_cam_five_seconds']:>12.3f}s"
        f"{r['times_faster']:>10.1f}x{r['cost_in_forward_passes']:>13.2f}x"
        for r in results
    ]
    lines += [
        f"{'goal':<18}{'':>38}{f'>= {GOAL_SPEED:g}x':>11}{f'<= {GOAL_COST:g}x':>14}".rstrip(),
        "(grad-cam has no CAM, so its column holds five maps to our six)",
        "",
        f"{'one method alone':<18}{'method':<12}{'gyrus':>10}{'grad-cam':>11}{'faster by':>11}",
    ]
    lines += [
        f"{r['model']:<18}{method:<12}{s['gyrus_seconds']:>9.3f}s{s['grad_cam_seconds']:>10.3f}s{s['times_faster']:>10.1f}x"
        for r in results
        for method, s in r["single"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description="Six class activation maps: gyrus in one pass against grad-cam.")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    parser.add_argument("--models", nargs="+", default=["resnet18", "mobilenetv2_100"], help="timm architectures")
    parser.add_argument("--layout", choices=("contiguous", "channels_last"), default="contiguous", help="memory order")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    layout = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
    facts = machine()
    results = [measure(name, arguments.batch, arguments.size, arguments.repeats, layout) for name in arguments.models]
    document = {
        "schema": "gyrus.benchmark.cam_engine/1",
        "arguments": vars(arguments),
        "machine": facts,
        "results": results,
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n" if arguments.json else table(facts, results, arguments))


if __name__ == "__main__":
    main()
