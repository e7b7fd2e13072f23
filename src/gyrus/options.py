"""Arguments and flags that several verbs share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.errors import InputError


def placeable(out: Path | None) -> Path | None:
    """Refuse, before any work is done, a place below something that is no folder."""
    for above in out.absolute().parents if out else ():
        if above.exists():
            if not above.is_dir():
                raise InputError(f"{above} is a file, so nothing can be written below it: choose another place")
            break
    return out


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress; errors still appear.")]
Seed = Annotated[int, typer.Option("--seed", help="Of every random draw.", min=0, max=2**32 - 1)]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Moved = Annotated[Path | None, typer.Option("--data", help="The dataset, if it has moved since training.")]
Part = Annotated[str, typer.Option("--part", help="Of the run's split: test, val or train.")]
FileModel = Annotated[
    Path | None, typer.Option("--model", help="A model folder or a run; default, for PATHS: the model in the package.")
]
Methods = Annotated[str, typer.Option("--methods", help="Comma-separated; see `gyrus info`.")]
Layers = Annotated[
    str | None,
    typer.Option("--layers", help="Comma-separated modules; default last. For --leaderboard also stages, its default."),
]
Paths = Annotated[list[Path] | None, typer.Argument(help="Files, folders or datasets; none: the run's own part.")]
Plane = Annotated[
    str | None, typer.Option("--plane", help="Of volumes: axial, coronal or sagittal; default as acquired.")
]
Slices = Annotated[str, typer.Option("--slices", help="Of volumes: all, middle, or numbers from 0 with commas.")]


def slices_of(text: str) -> str | list[int]:
    """Return "all", "middle", or the numbers that ``--slices`` was given.

    Raises:
        InputError: it is none of these.
    """
    if text in ("all", "middle"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--slices {text!r} names no slices: use all, middle, or numbers such as 60,70,80") from None


def salt_in(path: Path | None) -> bytes | None:
    """Return the bytes of ``--salt-file``, which keeps the secret out of the shell's history.

    Raises:
        InputError: it cannot be read, or is too short to be a secret.
    """
    if path is None:
        return None
    try:
        salt = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): name a file of 16 random bytes or more") from None
    if len(salt) < 16:
        raise InputError(f"{path} holds {len(salt)} bytes: put 16 random bytes or more into it")
    return salt


def listed(names: str | None) -> list[str] | None:
    """Return the comma-separated names, or None where there are none."""
    chosen = [n.strip() for n in (names or "").split(",") if n.strip()]
    return chosen or None
