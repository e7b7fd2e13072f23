"""How long one slice takes, from its file to its class and class map: torch, ONNX Runtime, OpenVINO, timm and grad-cam.

Every way of working decodes the same PNG files, prepares them, and ends with logits and, where it has one, a map:

- forward: the floor. One plain forward pass of the same network in torch, on slices that are ready; no map;
- torch, torch bf16: gyrus's own, eager, in float32 and under bfloat16 autocast;
- onnx, openvino, and both in int8: what ``gyrus export`` writes, preprocessing inside the graph where it can be;
- timm: the same architecture as timm makes it, with a plain OpenCV resize before it; no map;
- timm + grad-cam: the same with a Grad-CAM of its last convolutional stage, as grad-cam's README shows.

They take turns, slice by slice, then batch by batch, every other round in reverse order. Each ratio is the median over
the rounds of that round's own ratio, so that neither a stall of the machine, which spoils one round, nor a slow spell,
which stretches several, moves it; seconds and percentiles are moved by both, so the machine's load is printed beside
them. The network has random weights unless ``--run`` names a trained one: what is computed does not depend on them, nor
does the speed of 8-bit integers; how accurate these are, ``gyrus export --int8`` says.
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
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor

from gyrus.datasets import open_dataset
from gyrus.export.graph import write_onnx
from gyrus.export.int8 import quantise
from gyrus.export.run import describe_graph, install
from gyrus.exported import Exported
from gyrus.io import Image, read_image
from gyrus.models import Classifier, create_model, load_model
from gyrus.phantom import make_phantom
from gyrus.preprocess import Preprocess, prepare_all
from gyrus.records import Record

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
REFERENCE = "torch"
WARM_UP = 1
SIDE = 256

Work = Callable[[Sequence[Path]], object]


def images_in(paths: Sequence[Path]) -> list[Image]:
    """Decode the files."""
    return [read_image(path) for path in paths]


def network_input(model: Classifier, paths: Sequence[Path]) -> Tensor:
    """Decode and prepare the files as gyrus does."""
    return model.normalise(torch.from_numpy(prepare_all(images_in(paths), model.spec.preprocess)))


def by_torch(model: Classifier, paths: Sequence[Path], *, bf16: bool = False) -> object:
    """Return logits and maps by gyrus's own model."""
    inputs = network_input(model, paths)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = model.features(inputs)
        return model.finish(features).float().numpy(), model.class_map(features).float().numpy()


def by_graph(graph: Exported, paths: Sequence[Path]) -> object:
    """Return logits, probabilities and maps by an exported model."""
    return graph.run_all([graph.take(image) for image in images_in(paths)])


def plain_input(paths: Sequence[Path], size: int, channels: int) -> Tensor:
    """Decode and resize the files as a short script would."""
    grey = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    slices = np.stack([cv2.resize(g, (size, size)) for g in grey if g is not None]).astype(np.float32) / 255
    return torch.from_numpy((slices - 0.45) / 0.22)[:, None].expand(-1, channels, -1, -1).contiguous()


def by_timm(net: torch.nn.Module, paths: Sequence[Path], size: int, channels: int) -> object:
    """Return the logits of a plain timm network."""
    with torch.inference_mode():
        return net(plain_input(paths, size, channels)).numpy()


def by_grad_cam(net: Any, layer: torch.nn.Module, paths: Sequence[Path], size: int, channels: int) -> object:
    """Return the Grad-CAM maps of the predicted classes; the logits come out of the same call."""
    with contextlib.redirect_stderr(io.StringIO()), GradCAM(model=net, target_layers=[layer]) as cam:
        return cam(plain_input(paths, size, channels), targets=None), cam.outputs


def ways(model: Classifier, records: Sequence[Record], scratch: Path, threads: int) -> dict[str, Work]:
    """Return every way of working, the graphs being written on the way."""
    spec = model.spec
    size, channels = spec.preprocess.size, spec.preprocess.channels
    net: Any = timm.create_model(spec.architecture, num_classes=len(spec.classes), in_chans=channels).eval()
    last = net.get_submodule(net.feature_info[-1]["module"])
    works: dict[str, Work] = {
        "torch": partial(by_torch, model),
        "torch bf16": partial(by_torch, model, bf16=True),
        "timm": partial(by_timm, net, size=size, channels=channels),
        "timm + grad-cam": partial(by_grad_cam, net, last, size=size, channels=channels),
    }
    float32, int8 = scratch / "float32.onnx", scratch / "int8.onnx"
    write_onnx(model, float32)
    for engine in ("onnx", "openvino"):
        for name, source in ((engine, float32), (f"{engine} int8", int8)):
            if not source.exists():
                quantise(float32, int8, Exported.load(scratch / "onnx", threads=threads), records)
            install(source, scratch / name, describe_graph(model, engine, ""), model.reference)
            works[name] = partial(by_graph, Exported.load(scratch / name, threads=threads))
    return works


