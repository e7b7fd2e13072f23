"""Groups: what may not be torn apart, by patient, study or cluster, and why two of them became one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from handmade_slices import listed

from gyrus.duplicates import Copies, Pair
from gyrus.errors import InputError
from gyrus.groups import group_slices, identical_files, join_groups, repeat_exams, with_patients_whole
from gyrus.io import SliceRef
from gyrus.records import Dataset, Record

ROWS = [
    ("a", "glioma", "MR048294"),
    ("b", "glioma", "MR048294B"),
    ("c", "meningioma", "110"),
    ("d", "meningioma", "111"),
]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return listed(tmp_path, ROWS)


def unknown(data: Dataset) -> Dataset:
    return replace(data, records=tuple(replace(r, patient=None) for r in data))


def drawn(folder: Path) -> Dataset:
    """Return four pictures without patients: a head, its mirror image, and two others."""
    data = unknown(listed(folder, [(f"{i}.png", label, None) for i, label in enumerate(("x", "y", "x", "y"))]))
    rng = np.random.default_rng(0)
    pictures = [cv2.GaussianBlur(rng.random((96, 96)), (0, 0), 4) for _ in range(3)]
    pictures = [(255 * (p - p.min()) / np.ptp(p)).astype(np.uint8) for p in pictures]
    for record, picture in zip(data, (pictures[0], pictures[0][:, ::-1], pictures[1], pictures[2]), strict=True):
        assert cv2.imwrite(str(record.path), picture)
    return data


@pytest.mark.parametrize(
    ("ids", "merged"),
    [
        (["MR048294", "MR048294B"], {"MR048294B": "MR048294"}),
        (["MR048294A", "MR048294B"], {"MR048294A": "MR048294", "MR048294B": "MR048294"}),
        (["MR048294", "MR048295B"], {}),  # another person's
        (["S1A", "S1B", "S1"], {}),  # a study's own way of counting
        (["100360", "100361"], {}),
        (["MR048294", "MR048294b", "MR048294-2"], {}),
        ([], {}),
    ],
)
def test_repeat_exams_are_ids_that_differ_by_a_letter(ids: list[str], merged: dict[str, str]) -> None:
    assert repeat_exams(ids) == merged


def test_repeat_exams_are_merged_with_a_note(data: Dataset) -> None:
    groups = group_slices(data, "patient")
    assert groups.of == {"a": "MR048294", "b": "MR048294", "c": "110", "d": "111"}
    assert groups.notes == ("1 patient id of a repeat exam, marked by a letter, merged (MR048294B with MR048294).",)


def test_patients_that_share_a_file_are_merged_with_a_note(data: Dataset) -> None:
    for record, content in zip(data, (b"one", b"two", b"two", b"three"), strict=True):
        record.path.write_bytes(content)
    assert identical_files(data) == (("b", "c"),)
    groups = group_slices(data)
    assert groups.grouping == "patient"
    assert groups.of == {"a": "110", "b": "110", "c": "110", "d": "111"}
    assert "2 patient ids that share an identical file were merged (MR048294 with 110)." in groups.notes


def test_pictures_of_one_grey_merge_nobody(data: Dataset) -> None:
    """As the end slices of many series are."""
    for record, level in zip(data, (0, 0, 90, 90), strict=True):
        record.path.write_bytes(cv2.imencode(".png", np.full((64, 64), level, np.uint8))[1].tobytes())
    assert identical_files(data) == ()
    assert group_slices(data, "patient").of == {"a": "MR048294", "b": "MR048294", "c": "110", "d": "111"}
    groups = group_slices(data, "cluster")
    assert len(set(groups.of.values())) == 3  # the repeat exam's two are one person


def test_two_pairs_of_merged_patients_are_four_ids(tmp_path: Path) -> None:
    data = listed(tmp_path, [(f"{i}", "glioma", f"p{i}") for i in range(5)])
    for record, content in zip(data, (b"one", b"one", b"two", b"two", b"three"), strict=True):
        record.path.write_bytes(content)
    groups = group_slices(data)
    assert groups.of == {"0": "p0", "1": "p0", "2": "p2", "3": "p2", "4": "p4"}
    assert groups.notes == ("4 patient ids that share an identical file were merged (p1 with p0 and others).",)


def test_slices_of_one_file_are_not_its_copies(data: Dataset) -> None:
    for record in data:
        record.path.write_bytes(b"same")
    one_file = replace(data, records=tuple(replace(r, path=data.records[0].path) for r in data))
    assert identical_files(one_file) == ()
    assert identical_files(data) == (("a", "b", "c", "d"),)


def test_auto_takes_patients_else_clusters(tmp_path: Path) -> None:
    data = drawn(tmp_path)
    groups = group_slices(data)
    first, mirrored, *others = (groups.of[r.id] for r in data)
    assert groups.grouping == "cluster"
    assert first == mirrored
    assert len({first, *others}) == 3
    assert groups.notes == ("1 copy kept with what they copy (1 cluster).",)
    assert groups.unknown == {r.id for r in data}


@pytest.mark.parametrize("grouping", ["auto", "cluster"])
def test_known_patients_stay_whole_where_others_are_unknown(tmp_path: Path, grouping: str) -> None:
    """0.png and its mirror image, whose patient is unknown; 2.png and 3.png, two exams of one person."""
    data = drawn(tmp_path)
    patients = ("MR048294", None, "MR048294B", "MR048295")
    known = replace(data, records=tuple(replace(r, patient=p) for r, p in zip(data, patients, strict=True)))
    groups = group_slices(known, grouping)
    assert groups.grouping == "cluster"
    assert groups.of == {"0.png": "0.png", "1.png": "0.png", "2.png": "0.png", "3.png": "3.png"}
    assert groups.unknown == {"1.png"}
    assert groups.notes == (
        "1 patient id of a repeat exam, marked by a letter, merged (MR048294B with MR048294).",
        "1 copy kept with what they copy (1 cluster).",
    )


def test_patients_who_share_a_copy_are_one_where_others_are_unknown(tmp_path: Path) -> None:
    data = drawn(tmp_path)
    patients = ("ann", "bob", "bob", None)
    groups = group_slices(
        replace(data, records=tuple(replace(r, patient=p) for r, p in zip(data, patients, strict=True)))
    )
    assert groups.of == {"0.png": "0.png", "1.png": "0.png", "2.png": "0.png", "3.png": "3.png"}
    assert groups.notes[0] == "2 patient ids that share copies of a picture were merged (bob with ann)."


def test_a_study_or_volume_of_an_unknown_patient_stays_whole(tmp_path: Path) -> None:
    """0.png and its mirror image of two studies; 2.png and 3.png of one; two slices of one volume."""
    data = drawn(tmp_path)
    exams = ("s1", "s2", "s3", "s3")
    groups = group_slices(replace(data, records=tuple(replace(r, study=s) for r, s in zip(data, exams, strict=True))))
    assert groups.grouping == "cluster"
    assert groups.of == {"0.png": "0.png", "1.png": "0.png", "2.png": "2.png", "3.png": "2.png"}
    assert groups.notes[0] == "3 studies or volumes of unknown patients kept whole."
    nothing = Copies(n=4, pairs=(), clusters=(), unreadable={})
    cut = [Record(str(i), Path("a.nii" if i < 2 else "b.nii"), at=SliceRef("axial", i)) for i in range(4)]
    assert join_groups(cut, nothing) == ["0", "0", "2", "2"]
    known = [replace(r, study="first", patient=p) for r, p in zip(data, ("ann", "ann", "bob", None), strict=True)]
    assert join_groups(known, nothing) == ["0.png", "0.png", "2.png", "3.png"]  # every patient may have a first study


def test_groups_that_tear_a_patient_apart_are_seen() -> None:
    records = [Record(str(i), Path(str(i)), "glioma", p) for i, p in enumerate(("ann", None, "ann"))]
    whole = {"0": "x", "1": "y", "2": "x"}
    assert with_patients_whole(records, whole) == whole
    assert with_patients_whole(records, {"0": "x", "1": "y", "2": "z"}) == whole
    assert with_patients_whole(records, {"0": "x"})["1"] == ""


def test_a_picture_that_cannot_be_read_stops_clustering(tmp_path: Path) -> None:
    data = drawn(tmp_path)
    data.records[2].path.write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=data.records[2].path.name):
        group_slices(data)


def test_joined_groups_follow_patients_and_copies_across_datasets(data: Dataset) -> None:
    records = [*(replace(r, source="one") for r in data), replace(data.records[2], id="e", source="two", patient=None)]
    records.append(replace(data.records[3], id="f", source="two"))  # another "111": patients are a dataset's own
    pair = Pair(first=0, second=4, kind="near", similarity=0.99, turn="as is")
    copies = Copies(n=6, pairs=(pair,), clusters=((0, 4),), unreadable={})
    assert join_groups(records, copies) == ["a", "a", "c", "d", "a", "f"]  # b is a repeat exam
    elsewhere = [*records[:5], replace(records[5], patient="MR048294C")]  # another hospital's number
    assert join_groups(elsewhere, copies) == ["a", "a", "c", "d", "a", "f"]


def test_what_cannot_be_grouped_is_refused(data: Dataset) -> None:
    with pytest.raises(InputError, match="cannot be grouped by 'site': choose one of auto, patient, study, cluster"):
        group_slices(data, "site")
    with pytest.raises(InputError, match=r"'a' has no patient.*--group auto.*--record-wise"):
        group_slices(unknown(data), "patient")
    with pytest.raises(InputError, match="group by patient"):
        group_slices(data, "study")
