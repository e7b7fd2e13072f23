"""What may not be torn apart: the group of every slice, by patient, by study, or by copies of one picture."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

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
        grouping: what a group is: "patient", "study", "cluster" (slices that are copies of one picture, or of one known
            patient, study or volume), or "record-wise" (every slice its own).
        of: record id -> the name of its group.
        notes: what was merged and why, one sentence each.
        unknown: of clusters, the ids of the slices whose patient is unknown; None where it is not known which.
    """

    grouping: Grouping
    of: Mapping[str, str]
    notes: tuple[str, ...] = ()
    unknown: frozenset[str] | None = None


def group_slices(dataset: Dataset, grouping: str = "auto", *, progress: Progress | None = None) -> Groups:
    """Return the groups that a split of this dataset must keep whole.

    Whatever the grouping but record-wise, two groups that share a byte-identical file become one, and so do patients
    whose ids differ by the letter of a repeat exam (MR048294 and MR048294B). The name of a merged group is the first of
    its names, sorted. Clusters are those of :func:`gyrus.duplicates.find_copies`, which reads every slice, joined with
    the patients that are known, see :func:`join_groups`; the other groupings read no pixel.

    Args:
        dataset: any dataset.
        grouping: one of :data:`GROUPINGS`, or "auto": by patient where every slice has one, else by cluster, where a
            slice of an unknown patient is with its study, its volume and its copies, or alone.
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
    return _merged(dataset, "patient", {i: repeats.get(p, p) for i, p in named.items()}, _repeat_notes(repeats))


def join_groups(records: Sequence[Record], copies: Copies) -> list[str]:
    """Return a group for every slice such that no patient, no picture, and no exam of an unknown patient is in two.

    What a check of several datasets at once needs: a Cheng patient and the copies of his slices in Sartaj are one. So
    are the exams of one patient, see :func:`repeat_exams`.

    Args:
        records: slices, of one dataset or of several; patients and studies are told apart by dataset. Where the patient
            is unknown, a slice is with its study, else with its volume, and with its copies.
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
    for i, (record, person) in enumerate(zip(records, _persons(records), strict=True)):
        whole = person or _exam(record)
        if whole is not None:
            bound[whole].append(i)
    for members in (*bound.values(), *copies.clusters):
        for other in members[1:]:
            low, high = sorted((root(members[0]), root(other)))
            parent[high] = low
    return [records[root(i)].id for i in range(len(records))]


def unknown_patients(records: Iterable[Record]) -> frozenset[str]:
    """Return the ids of the slices that do not say whose they are."""
    return frozenset(r.id for r in records if r.patient is None)


def no_copies_cross(unknown: int | None, slices: int) -> str:
    """Return what a split by cluster promises.

    Args:
        unknown: slices whose patient is unknown; None where nothing is known of patients.
        slices: of how many.
    """
    if unknown is None or unknown == slices:
        return "no copy of a slice is on both sides, but patients are unknown and may be"
    known = "no copy of a slice and no known patient is on both sides"
    of = "1 slice" if unknown == 1 else f"{unknown} slices"
    return f"{known}, but the patient of {of} is unknown and may be" if unknown else known


def with_patients_whole(records: Sequence[Record], of: Mapping[str, str]) -> dict[str, str]:
    """Return record id -> group, all slices of a known patient in the group that the first of them has in ``of``.

    Where ``of`` tears no patient apart, that is ``of`` itself; a slice that is not in it has the group "".
    """
    first: dict[Hashable, str] = {}
    groups = [(r.id, person, of.get(r.id, "")) for r, person in zip(records, _persons(records), strict=True)]
    return {i: group if person is None else first.setdefault(person, group) for i, person, group in groups}


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

    Slices that are cut from one volume share its file and are no copies of each other. Pictures of one grey, as many
    series end in, are no copies either.

    Raises:
        InputError: a file is not there.
    """
    sizes: dict[int, dict[Path, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in dataset:
        if record.path.is_file():
            sizes[record.path.stat().st_size][record.path].append(record)
    same: dict[Hashable, list[Record]] = defaultdict(list)
    for size, paths in sizes.items():
        for path, records in paths.items() if len(paths) > 1 else ():
            same[size, sha256(path)] += records
    alike = (records for records in same.values() if len(records) > 1 and not _blank(records[0]))
    return tuple(tuple(sorted(r.id for r in records)) for records in alike)


def _blank(record: Record) -> bool:
    """Whether a picture can be read and is of one grey; a slice of a volume says nothing of the volume's others."""
    try:
        return record.at is None and not np.ptp(record.read().pixels)
    except InputError:
        return False


