"""The verbs below ``gyrus study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus import study_tables as tables
from gyrus.console import progress, show
from gyrus.errors import InputError
from gyrus.options import Device, Json, Quiet, placeable

study_app = typer.Typer(help="Run a published study: what it claims beside what is measured.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="From `gyrus study list`, or a recipe of your own: a YAML file.")]


@study_app.command("list")
def study_list(json: Json = False, quiet: Quiet = False) -> None:
    """List the studies that gyrus ships."""
    from gyrus.studies import list_studies, show_study

    recipes = [show_study(name) for name in list_studies()]
    rows = [{k: r[k] for k in ("name", "title", "data")} | {"scales": ["full", *r["scales"]]} for r in recipes]
    value = {"schema": "gyrus.studies/1", "studies": rows}
    show(value, as_json=json, quiet=quiet, tables=tables.studies(value))


@study_app.command("show")
def study_show(name: Name, json: Json = False, quiet: Quiet = False) -> None:
    """Show a study's recipe: what it asks, its steps, its table of claims."""
    from gyrus.studies import show_study

    value = show_study(name)
    show(value, as_json=json, quiet=quiet, tables=tables.recipe(value))


@study_app.command("run")
def study_run(
    name: Name,
    data: Annotated[
        list[str],
        typer.Option("--data", help="A folder of the study's datasets, one of them, or NAME=FOLDER; repeatable."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder to write or to go on with; default NAME-SCALE.", callback=placeable),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="In a few minutes; short for --scale quick.")] = False,
    scale: Annotated[str, typer.Option("--scale", help="full, or one of the recipe's smaller versions.")] = "full",
    only: Annotated[
        str | None, typer.Option("--only", help="One step of `gyrus study show`, with what it needs.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="MODEL=FILE, or MODEL=hub, package, none: its initial weights; repeatable."),
    ] = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Regenerate a study's table and figures, under its own protocol and the honest one; a stopped run goes on."""
    from gyrus.studies import run_study

    if quick and scale not in ("full", "quick"):
        raise InputError("--quick is --scale quick: leave one of them out")
    chosen = "quick" if quick else scale
    folder = out or Path(f"{Path(name).stem}-{chosen}")
    with progress(quiet=quiet) as report:
        value = run_study(
            name, data, folder, scale=chosen, only=only, weights=_named(weights or []), device=device, progress=report
        )
    show(value, as_json=json, quiet=quiet, tables=tables.study(value, folder))


def _named(weights: list[str]) -> dict[str, str]:
    """Return architecture -> source.

    Raises:
        InputError: a text that is no MODEL=SOURCE.
    """
    wrong = next((text for text in weights if "=" not in text), None)
    if wrong is not None:
        raise InputError(f"--weights {wrong} names no architecture: say MODEL=FILE, as in vgg16=vgg16.safetensors")
    return {name: source for name, _, source in (text.partition("=") for text in weights)}
