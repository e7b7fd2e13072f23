"""Folders that a stage leaves behind: written aside, given a manifest last, never overwritten once finished."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from gyrus._version import __version__
from gyrus.errors import InputError
from gyrus.shipped import find_model

MANIFEST = "run.json"
_PACKAGES = (
    *("numpy", "torch", "torchvision", "timm", "lightning", "scikit-learn", "opencv-python-headless"),
    *("onnx", "onnxruntime", "openvino"),
)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees either the old file or the whole new one; NaN becomes null."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(to_json(value) + "\n", encoding="utf-8")
    aside.replace(path)


def to_json(value: Any) -> str:
    """Return strict JSON (RFC 8259): NaN and infinities, which JSON lacks, become null; dataclasses become objects."""
    return json.dumps(plain(value), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Return the value as JSON has it: dicts, lists, strings, finite numbers, None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return str(value) if isinstance(value, Path) else value


def read_json(path: Path, what: str) -> Any:
    """Return the parsed JSON file.

    Args:
        path: the file.
        what: what the file should be, for the error's sentence ("a split").

    Raises:
        InputError: it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name {what}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not {what}: it is not readable JSON ({error})") from None


def is_finished(folder: Path) -> bool:
    """Whether a stage ran to its end in this folder: its manifest, written last, is there."""
    return (folder / MANIFEST).is_file()


def is_model_alone(folder: Path) -> bool:
    """Whether a folder, or a name of :func:`gyrus.shipped.list_shipped`, is a model without the run that trained it."""
    return not is_finished(folder) and (find_model(folder) / "model.json").is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a finished stage.

    Raises:
        InputError: the folder is missing, or the run in it did not finish, or it is a model without a run.
    """
    if is_model_alone(folder):
        raise InputError(
            f"{folder} is a model without its training run, so it has no slices of its own: name the folder that "
            "`gyrus train` wrote"
        )
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: run the gyrus command that makes it, or correct the path")
    if not is_finished(folder):
        raise InputError(
            f"{folder} has no {MANIFEST}, so the run in it did not finish, if there is one: run that step again"
        )
    manifest: dict[str, Any] = read_json(folder / MANIFEST, "a run manifest")
    return manifest


def refuse_existing(out: Path, flag: str = "--out") -> None:
    """Raise InputError if anything stands at ``out``, or a file where a folder above it should be."""
    if out.exists():
        raise InputError(f"{out} already exists: choose another {flag}, or remove it first")
    if not _ground(out).is_dir():
        raise InputError(f"{out} lies below {_ground(out)}, which is a file: choose another {flag}")


def _ground(out: Path) -> Path:
    """Return the nearest folder above ``out`` that is there."""
    return next(p for p in out.absolute().parents if p.exists())


def write_manifest(
    folder: Path, stage: str, *, started: float, arguments: Mapping[str, Any], facts: Mapping[str, Any],
    without: str | None = None,
) -> None:  # fmt: skip
    """Write ``run.json``, the proof that a stage finished: what ran, on what, with what, and what came out.

    Args:
        folder: where the stage wrote; every file in it is listed with its size and SHA-256.
        stage: the verb ("train", "explain").
        started: ``time.time()`` at the start.
        arguments: as the user gave them.
        facts: anything else worth keeping (seed, data fingerprint, split).
        without: a folder in it that is removed next, and is not listed.
    """
    left_out = {folder / MANIFEST, *((folder / without).rglob("*") if without else ())}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p not in left_out)
    write_json(
        folder / MANIFEST,
        {
            "schema": "gyrus.run/1",
            "stage": stage,
            "gyrus": __version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "packages": _package_versions(),
            "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            "seconds": round(time.time() - started, 2),
            "arguments": dict(arguments),
            **facts,
            "outputs": {
                p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files
            },
        },
    )


@contextmanager
def stage_folder(
    out: Path, stage: str, *, arguments: Mapping[str, Any], facts: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """Yield an empty folder that becomes ``out``, with its manifest, only if the block ends without an error.

    Args:
        out: where the result will stand.
        stage: the verb, for the manifest.
        arguments: for the manifest.
        facts: for the manifest.

    Raises:
        InputError: ``out`` already exists.
    """
    refuse_existing(out)
    started = time.time()
    aside = _ground(out) / f".{out.name}.partial-{os.getpid()}"  # so that a failure leaves no new folders above it
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        write_manifest(aside, stage, started=started, arguments=arguments, facts=facts or {})
        out.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
