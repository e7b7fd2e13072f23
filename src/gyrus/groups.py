"""What may not be torn apart: the group of every slice, by patient, by study, or by copies of one picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from gyrus.artifacts import sha256
from gyrus.datasets.listing import count
from gyrus.errors import InputError
from gyrus.loading import Progress
from gyrus.records import Dataset, Record

if TYPE_CHECKING:
    from gyrus.duplicates import Copies

Grouping = Literal["patient", "study", "cluster", "record-wise"]
GROUPINGS = get_args(Grouping)


@dataclass(frozen=True)
class Groups:
    """The group of each slice of a dataset.

    Attributes:
        grouping: what a group is: "patient", "study", "cluster" (slices that are copies of one picture), or
            "record-wise" (every slice its own).
        of: record id -> the name of its group.
        notes: what was merged and why, one sentence each.
    """

    grouping: Grouping
    of: Mapping[str, str]
    notes: tuple[str, ...] = ()


def group_slices(dataset: Dataset, grouping: str = "auto", *, progress: Progress | None = None) -> Groups:
    """Return the groups that a split of this dataset must keep whole.

    Whatever the grouping but record-wise, two groups that share a byte-identical file become one, and so do patients
    whose ids differ by the letter of a repeat exam (MR048294 and MR048294B). The name of a merged group is the first of
    its names, sorted. Clusters are those of :func:`gyrus.duplicates.find_copies`, which reads every slice; the
    other groupings read no pixel.

    Args:
        dataset: any dataset.
        grouping: one of :data:`GROUPINGS`, or "auto": by patient where every slice has one, else by cluster.
        progress: called while slices are compared.

    Raises:
        InputError: no such grouping, a slice without a patient or study to group by, or a slice that cannot be read.
    """
    if grouping not in (*GROUPINGS, "auto"):
        raise InputError(f"slices cannot be grouped by {grouping!r}: choose one of auto, {', '.join(GROUPINGS)}")
    if grouping == "record-wise":
        return Groups("record-wise", {r.id: r.id for r in dataset})
    if grouping == "cluster" or (grouping == "auto" and not dataset.has_patients):
        return _by_cluster(dataset, progress)
    if grouping == "study":
        return _merged(dataset, "study", {r.id: _study(r) for r in dataset}, [])
    named = {r.id: _named(r, r.patient, "patient") for r in dataset}
    repeats = repeat_exams(named.values())
    notes = []
    if repeats:
        some = ", ".join(f"{old} with {new}" for old, new in list(repeats.items())[:3])
        notes.append(f"{count(len(repeats), 'patient id')} of a repeat exam, marked by a letter, merged ({some}).")
    return _merged(dataset, "patient", {i: repeats.get(p, p) for i, p in named.items()}, notes)


def join_groups(records: Sequence[Record], copies: Copies) -> list[str]:
    """Return a group for every slice such that neither a patient nor a picture is in two of them.

    What a check of several datasets at once needs: a Cheng patient and the copies of his slices in Sartaj are one.

    Args:
        records: slices, of one dataset or of several; patients are told apart by dataset.
        copies: of these records, in this order.

    Returns:
        list[str]: per record the name of its group, the first record's id in it.
    """
    parent = list(range(len(records)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    bound: dict[Hashable, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        if record.patient is not None:
            bound[record.source, record.patient].append(i)
    for members in (*bound.values(), *copies.clusters):
        for other in members[1:]:
            low, high = sorted((root(members[0]), root(other)))
            parent[high] = low
    return [records[root(i)].id for i in range(len(records))]


def repeat_exams(ids: Iterable[str]) -> dict[str, str]:
    """Find ids that name one person twice: those that differ only by capital letters behind the last digit.

    An id is a repeat exam if its base, or the base with another letter, occurs too: with MR048294, MR048294B and
    MR048295B, only the second is one. The base must end in four digits or more, as a hospital's number does: a study
    may well call its patients S1A, S1B and S1C.

    Returns:
        dict: repeat id -> base, sorted.
    """
    bases: dict[str, set[str]] = defaultdict(set)
    for name in set(ids):
        bases[re.sub(r"(?<=\d{4})[A-Z]$", "", name)].add(name)
    return {name: base for base, names in sorted(bases.items()) if len(names) > 1 for name in sorted(names - {base})}


def identical_files(dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """Return the ids of slices whose files are the same to the byte, as groups of two or more.

    Files of different sizes are not read.

    Slices that are cut from one volume share its file and are no copies of each other.

    Raises:
        InputError: a file is not there.
    """
    sizes: dict[int, dict[Path, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in dataset:
        if record.path.is_file():
            sizes[record.path.stat().st_size][record.path].append(record.id)
    same: dict[Hashable, list[str]] = defaultdict(list)
    for size, paths in sizes.items():
        for path, ids in paths.items() if len(paths) > 1 else ():
            same[size, sha256(path)] += ids
    return tuple(tuple(sorted(ids)) for ids in same.values() if len(ids) > 1)


def _by_cluster(dataset: Dataset, progress: Progress | None) -> Groups:
    from gyrus.duplicates import find_copies  # its index is loaded for those who need it

    copies = find_copies(dataset.records, progress=progress)
    if copies.unreadable:
        raise InputError(next(iter(copies.unreadable.values())))
    of = {r.id: r.id for r in dataset}
    for cluster in copies.clusters:
        of |= {dataset.records[i].id: dataset.records[cluster[0]].id for i in cluster}
    copied = sum(len(cluster) - 1 for cluster in copies.clusters)
    note = f"{count(copied, 'copy', 'copies')} kept with what they copy ({count(len(copies.clusters), 'cluster')})."
    return Groups("cluster", of, (note,))


def _merged(dataset: Dataset, grouping: Grouping, of: dict[str, str], notes: list[str]) -> Groups:
    """Join groups that share an identical file."""
    joined: dict[str, str] = {}

    def root(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    for ids in identical_files(dataset):
        names = sorted({root(of[i]) for i in ids})
        joined |= dict.fromkeys(names[1:], names[0])
    if joined:
        some = next(iter(joined))
        notes = [
            *notes,
            f"{len(joined) + 1} {grouping} ids that share an identical file were merged "
            f"({some} with {root(some)}{' and others' if len(joined) > 1 else ''}).",
        ]
    return Groups(grouping, {i: root(name) for i, name in of.items()}, tuple(notes))


def _study(record: Record) -> str:
    if record.patient is not None:
        raise InputError(
            f"{record.source}: record {record.id!r} says whose it is, and two studies of one person are not "
            "independent: group by patient"
        )
    return _named(record, record.study, "study")


def _named(record: Record, group: str | None, grouping: Grouping) -> str:
    if group is None:
        raise InputError(
            f"{record.source}: record {record.id!r} has no {grouping}, so a split could put one person on both sides: "
            "add the column, keep copies of a slice together with --group auto, or accept the leak by name with "
            "--record-wise"
        )
    return group
