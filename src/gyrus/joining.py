"""Several datasets as one, in which no picture occurs twice and a person never crosses a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gyrus.artifacts import refuse_existing
from gyrus.datasets import open_dataset, write_manifest
from gyrus.datasets.listing import count
from gyrus.duplicates import find_copies
from gyrus.errors import InputError
from gyrus.groups import join_groups
from gyrus.loading import Progress
from gyrus.paths import PathLike, PathLikes, all_paths
from gyrus.records import Dataset, DatasetInfo, Record


def join_datasets(
    roots: PathLikes, out: PathLike, *, name: str | None = None, progress: Progress | None = None
) -> Dataset:
    """Write a manifest of the slices of several datasets, each picture once.

    Of a cluster of copies (:func:`gyrus.duplicates.find_copies`) the slice of the dataset named first stays, with its
    label, outline and patient; so name the one first whose labels you trust most. Where copies within one dataset carry
    different labels, none of them stays. Whose a slice is stays unknown where neither it nor a copy of it says;
    patients of two datasets are never taken for one.

    Args:
        roots: datasets, in the order of trust.
        out: folder for ``manifest.csv`` and ``dataset.json``; the pictures stay where they are.
        name: of the new dataset; by default the names of all, joined by a plus.
        progress: called while slices are compared.

    Returns:
        Dataset: the manifest, opened; its faults count what was left out, and repeat those of its sources.

    Raises:
        InputError: fewer than two datasets, one that cannot be read, a slice that cannot be read or has no label, or
            ``out`` exists.
    """
    roots, out = all_paths(roots), Path(out)
    if len(roots) < 2:
        raise InputError("joining takes two datasets or more: name another folder")
    datasets = [open_dataset(root) for root in roots]
    names = [d.info.name for d in datasets]
    called = [n if names.count(n) == 1 else f"{n}-{i}" for i, n in enumerate(names, start=1)]
    records = [replace(r, id=f"{n}:{r.id}", source=n) for n, d in zip(called, datasets, strict=True) for r in d]
    owner = [i for i, d in enumerate(datasets) for _ in d]
    unlabelled = next((r for r in records if r.label is None), None)
    if unlabelled is not None:
        raise InputError(f"{unlabelled.path} has no label: add one, or leave its dataset out")
    refuse_existing(out)
    copies = find_copies(records, progress=progress)
    if copies.unreadable:
        raise InputError(next(iter(copies.unreadable.values())))
    dropped: set[int] = set()
    contradicting = 0
    for cluster in copies.clusters:
        first = min(owner[i] for i in cluster)
        trusted = [i for i in sorted(cluster) if owner[i] == first]
        agree = len({records[i].label for i in trusted}) == 1
        contradicting += 0 if agree else len(trusted)
        dropped.update(set(cluster) - ({trusted[0]} if agree else set()))
    groups = join_groups(records, copies)  # two patients who share a picture are one
    people: dict[str, str] = {}
    for group, r in zip(groups, records, strict=True):
        if r.patient is not None:
            people.setdefault(group, f"{r.source}:{r.patient}")
    kept = [_named(r, people.get(groups[i])) for i, r in enumerate(records) if i not in dropped]
    if not kept:
        raise InputError(f"of {len(records)} slices none is left, since copies of each carry other labels: mend these")
    notes = [
        f"{count(sum(owner[i] == k for i in dropped), 'slice')} of {called[k]}'s {len(d):,} left out as copies."
        for k, d in enumerate(datasets)
    ]
    if contradicting:
        notes.append(f"{count(contradicting, 'slice')} of those left out because their copies carry other labels.")
    unknown = sum(r.patient is None for r in kept)
    if unknown:
        notes.append(
            f"{count(unknown, 'slice')} without a patient: slices of one person may be on both sides of a split."
        )
    faults = [f"{n}: {fault}" for n, d in zip(called, datasets, strict=True) for fault in d.info.faults]
    info = DatasetInfo(
        name=name or "+".join(called),
        title="Joined: " + "; ".join(d.info.title for d in datasets),
        citation="; ".join(d.info.citation for d in datasets if d.info.citation),
        licence="; ".join(f"{d.info.name}: {d.info.licence or 'not stated'}" for d in datasets),
        classes=tuple(sorted({str(r.label) for r in kept})),
        faults=(*notes, *faults),
    )
    write_manifest(Dataset(info=info, root=out, records=tuple(kept)), out / "manifest.csv")
    return open_dataset(out, "manifest")


def _named(record: Record, person: str | None) -> Record:
    """Return a slice of this person; of an unknown one, its study is told apart from other datasets' of that name."""
    if person is not None or record.study is None:
        return replace(record, patient=person)
    return replace(record, patient=None, study=f"{record.source}:{record.study}")
