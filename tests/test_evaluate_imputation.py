"""Noisy linear imputation: by hand, against grad-cam's equations, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from grad_cam_road import by_grad_cam

from gyrus.evaluate.imputation import impute


def test_one_pixel_by_hand() -> None:
    image = np.arange(9.0).reshape(1, 3, 3)
    removed = np.zeros((3, 3), dtype=bool)
    removed[1, 1] = True
    assert impute(image, removed)[0, 1, 1] == pytest.approx((0 + 2 + 6 + 8) / 12 + (1 + 3 + 5 + 7) / 6)
    removed[:] = False
    removed[0, 0] = True  # of its three neighbours, 1 and 3 lie beside it
    assert impute(image, removed)[0, 0, 0] == pytest.approx((1 / 6 + 3 / 6 + 4 / 12) / (1 / 6 + 1 / 6 + 1 / 12))


def test_two_neighbours_need_each_other() -> None:
    image = np.array([[[1.0, 99.0, 99.0, 4.0]]])
    removed = np.array([[False, True, True, False]])
    assert impute(image, removed)[0, 0] == pytest.approx([1, 2, 3, 4])


def test_one_known_pixel_fills_the_image() -> None:
    image = np.zeros((2, 7, 9))
    image[:, 3, 4] = (5, -2)
    removed = np.ones((7, 9), dtype=bool)
    removed[3, 4] = False
    assert impute(image, removed) == pytest.approx(np.broadcast_to([[[5.0]], [[-2.0]]], (2, 7, 9)))


@pytest.mark.parametrize("shape", [(1, 12), (12, 1), (13, 9), (24, 24), (5, 40)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_agrees_with_grad_cam(shape: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(0)
    image, removed = rng.normal(size=(3, *shape)), rng.random(shape) < share
    removed.flat[0] = False
    before = image.copy()
    got = impute(image, removed)
    assert got == pytest.approx(by_grad_cam(image, removed), abs=1e-9)
    assert (got[:, ~removed] == image[:, ~removed]).all()
    assert (image == before).all()


def test_a_compact_hole_on_a_large_grid_agrees_too() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:64, :80]
    removed = (y - 30) ** 2 + (x - 44) ** 2 < 20**2
    image = rng.normal(size=(1, 64, 80)).astype(np.float32)
    assert impute(image, removed) == pytest.approx(by_grad_cam(image, removed), abs=1e-9)


def test_noise_lies_on_the_imputed_pixels_alone() -> None:
    image, removed = np.zeros((2, 50, 60)), np.zeros((50, 60), dtype=bool)
    removed[:, 20:40] = True
    got = impute(image, removed, np.random.default_rng(0), noise=0.1)
    assert (got[:, ~removed] == 0).all()
    assert got[:, removed].std() == pytest.approx(0.1, rel=0.05)
    assert (got[0] != got[1])[removed].all()
    assert (impute(image, removed, np.random.default_rng(0), noise=0.1) == got).all()


def test_nothing_removed_changes_nothing() -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 5))
    assert (impute(image, np.zeros((4, 5), dtype=bool), np.random.default_rng(0)) == image).all()
