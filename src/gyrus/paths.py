"""What the public functions take for a path: text, or a Path.

Each makes a Path of it in its first lines, so that everything below them deals in Paths alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

PathLike = str | os.PathLike[str]
"""One path: ``"scan.jpg"`` or ``Path("scan.jpg")``."""

PathLikes = PathLike | Iterable[PathLike]
"""One path, or several of them."""


def all_paths(paths: PathLikes) -> list[Path]:
    """Return the paths in their order; text is one path, never one path per letter."""
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]


def too_long(path: PathLike) -> str:
    """Return the sentence on a path with a name that no file can have, without all of it."""
    longest = max(Path(path).parts, key=len, default=str(path))
    return f"a name of {len(longest)} letters, {longest[:60]}..., is longer than a file's can be: shorten it"


def maybe_path(path: PathLike | None) -> Path | None:
    """Return the path, or None where none is given."""
    return None if path is None else Path(path)
