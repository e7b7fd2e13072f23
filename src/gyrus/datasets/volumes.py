"""Volume files of any origin: NIfTI files, DICOM series, and folders of them, as unlabelled slices."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gyrus.datasets.beside import left_out
from gyrus.datasets.cases import Case, Cases, VolumeRef, case_records, relative_name
from gyrus.datasets.listing import Listing, and_more, count, is_image, listing
from gyrus.datasets.registry import DatasetReader
from gyrus.errors import InputError
from gyrus.io import Grid, is_volume, patient_key, read_grid, study_key
from gyrus.io.dicom import as_stored, explained, find_header, is_dicom, read_dataset, read_header
from gyrus.io.dicom_series import dicom_files
from gyrus.io.volume import AXIS
from gyrus.records import Dataset, DatasetInfo, Record

INFO = DatasetInfo(
    name="volumes",
    title="Volumes without labels: NIfTI files, DICOM series, or folders of them",
    faults=(
        "A NIfTI file does not say whose it is, so slices of one person may be spread over a split.",
        "Its slices carry no label and no outline.",
    ),
)

_DEEPEST = 6
_SHORTEST_SALT = 16
_THINNEST_HEAD = 60  # mm, of slices 1 mm apart
_MATRIX = 128  # the smallest that a whole slice is acquired in
_SUFFIX = re.compile(r"\.(nii(\.gz)?|hdr)$", re.IGNORECASE)


def walk(root: Path, depth: int = _DEEPEST) -> Iterator[tuple[Path, Listing]]:
    """Yield a folder and those below it, each listed, in natural order; links, which may lead back up, are left."""
    here = listing(root)
    yield root, here
    for name in here.folders if depth else ():
        if not (root / name).is_symlink():
            yield from walk(root / name, depth - 1)


def is_nifti(name: str) -> bool:
    """Tell whether a file name ends like that of a NIfTI volume."""
    return _SUFFIX.search(name) is not None


def stem(name: str) -> str:
    """Return the name of a NIfTI file without its suffix; any other as it is."""
    return _SUFFIX.sub("", name)


def volumes_in(folder: Path, here: Listing) -> Iterator[Path]:
    """Yield the NIfTI files of one folder, which is listed, and the folder itself where DICOM files lie in it."""
    yield from (folder / name for name in here.others if is_nifti(name))
    if any(is_dicom(folder / name) for name in here.others if not is_nifti(name)):
        yield folder


def recognises(root: Path) -> bool:
    """Tell whether ``root`` is a NIfTI or DICOM file, or a folder with one below it and no picture."""
    if root.is_file():
        return is_nifti(root.name) or is_dicom(root)
    if not root.is_dir():
        return False
    found = False
    for folder, here in walk(root):
        if here.images:
            return False
        found = found or any(True for _ in volumes_in(folder, here))
    return found


def open_cases(root: Path, salt: bytes | None = None, *, keep_identity: bool = False) -> Cases:
    """Open a volume, or every volume below a folder, each as a case of its own.

    A NIfTI file is called by its path, and whose it is is unknown. A DICOM series' patient and study are salted hashes,
    and it is called by them and counted: folders are often named after patients. The volumes of a 4-D file are called
    0, 1, 2 ... in place of a modality.

    Args:
        root: a NIfTI file, a DICOM file, the folder of a series, or a folder above any of these.
        salt: of the hashes; by default it is drawn from the first DICOM file, so that the same data has the same keys.
        keep_identity: let a DICOM series be called by its path, and its patient by the id in its header.

    Raises:
        InputError: there is none, one cannot be read, another dataset lies beside them, or the salt is shorter than 16
            bytes.
        MissingExtraError: one is DICOM and pydicom is not installed.
    """
    paths = [root] if root.is_file() else [path for listed in walk(root) for path in volumes_in(*listed)]
    volumes = [path for path in paths if path.is_file() or _holds_images(path)]
    if not volumes:
        raise InputError(f"{root} holds no volumes, NIfTI or DICOM: name a folder that does")
    if root.is_dir():  # what is left out is not told: its name may be a patient's
        left_out(root, INFO.name, (path.parent if path.is_file() else path for path in paths))
    salt = salt_for(volumes, salt)
    met: Counter[str] = Counter()
    cases = []
    for path in volumes:
        case = volume_case(path, stem(relative_name(path, root)), salt, keep_identity=keep_identity)
        if not (is_nifti(path.name) or keep_identity):
            owner = case.patient or "unknown"
            met[owner] += 1
            case = replace(case, id=f"{owner}/series-{met[owner]}")
        cases.append(case)
    empty = [relative_name(path, root) for path in paths if path not in volumes]
    notes = [f"{count(len(empty), 'folder')} of DICOM files without an image left out: {and_more(empty)}."]
    return Cases(INFO, root, tuple(cases), tuple(notes if empty else ()))


def open_volumes(root: Path) -> Dataset:
    """Open the slices of every volume, in the plane each was acquired in.

    Raises:
        InputError: as :func:`open_cases`.
    """
    if root.is_file() and not is_volume(root):
        return Dataset(INFO, root, (dicom_record(root, root.name, salt_for([root]), INFO.name),))
    return case_records(open_cases(root))


def volume_case(path: Path, id: str, salt: bytes, *, keep_identity: bool = False) -> Case:
    """Return the case of one volume; its header is read, and its spacing believed unless it is a placeholder's.

    A NIfTI header in which nobody stated the spacing says 1 x 1 x 1 mm. It counts as unknown where no head would fit
    into such a volume: a square matrix of 128 or more, and less than 60 mm across it, as in the copies of
    Brain-Tumor-Progression.
    """
    grid = read_grid(path)
    channels = range(grid.channels)
    images = {"image": VolumeRef(path)} if len(channels) == 1 else {str(c): VolumeRef(path, c) for c in channels}
    if is_nifti(path.name):
        return Case(id, images, spaced=not _is_placeholder(grid))
    patient, study = _keys(path, salt)
    if keep_identity:
        patient = _stated(path)
    return Case(id, images, patient=patient, study=study, plane=_plane(path))


def _is_placeholder(grid: Grid) -> bool:
    across, *square = sorted(grid.shape)
    return np.allclose(grid.spacing, 1, atol=1e-4) and across < _THINNEST_HEAD and min(square) == max(square) >= _MATRIX


def dicom_record(path: Path, name: str, salt: bytes, source: str) -> Record:
    """Return the record of a DICOM file of one frame, as displayed in the file."""
    patient, study = _keys(path, salt)
    return Record(id=name, path=path, patient=patient, study=study, plane=_plane(path), source=source)


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file is DICOM; a picture's name is believed, so that a folder of pictures is not opened."""
    return not is_image(path.name) and path.is_file() and is_dicom(path)


