"""Whose the slices of a run are: what its intervals draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from handmade_slices import listed

from gyrus.groups import Groups, group_slices
from gyrus.records import Dataset
from gyrus.rundata import Fold
from gyrus.splits import holdout


def data(root: Path, patients: Sequence[str | None]) -> Dataset:
    """Two slices of each patient, of two classes in turn."""
    rows = [(f"{n}-{k}", ("glioma", "pituitary")[n % 2], p) for n, p in enumerate(patients) for k in range(2)]
    found = listed(root, [(i, label, p or "x") for i, label, p in rows])
    known = {i: p for i, _, p in rows}
    return replace(found, records=tuple(replace(r, patient=known[Path(r.id).stem]) for r in found))


def fold(dataset: Dataset, grouping: str | Groups) -> Fold:
    return Fold(Path("run"), dataset, holdout(dataset, (0.5, 0.0, 0.5), grouping=grouping))


def persons(one: Fold) -> int:
    return len(set(one.persons.values()))


def test_a_person_is_one_under_all_ids(tmp_path: Path) -> None:
    found = data(tmp_path / "data", ["MR0001", "MR0002", "MR0001B", "MR0002B", "MR0003", "MR0004"])
    by_patient = fold(found, "patient")
    assert persons(by_patient) == 4
    assert by_patient.persons == group_slices(found, "patient").of


def test_a_record_wise_split_does_not_make_persons_of_slices(tmp_path: Path) -> None:
    found = data(tmp_path / "data", ["MR0001", "MR0002", "MR0001B", "MR0002B", "MR0003", None])
    assert persons(fold(found, "record-wise")) == 3 + 2  # nobody knows whose the last two are


def test_copies_of_unknown_persons_are_drawn_together(tmp_path: Path) -> None:
    found = data(tmp_path / "data", [None] * 6)
    of = {r.id: r.id.partition("-")[0] for r in found}
    assert persons(fold(found, Groups("cluster", of, unknown=frozenset(of)))) == 6
