"""BraTS in its layouts: the same case, the same labels, whatever the files are called and the integers mean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from handmade_volumes import BLOCK, SHAPE, save_nifti

from gyrus.datasets import open_dataset
from gyrus.datasets.brats import patient_of
from gyrus.datasets.cases import LABELS, Case, read_labels
from gyrus.datasets.registry import open_cases, recognise
from gyrus.errors import InputError

NAMES = {
    2020: {"t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "flair": "_flair", "seg": "_seg"},
    2023: {"t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "flair": "-t2f", "seg": "-seg"},
}
INTEGERS = {2020: (0, 1, 2, 4), 2023: (0, 1, 2, 3)}
MODALITIES = ("t1", "t1ce", "t2", "flair")
PARTS = ("background", "necrotic_core", "oedema", "enhancing")
DRAWN = BLOCK % 4  # into PARTS


def write_case(folder: Path, year: int, *, without: tuple[str, ...] = (), drawn: np.ndarray = DRAWN) -> Path:
    """Write a case called as its folder; the voxels of modality n are the block's, plus 1000 n."""
    for n, modality in enumerate(MODALITIES):
        if modality not in without:
            save_nifti(folder / f"{folder.name}{NAMES[year][modality]}.nii.gz", BLOCK + np.int16(1000 * n))
    if "seg" not in without:
        stored = np.array(INTEGERS[year], dtype=np.uint8)[drawn]
        save_nifti(folder / f"{folder.name}{NAMES[year]['seg']}.nii.gz", stored)
    return folder


def write_decathlon(root: Path) -> Path:
    channels = ("flair", "t1", "t1ce", "t2")
    volumes = [BLOCK + np.int16(1000 * MODALITIES.index(m)) for m in channels]
    for folder, name in (("imagesTr", "BRATS_001"), ("imagesTs", "BRATS_485")):
        save_nifti(root / folder / f"{name}.nii.gz", np.stack(volumes, axis=3))
    save_nifti(root / "labelsTr" / "BRATS_001.nii.gz", np.array([0, 2, 1, 3], dtype=np.uint8)[DRAWN])
    table = {
        "name": "BRATS",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    }
    (root / "dataset.json").write_text(json.dumps(table))
    return root


def assert_whole(case: Case) -> None:
    assert set(case.images) == set(MODALITIES)
    for n, modality in enumerate(MODALITIES):
        assert (case.image(modality).read().voxels == BLOCK + 1000 * n).all()
    assert (np.array(LABELS)[read_labels(case)] == np.array(PARTS)[DRAWN]).all()
    assert case.tumour == "glioma"


@pytest.mark.parametrize(
    ("year", "name", "patient"),
    [
        (2020, "BraTS20_Training_001", "BraTS20_Training_001"),
        (2020, "Brats18_TCIA01_131_1", "Brats18_TCIA01_131"),
        (2023, "BraTS-GLI-00000-001", "BraTS-GLI-00000"),
    ],
)
def test_a_case_by_the_names_of_its_year(tmp_path: Path, year: int, name: str, patient: str) -> None:
    write_case(tmp_path / "HGG" / name, year)
    assert recognise(tmp_path) == "brats"
    (case,) = open_cases(tmp_path).cases
    assert (case.id, case.patient, case.study) == (f"HGG/{name}", patient, name)
    assert_whole(case)
    (alone,) = open_cases(tmp_path / "HGG" / name).cases
    assert alone.id == name


def test_decathlon(tmp_path: Path) -> None:
    write_decathlon(tmp_path)
    assert recognise(tmp_path) == "brats"
    train, test = open_cases(tmp_path).cases
    assert (train.id, train.patient, test.id) == ("imagesTr/BRATS_001", "BRATS_001", "imagesTs/BRATS_485")
    assert_whole(train)
    assert test.labels is None
    data = open_dataset(tmp_path)
    pixels = data.records[3].read().pixels
    assert (pixels == BLOCK[:, :, 3].T[::-1, ::-1] + 1000 * MODALITIES.index("t1ce")).all()


