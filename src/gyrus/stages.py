"""The stages as one call each: training, and predicting and explaining a run's own part or any files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gyrus.artifacts import is_finished, read_json, refuse_existing, stage_folder
from gyrus.datasets import open_dataset, records_in
from gyrus.datasets.cases import Slices
from gyrus.devices import pick_device
from gyrus.drawings import save_drawings
from gyrus.engines import choose_engine, predict_exported_files
from gyrus.errors import InputError
from gyrus.explain import DEFAULT_METHODS, explain_records
from gyrus.inference import evidence, predict
from gyrus.loading import Progress
from gyrus.maps import Maps
from gyrus.models import Classifier, load_model
from gyrus.paths import PathLike, PathLikes, all_paths, maybe_path
from gyrus.predictions import Predictions, joined
from gyrus.rundata import joint_statement, open_folds, open_run_data
from gyrus.splits import Split
from gyrus.training import EPOCHS, SPLIT, TrainConfig, fit, read_recipe


def train_run(
    data: PathLike,
    split: PathLike,
    config: TrainConfig,
    out: PathLike,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Open a dataset and a split, :func:`fit`, and return what was learned epoch by epoch.

    Returns:
        ``{"schema", "run", "statement", "classes", "chosen_epoch", "epochs": rows of epochs.csv}``.

    Raises:
        InputError: as :func:`fit`.
    """
    fit(open_dataset(data), Split.load(split), config, out, resume=resume, progress=progress)
    return _finished(Path(out))