def _by_cluster(dataset: Dataset, progress: Progress | None) -> Groups:
    from gyrus.duplicates import find_copies  # its index is loaded for those who need it

    copies = find_copies(dataset.records, progress=progress)
    if copies.unreadable:
        raise InputError(next(iter(copies.unreadable.values())))
    names = join_groups(dataset.records, copies)
    patients: dict[str, set[str]] = defaultdict(set)
    for name, person in zip(names, _persons(dataset.records), strict=True):
        if person is not None:
            patients[name].add(person[1])
    merged: dict[str, str] = {}
    for first, *others in map(sorted, patients.values()):
        merged |= dict.fromkeys(others, first)
    copied = sum(len(cluster) - 1 for cluster in copies.clusters)
    exams = len({exam for r in dataset if r.patient is None and (exam := _exam(r)) is not None})
    notes = (
        *_repeat_notes(repeat_exams(r.patient for r in dataset if r.patient is not None)),
        *_merge_notes("patient", merged, "copies of a picture"),
        *(
            [f"{count(exams, 'study or volume', 'studies or volumes')} of unknown patients kept whole."]
            if exams
            else []
        ),
        f"{count(copied, 'copy', 'copies')} kept with what they copy ({count(len(copies.clusters), 'cluster')}).",
    )
    of = {r.id: name for r, name in zip(dataset, names, strict=True)}
    return Groups("cluster", of, notes, unknown_patients(dataset))


def _persons(records: Sequence[Record]) -> list[tuple[str, str] | None]:
    """Return whose each slice is: its dataset and patient, repeat exams under one id; None where unknown."""
    ids: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.patient is not None:
            ids[record.source].add(record.patient)
    repeats = {source: repeat_exams(names) for source, names in ids.items()}
    return [None if (p := r.patient) is None else (r.source, repeats[r.source].get(p, p)) for r in records]


def _exam(record: Record) -> Hashable | None:
    """Return what holds slices of one person together where the person is unknown: the study, else the volume."""
    if record.study is not None:
        return record.source, "study", record.study
    return None if record.at is None else record.path


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
    notes = [*notes, *_merge_notes(grouping, {name: root(name) for name in joined}, "an identical file")]
    return Groups(grouping, {i: root(name) for i, name in of.items()}, tuple(notes))


def _repeat_notes(repeats: Mapping[str, str]) -> list[str]:
    if not repeats:
        return []
    some = ", ".join(f"{old} with {new}" for old, new in list(repeats.items())[:3])
    return [f"{count(len(repeats), 'patient id')} of a repeat exam, marked by a letter, merged ({some})."]


def _merge_notes(grouping: Grouping, merged: Mapping[str, str], shared: str) -> list[str]:
    """Return the sentence on names that became one, ``merged`` being each old name -> the new; none where none did."""
    if not merged:
        return []
    some = next(iter(merged))
    return [
        f"{len({*merged, *merged.values()})} {grouping} ids that share {shared} were merged "
        f"({some} with {merged[some]}{' and others' if len(merged) > 1 else ''})."
    ]


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
            f"fill in the {grouping} of every slice, keep known patients and copies of a slice together with --group "
            "auto, or accept the leak by name with --record-wise"
        )
    return group
