from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError
from gyrus.io.masks import FileMask, OutlineMask, fill_outline


def rows(mask: NDArray[np.bool_]) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]


def test_a_box_between_centres_covers_the_centres_inside() -> None:
    # x from 0.5 to 3.5 holds columns 1, 2, 3; y from 1.5 to 2.5 holds row 2: wider than high, so a transpose shows
    mask = OutlineMask("0.5,1.5 3.5,1.5 3.5,2.5 0.5,2.5", "here").read((4, 5))
    assert mask.dtype == np.bool_
    assert rows(mask) == [".....", ".....", ".###.", "....."]


def test_a_triangle_by_hand() -> None:
    # (-0.5,-0.5) (5.5,-0.5) (-0.5,2.5): in row y the right edge is at x = 5.5 - 2 (y + 0.5) = 4.5, 2.5, 0.5
    mask = OutlineMask("-0.5,-0.5 5.5,-0.5 -0.5,2.5", "here").read((3, 6))
    assert rows(mask) == ["#####.", "###...", "#....."]


def test_corners_on_centres_left_and_top_edges_belong_and_right_and_bottom_do_not() -> None:
    box = OutlineMask("1,1 4,1 4,3 1,3", "here").read((5, 6))
    assert rows(box) == ["......", ".###..", ".###..", "......", "......"]
    # the diagonal from (0,0) to (4,4) runs through centres: they belong to what lies to its right, once
    above = OutlineMask("0,0 4,0 4,4", "here").read((5, 5))
    below = OutlineMask("0,0 4,4 0,4", "here").read((5, 5))
    assert rows(above) == ["####.", ".###.", "..##.", "...#.", "....."]
    assert rows(below) == [".....", "#....", "##...", "###..", "....."]


def test_a_concave_outline_by_hand() -> None:
    # a U, open at the top, its left arm longer
    text = "0.5,-0.5 1.5,-0.5 1.5,2.5 3.5,2.5 3.5,0.5 4.5,0.5 4.5,3.5 0.5,3.5"
    assert rows(OutlineMask(text, "here").read((4, 6))) == [".#....", ".#..#.", ".#..#.", ".####."]


def test_where_an_outline_winds_round_twice_it_is_outside_again() -> None:
    outer, inner = (
        [(-0.5, -0.5), (4.5, -0.5), (4.5, 4.5), (-0.5, 4.5)],
        [(1.5, 1.5), (2.5, 1.5), (2.5, 2.5), (1.5, 2.5)],
    )
    both = [*outer, outer[0], *inner, inner[0]]
    assert rows(fill_outline(both, (5, 5))) == ["#####", "#####", "##.##", "#####", "#####"]


def test_direction_and_starting_corner_do_not_matter() -> None:
    points = [(0.7, 0.2), (5.1, 1.4), (6.3, 4.9), (3.2, 3.1), (1.1, 4.4)]
    first = fill_outline(points, (6, 8))
    assert first.sum() > 8
    for k in range(5):
        np.testing.assert_array_equal(fill_outline(points[k:] + points[:k], (6, 8)), first)
        np.testing.assert_array_equal(fill_outline(points[::-1], (6, 8)), first)


def test_it_agrees_with_testing_every_centre_against_every_edge() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        points = rng.uniform(-0.5, 11.5, (9, 2))  # crossing itself, mostly
        expected = np.zeros((10, 12), dtype=bool)
        for r in range(10):
            for c in range(12):
                inside = False
                for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
                    if (ya > r) != (yb > r) and c < xa + (r - ya) * (xb - xa) / (yb - ya):
                        inside = not inside
                expected[r, c] = inside
        np.testing.assert_array_equal(fill_outline(points, (10, 12)), expected)


def test_what_lies_beyond_the_grid_is_cut_off() -> None:
    assert rows(fill_outline([(-9, -9), (1.5, -9), (1.5, 99), (-9, 99)], (2, 4))) == ["##..", "##.."]


def test_pairs_and_text_are_the_same_outline() -> None:
    pairs = OutlineMask(((0.5, 0.0), (3.5, 0.0), (2.0, 3.0)), "here").read((4, 5))
    np.testing.assert_array_equal(pairs, OutlineMask("0.5,0 3.5,0 2,3", "here").read((4, 5)))
    assert pairs.any()


def test_the_image_border_is_half_a_pixel_beyond_the_last_centres() -> None:
    whole = OutlineMask("-0.5,-0.5 4.5,-0.5 4.5,2.5 -0.5,2.5", "here")
    assert whole.read((3, 5)).all()
    for x, y in ((4.51, 1), (-0.51, 1), (1, 2.51), (1, -0.51)):
        outside = OutlineMask(f"0,0 2,0 {x},{y}", "slices.csv row 7")
        with pytest.raises(InputError, match=f"slices.csv row 7.*{re.escape(f'{x},{y}')}.*5 x 3"):
            outside.read((3, 5))


@pytest.mark.parametrize(
    ("points", "word"),
    [
        ("", "0 points"),
        ("1,1 2,2", "2 points"),
        ("1,1 2,2 3", "x,y"),
        ("1,1 2,2 3,4,5", "x,y"),
        ("1 1 2 2 3 4", "x,y"),
        ("1,1 2,two 3,3", "x,y"),
        ("1,1 nan,2 3,3", "not finite"),
        ("1,1 2,inf 3,3", "not finite"),
        (((1.0, 1.0), (2.0, 2.0)), "2 points"),
        (((1.0, 1.0), (2.0, 2.0), (3.0,)), "x,y"),
    ],
)
def test_an_outline_that_is_none_is_refused_when_it_is_made(points: str, word: str) -> None:
    with pytest.raises(InputError, match=rf"slices.csv row 7.*{word}"):
        OutlineMask(points, "slices.csv row 7")


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp"])
def test_a_mask_file_is_tumour_where_it_is_not_zero(tmp_path: Path, name: str) -> None:
    stored = np.array([[0, 1, 255], [0, 0, 7]], dtype=np.uint8)
    Pillow.fromarray(stored).save(tmp_path / name)
    mask = FileMask(tmp_path / name).read((2, 3))
    assert mask.dtype == np.bool_
    assert rows(mask) == [".##", "..#"]


def test_a_mask_file_of_another_size_is_refused(tmp_path: Path) -> None:
    Pillow.fromarray(np.zeros((2, 3), dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m.png is 3 x 2 pixels but its image is 2 x 3"):
        FileMask(tmp_path / "m.png").read((3, 2))
    with pytest.raises(InputError, match="does not exist"):
        FileMask(tmp_path / "none.png").read((3, 2))


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "m.dcm"])
def test_a_volume_is_no_mask_of_a_slice(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b whatever it holds")
    with pytest.raises(InputError, match=rf"{name} has the name of a volume, and a mask must be a picture: save it as"):
        FileMask(tmp_path / name).read((2, 3))


def test_a_jpeg_mask_whose_edge_is_blurred_is_refused(tmp_path: Path) -> None:
    stored = np.zeros((24, 24), dtype=np.uint8)
    stored[5:13, 3:19] = 255
    Pillow.fromarray(stored).save(tmp_path / "m.jpg", quality=80)
    with pytest.raises(InputError, match=r"m.jpg is a JPEG.*PNG"):
        FileMask(tmp_path / "m.jpg").read((24, 24))
    Pillow.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "blank.jpg")
    assert not FileMask(tmp_path / "blank.jpg").read((8, 8)).any()
