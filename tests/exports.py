"""One small model and what was exported from it, for the tests of the export, of its running, and of the engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.records import Dataset


@dataclass(frozen=True)
class Exports:
    """A model folder, the slices it was checked on, its exports, and what ``export_model`` returned for each."""

    model: Path
    discs: Dataset
    onnx: Path
    openvino: Path
    documents: dict[str, dict[str, Any]]
