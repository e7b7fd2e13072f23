"""The graph that is exported: preprocessing, network, class map, pooling, novelty in one module, and its ONNX file."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.certainty.novelty import NEIGHBOUR, Reference, Score
from gyrus.certainty.upright import UPRIGHT
from gyrus.errors import MissingExtraError
from gyrus.exported import graph_input, output_names
from gyrus.models import Classifier
from gyrus.models.attention import CamAttention
from gyrus.models.classifier import averaged, pool
from gyrus.preprocess import Preprocess

OPSET = 18
"""Of ONNX; both runtimes have read it for years."""


class Graph(nn.Module):
    """What :func:`gyrus.predict` and ``cam`` do for a batch of slices of one size, in one module.

    A calibrated model's temperature divides the logits before the softmax (Guo et al. 2017, eq. 9), and its novelty
    score is one output more.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model
        calibration = model.spec.calibration
        self.temperature = 1.0 if calibration is None else calibration.temperature
        self.novelty = None if calibration is None else Novelty(calibration.novelty, model.reference)
        preprocess = model.spec.preprocess
        self.prepare = Preparation(preprocess) if graph_input(preprocess) == "pixels" else nn.Identity()

    def forward(self, slices: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W) float32 to what :func:`gyrus.exported.output_names` names.

        That is (N, C) logits, (N, C) probabilities, where there is one an (N, C, h, w) map, and of a calibrated model
        an (N,) novelty score.

        Args:
            slices: pixels as read from files; or, for a model that looks for the head, slices in 0..255 from
                :func:`gyrus.preprocess.prepare`.
        """
        features = self.model.features(self.model.normalise(self.prepare(slices)))
        more = []
        if self.model.has_class_map:
            class_map = self.model.class_map(features)
            logits = pool(class_map, self.model.spec.pooling)
            more.append(class_map)
        else:
            logits = self.model.finish(features)
        if self.novelty is not None:
            more.append(self.novelty(averaged(features), logits))
        return logits, torch.softmax(logits / self.temperature, dim=1), *more


class Novelty(nn.Module):
    """:func:`gyrus.certainty.novelty.novelty` in float32.

    What would cancel there is arranged otherwise: how far a feature lies beside the kept directions is the length of
    what they leave of it, not the difference of two lengths, which may be a millionth of either.

    Args:
        score: which one.
        reference: from :func:`gyrus.certainty.novelty.learn_reference` for this score.
    """

    def __init__(self, score: Score, reference: Reference) -> None:
        super().__init__()
        self.score = score
        arrays = {k: np.asarray(v, dtype=np.float64) for k, v in reference.items() if k != UPRIGHT}
        if score == "mahalanobis":
            arrays = {
                "means": arrays["means"],
                "directions": arrays["directions"],
                "along": arrays["spread"] ** -0.5,
                "beside": arrays["rest"] ** -0.5,
            }
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (N,) of (N, D) features and (N, C) logits."""
        if self.score == "mahalanobis":
            means, directions = self.get_buffer("means"), self.get_buffer("directions")
            offset = features[:, None] - means
            along = offset @ directions.T
            beside = offset - along @ directions
            parts = (along * self.get_buffer("along")).square(), (beside * self.get_buffer("beside")).square()
            return (parts[0].sum(dim=2) + parts[1].sum(dim=2)).amin(dim=1)
        if self.score == "knn":
            bank = self.get_buffer("bank")
            lengths = features.square().sum(dim=1, keepdim=True).sqrt()
            near = features / lengths.clamp(min=torch.finfo(torch.float32).tiny) @ bank.T
            tenth = torch.topk(near, min(NEIGHBOUR, len(bank)), dim=1).values[:, -1]
            return (2 - 2 * tenth).clamp(min=0).sqrt()
        return -torch.logsumexp(logits, dim=1)


class Preparation(nn.Module):
    """:func:`gyrus.preprocess.prepare` for a whole image: percentiles, padding, resizing, rounding.

    OpenCV's resizing is linear and treats the axes apart, so it is ``R (X C')`` with one matrix per axis, and padding
    with black only leaves columns of these out. Places and weights are whole numbers until the last division: exact
    where prepare computes in float64, also in a runtime that knows no float64. What is left are values halfway between
    two grey levels, which the last bit of a sum rounds up here and down there.
    """

    def __init__(self, spec: Preprocess) -> None:
        super().__init__()
        self.size = spec.size
        self.pad = spec.fit == "pad"
        low, high = spec.intensity
        self.below, self.above = _fraction(low), _fraction(100 - high)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (N, H, W) pixels in any unit to (N, size, size) whole numbers in 0..255."""
        _, height, width = pixels.shape
        flat = pixels.flatten(1)
        low = _percentile(flat, self.below, largest=False)
        high = _percentile(flat, self.above, largest=True)
        scale = torch.where(high > low, 255 / (high - low), 0.0)
        scaled = ((pixels - low[:, :, None]) * scale[:, :, None]).clamp(0, 255)
        rows, columns = self._weights(height, height, width), self._weights(width, height, width)
        return torch.round(rows @ (scaled @ columns.T))  # in OpenCV's order

    def _weights(self, length: int, height: int, width: int) -> Tensor:
        """Return the (size, length) matrix of one axis: averages where the image shrinks, else bilinear weights."""
        if self.pad:
            side = cast(int, torch.sym_max(height, width))
            before, shrinks = (side - length) // 2, side
            averaged = _averaging(length, before, side, self.size)
        else:
            side, before, shrinks = length, 0, height
            # OpenCV averages only if neither axis grows.
            grows, pair = _whole(width) < self.size, _nearest_pair(length, self.size)
            averaged = torch.where(grows, pair, _averaging(length, 0, length, self.size))
        return torch.where(_whole(shrinks) > self.size, averaged, _bilinear(length, before, side, self.size))


def _whole(number: int) -> Tensor:
    """Return a (1, 1) tensor of a number, such as an image's side, that is known only when the graph runs."""
    return torch.full((1, 1), number)


