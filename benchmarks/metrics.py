"""How fast maps are scored: gyrus against quantus, torchcam and grad-cam, one metric after the other.

Paired: every piece of work runs once a round, every other round in reverse order, and each ratio is the median over the
rounds of that round's own, so that neither a stall of the machine nor a slow spell moves it. The same maps, network,
steps, batch and float32 on both sides:

- pointing game, relevance mass, relevance rank on 64 maps of 224 px: quantus's call as its documentation shows it;
- deletion: quantus's PixelFlipping, which scores the same pictures but for the untouched first;
- deletion and insertion: torchcam's DeletionInsertionMetric, handed the maps so that it need not make them;
- ROAD, most relevant first: grad-cam's and quantus's, noise included.

Beside deletion and insertion stands their floor: the forward passes alone, as many pictures through the network that
gyrus runs. A peer cannot be beaten by more than it takes above that.

quantus is timed where it is installed. The network has one channel, since quantus takes the channels of a pixel for
features of their own. Images are noise, none of whose pixels equals what deletion puts in their place; with
``--images head`` they are a bright disc on black, as slices are, and steps that delete only black cost gyrus nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam.metrics.road import ROADMostRelevantFirstAverage
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn
from torchcam.metrics import DeletionInsertionMetric

from gyrus.evaluate import folded
from gyrus.evaluate.faithfulness import Faithfulness
from gyrus.evaluate.ranking import Ranking, energy_inside, pointing, rank_accuracy
from gyrus.models import create_model

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
QUANTUS = {"disable_warnings": True, "abs": False, "normalise": False}
FLOOR = "forward"
GOALS = {"pointing": 10.0, "mass": 10.0, "rank": 10.0, "deletion": 2.0, "deletion + insertion": 2.0, "ROAD": 2.0}
Works = dict[str, Callable[[], object]]


class Given:
    """What torchcam takes for an extractor, giving the maps it was given."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        """Return the maps."""
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """Return the only one."""
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def maps_of(n: int, side: int) -> NDArray[np.float32]:
    """Return n class activation maps of 7 x 7 cells laid over the input, positive and free of ties."""
    rng = np.random.default_rng(0)
    smooth = [cv2.resize(rng.random((7, 7), dtype=np.float32), (side, side)) for _ in range(n)]
    return np.stack([s + 1e-4 * rng.random((side, side), dtype=np.float32) for s in smooth]).astype(np.float32)


def images_of(n: int, side: int, kind: str) -> NDArray[np.float32]:
    """Return (n, 1, side, side) noise, or noise in a disc on 0."""
    noise = np.random.default_rng(1).normal(size=(n, 1, side, side)).astype(np.float32)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return noise if kind == "noise" else np.where(np.hypot(y, x) < 0.4 * side, noise, np.float32(0))


def localization(side: int) -> dict[str, Works]:
    """Return metric -> who -> the work, on 64 maps."""
    maps, images = maps_of(64, side), images_of(64, side, "noise")
    masks = np.zeros(maps.shape, dtype=bool)
    masks[:, side // 3 : side // 2, side // 4 : side // 2] = True
    model = create_model("resnet18", CLASSES, channels=1).eval()
    given: dict[str, Any] = {
        "model": model, "x_batch": images, "y_batch": np.zeros(64, dtype=int), "a_batch": maps[:, None],
        "s_batch": masks[:, None], "device": "cpu", "batch_size": 64,
    }  # fmt: skip
    found: dict[str, Works] = {}
    rules = {"pointing": (pointing, "PointingGame"), "mass": (energy_inside, "RelevanceMassAccuracy")}
    rules |= {"rank": (rank_accuracy, "RelevanceRankAccuracy")}
    for name, (rule, peer) in rules.items():
        found[name] = {"gyrus": lambda rule=rule: [rule(Ranking(a, m)) for a, m in zip(maps, masks, strict=True)]}  # type: ignore[misc]
        if importlib.util.find_spec("quantus"):
            made = getattr(importlib.import_module("quantus"), peer)(**QUANTUS)
            found[name]["quantus"] = lambda made=made: made(**given)  # type: ignore[misc]
    return found


def faithfulness(name: str, n: int, side: int, steps: int, kind: str) -> dict[str, Works]:
    """Return metric -> who -> the work, on one network."""
    model = create_model(name, CLASSES, channels=1).eval()
    images, maps, target = images_of(n, side, kind), maps_of(n, side), np.arange(n) % len(CLASSES)
    inputs, placed, classes = torch.from_numpy(images), torch.from_numpy(maps), torch.from_numpy(target)
    extractor = Given(model, placed)
    aims = [ClassifierOutputSoftmaxTarget(int(c)) for c in target]

    def ours() -> Faithfulness:
        return Faithfulness(model, inputs, classes, batch_size=n)

    def both() -> None:
        probe = ours()
        probe.deletion(placed, steps=steps)
        probe.insertion(placed, steps=steps, baseline=torch.zeros(1))

    net = folded(model, inputs[:1])

    def passes(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                net(inputs)

    def torchcam() -> None:
        peer = DeletionInsertionMetric(extractor, lambda x: x.softmax(dim=1), steps=steps, batch_size=n)
        with torch.inference_mode():
            peer.update(inputs, target.tolist())

    found: dict[str, Works] = {
        "deletion": {"gyrus": lambda: ours().deletion(placed, steps=steps), FLOOR: lambda: passes(steps)},
        "deletion + insertion": {"gyrus": both, "torchcam": torchcam, FLOOR: lambda: passes(2 * steps - 1)},
        "ROAD": {
            "gyrus": lambda: ours().road(placed),
            "grad-cam": lambda: ROADMostRelevantFirstAverage()(inputs, maps, aims, model),
        },
    }
    if importlib.util.find_spec("quantus"):
        quantus = importlib.import_module("quantus")
        given = {
            "model": model, "x_batch": images, "y_batch": target, "a_batch": maps[:, None],
            "device": "cpu", "batch_size": n,
        }  # fmt: skip
        per_step = side * side // steps
        flip = quantus.PixelFlipping(features_in_step=per_step, perturb_baseline=0.0, **QUANTUS)
        road = quantus.ROAD(percentages=[10 * i for i in range(1, 10)], noise=0.01, **QUANTUS)
        found["deletion"]["quantus"] = lambda: flip(**given)
        found["ROAD"]["quantus"] = lambda: road(**given)
    return found


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call, garbage of earlier calls being collected before it."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(works: Works, repeats: int) -> dict[str, Any]:
    """Return the median seconds of each, and the median of the rounds' ratios to gyrus; the first round is warm-up."""
    times: dict[str, list[float]] = {who: [] for who in works}
    for turn in range(repeats + 1):
        for who in works if turn % 2 else reversed(works):
            times[who].append(seconds(works[who]))
    kept = {who: spent[1:] for who, spent in times.items()}
    ratios = {
        who: [a / b for a, b in zip(spent, kept["gyrus"], strict=True)] for who, spent in kept.items() if who != "gyrus"
    }
    return {
        "seconds": {who: statistics.median(spent) for who, spent in kept.items()},
        "times_faster": {who: statistics.median(each) for who, each in ratios.items()},
        "least_and_most": {who: (min(each), max(each)) for who, each in ratios.items()},
    }


