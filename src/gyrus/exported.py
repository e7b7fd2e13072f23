"""An exported model on disk and in use, by ONNX Runtime or OpenVINO. No torch here."""

from __future__ import annotations

import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gyrus.artifacts import read_json, sha256, write_json
from gyrus.errors import InputError, MissingExtraError
from gyrus.io import Image
from gyrus.loading import Progress, read_ahead
from gyrus.predictions import OK, UNREADABLE, Predictions
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record

SCHEMA = "gyrus.export/1"
DESCRIPTION = "export.json"
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
BATCH = 8
"""Slices per pass: a network on the CPU gains nothing from more, and whole images are kept for each."""

Engine = Literal["onnx", "openvino"]
GraphInput = Literal["pixels", "prepared"]
Run = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]


class Description(BaseModel):
    """The content of ``export.json``.

    Attributes:
        engine: what runs the graph.
        precision: "float32", or "int8" where convolutions were quantised.
        files: file name -> SHA-256.
        classes: class names, in the order of the logits.
        input: what the graph takes, float32 of shape (N, H, W): "pixels" as read from a file, of any size; or
            "prepared", slices in 0..255 and of the network's size from :func:`gyrus.preprocess.prepare`, where the head
            has to be found first.
        outputs: names of what it gives, in order.
        temperature: that the logits are divided by before the softmax; 1 where the model is not calibrated.
        preprocess: how an image becomes the network's input, whether inside or outside the graph.
        model: what the source model's ``model.json`` says, with the SHA-256 of its weights.
        parity: how far the float32 graph is from torch on the slices it was checked on.
        int8: how far the quantised graph is, and what it was calibrated on; None for float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Engine
    precision: Literal["float32", "int8"] = "float32"
    files: dict[str, str]
    classes: tuple[str, ...] = Field(min_length=2)
    input: GraphInput
    outputs: tuple[str, ...]
    temperature: float = Field(default=1.0, gt=0)
    preprocess: Preprocess
    model: dict[str, Any]
    parity: dict[str, Any] = {}
    int8: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it, with the schema."""
        return {"schema": SCHEMA, **self.model_dump()}

    def save(self, folder: Path) -> None:
        """Write ``export.json``."""
        write_json(folder / DESCRIPTION, self.document())


class Outputs(NamedTuple):
    """What a graph says about N slices.

    Attributes:
        logits: (N, C) float32.
        probabilities: (N, C) float32, rows summing to 1.
        class_map: (N, C, h, w) float32, raw, at feature size; None where the model has none.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    class_map: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported model, ready to run on the CPU.

    Attributes:
        description: what it is and how it was checked.
        graph: runs it.
    """

    description: Description
    graph: Run

    @classmethod
    def load(cls, folder: Path, *, threads: int | None = None) -> Exported:
        """Read a folder that ``gyrus export`` wrote.

        Args:
            folder: of ``export.json`` and the graph.
            threads: to run on; by default ``OMP_NUM_THREADS``, or every core this process may use.

        Raises:
            InputError: a file is missing, or is not the one that was exported.
            MissingExtraError: the engine is not installed.
        """
        description = _read(folder)
        for name, digest in description.files.items():
            file = folder / name
            if not file.is_file():
                raise InputError(f"{file} does not exist: copy the exported folder again, whole")
            if sha256(file) != digest:
                raise InputError(f"{file} is not the file that was exported (SHA-256 differs): copy or export it again")
        start = _start_onnx if description.engine == "onnx" else _start_openvino
        path = folder / GRAPHS[description.engine]
        return cls(description, start(path, description, threads or _usable_threads()))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.description.classes

    def take(self, image: Image) -> NDArray[np.float32]:
        """Return what the graph takes of an image, (H, W): its pixels, or the slice prepared from them."""
        if self.description.input == "pixels":
            return image.pixels
        return prepare(image, self.description.preprocess).astype(np.float32)

    def run(self, slices: NDArray[np.float32]) -> Outputs:
        """Run the graph.

        Args:
            slices: (N, H, W) float32, what :meth:`take` returns of images of one size, stacked.
        """
        logits, probabilities, *rest = self.graph(np.ascontiguousarray(slices, dtype=np.float32))
        return Outputs(logits, probabilities, rest[0] if rest else None)

    def run_all(self, slices: Sequence[NDArray[np.float32]]) -> Outputs:
        """Run the graph on slices of any sizes, those of one size together; the outputs are in order."""
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, pixels in enumerate(slices):
            alike[pixels.shape].append(i)
        order = [i for group in alike.values() for i in group]
        parts = [self.run(np.stack([slices[i] for i in group])) for group in alike.values()]
        back = np.argsort(order)
        logits, probabilities, maps = zip(*parts, strict=True)
        class_map = None if maps[0] is None else np.concatenate(maps)[back]
        return Outputs(np.concatenate(logits)[back], np.concatenate(probabilities)[back], class_map)


