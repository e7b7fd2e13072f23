"""A small model and what was exported from it, for the tests of the export, of its running, and of the engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gyrus.records import Dataset, Record


@dataclass(frozen=True)
class Exports:
    """A model folder, the slices it was checked on, its exports, and what ``export_model`` returned for each."""

    model: Path
    discs: Dataset
    onnx: Path
    openvino: Path
    documents: dict[str, dict[str, Any]]


def write_odd_pictures(folder: Path, example: Path) -> list[Record]:
    """Write a slice that is not clipped, the same upside down and as a negative, noise, one grey, colours, stripes."""
    rng = np.random.default_rng(0)
    pixels = cv2.imread(str(example), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    plain = (0.7 * pixels).astype(np.uint8)
    plain[:2, :2] = 255  # of these few, the white end of the range is no share of the picture
    pictures = {
        "plain": plain,
        "turned": pixels[::-1, ::-1],
        "negative": 255 - pixels,
        "noise": rng.integers(0, 256, (80, 80), dtype=np.uint8),
        "blank": np.full((80, 80), 90, np.uint8),
        "colours": rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1),
        "stripes": np.tile((np.arange(150) // 6 % 2 * 200).astype(np.uint8), (70, 1)),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    return [Record(id=name, path=folder / f"{name}.png") for name in pictures]
