"""From an image to the network's square and back, without a shift, a flip or a stretch that was not asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from gyrus.io import Image
from gyrus.preprocess import Frame, Preprocess, frame_of, head_mask, prepare, prepare_all

SIZE = 32


def image(pixels: NDArray[Any]) -> Image:
    return Image(pixels.astype(np.float32))


def head(
    shape: tuple[int, int] = (120, 160), centre: tuple[int, int] = (55, 90), axes: tuple[int, int] = (38, 30)
) -> Image:
    """A bright ellipse with a dark middle, on faint noise, with a label burnt into a corner."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 6, shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = ((y - centre[0]) / axes[0]) ** 2 + ((x - centre[1]) / axes[1]) ** 2
    pixels[distance <= 1] += 160
    pixels[distance <= 0.1] = 2
    pixels[4:9, 4:16] = 255
    return image(pixels)


def upsampled(grid: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    tensor = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], shape, mode="bilinear", align_corners=False
    )
    return np.asarray(tensor[0, 0].numpy())


@pytest.mark.parametrize("grid", [(5, 5), (7, 7), (1, 1), (1, 6), (14, 9), (28, 28)])
@pytest.mark.parametrize("shape", [(64, 64), (61, 97), (130, 45), (28, 28)])
def test_a_map_is_laid_as_torch_interpolates(grid: tuple[int, int], shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, grid).astype(np.float32)
    frame = frame_of(image(np.zeros(shape)), Preprocess(fit="stretch", size=SIZE))
    assert frame == Frame((0, 0, *shape), shape)
    placed = frame.place(values)
    assert placed.dtype == np.float32
    assert placed == pytest.approx(upsampled(values, shape), abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "box"), [((40, 100), (-30, 0, 70, 100)), ((101, 40), (0, -30, 101, 71)), ((50, 50), (0, 0, 50, 50))]
)
def test_a_padded_map_is_laid_on_the_part_that_is_image(shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    values = np.random.default_rng(1).uniform(-1, 1, (6, 6)).astype(np.float32)
    frame = frame_of(image(np.zeros(shape)), Preprocess(fit="pad", size=SIZE))
    assert frame == Frame(box, shape)
    side = max(shape)
    square = upsampled(values, (side, side))
    window = square[-box[0] : shape[0] - box[0], -box[1] : shape[1] - box[1]]
    assert window.shape == shape
    assert frame.place(values) == pytest.approx(window, abs=1e-5)


def test_a_map_of_a_box_leaves_the_rest_at_its_minimum() -> None:
    values = np.array([[1, 2], [3, -4]], dtype=np.float32)
    placed = Frame((2, 3, 6, 9), (8, 10)).place(values)
    assert placed[2:6, 3:9] == pytest.approx(upsampled(values, (4, 6)), abs=1e-5)
    rest = np.ones((8, 10), dtype=bool)
    rest[2:6, 3:9] = False
    assert (placed[rest] == -4).all()


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_the_head_is_found_and_framed(fit: Any) -> None:
    picture = head()
    box = frame_of(picture, Preprocess(crop="head", fit="stretch")).box
    assert box == pytest.approx((55 - 38, 90 - 30, 55 + 39, 90 + 31), abs=3)
    frame = frame_of(picture, Preprocess(crop="head", fit=fit))
    top, left, bottom, right = frame.box
    if fit == "pad":
        assert bottom - top == right - left == box[2] - box[0]
        assert (left + right) / 2 == pytest.approx((box[1] + box[3]) / 2, abs=0.5)
    mask = head_mask(picture.pixels)
    assert mask[55, 90]  # the dark middle is part of the head
    assert not mask[6, 10]  # the burnt-in label is not
    seen = prepare(picture, Preprocess(crop="head", fit="stretch", size=SIZE))
    assert seen[:, SIZE // 4].max() > 100


def test_a_mask_cut_and_laid_back_is_where_it_was() -> None:
    picture = head()
    mask = np.zeros(picture.shape, dtype=bool)
    mask[40:55, 70:95] = True
    for crop in ("none", "head"):
        for fit in ("pad", "stretch"):
            spec = Preprocess(crop=crop, fit=fit, size=64)
            frame = frame_of(picture, spec)
            grid = frame.cut(mask, 64)
            assert (grid.shape, grid.dtype) == ((64, 64), np.float32)
            assert 0 <= grid.min() <= grid.max() <= 1
            back = frame.place(grid) > 0.5
            assert (back & mask).sum() / (back | mask).sum() > 0.85
            area = (frame.box[2] - frame.box[0]) * (frame.box[3] - frame.box[1])
            assert grid.mean() * area == pytest.approx(mask.sum(), rel=0.05)


def test_a_mask_on_a_larger_grid_and_outside_the_box() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:4, 5:8] = True
    grown = Frame((0, 0, 10, 10), (10, 10)).cut(mask, 40)
    assert grown.sum() == pytest.approx(6 * 16, rel=0.05)
    assert Frame((5, 0, 10, 5), (10, 10)).cut(mask, 20).max() == 0


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_what_the_network_sees_lies_where_its_map_is_laid(fit: Any) -> None:
    """A spot in the corner of an uneven image: the brightest cell of the input, laid back, is the spot."""
    for shape in ((40, 100), (90, 50), (64, 64)):
        pixels = np.random.default_rng(0).uniform(0, 20, shape)
        pixels[5:12, shape[1] - 15 : shape[1] - 5] = 200
        picture = image(pixels)
        spec = Preprocess(fit=fit, size=48)
        seen = prepare(picture, spec)
        rows, columns = np.nonzero(seen > 200)
        frame = frame_of(picture, spec)
        top = frame.box[0] + rows.mean() * (frame.box[2] - frame.box[0]) / 48
        assert top == pytest.approx(8, abs=2)
        assert columns.mean() > 30  # on the right, as in the image
        placed = frame.place(seen.astype(np.float32))
        y, x = np.unravel_index(placed.argmax(), shape)
        assert 5 <= y < 12
        assert shape[1] - 15 <= x < shape[1] - 5


def test_the_intensity_becomes_eight_bits_between_the_percentiles() -> None:
    pixels = np.arange(101 * 101, dtype=np.float64).reshape(101, 101)
    spec = Preprocess(size=101, intensity=(10, 90))
    got = prepare(image(pixels), spec)
    low, high = np.percentile(pixels, (10, 90))
    assert got.dtype == np.uint8
    assert np.abs(got - np.clip((pixels - low) / (high - low) * 255, 0, 255)).max() <= 0.51
    assert (got == 0).mean() == pytest.approx(0.1, abs=0.01)
    assert (got == 255).mean() == pytest.approx(0.1, abs=0.01)


def test_any_depth_and_offset_gives_the_same_input() -> None:
    base = head().pixels
    expected = prepare(image(base), Preprocess(size=SIZE)).astype(int)
    for other in (base * 257, base / 255, base - 1000, base * 16 + 4096):
        assert np.abs(prepare(image(other), Preprocess(size=SIZE)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("value", [0, 7, 65535, -3])
@pytest.mark.parametrize("crop", ["none", "head"])
def test_a_constant_image_is_all_zeros(value: float, crop: Any) -> None:
    got = prepare(image(np.full((30, 50), value)), Preprocess(size=SIZE, crop=crop))
    assert got.shape == (SIZE, SIZE)
    assert not got.any()


@pytest.mark.parametrize("crop", ["none", "head"])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 400), (600, 2), (700, 500)])
def test_any_size_and_aspect(shape: tuple[int, int], fit: Any, crop: Any) -> None:
    spec = Preprocess(size=SIZE, fit=fit, crop=crop)
    picture = image(np.random.default_rng(0).uniform(0, 255, shape))
    got = prepare(picture, spec)
    assert (got.shape, got.dtype) == ((SIZE, SIZE), np.uint8)
    placed = frame_of(picture, spec).place(got.astype(np.float32))
    assert placed.shape == shape
    if shape == (1, 400) and fit == "pad" and crop == "none":
        assert (got[: SIZE // 2 - 1] == 0).all()
        assert (got[SIZE // 2 + 1 :] == 0).all()


def test_shrinking_averages_and_does_not_skip() -> None:
    stripes = np.tile([0.0, 255.0], (256, 128))
    got = prepare(image(stripes), Preprocess(size=32, intensity=(0, 100)))
    assert np.abs(got.astype(int) - 128).max() <= 1


def test_many_at_once_are_each_alone() -> None:
    images = [head(), head(centre=(70, 60)), image(np.eye(20))]
    spec = Preprocess(size=SIZE)
    assert (prepare_all(images, spec) == np.stack([prepare(i, spec) for i in images])).all()
    assert prepare_all([], spec).shape == (0, SIZE, SIZE)


def test_the_head_of_images_that_show_none() -> None:
    assert head_mask(np.zeros((9, 9), dtype=np.float32)).all()
    speck = np.zeros((1300, 1300), dtype=np.float32)
    speck[650, 650] = 1  # nothing of it is left after a blur of 13 pixels
    assert head_mask(speck).all()
    speck[600:700, 600:700] = 1
    assert 0.005 < head_mask(speck).mean() < 0.02


def test_the_specification_is_checked_and_travels() -> None:
    spec = Preprocess(crop="head", size=64, mean=(0.5,), std=(0.25,))
    assert spec.channels == 1
    assert Preprocess().channels == 3
    assert Preprocess.model_validate_json(spec.model_dump_json()) == spec
    for wrong in ({"size": 8}, {"fit": "squash"}, {"crop": "brain"}, {"colour": True}):
        with pytest.raises(ValidationError):
            Preprocess(**wrong)
    with pytest.raises(ValidationError):
        spec.size = 32
