"""What runs the network again and again, on the sample: faithfulness, robustness, sanity, ceilings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gyrus.evaluate.ceilings import area_ceiling, grid_iou_ceiling, grid_pointing_ceiling
from gyrus.evaluate.faithfulness import Faithfulness
from gyrus.evaluate.robustness import noisy, relative_change
from gyrus.evaluate.sanity import similarity
from gyrus.explain.layers import LayerSpec
from gyrus.leaderboard.entries import CUT, THRESHOLDS, Entry
from gyrus.leaderboard.passes import Grids, Numbers, maps_of
from gyrus.leaderboard.settings import PERCENTAGES, STEPS
from gyrus.preprocess import Frame


def faithfulness(net: nn.Module, images: Tensor, target: Tensor, grids: Grids, seed: int) -> Numbers:
    """Return the columns FAITHFUL of each map.

    Args:
        net: the folded network.
        images: (N, C, H, W).
        target: (N,) class explained.
        grids: the maps.
        seed: of ties and of the imputation's noise.
    """
    judge = Faithfulness(net, images, target, seed=seed)
    found: Numbers = {}
    for entry, grid in grids.items():
        maps = torch.from_numpy(grid).to(images.device)
        morf = judge.road(maps, order="morf", percentages=PERCENTAGES).mean
        lerf = judge.road(maps, order="lerf", percentages=PERCENTAGES).mean
        drop, increase = judge.confidence(maps)
        columns = {
            "deletion": judge.deletion(maps, steps=STEPS).area,
            "insertion": judge.insertion(maps, steps=STEPS).area,
            "road_morf": morf,
            "road_lerf": lerf,
            "road": (lerf - morf) / 2,
            "confidence_drop": drop,
            "confidence_increase": increase,
        }
        found[entry] = {name: values.cpu().numpy() for name, values in columns.items()}
    return found


def stability(
    model: nn.Module,
    scrambled: nn.Module,
    images: Tensor,
    target: Tensor,
    methods: Sequence[str],
    layers: LayerSpec,
    own: Grids,
    seed: int,
) -> Numbers:
    """Return the columns STABLE of each map of one pass: all share the passes of each changed image and network.

    Args:
        model: the network explained.
        scrambled: the same with every layer random; see :func:`gyrus.evaluate.sanity.randomised`.
        images: (N, C, H, W).
        target: (N,) class explained.
        methods: of the maps.
        layers: of the maps.
        own: the maps.
        seed: of the noise.
    """
    maps = {e: torch.from_numpy(g) for e, g in own.items()}
    worst = {e: torch.zeros(len(images)) for e in maps}
    for moved in noisy(images, seed=seed):
        for entry, grid in maps_of(model, moved, target, methods, layers)[0].items():
            worst[entry] = torch.maximum(worst[entry], relative_change(maps[entry], torch.from_numpy(grid)))
    random, _ = maps_of(scrambled, images, target, methods, layers)
    found: Numbers = {}
    for entry in own:
        alike = similarity(maps[entry], torch.from_numpy(random[entry]), images)
        found[entry] = {
            "max_sensitivity": worst[entry].numpy(),
            "mprt_rank": alike.rank,
            "mprt_ssim": alike.structure,
        }
    return found


def ceilings(
    masks: Sequence[NDArray[np.bool_]], frames: Sequence[Frame], grids: set[tuple[int, int]]
) -> dict[Entry, list[dict[str, float]]]:
    """Return the ceilings: of each grid under any threshold, and of any map that keeps so many pixels.

    Args:
        masks: N arrays (H, W), none empty or full.
        frames: where a map lies on each.
        grids: (h, w) of the maps.

    Returns:
        entry -> N times column -> score.
    """
    found: dict[Entry, list[dict[str, float]]] = {}
    for grid in sorted(grids):
        best = grid_iou_ceiling(masks, grid, frames)
        found[Entry("ceiling", f"{grid[0]} x {grid[1]} map")] = [
            {"pointing": grid_pointing_ceiling(mask, grid, frame)}
            | {c: float(iou if c.startswith("iou") else 2 * iou / (1 + iou)) for c in CUT}
            for mask, frame, iou in zip(masks, frames, best, strict=True)
        ]
    found[Entry("ceiling", "area kept")] = [_area_ceilings(mask) for mask in masks]
    return found


def _area_ceilings(mask: NDArray[np.bool_]) -> dict[str, float]:
    """Return the highest IoU and Dice of a map that keeps as many pixels as each percentile says."""
    found: dict[str, float] = {}
    for threshold in THRESHOLDS:
        if threshold.rule == "percentile" and threshold.parameter is not None:
            iou = float(area_ceiling(mask, threshold.parameter))
            found |= {f"iou@{threshold.name}": iou, f"dice@{threshold.name}": 2 * iou / (1 + iou)}
    return found
