"""What decides a leaderboard besides the models and their slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gyrus.explain.methods import METHODS

ONE_PASS = tuple(name for name, method in METHODS.items() if method.one_pass)
REPEATED = tuple(name for name, method in METHODS.items() if not method.one_pass)
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "rise": {"masks": 300},
    "integrated-gradients": {"steps": 25},
    "smoothgrad": {"samples": 25},
}
"""Fewer passes than by default, where a method would take more of the time than all the others together."""

STEPS = 10
PERCENTAGES = (10, 30)
"""Of faithfulness: fewer than the metrics' defaults, 20 and nine, for many maps are judged and their order counts."""


class Settings(BaseModel):
    """The choices of one leaderboard; an unfinished one is resumed with the same.

    Attributes:
        methods: names from :func:`gyrus.list_methods`. Those of one pass explain every slice at every layer, the others
            the sample, at the last layer or the input.
        layers: module names, or "stages", the last feature map of each size.
        sample: slices, of all that are tested, for what runs the network again and again; seeded.
        learn: training slices per model on which thresholds are learned; seeded.
        seed: of every draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: tuple[str, ...] = (*ONE_PASS, *REPEATED)
    layers: tuple[str, ...] | str = "stages"
    sample: int = Field(default=200, ge=0)
    learn: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)

    @property
    def one_pass(self) -> tuple[str, ...]:
        """The methods that share one pass."""
        return tuple(m for m in self.methods if METHODS[m].one_pass)

    @property
    def repeated(self) -> tuple[str, ...]:
        """The methods that run the network again and again."""
        return tuple(m for m in self.methods if not METHODS[m].one_pass)