def train_folds(
    data: PathLike,
    splits: PathLike,
    config: TrainConfig,
    out: PathLike,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train one run per split in a folder, as ``gyrus split --folds`` writes them, into ``OUT/fold-1`` and so on.

    Args:
        data: the dataset the splits were made for.
        splits: a folder of splits.
        config: the recipe of every run; where ``pretrained`` or ``guide`` is a folder of runs, each
            takes that of its name.
        out: the folder of the runs.
        resume: leave finished runs as they are, and continue the unfinished one.
        progress: called after each step.

    Returns:
        ``{"schema", "runs": what :func:`train_run` returns for each}``; of a run finished before, read from its files.

    Raises:
        InputError: no split in the folder, or as :func:`fit`.
    """
    splits, out = Path(splits), Path(out)
    files = sorted(splits.glob("*.json"), key=lambda p: (len(p.name), p.name))
    if not files:
        raise InputError(f"{splits} holds no split: make them with `gyrus split --folds`")
    if not resume:
        refuse_existing(out)
    recipes = _recipes(config, [file.stem for file in files])
    runs = []
    for file, recipe in zip(files, recipes, strict=True):
        run = out / file.stem
        if not is_finished(run):
            runs.append(train_run(data, file, recipe, run, resume=run.exists(), progress=progress))
            continue
        if Split.load(run / SPLIT) != Split.load(file) or read_recipe(run) != recipe:
            raise InputError(f"{run} was trained with another split or recipe: choose another --out, or remove it")
        runs.append(_finished(run))
    return {"schema": "gyrus.trainings/1", "runs": runs}


def _recipes(config: TrainConfig, names: Sequence[str]) -> list[TrainConfig]:
    """Return the recipe of each fold: what is a folder of runs becomes the one run of its name."""
    given = {"pretrained": config.begun, "guide": config.teacher}
    folders = {k: p for k, p in given.items() if p is not None and any((p / name).is_dir() for name in names)}
    for folder in folders.values():
        missing = next((name for name in names if not is_finished(folder / name)), None)
        if missing:
            raise InputError(f"{folder} has no finished run {missing}, which this fold needs: train it first")
    return [config.model_copy(update={k: str(p / name) for k, p in folders.items()}) for name in names]


def _finished(run: Path) -> dict[str, Any]:
    """Return what :func:`train_run` did, from a finished run's files."""
    spec, split = read_json(run / "model" / "model.json", "a model's description"), Split.load(run / SPLIT)
    return {
        "schema": "gyrus.training/1",
        "run": str(run),
        "statement": split.statement,
        "classes": tuple(spec["classes"]),
        "chosen_epoch": spec["training"]["epoch"],
        "epochs": _epochs(run),
    }


def _epochs(run: Path) -> list[dict[str, float]]:
    with (run / EPOCHS).open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def predict_run(
    run: PathLike,
    *,
    data: PathLike | None = None,
    part: str = "test",
    out: PathLike | None = None,
    keep_going: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Classify one part of the split a run was trained with, into ``RUN/predict``.

    Args:
        run: a finished training run, or the folder of the runs of one cross-validation: each classifies its own part,
            so that the test parts together are every slice, classified by a model that never saw its group.
        data: the dataset, where it has moved since training.
        part: "test", "val" or "train".
        out: the folder to write; ``RUN/predict`` by default.
        keep_going: give an unreadable file a row that says why, instead of raising.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Raises:
        InputError: the run is unfinished, the data has changed or cannot be read, ``out`` exists.
    """
    run, data, out = Path(run), maybe_path(data), maybe_path(out)
    folds = open_folds(run, data)
    statement = joint_statement([fold.split for fold in folds])
    models = [load_model(fold.run, device=pick_device(device)) for fold in folds]
    facts = {"preprocess": models[0].spec.preprocess.model_dump(), "split": statement}
    with stage_folder(out or run / "predict", "predict", arguments={"part": part}, facts=facts) as folder:
        parts = []
        for model, fold in zip(models, folds, strict=True):
            records = list(fold.dataset.select(fold.split.part(part)))
            parts.append(predict(model, records, keep_going=keep_going, statement=statement, progress=progress))
        predictions = joined(parts)
        predictions.save(folder / "predictions.json")
    return predictions


def predict_files(
    model: PathLike | Classifier,
    paths: PathLikes,
    *,
    plane: str | None = None,
    slices: Slices = "all",
    keep_going: bool = False,
    engine: str | None = None,
    save: PathLike | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Predictions:
    """Classify image files, the slices of volumes, folders of them, or datasets.

    Args:
        model: a model, its folder, the run that trained it, the folder it was exported to, or "gyrus-base", the model
            in the package.
        paths: what to classify, one or several; labels and patients are taken along from datasets.
        plane: of the slices of volumes; by default as acquired.
        slices: which ones of each volume: "all", "middle", or indices from 0.
        keep_going: give an unreadable file a row that says why, instead of raising.
        engine: "torch", "onnx" or "openvino"; by default what the model is for.
        save: a folder to draw each answer into, see :func:`gyrus.drawings.save_drawings`.
        device: "cpu", "cuda", or "auto"; an exported model runs on the CPU.
        progress: called as work goes on.

    Raises:
        InputError: nothing to classify, an unreadable file without ``keep_going``, an unusable model, one that is not
            for this engine, or ``save`` exists.
        MissingExtraError: the engine is not installed.
    """
    paths, save = all_paths(paths), maybe_path(save)
    if not isinstance(model, Classifier):
        model = Path(model)
    if isinstance(model, Path) and choose_engine(model, engine) != "torch":
        return predict_exported_files(
            model, paths, plane=plane, slices=slices, keep_going=keep_going, save=save, device=device, progress=progress
        )
    if save is not None:
        refuse_existing(save, "--save")
    records = records_in(paths, plane, slices)
    loaded = model if isinstance(model, Classifier) else load_model(model, device=pick_device(device))
    made = predict(loaded, records, keep_going=keep_going, progress=progress)
    if save is not None:
        drawn, spec = partial(evidence, loaded, progress=progress), loaded.spec
        save_drawings(drawn, records, made, save, preprocess=spec.preprocess, calibration=spec.calibration)
    return made


def explain_run(
    run: PathLike,
    *,
    data: PathLike | None = None,
    part: str = "test",
    methods: Sequence[str] = DEFAULT_METHODS,
    layers: Sequence[str] | None = None,
    out: PathLike | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Maps:
    """Explain one part of the split a run was trained with, into ``RUN/explain``.

    Args:
        run: a finished training run.
        data: the dataset, where it has moved since training.
        part: "test", "val" or "train".
        methods: names from :func:`gyrus.list_methods`.
        layers: module names; by default the last feature map.
        out: the folder to write; ``RUN/explain`` by default.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Raises:
        InputError: as :func:`predict_run` and :func:`gyrus.explain_records`.
    """
    run, out = Path(run), maybe_path(out)
    dataset, split = open_run_data(run, data)
    model = load_model(run, device=pick_device(device))
    arguments = {"part": part, "methods": list(methods), "layers": layers}
    facts = {"split": split.statement}
    with stage_folder(out or run / "explain", "explain", arguments=arguments, facts=facts) as folder:
        records = list(dataset.select(split.part(part)))
        maps = explain_records(model, records, methods=methods, layers=layers, progress=progress)
        maps.save(folder)
    return maps


def explain_files(
    model: PathLike,
    paths: PathLikes,
    out: PathLike,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    layers: Sequence[str] | None = None,
    plane: str | None = None,
    slices: Slices = "all",
    device: str = "auto",
    progress: Progress | None = None,
) -> Maps:
    """Explain image files, the slices of volumes, folders of them, or datasets, into a folder of their own.

    Args:
        model: its folder, or the run that trained it.
        paths: what to explain, one or several; where every slice carries a label, the true class is explained too.
        out: the folder to write.
        methods: names from :func:`gyrus.list_methods`.
        layers: module names; by default the last feature map.
        plane: of the slices of volumes; by default as acquired.
        slices: which ones of each volume: "all", "middle", or indices from 0.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Raises:
        InputError: as :func:`predict_files` and :func:`gyrus.explain_records`.
    """
    paths, out = all_paths(paths), Path(out)
    records = records_in(paths, plane, slices)
    loaded = load_model(model, device=pick_device(device))
    arguments = {"methods": list(methods), "layers": layers, "paths": [str(p) for p in paths]}
    with stage_folder(out, "explain", arguments=arguments) as folder:
        maps = explain_records(loaded, records, methods=methods, layers=layers, progress=progress)
        maps.save(folder)
    return maps
