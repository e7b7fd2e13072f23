"""A tumour taken out of a training slice: the membrane by hand, and which slices of a batch change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gyrus import training
from gyrus.batches import Batches
from gyrus.datasets import open_dataset
from gyrus.erasure import Erased, erase, membrane
from gyrus.errors import InputError
from gyrus.splits import Split, holdout
from gyrus.stress import fills
from gyrus.training import fit, make_config

GLIOMA, NO_TUMOR = 0, 1


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def disc(side: int, y: float, x: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:side, :side]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def head_with_tumour(side: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a grey head of fine grain on black with a white disc in it, and the disc."""
    tumour = disc(side, side * 0.4, side * 0.6, side * 0.08)
    grey = np.where(disc(side, side / 2, side / 2, side * 0.4), 90 + rng().normal(0, 4, (side, side)), 0)
    return np.where(tumour, 240, grey).clip(0, 255).astype(np.uint8), tumour


@dataclass(frozen=True, eq=False)
class Given:
    """A batch before its erasures."""

    slices: NDArray[np.uint8]
    labels: NDArray[np.int64]
    outlines: NDArray[np.uint8]
    known: NDArray[np.float32]

    def erased(self, share: float, seed: int = 0) -> Erased:
        return erase(self.slices, self.outlines, self.known, share, rng(seed))


def batch(n: int = 12) -> Given:
    """Return slices of which every third is of no_tumor."""
    grey, tumour = head_with_tumour()
    bare = np.where(tumour, 90, grey).astype(np.uint8)
    labels = np.array([NO_TUMOR if i % 3 == 2 else GLIOMA for i in range(n)])
    slices = np.stack([bare if label == NO_TUMOR else grey for label in labels])
    outlines = np.stack([255 * (tumour & (label != NO_TUMOR)) for label in labels]).astype(np.uint8)
    return Given(slices, labels, outlines, np.ones(n, dtype=np.float32))


