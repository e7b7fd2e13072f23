"""Volume files and DICOM series as a dataset: recognised, cut in the plane they lie in, and without identity."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from handmade_slices import write_png
from handmade_volumes import (
    AFFINE,
    BLOCK,
    IDENTITY,
    ORDERS,
    TRACES,
    report_dataset,
    save_dicom,
    save_nifti,
    save_series,
    slice_dataset,
    stored,
    tilted,
)
from pydicom import dcmread

from gyrus.datasets import open_dataset, open_files
from gyrus.datasets.describe import describe
from gyrus.datasets.registry import open_cases, recognise
from gyrus.datasets.volumes import open_cases as open_volume_cases
from gyrus.errors import InputError

CORONAL = next(o for o in ORDERS if o[0][2] == 1)  # stored with its slices in coronal planes


@pytest.fixture
def series_folder(tmp_path: Path) -> Path:
    """A coronal series in a folder named after its patient."""
    return save_series(tmp_path / "MORIARTY_JAMES", *stored(CORONAL))


def test_what_is_recognised(tmp_path: Path, series_folder: Path) -> None:
    nifti = save_nifti(tmp_path / "deep" / "er" / "T1.nii.gz", BLOCK)
    for path in (nifti, nifti.parent, tmp_path, series_folder, series_folder / "IM003"):
        assert recognise(path) == "volumes", path
    write_png(tmp_path / "deep" / "a.png", np.zeros((4, 4), np.uint8))
    assert recognise(tmp_path) == "folder"  # pictures beside it: not a folder of volumes
    assert recognise(series_folder) == "volumes"


def test_a_nifti_file(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "T1.nii.gz", BLOCK)
    for root in (path, tmp_path):
        data = open_dataset(root)
        assert data.info.name == "volumes"
        assert [r.id for r in data] == [f"T1.nii.gz#axial-{i}" for i in range(7)]  # 3.5 mm apart: the widest
        assert {(r.label, r.patient, r.mask, r.plane) for r in data} == {(None, None, None, "axial")}
    assert (data.records[2].read().pixels == BLOCK[:, :, 2].T[::-1, ::-1]).all()


def test_a_series_is_cut_as_it_lies_and_tells_nothing_of_its_patient(series_folder: Path) -> None:
    data = open_dataset(series_folder)
    assert [r.plane for r in data] == ["coronal"] * 6  # although axial slices are the farthest apart
    assert (data.records[4].read().pixels == BLOCK[:, 4, :].T[::-1, ::-1]).all()
    (patient,) = {r.patient for r in data}
    assert patient is not None
    assert len(patient) == 16
    assert int(patient, 16) >= 0
    (case,) = open_cases(series_folder).cases
    assert case.id == f"{patient}/series-1"  # not the folder's name
    said = json.dumps([case.id, case.patient, case.study, *(r.patient for r in data), *(r.study for r in data)]).lower()
    assert [word for word in TRACES if word in said] == []


def test_the_same_files_have_the_same_keys_and_other_salts_others(series_folder: Path) -> None:
    assert open_dataset(series_folder).fingerprint == open_dataset(series_folder).fingerprint
    keys = {open_volume_cases(series_folder, salt * 16).cases[0].patient for salt in (b"a", b"b")}
    keys.add(open_volume_cases(series_folder).cases[0].patient)
    assert len(keys) == 3
    (named,) = open_volume_cases(series_folder, keep_identity=True).cases
    assert (named.id, named.patient) == ("MORIARTY_JAMES", IDENTITY["PatientID"])


def test_a_short_salt_and_a_mixture_of_patients_are_refused(series_folder: Path) -> None:
    with pytest.raises(InputError, match="a salt of 3 bytes can be guessed"):
        open_volume_cases(series_folder, b"abc")
    ds = dcmread(series_folder / "IM002")
    ds.PatientID = "somebody else"
    ds.save_as(series_folder / "IM002")
    with pytest.raises(InputError, match="holds files of 2 patient ids"):
        open_volume_cases(series_folder)


def test_two_series_of_one_patient_and_one_of_another(tmp_path: Path) -> None:
    for name, patient in (("a", "P1"), ("b", "P2"), ("c", "P1")):
        save_series(tmp_path / name, BLOCK, AFFINE, PatientID=patient)
    first, other, second = open_cases(tmp_path).cases
    assert first.patient == second.patient != other.patient
    assert [c.id.split("/")[1] for c in (first, other, second)] == ["series-1", "series-1", "series-2"]
    assert len(open_dataset(tmp_path)) == 21


def test_a_file_that_does_not_say_whose_it_is(tmp_path: Path) -> None:
    data = open_dataset(save_series(tmp_path / "x", BLOCK, AFFINE, PatientID=""))
    assert {r.patient for r in data} == {None}


def test_one_dicom_file_is_one_slice_as_displayed(tmp_path: Path) -> None:
    series = save_series(tmp_path / "x", *stored(CORONAL))
    (record,) = open_dataset(series / "IM000").records
    assert (record.at, record.plane, record.id) == (None, "coronal", "IM000")
    bare = slice_dataset(np.arange(12, dtype=np.int16).reshape(3, 4))
    (record,) = open_dataset(save_dicom(tmp_path / "bare.dcm", bare)).records
    assert record.plane is None
    assert record.read().shape == (3, 4)


def test_the_volumes_of_a_4d_file(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "bold.nii", np.stack([BLOCK, BLOCK + 500], axis=3))
    (case,) = open_cases(path).cases
    assert list(case.images) == ["0", "1"]
    assert (case.image("1").read().voxels == BLOCK + 500).all()
    assert (open_dataset(path).records[0].read().pixels == BLOCK[:, :, 0].T[::-1, ::-1]).all()


def test_a_folder_of_reports_is_left_out_with_a_note(tmp_path: Path) -> None:
    save_nifti(tmp_path / "T1.nii", BLOCK)
    save_dicom(tmp_path / "sr" / "report.dcm", report_dataset())
    assert open_dataset(tmp_path).notes == ("1 folder of DICOM files without an image left out: 'sr'.",)
    with pytest.raises(InputError, match="holds no volumes"):
        open_dataset(tmp_path / "sr")
    with pytest.raises(InputError, match="sr is a folder without DICOM images"):
        open_files([tmp_path / "sr"])


@pytest.mark.parametrize("name", ["DICOMDIR", "ZZZ"])
def test_what_holds_no_image_hides_no_patient(series_folder: Path, name: str) -> None:
    """It states no patient, and comes first or last by its name."""
    (before,) = {r.patient for r in open_dataset(series_folder)}
    nobody = dict.fromkeys(IDENTITY)
    save_dicom(series_folder / name, report_dataset(**nobody))
    assert {(r.patient, r.study is None) for r in open_dataset(series_folder)} == {(before, False)}
    assert before is not None


def test_a_damaged_header_is_one_sentence(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "a.dcm", slice_dataset(BLOCK[0]))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x02\0\x10\0UI", b"\x02\0\x10\0U\xd7", 1))
    with pytest.raises(InputError, match=r"a\.dcm is damaged, or DICOM of a kind"):
        open_dataset(path)


def test_an_odd_uid_is_not_quoted(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = save_dicom(tmp_path / "a.dcm", slice_dataset(BLOCK[0], StudyInstanceUID="1.2.3.4567"))
    path.write_bytes(path.read_bytes().replace(b"1.2.3.4567", b"JOHN^DOE67"))
    assert open_dataset(path).records[0].study is not None
    assert not recwarn.list


def test_a_pair_of_header_and_voxels(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(BLOCK, AFFINE), tmp_path / "T1.img")
    for root in (tmp_path, tmp_path / "T1.hdr"):
        data = open_dataset(root)
        assert [r.id for r in data][:2] == ["T1.hdr#axial-0", "T1.hdr#axial-1"]
    assert (data.records[2].read().pixels == BLOCK[:, :, 2].T[::-1, ::-1]).all()


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no volumes"):
        open_dataset(tmp_path, "volumes")
    mixed = save_series(tmp_path / "mixed", BLOCK, AFFINE)
    save_dicom(mixed / "other", slice_dataset(BLOCK[0], SeriesInstanceUID="1.2.9"))
    with pytest.raises(InputError, match=r"mixed holds (2 DICOM series|slices that)"):
        open_dataset(mixed)
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(InputError, match=r"cut\.nii\.gz"):
        open_dataset(tmp_path / "cut.nii.gz")
    write_png(tmp_path / "p" / "glioma" / "a.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="holds slices, not volumes"):
        open_cases(tmp_path / "p")


def test_described_without_identity(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "x", BLOCK, tilted(degrees=(0, 0, 9)))
    value = describe(folder)
    assert value["volumes"] == [
        {
            "modality": "MR",
            "shape": (5, 6, 7),
            "spacing_mm": (0.75, 1.25, 3.5),
            "acquired": "axial",
            "oblique_degrees": 9.0,
            "volumes": 1,
        }
    ]
    assert value["sizes"] == [{"height": 6, "width": 5, "slices": 7}]
    assert (value["slices"], value["patients"], value["planes"]) == (7, 1, {"axial": 7})
    said = json.dumps({k: v for k, v in value.items() if k != "root"}).lower()
    assert [word for word in TRACES if word in said] == []
