"""Small datasets of PNG slices, for the tests of everything that works on records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gyrus.records import Dataset, DatasetInfo, Record


def write_png(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write an 8-bit grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def listed(root: Path, rows: Sequence[tuple[str, str | None, str | None]], *, name: str = "hand") -> Dataset:
    """Return a dataset of (id, label, patient) whose files, made here, hold nothing but their own id."""
    root.mkdir(parents=True, exist_ok=True)
    records = []
    for name_of_file, label, patient in rows:
        path = root / name_of_file
        path.write_text(name_of_file)
        records.append(Record(name_of_file, path, label, patient, study=patient and f"{patient}-1", source=name))
    return Dataset(DatasetInfo(name, "made by hand"), root, tuple(records))


def pictured(root: Path, count: int, size: tuple[int, int] = (20, 24)) -> list[Record]:
    """Return records of PNG files, each brighter from left to right and in rows of its own number."""
    records = []
    for i in range(count):
        pixels = np.tile(np.linspace(0, 200, size[1], dtype=np.uint8), (size[0], 1))
        pixels[: i + 1] = 255
        records.append(Record(f"{i}.png", write_png(root / f"{i}.png", pixels), "glioma", f"p{i}"))
    return records
