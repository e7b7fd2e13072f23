"""From an image to the network's square and back, without a shift, a flip or a stretch that was not asked for."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from gyrus.io import Image
from gyrus.preprocess import Frame, Preprocess, frame_of, head_mask, head_outline, prepare, prepare_all

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


@pytest.mark.parametrize("value", [0.1, -0.2, 0.3, 1e30])
def test_a_blank_map_stays_blank(value: float) -> None:
    frame = frame_of(image(np.zeros((512, 384))), Preprocess(fit="stretch", size=SIZE))
    assert set(frame.place(np.full((7, 7), value, dtype=np.float32)).flat) == {np.float32(value)}


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
@pytest.mark.parametrize(
    "spec", [Preprocess(size=SIZE), Preprocess(size=SIZE, crop="head"), Preprocess.canonical(SIZE)]
)
def test_a_constant_image_is_all_zeros(value: float, spec: Preprocess) -> None:
    got = prepare(image(np.full((30, 50), value)), spec)
    assert got.shape == (SIZE, SIZE)
    assert not got.any()


@pytest.mark.parametrize("background", ["keep", "blank", "oval"])
@pytest.mark.parametrize("crop", ["none", "head"])
@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 400), (600, 2), (700, 500)])
def test_any_size_and_aspect(shape: tuple[int, int], fit: Any, crop: Any, background: Any) -> None:
    spec = Preprocess(size=SIZE, fit=fit, crop=crop, background=background)
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


# The canonical form

CANONICAL = Preprocess.canonical(64)


def face(shape: tuple[int, int] = (200, 160), *, air: float = 0.0, grain: float = 4.0) -> NDArray[np.float64]:
    """A brain inside a dark skull inside a scalp; the scalp reaches from row 40 to 160 and column 32 to 128."""
    pixels = air + np.random.default_rng(0).uniform(0, grain, shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot((y - 100) / 60, (x - 80) / 48)
    pixels[distance <= 1] = 150
    pixels[distance <= 0.92] = air / 2
    pixels[distance <= 0.85] = 90
    return pixels


SCALP = (40, 32, 161, 129)


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def lettered(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    for top, left in ((4, 4), (4, 140), (180, 4), (184, 146)):  # an L, and a line below it, in each corner
        pixels[top : top + 10, left : left + 3] = pixels[top + 8 : top + 10, left : left + 12] = 255
    return pixels


def framed(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels[:3] = pixels[-2:] = pixels[:, :2] = pixels[:, -4:] = 250
    return pixels


def panelled(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels[:12] = 250
    pixels[:, :20] = 255
    return pixels


def spotted(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels[90:110, 60:80] = 1500  # a tumour far brighter than everything
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        face(), face(grain=20), lettered(face()), framed(face()), panelled(face()), spotted(face()),
        face(air=255, grain=1), face(air=45, grain=12), framed(lettered(face(air=20))), face() * 40 - 1000,
    ],
    ids=["plain", "grainy", "letters", "frame", "panel", "tumour", "white", "grey", "all", "raw"],
)  # fmt: skip
def test_the_outline_holds_the_head_and_no_more(pixels: NDArray[np.float64]) -> None:
    outline = head_outline(pixels.astype(np.float32))
    assert outline.shape == pixels.shape
    assert box_of(outline) == pytest.approx(SCALP, abs=4)
    y, x = np.ogrid[:200, :160]
    distance = np.hypot((y - 100) / 60, (x - 80) / 48)
    assert outline[distance < 0.93].all()
    assert not outline[distance > 1.1].any()


def test_the_outline_of_a_head_cut_by_the_edge_and_of_a_stripped_brain() -> None:
    close = face()[65:135, 55:105] + np.random.default_rng(0).uniform(0, 40, (70, 50))
    assert head_outline(close.astype(np.float32)).mean() > 0.9  # nothing but brain
    y, x = np.ogrid[:200, :160]
    brain = np.where(np.hypot((y - 100) / 60, (x - 80) / 48) <= 0.85, 90.0, 0.0)
    stripped = head_outline(brain.astype(np.float32))
    assert (stripped & (brain > 0)).sum() / (stripped | (brain > 0)).sum() > 0.97


def test_the_outline_is_convex_where_the_head_is_not() -> None:
    pixels = face()
    pixels[95:105, :80] = 0  # a notch from the left to the middle
    outline = head_outline(pixels.astype(np.float32))
    assert outline[100, 40:80].all()
    assert not head_mask(pixels.astype(np.float32))[100, 40:70].any()


def test_the_outline_of_images_that_show_none() -> None:
    assert head_outline(np.zeros((9, 9), dtype=np.float32)).all()
    speck = np.zeros((300, 300), dtype=np.float32)
    speck[150:156, 150:156] = 1
    assert head_outline(speck).all()


def test_the_canonical_form_blanks_letters_and_keeps_the_head() -> None:
    plain, marked = (prepare(image(p), CANONICAL) for p in (face(), framed(lettered(face()))))
    assert np.abs(plain.astype(int) - marked).mean() < 4
    for seen in (plain, marked):
        y, x = np.ogrid[:64, :64]
        distance = np.hypot(y - 31.5, x - 31.5) / 32
        assert not seen[distance > 1].any()  # corners, and all that is beyond the oval
        assert not seen[:2].any()
        assert not seen[:, :2].any()
        assert (seen[distance < 0.7] > 100).all()  # the brain
        rows = np.flatnonzero(seen.any(axis=1))
        assert (rows[0], 63 - rows[-1]) == pytest.approx((3, 3), abs=1)  # 5 % of the head's height around it


def test_the_canonical_form_is_the_same_for_any_canvas_and_contrast() -> None:
    base = prepare(image(face(grain=0)), CANONICAL)
    wide = np.pad(face(grain=0), ((0, 40), (90, 10)))
    large = face(grain=0).repeat(2, axis=0).repeat(2, axis=1)
    for other in (wide, large, large.repeat(2, axis=1), face(grain=0) * 100 + 3):
        seen = prepare(image(other), CANONICAL)
        assert np.corrcoef(seen.ravel(), base.ravel())[0, 1] > 0.95


def test_an_oval_cuts_what_lies_in_the_corners_of_the_head() -> None:
    pixels = np.zeros((100, 100))
    pixels[20:80, 20:80] = np.random.default_rng(0).uniform(100, 200, (60, 60))
    kept = {b: prepare(image(pixels), Preprocess(size=100, background=b)) > 0 for b in ("keep", "blank", "oval")}
    assert kept["blank"].sum() == pytest.approx(3600, rel=0.03)
    assert kept["oval"].sum() == pytest.approx(np.pi / 4 * 3600, rel=0.03)
    assert kept["oval"][22, 50]
    assert not kept["oval"][22, 22]
    assert kept["blank"][22, 22]


def test_intensities_are_those_of_the_head() -> None:
    pixels = face()
    pixels[:30] *= 0
    pixels[4:14, 4:30] = 4000
    seen = prepare(image(pixels), CANONICAL)
    assert np.median(seen[24:40, 24:40]) == pytest.approx(255 * 90 / 150, abs=3)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_a_mask_goes_through_the_canonical_form_and_back(fit: Any, margin: float) -> None:
    picture = image(face())
    spec = Preprocess.canonical(96).model_copy(update={"fit": fit, "margin": margin})
    mask = np.zeros(picture.shape, dtype=bool)
    mask[70:95, 60:100] = True
    frame = frame_of(picture, spec)
    top, left, bottom, right = frame.box
    height, width = 121 * (1 + 2 * margin), 97 * (1 + 2 * margin)
    if fit == "pad":
        width = height
    assert (bottom - top, right - left) == pytest.approx((height, width), abs=6)
    back = frame.place(frame.cut(mask, 96)) > 0.5
    assert (back & mask).sum() / (back | mask).sum() > 0.9
    bright = image(np.where(mask, 255, face()))
    seen = prepare(bright, spec)
    rows, columns = np.nonzero(seen > 240)
    assert top + (np.median(rows) + 0.5) * (bottom - top) / 96 == pytest.approx(82.5, abs=3)
    assert left + (np.median(columns) + 0.5) * (right - left) / 96 == pytest.approx(80, abs=3)


def test_a_model_saved_before_there_was_a_background_prepares_as_it_did() -> None:
    saved = {"crop": "head", "fit": "pad", "size": 64, "intensity": [0.5, 99.5], "mean": [0.5], "std": [0.5]}
    spec = Preprocess.model_validate(saved)
    assert (spec.background, spec.margin) == ("keep", 0)
    assert frame_of(head(), spec) == frame_of(head(), Preprocess(crop="head"))
    assert Preprocess.model_validate_json(CANONICAL.model_dump_json()) == CANONICAL


@pytest.mark.parametrize("shape", [(10, 30_000), (30_000, 10), (1, 100_000)])
def test_a_thin_image_is_not_padded_to_gigabytes(shape: tuple[int, int]) -> None:
    pixels = np.zeros(shape, dtype=np.float32)
    pixels[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 100
    mask = pixels > 0
    spec = Preprocess(size=SIZE)
    tracemalloc.start()
    seen = prepare(image(pixels), spec)
    frame = frame_of(image(pixels), spec)
    share = frame.cut(mask, SIZE)
    placed = frame.place(np.tile(np.arange(7, dtype=np.float32), (7, 1)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    middle = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    across = (middle, slice(None)) if shape[1] > shape[0] else (slice(None), middle)
    outside = np.ones_like(seen, dtype=bool)
    outside[across] = False
    assert not seen[outside].any()
    assert seen.any()
    assert share.any()
    assert placed.shape == shape
    if shape[1] > shape[0]:
        assert placed[0, [0, shape[1] // 2, -1]] == pytest.approx([0, 3, 6], abs=0.01)
