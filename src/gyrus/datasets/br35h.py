"""Hamada's binary Kaggle dataset Br35H: yes/, no/ and an unlabelled pred/."""

from __future__ import annotations

import re
from pathlib import Path

from gyrus.datasets.folder import has_classes, open_folder
from gyrus.datasets.listing import listing
from gyrus.datasets.registry import DatasetReader
from gyrus.records import Dataset, DatasetInfo

_PASSED_OVER = {
    "pred": "its images carry no label",
    "Br35H-Mask-RCNN": "it belongs to a detection task",
}

INFO = DatasetInfo(
    name="br35h",
    title="Br35H :: Brain Tumor Detection 2020, Kaggle: 3,000 slices, tumour or none",
    citation="Hamada, A. Br35H :: Brain Tumor Detection 2020. Kaggle, 2020.",
    licence="not stated here: see its Kaggle page",
    classes=("no_tumor", "tumor"),
    faults=(
        "Set against Cheng tumours, the corners of its healthy brains alone give 96.6 %: "
        "99 % on that pairing proves nothing.",
        "It is part of the Nickparvar dataset, so the two must not be trained and tested on each other.",
        "It says nothing about patients: slices of one person may lie on both sides of a split.",
    ),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` has yes/ and no/, and pred/ beside them or the dataset's names (y0.jpg, no0.jpg)."""
    if not has_classes(root, frozenset({"yes", "no"})):
        return False
    if set(_PASSED_OVER) & set(listing(root).folders):
        return True
    return names_match(root / "yes", r"y\d+") and names_match(root / "no", r"no\d+")


def names_match(folder: Path, stem: str) -> bool:
    """Tell whether nine in ten of a folder's images are named ``stem``, a regular expression, before the suffix."""
    images = listing(folder).images
    matching = sum(re.fullmatch(stem, Path(name).stem) is not None for name in images)
    return matching > 0 and matching >= 0.9 * len(images)


def open_br35h(root: Path) -> Dataset:
    """Open the dataset as it is unpacked; pred/, which carries no label, is left out with a note.

    Raises:
        InputError: as :func:`gyrus.datasets.folder.open_folder`.
    """
    return open_folder(root, INFO, published=3000, passed_over=_PASSED_OVER)


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_br35h,
    looks_for="yes/, no/ and pred/, or y0.jpg ... in yes/ and no0.jpg ... in no/",
)
