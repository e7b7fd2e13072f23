"""Exporting a model: the graph, its check against torch, its quantisation, its description."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save as save_arrays

from gyrus.artifacts import refuse_existing, sha256, stage_folder
from gyrus.certainty.novelty import Reference
from gyrus.certainty.upright import UPRIGHT
from gyrus.datasets import open_dataset, records_in
from gyrus.errors import InputError
from gyrus.export.graph import write_onnx
from gyrus.export.int8 import quantise
from gyrus.export.parity import Parity, compare
from gyrus.exported import (
    GRAPHS,
    UPRIGHT_FILE,
    Description,
    Exported,
    graph_input,
    is_exported,
    output_names,
)
from gyrus.loading import Progress
from gyrus.models import Classifier, load_model
from gyrus.models.saved import WEIGHTS, model_folder
from gyrus.paths import PathLike, PathLikes, all_paths
from gyrus.phantom import make_phantom
from gyrus.records import Record
from gyrus.runtimes import import_engine, import_openvino

PROBABILITY_LIMIT = 0.02
MAP_LIMIT = 0.02
NOVELTY_LIMIT = 0.02
"""Largest differences accepted of a float32 graph. A pixel that lies between two grey levels may be rounded to the
other one, on some slices one in two hundred, and moves a probability by some thousandths; what is wrong does more."""
OTHER_ANSWER_LIMIT = 0.05
"""Largest share accepted of slices that a float32 graph of a calibrated model answers otherwise, or one slice: a limit
is the score of some slice of the calibration, and rounding may move a slice so close to it across."""
SAME_CLASS_LIMIT = 0.9
RANK_LIMIT = 0.9
"""Lowest values accepted of an int8 graph, which is a different model: share of slices with the same class, and median
rank correlation of the maps."""
CALIBRATION_SLICES = 128
"""That are used at most, evenly over those given: ranges hardly move with more."""
PHANTOM_PATIENTS = 8
FITTED_ON_FLOAT = "The calibration was fitted on the float32 network; nothing promises that it holds for this graph."


def export_model(
    model: PathLike,
    out: PathLike,
    *,
    to: str,
    int8: bool = False,
    check: PathLikes | None = None,
    calibrate: PathLikes | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a model as one graph, once it is shown to do what torch does.

    Args:
        model: its folder, or the run that trained it, which stands for its calibrated model where there is one.
        out: the folder to write: the graph, ``export.json``, and of a calibrated model what tells a slice upside down.
        to: "onnx" or "openvino".
        int8: quantise the convolutions; see :func:`gyrus.export.int8.quantise`.
        check: files, folders or datasets, on whose slices the graph is compared with torch; by default a phantom of 24.
        calibrate: likewise, what int8 takes the ranges of activations from; training slices, by default those of
            ``check``.
        progress: called as work goes on.

    Returns:
        The JSON document of ``gyrus export``: the description that is saved, and ``out``.

    Raises:
        InputError: ``out`` exists, the model or a slice cannot be read, or the graph differs from torch by more than
            the limits above; then nothing is written.
        MissingExtraError: a package of the extra ``export`` is not installed.
    """
    model, out = Path(model), Path(out)
    check, calibrate = all_paths(check or ()), all_paths(calibrate or ())
    if to not in GRAPHS:
        raise InputError(f"there is no engine {to!r} to export to: choose {' or '.join(GRAPHS)}")
    if calibrate and not int8:
        raise InputError("--calibrate is about int8: add --int8, or leave it out")
    if is_exported(model):
        raise InputError(f"{model} is an exported model already: name the model it was made from")
    refuse_existing(out)
    for engine in {"onnx", to}:  # whatever may be missing is missed before any work is done
        import_engine(engine)
    home = model_folder(model)
    network = load_model(home)
    places = {"check": check, "calibrate": calibrate}
    arguments = {"to": to, "int8": int8} | {k: [str(p) for p in v] if v else None for k, v in places.items()}
    with _checked_on(check) as checked, stage_folder(out, "export", arguments=arguments) as folder:
        ranges = _evenly(records_in(calibrate) if calibrate else checked, CALIBRATION_SLICES)
        description = describe_graph(network, to, sha256(home / WEIGHTS))
        with tempfile.TemporaryDirectory() as scratch:
            source, quantised = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
            write_onnx(network, source)
            place = Path(scratch) / "float32" if int8 else folder
            description = install(source, place, description, network.reference)
            graph = Exported.load(place)
            parity = compare(network, graph, checked, progress=progress)
            _require_equal(parity, model)
            description = description.model_copy(update={"parity": asdict(parity)})
            if int8:
                quantise(source, quantised, graph, ranges, progress=progress)
                description = description.model_copy(update={"precision": "int8"})
                description = install(quantised, folder, description, network.reference)
                change = compare(network, Exported.load(folder), checked, progress=progress)
                _require_usable(change, model)
                facts = {"calibration_slices": len(ranges), "calibrated_on_checked": not calibrate, **asdict(change)}
                facts["warning"] = FITTED_ON_FLOAT if description.calibration is not None else ""
                description = description.model_copy(update={"int8": facts})
        description.save(folder)
    return {**description.document(), "out": str(out)}


