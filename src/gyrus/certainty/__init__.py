"""How sure a model may be of what it says: its temperature, its sets of classes, and when a slice is unlike any known.

Fitted once on persons the model did not learn from (:func:`gyrus.certainty.fit.fit_calibration`), saved inside the
model as a :class:`Calibration`, and used at prediction. No torch here.
"""

from __future__ import annotations

from gyrus.certainty.calibration import Calibration

__all__ = ["Calibration"]
