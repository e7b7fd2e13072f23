"""Guided training: the loss by hand, and that a guided map comes to lie on the tumour."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gyrus.batches import outlines_of
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.explain import explain_records
from gyrus.guides import answer_loss, at_grid, mask_loss, true_maps
from gyrus.models import create_model, load_model, save_model
from gyrus.splits import Split
from gyrus.training import fit, make_config

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


class TestAnswerLoss:
    def test_with_every_tumour_there_it_is_the_weighted_cross_entropy(self) -> None:
        logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        labels, weight = torch.tensor([0, 1, 2, 2, 1, 0]), torch.tensor([0.5, 1.0, 3.0])
        ours = answer_loss(logits, labels, torch.zeros(6, dtype=torch.bool), weight, 0.05)
        torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weight=weight, label_smoothing=0.05))

    def test_without_its_tumour_every_class_is_to_be_as_likely_whatever_its_weight(self) -> None:
        """By hand: of two classes, -(log 0.25 + log 0.75) / 2; least at equal logits, and no gradient there."""
        gone, weight = torch.ones(1, dtype=torch.bool), torch.tensor([0.1, 7.0])
        logits = torch.tensor([[0.0, math.log(3)]])
        by_hand = -(math.log(0.25) + math.log(0.75)) / 2
        for label in (0, 1):
            assert float(answer_loss(logits, torch.tensor([label]), gone, weight, 0.05)) == pytest.approx(by_hand)
        level = torch.full((1, 2), 4.0, requires_grad=True)
        answer_loss(level, torch.tensor([1]), gone, weight, 0.05).backward()
        assert level.grad is not None
        assert level.grad.abs().max() < 1e-6

    def test_a_slice_without_its_tumour_weighs_one(self) -> None:
        logits, labels = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
        gone, weight = torch.tensor([False, True]), torch.tensor([3.0, 9.0])
        told, doubt = math.log(1 + math.exp(-2)), math.log(2)
        assert float(answer_loss(logits, labels, gone, weight, 0.0)) == pytest.approx((3 * told + doubt) / 4)


class TestMaskLoss:
    def test_an_undecided_map_by_hand(self) -> None:
        outlines = torch.zeros(1, 2, 2)
        outlines[0, 0, 0] = 1
        dice = (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1)
        assert float(mask_loss(torch.zeros(1, 2, 2), outlines)) == pytest.approx(math.log(2) + 1 - dice)

    def test_a_map_that_is_the_outline_costs_nothing(self) -> None:
        outlines = (torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)) > 0.8).float()
        assert mask_loss(40 * outlines - 20, outlines).max() < 1e-6

    def test_nothing_outlined_pulls_the_map_to_nothing(self) -> None:
        empty = torch.zeros(1, 4, 4)
        costs = [float(mask_loss(torch.full((1, 4, 4), level), empty)) for level in (-10.0, -1.0, 2.0)]
        assert costs == sorted(costs)
        assert costs[0] < 1e-2

    def test_the_gradient_pulls_up_inside_and_down_outside(self) -> None:
        maps = torch.zeros(1, 2, 2, requires_grad=True)
        outlines = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        mask_loss(maps, outlines).sum().backward()
        assert maps.grad is not None
        assert maps.grad[0, 0, 0] < 0
        assert (maps.grad.flatten()[1:] > 0).all()


def test_each_slice_is_judged_by_the_map_of_its_own_class() -> None:
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    assert torch.equal(true_maps(maps, torch.tensor([2, 0])), torch.stack([maps[0, 2], maps[1, 0]]))


def test_outlines_become_shares_of_the_cells() -> None:
    outlines = torch.zeros(1, 4, 4)
    outlines[0, :2, :1] = 1
    assert torch.equal(at_grid(outlines, (2, 2)), torch.tensor([[[0.5, 0.0], [0.0, 0.0]]]))


class TestFusion:
    def test_the_last_map_has_stride_8_and_the_class_map_is_linear_in_it(self) -> None:
        model = create_model("mobilenetv2_100", CLASSES, fuse=16, channels=1).eval()
        images = model.normalise(torch.randint(0, 255, (2, 64, 64), dtype=torch.uint8))
        with torch.no_grad():
            features = model.body(images)
            assert features.shape == (2, 16, 8, 8)
            by_hand = torch.einsum("nkhw,ck->nchw", features, model.class_weights())
            bias = model.head.bias
            assert bias is not None
            assert torch.allclose(model.class_map(features), by_hand + bias.view(1, -1, 1, 1), atol=1e-5)

    def test_every_stage_reaches_the_last_map(self) -> None:
        model = create_model("mobilenetv2_100", CLASSES, fuse=16).eval()
        images = torch.randn(1, 3, 64, 64)
        model(images).sum().backward()
        for layer in model.body.lateral:
            assert float(layer.weight.grad.abs().sum()) > 0

    def test_it_is_saved_and_read_again(self, tmp_path: Path) -> None:
        model = create_model("resnet18", CLASSES, fuse=8).eval()
        save_model(model, tmp_path / "model")
        images = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(load_model(tmp_path / "model")(images), model(images))

    def test_what_cannot_be_fused_is_refused(self) -> None:
        with pytest.raises(InputError, match="alexnet has no features of stride 8, 16 and 32 to fuse"):
            create_model("alexnet", CLASSES, fuse=16)
        with pytest.raises(InputError, match="leave output_stride and truncate out"):
            create_model("resnet18", CLASSES, fuse=16, output_stride=8)


class TestTraining:
    def test_outlines_are_on_the_networks_grid_and_unknown_ones_are_left_alone(self, tiny_phantom: Path) -> None:
        dataset = open_dataset(tiny_phantom)
        spec = create_model("resnet18", CLASSES).spec.preprocess.model_copy(update={"size": 48})
        records = list(dataset.records)
        shares, known = outlines_of(records, spec)
        assert shares.shape == (len(records), 48, 48)
        assert known.all()
        for share, record in zip(shares, records, strict=True):
            mask = record.read_mask(record.read().shape)
            area = 0.0 if mask is None else float(mask.mean())
            assert share.mean() / 255 == pytest.approx(area, abs=2e-3)
        bare = [replace(r, mask=None) for r in records]
        assert outlines_of(bare, spec)[1].tolist() == [float(r.label == "no_tumor") for r in records]

    def test_guided_maps_lie_on_the_tumour(self, tiny_phantom: Path, tiny_split: Path, tmp_path: Path) -> None:
        """On training slices, by the same few steps with and without guidance."""
        dataset, split = open_dataset(tiny_phantom), Split.load(tiny_split)
        records = [r for r in dataset.select(split.train) if r.mask is not None]
        inside = {}
        for guide in ("none", "mask"):
            config = make_config(
                model="resnet18", size=64, fuse=16, guide=guide, guide_weight=5.0, pooling="lse", epochs=20,
                batch_size=8, learning_rate=3e-3, choose="last", augment={"rotate": 0, "translate": 0, "scale": 0},
                precision="fp32", device="cpu", class_weights=False,
            )  # fmt: skip
            model = fit(dataset, split, config, tmp_path / guide)
            maps = explain_records(model, records, methods=["cam"])
            heat = next(v for k, v in maps.arrays.items() if k.target == "true")
            spec = model.spec.preprocess
            shares = torch.from_numpy(outlines_of(records, spec)[0] / 255).float()
            cells = at_grid(shares, heat.shape[1:]).numpy() > 0.25
            ranks = heat.reshape(len(heat), -1).argsort(axis=1).argsort(axis=1).reshape(heat.shape) / heat[0].size
            inside[guide] = float(np.mean([r[c].mean() for r, c in zip(ranks, cells, strict=True) if c.any()]))
        assert inside["mask"] > inside["none"] + 0.1
        assert inside["mask"] > 0.8
