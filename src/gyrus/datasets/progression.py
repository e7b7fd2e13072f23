"""Brain-Tumor-Progression: glioblastomas at two dates, as six patients' NIfTI files or as TCIA's DICOM series."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from gyrus.datasets.beside import left_out
from gyrus.datasets.cases import Case, Cases, LabelRef, VolumeRef, case_records
from gyrus.datasets.listing import Listing, and_more, count, listing
from gyrus.datasets.registry import DatasetReader
from gyrus.datasets.volumes import is_nifti, stem, walk
from gyrus.errors import InputError
from gyrus.records import Dataset, DatasetInfo

INFO = DatasetInfo(
    name="progression",
    title="Brain-Tumor-Progression: T1 post-contrast volumes of treated glioblastomas at two dates, tumour drawn",
    citation=(
        "Schmainda, K.; Prah, M. Data from Brain-Tumor-Progression. The Cancer Imaging Archive, 2018. "
        "doi:10.7937/K9/TCIA.2018.15quzvnb"
    ),
    licence="CC BY 3.0",
    classes=("glioma",),
    faults=(
        "The spacing of 1 x 1 x 1 mm in the headers of the NIfTI copies is a placeholder: their true spacing, and so "
        "every length and volume, is unknown.",
        "The mask is one outline drawn on T1, not divided into parts.",
        "Every patient is there twice, months apart: the two exams are of one person.",
        "The tumours are operated on and irradiated, so scars and cavities lie beside them.",
        "A slice above or below the tumour is of a patient with a tumour: it is no healthy brain.",
    ),
)

_EXAMS = ("Pre", "Post")
_PATIENT = re.compile(r"PGBM-\d+")
_STUDY = re.compile(r"(\d\d)-(\d\d)-(\d{4})-")
_SERIES = {"t1ce": "T1post", "t1": "T1prereg", "t2": "T2reg", "flair": "FLAIRreg", "labels": "MaskTumor"}


def recognises(root: Path) -> bool:
    """Tell whether below a folder lie {Pre,Post}_Scan_T1 with a mask, or TCIA's folders PGBM-NNN/date/series."""
    if not root.is_dir():
        return False
    return any(_nifti_cases(root, folder, here) or _is_patient(folder, here) for folder, here in walk(root))


def open_cases(root: Path) -> Cases:
    """Open either layout.

    NIfTI: ``01/Pre_Scan_T1.nii.gz`` beside ``01/Pre_Mask.nii.gz``, likewise ``Post``; the folder is the patient. DICOM,
    as TCIA's downloader lays it out: ``PGBM-001/11-19-1991-...-40993/11.000000-T1post-03326/1-01.dcm``, the mask in a
    series ``MaskTumor``. There the exams are numbered by date, which TCIA has shifted; the date itself is not kept.

    Raises:
        InputError: no exam with a post-contrast T1, or another dataset beside the patients.
    """
    cases = []
    holding = []
    for folder, here in walk(root):
        scans, is_patient = _nifti_cases(root, folder, here), _is_patient(folder, here)
        cases += [*scans, *(_dicom_cases(root, folder, here) if is_patient else ())]
        if scans or is_patient:
            holding.append(folder)
    if not cases:
        raise InputError(
            f"{root} holds no exam of Brain-Tumor-Progression: name the folder above those of its patients"
        )
    bare = [case.id for case in cases if case.labels is None]
    notes = [f"{count(len(bare), 'exam')} without a tumour mask: {and_more(bare)}."] if bare else []
    return Cases(INFO, root, tuple(cases), (*notes, *left_out(root, INFO.name, holding)))


def open_progression(root: Path) -> Dataset:
    """Open the axial slices of every exam's post-contrast T1 with its mask.

    Raises:
        InputError: as :func:`open_cases` and :func:`gyrus.datasets.cases.case_records`.
    """
    return case_records(open_cases(root))


def _nifti_cases(root: Path, folder: Path, here: Listing) -> list[Case]:
    files = {stem(name): folder / name for name in here.files if is_nifti(name)}
    cases = []
    for exam in _EXAMS:
        scan, mask = files.get(f"{exam}_Scan_T1"), files.get(f"{exam}_Mask")
        if scan is not None:
            cases.append(
                Case(
                    id=(folder.relative_to(root) / exam).as_posix(),
                    images={"t1ce": VolumeRef(scan)},
                    patient=folder.absolute().name,
                    study=f"{folder.absolute().name}-{exam}",
                    labels=None if mask is None else LabelRef(mask, {1: "tumor"}),
                    tumour="glioma",
                    plane="axial",
                    spaced=False,
                )
            )
    return cases


def _is_patient(folder: Path, here: Listing) -> bool:
    return bool(_PATIENT.fullmatch(folder.name)) and next(_studies(folder, here), None) is not None


def _studies(patient: Path, here: Listing) -> Iterator[Path]:
    """Yield the folders of a patient's exams, by date."""
    dated = []
    for name in here.folders:
        if found := _STUDY.match(name):
            month, day, year = found.groups()
            dated.append(((year, month, day), name))
    yield from (patient / name for _, name in sorted(dated))


def _dicom_cases(root: Path, patient: Path, here: Listing) -> list[Case]:
    cases = []
    for number, study in enumerate(_studies(patient, here), start=1):
        series = listing(study).folders
        found = {what: study / name for what, words in _SERIES.items() for name in series if f"-{words}-" in name}
        mask = found.pop("labels", None)
        if "t1ce" in found:
            where = patient.relative_to(root) if patient != root else Path(patient.name)
            cases.append(
                Case(
                    id=(where / f"exam-{number}").as_posix(),
                    images={what: VolumeRef(path) for what, path in found.items()},
                    patient=patient.name,
                    study=f"{patient.name}-exam-{number}",
                    labels=None if mask is None else LabelRef(mask, "tumor"),  # any value: 1 or 255
                    tumour="glioma",
                    plane="axial",
                )
            )
    return cases


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_progression,
    cases=open_cases,
    looks_for="Pre_Scan_T1.nii.gz beside Pre_Mask.nii.gz, or TCIA's folders PGBM-001/date/T1post",
)