def _fraction(percent: float) -> Fraction:
    return Fraction(percent / 100).limit_denominator(10_000)


def _percentile(flat: Tensor, share: Fraction, *, largest: bool) -> Tensor:
    """Return the (N, 1) value that a share of the M values lies below, or above, as numpy.percentile interpolates."""
    n = flat.shape[1]
    place = (n - 1) * share.numerator
    at = place // share.denominator
    values, _ = torch.topk(flat, torch.sym_min(at + 2, n), dim=1, largest=largest)
    first, second = values.index_select(1, torch.full((1,), at)), values[:, -1:]
    return first + (second - first) * ((place % share.denominator) / share.denominator)


def _averaging(length: int, before: int, side: int, size: int) -> Tensor:
    """Return the (size, length) shares of INTER_AREA: how much of each cell a pixel fills.

    Args:
        length: pixels of the image along this axis.
        before: black pixels before them.
        side: pixels with the black ones.
        size: cells.
    """
    cell, pixel = torch.arange(size)[:, None], torch.arange(length)[None] + before
    common = torch.minimum((pixel + 1) * size, (cell + 1) * side) - torch.maximum(pixel * size, cell * side)
    return common.clamp(min=0) / side


def _bilinear(length: int, before: int, side: int, size: int) -> Tensor:
    """Return the (size, length) weights of INTER_LINEAR, with half-pixel centres; arguments as :func:`_averaging`."""
    cell, pixel = torch.arange(size)[:, None], torch.arange(length)[None] + before
    centre = ((2 * cell + 1) * side - size).clamp(min=0).minimum(_whole(2 * size * (side - 1)))
    return (2 * size - (centre - 2 * size * pixel).abs()).clamp(min=0) / (2 * size)


def _nearest_pair(length: int, size: int) -> Tensor:
    """Return the (size, length) weights that INTER_AREA has on either axis where one of the two grows."""
    cell, pixel = torch.arange(size)[:, None], torch.arange(length)[None]
    first = (cell * length) // size
    second = (first + 1).minimum(_whole(length - 1))
    share = ((cell + 1) * length - (first + 1) * size).clamp(min=0)
    return ((pixel == first) * (length - share) + (pixel == second) * share) / length


def write_onnx(model: Classifier, path: Path) -> None:
    """Write a model's :class:`Graph` as one ONNX file.

    Args:
        model: on the CPU, in evaluation mode.
        path: the file.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  what torch.onnx writes with
    except ImportError:
        raise MissingExtraError("onnx or onnxscript, which writes the graph,", "export") from None
    preprocess = model.spec.preprocess
    kind, side = graph_input(preprocess), preprocess.size
    names = output_names(has_class_map=model.has_class_map, calibrated=model.spec.calibration is not None)
    moving = {0: torch.export.Dim("batch")}
    if kind == "pixels":
        moving |= {1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    # Two slices of uneven sides, since the exporter takes a 1, and sides that are equal, for fixed.
    example = torch.zeros(2, side, side) if kind == "prepared" else torch.zeros(2, side + 8, side + 3)
    program: Any = torch.onnx.export(
        Graph(_switched(model)).eval(), (example,), dynamo=True, opset_version=OPSET,
        dynamic_shapes=(moving,), input_names=[kind], output_names=list(names),
        optimize=True, verbose=False,
    )  # fmt: skip
    written = program.model_proto
    del written.metadata_props[:]
    for node in written.graph.node:  # the exporter notes where each line of source lies on this machine
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(written, path)


def _switched(model: Classifier) -> Classifier:
    """Return the model; of one with attention a copy whose switch is fixed, since a graph has no branch on a value."""
    if not isinstance(model, CamAttention):
        return model
    copied = copy.deepcopy(model)
    del copied.attends
    copied.attends = bool(model.attends)  # type: ignore[assignment]
    return copied
