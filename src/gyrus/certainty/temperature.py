"""One number that makes probabilities mean what they say."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

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
        T in [:data:`COLDEST`, :data:`HOTTEST`]: above 1 where the model is too sure, and at the upper end where answers
        are no better than chance. 1 where every answer is right: then no certainty is too much for these slices, and
        the best T would make the model sure of every later mistake.

    Raises:
        InputError: there is no slice, logits are not finite, or no slice's logits differ from class to class.
    """
    from scipy import optimize

    values = np.asarray(logits, dtype=np.float64)
    if not values.size:
        raise InputError("there is no slice to fit a temperature on: give the split a validation part")
    if not np.isfinite(values).all():
        raise InputError("a temperature cannot be fitted: the model's logits are not finite; train it again")
    if not np.ptp(values, axis=1).any():
        raise InputError("a temperature cannot be fitted: the model's logits are the same for every class; train it")
    if (values.argmax(axis=1) == truth).all():
        return 1.0

    margins = values - np.take_along_axis(values, np.asarray(truth)[:, None], axis=1)

    def surprise(log_temperature: float) -> float:
        return float(np.logaddexp.reduce(margins / math.exp(log_temperature), axis=1).mean())

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found = optimize.minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)


def softmax(logits: NDArray[np.floating], temperature: float | NDArray[np.floating] = 1.0) -> NDArray[np.float64]:
    """Return (N, C) probabilities of (N, C) logits divided by a temperature, in float64.

    Args:
        logits: (N, C); rows that are not finite throughout give rows of NaN.
        temperature: one, or (N, 1) of them.
    """
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    scaled = np.where(finite, logits.astype(np.float64), np.nan) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