def forward(model: Classifier, paths: Sequence[Path]) -> Callable[[], object]:
    """Return the plain forward pass on these slices, ready for it."""
    inputs = network_input(model, paths)

    def work() -> object:
        with torch.inference_mode():
            return model(inputs)

    return work


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call, garbage of earlier calls being collected before it."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(
    works: Mapping[str, Work], model: Classifier, files: Sequence[Path], batch: int, rounds: int
) -> dict[str, list[float]]:
    """Time each way once per round, all on the same files, every other round in reverse order."""
    times: dict[str, list[float]] = {name: [] for name in (*works, "forward")}
    for turn in range(rounds + WARM_UP):
        paths = [files[(turn * batch + i) % len(files)] for i in range(batch)]
        calls: dict[str, Callable[[], object]] = {name: partial(work, paths) for name, work in works.items()}
        calls["forward"] = forward(model, paths)
        for name in calls if turn % 2 else reversed(calls):
            spent = seconds(calls[name])
            if turn >= WARM_UP:
                times[name].append(spent)
    return times


def summarised(times: Mapping[str, Sequence[float]], batch: int) -> list[dict[str, Any]]:
    """Return one row per way: percentiles, slices per second, and how it compares with torch and with the floor."""
    return [
        {
            "name": name,
            "p50_ms": float(np.percentile(spent, 50)) * 1e3,
            "p95_ms": float(np.percentile(spent, 95)) * 1e3,
            "slices_per_second": batch / statistics.median(spent),
            "times_faster_than_torch": ratio(times[REFERENCE], spent),
            "cost_in_forward_passes": ratio(spent, times["forward"]),
        }
        for name, spent in times.items()
    ]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the per-round ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def machine(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "timm", "grad-cam", "onnxruntime", "openvino")}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        **packages,
    }


def table(facts: Mapping[str, Any], results: Mapping[str, Sequence[Mapping[str, Any]]], batch: int) -> str:
    """Return the results for people."""
    lines = [", ".join(f"{k} {v}" for k, v in facts.items())]
    if (facts["load"] or 0) > 1:
        lines.append("The machine was loaded: believe the ratios, not the milliseconds.")
    for title, rows in results.items():
        each = "slice" if title == "one slice" else f"batch of {batch}"
        lines += ["", f"{title:<18}{'p50':>10}{'p95':>10}{'slices/s':>10}{'faster than torch':>19}{'cost/forward':>14}"]
        lines += [
            f"{r['name']:<18}{r['p50_ms']:>8.1f}ms{r['p95_ms']:>8.1f}ms{r['slices_per_second']:>10.1f}"
            f"{r['times_faster_than_torch']:>18.2f}x{r['cost_in_forward_passes']:>13.2f}x"
            for r in rows
        ]
        lines.append(f"(time of one {each})")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description="One slice, file to class and map: torch, ONNX, OpenVINO, grad-cam.")
    parser.add_argument("--model", default="mobilenetv2_100", help="architecture, with random weights")
    parser.add_argument("--size", type=int, default=160, help="side of the network's input in pixels")
    parser.add_argument("--run", type=Path, help="a trained run instead, whose map is linear in the last features")
    parser.add_argument("--batch", type=int, default=16, help="slices per batch")
    parser.add_argument("--rounds", type=int, default=40, help="timed slices")
    parser.add_argument("--batches", type=int, default=8, help="timed batches")
    parser.add_argument("--threads", type=int, default=1, help="of every engine")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    if arguments.run:
        model = load_model(arguments.run)
    else:
        model = create_model(arguments.model, CLASSES, preprocess=Preprocess(size=arguments.size)).eval()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        made = make_phantom(scratch / "phantom", patients=8, slices_per_plane=2, size=SIDE)
        records = list(open_dataset(made))
        works = ways(model, records[:16], scratch, arguments.threads)
        files = [record.path for record in records]
        timed = {
            "one slice": (1, alternate(works, model, files, 1, arguments.rounds)),
            "batches": (arguments.batch, alternate(works, model, files, arguments.batch, arguments.batches)),
        }
    facts = machine(arguments.threads)
    results = {title: summarised(times, batch) for title, (batch, times) in timed.items()}
    document = {
        "schema": "gyrus.benchmark.inference/1",
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()},
        "machine": facts,
        "results": results,
    }
    text = json.dumps(document, indent=1) + "\n" if arguments.json else table(facts, results, arguments.batch)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
