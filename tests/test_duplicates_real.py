"""The counts that are known of the public datasets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gyrus.datasets import open_dataset
from gyrus.duplicates import find_copies
from gyrus.duplicates.clusters import connected


@pytest.fixture(scope="module")
def data() -> Path:
    folder = os.environ.get("GYRUS_DATA")
    if folder is None:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return Path(folder)


def test_no_two_cheng_slices_are_merged(data: Path) -> None:
    copies = find_copies(open_dataset(data / "cheng").records)
    assert copies.pairs == ()
    assert copies.unreadable == {}


def test_every_sartaj_test_image_repeats_a_training_image(data: Path) -> None:
    """Of the 251: 248 with the same pixels, 3 near-duplicates."""
    records = open_dataset(data / "sartaj").records
    copies = find_copies(records)

    def repeated(sets: list[list[int]]) -> set[int]:
        leaking = (s for s in sets if any(records[i].subset == "Training" for i in s))
        return {i for s in leaking for i in s if records[i].subset == "Testing"}

    same = connected((p.first, p.second) for p in copies.pairs if p.kind != "near")
    assert len(repeated(same)) == 248
    assert len(repeated([list(c) for c in copies.clusters])) == 251
