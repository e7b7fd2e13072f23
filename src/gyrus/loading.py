"""Slices read, prepared and batched: decoding runs in threads beside whatever consumes the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.preprocess import Frame, Preprocess, prepare_framed
from gyrus.records import Record

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total); the command line draws it, the library never prints."""

THREADS = 2

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive records and their prepared slices.

    Attributes:
        records: all of them, readable or not.
        readable: indices into ``records`` of those that could be read, one per row of ``slices``.
        slices: (len(readable), size, size) uint8.
        errors: index -> the sentence that says why it could not be read.
        notes: what ``note`` said of each image, one per row of ``slices``; None where nothing was asked.
    """

    records: Sequence[Record]
    readable: list[int]
    slices: NDArray[np.uint8]
    errors: dict[int, str]
    notes: list[Any]


def batches(
    records: Sequence[Record],
    spec: Preprocess,
    size: int,
    *,
    keep_going: bool = False,
    note: Callable[[Image, Frame], Any] | None = None,
    what: str = "slices",
    progress: Progress | None = None,
) -> Iterator[Batch]:
    """Yield prepared batches in order; the next batch decodes while the current one is in use.

    Args:
        records: what to read.
        spec: how to prepare it.
        size: records per batch; memory does not grow with ``len(records)``.
        keep_going: note an unreadable file in its batch instead of raising.
        note: asked about each image as it was read, and where the network's square lies on it, in the threads that
            read.
        what: the word for ``progress``.
        progress: called after each batch.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """

    def take(record: Record) -> tuple[NDArray[np.uint8], Any]:
        image = record.read()
        prepared, frame = prepare_framed(image, spec)
        return prepared, None if note is None else note(image, frame)

    done = 0
    for chunk, results in read_ahead(records, take, size, keep_going=keep_going):
        errors = {i: str(r) for i, r in enumerate(results) if isinstance(r, InputError)}
        read = [r for r in results if not isinstance(r, InputError)]
        slices = [prepared for prepared, _ in read]
        stacked = np.stack(slices) if slices else np.empty((0, spec.size, spec.size), dtype=np.uint8)
        yield Batch(chunk, [i for i in range(len(chunk)) if i not in errors], stacked, errors, [n for _, n in read])
        done += len(chunk)
        if progress:
            progress(what, done, len(records))


def read_ahead(
    records: Sequence[Record], read: Callable[[Record], _Read], size: int, *, keep_going: bool = False
) -> Iterator[tuple[Sequence[Record], list[_Read | InputError]]]:
    """Yield records in chunks with what ``read`` makes of each; the next chunk is read while one is in use.

    Args:
        records: what to read.
        read: called in threads.
        size: records per chunk.
        keep_going: give the error in place of what could not be read, instead of raising it.

    Raises:
        InputError: a file cannot be read and ``keep_going`` is off.
    """

    def attempt(record: Record) -> _Read | InputError:
        try:
            return read(record)
        except InputError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        chunks = [records[i : i + size] for i in range(0, len(records), size)]
        pending = [pool.submit(attempt, r) for r in chunks[0]] if chunks else []
        for n, chunk in enumerate(chunks):
            following = [pool.submit(attempt, r) for r in chunks[n + 1]] if n + 1 < len(chunks) else []
            results = [f.result() for f in pending]
            pending = following
            wrong = next((r for r in results if isinstance(r, InputError)), None)
            if wrong is not None and not keep_going:
                for future in pending:
                    future.cancel()
                raise InputError(str(wrong))
            yield chunk, results


def load_slices(
    records: Sequence[Record], spec: Preprocess, *, what: str = "reading", progress: Progress | None = None
) -> NDArray[np.uint8]:
    """Return every record's prepared slice: (N, size, size) uint8, one byte a pixel, decoded once.

    Raises:
        InputError: a file cannot be read.
    """
    slices = np.empty((len(records), spec.size, spec.size), dtype=np.uint8)
    start = 0
    for batch in batches(records, spec, 64, what=what, progress=progress):
        slices[start : start + len(batch.records)] = batch.slices
        start += len(batch.records)
    return slices
