"""Coarse JPEG: told by its blocks, wherever the grid starts, and not from slices, noise or edges. Blank pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.appearance import find_faults, measure
from gyrus.datasets import open_dataset
from gyrus.io import Image


@pytest.fixture(scope="module")
def head(tiny_phantom: Path) -> NDArray[np.uint8]:
    record = next(r for r in open_dataset(tiny_phantom) if r.plane == "axial")
    return np.asarray(
        cv2.resize(record.read().pixels, (256, 256), interpolation=cv2.INTER_CUBIC).clip(0, 255), np.uint8
    )


def as_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    _, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)


def blocks(pixels: NDArray[np.generic]) -> float:
    return measure(Image(pixels.astype(np.float32))).blocks


def kinds(pixels: NDArray[np.generic]) -> list[str]:
    return [f.kind for f in find_faults(measure(Image(pixels.astype(np.float32))))]


def test_by_hand() -> None:
    """Within blocks of 8 every step is 1, across their borders 5."""
    line = np.cumsum(np.where(np.arange(64) % 8 == 0, 5, 1)).astype(float)
    assert blocks(line[:, None] + line[None]) == pytest.approx(5)
    assert blocks(line[3:, None] + line[None, 5:]) == pytest.approx(5)  # cut, so that the grid starts elsewhere
    assert blocks(line[:, None] + np.arange(64.0)[None]) == pytest.approx(1)  # lines in one direction are an edge


def test_quality_5_is_found_and_quality_75_is_not(head: NDArray[np.uint8]) -> None:
    assert "blocky" in kinds(as_jpeg(head, 5))
    assert "blocky" in kinds(as_jpeg(head, 5)[3:-2, 5:-1])
    assert "blocky" not in kinds(as_jpeg(head, 75))
    assert "blocky" not in kinds(head)


@pytest.mark.parametrize("times", [2, 4])
def test_a_picture_enlarged_pixel_by_pixel_is_no_coarse_jpeg(head: NDArray[np.uint8], times: int) -> None:
    large = np.kron(head, np.ones((times, times), np.uint8))
    assert blocks(large) < 1.5
    assert "blocky" not in kinds(large)
    assert "blocky" in kinds(as_jpeg(large, 5))


def test_eight_bits_that_the_file_rescales_are_judged_by_their_own_range(head: NDArray[np.uint8]) -> None:
    for slope in (1 / 255, 0.01, 40.5):
        image = Image(head.astype(np.float32) * np.float32(slope), meta={"bits": 8})
        assert not [f for f in find_faults(measure(image)) if f.kind == "blank"]
    dim = Image(np.float32(100) + head.astype(np.float32) // 64, meta={"bits": 8})
    assert [f.kind for f in find_faults(measure(dim))][:1] == ["blank"]


@pytest.mark.parametrize("shape", [(64, 64), (16, 200)])
def test_one_grey_and_small_pictures_have_no_blocks(shape: tuple[int, int]) -> None:
    assert blocks(np.full(shape, 7)) == 1
    assert blocks(np.random.default_rng(0).integers(0, 256, (20, 20))) == 1


class TestBlankOfSixteenBits:
    @pytest.mark.parametrize("value", [4095, 65535])
    def test_hot_pixels_blank_no_slice(self, head: NDArray[np.uint8], value: int) -> None:
        pixels = 4.0 * head
        expected = kinds(pixels)
        pixels[3, 3] = pixels[9, 200] = value
        assert "blank" not in expected
        assert "blank" not in kinds(pixels)

    def test_little_above_an_offset_is_blank(self) -> None:
        ramp = np.tile(np.linspace(0, 20, 256), (256, 1))
        for pixels in (1000 + ramp, -1000 - ramp, np.zeros((256, 256)), np.eye(256) * (np.arange(256) < 9) * 999):
            assert kinds(pixels) == ["blank"]


class TestShapeInMillimetres:
    def said(self, shape: tuple[int, int], spacing: tuple[float, float] | None) -> list[str]:
        pixels = np.random.default_rng(0).normal(size=(8, 8))
        smooth = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
        return [f.sentence for f in find_faults(measure(Image(smooth, spacing=spacing))) if f.kind == "elongated"]

    def test_thick_slices_are_as_long_as_they_are(self) -> None:
        strip = ["240 x 80 pixels: 3.0 times as long as it is wide, which no head is."]
        assert self.said((80, 240), None) == self.said((80, 240), (1.0, 1.0)) == strip
        assert self.said((80, 240), (3.0, 1.0)) == [
            "240 x 80 pixels of 1 x 3 mm: pixel by pixel it is 3.0 times as long as wide, which no head is."
        ]
        assert self.said((240, 240), (3.0, 1.0)) == [strip[0].replace("80 pixels", "240 pixels of 1 x 3 mm")]
        assert self.said((160, 240), (1.5, 1.0)) == []
