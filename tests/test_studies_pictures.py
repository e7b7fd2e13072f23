"""The figures of studies that show slices: what is in their cells, and that nothing is written over anything."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.augment import Augment, apply, draw
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.preprocess import Preprocess, frame_of, prepare
from gyrus.records import Dataset, Record
from gyrus.studies import pictures
from gyrus.studies.pictures import Case
from gyrus.thresholds import find_threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = Preprocess(size=96)
HEAD = Preprocess.canonical(64)


@pytest.fixture(scope="module")
def phantom(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


@pytest.fixture(scope="module")
def tumours(phantom: Dataset) -> list[Record]:
    return [r for r in phantom if r.mask is not None]


@pytest.fixture(scope="module")
def healthy(phantom: Dataset) -> Record:
    return next(r for r in phantom if r.mask is None)


def shown(figure: Figure) -> list[NDArray[np.float64]]:
    """Return the pictures in the cells, in the order they were drawn in: by rows."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


def truth_of(record: Record) -> NDArray[np.bool_]:
    mask = record.read_mask(record.read().shape)
    assert mask is not None
    return mask


def assert_tidy(figure: Figure) -> None:
    """Every text lies inside the figure, beside the pictures and beside every other text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [t.get_window_extent(renderer) for t in figure.texts if t.get_text()]
    pictures = [axes.get_window_extent(renderer) for axes in figure.axes]
    for box in texts:
        assert min(box.x0, box.y0) >= 0
        assert (box.x1 <= figure.bbox.width, box.y1 <= figure.bbox.height) == (True, True)
        assert not any(box.overlaps(picture) for picture in pictures)
    assert not any(a.overlaps(b) for a, b in combinations(texts, 2))


class TestSamples:
    def test_a_row_per_class(self, phantom: Dataset) -> None:
        figure = pictures.samples(phantom, per_class=3)
        assert len(figure.axes) == 12
        counts = phantom.summary()["classes"]
        assert [w for w in words(figure) if "slices" in w] == [f"{c}\n{n} slices" for c, n in counts.items()]
        of_class = {c: [r.read().pixels for r in phantom if r.label == c] for c in phantom.classes}
        for i, cell in enumerate(shown(figure)):
            name = phantom.classes[i // 3]
            assert max(np.corrcoef(cell.ravel(), p.ravel())[0, 1] for p in of_class[name]) > 0.99
        assert_tidy(figure)

    def test_the_seed_chooses(self, phantom: Dataset) -> None:
        first, again, other = (shown(pictures.samples(phantom, 2, seed)) for seed in (0, 0, 1))
        assert all((a == b).all() for a, b in zip(first, again, strict=True))
        assert any((a != b).any() for a, b in zip(first, other, strict=True))

    def test_of_different_patients_where_there_are_enough(self, phantom: Dataset) -> None:
        a, b, c, d = (replace(r, patient=p) for r, p in zip(phantom.records, ("x", "x", "y", None), strict=False))
        assert pictures._of_different_patients([a, b, c, d], 3) == [a, c, d]
        assert pictures._of_different_patients([a, b, c], 3) == [a, c, b]

    def test_no_labels(self, phantom: Dataset) -> None:
        blank = replace(phantom, records=tuple(replace(r, label=None) for r in phantom))
        with pytest.raises(InputError, match="nothing to draw"):
            pictures.samples(blank)


def test_augmentation_is_what_the_network_gets(phantom: Dataset) -> None:
    records, augment = phantom.records[:3], Augment(rotate=40)
    figure = pictures.augmentation(records, augment, HEAD, 7, draws=2)
    cells = shown(figure)
    before = torch.from_numpy(np.stack([prepare(r.read(), HEAD) for r in records]))
    generator = torch.Generator().manual_seed(7)
    after = [apply(before, draw(augment, 3, generator)).numpy() / 255 for _ in range(2)]
    assert len(cells) == 9
    assert np.allclose(cells[:3], before.numpy() / 255)
    assert np.allclose(cells[3:6], after[0])
    assert np.allclose(cells[6:], after[1])
    assert words(figure) == ["before", "after", "after"]
    assert_tidy(figure)


@pytest.mark.parametrize("spec", [HEAD, Preprocess(crop="head", size=64), Preprocess(crop="head", margin=0.5, size=64)])
def test_crop_shows_the_box_that_is_cut_out(phantom: Dataset, spec: Preprocess) -> None:
    records = phantom.records[:2]
    figure = pictures.crop(records, spec)
    for axes, record in zip(figure.axes[:2], records, strict=True):
        top, left, bottom, right = frame_of(record.read(), spec).box
        (box,) = axes.patches
        assert box.get_bbox().extents.tolist() == [left - 0.5, top - 0.5, right - 0.5, bottom - 0.5]
        low, high = sorted(axes.get_xlim())
        assert (low <= left - 0.5, right - 0.5 <= high) == (True, True)  # all of it is seen, beyond the picture too
        assert len(axes.collections) == 1  # the head's outline
    assert np.allclose(shown(figure)[2:], [prepare(r.read(), spec) / 255 for r in records])
    assert words(figure).count("64 \N{MULTIPLICATION SIGN} 64") == 2
    assert_tidy(figure)


class TestFourPanels:
    def test_a_map_that_is_the_truth(self, tumours: list[Record]) -> None:
        record = tumours[0]
        truth = truth_of(record)
        case = Case(record, truth.astype(np.float32), WHOLE, "right", find_threshold("maximum:0.5"))
        figure = pictures.four_panels([case])
        slice_, heat, kept, last = shown(figure)
        assert slice_.shape == truth.shape
        assert (kept == truth).all()
        assert (last == truth).all()
        assert heat.shape == (*truth.shape, 3)
        assert heat[truth].mean() > 0.5 > heat[~truth].mean()
        assert {"right", "IoU 1.00", f"{truth.mean():.1%} of the slice", "cut (maximum:0.5)"} <= set(words(figure))
        assert [len(axes.collections) for axes in figure.axes] == [1, 1, 1, 0]
        assert_tidy(figure)

    def test_the_overlap_by_hand(self, tumours: list[Record]) -> None:
        """A map that is positive in the left half alone, cut there: 48 x 96 pixels are kept."""
        record = tumours[0]
        truth = truth_of(record)
        half = np.zeros((96, 96), np.float32)
        half[:, :48] = 1
        figure = pictures.four_panels([Case(record, half, WHOLE, "half", find_threshold("maximum:0.5"))])
        inside = int(truth[:, :48].sum())
        assert f"IoU {inside / (48 * 96 + int(truth.sum()) - inside):.2f}" in words(figure)

    def test_without_truth_or_map(self, healthy: Record, tumours: list[Record]) -> None:
        blank = np.full((7, 7), -1, np.float32)
        cases = [
            Case(healthy, blank, HEAD, "no_tumor called glioma, 0.97"),
            Case(tumours[0], np.full((7, 7), np.nan, np.float32), HEAD, "broken", find_threshold("otsu")),
        ]
        figure = pictures.four_panels(cases)
        assert {"no outline is known", "nowhere positive", "not finite", "IoU 0.00", "cut"} <= set(words(figure))
        assert not shown(figure)[2].any()
        assert [len(axes.collections) for axes in figure.axes] == [0, 0, 0, 0, 1, 1, 1, 0]
        assert_tidy(figure)
        assert "the tumour's outline" not in words(pictures.four_panels(cases[:1]))


class TestOverlays:
    def test_the_map_is_laid_over_where_it_is_positive(self, healthy: Record) -> None:
        corner = np.zeros((96, 96), np.float32)
        corner[:48, :48] = 2
        grey, heat, over = shown(pictures.overlay_panels([Case(healthy, corner, WHOLE, "corner")]))
        assert np.allclose(over[49:], grey[49:, :, None])
        assert np.allclose(over[:47, :47], 0.2 * grey[:47, :47, None] + 0.8 * heat[:47, :47])

    def test_many_with_long_captions(self, tumours: list[Record], healthy: Record) -> None:
        long = "Training/meningioma_tumor/a picture with a long name (1234).jpg: meningioma called no_tumor, 0.98"
        ramp = np.linspace(-1, 1, 49, dtype=np.float32).reshape(7, 7)
        cases = [Case(r, ramp, HEAD, long) for r in (*tumours[:2], healthy)]
        figure = pictures.overlay_panels(cases)
        assert len(figure.axes) == 9
        assert sum(" ".join(w.split()) == long for w in words(figure)) == 3
        assert [len(axes.collections) for axes in figure.axes] == [0, 1, 1, 0, 1, 1, 0, 0, 0]
        assert_tidy(figure)
        assert len({axes.get_position().y0 for axes in pictures.overlay_panels(cases, across=1).axes}) == 3

    def test_nothing_to_draw(self) -> None:
        with pytest.raises(InputError, match="nothing to draw"):
            pictures.overlay_panels([])


class TestLayerSweep:
    def test_three_rows_of_thirteen_layers(self, tumours: list[Record]) -> None:
        sides = (64, 64, 32, 32, 16, 16, 16, 8, 8, 8, 4, 4, 4)
        rng = np.random.default_rng(0)
        maps = {f"body.net.features.{2 * i}": rng.random((s, s), np.float32) for i, s in enumerate(sides)}
        image = tumours[0].read()
        figure = pictures.layer_sweep(image, maps, HEAD, truth=truth_of(tumours[0]))
        cells = shown(figure)
        assert len(cells) == 3 * 13 + 1
        assert [c.shape[:2] for c in cells[:13]] == [(s, s) for s in sides]
        assert {c.shape[:2] for c in cells[13:]} == {image.shape}
        assert {axes.images[0].get_interpolation() for axes in figure.axes[:13]} == {"nearest"}
        heads = [w for w in words(figure) if w.startswith("features.")]
        assert heads[0] == "features.0\n64 \N{MULTIPLICATION SIGN} 64"
        assert heads[-1] == "features.24\n4 \N{MULTIPLICATION SIGN} 4"
        assert_tidy(figure)

    def test_names_of_layers(self) -> None:
        assert pictures._short(["net.conv1", "net.layer1.0.conv1"]) == ["conv1", "layer1.0.conv1"]
        assert pictures._short(["body.features.0", "body.features.12"]) == ["features.0", "features.12"]
        assert pictures._short(["body.conv"]) == ["conv"]
        assert pictures._short(["0", "1.conv"]) == ["0", "1.conv"]

    def test_no_layer(self, tumours: list[Record]) -> None:
        with pytest.raises(InputError, match="nothing to draw"):
            pictures.layer_sweep(tumours[0].read(), {}, HEAD)


def test_saved_on_white_the_same_every_time(phantom: Dataset, tmp_path: Path) -> None:
    figure = pictures.crop(phantom.records[:2], HEAD)
    first = pictures.save(figure, tmp_path / "figures" / "crop.png").read_bytes()
    second = pictures.save(pictures.crop(phantom.records[:2], HEAD), tmp_path / "figures" / "crop.png").read_bytes()
    assert first == second
    saved = np.asarray(Pillow.open(tmp_path / "figures" / "crop.png").convert("RGB"))
    width, height = figure.get_size_inches()
    assert saved.shape[:2] == (int(height * pictures.DPI), int(width * pictures.DPI))
    assert (saved[0] == 255).all()
    assert (saved[:, 0] == 255).all()
    assert saved.min() < 20
