"""What copies mean: counted by hand on four Training and four Testing slices of one dataset and two of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from handmade_slices import listed

from gyrus.audit.leaks import ACROSS, LEAK, WITHIN, copy_findings, find_leaks, overlaps
from gyrus.audit.pool import common_labels, parts_of, pool
from gyrus.duplicates import Copies, Pair
from gyrus.errors import InputError
from gyrus.groups import group_slices
from gyrus.records import Dataset, Record
from gyrus.splits import holdout

OFFICIAL = "the official split of one"


def pair(first: int, second: int, kind: str, similarity: float = 1.0) -> Pair:
    return Pair(first=first, second=second, kind=kind, similarity=similarity, turn="as is")  # type: ignore[arg-type]


@pytest.fixture
def datasets(tmp_path: Path) -> list[Dataset]:
    """``one`` with slices 0-3 in Training and 4-7 in Testing; ``two`` with slices 8 and 9."""
    one = listed(tmp_path / "one", [(f"{i}", "glioma" if i % 2 else "meningioma", None) for i in range(8)], name="one")
    parts = ("Training",) * 4 + ("Testing",) * 4
    one = replace(one, records=tuple(replace(r, subset=p) for r, p in zip(one, parts, strict=True)))
    return [one, listed(tmp_path / "two", [("a", "tumor", None), ("b", "no_tumor", None)], name="two")]


@pytest.fixture
def pooled(datasets: list[Dataset]) -> Dataset:
    return pool(datasets)


# 4 copies 0 pixel for pixel and 1 nearly; 5 is 4's file; 6 copies 3 nearly; 7 nothing; 8 copies 2; 9 nothing.
PAIRS = (
    pair(0, 4, "pixels"),
    pair(1, 4, "near", 0.97),
    pair(4, 5, "file"),
    pair(3, 6, "near", 0.98),
    pair(2, 8, "near", 0.99),
)
COPIES = Copies(n=10, pairs=PAIRS, clusters=((0, 1, 4, 5), (3, 6), (2, 8)), unreadable={})


def test_slices_are_called_by_their_dataset(pooled: Dataset, datasets: list[Dataset]) -> None:
    assert [r.id for r in pooled][:2] == ["one/0", "one/1"]
    assert [r.source for r in pooled] == ["one"] * 8 + ["two"] * 2
    assert pooled.info.name == "one + two"
    twice = pool([datasets[0], datasets[0]])
    assert {r.source for r in twice} == {"one-1", "one-2"}
    unnamed = replace(datasets[1], info=replace(datasets[1].info, name="folder"))
    assert {r.source for r in pool([unnamed])} == {"two"}  # its folder's name


def test_labels_are_brought_to_what_all_datasets_say(pooled: Dataset) -> None:
    assert common_labels(pooled.records) == ["tumor"] * 9 + ["no_tumor"]
    assert common_labels(pooled.records[:2]) == ["meningioma", "glioma"]


def test_parts_come_from_folders_and_files(datasets: list[Dataset], tmp_path: Path) -> None:
    rows = [(f"{label}{i}", label, f"{label}{i}") for label in ("glioma", "no_tumor") for i in range(10)]
    third = listed(tmp_path / "three", rows, name="three")
    split = holdout(third)
    everything = [*datasets, third]
    parts = parts_of(pool(everything), everything, [split])
    title = "the patient-wise split holdout 0.7/0.1/0.2, seed 0 of three"
    assert list(parts) == [OFFICIAL, title]
    assert (parts[OFFICIAL]["one/3"], parts[OFFICIAL]["one/4"]) == ("train", "test")
    assert {i for i, part in parts[title].items() if part == "test"} == {f"three/{i}" for i in split.test}
    with pytest.raises(InputError, match="fits none of the data"):
        parts_of(pool(datasets), datasets, [split])


def test_no_split_takes_the_place_of_another(tmp_path: Path) -> None:
    """Splits of the same scheme and seed: by patient, record-wise, and one that was made again in another way."""
    rows = [(f"{label}{i}", label, f"{label}{i // 2}") for label in ("glioma", "no_tumor") for i in range(20)]
    data = listed(tmp_path / "data", rows, name="data")
    safe = holdout(data)
    leaking = holdout(data, grouping=group_slices(data, "record-wise"))
    swapped = replace(safe, val=safe.test, test=safe.val)
    parts = parts_of(pool([data]), [data], [safe, leaking, swapped])
    assert [title.partition(" split ")[0] for title in parts] == [
        "the patient-wise",
        "the record-wise",
        "the patient-wise",
    ]
    assert [title.rpartition("data")[2] for title in parts] == [" (1)", "", " (2)"]
    for split, found in zip((safe, leaking, swapped), parts.values(), strict=True):
        assert {i for i, part in found.items() if part == "test"} == {f"data/{i}" for i in split.test}


def test_a_test_slice_counts_by_its_closest_copy_in_training(pooled: Dataset, datasets: list[Dataset]) -> None:
    (leak,) = find_leaks(pooled, COPIES, parts_of(pooled, datasets, []))
    assert (leak.split, leak.n, leak.repeated) == (OFFICIAL, 4, 3)
    # 4 by its pixels though it has a near copy too; 5, the same file as 4, by them as well; 6 nearly
    assert leak.by_kind == {"pixels": 2, "near": 1}
    assert leak.sentence == (
        "3 of the 4 test slices of the official split of one repeat a training slice: "
        "2 as the same pixels, 1 as a near-duplicate."
    )
    none = Copies(n=10, pairs=(), clusters=(), unreadable={})
    (leak,) = find_leaks(pooled, none, parts_of(pooled, datasets, []))
    assert leak.sentence == "No test slice of the official split of one repeats a training slice (4 compared)."


def test_datasets_that_repeat_each_other_are_counted_both_ways(pooled: Dataset) -> None:
    there, back = overlaps(pooled, COPIES)
    assert there == {"of": "one", "n": 8, "in": "two", "repeated": 1, "by_label": {"meningioma": 1}}
    assert back == {"of": "two", "n": 2, "in": "one", "repeated": 1, "by_label": {"tumor": 1}}


def test_each_cluster_is_one_finding_and_leaks_are_worst(pooled: Dataset, datasets: list[Dataset]) -> None:
    found = copy_findings(pooled, COPIES, parts_of(pooled, datasets, []))
    assert [f.kind for f in found] == [LEAK, LEAK, ACROSS]
    assert found[0].slices == ("one/0", "one/1", "one/4", "one/5")
    assert found[0].sentence == (
        "One picture 4 times, at the closest the same file; it crosses the official split of one."
    )
    assert found[0].facts["least_similarity"] == 0.97  # slice 1's best pair
    assert found[0].score > found[1].score > found[2].score
    (within,) = copy_findings(pooled, replace(COPIES, clusters=((0, 1),)), {})
    assert within.kind == WITHIN


def test_one_dataset_overlaps_with_nothing(datasets: list[Dataset]) -> None:
    alone = pool(datasets[:1])
    assert overlaps(alone, replace(COPIES, clusters=((0, 1),))) == []
    assert all(isinstance(r, Record) for r in alone)