class TestMembrane:
    def test_over_a_slope_it_is_the_slope(self) -> None:
        """A plane solves Laplace's equation; it has no texture to add."""
        rows, columns = np.mgrid[:40, :40].astype(np.float32)
        slope = 2 * rows + columns + 10
        hole = disc(40, 20, 20, 10)
        torn = np.where(disc(40, 20, 20, 4), 500, slope).astype(np.float32)
        filled = membrane(torn, hole, np.ones((40, 40), dtype=bool), rng())
        assert np.abs(filled - slope)[hole].max() < 4  # a blur at the border is no plane
        assert np.array_equal(filled[~hole], slope[~hole])

    def test_scalp_is_no_rim(self) -> None:
        head = disc(96, 48, 48, 40)
        pixels = np.where(disc(96, 48, 48, 37), 80, np.where(head, 250, 0)).astype(np.float32)
        hole = disc(96, 48, 20, 8)
        filled = membrane(pixels, hole & head, head, rng())
        assert filled[hole].max() < 100

    def test_it_has_the_grain_of_its_surroundings(self) -> None:
        grey, tumour = head_with_tumour()
        filled = membrane(grey.astype(np.float32), tumour, disc(96, 48, 48, 38), rng())
        assert 1 < filled[tumour].std() < 6
        assert filled[tumour].mean() == pytest.approx(90, abs=4)

    def test_where_nothing_is_around_nothing_is_filled(self) -> None:
        pixels = rng().uniform(0, 9, (8, 8)).astype(np.float32)
        everything, nothing = np.ones((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool)
        for hole in (everything, nothing):
            assert np.array_equal(membrane(pixels, hole, everything, rng()), pixels)

    def test_where_no_place_fits_the_grain_is_shuffled(self) -> None:
        grey, _ = head_with_tumour()
        head = disc(96, 48, 48, 38)
        hole = disc(96, 48, 48, 30)
        filled = membrane(grey.astype(np.float32), hole, head, rng())
        assert np.isfinite(filled).all()
        assert filled[hole].std() > 1

    def test_it_is_neither_fill_of_the_stress_test(self) -> None:
        grey, tumour = head_with_tumour()
        pixels, head = grey.astype(np.float32), disc(96, 48, 48, 38)
        ours = membrane(pixels, tumour, head, rng())
        taken = fills.tissue(pixels, tumour, head, tumour, rng())
        for other in (fills.telea(pixels, tumour, head), taken and taken[0]):
            assert other is not None
            assert not np.allclose(other[tumour], ours[tumour], atol=0.5)


class TestErase:
    def test_what_loses_its_tumour_loses_its_outline(self) -> None:
        before = batch(60)
        after = before.erased(0.3)
        assert not after.gone[before.labels == NO_TUMOR].any()
        assert 0.15 < after.gone[before.labels == GLIOMA].mean() < 0.45
        tumour = before.outlines[0] > 0
        assert (after.slices[after.gone][:, tumour].mean(axis=1) < 120).all()
        assert not after.outlines[after.gone].any()
        assert np.array_equal(after.outlines[~after.gone], before.outlines[~after.gone])

    def test_others_have_a_hole_filled_elsewhere(self) -> None:
        before = batch(60)
        after = before.erased(0.3)
        changed = (after.slices != before.slices).any(axis=(1, 2))
        for label in (GLIOMA, NO_TUMOR):
            assert 0.1 < changed[~after.gone & (before.labels == label)].mean() < 0.9
        tumour = before.outlines[0] > 0
        assert (after.slices[~after.gone & (before.labels == GLIOMA)][:, tumour] == 240).all()

    def test_the_batch_given_stays_and_the_generator_decides(self) -> None:
        before, same = batch(), batch()
        first, second = (before.erased(0.4, seed=3) for _ in range(2))
        assert np.array_equal(before.slices, same.slices)
        assert np.array_equal(before.outlines, same.outlines)
        assert np.array_equal(first.slices, second.slices)
        assert not np.array_equal(first.slices, before.erased(0.4, seed=4).slices)

    def test_a_slice_whose_outline_is_unknown_is_left_alone(self) -> None:
        """It may hold a tumour, which a hole in what is taken for healthy tissue could hit."""
        before = batch(30)
        hidden = before.labels == NO_TUMOR
        after = erase(before.slices, before.outlines, np.where(hidden, 0, 1).astype(np.float32), 0.5, rng())
        assert np.array_equal(after.slices[hidden], before.slices[hidden])
        assert after.gone[~hidden].any()
        assert not after.gone[hidden].any()

    @pytest.mark.parametrize("radius", [36, 44])
    def test_a_tumour_that_cannot_be_filled_stays(self, radius: int) -> None:
        """It leaves no tissue around it, or reaches out of the head; nor is there a healthy place of its size."""
        grey, _ = head_with_tumour()
        outline = 255 * disc(96, 48, 48, radius).astype(np.uint8)
        for seed in range(8):
            after = erase(grey[None], outline[None], np.ones(1, dtype=np.float32), 0.5, rng(seed))
            assert not after.gone.any()
            assert np.array_equal(after.slices, grey[None])


class TestTraining:
    def test_counts_are_what_an_epoch_shows_on_average(self) -> None:
        given = batch(300)
        config = make_config(model="small_cnn", guide="mask", erase=0.2, batch_size=50)
        epoch = [0]
        batches = Batches(
            given.slices, torch.from_numpy(given.labels), config, (given.outlines, torch.ones(300)),
            epoch=lambda: epoch[0],
        )  # fmt: skip
        expected = batches.counts(2)
        assert expected.tolist() == [200 - 0.2 * 200, 100]
        shown = torch.cat([labels[~gone] for _, labels, _, _, gone in batches]).bincount(minlength=2)
        assert (shown - expected).abs().max() < 20
        again = torch.cat([b[0] for b in batches])
        assert torch.equal(again, torch.cat([b[0] for b in batches]))
        epoch[0] = 1
        assert not torch.equal(again, torch.cat([b[0] for b in batches]))

    def test_it_needs_outlines(self) -> None:
        for fields in ({"guide": "mask"}, {"canonical": True}):
            with pytest.raises(InputError, match="peel"):
                make_config(augment={"peel": 0.1}, **fields)
        with pytest.raises(InputError, match="by its outline: use erase with guide mask"):
            make_config(erase=0.1)

    def test_a_run_learns_from_erased_slices(self, tiny_phantom: Path, tiny_split: Path, tmp_path: Path) -> None:
        dataset, split = open_dataset(tiny_phantom), Split.load(tiny_split)
        config = make_config(
            model="resnet18", size=48, canonical=True, fuse=16, guide="mask", erase=0.5, pooling="lse", epochs=1,
            batch_size=8, augment={"bias": 0.3, "noise": 0.05, "peel": 0.5}, precision="fp32", device="cpu",
        )  # fmt: skip
        model = fit(dataset, split, config, tmp_path / "run")
        assert model.spec.training["erase"] == 0.5
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        again = fit(dataset, split, config, tmp_path / "again")
        assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())

    def test_the_loss_is_told_what_is_gone_and_no_healthy_class_is_needed(
        self, tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dataset = open_dataset(tiny_phantom)
        ill = replace(dataset, records=tuple(r for r in dataset.records if r.label != "no_tumor"))
        config = make_config(
            model="resnet18", size=48, canonical=True, fuse=16, guide="mask", erase=0.4, epochs=2, batch_size=8,
            precision="fp32", device="cpu",
        )  # fmt: skip
        told: list[torch.Tensor] = []

        def listening(*given: torch.Tensor) -> torch.Tensor:
            told.append(given[2])
            return loss(*given)

        loss = training.answer_loss
        monkeypatch.setattr(training, "answer_loss", listening)
        model = fit(ill, holdout(ill, (0.5, 0.25, 0.25)), config, tmp_path / "run")
        assert "no_tumor" not in model.classes
        assert 0 < torch.cat(told).float().mean() < 0.8
