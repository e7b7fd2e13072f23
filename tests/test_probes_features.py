"""What probes are given: checked by hand, and free of what they must not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from gyrus.io import Image
from gyrus.preprocess import Preprocess
from gyrus.probes.crossval import folds_of, nearest_scores
from gyrus.probes.features import border, corners, silhouette, thumbnails
from gyrus.probes.views import canvas_of, view_records
from gyrus.records import Record


def canvas(**marks: tuple[slice, slice]) -> np.ndarray:
    picture = np.zeros((1, 64, 64), dtype=np.uint8)
    for place in marks.values():
        picture[(0, *place)] = 100
    return picture


def test_corners_are_four_patches_of_four_by_four() -> None:
    seen = corners(canvas(a=(slice(0, 2), slice(56, 58)), b=(slice(62, 64), slice(0, 1)))).reshape(4, 4, 4)
    expected = np.zeros((4, 4, 4))
    expected[1, 0, 0] = 100  # top right, its upper left cell
    expected[2, 3, 0] = 50  # bottom left, half of its lower left cell
    assert (seen == expected).all()


def test_the_border_is_two_pixels_deep() -> None:
    seen = border(canvas(a=(slice(0, 1), slice(10, 12)), b=(slice(30, 34), slice(62, 64)))).reshape(4, 32)
    expected = np.zeros((4, 32))
    expected[0, 5] = 50  # above, half its depth
    expected[3, [15, 16]] = 100  # right
    assert (seen == expected).all()


def test_neither_sees_the_middle() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    other = noise.copy()
    other[:, 8:56, 8:56] = 7
    assert (corners(noise) == corners(other)).all()
    assert (border(noise) == border(other)).all()
    other[:, 2:62, 2:62] = 9
    assert (border(noise) == border(other)).all()


def test_the_silhouette_knows_black_from_the_rest_only() -> None:
    seen = silhouette(canvas(a=(slice(0, 8), slice(8, 12)))).reshape(8, 8)
    assert seen[0, 1] == 0.5
    assert seen.sum() == 0.5
    bright = np.random.default_rng(0).integers(8, 255, (2, 64, 64)).astype(np.uint8)
    assert (silhouette(bright) == 1).all()


def test_thumbnails_correlate() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64)).astype(np.uint8)
    small = noise.reshape(3, 32, 2, 32, 2).mean(axis=(2, 4)).reshape(3, -1)
    seen = thumbnails(noise)
    assert seen @ seen.T == pytest.approx(np.corrcoef(small), abs=1e-5)
    assert not thumbnails(np.full((1, 64, 64), 9, dtype=np.uint8)).any()


def test_the_nearest_of_each_class_is_scored() -> None:
    train = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    test = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    scores = nearest_scores(train, np.array([0, 2, 2]), test, 4)
    assert scores == pytest.approx(np.array([[1, -1, 0.6, -1], [0.8, -1, 0.96, -1]]))


def test_folds_keep_groups_whole_and_classes_even() -> None:
    labels = np.repeat([0, 1], 50)
    groups = [str(i // 5) for i in range(100)]
    fold = folds_of(labels, groups, 5, seed=0)
    for g in set(groups):
        assert len({int(f) for f, name in zip(fold, groups, strict=True) if name == g}) == 1
    assert (np.bincount(fold[labels == 0]) == 10).all()
    renamed = [f"{97 * int(g) % 20}" for g in groups]  # the names do not matter
    assert (folds_of(labels, renamed, 5, seed=0) == fold).all()
    torn = folds_of(labels, None, 5, seed=0)
    assert any(len({int(f) for f, n in zip(torn, groups, strict=True) if n == g}) > 1 for g in groups)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (40, 30), (64, 64), (300, 90)])
def test_any_picture_fits_the_canvas(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).uniform(-5, 5, shape).astype(np.float32)
    assert canvas_of(pixels).shape == (64, 64)
    assert not canvas_of(np.full(shape, 3, dtype=np.float32)).any()


def test_the_canvas_keeps_what_is_where() -> None:
    pixels = np.full((128, 256), -7, dtype=np.float32)
    pixels[64:, 128:] = 93
    seen = canvas_of(pixels)
    assert (seen[32:, 32:] == 255).all()
    assert not seen[:32].any()
    assert not seen[:, :32].any()


def test_a_record_is_seen_as_stored_and_as_prepared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    grey[0, 0], grey[0, 1] = 0, 255
    Pillow.fromarray(grey).save(tmp_path / "a.png")
    Pillow.fromarray(np.dstack([grey, grey, grey])).save(tmp_path / "b.jpg", quality=50)
    Pillow.fromarray(grey).save(tmp_path / "c.jpg", quality=95)
    records = [Record(p.name, p, "x") for p in sorted(tmp_path.iterdir())]
    stored, prepared = view_records(records, (None, Preprocess(size=32)))
    assert (stored.prepared, prepared.prepared) == (False, True)
    assert stored.size.tolist() == [[40, 50]] * 3
    assert prepared.size.tolist() == [[32, 32]] * 3
    assert stored.histogram[0] == pytest.approx(np.histogram(grey, 32, (0, 255))[0] / grey.size)
    assert (stored.canvas[0] == canvas_of(grey.astype(np.float32))).all()
    facts = stored.file
    assert facts[:, 0].tolist() == [p.stat().st_size for p in sorted(tmp_path.iterdir())]
    assert facts[:, 1].tolist() == [8, 8, 8]
    assert facts[:, 2].tolist() == [1, 3, 1]
    assert facts[:, 4].tolist() == [0, 2, 1]  # JPEG tables
    assert facts[1, 5] > facts[2, 5] > facts[0, 5] == 0  # a lower quality has larger ones
    assert facts[:, 7].tolist() == [1, 0, 0]  # JPEG before PNG


def test_a_blank_picture_has_a_histogram(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((9, 9), 7, dtype=np.uint8)).save(tmp_path / "a.png")
    (views,) = view_records([Record("a", tmp_path / "a.png", "x")], (None,))
    assert views.histogram[0].tolist() == [1.0] + [0.0] * 31
    assert not views.canvas.any()


def test_reading_says_how_far_it_is(tmp_path: Path) -> None:
    Pillow.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "a.png")
    said: list[tuple[str, int, int]] = []
    view_records([Record("a", tmp_path / "a.png", "x")] * 70, (None,), lambda *words: said.append(words))
    assert said == [("looking", 64, 70), ("looking", 70, 70)]


def test_views_are_selected_with_new_labels(tmp_path: Path) -> None:
    for i in range(3):
        Pillow.fromarray(np.full((9, 9 + i), 7, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    records = [Record(str(i), tmp_path / f"{i}.png", "x") for i in range(3)]
    (views,) = view_records(records, (None,))
    renamed = [Record("2", records[2].path, "y"), Record("0", records[0].path, "z")]
    chosen = views.select([2, 0], renamed)
    assert chosen.size[:, 1].tolist() == [11, 9]
    assert [r.label for r in chosen.records] == ["y", "z"]
    assert len(chosen.canvas) == len(chosen.histogram) == len(chosen.file) == 2


def test_a_prepared_view_is_of_the_networks_input(tmp_path: Path) -> None:
    from gyrus.preprocess import prepare

    pixels = np.random.default_rng(0).integers(0, 255, (50, 80)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    spec = Preprocess(size=96)
    (views,) = view_records([Record("a", tmp_path / "a.png", "x")], (spec,))
    assert (views.canvas[0] == canvas_of(prepare(Image(pixels.astype(np.float32)), spec).astype(np.float32))).all()
