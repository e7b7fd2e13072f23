"""Slices of a phantom that take part in a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gyrus.artifacts import read_json
from gyrus.datasets import open_dataset
from gyrus.datasets.manifest import PHANTOM_INFO
from gyrus.errors import InputError
from gyrus.phantom.tumours import NO_TUMOR
from gyrus.records import Dataset


def synthetic_slices(folder: Path, classes: Sequence[str], beside: Dataset) -> Dataset:
    """Return the slices of a phantom that are of these classes.

    Only a phantom is taken: other people's slices may be copies of those that a split holds back, which
    ``gyrus data join`` looks for before there is a split. Nor is one of a seed that phantoms in the data itself, or in
    what it was joined from, were made with, since its patients are the same.

    Args:
        folder: as ``gyrus data phantom`` wrote it.
        classes: that a model is trained for; the other slices are left out.
        beside: the dataset that the model is trained on.

    Raises:
        InputError: the folder is no phantom, it is the data's own, or may be, or it has no tumour of these classes.
    """
    dataset = open_dataset(folder)
    if dataset.info.name != PHANTOM_INFO.name:
        raise InputError(
            f"{folder} is no phantom, so its people may be among those that the split holds back: join the data first "
            "(gyrus data join), then split"
        )
    own, others = _seeds(dataset), _seeds(beside)
    if None in own or (None in others and own):
        where = folder if None in own else beside.root
        raise InputError(
            f"{where} does not say which seed its synthetic patients were made with, so the same may be on both sides "
            "of a split: use a phantom as gyrus data phantom wrote it"
        )
    if own & others:
        raise InputError(
            f"{folder} has the same patients as {beside.root}, some of whom the split holds back: make another with "
            "gyrus data phantom --seed"
        )
    taken = [r.id for r in dataset if r.label in classes]
    if not {r.label for r in dataset} & {*classes} - {NO_TUMOR}:
        raise InputError(
            f"the phantom {folder} has no tumour of the data's classes, {', '.join(classes)}: leave it out"
        )
    return dataset.select(taken)


def synthetic_facts(made: Dataset) -> dict[str, Any]:
    """Return what a trained model tells of the synthetic slices that it learned from."""
    patients = {r.patient for r in made}
    return {
        "fingerprint": made.fingerprint,
        "slices": len(made),
        "patients": len(patients),
        "licence": made.info.licence,
    }


def _seeds(dataset: Dataset) -> set[int | None]:
    """Return the seeds of the phantoms that pictures of a dataset lie in; None stands for one that does not say."""
    above = {tuple(folder / "dataset.json" for folder in record.path.absolute().parents) for record in dataset}
    files = {next((file for file in nearest if file.is_file()), None) for nearest in above} - {None}
    told = [read_json(file, "a phantom's description") for file in files if file is not None]
    made = [value for value in told if isinstance(value, dict) and value.get("name") == PHANTOM_INFO.name]
    return {seed if isinstance(seed := value.get("seed"), int) else None for value in made}
