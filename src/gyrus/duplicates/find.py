"""Find the copies among records: identical ones by their hashes, near ones by search and comparison."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import cv2

from gyrus.duplicates.chains import Link, Map, cut_chains
from gyrus.duplicates.clusters import Copies, Kind, Pair, clusters_of
from gyrus.duplicates.search import Candidate, candidates
from gyrus.duplicates.sketch import Sketch, sketch
from gyrus.duplicates.turns import Turn, nearest
from gyrus.duplicates.verify import RESEMBLING, SIMILAR, compare
from gyrus.errors import InputError
from gyrus.loading import THREADS, Progress
from gyrus.records import Record

_TOGETHER = 16  # items that a thread works through before it takes others
_AHEAD = 16  # times as many are handed to the threads before their results are taken
_HELD = 2e-4  # seconds for which a thread may keep the interpreter from another
_ONE_SEARCH = threading.Lock()
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What one decoded slice left behind."""

    look: bytes  # equal pixels have equal looks, and so may others
    pixels: int
    sketch: Sketch
    blank: bool  # of one grey


def find_copies(records: Sequence[Record], *, progress: Progress | None = None) -> Copies:
    """Find identical files, identical pixels and near-duplicates.

    Files of equal size are compared by SHA-256, and of identical ones only the first is decoded. Decoded slices whose
    thumbnails are equal are compared by the SHA-256 of their pixels. What is left is searched for near-duplicates:
    re-encoded, resized, cropped, changed in brightness or contrast, mirrored or turned by quarters. A pair is one if,
    aligned, the mean correlation over small windows (:func:`gyrus.duplicates.verify.similarity`) is at least
    :data:`gyrus.duplicates.verify.SIMILAR`. Pictures that show nothing are copies of identical ones only, and so are
    slices of one volume. A pair that would chain a cluster beyond what resembles its representative is left out
    (:func:`gyrus.duplicates.chains.cut_chains`).

    Every file is decoded once, in threads, those with equal thumbnails twice, and about 35 kB of it are kept, its share
    of the index included. The result depends on the records and their order, not on timing.

    Args:
        records: the slices, of one dataset or of several put behind one another.
        progress: called with "reading", "searching" and "comparing".

    Returns:
        Copies: pairs, clusters, and the records that could not be read, which are left out of both.

    Raises:
        InputError: a file was changed meanwhile, so that it can be read no more.
    """
    with _undivided():
        return _find(records, progress)


def _find(records: Sequence[Record], progress: Progress | None) -> Copies:
    sizes = [_bytes(r) for r in records]
    groups = _same_file(records, sizes)
    firsts = [group[0] for group in groups]
    seen: dict[int, _Seen] = {}
    unreadable: dict[int, str] = {}
    for group, result in zip(
        groups, _in_threads(lambda i: _look(records[i]), firsts, "reading", progress), strict=True
    ):
        if isinstance(result, _Seen):
            seen[group[0]] = result
        else:
            unreadable |= {i: str(_look(records[i])) for i in group}
    pairs = [_identical(g[0], i, "file") for g in groups if g[0] in seen and not seen[g[0]].blank for i in g[1:]]
    same = _same_pixels(records, seen)
    pairs += [_identical(g[0], i, "pixels") for g in same for i in g[1:]]
    pixels = {i: seen[g[0]].pixels for g in groups if g[0] in seen for i in g}
    worth = [(pixels.get(i, 0), sizes[i]) for i in range(len(records))]
    pairs += _near([g[0] for g in same], records, seen, worth, progress)
    pairs.sort(key=lambda p: (p.first, p.second))
    return Copies(len(records), tuple(pairs), clusters_of(pairs, worth), MappingProxyType(unreadable))


@contextmanager
def _undivided() -> Iterator[None]:
    """Keep OpenCV from dealing out each small picture among threads of its own: there is one for each slice already.

    Between its many short calls a thread needs the interpreter for moments, for which it is not to wait as long as is
    usual. Both are set for the whole process, so what else runs meanwhile has one thread of OpenCV as well, and a
    second search waits for the first, lest it take those settings for the ones to go back to.
    """
    with _ONE_SEARCH:
        before = cv2.getNumThreads(), sys.getswitchinterval()
        cv2.setNumThreads(1)
        sys.setswitchinterval(_HELD)
        try:
            yield
        finally:
            cv2.setNumThreads(before[0])
            sys.setswitchinterval(before[1])


def _identical(first: int, second: int, kind: Kind) -> Pair:
    return Pair(first, second, kind, 1.0, str(Turn()))


