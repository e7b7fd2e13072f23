"""The eight ways to lay a picture: as is or mirrored, and turned by none to three quarters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MIRROR = np.array([[-1.0, 0.0], [0.0, 1.0]])
_QUARTER = np.array([[0.0, 1.0], [-1.0, 0.0]])  # anticlockwise where y points down


class Turn(NamedTuple):
    """One of the eight: ``np.rot90(picture[:, ::-1] if mirrored else picture, quarters)``."""

    mirrored: bool = False
    quarters: int = 0

    def __str__(self) -> str:
        """Return "as is", "mirrored" (left for right), "turned 90" (anticlockwise), or both, the mirror first."""
        words = ["mirrored"] * self.mirrored + [f"turned {90 * self.quarters}"] * (self.quarters > 0)
        return ", ".join(words) or "as is"

    @property
    def matrix(self) -> NDArray[np.float64]:
        """What it does to directions (x, y), y pointing down: (2, 2)."""
        return np.asarray(np.linalg.matrix_power(_QUARTER, self.quarters) @ (_MIRROR if self.mirrored else np.eye(2)))


def nearest(linear: NDArray[np.float64]) -> Turn:
    """Return the turn closest to a (2, 2) matrix that turns, scales and shears a little."""
    return max(_MATRICES, key=lambda turn: float(np.vdot(_MATRICES[turn], linear)))


_MATRICES = {turn: turn.matrix for turn in (Turn(m, quarters) for m in (False, True) for quarters in range(4))}