def salt_for(paths: Iterable[Path], given: bytes | None = None) -> bytes:
    """Return the salt for the keys of patients: the one that is given, else one that only who holds the data can know.

    Args:
        paths: files and series, of which the first that is DICOM gives its SHA-256; nothing where none is.
        given: at least 16 bytes, or None.

    Raises:
        InputError: the given one is too short.
    """
    if given is not None:
        if len(given) < _SHORTEST_SALT:
            raise InputError(f"a salt of {len(given)} bytes can be guessed: use at least {_SHORTEST_SALT}")
        return given
    for path in paths:
        if path.is_dir() or is_dicom_file(path):
            with _first(path).open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").digest()
    return b""


def _first(path: Path) -> Path:
    """Return the file itself, or the first image of a series: a DICOMDIR or a report beside it says nothing of it."""
    if not path.is_dir():
        return path
    files = dicom_files(path)
    return next((file for file in files if find_header(file) is not None), files[0])


def _stated(path: Path) -> str | None:
    """Return the patient's id as the header has it, for who asked to keep it."""
    file = _first(path)
    with explained(file):
        return str(read_dataset(file, ("PatientID",)).get("PatientID") or "").strip() or None


def _states(path: Path, element: str) -> bool:
    file = _first(path)
    with explained(file):
        return bool(as_stored(read_dataset(file, (element,)), element))


def _keys(path: Path, salt: bytes) -> tuple[str | None, str | None]:
    """Return the keys of the patient and of the study, None for what the first image does not state."""
    patient = patient_key(path, salt) if _states(path, "PatientID") else None
    return patient, study_key(path, salt) if _states(path, "StudyInstanceUID") else None


def _plane(path: Path) -> str | None:
    """Return the plane in which a DICOM file's image lies, or those of a series; None where it does not say."""
    header = next(filter(None, map(find_header, dicom_files(path)))) if path.is_dir() else read_header(path)
    axes = header.frames[0].axes
    if axes is None:
        return None
    normal = int(np.abs(np.cross(axes[0], axes[1])).argmax())
    return next(plane for plane, axis in AXIS.items() if axis == normal)


def _holds_images(folder: Path) -> bool:
    return any(find_header(file) is not None for file in dicom_files(folder))


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_volumes,
    cases=open_cases,
    looks_for="a NIfTI file, a DICOM series' folder, or a folder above such, without pictures",
)
