"""Chakrabarty's small binary Kaggle dataset: yes/ and no/."""

from __future__ import annotations

from pathlib import Path

from gyrus.datasets.br35h import names_match
from gyrus.datasets.folder import has_classes, open_folder
from gyrus.datasets.registry import DatasetReader
from gyrus.records import Dataset, DatasetInfo

_PASSED_OVER = {"brain_tumor_dataset": "the published archive holds the same images there a second time"}

INFO = DatasetInfo(
    name="navoneel",
    title="Brain MRI Images for Brain Tumor Detection, Kaggle: 253 slices, tumour or none",
    citation="Chakrabarty, N. Brain MRI Images for Brain Tumor Detection. Kaggle, 2019.",
    licence="not stated",
    classes=("no_tumor", "tumor"),
    faults=(
        "82 of the 253 images repeat images of the Sartaj dataset, so neither can serve as test data for the other.",
        "It says nothing about patients: slices of one person may lie on both sides of a split.",
    ),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` has yes/ and no/ with the dataset's names (Y1.jpg; 1 no.jpeg, No11.jpg, N1.JPG)."""
    if not has_classes(root, frozenset({"yes", "no"})):
        return False
    return names_match(root / "yes", r"Y\d+") and names_match(root / "no", r"(?i)\d+ ?no|no? ?\d*")


def open_navoneel(root: Path) -> Dataset:
    """Open the dataset as it is unpacked; the archive's second copy of it is left out with a note.

    Raises:
        InputError: as :func:`gyrus.datasets.folder.open_folder`.
    """
    return open_folder(root, INFO, published=253, passed_over=_PASSED_OVER)


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_navoneel,
    looks_for="Y1.jpg ... in yes/ and '1 no.jpeg' ... in no/",
)
