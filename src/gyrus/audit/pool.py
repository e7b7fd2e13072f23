"""Several datasets looked at as one: every slice under a name that says where it is from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gyrus.errors import InputError
from gyrus.records import Dataset, DatasetInfo, Record
from gyrus.splits import PARTS, Split

_GENERIC = ("folder", "manifest", "volumes")
_SPECIFIC = ("glioma", "meningioma", "pituitary")
_SIDES = {"Training": "train", "Validation": "val", "Testing": "test"}


def pool(datasets: Sequence[Dataset]) -> Dataset:
    """Return all slices as one dataset; ids become ``name/id`` and ``source`` the name.

    A dataset goes by its published name, one without by its folder's; a name that occurs twice gets a number.
    """
    wanted = [_name(d) for d in datasets]
    counts: Counter[str] = Counter()
    records: list[Record] = []
    for name, dataset in zip(wanted, datasets, strict=True):
        counts[name] += 1
        unique = name if wanted.count(name) == 1 else f"{name}-{counts[name]}"
        records += [replace(r, id=f"{unique}/{r.id}", source=unique) for r in dataset]
    title = " + ".join(dict.fromkeys(r.source for r in records))
    return Dataset(DatasetInfo(name=title, title=title), datasets[0].root, tuple(records))


def common_labels(records: Sequence[Record]) -> list[str | None]:
    """Return the labels in words that all datasets share: "tumor" for each kind, where one of them says no more."""
    coarse = any(r.label == "tumor" for r in records)
    return ["tumor" if coarse and r.label in _SPECIFIC else r.label for r in records]


def parts_of(pooled: Dataset, datasets: Sequence[Dataset], splits: Sequence[Split]) -> dict[str, dict[str, str]]:
    """Return the splits that can leak: title -> record id -> "train", "val" or "test".

    A title that several splits have gets a number, in the order of ``splits``.

    Raises:
        InputError: a split was made for none of the datasets.
    """
    names = list(dict.fromkeys(r.source for r in pooled))
    official = {
        name: {r.id: _SIDES[r.subset] for r in pooled if r.source == name and r.subset in _SIDES} for name in names
    }
    found = {f"the official split of {name}": parts for name, parts in official.items() if len({*parts.values()}) > 1}
    made: list[tuple[str, dict[str, str]]] = []
    for split in splits:
        home = next((n for n, d in zip(names, datasets, strict=True) if d.fingerprint == split.fingerprint), None)
        if home is None:
            raise InputError(
                f"a split of {split.dataset} (fingerprint {split.fingerprint}) fits none of the data: make it anew"
            )
        how = split.grouping if split.leaks else f"{split.grouping}-wise"
        title = f"the {how} split {split.scheme}, seed {split.seed} of {home}"
        made.append((title, {f"{home}/{i}": part for part in PARTS for i in split.part(part)}))
    wanted, counts = [title for title, _ in made], Counter[str]()
    for title, parts in made:
        counts[title] += 1
        found[title if wanted.count(title) == 1 else f"{title} ({counts[title]})"] = parts
    return found


def by_source(records: Sequence[Record]) -> Mapping[str, list[int]]:
    """Return dataset name -> indices of its slices, in order of appearance."""
    found: dict[str, list[int]] = {}
    for i, record in enumerate(records):
        found.setdefault(record.source, []).append(i)
    return found


def _name(dataset: Dataset) -> str:
    if dataset.info.name not in _GENERIC:
        return dataset.info.name
    root = dataset.root.absolute()
    return re.sub(r"[^\w.-]+", "-", (root if root.is_dir() else root.parent).name) or dataset.info.name
