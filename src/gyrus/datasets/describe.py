"""What a dataset holds, as ``gyrus data info`` shows it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.datasets.cases import Cases
from gyrus.datasets.registry import find_reader
from gyrus.io import Grid, read_grid, read_size
from gyrus.io.dicom import is_dicom, read_header
from gyrus.io.dicom_series import dicom_files
from gyrus.paths import PathLike
from gyrus.records import Dataset


def describe(path: PathLike, name: str | None = None) -> dict[str, Any]:
    """Return counts per class, plane and subset, patients, masks, image sizes, licence, citation, and known faults.

    Args:
        path: the dataset's folder or manifest, or a volume.
        name: of the reader, where it should not be recognised.

    Returns:
        The JSON document of ``gyrus data info``; sizes are read from the files' headers, most frequent first. Where the
        slices are those of volumes, ``volumes`` counts these by modality, shape and spacing along the RAS+ axes, the
        plane they were acquired in, and how far they are tilted against the body's axes.

    Raises:
        InputError: the path is no dataset, or a file's header is damaged; the message names it.
    """
    root = Path(path)
    reader = find_reader(root, name)
    dataset = reader.open(root)
    summary = dataset.summary()
    summary["sizes"] = [{"height": h, "width": w, "slices": n} for (h, w), n in _sizes(dataset).most_common()]
    if reader.cases is not None and any(record.at is not None for record in dataset):
        summary["volumes"] = _volumes(reader.cases(root))
    return {"schema": "gyrus.data/1", **summary}


def oblique_degrees(grid: Grid) -> float:
    """Return the largest angle between an axis of a volume and the axis of the body that it is named after."""
    axes = grid.affine[:3, :3] / grid.spacing
    return float(np.degrees(np.arccos(np.clip(np.diag(axes), -1, 1))).max())


def _sizes(dataset: Dataset) -> Counter[tuple[int, int]]:
    """Count (H, W) over the slices; the slices of one volume and plane are of one size."""
    alike = Counter((r.path, r.at.plane) if r.at else (r.path, None) for r in dataset)
    first = {(r.path, r.at.plane) if r.at else (r.path, None): r for r in reversed(dataset.records)}
    sizes: Counter[tuple[int, int]] = Counter()
    for key, slices in alike.items():
        sizes[read_size(first[key].path, first[key].at)] += slices
    return sizes


def _volumes(cases: Cases) -> list[dict[str, Any]]:
    grid_of = cache(read_grid)
    alike: Counter[tuple[Any, ...]] = Counter()
    for case in cases.cases:
        for called, ref in case.images.items():
            grid = grid_of(ref.path)
            spacing = tuple(round(mm, 4) for mm in grid.spacing) if case.spaced else None
            modality = _dicom_modality(ref.path) if called == "image" else called
            alike[modality, grid.shape, spacing, case.plane or grid.acquired, round(oblique_degrees(grid), 1)] += 1
    names = ("modality", "shape", "spacing_mm", "acquired", "oblique_degrees")
    return [dict(zip(names, kind, strict=True)) | {"volumes": n} for kind, n in alike.most_common()]


def _dicom_modality(path: Path) -> str | None:
    """Return what the header of a DICOM series says ("MR"); None for NIfTI, which does not say."""
    file = dicom_files(path)[0] if path.is_dir() else path
    return str(read_header(file).meta["modality"]) if path.is_dir() or is_dicom(file) else None