def test_slices_are_those_of_contrast_enhanced_t1_with_the_core_as_mask(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS-GLI-00001-000", 2023)
    data = open_dataset(tmp_path)
    assert data.info.name == "brats"
    assert [r.id for r in data][:1] == ["BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1c.nii.gz#axial-0"]
    assert {(r.plane, r.label) for r in data} == {("axial", None)}  # only the pixels tell whether the tumour is in it
    record = data.records[5]
    mask = record.read_mask((6, 5))
    assert mask is not None
    assert (mask == np.isin((record.read().pixels - 1000) % 4, (1, 3))).all()
    assert data.has_patients


def test_what_is_missing_is_noted(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS20_Training_001", 2020, without=("seg",))
    write_case(tmp_path / "BraTS20_Training_002", 2020, without=("t2",))
    opened = open_cases(tmp_path)
    assert opened.notes == (
        "1 case without labels: 'BraTS20_Training_001'.",
        "1 case without one of t1, t1ce, t2 and flair: 'BraTS20_Training_002'.",
    )
    with pytest.raises(InputError, match="BraTS20_Training_002 has no t2 volume: it has t1, t1ce, flair"):
        opened.cases[1].image("t2")


def test_a_4_means_enhancing_to_2021_and_a_cavity_from_2024(tmp_path: Path) -> None:
    four = np.full(SHAPE, 4, dtype=np.uint8)
    for name, year, part in (("BraTS2021_00000", 2020, "enhancing"), ("BraTS-GLI-02062-100", 2023, "resection_cavity")):
        folder = write_case(tmp_path / name, year, without=("seg",))
        save_nifti(folder / f"{name}{NAMES[year]['seg']}.nii.gz", four)
        (case,) = open_cases(folder).cases
        assert {LABELS[i] for i in np.unique(read_labels(case))} == {part}
    three = write_case(tmp_path / "BraTS20_Training_009", 2020, without=("seg",))
    save_nifti(three / "BraTS20_Training_009_seg.nii.gz", four - 1)
    with pytest.raises(InputError, match="holds the label 3, which is none of its kind"):
        read_labels(open_cases(three).cases[0])


def test_other_cohorts_are_no_gliomas(tmp_path: Path) -> None:
    for cohort in ("MEN", "MET", "SSA", "PED"):
        write_case(tmp_path / f"BraTS-{cohort}-00001-000", 2023)
    cases = {c.id.split("-")[1]: c for c in open_cases(tmp_path).cases}
    tumours = {k: c.tumour for k, c in cases.items()}
    assert tumours == {"MEN": "meningioma", "MET": "metastasis", "SSA": "glioma", "PED": "glioma"}
    assert cases["PED"].labels is None  # its integers changed their meaning from one year to the next
    assert cases["MEN"].labels is not None


def test_a_cohort_of_several_kinds_is_called_a_tumour(tmp_path: Path) -> None:
    write_case(tmp_path / "BraTS-GoAT-00001", 2023)
    opened = open_cases(tmp_path)
    (case,) = opened.cases
    assert (case.tumour, case.patient, case.labels is None) == (None, "BraTS-GoAT-00001", False)
    assert opened.notes == ("1 case without a known kind of tumour: 'BraTS-GoAT-00001'.",)


def test_patients_are_told_from_exams() -> None:
    assert patient_of("BraTS-GLI-00005-001") == patient_of("BraTS-GLI-00005-000") == "BraTS-GLI-00005"
    assert patient_of("Brats17_CBICA_AAB_1") == "Brats17_CBICA_AAB"
    assert patient_of("BraTS2021_00005") == "BraTS2021_00005"


def test_one_modality_alone_is_no_case(tmp_path: Path) -> None:
    save_nifti(tmp_path / "scan_t1.nii.gz", BLOCK)
    assert recognise(tmp_path) == "volumes"
    with pytest.raises(InputError, match="holds no BraTS case"):
        open_dataset(tmp_path, "brats")


def test_a_damaged_table_of_decathlon_is_named(tmp_path: Path) -> None:
    write_decathlon(tmp_path)
    (tmp_path / "dataset.json").write_text('{"name": "BRATS", "modality": {"0": "PET"}, "labels": {}}')
    with pytest.raises(InputError, match=r"dataset\.json is not that of Task01_BrainTumour \(KeyError\('PET'\)\)"):
        open_dataset(tmp_path)


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return Path(folder) / "brats"


def test_the_real_cases(real: Path) -> None:
    expert, fused = open_cases(real).cases
    assert (expert.patient, fused.patient) == ("BraTS-GLI-00000", "TCGA-DU-7294")
    parts = [{LABELS[i] for i in np.unique(read_labels(c))} for c in (expert, fused)]
    assert parts == [{"background", "necrotic_core", "oedema", "enhancing"}, {"background", "necrotic_core", "oedema"}]
    labels, bright = read_labels(expert), expert.image("t1ce").read().voxels
    assert np.median(bright[labels == 3]) > 1.5 * np.median(bright[labels == 1])  # what enhances is bright on t1ce
    labels, fluid = read_labels(fused), fused.image("t2").read().voxels
    assert np.median(fluid[labels == 1]) > np.median(fluid[labels == 2]) > 1.2 * np.median(fluid[fluid > 50])
