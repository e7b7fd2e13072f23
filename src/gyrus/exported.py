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
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.numpy import load as load_arrays

from gyrus.appearance import Fault, find_faults, measure
from gyrus.artifacts import read_json, sha256, write_json
from gyrus.certainty import Calibration
from gyrus.certainty.novelty import Reference
from gyrus.certainty.upright import UPRIGHT, Edges, edges
from gyrus.errors import InputError, MissingExtraError
from gyrus.io import Image
from gyrus.loading import Progress, read_ahead
from gyrus.paths import PathLike
from gyrus.predictions import Predictions
from gyrus.preprocess import Preprocess, prepare, prepare_framed
from gyrus.records import Record
from gyrus.refusal import Observed, Place, answers
from gyrus.sequences.recogniser import sequence_of

SCHEMA = "gyrus.export/1"
DESCRIPTION, UPRIGHT_FILE = "export.json", f"{UPRIGHT}.safetensors"
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
        calibration: of the model, or None. It was fitted on the float32 network, and an int8 graph is another one:
            nothing promises that its sets and refusals hold.
        preprocess: how an image becomes the network's input, whether inside or outside the graph.
        model: what else the source model's ``model.json`` says, with the SHA-256 of its weights.
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
    calibration: Calibration | None = None
    preprocess: Preprocess
    model: dict[str, Any]
    parity: dict[str, Any] = {}
    int8: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = self.calibration
        if ("novelty" in self.outputs) != (found is not None):
            raise ValueError("a graph has a novelty output exactly if its model is calibrated")
        if found is not None and (set(found.thresholds), found.temperature) != (set(self.classes), self.temperature):
            raise ValueError("the calibration is of other classes, or another temperature, than the graph")
        return self

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it, with the schema."""
        return {"schema": SCHEMA, **self.model_dump()}

    def save(self, folder: PathLike) -> None:
        """Write ``export.json``."""
        write_json(Path(folder) / DESCRIPTION, self.document())


class Outputs(NamedTuple):
    """What a graph says about N slices.

    Attributes:
        logits: (N, C) float32.
        probabilities: (N, C) float32, rows summing to 1.
        class_map: (N, C, h, w) float32, raw, at feature size; None where the model has none.
        novelty: (N,) float32; None where the model is not calibrated.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    class_map: NDArray[np.float32] | None
    novelty: NDArray[np.float32] | None = None