def table(results: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the results for people."""
    lines = [
        f"{arguments.images} of {arguments.size} px; {arguments.batch} of them and {arguments.steps} steps for the last"
        f" three metrics; float32; medians of {arguments.repeats} alternating rounds",
        f"torch {torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} cores, {platform.machine()}",
        "",
        f"{'network':<18}{'metric':<22}{'gyrus':>10}   {'peer':<10}{'':>10}{'faster by':>11}{'goal':>8}   rounds",
    ]
    for r in results:
        for who, times in r["times_faster"].items():
            least, most = r["least_and_most"][who]
            goal = "floor" if who == FLOOR else f"{GOALS[r['metric']]:g}x"
            lines.append(
                f"{r['network']:<18}{r['metric']:<22}{r['seconds']['gyrus']:>9.3f}s   {who:<10}"
                f"{r['seconds'][who]:>9.3f}s{times:>10.2f}x{goal:>8}   {least:.2f} to {most:.2f}"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description="Scoring maps: gyrus against quantus, torchcam and grad-cam.")
    parser.add_argument("--batch", type=int, default=8, help="images whose pixels are removed")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--steps", type=int, default=16, help="of deletion and insertion; divides the pixels")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--images", choices=("noise", "head"), default="noise", help="what is in the images")
    parser.add_argument("--models", nargs="*", default=["resnet18", "mobilenetv2_100"], help="timm architectures")
    parser.add_argument("--metrics", nargs="*", choices=GOALS, default=list(GOALS), help="which ones")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    jobs = [("-", metric, works) for metric, works in localization(arguments.size).items()]
    for name in arguments.models:
        made = faithfulness(name, arguments.batch, arguments.size, arguments.steps, arguments.images)
        jobs += [(name, metric, works) for metric, works in made.items()]
    results = [
        {"network": n, "metric": m, **measure(works, arguments.repeats)}
        for n, m, works in jobs
        if m in arguments.metrics
    ]
    document = {"schema": "gyrus.benchmark.metrics/1", "arguments": vars(arguments), "results": results}
    sys.stdout.write(json.dumps(document, indent=1) + "\n" if arguments.json else table(results, arguments))


if __name__ == "__main__":
    main()
