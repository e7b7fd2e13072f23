"""An exported model on disk and in use, by ONNX Runtime or OpenVINO. No torch here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gyrus.appearance import Fault, find_faults, measure
from gyrus.artifacts import plain, read_json, sha256, write_json
from gyrus.certainty import Calibration
from gyrus.certainty.novelty import Reference, read_reference
from gyrus.certainty.upright import UPRIGHT, Edges, edges
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.loading import Progress, read_ahead
from gyrus.paths import PathLike
from gyrus.predictions import Predictions
from gyrus.preprocess import Preprocess, prepare, prepare_framed
from gyrus.records import Record
from gyrus.refusal import Observed, Place, answers
from gyrus.runtimes import Run, Shape, Started, start_engine
from gyrus.sequences.recogniser import sequence_of

SCHEMA = "gyrus.export/1"
DESCRIPTION, UPRIGHT_FILE = "export.json", f"{UPRIGHT}.safetensors"
GRAPHS = {"onnx": "model.onnx", "openvino": "model.xml"}
BATCH = 8
"""Slices per pass: a network on the CPU gains nothing from more, and whole images are kept for each."""

Engine = Literal["onnx", "openvino"]
GraphInput = Literal["pixels", "prepared"]


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
        if not {"logits", "probabilities"} <= set(self.outputs):
            raise ValueError("a graph gives logits and probabilities at least")
        if ("novelty" in self.outputs) != (found is not None):
            raise ValueError("a graph has a novelty output exactly if its model is calibrated")
        if found is not None and (set(found.thresholds), found.temperature) != (set(self.classes), self.temperature):
            raise ValueError("the calibration is of other classes, or another temperature, than the graph")
        if plain(self.model).get("classes", list(self.classes)) != list(self.classes):
            raise ValueError("the classes are not those of the model that was exported, in their order")
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
            InputError: a file is missing, is not the one that was exported, or does not hold what ``export.json`` says.
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
        path = folder / GRAPHS[description.engine]
        reference: Reference = {}
        if description.calibration is not None:
            reference = read_reference(folder / UPRIGHT_FILE, [UPRIGHT])
        started = start_engine(
            description.engine, path, taken=description.input, given=description.outputs, threads=threads
        )
        _require_described(path, description, started)
        return cls(description, started.run, reference)

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
    made = answers(model.classes, records, seen, model.description.calibration, model.reference)
    return replace(made, warning=str((model.description.int8 or {}).get("warning", "")))


def evidence(
    model: Exported, records: Sequence[Record], *, progress: Progress | None = None
) -> Iterator[NDArray[np.float32] | None]:
    """Yield the class map of each slice's predicted class, (h, w), or None where the graph gives no class map.

    Args:
        model: from :meth:`Exported.load`.
        records: slices.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read.
    """
    done = 0
    for chunk, slices in read_ahead(records, lambda r: model.take(r.read()), BATCH):
        said = model.run_all([taken for taken in slices if not isinstance(taken, InputError)])
        for k, predicted in enumerate(said.logits.argmax(axis=1)):
            yield None if said.class_map is None else said.class_map[k, predicted]
        done += len(chunk)
        if progress:
            progress("drawing", done, len(records))


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


def _read(folder: Path) -> Description:
    path = folder / DESCRIPTION
    value = read_json(path, "an exported model's description")
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        raise InputError(f"{path} is not of schema {SCHEMA!r}: was it written by another program?")
    try:
        description = Description.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        said = [str(path), ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")]
        raise InputError(f"{': '.join(filter(None, said))}: restore the file as it was exported") from None
    for name in (GRAPHS[description.engine], *([UPRIGHT_FILE] if description.calibration else [])):
        if name not in description.files:
            raise InputError(f"{path} names no {name} among its files: export the model again, by this gyrus")
    return description


def _require_described(path: Path, description: Description, graph: Started) -> None:
    """Raise unless a graph takes and gives what its description says, as far as its sides are fixed.

    Raises:
        InputError: it does not.
    """
    side = description.preprocess.size if description.input == "prepared" else None
    outputs = description.outputs
    wide = [n for n in ("logits", "probabilities", "class_map") if n in outputs]
    if (
        set(graph.inputs) != {description.input}
        or not _may_be(graph.inputs[description.input], (None, side, side))
        or not set(outputs) <= set(graph.outputs)
        or not all(_may_be(graph.outputs[n][:2], (None, len(description.classes))) for n in wide)
    ):
        raise InputError(
            f"{path} is not the graph that {DESCRIPTION} beside it describes: restore the folder as it was exported"
        )


def _may_be(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes, in which None is any length, can be one."""
    return len(shape) == len(wanted) and all(None in (a, b) or a == b for a, b in zip(shape, wanted, strict=True))
