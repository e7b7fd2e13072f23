"""Plain files and folders as a dataset without labels, to predict on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from gyrus.datasets.cases import Cases, Slices, case_records, relative_name
from gyrus.datasets.listing import count, is_image, listing, natural_key
from gyrus.datasets.volumes import dicom_record, is_dicom_file, salt_for, volume_case, volumes_in
from gyrus.errors import InputError
from gyrus.io import is_volume
from gyrus.paths import PathLikes, all_paths
from gyrus.records import Dataset, DatasetInfo, Record

INFO = DatasetInfo(name="files", title="Image files named by the user")


def open_files(
    paths: PathLikes,
    *,
    plane: str | None = None,
    slices: Slices = "all",
    salt: bytes | None = None,
) -> Dataset:
    """Collect image files and the slices of volumes, and those in folders and their sub-folders, without labels.

    A file that is named is taken whatever its suffix; in folders those of images, of Cheng's .mat slices, of NIfTI
    volumes and DICOM series are. Files keep the given order, a folder's are in natural order, and a file met twice is
    taken once. The root is the deepest folder that holds them all, so that every id, the path relative to it, is
    unique; a slice of a volume has its plane and index behind that: ``T1.nii.gz#axial-12``.

    Args:
        paths: what to collect.
        plane: of the slices of volumes; by default the one each volume was acquired in.
        slices: which ones of each volume: "all", "middle", or indices from 0.
        salt: of the hash of the patient id in DICOM files that stands for the patient, at least 16 bytes; by default it
            is drawn from the first of them.

    Raises:
        InputError: no path given, one does not exist, a folder holds no image, or a volume cannot be read.
        MissingExtraError: a file is DICOM and pydicom is not installed.
    """
    given = all_paths(paths)
    if not given:
        raise InputError("no files named: name at least one image file or folder")
    found: dict[Path, None] = {}
    met = 0
    for path in given:
        files = _expand(path)
        met += len(files)
        found |= dict.fromkeys(files)
    root = _root(given, found)
    salt = salt_for(found, salt)
    records = tuple(record for path in found for record in _records(path, root, plane, slices, salt))
    repeated = met - len(found)
    notes = (f"{count(repeated, 'file')} named more than once and taken once.",) if repeated else ()
    return Dataset(info=INFO, root=root, records=records, notes=notes)


def _records(path: Path, root: Path, plane: str | None, slices: Slices, salt: bytes) -> tuple[Record, ...]:
    name = relative_name(path, root)
    if not is_image(path.name) and is_volume(path):
        case = volume_case(path, name, salt)
        return case_records(Cases(INFO, root, (case,)), plane=plane, slices=slices).records
    if is_dicom_file(path):
        return (dicom_record(path, name, salt, INFO.name),)
    return (Record(id=name, path=path, source=INFO.name),)


def _expand(path: Path) -> list[Path]:
    """Return the file itself, or the images and volumes below the folder, as absolute paths."""
    absolute = Path(os.path.normpath(path.absolute()))
    if absolute.is_dir():
        files = _images(absolute)
        if not files:
            raise InputError(f"{path} holds no images (PNG, JPEG, TIFF, BMP, DICOM, NIfTI): name a folder that does")
        return files
    if not absolute.exists():
        raise InputError(f"{path} does not exist: check the path")
    return [absolute]


def _images(folder: Path) -> list[Path]:
    here = listing(folder)
    files = [folder / name for name in here.files if is_image(name) or _is_mat_slice(name)]
    files += volumes_in(folder, here)
    for name in here.folders:
        if not (folder / name).is_symlink():  # a link may lead back up and never end
            files += _images(folder / name)
    return sorted(files, key=lambda file: natural_key(file.as_posix()))


def _is_mat_slice(name: str) -> bool:
    return name.lower().endswith(".mat") and name.lower() != "cvind.mat"


def _root(given: list[Path], found: Iterable[Path]) -> Path:
    """Return the one folder that was named, or else the deepest that holds every file."""
    if len(given) == 1 and given[0].is_dir():
        return Path(os.path.normpath(given[0].absolute()))
    try:
        return Path(os.path.commonpath([file.parent for file in found]))
    except ValueError as error:
        raise InputError("the files lie on different drives: name those of one drive at a time") from error
