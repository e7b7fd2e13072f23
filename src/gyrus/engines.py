"""Which engine runs a model, and files classified by an exported one. No torch here, so that it need not be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gyrus.artifacts import refuse_existing
from gyrus.datasets import records_in
from gyrus.datasets.cases import Slices
from gyrus.errors import InputError
from gyrus.exported import DESCRIPTION, GRAPHS, Exported, evidence, exported_engine, is_exported, predict_exported
from gyrus.loading import Progress
from gyrus.predictions import Predictions
from gyrus.shipped import find_model

ENGINES = ("torch", *GRAPHS)


def choose_engine(model: Path, engine: str | None = None) -> str:
    """Return the engine for a model, after making sure that it is for this one.

    Args:
        model: a model's folder, the run that trained it, or the folder it was exported to.
        engine: "torch", "onnx" or "openvino", or None for what the model is for.

    Raises:
        InputError: there is no such engine, or the model is for another.
    """
    if engine not in (None, *ENGINES):
        raise InputError(f"there is no engine {engine!r}: choose one of {', '.join(ENGINES)}")
    own = exported_engine(model) if is_exported(model) else "torch"
    if engine in (None, own):
        return own
    if not find_model(model).exists():
        raise InputError(f"{model} does not exist: name a model's folder, a run, or an exported model")
    if own == "torch":
        raise InputError(
            f"{model} is a torch model: export it first, by `gyrus export {model} --to {engine} --out FOLDER`, "
            "and name that folder"
        )
    raise InputError(f"{model} was exported for {own}, as its {DESCRIPTION} says: leave --engine out, or name another")


def predict_exported_files(
    folder: Path,
    paths: Sequence[Path],
    *,
    plane: str | None = None,
    slices: Slices = "all",
    keep_going: bool = False,
    save: Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Classify files by an exported model; arguments and errors as :func:`gyrus.predict_files`.

    Raises:
        MissingExtraError: the engine is not installed.
    """
    if device not in ("auto", "cpu"):
        raise InputError(
            f"{folder} is an exported model, which gyrus runs on the CPU, not on {device!r}: choose --device cpu"
        )
    if save is not None:
        refuse_existing(save, "--save")
    records = records_in(paths, plane, slices)
    model = Exported.load(folder)
    made = predict_exported(model, records, keep_going=keep_going, progress=progress)
    if save is not None:
        from gyrus.drawings import save_drawings  # which loads matplotlib

        told = model.description
        drawn = partial(evidence, model, progress=progress)
        save_drawings(drawn, records, made, save, preprocess=told.preprocess, calibration=told.calibration)
    return made
