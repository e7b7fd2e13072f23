"""Maps of one batch as entries of the leaderboard, and what a map tells about itself without an outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gyrus.baselines import BASELINES, Context
from gyrus.evaluate.agreement import rank_correlation
from gyrus.evaluate.truthfree import concentration, entropy, method_agreement
from gyrus.explain.engine import Attribution, attribute
from gyrus.explain.layers import LayerSpec
from gyrus.leaderboard.entries import Entry
from gyrus.models import Classifier
from gyrus.records import Record

Grids = dict[Entry, NDArray[np.float32]]
"""Entry -> (N, h, w) raw maps of a batch."""

Numbers = dict[Entry, dict[str, NDArray[np.floating]]]
"""Entry -> column -> (N,)."""


def maps_of(
    model: torch.nn.Module,
    images: Tensor,
    target: Any,
    methods: Sequence[str],
    layers: LayerSpec,
    *,
    kind: str = "method",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    scorer: torch.nn.Module | None = None,
) -> tuple[Grids, Attribution]:
    """Return a batch's maps under entries of one kind, and the attribution they come from."""
    if not methods:
        return {}, attribute(model, images, target=target, layers=layers)
    chosen = {name: o for name, o in (options or {}).items() if name in methods}
    found = attribute(model, images, method=methods, target=target, layers=layers, options=chosen, scorer=scorer)
    return {Entry(kind, *key): m.float().cpu().numpy() for key, m in found.maps.items()}, found


def baseline_maps(
    records: Sequence[Record],
    slices: NDArray[np.uint8],
    labels: Sequence[str],
    priors: Mapping[str, NDArray[np.float32]],
) -> Grids:
    """Return the maps of the rules without a network; the class is the one predicted, for they may not know the true.

    Args:
        records: of the batch.
        slices: (N, S, S) as prepared.
        labels: N predicted classes.
        priors: class -> (S, S) float32.
    """
    contexts = [Context(s, r.id, priors, c) for r, s, c in zip(records, slices, labels, strict=True)]
    return {Entry("baseline", b.name): np.stack([b.rule(c) for c in contexts]) for b in BASELINES.values()}


def truth_free(own: Grids, mirrored: Grids) -> Numbers:
    """Return the numbers of maps that need no outline.

    Args:
        own: the maps of a batch.
        mirrored: those of the mirrored images, not mirrored back.
    """
    found: Numbers = {}
    for layer, entries in groupby(sorted(own, key=lambda e: e.layer), key=lambda e: e.layer):
        alike = {e.name: own[e] for e in entries}
        agreement = method_agreement(alike) if len(alike) > 1 else {}
        for name, maps in alike.items():
            entry = Entry("method", name, layer)
            found[entry] = {
                "concentration": concentration(maps),
                "entropy": entropy(maps),
                "flip_stability": rank_correlation(maps, np.ascontiguousarray(mirrored[entry][..., ::-1])),
            }
            if name in agreement:
                found[entry]["method_agreement"] = agreement[name]
    return found


def predicted_names(model: Classifier, found: Attribution) -> list[str]:
    """Return the class that each map argues for."""
    return [model.classes[int(c)] for c in found.target]