def _near(
    unique: Sequence[int],
    records: Sequence[Record],
    seen: Mapping[int, _Seen],
    worth: Sequence[tuple[int, int]],
    progress: Progress | None,
) -> list[Pair]:
    """Return the near-duplicates among records no two of which have the same pixels."""
    sketches = [seen[i].sketch for i in unique]

    def judge(c: Candidate) -> Link | None:
        start = None if _one_volume(records[unique[c.first]], records[unique[c.second]]) else c.fit()
        if start is None:
            return None
        return Link(c.first, c.second, *compare(sketches[c.first], sketches[c.second], start))

    def resemble(first: int, second: int, start: Map) -> bool:
        return compare(sketches[first], sketches[second], start)[0] >= RESEMBLING

    best: dict[tuple[int, int], Link] = {}
    for link in _in_threads(judge, candidates(sketches, progress), "comparing", progress):
        if link is None or link.similarity < SIMILAR:
            continue
        ends = link.first, link.second
        if ends not in best or link.similarity > best[ends].similarity:
            best[ends] = link
    kept = cut_chains(list(best.values()), [worth[i] for i in unique], resemble)
    return [
        # The map goes from the first to the second, the turn the other way.
        Pair(unique[n.first], unique[n.second], "near", min(n.similarity, 1.0), str(nearest(n.map[:, :2].T)))
        for n in kept
    ]


def _one_volume(a: Record, b: Record) -> bool:
    """Whether both are slices of one volume, which are neighbours and no copies, however alike they look."""
    return a.at is not None and b.at is not None and a.path == b.path


def _in_threads(
    work: Callable[[_Item], _Result], items: Iterable[_Item], what: str, progress: Progress | None
) -> Iterator[_Result]:
    """Yield the result for each item in order, a bounded number being worked on ahead."""
    items = list(items)
    todo = (items[at : at + _TOGETHER] for at in range(0, len(items), _TOGETHER))

    def work_through(some: Sequence[_Item]) -> list[_Result]:
        return [work(item) for item in some]

    with ThreadPoolExecutor(THREADS) as pool:
        pending = [pool.submit(work_through, some) for some in islice(todo, _AHEAD)]
        done = 0
        while pending:
            following = [pool.submit(work_through, some) for some in islice(todo, _AHEAD)]
            for future in pending:
                results = future.result()
                done += len(results)
                yield from results
            pending = following
            if progress:
                progress(what, done, len(items))


def _look(record: Record) -> _Seen | InputError:
    """Decode one slice and reduce it to what is kept; the error is returned, because the others go on."""
    try:
        pixels = record.read().pixels
    except InputError as error:
        return error
    made = sketch(pixels)
    look = hashlib.sha256(repr(pixels.shape).encode() + made.thumb.tobytes()).digest()
    return _Seen(look, pixels.size, made, blank=bool(pixels.min() == pixels.max()))


def _same_pixels(records: Sequence[Record], seen: Mapping[int, _Seen]) -> list[list[int]]:
    """Return the decoded records grouped by their pixels and shape, in the order of the first of each group.

    One that shows nothing, as the end slices of many volumes, is no copy of another, and a group of its own.
    """
    alike: dict[bytes, list[int]] = defaultdict(list)
    for i, one in seen.items():
        alike[one.look].append(i)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, one in seen.items():
        alone = one.blank or len(alike[one.look]) == 1
        groups[i if alone else (one.look, hashlib.sha256(records[i].read().pixels.data).digest())].append(i)
    return list(groups.values())


def _same_file(records: Sequence[Record], sizes: Sequence[int]) -> list[list[int]]:
    """Return the records grouped by their file's bytes, in the order of the first of each group.

    Slices of volumes are told apart by their pixels alone: a volume's bytes are those of all its slices.
    """
    of_size: dict[int, list[int]] = defaultdict(list)
    for i, size in enumerate(sizes):
        of_size[size].append(i)
    groups: dict[object, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        alone = record.at is not None or sizes[i] == 0 or len(of_size[sizes[i]]) == 1
        groups[i if alone else digest_of(record.path) or i].append(i)
    return list(groups.values())


def _bytes(record: Record) -> int:
    """Return the size of the record's file, or 0 where there is none, which reading it will explain."""
    try:
        return record.path.stat().st_size if record.path.is_file() else 0
    except OSError:
        return 0


def digest_of(path: Path) -> bytes | None:
    """Return the SHA-256 of a file, or None where it cannot be opened, which reading it will explain."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return None
