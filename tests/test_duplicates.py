"""Copies among records: found whatever was done to them, and nothing else."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from handmade_slices import write_png
from numpy.typing import NDArray
from PIL import Image

from gyrus.datasets import open_dataset
from gyrus.duplicates import Copies, Pair, find_copies
from gyrus.duplicates.find import _one_volume
from gyrus.duplicates.verify import SIMILAR
from gyrus.io import SliceRef
from gyrus.records import Record

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def slices(tiny_phantom: Path) -> list[Pixels]:
    """One slice of each of ten phantom patients, 96 px, the planes in turn."""
    records = open_dataset(tiny_phantom).records
    return [records[3 * i + i % 3].read().pixels.astype(np.uint8) for i in range(10)]


def saved(folder: Path, pictures: list[Pixels], *, start: int = 0) -> list[Record]:
    return [Record(f"{i}.png", write_png(folder / f"{i}.png", p)) for i, p in enumerate(pictures, start)]


def jpeg(picture: Pixels, quality: int) -> Pixels:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0))


def resized(picture: Pixels, factor: float) -> Pixels:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def cropped(picture: Pixels, top: float, bottom: float, left: float, right: float) -> Pixels:
    height, width = picture.shape
    return picture[round(top * height) : round((1 - bottom) * height), round(left * width) : round((1 - right) * width)]


def gamma(picture: Pixels, exponent: float) -> Pixels:
    return np.rint(255 * (picture / 255) ** exponent).astype(np.uint8)


CHANGES: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "re-encoded": (lambda p: jpeg(p, 40), "as is"),
    "smaller": (lambda p: resized(p, 0.6), "as is"),
    "larger": (lambda p: resized(p, 2.0), "as is"),
    "cropped": (lambda p: cropped(p, 0.02, 0.10, 0.07, 0.03), "as is"),
    "darker": (lambda p: gamma(p, 1.4), "as is"),
    "brighter": (lambda p: gamma(p, 0.7), "as is"),
    "less contrast, no black": (lambda p: (40 + 0.7 * p).astype(np.uint8), "as is"),
    "mirrored": (lambda p: p[:, ::-1], "mirrored"),
    "upside down": (lambda p: p[::-1], "mirrored, turned 180"),
    "turned": (lambda p: np.rot90(p, -1), "turned 90"),
    "half a turn": (lambda p: np.rot90(p, 2), "turned 180"),
    "transposed": (lambda p: p.T, "mirrored, turned 90"),
    "all at once": (
        lambda p: jpeg(gamma(cropped(resized(np.rot90(p, 1), 1.5), 0.1, 0.03, 0.05, 0), 0.8), 70),
        "turned 270",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str, slices: list[Pixels], tmp_path: Path) -> None:
    alter, turn = CHANGES[change]
    n = len(slices)
    copies = find_copies(saved(tmp_path, [*slices, *(np.ascontiguousarray(alter(p)) for p in slices)]))
    planted = {(i, i + n) for i in range(n)}
    missed = planted - {(p.first, p.second) for p in copies.pairs}
    assert len(missed) <= (change == "smaller")  # 58 px wide, and one slice shows too little at that size
    assert {(p.first, p.second) for p in copies.pairs} == planted - missed
    assert {frozenset(c) for c in copies.clusters} == {frozenset(pair) for pair in planted - missed}
    assert {(p.kind, p.turn) for p in copies.pairs} == {("near", turn)}
    assert all(SIMILAR <= p.similarity <= 1 for p in copies.pairs)
    assert copies.unreadable == {}


def test_what_the_turn_says_undoes_it(slices: list[Pixels], tmp_path: Path) -> None:
    """By the words alone: mirror left for right, then turn anticlockwise."""
    source = slices[0]
    eight = [np.rot90(p, k) for p in (source, source[:, ::-1]) for k in range(4)]
    copies = find_copies(saved(tmp_path, [np.ascontiguousarray(p) for p in eight]))
    assert [sorted(c) for c in copies.clusters] == [list(range(8))]
    for pair in copies.pairs:
        laid = eight[pair.second][:, ::-1] if "mirrored" in pair.turn else eight[pair.second]
        quarters = next((k for k in (1, 2, 3) if f"turned {90 * k}" in pair.turn), 0)
        np.testing.assert_array_equal(np.rot90(laid, quarters), eight[pair.first])


def test_different_slices_stay_apart(tiny_phantom: Path) -> None:
    copies = find_copies(open_dataset(tiny_phantom).records)
    assert copies == Copies(48, (), (), {})


def test_nothing_and_one(slices: list[Pixels], tmp_path: Path) -> None:
    assert find_copies([]) == Copies(0, (), (), {})
    assert find_copies(saved(tmp_path, slices[:1])) == Copies(1, (), (), {})


def test_identical_files(slices: list[Pixels], tmp_path: Path) -> None:
    records = saved(tmp_path, [slices[0], slices[1], slices[0], slices[0]])
    copies = find_copies(records)
    assert copies.pairs == (Pair(0, 2, "file", 1.0, "as is"), Pair(0, 3, "file", 1.0, "as is"))
    assert copies.clusters == ((0, 2, 3),)
    assert copies.cluster_of() == [0, 1, 0, 0]


def test_two_searches_at_once_leave_the_settings_as_they_were(slices: list[Pixels], tmp_path: Path) -> None:
    records = saved(tmp_path, slices[:4])
    before = cv2.getNumThreads(), sys.getswitchinterval()
    with ThreadPoolExecutor(2) as pool:
        assert len({len(c.pairs) for c in pool.map(find_copies, [records] * 4)}) == 1
    assert (cv2.getNumThreads(), sys.getswitchinterval()) == before


def test_identical_pixels_in_other_files(slices: list[Pixels], tmp_path: Path) -> None:
    records = saved(tmp_path, slices[:2])
    Image.fromarray(slices[0]).save(tmp_path / "other.bmp")
    Image.fromarray(np.dstack([slices[0]] * 3)).save(tmp_path / "colour.png")
    records += [Record(name, tmp_path / name) for name in ("other.bmp", "colour.png")]
    copies = find_copies(records)
    assert [(p.first, p.second, p.kind) for p in copies.pairs] == [(0, 2, "pixels"), (0, 3, "pixels")]


def test_files_pixels_and_near_meet_in_one_cluster(slices: list[Pixels], tmp_path: Path) -> None:
    """One stands for its equals in near pairs."""
    records = saved(tmp_path, [slices[0], slices[0], jpeg(slices[0], 60)])
    Image.fromarray(slices[0]).save(tmp_path / "same.bmp")
    copies = find_copies([*records, Record("same.bmp", tmp_path / "same.bmp")])
    assert [(p.first, p.second, p.kind) for p in copies.pairs] == [(0, 1, "file"), (0, 2, "near"), (0, 3, "pixels")]
    assert {frozenset(c) for c in copies.clusters} == {frozenset(range(4))}


def test_the_representative_is_the_largest_then_the_heaviest_then_the_first(
    slices: list[Pixels], tmp_path: Path
) -> None:
    small, same = resized(slices[0], 0.8), slices[0]
    records = saved(tmp_path, [small, same, resized(slices[0], 1.5), slices[1], slices[1]])
    assert find_copies(records).clusters == ((2, 0, 1), (3, 4))
    Image.fromarray(slices[2]).save(tmp_path / "light.png")
    Image.fromarray(slices[2]).save(tmp_path / "heavy.bmp")
    assert find_copies([Record(n, tmp_path / n) for n in ("light.png", "heavy.bmp")]).clusters == ((1, 0),)


def test_pictures_that_show_nothing_are_copies_of_nothing(tmp_path: Path) -> None:
    """Many series begin and end with them, and their patients have nothing else in common."""
    rng = np.random.default_rng(0)
    blank = [np.full((96, 96), value, dtype=np.uint8) for value in (0, 7, 0)]
    noise = [rng.integers(0, 4, (96, 96), dtype=np.uint8) for _ in range(3)]
    ramps = [np.tile(np.linspace(0, top, 96, dtype=np.uint8), (96, 1)) for top in (200, 255)]
    records = saved(tmp_path, [*blank, *noise, *ramps])
    wide = [Record("wide.png", write_png(tmp_path / "wide.png", np.zeros((48, 192), dtype=np.uint8)))]
    Image.fromarray(blank[0]).save(tmp_path / "black.bmp")
    copies = find_copies([*records, *wide, Record("black.bmp", tmp_path / "black.bmp")])
    assert copies.pairs == ()


def test_a_label_on_an_empty_picture_does_not_make_copies(tmp_path: Path) -> None:
    """Two empty pictures with the same letter, in one of which there is also a speck."""
    lettered = [np.zeros((128, 128), dtype=np.uint8) for _ in range(2)]
    for picture in lettered:
        cv2.putText(picture, "R", (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    lettered[1][100:103, 100:103] = 90
    assert find_copies(saved(tmp_path, lettered)).clusters == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (7, 500)])
def test_odd_shapes_are_looked_at_like_others(shape: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    records = saved(tmp_path, [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)])
    assert find_copies(records) == Copies(2, (), (), {})


def test_unreadable_files_are_named_and_left_out(slices: list[Pixels], tmp_path: Path) -> None:
    records = saved(tmp_path, [slices[0], slices[0]])
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no image")
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    records += [Record(name, tmp_path / name) for name in ("a.png", "b.png", "cut.png", "gone.png")]
    copies = find_copies(records)
    assert copies.clusters == ((0, 1),)
    assert sorted(copies.unreadable) == [2, 3, 4, 5]
    for i, sentence in copies.unreadable.items():
        assert str(records[i].path) in sentence
    assert copies.cluster_of() == [0, 0, 1, 2, 3, 4]


def test_a_chain_of_look_alikes_does_not_join_its_ends(slices: list[Pixels], tmp_path: Path) -> None:
    """One slice turns into its neighbour in steps each of which passes for a copy."""
    shares = np.linspace(0, 1, 13)
    axial = [p for p in slices if p.shape == slices[0].shape][:4:3]
    morphed = [np.rint((1 - s) * axial[0] + s * axial[1]).astype(np.uint8) for s in shares]
    copies = find_copies(saved(tmp_path, morphed))
    cluster = copies.cluster_of()
    assert cluster[0] == cluster[1]
    assert cluster[-1] == cluster[-2]
    assert cluster[0] != cluster[-1]
    assert all(cluster[p.first] == cluster[p.second] for p in copies.pairs)


def test_many_copies_of_one_slice_are_one_cluster(slices: list[Pixels], tmp_path: Path) -> None:
    """More of them than a feature has neighbours looked up."""
    pictures = [jpeg(slices[0], quality) for quality in range(40, 90)]
    copies = find_copies(saved(tmp_path, [*pictures, *slices[1:]]))
    assert [sorted(c) for c in copies.clusters] == [list(range(50))]


def test_slices_of_one_volume_are_neighbours_and_no_copies(tmp_path: Path) -> None:
    one = Record("a", tmp_path / "T1.nii", at=SliceRef("axial", 3))
    assert _one_volume(one, replace(one, id="b", at=SliceRef("axial", 4)))
    assert not _one_volume(one, replace(one, id="c", path=tmp_path / "other.nii"))
    assert not _one_volume(replace(one, at=None), replace(one, at=None))


def test_the_result_depends_on_the_records_alone(slices: list[Pixels], tmp_path: Path) -> None:
    pictures = [*slices, *(np.ascontiguousarray(jpeg(p[:, ::-1], 50)) for p in slices), *slices[:2]]
    records = saved(tmp_path, pictures)
    copies = find_copies(records)
    assert find_copies(records) == copies
    shuffled = records[:]
    random.Random(0).shuffle(shuffled)
    again = find_copies(shuffled)
    assert named(again, shuffled) == named(copies, records)


def named(copies: Copies, records: list[Record]) -> set[frozenset[str]]:
    return {frozenset(records[i].id for i in cluster) for cluster in copies.clusters}


def test_progress_is_told(slices: list[Pixels], tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    find_copies(saved(tmp_path, [*slices, jpeg(slices[0], 50)]), progress=lambda *a: told.append(a))
    assert list(dict.fromkeys(what for what, _, _ in told)) == ["reading", "searching", "comparing"]
    assert [t for t in told if t[0] == "reading"][-1] == ("reading", 11, 11)
    assert all(done <= total for _, done, total in told)
