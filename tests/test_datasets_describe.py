"""``describe``: what ``gyrus data info`` says of a dataset."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from gyrus.datasets import open_dataset
from gyrus.datasets.describe import describe
from gyrus.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three slices of two patients, of two sizes."""
    for name, (height, width) in {"a": (20, 30), "b": (20, 30), "c": (40, 30)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((height, width), np.uint8))
    path = tmp_path / "slices.csv"
    path.write_text(
        "file,label,patient,plane,outline\n"
        'a.png,glioma,P1,axial,"1,1 9,1 9,9"\nb.png,glioma,P1,axial,\nc.png,no tumor,P2,coronal,\n'
    )
    return path


def test_counts_and_sizes(table: Path) -> None:
    value = describe(table)
    assert value["schema"] == "gyrus.data/1"
    assert value["sizes"] == [{"height": 20, "width": 30, "slices": 2}, {"height": 40, "width": 30, "slices": 1}]
    assert (value["slices"], value["patients"], value["masks"], value["unlabelled"]) == (3, 2, 1, 0)
    assert value["classes"] == {"glioma": 2, "no tumor": 1} or value["classes"] == {"glioma": 2, "no_tumor": 1}
    assert value["planes"] == {"axial": 2, "coronal": 1}
    assert value["fingerprint"] == open_dataset(table).fingerprint


def test_pixels_are_not_read(table: Path) -> None:
    """A file whose header is whole counts, whatever comes after it."""
    image = table.parent / "a.png"
    content = bytearray(image.read_bytes())
    start = content.index(b"IDAT") + 4
    content[start : start + 4] = b"\0\0\0\0"
    image.write_bytes(content)
    with pytest.raises(InputError):
        open_dataset(table)["a.png"].read()
    assert describe(table)["sizes"][0]["slices"] == 2


def test_a_damaged_header_is_named(table: Path) -> None:
    (table.parent / "c.png").write_text("no image")
    with pytest.raises(InputError, match=r"c\.png"):
        describe(table)


def test_reader_by_name(table: Path) -> None:
    assert describe(table, "manifest") == describe(table)
    with pytest.raises(InputError, match="'guess'"):
        describe(table, "guess")
