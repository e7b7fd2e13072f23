"""How much a map can score: exactly where it is counted; of a grid's IoU, more than any map that is tried here."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.evaluate.ceilings import area_ceiling, area_curve, grid_iou_ceiling, grid_pointing_ceiling
from gyrus.evaluate.ranking import PERCENTILES, score_map
from gyrus.preprocess import Frame

Mask = NDArray[np.bool_]


def blob(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> Mask:
    """A disc."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2)


@pytest.mark.parametrize("shape", [(10, 10), (5, 6), (7, 3), (3, 7), (20, 20), (1, 21)])
def test_the_area_ceiling_is_what_a_perfect_ranking_scores(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for area in range(1, shape[0] * shape[1]):
        flat = np.zeros(shape[0] * shape[1], dtype=bool)
        flat[rng.permutation(flat.size)[:area]] = True
        mask = flat.reshape(shape)
        perfect = np.empty(flat.size, dtype=np.float32)
        perfect[flat], perfect[~flat] = np.arange(area) + 1000, np.arange(flat.size - area)
        score = score_map(perfect.reshape(shape), mask)
        assert area_ceiling(mask, 95.0) == pytest.approx(score.values["iou_p95"])
        assert area_curve(mask) == pytest.approx(score.curve)
        chance = score_map(rng.permutation(flat.size).reshape(shape).astype(np.float32), mask)
        assert (chance.curve <= area_curve(mask) + 1e-12).all()


def test_the_area_ceiling_by_hand() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[:2, :] = True  # 20 pixels; the 95th percentile keeps 5, the 80th 20, the 50th 50
    assert area_ceiling(mask, np.array([95.0, 90.0, 80.0, 50.0])) == pytest.approx([5 / 20, 10 / 20, 1.0, 20 / 50])
    assert len(area_curve(mask)) == len(PERCENTILES)


FRAMES = {
    "whole": Frame((0, 0, 13, 17), (13, 17)),
    "padded": Frame((-2, 0, 15, 17), (13, 17)),
    "cut": Frame((3, 2, 12, 15), (13, 17)),
    "both": Frame((-3, 4, 11, 18), (13, 17)),
}


def _peak(cells: int, rng: np.random.Generator) -> NDArray[np.float64]:
    heights = 0.05 * rng.random(cells)
    at = rng.integers(cells)
    heights[np.clip(at + rng.integers(-1, 2), 0, cells - 1)] = 1 - 10.0 ** rng.uniform(-3, -0.5)
    heights[at] = 1.0
    return heights


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("grid", [(2, 2), (2, 3), (3, 2), (5, 4), (1, 4), (13, 17), (20, 30)])
def test_the_pointing_ceiling_is_reached_and_not_passed(grid: tuple[int, int], frame: Frame) -> None:
    """Where the maximum of random maps falls is exactly where the ceiling says it can fall."""
    rng = np.random.default_rng(0)
    reached = np.zeros(frame.shape)  # per pixel, the best expected hit of any map tried on a mask of that pixel alone
    for n in range(3000):
        values = rng.random(grid).astype(np.float32)
        if n % 4:  # one cell on top, one beside it nearly as high: pulls the maximum to either side of the centre
            values = np.outer(*(_peak(cells, rng) for cells in grid)).astype(np.float32)
        placed = frame.place(values)
        top = placed >= placed.max() * np.float32(1 - 1e-6)  # float32 upsampling may part what is flat
        reached[top] = np.maximum(reached[top], 1 / top.sum())
    ceiling = np.zeros(frame.shape)
    for i in np.ndindex(frame.shape):
        mask = np.zeros(frame.shape, dtype=bool)
        mask[i] = True
        ceiling[i] = grid_pointing_ceiling(mask, grid, frame)
    assert (reached <= ceiling + 1e-9).all()
    if max(grid) <= 5:  # so few cells that random maps have put the maximum wherever it can be
        assert reached == pytest.approx(ceiling)


def test_the_pointing_ceiling_by_hand() -> None:
    # Two cells over eight pixels: centres at 1.5 and 5.5; flat from 0 to 1 and from 6 to 7, a straight line between.
    def along(*pixels: int) -> float:
        mask = np.zeros((1, 8), dtype=bool)
        mask[0, list(pixels)] = True
        return grid_pointing_ceiling(mask, (1, 2))

    assert [along(p) for p in range(8)] == [0.5, 0.5, 0, 0, 0, 0, 0.5, 0.5]
    assert along(0, 1) == along(6, 7, 3) == 1.0
    # Three cells over nine: centres at 1, 4 and 7; the middle one is a pixel of its own.
    mask = np.zeros((1, 9), dtype=bool)
    mask[0, 4] = True
    assert grid_pointing_ceiling(mask, (1, 3)) == 1.0
    # One cell is flat all over.
    assert grid_pointing_ceiling(mask, (1, 1)) == pytest.approx(1 / 9)


@pytest.mark.parametrize("grid", [(3, 5), (5, 5)])
def test_a_map_of_one_cell_reaches_the_pointing_ceiling(grid: tuple[int, int]) -> None:
    shape = (15 * grid[0], 9 * grid[1])  # odd numbers of pixels a cell: every centre is a pixel
    for i in np.ndindex(grid):
        values = np.zeros(grid, dtype=np.float32)
        values[i] = 1
        mask = np.zeros(shape, dtype=bool)
        mask[15 * i[0] + 7, 9 * i[1] + 4] = True
        whole = Frame((0, 0, *shape), shape)
        assert score_map(whole.place(values), mask).values["pointing"] == pytest.approx(
            grid_pointing_ceiling(mask, grid)
        )


def masks_of(shape: tuple[int, int] = (48, 64)) -> list[Mask]:
    """Round tumours of many sizes, and one in two parts."""
    rng = np.random.default_rng(1)
    height, width = shape
    some = [blob(shape, (rng.uniform(6, height - 6), rng.uniform(6, width - 6)), r) for r in (2, 3, 5, 8, 12, 16)]
    return [*some, blob(shape, (10, 12), 5) | blob(shape, (36, 50), 7)]


@pytest.mark.parametrize("grid", [(3, 4), (6, 8)])
def test_no_map_tried_passes_the_iou_ceiling(grid: tuple[int, int]) -> None:
    masks = masks_of()
    ceiling = grid_iou_ceiling(masks, grid)
    assert ((ceiling > 0) & (ceiling <= 1)).all()
    rng = np.random.default_rng(2)
    for mask, limit in zip(masks, ceiling, strict=True):
        averaged = cv2.resize(mask.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
        tried = [averaged, averaged**2, cv2.blur(averaged, (2, 2)), *rng.random((30, *grid)).astype(np.float32)]
        tried += [averaged + rng.normal(0, 0.05, grid).astype(np.float32) for _ in range(30)]
        for values in tried:
            got = score_map(Frame((0, 0, *mask.shape), mask.shape).place(values), mask)
            assert max(got.values["iou_half"], got.values["iou_otsu"], got.curve.max()) <= limit + 1e-9


def test_the_iou_ceiling_is_one_where_the_grid_can_draw_the_mask() -> None:
    shape = (40, 60)
    rows, columns = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    rows[:10], columns[:, 40:] = True, True  # half of one cell row of two; everything right of a line
    drawn = np.asarray(cv2.resize(np.eye(4, 6, dtype=np.float32), shape[::-1]) >= 0.5)
    assert grid_iou_ceiling([rows, columns, drawn], (4, 6)) == pytest.approx(1.0)


def test_a_finer_grid_has_a_higher_ceiling_on_average() -> None:
    means = [float(grid_iou_ceiling(masks_of(), (n, n)).mean()) for n in (1, 2, 4, 8, 16)]
    assert means == sorted(means)
    assert means[0] < 0.2  # a flat map keeps all
    assert means[-1] > 0.9


def test_the_iou_ceiling_within_a_frame() -> None:
    """A frame around the head gives the same cells less ground to cover, and what it cuts off is lost."""
    shape = (64, 64)
    mask = blob(shape, (30, 34), 5)
    near, whole = Frame((18, 22, 42, 46), shape), Frame((0, 0, *shape), shape)
    in_frame, in_image = (float(grid_iou_ceiling([mask], (4, 4), [f])[0]) for f in (near, whole))
    assert in_frame > in_image + 0.1
    half = Frame((0, 34, 64, 64), shape)  # the box starts in the middle of the tumour
    assert float(grid_iou_ceiling([mask], (8, 8), [half])[0]) <= mask[:, 34:].sum() / mask.sum()
    beyond = Frame((-40, 0, 64, 64), shape)  # most of the upper cells lie beside the image and cost nothing
    assert float(grid_iou_ceiling([blob(shape, (2, 30), 6)], (3, 3), [beyond])[0]) > 0
    missed = Frame((40, 40, 60, 60), shape)
    assert float(grid_iou_ceiling([mask], (3, 3), [missed])[0]) == pytest.approx(mask.mean())
    assert grid_pointing_ceiling(mask, (3, 3), missed) == 0.0


def test_many_masks_are_the_same_as_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = grid_iou_ceiling(masks_of(), (3, 3))
    monkeypatch.setattr("gyrus.evaluate.ceilings._CHUNK", 3)
    assert grid_iou_ceiling(masks_of(), (3, 3)) == pytest.approx(together, abs=0.02)
    assert len(together) == len(masks_of())
    assert len(grid_iou_ceiling([], (3, 3))) == 0


def test_the_caller_s_gradient_mode_and_seed_are_left_as_found() -> None:
    import torch

    with torch.inference_mode():
        before = torch.random.get_rng_state()
        first = grid_iou_ceiling(masks_of()[:2], (4, 4))
        assert torch.is_inference_mode_enabled()
        assert (torch.random.get_rng_state() == before).all()
    assert (first == grid_iou_ceiling(masks_of()[:2], (4, 4))).all()
