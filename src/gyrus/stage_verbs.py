"""The verbs that work on a trained model: calibrate, predict, explain, export, evaluate, stress, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from gyrus import prediction_tables, tables
from gyrus.artifacts import is_model_alone
from gyrus.console import progress, show
from gyrus.errors import InputError
from gyrus.options import (
    Device,
    FileModel,
    Json,
    Layers,
    Methods,
    Moved,
    Part,
    Paths,
    Plane,
    Quiet,
    Seed,
    Slices,
    listed,
    placeable,
    slices_of,
)
from gyrus.shipped import find_model

stage_app = typer.Typer()


@stage_app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="A finished training run, or the folder of one cross-validation.")],
    coverage: Annotated[
        float, typer.Option("--coverage", help="How often a slice's set of classes is to hold the true one.")
    ] = 0.95,
    false_refusals: Annotated[
        float, typer.Option("--false-refusals", help="Share of slices of unseen persons that may be refused.")
    ] = 0.01,
    folds: Annotated[
        Path | None,
        typer.Option("--folds", help="Calibrate on the test parts of this cross-validation of the run's recipe."),
    ] = None,
    novelty: Annotated[
        str, typer.Option("--novelty", help="What tells strange slices: mahalanobis, knn or energy.")
    ] = "mahalanobis",
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; default RUN/calibrate.", callback=placeable)
    ] = None,
    data: Moved = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make probabilities mean what they say, on persons held back; from then on predictions may be refused."""
    from gyrus.calibrate import calibrate_run

    with progress(quiet=quiet) as report:
        value = calibrate_run(
            run, folds=folds, data=data, coverage=coverage, false_refusals=false_refusals, novelty=novelty, out=out,
            seed=seed, device=device, progress=report,
        )  # fmt: skip
    show(value, as_json=json, quiet=quiet, tables=tables.calibrations(value))


@stage_app.command()
def predict(
    paths: Paths = None,
    model: FileModel = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .csv or .json file; without PATHS, a folder.", callback=placeable),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="A folder for one picture per slice, outline beside map.", callback=placeable),
    ] = None,
    plane: Plane = None,
    slices: Slices = "all",
    part: Part = "test",
    data: Moved = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Report unreadable files and go on.")] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="torch, onnx or openvino; default: what the model is for.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classify files, folders or datasets; without any, the test part of the run's own split."""
    from gyrus.artifacts import refuse_existing
    from gyrus.engines import choose_engine, predict_exported_files

    model = _named(model, paths, "predict")
    _refuse_run_options(paths, part, data, plane, slices)
    exported = choose_engine(model, engine) != "torch"
    if save and not paths:
        raise InputError("--save draws the answers to files: name them, or see `gyrus report` for a run's own slices")
    if exported and not paths:
        raise InputError(f"{model} is an exported model, which has no split of its own: name files to classify")
    if paths and out:
        refuse_existing(out)
        if out.suffix.lower() not in (".csv", ".json"):
            raise InputError(f"{out} would be a table of unknown form: give it the suffix .csv or .json")
        if save and _overlap(out, save):
            raise InputError(f"{out} and {save} stand in each other's way: choose places apart for --out and --save")
    started = time.monotonic()
    with progress(quiet=quiet) as report:
        if exported and paths:
            made = predict_exported_files(
                model, paths, plane=plane, slices=slices_of(slices), keep_going=keep_going, save=save, device=device,
                progress=report,
            )  # fmt: skip
        elif paths:
            from gyrus.stages import predict_files  # which loads torch

            made = predict_files(
                model, paths, plane=plane, slices=slices_of(slices), keep_going=keep_going, save=save, device=device,
                progress=report,
            )  # fmt: skip
        else:
            from gyrus.stages import predict_run

            made = predict_run(
                model, data=data, part=part, out=out, keep_going=keep_going, device=device, progress=report
            )
    if paths and out:
        out.parent.mkdir(parents=True, exist_ok=True)
        made.save(out)
    lines = prediction_tables.predictions(made)
    lines.append(f"{len(made)} slice{'s' * (len(made) != 1)} in {time.monotonic() - started:.2f} s")
    if save:
        lines.append(f"pictures: {save}")
    show(made.to_dict(), as_json=json, quiet=quiet, tables=lines)


@stage_app.command()
def explain(
    paths: Paths = None,
    model: FileModel = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; needed with PATHS.", callback=placeable)
    ] = None,
    methods: Methods = "",
    layers: Layers = None,
    plane: Plane = None,
    slices: Slices = "all",
    part: Part = "test",
    data: Moved = None,
    leaderboard: Annotated[
        bool, typer.Option("--leaderboard", help="Judge every method, layer and threshold instead; needs --out.")
    ] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", help="With --leaderboard: slices for what is slow; default 200.", min=0)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the unfinished leaderboard in --out.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute raw class activation maps; without paths, of the test part of the run's own split."""
    from gyrus.explain import DEFAULT_METHODS
    from gyrus.stages import explain_files, explain_run

    model = _named(model, paths, "explain")
    _refuse_run_options(paths, part, data, plane, slices)
    if leaderboard:
        if paths or part != "test" or plane or slices != "all":
            raise InputError("--leaderboard judges the test part of the runs in --model: leave paths and parts out")
        if out is None:
            raise InputError("a leaderboard needs a folder of its own: add --out")
        value = _leaderboard(model, out, data, methods, layers, sample, seed, device, resume=resume, quiet=quiet)
        show(value, as_json=json, quiet=quiet, tables=tables.leaderboard(value))
        return
    if sample is not None or resume or seed:
        raise InputError("--sample, --resume and --seed are about a leaderboard: add --leaderboard, or leave them out")
    chosen = listed(methods) or list(DEFAULT_METHODS)
    with progress(quiet=quiet) as report:
        if paths:
            if out is None:
                raise InputError("explaining files needs a folder for the maps: add --out")
            maps = explain_files(
                model, paths, out, methods=chosen, layers=listed(layers), plane=plane, slices=slices_of(slices),
                device=device, progress=report,
            )  # fmt: skip
        else:
            maps = explain_run(
                model,
                data=data,
                part=part,
                out=out,
                methods=chosen,
                layers=listed(layers),
                device=device,
                progress=report,
            )
    show(maps.summary(), as_json=json, quiet=quiet, tables=tables.maps(maps))


