"""What no network at all would score: every accuracy is printed beside these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.confusion import rate
from gyrus.intervals import Bootstrap

THUMBNAIL = 32


def majority_class(train: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the class most frequent in training, n times."""
    return np.full(n, np.bincount(train).argmax(), dtype=np.int64)


def pixel_nearest_neighbour(
    train: NDArray[np.uint8], labels: NDArray[np.int64], test: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Return for each test slice the class of the training slice whose 32 x 32 thumbnail is nearest.

    Args:
        train: (M, S, S) uint8 prepared slices.
        labels: (M,) their classes.
        test: (N, S, S) uint8.

    Returns:
        (N,) classes; distance is Euclidean between thumbnails of zero mean and unit variance.
    """
    a, b = thumbnails(train), thumbnails(test)
    # |a - b|^2 = 2 * 1024 - 2 a.b for standardised thumbnails, so the nearest has the largest product; a constant
    # slice is all zeros and is as far from everything.
    nearest = np.concatenate([(chunk @ a.T).argmax(axis=1) for chunk in np.array_split(b, max(1, len(b) // 256))])
    return np.asarray(labels[nearest])


def thumbnails(slices: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 1024) float32 thumbnails, each of zero mean and unit variance (all zeros for a constant slice)."""
    side = (THUMBNAIL, THUMBNAIL)
    small = np.stack([cv2.resize(s, side, interpolation=cv2.INTER_AREA) for s in slices]).reshape(len(slices), -1)
    centred = small.astype(np.float32) - small.mean(axis=1, keepdims=True, dtype=np.float32)
    spread = centred.std(axis=1, keepdims=True)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0))


def score_floor(
    name: str, truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return one row of the floors' table: accuracy and balanced accuracy with intervals."""
    c = len(classes)
    cells = np.zeros((len(truth), c, c), dtype=np.int64)
    cells[np.arange(len(truth)), truth, predicted] = 1
    occurring = cells.sum(axis=(0, 2)) > 0
    figures = {
        figure: bootstrap.statistic(cells, partial(rate, name=figure, expected=occurring))
        for figure in ("accuracy", "balanced_accuracy")
    }
    return {"name": name, **figures}
