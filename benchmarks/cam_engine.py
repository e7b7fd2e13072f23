"""How fast eight class activation maps, a sweep over all layers, and Score-CAM are: gyrus against grad-cam.

Timed on the same network, batch and thread count, one after the other, over and over:

- the floor: one plain forward pass under ``inference_mode``, in the same precision and memory layout;
- gyrus: eight maps (Grad-CAM, Grad-CAM++, XGrad-CAM, HiResCAM, LayerCAM, element-wise Grad-CAM, Eigen-CAM,
  Eigen-Grad-CAM) in one pass, one ``with`` block; and each of them alone;
- grad-cam: the same eight, each in its own ``with`` block, as its README shows; its maps come scaled and resized to the
  input, which is part of what its README's call does and of what is timed;
- the sweep: gyrus's Grad-CAM at every convolution, one forward and one backward pass;
- Score-CAM: both, on the first images of the batch alone, since it takes one forward pass per channel and image.

With ``--dtype bf16`` gyrus and the floor run under bfloat16 autocast. grad-cam turns activations into NumPy arrays,
which
know no bfloat16, so its maps stay in float32 there, as its users' do.

Each ratio is the median over the rounds of that round's own ratio, so that neither a stall of the machine, which spoils
one round, nor a slow spell, which stretches both sides of several, moves it. For steadier numbers still, run it as

    MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_THRESHOLD_=4294967296 python benchmarks/cam_engine.py

because glibc otherwise gives each large activation back to the kernel and asks for it again in the next pass, and on a
small machine the page faults cost as much as the arithmetic, at random.

The networks have random weights: what they compute does not depend on them, but for Score-CAM, where gyrus passes over
channels that are constant in an image; so the share of those is printed too.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
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
from pytorch_grad_cam import (
    EigenCAM,
    EigenGradCAM,
    GradCAM,
    GradCAMElementWise,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from gyrus.explain import attribute
from gyrus.models import Classifier, create_model

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
GRAD_CAM = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "xgradcam": XGradCAM,
    "hirescam": HiResCAM,
    "layercam": LayerCAM,
    "elementwise": GradCAMElementWise,
    "eigencam": EigenCAM,
    "eigengradcam": EigenGradCAM,
}
GOAL_SPEED, GOAL_COST, GOAL_SWEEP = 20.0, 1.5, 4.0
GOAL_SCORECAM = {"float32": 1.2, "bf16": 2.0}
WARM_UP = 1


def precision(dtype: str) -> contextlib.AbstractContextManager[object]:
    """Return the context gyrus and the floor run in."""
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")


def by_gyrus(
    model: Classifier, images: Tensor, classes: Sequence[int], methods: Sequence[str], dtype: str, layers: Any = None
) -> None:
    """Explain the batch, by all methods in one pass."""
    with precision(dtype):
        attribute(model, images, target=classes, method=methods, layers=layers)


def by_grad_cam(model: Classifier, images: Tensor, classes: Sequence[int], cam_class: Any) -> None:
    """Explain the batch by one method, as grad-cam's README does; its progress bars are not shown."""
    targets = [ClassifierOutputTarget(c) for c in classes]
    with contextlib.redirect_stderr(io.StringIO()), cam_class(model=model, target_layers=[model.body]) as cam:
        cam(input_tensor=images, targets=targets)


def by_forward(model: Classifier, images: Tensor, dtype: str) -> None:
    """Run the network once, as for a prediction: the floor."""
    with torch.inference_mode(), precision(dtype):
        model(images)


