"""Datasets: what is published about them, how they are recognised, and opening them without reading a pixel."""

from __future__ import annotations

from gyrus.datasets.files import open_files
from gyrus.datasets.gather import records_in
from gyrus.datasets.manifest import write_manifest
from gyrus.datasets.registry import DatasetReader, dataset_info, list_datasets, open_cases, open_dataset, register

__all__ = [
    "DatasetReader",
    "dataset_info",
    "list_datasets",
    "open_cases",
    "open_dataset",
    "open_files",
    "records_in",
    "register",
    "write_manifest",
]