@stage_app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, or the run that trained it.")],
    to: Annotated[str, typer.Option("--to", help="onnx, or openvino.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", callback=placeable)],
    int8: Annotated[bool, typer.Option("--int8", help="Convolutions in 8-bit integers.")] = False,
    check: Annotated[
        list[Path] | None,
        typer.Option("--check", help="Slices to compare with torch on; default: 24 synthetic ones; repeatable."),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option("--calibrate", help="With --int8: training slices; default those of --check; repeatable."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as one graph, pixels to probabilities and class maps, once it is shown to equal torch."""
    from gyrus.export import export_model

    with progress(quiet=quiet) as report:
        value = export_model(model, out, to=to, int8=int8, check=check, calibrate=calibrate, progress=report)
    show(value, as_json=json, quiet=quiet, tables=tables.export(value))


@stage_app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run whose predict and explain are done.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; default RUN/evaluate.", callback=placeable)
    ] = None,
    data: Moved = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score predictions against labels and maps against outlines, with floors, ceilings and intervals."""
    from gyrus.evaluate import evaluate_run

    with progress(quiet=quiet) as report:
        value = evaluate_run(run, data=data, out=out, seed=seed, progress=report)
    show(value, as_json=json, quiet=quiet, tables=tables.scores(value))


@stage_app.command()
def stress(
    run: Annotated[Path, typer.Argument(help="A finished training run, or the folder of one cross-validation.")],
    sample: Annotated[
        int | None, typer.Option("--sample", help="At most so many test slices, drawn by --seed; default all.", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write; default RUN/stress.", callback=placeable)
    ] = None,
    data: Moved = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fill the tumours in and degrade the slices of the test part: does the model decide by the tumour, and bear it?"""
    from gyrus.stress import stress_run

    with progress(quiet=quiet) as report:
        value = stress_run(run, data=data, sample=sample, out=out, seed=seed, device=device, progress=report)
    show(value, as_json=json, quiet=quiet, tables=tables.stress(value, out or run / "stress"))


@stage_app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run that `gyrus evaluate` has scored.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; default RUN/report.html.", callback=placeable)
    ] = None,
    data: Moved = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained HTML page about a run."""
    from gyrus.report import write_report

    with progress(quiet=quiet) as watch:
        path = write_report(run, data=data, out=out, progress=watch)
    show({"schema": "gyrus.report/1", "report": str(path)}, as_json=json, quiet=quiet, tables=[f"report: {path}"])


def _leaderboard(
    model: Path,
    out: Path,
    data: Path | None,
    methods: str,
    layers: str | None,
    sample: int | None,
    seed: int,
    device: str,
    *,
    resume: bool,
    quiet: bool,
) -> dict[str, Any]:
    from gyrus.leaderboard import build_leaderboard, make_settings

    named = listed(layers)
    settings = make_settings(
        methods=listed(methods), layers=named[0] if named in (["stages"], ["last"]) else named, sample=sample, seed=seed
    )
    with progress(quiet=quiet) as report:
        return build_leaderboard(
            model, out, settings=settings, data=data, resume=resume, device=device, progress=report
        )


def _named(model: Path | None, paths: list[Path] | None, verb: str) -> Path:
    """Return the model, or for files that no model is named for, the one in the package.

    Raises:
        InputError: neither a run nor a file is named.
    """
    if model is None and not paths:
        raise InputError(
            f"name files, for the model that comes with gyrus, or a run with --model: see `gyrus {verb} --help`"
        )
    if model is not None and not paths and is_model_alone(model):
        raise InputError(f"{model} is a model without its training run: name files to {verb}, or a run with --model")
    return find_model(None) if model is None else model  # not its name, which a folder may have too


def _overlap(one: Path, other: Path) -> bool:
    """Whether two places are the same, or one lies below the other."""
    first, second = one.resolve(), other.resolve()
    return first.is_relative_to(second) or second.is_relative_to(first)


def _refuse_run_options(paths: list[Path] | None, part: str, data: Path | None, plane: str | None, slices: str) -> None:
    """Refuse options that name the run's own slices beside paths, which name others, and those of paths without any."""
    if paths and (part != "test" or data is not None):
        raise InputError("--part and --data are about the run's own slices: leave them out, or leave the paths out")
    if not paths and (plane is not None or slices != "all"):
        raise InputError("--plane and --slices are about volumes that are named: name them, or leave these out")
