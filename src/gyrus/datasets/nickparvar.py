"""Nickparvar's merged Kaggle dataset: Training/ and Testing/ with glioma, meningioma, notumor, pituitary."""

from __future__ import annotations

from pathlib import Path

from gyrus.datasets.folder import has_classes, open_folder
from gyrus.datasets.registry import DatasetReader
from gyrus.records import Dataset, DatasetInfo

_FOLDERS = frozenset({"glioma", "meningioma", "notumor", "pituitary"})

INFO = DatasetInfo(
    name="nickparvar",
    title="Brain Tumor MRI Dataset, Kaggle: 7,023 slices merged from Cheng, Sartaj and Br35H",
    citation="Nickparvar, M. Brain Tumor MRI Dataset. Kaggle, 2021.",
    licence="not stated here: see its Kaggle page",
    classes=("glioma", "meningioma", "no_tumor", "pituitary"),
    faults=(
        "It merges the Cheng, Sartaj and Br35H datasets, so none of these can serve as its test data.",
        "65 % of Testing are near-duplicates of Training images, mostly flipped or turned.",
        "Four corner patches alone give 85.1 % over the four classes: the sources look different, not only the brains.",
        "It says nothing about patients: slices of one person may lie on both sides of a split.",
    ),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` has Training/ with the dataset's four folders."""
    return has_classes(root / "Training", _FOLDERS)


def open_nickparvar(root: Path) -> Dataset:
    """Open the dataset as it is unpacked.

    Raises:
        InputError: as :func:`gyrus.datasets.folder.open_folder`.
    """
    return open_folder(root, INFO, published=7023)


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_nickparvar,
    looks_for="Training/ with glioma, meningioma, notumor and pituitary",
)