class Look(NamedTuple):
    """What is asked of one image.

    Attributes:
        taken: (H, W) float32, what the graph takes.
        edges: (1728,) of the slice as the network sees it; like what follows, of a calibrated model alone.
        faults: of the picture.
        place: of the network's square on it.
        sequence: (4,) from :func:`gyrus.sequences.recogniser.sequence_of`.
    """

    taken: NDArray[np.float32]
    edges: Edges | None
    faults: tuple[Fault, ...]
    place: Place | None
    sequence: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Exported:
    """An exported model, ready to run on the CPU.

    Attributes:
        description: what it is and how it was checked.
        graph: runs it.
        reference: of a calibrated model the weights ``upright`` that tell a slice upside down; empty otherwise.
    """

    description: Description
    graph: Run
    reference: Reference

    @classmethod
    def load(cls, folder: PathLike, *, threads: int | None = None) -> Exported:
        """Read a folder that ``gyrus export`` wrote.

        Args:
            folder: of ``export.json``, the graph and, of a calibrated model, ``upright.safetensors``.
            threads: to run on; by default ``OMP_NUM_THREADS``, or every core this process may use.

        Raises:
            InputError: a file is missing, or is not the one that was exported.
            MissingExtraError: the engine is not installed.
        """
        folder = Path(folder)
        description = _read(folder)
        for name, digest in description.files.items():
            file = folder / name
            if not file.is_file():
                raise InputError(f"{file} does not exist: copy the exported folder again, whole")
            if sha256(file) != digest:
                raise InputError(f"{file} is not the file that was exported (SHA-256 differs): copy or export it again")
        start = _start_onnx if description.engine == "onnx" else _start_openvino
        path = folder / GRAPHS[description.engine]
        reference: Reference = {}
        if description.calibration is not None:
            reference = load_arrays((folder / UPRIGHT_FILE).read_bytes())
        return cls(description, start(path, description, threads or _usable_threads()), reference)

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
        said = self.graph(np.ascontiguousarray(slices, dtype=np.float32))
        named = dict(zip(self.description.outputs, said, strict=True))
        return Outputs(named["logits"], named["probabilities"], named.get("class_map"), named.get("novelty"))

    def run_all(self, slices: Sequence[NDArray[np.float32]]) -> Outputs:
        """Run the graph on slices of any sizes, those of one size together; the outputs are in order."""
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, pixels in enumerate(slices):
            alike[pixels.shape].append(i)
        order = [i for group in alike.values() for i in group]
        parts = [self.run(np.stack([slices[i] for i in group])) for group in alike.values()]
        back = np.argsort(order)

        def together(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
            return np.asarray(np.concatenate(arrays)[back])

        logits, probabilities, maps, novelty = zip(*parts, strict=True)
        return Outputs(
            together(logits),
            together(probabilities),
            None if maps[0] is None else together(maps),
            None if novelty[0] is None else together(novelty),
        )

    def look(self, image: Image) -> Look:
        """Return everything that is asked of an image: what the graph takes, and what a calibrated model looks at."""
        if self.description.calibration is None:
            return Look(self.take(image), None, (), None, None)
        prepared, frame = prepare_framed(image, self.description.preprocess)
        return Look(
            image.pixels if self.description.input == "pixels" else prepared.astype(np.float32),
            edges(prepared[None])[0],
            find_faults(measure(image)),
            Place(frame, image.spacing),
            sequence_of(image),
        )


def predict_exported(
    model: Exported,
    records: Sequence[Record],
    *,
    batch_size: int = BATCH,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Classify slices, and judge them where the model is calibrated, as :func:`gyrus.predict` does with torch.

    Args:
        model: from :meth:`Exported.load`.
        records: slices, labelled or not.
        batch_size: slices per pass, where they are of one size.
        keep_going: give an unreadable file a row that says why, instead of raising.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """
    seen = Observed.nothing(len(records), len(model.classes))
    start = 0
    for chunk, looks in read_ahead(records, lambda r: model.look(r.read()), batch_size, keep_going=keep_going):
        found = {start + i: look for i, look in enumerate(looks) if not isinstance(look, InputError)}
        if found:
            rows, said = list(found), model.run_all([look.taken for look in found.values()])
            seen.logits[rows] = said.logits
            if said.novelty is not None:
                seen.novelty[rows] = said.novelty
                if said.class_map is not None:
                    seen.keep_maps(rows, said.class_map[np.arange(len(rows)), said.logits.argmax(axis=1)])
        for row, look in found.items():
            if look.edges is not None and look.place is not None and look.sequence is not None:
                seen.edges[row], seen.faults[row], seen.places[row] = look.edges, look.faults, look.place
                seen.sequences[row] = look.sequence
        seen.errors |= {start + i: str(look) for i, look in enumerate(looks) if isinstance(look, InputError)}
        start += len(chunk)
        if progress:
            progress("predicting", start, len(records))
    return answers(model.classes, records, seen, model.description.calibration, model.reference)


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


def output_names(*, has_class_map: bool, calibrated: bool) -> tuple[str, ...]:
    """Return the names of a graph's outputs, in order."""
    return ("logits", "probabilities", *(["class_map"] * has_class_map), *(["novelty"] * calibrated))


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
    for name in (GRAPHS[description.engine], *([UPRIGHT_FILE] if description.calibration else [])):
        if name not in description.files:
            raise InputError(f"{path} names no {name} among its files: export the model again, by this gyrus")
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
