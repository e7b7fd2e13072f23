"""Hold-out, k-fold and official splits that never put one patient on both sides.

A slice-level ("record-wise") split exists because the literature uses it; it must be asked for by name, and everything
made from it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gyrus.artifacts import read_json, refuse_existing, write_json
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.groups import Grouping, Groups, group_slices, identical_files, no_copies_cross, with_patients_whole
from gyrus.loading import Progress
from gyrus.partition import cut_folds, fewest_groups, fold_shares, labelled
from gyrus.paths import PathLike
from gyrus.records import Dataset, Record

PARTS = ("train", "val", "test")
SCHEMA = "gyrus.split/1"


@dataclass(frozen=True)
class Split:
    """Which record is for training, which for choosing, and which is looked at once, at the end.

    Attributes:
        train: ids to fit on.
        val: ids to choose the checkpoint on; may be empty.
        test: ids to report on.
        grouping: "patient", or "study" or "cluster" where not every patient is known (no group crosses a part), or
            "record-wise" (patients may cross: it leaks).
        groups: the group of each id.
        fingerprint: of the dataset the split was made for.
        dataset: that dataset's name.
        seed: of the shuffle.
        scheme: "holdout 0.7/0.1/0.2", "fold 2 of 5", or "official".
        notes: what was merged or left out, one sentence each.
        unknown: of a split by cluster, slices whose patient is unknown, the other patients crossing no part; None of
            another split, and of one by an earlier gyrus, where any patient may cross.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    grouping: Grouping
    groups: Mapping[str, str]
    fingerprint: str
    dataset: str
    seed: int
    scheme: str
    notes: tuple[str, ...] = ()
    unknown: int | None = None

    def __post_init__(self) -> None:
        self._refuse_overlap()

    def part(self, name: str) -> tuple[str, ...]:
        """Return the ids of "train", "val" or "test".

        Raises:
            InputError: there is no part of that name.
        """
        if name not in PARTS:
            raise InputError(f"there is no part {name!r} in a split: choose train, val or test")
        ids: tuple[str, ...] = getattr(self, name)
        return ids

    @property
    def leaks(self) -> bool:
        """Whether slices of one patient may stand on both sides."""
        return self.grouping == "record-wise"

    @property
    def statement(self) -> str:
        """One sentence for the head of every artefact made from this split."""
        sizes = ", ".join(f"{len(self.part(p))} {p}" for p in PARTS if self.part(p))
        if self.leaks:
            how = "RECORD-WISE: slices of one patient may be on both sides, so test figures are optimistic"
        elif self.grouping == "cluster":
            how = "cluster-wise: " + no_copies_cross(self.unknown, sum(len(self.part(p)) for p in PARTS))
        else:
            how = f"{self.grouping}-wise: no {self.grouping} is on both sides"
        return f"{self.dataset}, {self.scheme}, seed {self.seed}, {how} ({sizes} slices)."

    def check(self, dataset: Dataset) -> None:
        """Make sure that the split was made for this dataset and that nothing is on both sides of it.

        Raises:
            InputError: ids, labels, patients or file sizes differ from those it was made for, the split's table of
                groups has been changed, or two parts hold the same file.
        """
        if dataset.fingerprint != self.fingerprint:
            raise InputError(
                f"the split was made for other data ({self.dataset}, fingerprint {self.fingerprint}) than "
                f"{dataset.root} ({dataset.info.name}, fingerprint {dataset.fingerprint}): "
                "make a new one with `gyrus split`"
            )
        # Clusters are not found again: that would read every slice. A copy that was moved across is met below.
        known = self.groups if self.unknown is None else with_patients_whole(dataset.records, self.groups)
        expected = known if self.grouping == "cluster" else group_slices(dataset, self.grouping).of
        changed = next((r for r in dataset if r.id not in self.groups or self.groups[r.id] != expected[r.id]), None)
        if changed is not None:
            raise InputError(f"the split puts {changed.id!r} into another group than {dataset.root}: make a new split")
        if not self.leaks:
            self._refuse_identical(dataset)

    def save(self, path: PathLike) -> None:
        """Write the split as JSON.

        Raises:
            InputError: the file already exists.
        """
        path = Path(path)
        refuse_existing(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"schema": SCHEMA, "statement": self.statement, **self.to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        names = ("dataset", "fingerprint", "scheme", "grouping", "seed", "unknown")
        return {n: getattr(self, n) for n in names} | {
            "parts": {p: list(self.part(p)) for p in PARTS},
            "groups": dict(self.groups),
            "notes": list(self.notes),
        }

    @classmethod
    def load(cls, path: PathLike) -> Split:
        """Read a split and make sure again that no group is in two parts.

        Raises:
            InputError: the file is missing, is no split, or its parts share a record or a group.
        """
        value = read_json(Path(path), "a split made by `gyrus split`")
        try:
            if value["schema"] != SCHEMA:
                raise InputError(f"its schema is {value['schema']!r}, not {SCHEMA!r}: make a new split")
            parts = value["parts"]
            names = ("grouping", "groups", "fingerprint", "dataset", "seed", "scheme")
            fields: dict[str, Any] = {n: value[n] for n in names} | {p: tuple(parts[p]) for p in PARTS}
            return cls(**fields, notes=tuple(value.get("notes", ())), unknown=value.get("unknown"))
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{path} is not a split made by `gyrus split`: a field is missing or misformed") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def _refuse_overlap(self) -> None:
        home: dict[str, str] = {}
        seen: dict[str, str] = {}
        for part in PARTS:
            for record in self.part(part):
                if seen.setdefault(record, part) != part:
                    raise InputError(f"record {record!r} is in both {seen[record]} and {part}: the split leaks")
                group = self.groups.get(record)
                if group is None:
                    raise InputError(f"record {record!r} has no group in the split: make a new one with `gyrus split`")
                if not self.leaks and home.setdefault(group, part) != part:
                    raise InputError(f"{self.grouping} {group!r} is in both {home[group]} and {part}: the split leaks")

    def refuse_learned(self, before: Split, name: str) -> None:
        """Refuse a model trained by another split of the same data, if it learned from what this one holds back.

        Args:
            before: the split it was trained by, of any data.
            name: of the model, for the message.

        Raises:
            InputError: it learned from a group that is in val or test here, or was chosen on one in test.
        """
        if before.fingerprint != self.fingerprint:
            return

        def groups(*parts: Sequence[str]) -> set[str]:
            return {self.groups[i] for part in parts for i in part}

        leaked = groups(before.train) & groups(self.val, self.test) | groups(before.val) & groups(self.test)
        if leaked:
            raise InputError(
                f"{name} has learned from {min(leaked)!r}, which this split holds back, and {len(leaked) - 1} more: "
                "take a run of the same split"
            )

    def _refuse_identical(self, dataset: Dataset) -> None:
        home = {record: part for part in PARTS for record in self.part(part)}
        for ids in identical_files(dataset):
            split = [i for i in ids if i in home]
            other = next((i for i in split if home[i] != home[split[0]]), None)
            if other is not None:
                raise InputError(
                    f"{split[0]} in {home[split[0]]} and {other} in {home[other]} are the same file: the split leaks; "
                    "make a new one with `gyrus split`"
                )


def holdout(
    dataset: Dataset,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    *,
    grouping: str | Groups = "patient",
    seed: int = 0,
    progress: Progress | None = None,
) -> Split:
    """Split once into train, val and test, stratified by class.

    Args:
        dataset: labelled slices.
        fractions: of train, val and test; they sum to 1. The data is cut into the fewest folds of whole groups that
            meet them to within 0.01, ten by default.
        grouping: what may not cross, see :func:`gyrus.group_slices`, or groups that were found before; "record-wise"
            lets patients cross and is labelled for ever.
        seed: of the shuffle.
        progress: called while slices are compared, where they are grouped by cluster.

    Raises:
        InputError: fractions that are no partition, no patients, one class, or fewer groups than folds in a class.
    """
    if not (len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6 and fractions[0] > 0):
        raise InputError(f"fractions {tuple(fractions)} must be three numbers (train, val, test) that sum to 1")
    n_train, n_val, n_test = fold_shares(fractions)
    groups = grouping if isinstance(grouping, Groups) else group_slices(dataset, grouping, progress=progress)
    shares = (n_test, n_val, n_train)
    test, val, train = cut_folds(dataset, shares, groups.of, seed, grouping=groups.grouping)
    scheme = "holdout " + "/".join(f"{f:g}" for f in fractions)
    return _make(dataset, (train, val, test), groups, seed, scheme)


def kfold(
    dataset: Dataset,
    k: int = 5,
    *,
    val_fold: bool = True,
    grouping: str | Groups = "patient",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Split, ...]:
    """Return k splits; each group is in the test part of exactly one of them.

    Args:
        dataset: labelled slices.
        k: how many folds, at least 2 (3 with a validation fold).
        val_fold: take the fold after the test fold for validation, so that no choice is made on test data.
        grouping: as in :func:`holdout`.
        seed: of the shuffle.
        progress: as in :func:`holdout`.

    Raises:
        InputError: as :func:`holdout`.
    """
    if k < 2 + val_fold:
        raise InputError(f"{k} folds are too few: use at least {2 + val_fold}")
    groups = grouping if isinstance(grouping, Groups) else group_slices(dataset, grouping, progress=progress)
    folds = cut_folds(dataset, [1] * k, groups.of, seed, grouping=groups.grouping)
    splits = []
    for i in range(k):
        j = (i + 1) % k if val_fold else None
        train = [r for n, fold in enumerate(folds) if n not in (i, j) for r in fold]
        val = [] if j is None else folds[j]
        splits.append(_make(dataset, (train, val, folds[i]), groups, seed, f"fold {i + 1} of {k}"))
    return tuple(splits)


def official(
    dataset: Dataset,
    *,
    val_folds: int = 10,
    grouping: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Split:
    """Return the split a dataset is published with, its test part without what the training part gives away.

    A Testing slice is kept only if no Training or Validation slice belongs to its group, and a Validation slice only if
    no Training slice does; those left out are counted in the notes. "record-wise" keeps them all, as published, and is
    labelled.

    Args:
        dataset: slices whose ``subset`` is Training, Testing or, where there is one, Validation.
        val_folds: where there is no Validation, one of so many folds of Training takes its place; fewer where a class
            has fewer groups.
        grouping: as in :func:`holdout`.
        seed: of the fold taken for validation.
        progress: as in :func:`holdout`.

    Raises:
        InputError: no official split, no Training or Testing slice, no Testing slice that is left, or a class with too
            few groups in Training to take a validation part from.
    """
    parts: dict[str | None, list[Record]] = {"Training": [], "Validation": [], "Testing": []}
    for record in labelled(dataset):
        if record.subset not in parts:
            raise InputError(f"{dataset.root}: {record.id!r} is in no Training or Testing folder: leave --official out")
        parts[record.subset].append(record)
    missing = next((part for part in ("Training", "Testing") if not parts[part]), None)
    if missing is not None:
        raise InputError(f"{dataset.root} holds no {missing} slices, so it has no official split: leave --official out")
    groups = group_slices(dataset, grouping, progress=progress)
    train = parts["Training"]
    seen = {groups.of[r.id] for r in train}
    kept, notes = {}, []
    for part in ("Validation", "Testing"):
        kept[part] = [r for r in parts[part] if groups.of[r.id] not in seen]
        seen |= {groups.of[r.id] for r in parts[part]}
        lost = len(parts[part]) - len(kept[part])
        if lost:
            notes.append(f"{lost} of {len(parts[part])} {part} slices resemble Training slices: left out.")
    val, test = kept["Validation"], kept["Testing"]
    if not test:
        raise InputError(
            f"{dataset.root}: all {len(parts['Testing'])} Testing slices resemble Training slices, so none is left to "
            "test on: split anew with --group auto"
        )
    if not val:
        label, fewest = fewest_groups(train, groups.of)
        if fewest < 2:
            raise InputError(
                f"{dataset.root}: class {label!r} has 1 {groups.grouping} group in Training, so none is left for "
                "validation: split anew without --official"
            )
        shares, source = (1, min(val_folds, fewest) - 1), dataset.select(r.id for r in train)
        val, train = cut_folds(source, shares, groups.of, seed, grouping=groups.grouping)
    groups = replace(groups, notes=(*groups.notes, *notes))
    return _make(dataset, (train, val, test), groups, seed, "official")


def split_dataset(
    data: PathLike,
    out: PathLike,
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    folds: int | None = None,
    val_fold: bool = True,
    as_published: bool = False,
    group: str = "patient",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Split, ...]:
    """Open a dataset, split it, and save the result: one JSON file, or one per fold in a folder.

    Args:
        data: a dataset's folder or manifest.
        out: the file; with ``folds``, the folder, which gets ``fold-1.json`` and so on.
        fractions: for a hold-out; see :func:`holdout`.
        folds: for cross-validation; see :func:`kfold`.
        val_fold: likewise.
        as_published: the dataset's own split instead; see :func:`official`.
        group: "auto", "patient", "study", "cluster" or "record-wise"; see :func:`gyrus.group_slices`.
        seed: of the shuffle.
        progress: called while slices are compared.

    Raises:
        InputError: ``out`` exists, or as :func:`holdout`.
    """
    out = Path(out)
    refuse_existing(out)
    if folds is not None and as_published:
        raise InputError("an official split has no folds: leave --folds or --official out")
    if folds is None and not val_fold:
        raise InputError("--no-val is about folds: name their number with --folds, or say --fractions 0.8 0 0.2")
    dataset = open_dataset(data)
    how: dict[str, Any] = {"grouping": group, "seed": seed, "progress": progress}
    if folds is not None:
        made = kfold(dataset, folds, val_fold=val_fold, **how)
        for i, split in enumerate(made, start=1):
            split.save(out / f"fold-{i}.json")
        return made
    one = official(dataset, **how) if as_published else holdout(dataset, fractions, **how)
    one.save(out)
    return (one,)


def _make(dataset: Dataset, parts: Sequence[Sequence[Record]], groups: Groups, seed: int, scheme: str) -> Split:
    """Make a split of the records of train, val and test."""
    train, val, test = (tuple(sorted(r.id for r in part)) for part in parts)
    return Split(
        train=train,
        val=val,
        test=test,
        grouping=groups.grouping,
        groups=groups.of,
        fingerprint=dataset.fingerprint,
        dataset=dataset.info.name,
        seed=seed,
        scheme=scheme,
        notes=groups.notes,
        unknown=None if groups.unknown is None else len(groups.unknown & {*train, *val, *test}),
    )
