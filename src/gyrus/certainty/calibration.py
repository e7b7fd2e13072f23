"""What calibrating a model found, as it is saved in ``model.json``."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.certainty.novelty import Score
from gyrus.words import SEQUENCES


class Calibration(BaseModel):
    """Everything that turns a model's logits into calibrated probabilities, sets and refusals.

    Attributes:
        statement: on which slices it was fitted, in one sentence.
        slices: how many, of
        persons: how many persons; where patients are unknown, every slice counts as one.
        temperature: logits are divided by it; see :func:`gyrus.certainty.temperature.fit_temperature`.
        coverage: how often a set is to hold the true class.
        thresholds: class -> the least calibrated probability with which it is in a set; 0 puts it into every set.
        persons_per_class: class -> persons who have slices of it.
        novelty: the score that tells strange slices.
        novelty_limit: above it a slice is refused.
        turned_limit: likewise of :func:`gyrus.certainty.upright.turned`.
        false_refusals: the share of slices of unseen persons that the two limits are to refuse, half of it each.
        refusing: faults of a picture that refuse it; others only flag it.
        sequences: of MRI that the model knows tumours on, see :func:`gyrus.certainty.fit.known_sequences`; empty: not
            asked about.
        reference_slices: of the training part, with which slices are compared.
        cut: the threshold (:func:`gyrus.thresholds.find_threshold`) that makes an outline of the predicted class's
            map in logits, its bias included, which the ``cam`` of ``gyrus explain`` leaves out; None where the model
            has no class map, or no slice an outline to learn it on.
        cut_slices: with an outline, on which it was chosen.
        cut_iou: their mean IoU under it; optimistic, since it was the reason for the choice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    statement: str
    slices: int = Field(ge=1)
    persons: int = Field(ge=1)
    temperature: float = Field(gt=0)
    coverage: float = Field(gt=0, lt=1)
    thresholds: dict[str, float]
    persons_per_class: dict[str, int]
    novelty: Score
    novelty_limit: float
    turned_limit: float
    false_refusals: float = Field(ge=0, lt=1)
    refusing: tuple[str, ...]
    sequences: tuple[str, ...] = ()
    reference_slices: int = Field(ge=1)
    cut: str | None = None
    cut_slices: int = Field(default=0, ge=0)
    cut_iou: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.cut is None) != (self.cut_iou is None):
            raise ValueError("a cut and the IoU it was chosen by come together")
        if not set(self.sequences) <= set(SEQUENCES):
            raise ValueError(f"sequences are some of {', '.join(SEQUENCES)}")
        return self

    def least(self, classes: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the thresholds in the order of the classes, (C,)."""
        return np.array([self.thresholds[c] for c in classes])

    @property
    def always(self) -> tuple[str, ...]:
        """Classes that are in every set, since too few persons have slices of them."""
        return tuple(c for c, least in self.thresholds.items() if least == 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as ``gyrus calibrate --json`` has them."""
        return self.model_dump()
