"""The Cheng T1-CE dataset, as JPEG with a table or as its 3,064 original MATLAB files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.datasets.beside import left_out
from gyrus.datasets.listing import and_more, class_name, count, listing, natural_key, part_of, read_table
from gyrus.datasets.registry import DatasetReader
from gyrus.errors import InputError
from gyrus.io.masks import OutlineMask
from gyrus.io.mat import MatMask, read_mat_folds, read_mat_header
from gyrus.records import Dataset, DatasetInfo, Record

_PUBLISHED = 3064
_COLUMNS = ("file", "label", "patient", "study", "outline")

INFO = DatasetInfo(
    name="cheng",
    title="Cheng brain tumour dataset: 3,064 contrast-enhanced T1 slices with tumour outlines",
    citation=(
        "Cheng, J. brain tumor dataset. figshare 1512427, 2017; Cheng, J. et al. Enhanced Performance of Brain Tumor "
        "Classification via Tumor Region Augmentation and Partition. PLoS ONE 10(10): e0140381, 2015."
    ),
    licence="CC BY 4.0",
    classes=("glioma", "meningioma", "pituitary"),
    faults=(
        "42 glioma study ids are repeat exams of another one (the same id with a letter behind it): "
        "233 studies are 209 persons.",
        "File order is not patient order, so a split by file number puts one patient's slices on both sides.",
        "A learning-free 1-nearest-neighbour scores 90.0 % split by slice and 62.9 % split by patient.",
        "Outlines and official masks differ by a median area ratio of 1.03; 40 small ones by more than 10 %.",
        "A tumour fills 1.7 % of a slice on average: a map cut at its 95th percentile cannot exceed an IoU of 0.334.",
        "No slice is free of tumour, and healthy slices of another source differ by their corners alone.",
    ),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` has slices.csv beside images/, or files named by number and ending in .mat."""
    if root.is_file():
        return root.name == "slices.csv" and (root.parent / "images").is_dir()
    return _has_table(root) or bool(_mat_files(root))


def open_cheng(root: Path) -> Dataset:
    """Open either layout.

    ``slices.csv`` beside ``images/``: the table gives label, patient, study and outline. Original files ``N.mat``, in
    the folder or in its sub-folders (as the four archives unpack): label and PID come from each file's header, the
    mask from the file, and the fold from ``cvind.mat`` where it is there. The PID is the study; without the letter of a
    repeat exam it is the patient (MR048294B -> MR048294).

    Raises:
        InputError: neither layout is there, or the table or a file is not as published.
    """
    if root.is_file():
        root = root.parent
    if _has_table(root):
        return _open_table(root)
    files = _mat_files(root)
    if files:
        return _open_mat(root, files)
    raise InputError(
        f"{root} is not the Cheng dataset: it needs slices.csv beside images/, or the files 1.mat, 2.mat ..."
    )


def patient_of(study: str) -> str:
    """Return the patient of a study id: the id without the letters that mark a repeat exam."""
    return re.sub(r"(?<=\d)[A-Za-z]+$", "", study)


def _has_table(root: Path) -> bool:
    return (root / "slices.csv").is_file() and (root / "images").is_dir()


def _open_table(root: Path) -> Dataset:
    table = root / "slices.csv"
    _, rows = read_table(table, _COLUMNS)
    present = set(listing(root / "images").files)
    records: dict[str, Record] = {}
    for number, row in rows:
        where, file = f"{table} row {number}", row["file"]
        if file not in present:
            raise InputError(f"{where}: the file images/{file} does not exist; restore it or remove the row")
        if file in records:
            raise InputError(f"{where}: the file {file} occurs a second time; remove one of the rows")
        label = class_name(row["label"])
        if label not in INFO.classes:
            raise InputError(f"{where}: {row['label']!r} is not one of {', '.join(INFO.classes)}; correct it")
        records[file] = Record(
            id=f"images/{file}",
            path=root / "images" / file,
            label=label,
            patient=row["patient"] or None,
            study=row["study"] or None,
            mask=OutlineMask(row["outline"], f"{where} ({file})") if row["outline"] else None,
            source=INFO.name,
        )
    if not records:
        raise InputError(f"{table} lists no slices: restore it from its source")
    unlisted = sorted(present - set(records), key=natural_key)
    notes = [f"{count(len(unlisted), 'file')} in images/ not listed in slices.csv left out: {and_more(unlisted)}."]
    return _dataset(root, list(records.values()), notes if unlisted else [])


def _mat_files(root: Path) -> dict[int, str]:
    """Return the slices ``N.mat`` in a folder and its sub-folders, N -> path relative to it."""
    if not root.is_dir():
        return {}
    here = listing(root)
    found: dict[int, str] = {}
    for folder, files in (("", here.files), *((f"{name}/", listing(root / name).files) for name in here.folders)):
        for name in files:
            if not re.fullmatch(r"\d+\.mat", name):
                continue
            number = int(name.removesuffix(".mat"))
            if number in found:
                raise InputError(f"{root} holds slice {number} twice, {found[number]} and {folder}{name}: remove one")
            found[number] = folder + name
    return found


def _open_mat(root: Path, files: dict[int, str]) -> Dataset:
    folds = _folds(root)
    notes = [] if folds is not None else ["cvind.mat is not there, so the official five folds are unknown."]
    if folds is not None and max(files) > len(folds):
        raise InputError(
            f"{root}: cvind.mat knows {len(folds)} slices but there is {max(files)}.mat: restore cvind.mat"
        )
    records = []
    for number, name in sorted(files.items()):
        label, study = read_mat_header(root / name)
        records.append(
            Record(
                id=name,
                path=root / name,
                label=label,
                patient=patient_of(study),
                study=study,
                mask=MatMask(root / name),
                subset=None if folds is None else f"fold-{folds[number - 1]}",
                source=INFO.name,
            )
        )
    taken = {*(record.path.parent for record in records), *_with_folds(root)}
    return _dataset(root, records, [*notes, *left_out(root, INFO.name, taken)])


def _folds(root: Path) -> NDArray[np.int64] | None:
    """Return the official folds from ``cvind.mat`` in the folder or one of its sub-folders, if it is there."""
    folder = next(_with_folds(root), None)
    return None if folder is None else read_mat_folds(folder / "cvind.mat")


def _with_folds(root: Path) -> Iterator[Path]:
    """Yield the folder and those of its sub-folders in which ``cvind.mat`` is."""
    yield from (p for p in (root, *(root / name for name in listing(root).folders)) if (p / "cvind.mat").is_file())


def _dataset(root: Path, records: list[Record], notes: list[str]) -> Dataset:
    records.sort(key=lambda record: natural_key(record.path.name))
    studies = {record.study: record.patient for record in records if record.study is not None}
    repeats = sum(study != patient for study, patient in studies.items())
    if repeats:
        notes.append(
            f"{repeats} of {len(studies)} study ids mark a repeat exam by a letter and were joined to their patient: "
            f"{count(len(set(studies.values())), 'patient')}."
        )
    notes += part_of(len(records), _PUBLISHED)
    return Dataset(info=INFO, root=root, records=tuple(records), notes=tuple(notes))


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_cheng,
    looks_for="slices.csv beside images/, or the original 1.mat, 2.mat ...",
)
