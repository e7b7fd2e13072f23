"""Whether a probability means what it says: temperature scaling, the error of calibration, and confident mistakes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from gyrus.errors import InputError

COLDEST, HOTTEST = 0.01, 100.0
"""Between which a temperature is sought."""


def fit_temperature(logits: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the one number by which to divide logits so that they are least surprised by the truth.

    Temperature scaling (Guo et al. 2017, sec. 4.2): T minimises the mean negative log-likelihood of
    softmax(logits / T), which has one minimum, since it is convex in 1 / T. It changes no answer, only how sure each
    is. Fit it on validation slices, never on those it is then judged by.

    Args:
        logits: (N, C), C at least 2; a sigmoid unit's are (0, z).
        truth: (N,) class indices.

    Returns:
        T in [:data:`COLDEST`, :data:`HOTTEST`]: above 1 where the model is too sure. It falls towards the lower
        end where every answer is right, since no certainty is then too much, and rises to the upper where answers are
        no better than chance.

    Raises:
        InputError: there is no slice, logits are not finite, or no slice's logits differ from class to class.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not values.size:
        raise InputError("there is no slice to fit a temperature on: give the split a validation part")
    if not np.isfinite(values).all():
        raise InputError("a temperature cannot be fitted: the model's logits are not finite; train it again")
    if not np.ptp(values, axis=1).any():
        raise InputError("a temperature cannot be fitted: the model's logits are the same for every class; train it")

    margins = values - np.take_along_axis(values, np.asarray(truth)[:, None], axis=1)

    def surprise(log_temperature: float) -> float:
        return float(np.logaddexp.reduce(margins / math.exp(log_temperature), axis=1).mean())

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found = optimize.minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)


def expected_calibration_error(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], bins: int = 15
) -> float:
    """Return how far accuracy lies from what the model says of itself, on average over its slices.

    Naeini et al. 2015; Guo et al. 2017, eq. 3: sum over bins of |B| / N |accuracy(B) - mean confidence(B)|.

    Args:
        probabilities: (N, C), rows summing to 1.
        truth: (N,) class indices.
        bins: of equal width over the highest probability, bin m being ((m - 1) / bins, m / bins].

    Returns:
        In [0, 1], 0 where each bin is as often right as it says; NaN where there is no slice.
    """
    if not len(probabilities):
        return math.nan
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(index, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def confident_errors(
    probabilities: NDArray[np.floating], truth: NDArray[np.integer], sure: float = 0.95
) -> tuple[int, int]:
    """Return how many answers are wrong, and how many of these carry a probability above ``sure``.

    Args:
        probabilities: (N, C).
        truth: (N,) class indices.
        sure: the highest probability above which an answer counts as confident.
    """
    if not len(probabilities):
        return 0, 0
    wrong = probabilities.argmax(axis=1) != truth
    return int(wrong.sum()), int((wrong & (probabilities.max(axis=1) > sure)).sum())
