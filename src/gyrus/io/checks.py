"""What every reader asks of a file before it looks inside."""

from __future__ import annotations

from pathlib import Path

from gyrus.errors import InputError

MAX_PIXELS = 64_000_000
"""The largest image that is decoded, in pixels: 8,000 x 8,000, far beyond any slice and 256 MB as float32."""


def check_file(path: Path) -> None:
    """Make sure that ``path`` is a file with something in it that can be opened.

    Raises:
        InputError: it is missing, a directory, not accessible, or empty.
    """
    try:
        size = path.stat().st_size
        if size and path.is_file():  # opening a pipe would wait for ever
            path.open("rb").close()  # a file that is locked is not damaged, as its decoder would say
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be opened ({getattr(error, 'strerror', None) or error}): check the path and its permissions"
        ) from error
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an image file: name a file in it, or open it as a dataset")
    if size == 0:
        raise InputError(f"{path} is empty (0 bytes): restore it from its source or remove it")


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse an image by the size its header claims, before anything is decoded.

    Raises:
        InputError: it has no pixels, or more than :data:`MAX_PIXELS`.
    """
    if height < 1 or width < 1:
        raise InputError(f"{path} holds an image of {width} x {height} pixels: restore it from its source")
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path} claims {width} x {height} pixels, more than the {MAX_PIXELS // 10**6} million gyrus decodes: "
            "resize it first, or remove it if it is not a slice"
        )


def brief(error: BaseException) -> str:
    """Return a library's complaint as one short line, to stand in brackets inside an error."""
    text = " ".join(str(error).split()).rstrip(".")
    return (text or type(error).__name__)[:160]
