from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from handmade_volumes import (
    AFFINE,
    BLOCK,
    IDENTITY,
    ORDERS,
    TRACES,
    enhanced,
    save_dicom,
    save_nifti,
    save_series,
    slice_dataset,
    stored,
)

from gyrus.datasets import open_files
from gyrus.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("x/10.png", "x/2.JPG", "x/deep/1.tif", "x/notes.txt", "x/.h.png", "x/cvind.mat", "x/7.mat", "y/2.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def ids(*paths: str | Path) -> list[str]:
    return [record.id for record in open_files(paths)]


def test_a_folder_with_what_is_below_it_in_natural_order(root: Path) -> None:
    data = open_files(root / "x")
    assert [r.id for r in data] == ["2.JPG", "7.mat", "10.png", "deep/1.tif"]
    assert data.info.name == "files"
    assert data.root == root / "x"
    assert all(r.label is None and r.patient is None and r.source == "files" for r in data)
    assert all(r.path.is_absolute() and r.path.is_file() for r in data)


def test_one_file_whatever_its_suffix(root: Path) -> None:
    assert ids(root / "x" / "notes.txt") == ["notes.txt"]
    assert [r.id for r in open_files(str(root / "x" / "10.png"))] == ["10.png"]


def test_files_of_the_same_name_get_ids_of_their_own_in_the_given_order(root: Path) -> None:
    assert ids(root / "y" / "2.JPG", root / "x" / "2.JPG") == ["y/2.JPG", "x/2.JPG"]
    assert ids(root / "y", root / "x" / "deep") == ["y/2.JPG", "x/deep/1.tif"]


def test_a_file_named_twice_is_taken_once_and_noted(root: Path) -> None:
    data = open_files([root / "y" / "2.JPG", root / "x" / ".." / "y" / "2.JPG", root / "y"])
    assert [r.id for r in data] == ["2.JPG"]
    assert data.notes == ("2 files named more than once and taken once.",)


def test_relative_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "x")
    assert ids("10.png", "deep") == ["10.png", "deep/1.tif"]
    assert ids(".") == ["2.JPG", "7.mat", "10.png", "deep/1.tif"]


def test_a_link_that_leads_back_up_does_not_go_on_for_ever(root: Path) -> None:
    (root / "x" / "deep" / "up").symlink_to(root, target_is_directory=True)
    assert len(ids(root / "x")) == 4


def test_nothing_to_open_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="no files named"):
        open_files([])
    with pytest.raises(InputError, match="empty holds no images"):
        open_files(root / "empty")
    with pytest.raises(InputError, match=r"none.png does not exist"):
        open_files([root / "y", root / "none.png"])


def test_a_volume_is_cut_into_its_slices(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "Pre_Scan_T1.nii.gz", BLOCK)
    data = open_files(path)
    assert [r.id for r in data] == [f"Pre_Scan_T1.nii.gz#axial-{i}" for i in range(7)]
    assert {(r.plane, r.patient, r.label, r.source) for r in data} == {("axial", None, None, "files")}
    assert (data.records[6].read().pixels == BLOCK[:, :, 6].T[::-1, ::-1]).all()
    assert [r.id for r in open_files(path, plane="sagittal", slices="middle")] == ["Pre_Scan_T1.nii.gz#sagittal-2"]
    assert [r.at.index for r in open_files(path, slices=[5, 1]) if r.at] == [1, 5]
    with pytest.raises(InputError, match=r"Pre_Scan_T1\.nii\.gz \(axial\) has slices 0 to 6, no 7"):
        open_files(path, slices=7)
    with pytest.raises(InputError, match="no plane 'odd'"):
        open_files(path, plane="odd")


def test_a_series_a_file_of_it_and_a_multi_frame_file(tmp_path: Path) -> None:
    order = next(o for o in ORDERS if o[0] == (0, 2, 1))
    series = save_series(tmp_path / "series", *stored(order))
    data = open_files(series)
    assert [r.id for r in data] == [f"series#coronal-{i}" for i in range(6)]
    (single,) = open_files(series / "IM002").records
    assert (single.id, single.at, single.plane) == ("IM002", None, "coronal")
    assert single.patient == open_files(series / "IM002").records[0].patient
    frames = save_dicom(tmp_path / "many.dcm", enhanced(BLOCK, AFFINE))
    assert [r.id for r in open_files(frames)][:2] == ["many.dcm#axial-0", "many.dcm#axial-1"]
    both = open_files([series, series / "IM002"], salt=b"s" * 16)
    (patient,) = {r.patient for r in both}
    assert patient not in (None, IDENTITY["PatientID"])
    assert {r.patient for r in open_files([series / "IM003"], salt=b"s" * 16)} == {patient}


def test_a_folder_of_everything(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    save_nifti(tmp_path / "t1" / "x.nii", BLOCK)
    save_series(tmp_path / "t2", BLOCK, AFFINE)
    data = open_files(tmp_path, slices="middle")
    assert [r.id for r in data] == ["a.png", "t1/x.nii#axial-3", "t2#axial-3"]
    said = repr(data).lower()
    assert [word for word in TRACES if word in said] == []


def test_unreadable_volumes_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.nii\.gz"):
        open_files(tmp_path / "x.nii.gz")
    (tmp_path / "x.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.dcm"):
        open_files(tmp_path / "x.dcm").records[0].read()
    mixed = save_series(tmp_path / "mixed", BLOCK, AFFINE)
    save_dicom(mixed / "other", slice_dataset(BLOCK[0], SeriesInstanceUID="1.2.9"))
    with pytest.raises(InputError, match=r"mixed holds (2 DICOM series|slices that)"):
        open_files(mixed)


@pytest.mark.parametrize(
    ("shape", "spacing", "known"),
    [
        ((128, 128, 24), (1, 1, 1), False),
        ((24, 256, 256), (1, 1, 1), False),
        ((128, 128, 59), (1, 1, 1), False),
        ((128, 128, 60), (1, 1, 1), True),
        ((240, 240, 155), (1, 1, 1), True),
        ((127, 127, 24), (1, 1, 1), True),
        ((128, 160, 24), (1, 1, 1), True),
        ((128, 128, 24), (1, 1, 5), True),
        ((128, 128, 24), (0.9, 0.9, 1), True),
    ],
)
def test_1_mm_of_a_volume_too_thin_for_a_head_is_a_placeholder(
    tmp_path: Path, shape: tuple[int, ...], spacing: tuple[float, ...], known: bool
) -> None:
    path = save_nifti(tmp_path / "x.nii.gz", np.zeros(shape, np.uint8), np.diag([*spacing, 1.0]))
    (record,) = open_files(path, plane="axial", slices="middle").records
    assert record.spaced is known
    assert (record.read().spacing is not None) is known
