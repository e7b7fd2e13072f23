"""The command line: thin verbs, each a call of one public function.

Exit codes: 0 done, 1 failed, 2 bad input or usage. ``--json`` prints one JSON document on stdout and nothing else.
"""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from gyrus import catalogue_tables, tables
from gyrus._version import __version__
from gyrus.console import console, progress, say, show
from gyrus.data_verbs import data_app
from gyrus.errors import GyrusError, InputError, MissingExtraError
from gyrus.options import Device, Json, Quiet, Seed, listed, placeable
from gyrus.paths import too_long
from gyrus.stage_verbs import stage_app
from gyrus.study_verbs import study_app

app = typer.Typer(
    name="gyrus",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(stage_app)
app.add_typer(study_app, name="study")


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _every_verb(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Brain-tumour MRI classification whose explanations are measured. Research software, not a medical device."""


# Typer carries a copy of click and names of its usage errors this one alone. Meant is the base of all of them, which
# has whatever is read of one here.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


def main() -> None:
    """Run the command line; every error gyrus raises on purpose becomes one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False, prog_name=app.info.name)
    except typer.Abort:
        code = 1
    except UsageError as error:
        code = _complain(_usage(error), 2)
    except (InputError, MissingExtraError) as error:
        code = _complain(str(error), 2)
    except GyrusError as error:
        code = _complain(str(error), 1)
    except OSError as error:  # a full disk, a folder that may not be written
        code = _complain(*_unusable(error))
    sys.exit(code)


def _unusable(error: OSError) -> tuple[str, int]:
    """Return what cannot be used and why, and the exit code: a name that no file can have is bad input."""
    named = str(error.filename or "a file")
    if error.errno == errno.ENAMETOOLONG:
        return too_long(named), 2
    return f"{named} cannot be used ({error.strerror or error})", 1


def _usage(error: typer.BadParameter) -> str:
    """Return a usage error as one sentence that names the help; nothing where the help itself was the answer."""
    said = " ".join(error.format_message().split()).rstrip(".")
    values = getattr(getattr(error, "param", None), "nargs", 1)
    if said and values > 1:  # one too few takes the name of the next option for a value
        said += f"; it takes {values} values"
    command = error.ctx.command_path if error.ctx else _verb(sys.argv[1:])
    return f"{said}: see `{command} --help`" if said else ""


def _verb(words: list[str]) -> str:
    """Return the command that words begin with, as "gyrus data info"; some usage errors do not say whose they are."""
    inner, depth = getattr(typer.main.get_command(app), "commands", {}), 0
    while depth < len(words) and words[depth] in inner:
        inner = getattr(inner[words[depth]], "commands", {})
        depth += 1
    return " ".join(["gyrus", *words[:depth]])


def _complain(message: str, code: int) -> int:
    if message:
        say(console(stderr=True), f"error: {message}", style="red")
    return code


@app.command()
def info(json: Json = False, quiet: Quiet = False) -> None:
    """List every dataset, model, explanation method, threshold and metric gyrus knows by name."""
    from gyrus.catalogue import info as catalogue

    value = catalogue()
    show(value, as_json=json, quiet=quiet, tables=catalogue_tables.info(value))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def audit(
    data: Annotated[list[Path], typer.Argument(help="Datasets, one or several.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", callback=placeable)] = Path("gyrus-audit"),
    splits: Annotated[
        list[Path] | None, typer.Option("--split", help="A split to check besides the official one; repeatable.")
    ] = None,
    skip: Annotated[
        str | None,
        typer.Option("--skip", help="Comma-separated: quality, planes, sequences, shortcuts, disagreements."),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="Of the network that disputes labels: package, or a MobileNetV2 file.")
    ] = "package",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find copies, leaks, shortcuts, contradicting labels and unusable pictures, before anything is trained."""
    from gyrus.audit import audit_data

    with progress(quiet=quiet) as report:
        value = audit_data(
            data, out, splits=splits or (), skip=listed(skip) or (), weights=weights, seed=seed, progress=report
        )
    show(value, as_json=json, quiet=quiet, tables=tables.audit(value))


@app.command()
def split(
    data: Annotated[Path, typer.Argument(help="A dataset's folder, or a CSV manifest.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="The JSON file to write; with --folds, a folder of them.", callback=placeable),
    ],
    fractions: Annotated[
        tuple[float, float, float], typer.Option("--fractions", help="Three: of train, val and test.")
    ] = (0.7, 0.1, 0.2),
    folds: Annotated[
        int | None, typer.Option("--folds", help="Cross-validation instead, with this many folds.")
    ] = None,
    no_val: Annotated[
        bool, typer.Option("--no-val", help="With --folds: train on all the others, and keep the last epoch.")
    ] = False,
    official: Annotated[
        bool, typer.Option("--official", help="The dataset's own split, without test slices that it trained on.")
    ] = False,
    group: Annotated[
        str,
        typer.Option("--group", help="What may not cross: patient, study, cluster, or auto (patient, else cluster)."),
    ] = "patient",
    record_wise: Annotated[
        bool, typer.Option("--record-wise", help="Let patients cross; every artefact says so.")
    ] = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Split a dataset so that no patient is on both sides."""
    from gyrus.splits import split_dataset

    if group == "record-wise":  # the leak has a name of its own
        raise InputError("--group says what may not cross: let patients cross by --record-wise")
    grouping = "record-wise" if record_wise else group
    with progress(quiet=quiet) as report:
        made = split_dataset(
            data,
            out,
            fractions=fractions,
            folds=folds,
            val_fold=not no_val,
            as_published=official,
            group=grouping,
            seed=seed,
            progress=report,
        )
    value = {
        "schema": "gyrus.splits/1",
        "out": str(out),
        "splits": [s.to_dict() | {"statement": s.statement} for s in made],
    }
    show(value, as_json=json, quiet=quiet, tables=[*made[0].notes, *(s.statement for s in made)])


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="The dataset the split was made for.")],
    split: Annotated[Path, typer.Option("--split", help="From `gyrus split`: a file, or the folder of --folds.")],
    out: Annotated[Path, typer.Option("--out", help="The run's folder.", callback=placeable)],
    model: Annotated[str, typer.Option("--model", help="Architecture; see `gyrus info`.")] = "mobilenetv2_100",
    pretrained: Annotated[
        str, typer.Option("--pretrained", help="hub, package, none, a weight file, or a run to go on from.")
    ] = "hub",
    size: Annotated[int, typer.Option("--size", help="Side of the input in pixels.")] = 160,
    epochs: Annotated[int, typer.Option("--epochs")] = 8,
    batch_size: Annotated[int, typer.Option("--batch-size")] = 32,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="Peak of the one-cycle schedule.")] = 1e-3,
    output_stride: Annotated[int | None, typer.Option("--output-stride", help="8, 16 or 32: finer last map.")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Reach it by ending earlier, not by dilation.")] = False,
    fuse: Annotated[
        int | None, typer.Option("--fuse", help="Channels of a last map fused from strides 8, 16 and 32.")
    ] = None,
    guide: Annotated[
        str, typer.Option("--guide", help="Of the class map: none; mask, by outlines; or a trained run, by its maps.")
    ] = "none",
    synthetic: Annotated[
        str | None, typer.Option("--synthetic", help="A phantom whose slices take part, with their outlines.")
    ] = None,
    guide_weight: Annotated[float, typer.Option("--guide-weight", help="Beside the classification loss.")] = 1.0,
    erase: Annotated[
        float, typer.Option("--erase", help="Share of outlined slices shown without the tumour, and no class told.")
    ] = 0.0,
    frozen: Annotated[bool, typer.Option("--frozen", help="Train the last layer alone; no augmentation.")] = False,
    head: Annotated[str, typer.Option("--head", help="softmax, or for two classes sigmoid.")] = "softmax",
    keep_dense: Annotated[bool, typer.Option("--keep-dense", help="Keep VGG's own dense layers.")] = False,
    dropout: Annotated[float, typer.Option("--dropout", help="Before the last layer.")] = 0.0,
    attention_from: Annotated[
        int | None, typer.Option("--attention-from", help="Epoch that switches on the attention of cam_attention.")
    ] = None,
    pooling: Annotated[str, typer.Option("--pooling", help="Of the class map: avg or lse.")] = "avg",
    crop: Annotated[str, typer.Option("--crop", help="none, or head: cut to the head's box.")] = "none",
    fit: Annotated[str, typer.Option("--fit", help="pad keeps the aspect ratio, stretch does not.")] = "pad",
    canonical: Annotated[
        bool, typer.Option("--canonical", help="The form without shortcuts of size, corners and border.")
    ] = False,
    channels: Annotated[int, typer.Option("--channels", help="Of the input: 1 or 3.")] = 3,
    clahe: Annotated[float | None, typer.Option("--clahe", help="Share of training slices equalised by CLAHE.")] = None,
    rotate: Annotated[
        float | None, typer.Option("--rotate", help="Greatest turn of a training slice, in degrees.")
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Greatest relative change of its size.")] = None,
    brightness: Annotated[
        float | None, typer.Option("--brightness", help="Greatest change of its brightness, white being 1.")
    ] = None,
    contrast: Annotated[
        float | None, typer.Option("--contrast", help="Greatest relative change of its contrast.")
    ] = None,
    bias: Annotated[
        float | None, typer.Option("--bias", help="Greatest strength of a bias field on training slices.")
    ] = None,
    noise: Annotated[float | None, typer.Option("--noise", help="Greatest sigma of noise on training slices.")] = None,
    peel: Annotated[
        float | None, typer.Option("--peel", help="Share of training slices shown without the skull.")
    ] = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw, adam or sgd.")] = "adamw",
    schedule: Annotated[str, typer.Option("--schedule", help="one-cycle or constant.")] = "one-cycle",
    choose: Annotated[str, typer.Option("--choose", help="Epoch kept: by val loss, accuracy, or last.")] = "loss",
    class_weights: Annotated[bool, typer.Option(help="Weigh the loss by inverse class frequency.")] = True,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing")] = 0.05,
    precision: Annotated[str, typer.Option("--precision", help="auto, bf16 or fp32.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the unfinished run in --out.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a classifier on the training part; the test part is never read."""
    from gyrus.stages import train_folds, train_run
    from gyrus.training import make_config

    changes = {"rotate": rotate, "scale": scale, "brightness": brightness, "contrast": contrast}
    changes |= {"clahe": clahe, "bias": bias, "noise": noise, "peel": peel}
    config = make_config(
        model=model, pretrained=pretrained, size=size, epochs=epochs, batch_size=batch_size, fuse=fuse, guide=guide,
        synthetic=synthetic, guide_weight=guide_weight, erase=erase, frozen=frozen, head=head, keep_dense=keep_dense,
        dropout=dropout, attention_from=attention_from, optimizer=optimizer, schedule=schedule, choose=choose,
        learning_rate=learning_rate, output_stride=output_stride, truncate=truncate, pooling=pooling, crop=crop,
        fit=fit, canonical=canonical, channels=channels, class_weights=class_weights,
        augment={k: v for k, v in changes.items() if v is not None},
        label_smoothing=label_smoothing, precision=precision, seed=seed, device=device,
    )  # fmt: skip
    with progress(quiet=quiet) as report:
        if split.is_dir():
            folds = train_folds(data, split, config, out, resume=resume, progress=report)
            show(folds, as_json=json, quiet=quiet, tables=[t for v in folds["runs"] for t in tables.training(v)])
            return
        value = train_run(data, split, config, out, resume=resume, progress=report)
    show(value, as_json=json, quiet=quiet, tables=tables.training(value))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder to write.", callback=placeable)] = Path("gyrus-demo"),
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go all the way on synthetic slices: phantom, split, train, predict, explain, evaluate, report."""
    from gyrus.demo import run_demo

    with progress(quiet=quiet) as watch:
        value = run_demo(out, seed=seed, device=device, progress=watch)
    show(value, as_json=json, quiet=quiet, tables=tables.demo(value))
