"""The verbs below ``gyrus data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus import tables
from gyrus.console import progress, show
from gyrus.options import Json, Plane, Quiet, Seed, Slices, placeable, salt_in, slices_of

data_app = typer.Typer(
    help="Look at a dataset, convert one, join several, or make a synthetic one.", no_args_is_help=True
)


@data_app.command("info")
def data_info(
    data: Annotated[Path, typer.Argument(help="A dataset's folder, or a CSV manifest.")],
    name: Annotated[str | None, typer.Option("--as", help="Open it by this reader instead of recognising it.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is recognised: classes, patients, masks, sizes, licence, known faults."""
    from gyrus.datasets.describe import describe

    value = describe(data, name)
    show(value, as_json=json, quiet=quiet, tables=tables.dataset(value))


@data_app.command("phantom")
def data_phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write.", callback=placeable)],
    patients: Annotated[int, typer.Option("--patients", help="How many, at least 8.")] = 60,
    slices_per_plane: Annotated[int, typer.Option("--slices-per-plane", help="Per patient and plane.")] = 3,
    size: Annotated[int, typer.Option("--size", help="Side of the slices in pixels.")] = 192,
    varied: Annotated[bool, typer.Option("--varied", help="Gliomas of every look, not rings alone.")] = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the phantom: a synthetic dataset with exact masks, patient ids and planes."""
    from gyrus.datasets.describe import describe
    from gyrus.phantom import make_phantom

    made = make_phantom(out, patients=patients, seed=seed, slices_per_plane=slices_per_plane, size=size, varied=varied)
    value = describe(made)
    show(value, as_json=json, quiet=quiet, tables=tables.dataset(value))


@data_app.command("convert")
def data_convert(
    data: Annotated[Path, typer.Argument(help="A volume, a DICOM series, an image, or a folder or dataset of them.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", callback=placeable)],
    name: Annotated[str | None, typer.Option("--as", help="Open it by this reader instead of recognising it.")] = None,
    plane: Plane = None,
    slices: Slices = "all",
    modality: Annotated[
        str | None, typer.Option("--modality", help="t1, t1ce, t2, flair or all; default t1ce, or the only one.")
    ] = None,
    region: Annotated[str, typer.Option("--region", help="What the masks show: core, or whole with oedema.")] = "core",
    bits: Annotated[int | None, typer.Option("--bits", help="8 or 16 per pixel; default: what loses nothing.")] = None,
    window: Annotated[
        tuple[float, float] | None, typer.Option("--window", help="Values that become black and white.")
    ] = None,
    salt_file: Annotated[
        Path | None,
        typer.Option("--salt-file", help="Secret bytes for the patients' hashes; default: from the data."),
    ] = None,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Keep DICOM patient ids; by default a hash stands for each.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn images, DICOM, NIfTI or BraTS into PNG slices with a manifest, from which volumes can be restored."""
    from gyrus.convert import convert_data
    from gyrus.datasets.describe import describe

    with progress(quiet=quiet) as report:
        made = convert_data(
            data, out, name=name, plane=plane, slices=slices_of(slices), modality=modality, region=region,
            bits=bits, window=window, salt=salt_in(salt_file), keep_identity=keep_identity, progress=report,
        )  # fmt: skip
    value = describe(made)
    show(value, as_json=json, quiet=quiet, tables=tables.dataset(value))


@data_app.command("join")
def data_join(
    data: Annotated[list[Path], typer.Argument(help="Datasets, the one whose labels you trust most first.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", callback=placeable)],
    name: Annotated[str | None, typer.Option("--name", help="Of the new dataset.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one manifest of several datasets, in which no picture occurs twice; the pictures stay where they are."""
    from gyrus.datasets.describe import describe
    from gyrus.joining import join_datasets

    with progress(quiet=quiet) as report:
        made = join_datasets(data, out, name=name, progress=report)
    value = describe(made.root)
    show(value, as_json=json, quiet=quiet, tables=tables.dataset(value))
