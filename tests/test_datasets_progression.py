"""Brain-Tumor-Progression as NIfTI copies and as TCIA's DICOM folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from handmade_volumes import AFFINE, BLOCK, ORDERS, save_nifti, save_series, stored

from gyrus.datasets import open_dataset
from gyrus.datasets.cases import LABELS, read_labels
from gyrus.datasets.describe import describe
from gyrus.datasets.registry import open_cases, recognise
from gyrus.errors import InputError

DRAWN = (BLOCK > 150).astype(np.uint8)
LPS = next(o for o in ORDERS if o == ((0, 1, 2), (True, True, False)))


@pytest.fixture
def nifti(tmp_path: Path) -> Path:
    for patient in ("01", "02"):
        for n, exam in enumerate(("Pre", "Post")):
            save_nifti(tmp_path / patient / f"{exam}_Scan_T1.nii.gz", BLOCK + np.int16(1000 * n))
            save_nifti(tmp_path / patient / f"{exam}_Mask.nii.gz", DRAWN.astype(np.float64))
    return tmp_path


def exam(root: Path, patient: str, study: str, *series: str) -> None:
    for name in series:
        values = DRAWN * np.uint8(255) if "MaskTumor" in name else BLOCK
        save_series(root / patient / study / name, *stored(LPS, values), SeriesInstanceUID=f"1.2.{len(name)}")


def test_nifti_copies(nifti: Path) -> None:
    assert recognise(nifti) == "progression"
    cases = open_cases(nifti).cases
    assert [c.id for c in cases] == ["01/Pre", "01/Post", "02/Pre", "02/Post"]
    assert [(c.patient, c.study) for c in cases[:2]] == [("01", "01-Pre"), ("01", "01-Post")]
    assert {LABELS[i] for i in np.unique(read_labels(cases[0]))} == {"background", "tumor"}
    assert (cases[1].image("t1ce").read().voxels == BLOCK + 1000).all()
    assert not any(c.spaced for c in cases)
    data = open_dataset(nifti)
    assert data.has_patients
    assert [r.id for r in data][:1] == ["01/Pre_Scan_T1.nii.gz#axial-0"]
    mask = data.records[4].read_mask((6, 5))
    assert mask is not None
    assert (mask == DRAWN[:, :, 4].T[::-1, ::-1]).all()
    assert [r.id for r in open_dataset(nifti / "02")][:1] == ["Pre_Scan_T1.nii.gz#axial-0"]
    assert {r.patient for r in open_dataset(nifti / "02")} == {"02"}


def test_the_placeholder_is_not_given_out_as_a_spacing(nifti: Path) -> None:
    (row,) = describe(nifti)["volumes"]
    assert (row["spacing_mm"], row["shape"], row["volumes"]) == (None, (5, 6, 7), 4)
    assert open_dataset(nifti).records[0].read().spacing is None


def test_tcia(tmp_path: Path) -> None:
    late, early = "01-10-1992-NA-FH-HEADBrain Protocols-79896", "11-19-1991-NA-FH-HEADBrain Protocols-40993"
    exam(tmp_path, "PGBM-001", late, "11.000000-T1post-80644")
    exam(tmp_path, "PGBM-001", early, "11.000000-T1post-03326", "5364.000000-MaskTumor-94345", "35.000000-T2reg-1")
    exam(tmp_path, "PGBM-001", early, "30.000000-dT1-2")  # no modality of the vocabulary: passed over
    assert recognise(tmp_path) == "progression"
    opened = open_cases(tmp_path)
    first, second = opened.cases
    assert (first.id, first.study, first.patient) == ("PGBM-001/exam-1", "PGBM-001-exam-1", "PGBM-001")
    assert (second.id, second.labels) == ("PGBM-001/exam-2", None)
    assert opened.notes == ("1 exam without a tumour mask: 'PGBM-001/exam-2'.",)
    assert list(first.images) == ["t1ce", "t2"]
    assert "1991" in str(first.image("t1ce").path)  # the earlier one, although January comes before November
    assert first.spaced
    assert (read_labels(first) == np.where(BLOCK > 150, LABELS.index("tumor"), 0)).all()
    assert np.allclose(first.image("t1ce").read().affine, AFFINE)
    data = open_dataset(tmp_path / "PGBM-001")
    assert {r.patient for r in data} == {"PGBM-001"}
    assert len(data) == 14
    assert data.records[0].read().spacing is not None  # the DICOM series state their own


def test_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no exam of Brain-Tumor-Progression"):
        open_dataset(tmp_path, "progression")


def test_the_real_copies() -> None:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    data = open_dataset(Path(folder) / "progression")
    assert data.info.name == "progression"
    assert len(data) == 12 * 24
    assert len({r.patient for r in data}) == 6
    masked = [(r, m) for r in data.records[:24] if (m := r.read_mask((256, 256))) is not None and m.any()]
    assert masked
    for record, mask in masked:  # an outlined tumour lies in the head, not in the air around it
        pixels = record.read().pixels
        assert (pixels[mask] > 0.1 * np.percentile(pixels, 99)).mean() > 0.95
