"""ONNX Runtime and OpenVINO: imported without their telemetry, started on a graph, and what they say of it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError, MissingExtraError

Run = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]
Shape = tuple[int | None, ...]
"""Of what a graph takes or gives; None where a side may be of any length."""


class Started(NamedTuple):
    """A graph that an engine has read.

    Attributes:
        run: the slices that it takes to the outputs that were asked for, in their order.
        inputs: name -> shape.
        outputs: name -> shape.
    """

    run: Run
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def start_engine(engine: str, path: Path, *, taken: str, given: Sequence[str], threads: int | None = None) -> Started:
    """Read a graph.

    Args:
        engine: "onnx" or "openvino".
        path: the graph.
        taken: the name of its input.
        given: the names of its outputs, in the order that they are wanted in.
        threads: to run on; by default ``OMP_NUM_THREADS``, or every core this process may use.

    Raises:
        InputError: the engine cannot read the file.
        MissingExtraError: it is not installed.
    """
    import_engine(engine)
    start = _start_onnx if engine == "onnx" else _start_openvino
    return start(path, taken, list(given), threads or _usable_threads())


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


def _usable_threads() -> int:
    """Return OMP_NUM_THREADS, which torch obeys too, or the number of cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _reading(path: Path, engine: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn the errors that an engine raises at a graph it cannot read into one sentence."""
    try:
        yield
    except errors as error:
        raise InputError(
            f"{path} is no graph that {engine} can run ({type(error).__name__}): export it again"
        ) from error


def _onnx_errors() -> tuple[type[Exception], ...]:
    """Return the errors of ONNX Runtime's own, which share no base but Exception."""
    state = vars(importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state"))
    return tuple(kind for kind in state.values() if isinstance(kind, type) and issubclass(kind, Exception))


def _start_onnx(path: Path, taken: str, given: list[str], threads: int) -> Started:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = path.read_bytes()  # it takes no path that is not UTF-8
    with _reading(path, "onnx", _onnx_errors()):
        session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def shapes(nodes: Sequence[Any]) -> dict[str, Shape]:
        return {n.name: tuple(side if isinstance(side, int) else None for side in n.shape) for n in nodes}

    return Started(
        lambda slices: session.run(given, {taken: slices}), shapes(session.get_inputs()), shapes(session.get_outputs())
    )


def _start_openvino(path: Path, taken: str, given: list[str], threads: int) -> Started:
    openvino = import_openvino()
    # By default OpenVINO computes in bfloat16 where the processor can, which is not what parity was measured in.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    with _reading(path, "openvino", (RuntimeError,)):
        compiled = core.compile_model(core.read_model(path), "CPU", settings)

    def run(slices: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        found = compiled({taken: slices})
        return [found[name] for name in given]

    def shapes(nodes: Sequence[Any]) -> dict[str, Shape]:
        return {
            name: tuple(None if side.is_dynamic else side.get_length() for side in n.partial_shape)
            for n in nodes
            for name in n.names
        }

    return Started(run, shapes(compiled.inputs), shapes(compiled.outputs))