@contextmanager
def _checked_on(paths: Sequence[Path]) -> Iterator[list[Record]]:
    """Yield the slices to check on; those of a phantom are there only as long as they are needed."""
    if paths:
        yield records_in(paths)
        return
    with tempfile.TemporaryDirectory() as scratch:
        made = make_phantom(Path(scratch) / "phantom", patients=PHANTOM_PATIENTS, slices_per_plane=1)
        yield list(open_dataset(made))


def _evenly(records: Sequence[Record], most: int) -> list[Record]:
    """Return at most so many records, from the first to the last at even steps."""
    n = min(most, len(records))
    return [records[i * len(records) // n] for i in range(n)]


def describe_graph(network: Classifier, to: str, digest: str) -> Description:
    """Return the description of a graph that is not written yet, given the SHA-256 of the model's weights."""
    spec = network.spec
    calibration = spec.calibration
    return Description(
        engine=to,
        files={},
        classes=spec.classes,
        input=graph_input(spec.preprocess),
        outputs=output_names(has_class_map=network.has_class_map, calibrated=calibration is not None),
        temperature=1.0 if calibration is None else calibration.temperature,
        calibration=calibration,
        preprocess=spec.preprocess,
        model={"sha256": digest, **spec.model_dump(exclude={"calibration"})},
    )


def install(source: Path, folder: Path, description: Description, reference: Reference) -> Description:
    """Write an ONNX file as the graph of an engine, and what belongs to it, into a folder.

    Args:
        source: the ONNX file.
        folder: made where it is not there.
        description: of the graph.
        reference: what is kept beside the model's weights; the runner of a calibrated one needs ``upright``.

    Returns:
        The description with the hashes, as it was written.
    """
    folder.mkdir(exist_ok=True)
    graph = folder / GRAPHS[description.engine]
    if description.engine == "onnx":
        shutil.copyfile(source, graph)
    else:
        openvino = import_openvino()
        # Not openvino.convert_model, which reports its use to Intel; and whole floats, not halves as by default.
        read = openvino.Core().read_model(source)
        try:
            openvino.save_model(read, graph, compress_to_fp16=False)
        except RuntimeError as error:  # what it makes of a full disk
            raise OSError(errno.ENOSPC, "it cannot be written; is the disk full?", str(graph)) from error
    written = [graph, *([graph.with_suffix(".bin")] if description.engine == "openvino" else [])]
    if description.calibration is not None:
        (folder / UPRIGHT_FILE).write_bytes(save_arrays({UPRIGHT: np.ascontiguousarray(reference[UPRIGHT])}))
        written.append(folder / UPRIGHT_FILE)
    hashed = description.model_copy(update={"files": {p.name: sha256(p) for p in written}})
    hashed.save(folder)
    return hashed


def _require_equal(parity: Parity, model: Path) -> None:
    """Raise unless a float32 graph does what torch does, as far as rounding allows.

    Raises:
        InputError: it does not.
    """
    found = {
        "a probability": (parity.probability_difference, PROBABILITY_LIMIT),
        "a class map, as a share of its maximum,": (parity.map_difference or 0.0, MAP_LIMIT),
        "the novelty score, as a share of its size,": (parity.novelty_difference or 0.0, NOVELTY_LIMIT),
    }
    for what, (difference, limit) in found.items():
        if difference > limit:
            raise InputError(
                f"{model} is not exported: on the slices checked {what} differs from torch's by {difference:.3g}, more "
                f"than the {limit:g} that rounding explains: check on other slices, and if it stays so, report it"
            )
    if parity.same_answer is None:
        return
    others = round((1 - parity.same_answer) * parity.slices)
    if others > max(1, OTHER_ANSWER_LIMIT * parity.slices):
        raise InputError(
            f"{model} is not exported: {others} of the {parity.slices} slices checked get another status or set than "
            f"by torch, more than the {OTHER_ANSWER_LIMIT:.0%} that rounding explains: check on other slices, and if "
            "it stays so, report it"
        )


def _require_usable(change: Parity, model: Path) -> None:
    """Raise if 8-bit integers have made another model of it.

    Raises:
        InputError: the class or the map is too often another.
    """
    rank = change.map_rank_correlation
    if change.same_class < SAME_CLASS_LIMIT or (rank is not None and rank < RANK_LIMIT):
        maps = "" if rank is None else f" and the maps' median rank correlation is {rank:.3f}"
        raise InputError(
            f"{model} is not exported: in int8 it predicts torch's class on {change.same_class:.1%} of the slices "
            f"checked{maps}, where {SAME_CLASS_LIMIT:.0%} and {RANK_LIMIT:g} are asked for: name training slices by "
            "--calibrate and slices like them by --check, or leave --int8 out"
        )
