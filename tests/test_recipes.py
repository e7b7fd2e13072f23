"""The recipe that makes the plane recogniser's slices: what it does to a slice, in every plane, by its seed alone."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from gyrus.datasets import open_dataset
from gyrus.records import PLANES

SEEDS = range(48)
"""So many that each step, the rarest of which is one slice in twenty, is taken in each plane."""


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "recipes")
        yield importlib.import_module("plane_slices")


@pytest.fixture(scope="module")
def drawn(recipe: ModuleType, tiny_phantom: Path) -> dict[str, Any]:
    """One slice of the phantom for each plane, at the recipe's size."""
    of_plane = {str(record.plane): record for record in open_dataset(tiny_phantom)}
    return {
        plane: recipe.Drawn(
            cv2.resize(of_plane[plane].read().pixels.astype(np.uint8), (recipe.SIDE, recipe.SIDE)),
            PLANES.index(plane),
            "phantom-0",
        )
        for plane in PLANES
    }


@pytest.mark.parametrize("plane", PLANES)
def test_photographed_slices_are_slices(recipe: ModuleType, drawn: dict[str, Any], plane: str) -> None:
    before = drawn[plane].pixels.copy()
    images = [recipe.photographed(drawn[plane], np.random.default_rng(seed)) for seed in SEEDS]
    for image in images:
        pixels = image.pixels
        assert (pixels.dtype, pixels.ndim, pixels.flags.c_contiguous) == (np.float32, 2, True)
        assert all(128 / 1.5 < side < 128 * 1.5 for side in pixels.shape)  # five standard deviations
        assert np.isfinite(pixels).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 255
        assert (pixels == np.rint(pixels)).all()  # 8 bits, as public slices have
        assert np.ptp(pixels) > 50
    assert (drawn[plane].pixels == before).all()
    assert len({image.shape for image in images}) > len(SEEDS) // 2
    again = [recipe.photographed(drawn[plane], np.random.default_rng(seed)) for seed in SEEDS]
    assert all((a.pixels == b.pixels).all() for a, b in zip(images, again, strict=True))


def test_pictures_of_nothing(recipe: ModuleType, drawn: dict[str, Any]) -> None:
    slices = np.stack([s.pixels for s in drawn.values()])
    images = [recipe.nothing(slices, np.random.default_rng(seed)) for seed in SEEDS]
    for image in images:
        assert image.pixels.dtype == np.float32
        assert min(image.shape) > recipe.SIDE - 8  # a mosaic drops what its tiles leave over
        assert ((image.pixels >= 0) & (image.pixels <= 255)).all()
    flat = [np.ptp(image.pixels) == 0 for image in images]
    assert 0 < sum(flat) < len(flat)  # one kind of five
