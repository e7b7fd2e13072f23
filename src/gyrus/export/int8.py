"""Convolutions in 8-bit integers, calibrated on slices: post-training static quantisation by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import MissingExtraError
from gyrus.exported import Exported
from gyrus.loading import Progress, read_ahead
from gyrus.records import Record


def quantise(
    source: Path, target: Path, exported: Exported, records: Sequence[Record], *, progress: Progress | None = None
) -> None:
    """Write a graph whose convolutions compute in 8-bit integers (Jacob et al. 2018).

    Weights are signed, with one scale per output channel; activations are unsigned, their range the mean over the
    slices of the least and of the largest value (Krishnamoorthi 2018, sec. 3). All else stays in float32: the
    preprocessing, the convolution that makes the class map, and the pooling; of a network with depthwise convolutions
    the first convolution and the first depthwise one too, whose channels differ most in range (Sheng et al. 2018,
    sec. 3) and which cost little.

    Args:
        source: the float32 ONNX file.
        target: the file to write.
        exported: the same graph, which knows what to feed it.
        records: slices to calibrate on.
        progress: called after each slice.

    Raises:
        InputError: a slice cannot be read.
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError:
        raise MissingExtraError("onnxruntime, which quantises the graph,", "export") from None
    folded = target.with_name("folded.onnx")
    quantization.quant_pre_process(source, folded, skip_symbolic_shape=True)  # folds batch normalisation
    convolutions = [node for node in onnx.load(folded).graph.node if node.op_type == "Conv"]
    depthwise = [node for node in convolutions if _groups(node) > 1]
    kept = [convolutions[0], depthwise[0]] if depthwise else []
    kept += convolutions[-1:] if "class_map" in exported.description.outputs else []
    quantization.quantize_static(
        folded,
        target,
        _Reader(exported, records, progress),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in kept],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"CalibMovingAverage": True},
    )


def _groups(convolution: Any) -> int:
    """Return the groups of a node that is a convolution: more than one where it is depthwise or grouped."""
    return next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)


class _Reader:
    """Feeds one slice at a time, in the interface of onnxruntime's CalibrationDataReader."""

    def __init__(self, exported: Exported, records: Sequence[Record], progress: Progress | None) -> None:
        self._slices = self._feeds(exported, records, progress)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._slices, None)

    @staticmethod
    def _feeds(exported: Exported, records: Sequence[Record], progress: Progress | None) -> Iterator[dict[str, Any]]:
        for i, (_, taken) in enumerate(read_ahead(records, lambda r: exported.take(r.read()), 1)):
            yield {exported.description.input: np.stack([t for t in taken if not isinstance(t, Exception)])}
            if progress:
                progress("calibrating", i + 1, len(records))
