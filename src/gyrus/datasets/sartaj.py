"""Bhuvaji's four-class Kaggle dataset: Training/ and Testing/ with four ``*_tumor`` folders."""

from __future__ import annotations

from pathlib import Path

from gyrus.datasets.folder import has_classes, open_folder
from gyrus.datasets.registry import DatasetReader
from gyrus.records import Dataset, DatasetInfo

_FOLDERS = frozenset({"glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"})

INFO = DatasetInfo(
    name="sartaj",
    title="Brain Tumor Classification (MRI), Kaggle: 3,264 slices, three tumours and none",
    citation=(
        "Bhuvaji, S., Kadam, A., Bhumkar, P., Dedge, S., Kanchan, S. Brain Tumor Classification (MRI). Kaggle, 2020."
    ),
    licence="MIT (as listed)",
    classes=("glioma", "meningioma", "no_tumor", "pituitary"),
    faults=(
        "251 of the 394 Testing images repeat Training images, 248 pixel for pixel, among them all 105 no_tumor ones.",
        "A learning-free 1-nearest-neighbour scores 79.9 % on the official test, 44.3 % on the 140 that resemble none.",
        "77 % of Training are slices of the Cheng dataset, so the two must not be trained and tested on each other.",
        "14 images labelled pituitary are copies of Cheng meningiomas.",
        "82 of the 253 navoneel images repeat images of this dataset.",
        "62 or more slices, nearly all of them no_tumor, are CT: bone is a white ring there.",
        "Tumours are nearly all on T1 after contrast medium; of 277 pictures labelled no_tumor 4 are (told by eye).",
        "Image width and height alone tell tumour from none at 91.9 %.",
        "It says nothing about patients: slices of one person may lie on both sides of a split.",
    ),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` has Training/ with the dataset's four folders."""
    return has_classes(root / "Training", _FOLDERS)


def open_sartaj(root: Path) -> Dataset:
    """Open the dataset as it is unpacked.

    Raises:
        InputError: as :func:`gyrus.datasets.folder.open_folder`.
    """
    return open_folder(root, INFO, published=3264)


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_sartaj,
    looks_for="Training/ with glioma_tumor, meningioma_tumor, no_tumor and pituitary_tumor",
)
