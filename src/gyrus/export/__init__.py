"""A trained model as one graph, from pixels to probabilities and class maps, for ONNX Runtime or OpenVINO."""

from __future__ import annotations

from gyrus.export.parity import Parity
from gyrus.export.run import export_model

__all__ = ["Parity", "export_model"]