def seconds(work: Callable[[], None]) -> float:
    """Return the wall time of one call, garbage of earlier calls being collected before it."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Time each piece of work once per round, every other round in reverse order, after a round of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + WARM_UP):
        for name in works if turn % 2 else reversed(works):
            spent = seconds(works[name])
            if turn >= WARM_UP:
                times[name].append(spent)
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the per-round ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def constant_channels(model: Classifier, images: Tensor) -> float:
    """Return the share of the last layer's channels that do not vary over an image."""
    with torch.inference_mode():
        features = model.body(images)
    return float((features.amax(dim=(2, 3)) == features.amin(dim=(2, 3))).float().mean())


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return every timing of one network."""
    layout = torch.channels_last if arguments.layout == "channels_last" else torch.contiguous_format
    batch, size, dtype = arguments.batch, arguments.size, arguments.dtype
    model = create_model(name, CLASSES, seed=0).eval().to(memory_format=layout)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(memory_format=layout)
    classes = [i % len(CLASSES) for i in range(batch)]
    works: dict[str, Callable[[], None]] = {
        "forward": lambda: by_forward(model, images, dtype),
        "gyrus": lambda: by_gyrus(model, images, classes, tuple(GRAD_CAM), dtype),
        "sweep": lambda: by_gyrus(model, images, classes, ("gradcam",), dtype, "sweep"),
    }
    for method, cam_class in GRAD_CAM.items():
        works[f"gyrus {method}"] = partial(by_gyrus, model, images, classes, (method,), dtype)
        works[f"grad-cam {method}"] = partial(by_grad_cam, model, images, classes, cam_class)
    times = alternate(works, arguments.repeats)
    eight = [sum(each) for each in zip(*(times[f"grad-cam {method}"] for method in GRAD_CAM), strict=True)]
    few, some = images[: arguments.score_images], classes[: arguments.score_images]
    single = {method: compared(times[f"gyrus {method}"], times[f"grad-cam {method}"]) for method in GRAD_CAM}
    if len(few):
        scores = alternate(
            {
                "gyrus": lambda: by_gyrus(model, few, some, ("scorecam",), dtype),
                "grad-cam": lambda: by_grad_cam(model, few, some, ScoreCAM),
            },
            arguments.repeats,
        )
        single["scorecam"] = compared(scores["gyrus"], scores["grad-cam"])
    return {
        "model": name,
        "forward_seconds": statistics.median(times["forward"]),
        "gyrus_eight_seconds": statistics.median(times["gyrus"]),
        "grad_cam_eight_seconds": statistics.median(eight),
        "times_faster": ratio(eight, times["gyrus"]),
        "cost_in_forward_passes": ratio(times["gyrus"], times["forward"]),
        "sweep_seconds": statistics.median(times["sweep"]),
        "sweep_in_forward_passes": ratio(times["sweep"], times["forward"]),
        "score_images": len(few),
        "constant_channels": constant_channels(model, few) if len(few) else None,
        "single": single,
    }


def compared(gyrus: Sequence[float], grad_cam: Sequence[float]) -> dict[str, float]:
    """Return both medians and the ratio."""
    return {
        "gyrus_seconds": statistics.median(gyrus),
        "grad_cam_seconds": statistics.median(grad_cam),
        "times_faster": ratio(grad_cam, gyrus),
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
        f"Eight class activation maps: batch of {arguments.batch} at {arguments.size} px, {arguments.dtype}, "
        f"{arguments.layout};",
        f"medians of {arguments.repeats} alternating rounds after {WARM_UP} of warm-up",
        ", ".join(f"{k} {v}" for k, v in facts.items()),
        "",
        f"{'network':<18}{'forward':>9}{'gyrus, 8':>10}{'grad-cam, 8':>13}{'faster by':>11}{'cost/forward':>14}"
        f"{'sweep':>9}{'sweep/forward':>15}",
    ]
    lines += [
        f"{r['model']:<18}{r['forward_seconds']:>8.3f}s{r['gyrus_eight_seconds']:>9.3f}s"
        f"{r['grad_cam_eight_seconds']:>12.3f}s{r['times_faster']:>10.1f}x{r['cost_in_forward_passes']:>13.2f}x"
        f"{r['sweep_seconds']:>8.3f}s{r['sweep_in_forward_passes']:>14.2f}x"
        for r in results
    ]
    lines += [
        f"{'goal':<18}{f'>= {GOAL_SPEED:g}x':>43}{f'<= {GOAL_COST:g}x':>14}{f'<= {GOAL_SWEEP:g}x':>24}",
        "",
        f"{'one method alone':<18}{'method':<14}{'gyrus':>10}{'grad-cam':>11}{'faster by':>11}",
    ]
    lines += [
        f"{r['model']:<18}{method:<14}{s['gyrus_seconds']:>9.3f}s{s['grad_cam_seconds']:>10.3f}s"
        f"{s['times_faster']:>10.1f}x{note(r, method, arguments.dtype)}"
        for r in results
        for method, s in r["single"].items()
    ]
    return "\n".join(lines) + "\n"


def note(result: Mapping[str, Any], method: str, dtype: str) -> str:
    """Return what has to be known of a Score-CAM line."""
    if method != "scorecam":
        return ""
    share = f"{result['constant_channels']:.0%} of its channels constant"
    return f"   (goal >= {GOAL_SCORECAM[dtype]:g}x; {result['score_images']} image(s), {share})"


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description="Class activation maps: gyrus against grad-cam and a forward pass.")
    parser.add_argument("--batch", type=int, default=32, help="images per batch")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    parser.add_argument(
        "--models", nargs="+", default=["resnet18", "resnet50", "mobilenetv2_100"], help="timm architectures"
    )
    parser.add_argument("--layout", choices=("contiguous", "channels_last"), default="contiguous", help="memory order")
    parser.add_argument("--dtype", choices=("float32", "bf16"), default="float32", help="of gyrus and the forward pass")
    parser.add_argument("--score-images", type=int, default=1, help="images for Score-CAM; 0 leaves it out")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    facts = machine()
    results = [measure(name, arguments) for name in arguments.models]
    document = {
        "schema": "gyrus.benchmark.cam_engine/2",
        "arguments": vars(arguments),
        "machine": facts,
        "results": results,
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n" if arguments.json else table(facts, results, arguments))


if __name__ == "__main__":
    main()
