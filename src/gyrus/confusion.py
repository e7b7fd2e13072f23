"""Everything that follows from a confusion matrix, for one matrix or a stack of them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the (C, C) counts, row = true class, column = predicted class.

    Args:
        true: (N,) class indices.
        predicted: (N,) class indices.
        classes: C.
    """
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def rates(confusion: NDArray[np.number], expected: NDArray[np.bool_] | None = None) -> dict[str, NDArray[np.float64]]:
    """Return the usual figures of one (C, C) confusion matrix, or of a (..., C, C) stack (bootstrap replicates).

    Args:
        confusion: rows are true classes, columns predicted ones.
        expected: (C,) the classes that means over classes are about, of replicates those of the whole. Where one of
            them does not occur, these means are NaN: without it they would be of something else.

    Returns:
        accuracy, balanced_accuracy, macro_precision, macro_recall, macro_f1 of shape (...), and precision, recall, f1
        of shape (..., C), all in [0, 1]. Recall of a class that does not occur is NaN; precision of a class never
        predicted is 0 if the class occurs and NaN otherwise. Means over classes leave NaN out; balanced accuracy is
        the mean recall (Brodersen et al. 2010), so it equals macro_recall.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    occurs, called = counts.sum(axis=-1), counts.sum(axis=-2)
    recall = _ratio(hits, occurs)
    precision = np.where(called > 0, _ratio(hits, called), np.where(occurs > 0, 0.0, np.nan))
    f1 = _ratio(2 * hits, occurs + called)
    f1 = np.where(occurs > 0, f1, np.nan)
    lacking = np.zeros(counts.shape[:-2], dtype=bool) if expected is None else (occurs[..., expected] == 0).any(axis=-1)
    found = {"balanced_accuracy": recall, "macro_precision": precision, "macro_recall": recall, "macro_f1": f1}
    return {
        "accuracy": _ratio(hits.sum(axis=-1), counts.sum(axis=(-2, -1))),
        **{name: np.where(lacking, np.nan, _mean(values)) for name, values in found.items()},
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def rate(
    confusion: NDArray[np.number], name: str, of: int | None = None, expected: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return one figure of :func:`rates`, of shape (...).

    Args:
        confusion: (..., C, C), as there.
        name: of the figure.
        of: the class that a figure per class is of.
        expected: (C,), as there.
    """
    found = rates(confusion, expected)[name]
    return found if of is None else found[..., of]


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))
