"""A dataset that is learned in seconds: bright discs and bright rings, some slices of each of a few patients."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

from gyrus.augment import Augment
from gyrus.datasets import open_dataset
from gyrus.records import Dataset
from gyrus.training import TrainConfig

STILL = Augment(flip=0, rotate=0, translate=0, scale=0, brightness=0, contrast=0)


def write_discs(root: Path, patients: int = 10, slices: int = 4, side: int = 64) -> Dataset:
    """Write PNG files and a manifest of the classes glioma (discs) and meningioma (rings), equal in number."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    rows = [("file", "label", "patient")]
    for label, thickness in (("glioma", cv2.FILLED), ("meningioma", 2)):
        for patient in range(patients):
            for n in range(slices):
                pixels = rng.normal(60, 10, (side, side)).clip(0, 255).astype(np.uint8)
                x, y = (int(v) for v in rng.integers(side // 3, 2 * side // 3, 2))
                cv2.circle(pixels, (x, y), side // 6, 220, thickness)
                name = f"{label}-{patient}-{n}.png"
                cv2.imwrite(str(root / name), pixels)
                rows.append((name, label, f"{label[0]}{patient}"))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return open_dataset(root)


def small_config(**fields: object) -> TrainConfig:
    """Return a recipe for a network of 60,000 weights on 64 px that runs in float32 on the CPU."""
    small: dict[str, object] = {
        "model": "mobilenetv2_100",
        "output_stride": 8,
        "truncate": True,
        "channels": 1,
        "size": 64,
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "precision": "fp32",
        "device": "cpu",
    }
    return TrainConfig.model_validate(small | fields)
