"""How unlike everything a model has learned from a slice is: three scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from gyrus.errors import InputError

Score = Literal["mahalanobis", "knn", "energy"]
SCORES: tuple[Score, ...] = get_args(Score)
"""What a higher value of each says is the same: the slice is less like the training slices."""

NEIGHBOUR = 10
"""Which nearest training slice the distance is taken to."""
DIRECTIONS = 128
"""In which the spread of features is kept one by one; what is left is taken to be alike in all others."""
BANK = 512
"""Training slices that the neighbours are sought among."""

_LEAST = 1e-6  # of the mean spread: channels that never fire would make any slice infinitely far

Reference = Mapping[str, NDArray[np.generic]]
"""What a score is measured against, by name: small arrays that are saved beside the weights."""
NEEDS: Mapping[Score, tuple[str, ...]] = MappingProxyType(
    {"mahalanobis": ("means", "directions", "spread", "rest"), "knn": ("bank",), "energy": ()}
)
"""Score -> the names of its arrays, see :func:`learn_reference`."""


def learn_reference(score: Score, features: NDArray[np.floating], truth: NDArray[np.integer]) -> Reference:
    """Return what :func:`novelty` compares with, from training slices.

    Args:
        score: one of :data:`SCORES`.
        features: (N, D) of the last features, averaged over the map.
        truth: (N,) class indices.

    Returns:
        Arrays by name: for "mahalanobis" ``means`` (classes, D), ``directions`` (R, D), ``spread`` (R,) and ``rest``
        (1,), for "knn" ``bank`` (M, D) float16, for "energy" none.
    """
    values = np.asarray(features, dtype=np.float64)
    if score == "mahalanobis":
        return _gaussians(values, truth)
    if score == "knn":
        chosen = np.linspace(0, len(values) - 1, min(BANK, len(values))).round().astype(int)
        return {"bank": _unit(values[chosen]).astype(np.float16)}
    return {}


def novelty(
    score: Score, reference: Reference, features: NDArray[np.floating], logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (N,): how unlike the training slices each slice is; higher is stranger.

    - "mahalanobis" (Lee et al. 2018, eq. 2): the squared Mahalanobis distance of the features to the nearest class
      mean, under one covariance for all classes. Of that, the :data:`DIRECTIONS` of greatest spread are kept and the
      rest is taken as equal in all directions (Tipping & Bishop 1999, eq. 8), which stays small and invertible.
    - "knn" (Sun et al. 2022, sec. 3): the distance of the features, scaled to length 1, to the tenth nearest of a
      sample of training slices.
    - "energy" (Liu et al. 2020, eq. 4, at temperature 1): -log sum exp of the logits.

    Args:
        score: one of :data:`SCORES`.
        reference: from :func:`learn_reference` for this score.
        features: (N, D).
        logits: (N, C), as the network gives them.
    """
    values = np.asarray(features, dtype=np.float64)
    if score == "mahalanobis":
        return _mahalanobis(reference, values)
    if score == "knn":
        bank = np.asarray(reference["bank"], dtype=np.float64)
        near = np.sort(_unit(values) @ bank.T, axis=1)[:, -min(NEIGHBOUR, len(bank))]
        return np.asarray(np.sqrt(np.maximum(2 - 2 * near, 0)))
    return np.asarray(-np.logaddexp.reduce(np.asarray(logits, dtype=np.float64), axis=1))


def read_reference(file: Path, names: Collection[str]) -> Reference:
    """Read arrays that were saved beside a model.

    Args:
        file: of safetensors.
        names: arrays that it has to hold.

    Raises:
        InputError: it is damaged, or lacks one of them.
    """
    try:
        found: Reference = load(file.read_bytes())
    except SafetensorError:
        raise InputError(f"{file} is no file of arrays: restore the folder as it was saved") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{file} holds no {missing[0]}, which the calibration needs: restore the folder as it was saved"
        )
    return found


def _gaussians(features: NDArray[np.float64], truth: NDArray[np.integer]) -> dict[str, NDArray[np.generic]]:
    """Return class means and the covariance around them, in its directions of greatest spread and one for the rest."""
    classes = np.unique(truth)
    means = np.stack([features[truth == c].mean(axis=0) for c in classes])
    around = features - means[np.searchsorted(classes, truth)]
    _, singular, directions = np.linalg.svd(around, full_matrices=False)
    spread = singular**2 / len(features)
    least = max(_LEAST * spread.sum() / features.shape[1], np.finfo(np.float32).tiny)
    kept = min(DIRECTIONS, len(spread))
    left = features.shape[1] - kept
    rest = max(spread[kept:].sum() / left, least) if left else np.inf  # nothing lies beside all directions there are
    return {
        "means": means.astype(np.float32),
        "directions": directions[:kept].astype(np.float32),
        "spread": np.maximum(spread[:kept], least).astype(np.float32),
        "rest": np.array([rest], dtype=np.float32),
    }


def _mahalanobis(reference: Reference, features: NDArray[np.float64]) -> NDArray[np.float64]:
    means, directions, spread, rest = (np.asarray(reference[n], dtype=np.float64) for n in NEEDS["mahalanobis"])
    distances = []
    for mean in means:
        offset = features - mean
        along = offset @ directions.T
        # Not |offset|^2 - |along|^2: the directions are rounded, and where little is left that is all rounding.
        beside = offset - along @ directions
        distances.append((along**2 / spread).sum(axis=1) + (beside**2).sum(axis=1) / rest[0])
    return np.asarray(np.min(distances, axis=0))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, np.finfo(np.float64).tiny))