def predict_exported(
    model: Exported,
    records: Sequence[Record],
    *,
    batch_size: int = BATCH,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Classify slices, as :func:`gyrus.predict` does with torch.

    Args:
        model: from :meth:`Exported.load`.
        records: slices, labelled or not.
        batch_size: slices per pass, where they are of one size.
        keep_going: give an unreadable file a row that says why, instead of raising.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    logits = np.full((len(records), len(model.classes)), np.nan, dtype=np.float32)
    reasons = [""] * len(records)
    start = 0
    for chunk, taken in read_ahead(records, lambda r: model.take(r.read()), batch_size, keep_going=keep_going):
        readable = {start + i: pixels for i, pixels in enumerate(taken) if not isinstance(pixels, InputError)}
        if readable:
            logits[list(readable)] = model.run_all(list(readable.values())).logits
        for i, error in enumerate(taken):
            if isinstance(error, InputError):
                reasons[start + i] = str(error)
        start += len(chunk)
        if progress:
            progress("predicting", start, len(records))
    status = [UNREADABLE if reason else OK for reason in reasons]
    return Predictions.of_records(model.classes, records, logits, status, reasons)


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / DESCRIPTION).is_file()


def exported_engine(folder: Path) -> str:
    """Return the engine that a folder was exported for.

    Raises:
        InputError: its description is damaged.
    """
    return _read(folder).engine


def graph_input(preprocess: Preprocess) -> GraphInput:
    """Return what the graph of a model with this preprocessing takes.

    Where the head is looked for, by contours and connected parts, which no graph of either runtime can express, that is
    done before.
    """
    return "pixels" if preprocess.crop == "none" and preprocess.background == "keep" else "prepared"


def output_names(has_class_map: bool) -> tuple[str, ...]:
    """Return the names of a graph's outputs, in order."""
    return ("logits", "probabilities", *(["class_map"] if has_class_map else []))


def import_engine(engine: str) -> ModuleType:
    """Import what runs the graphs of an engine.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_onnxruntime() if engine == "onnx" else import_openvino()


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    ``import openvino`` imports its converter, which gyrus does not use, and the converter's import alone sends an event
    to Google Analytics and writes an identifier into the home folder. The converter is kept from being found for that
    one moment; OpenVINO then goes on without it, as its own code provides for.

    Raises:
        MissingExtraError: it is not installed.
    """
    converter = "openvino.tools.ovc"
    hidden = "openvino" not in sys.modules and converter not in sys.modules
    if hidden:
        sys.modules[converter] = None  # type: ignore[assignment]  # an import of it now raises ImportError
    try:
        return _imported("openvino")
    finally:
        if hidden:
            del sys.modules[converter]


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime, with the telemetry off that its builds for Windows have.

    Raises:
        MissingExtraError: it is not installed.
    """
    runtime = _imported("onnxruntime")
    runtime.disable_telemetry_events()
    return runtime


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(name, "export") from None


def _read(folder: Path) -> Description:
    path = folder / DESCRIPTION
    value = read_json(path, "an exported model's description")
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        raise InputError(f"{path} is not of schema {SCHEMA!r}: was it written by another program?")
    try:
        description = Description.model_validate(value)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"{path}: {where}: {error.errors()[0]['msg']}: restore the file as it was exported") from None
    if GRAPHS[description.engine] not in description.files:
        raise InputError(f"{path} names no {GRAPHS[description.engine]} among its files: restore it as it was exported")
    return description


def _usable_threads() -> int:
    """Return OMP_NUM_THREADS, which torch obeys too, or the number of cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_onnx(path: Path, description: Description, threads: int) -> Run:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda slices: session.run(list(description.outputs), {description.input: slices})


def _start_openvino(path: Path, description: Description, threads: int) -> Run:
    openvino = import_openvino()
    # By default OpenVINO computes in bfloat16 where the processor can, which is not what parity was measured in.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(slices: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        found = compiled({description.input: slices})
        return [found[name] for name in description.outputs]

    return run
