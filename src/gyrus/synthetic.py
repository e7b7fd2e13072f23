"""Slices of the phantom that take part in training, for the sake of their outlines: no real one is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.phantom import make_phantom
from gyrus.phantom.tumours import CLASSES, NO_TUMOR
from gyrus.records import Record


@contextmanager
def joined_by_phantom(
    records: Sequence[Record], classes: Sequence[str], patients: int, seed: int
) -> Iterator[list[Record]]:
    """Yield the records without their outlines, and after them slices of a phantom, whose files last as long.

    Those of the phantom whose class is none of ``classes`` are left out. Its patients are others than those of
    ``gyrus data phantom`` with the same seed, since people train on that as well.

    Args:
        records: real slices.
        classes: that a model is trained for.
        patients: of the phantom, at least 8.
        seed: what they depend on.

    Raises:
        InputError: the phantom has no tumour of these classes.
    """
    if not set(classes) & {*CLASSES} - {NO_TUMOR}:
        raise InputError(
            f"the phantom's tumours are {', '.join(c for c in CLASSES if c != NO_TUMOR)}, the data's classes "
            f"{', '.join(classes)}: leave --guide phantom out"
        )
    own = int(np.random.SeedSequence((seed, 4)).generate_state(1)[0])
    with tempfile.TemporaryDirectory() as scratch:
        made = open_dataset(make_phantom(Path(scratch) / "phantom", patients=patients, seed=own))
        taken = [r for r in made if r.label in classes]
        yield [*(replace(r, mask=None) for r in records), *taken]
