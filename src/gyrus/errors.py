"""The errors gyrus raises on purpose: one clear sentence each, naming the file and the remedy."""

from __future__ import annotations


class GyrusError(Exception):
    """Base of every error gyrus raises on purpose; the command line prints its message and exits 1."""


class InputError(GyrusError, ValueError):
    """What the caller gave cannot be used; the message names it and says what to do. Exit code 2."""


class MissingExtraError(GyrusError, ImportError):
    """An optional dependency is not installed; the message holds the pip line that brings it. Exit code 2.

    gyrus is on no package index, so that line is for the folder it was installed from.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed: run pip install -e '.[{extra}]' in gyrus's own folder")
