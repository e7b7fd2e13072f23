"""Whose a DICOM file is, without saying who: salted keys to group by."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

from gyrus.errors import InputError
from gyrus.io.dicom import as_stored, explained, find_header, read_dataset
from gyrus.io.dicom_series import dicom_files
from gyrus.paths import PathLike

DIGITS = 16
"""Hex digits of a key: 64 bits, so that a million patients collide with a chance of 3 in 100 million."""


def patient_key(path: PathLike, salt: bytes) -> str:
    """Return a key that is the same for every file of one patient, and tells nothing to whom the salt is unknown.

    It is HMAC-SHA256 under the salt of the patient's id and its issuer. Ids are short and easy to guess, so all
    secrecy is in the salt: keep it apart from what is published, and use one salt for all data that is to be grouped.

    Args:
        path: a DICOM file, or a folder of such files that belong to one patient; those in it that hold no image, such
            as a DICOMDIR, are passed over.
        salt: secret bytes, at least 16 of them (``secrets.token_bytes(32)``).

    Returns:
        16 hex digits.

    Raises:
        InputError: the salt is too short, a file cannot be read or states no patient id, or the folder mixes patients.
        MissingExtraError: pydicom is not installed.
    """
    return _key("patient", path, salt, ("PatientID", "IssuerOfPatientID"))


def study_key(path: PathLike, salt: bytes) -> str:
    """Return such a key for the study (one exam), from its UID.

    Raises:
        InputError, MissingExtraError: as :func:`patient_key`.
    """
    return _key("study", path, salt, ("StudyInstanceUID",))


def _key(what: str, path: PathLike, salt: bytes, elements: Sequence[str]) -> str:
    if len(salt) < DIGITS:
        raise InputError(f"a salt of {len(salt)} bytes can be guessed: use at least {DIGITS}")
    path = Path(path)
    files = [f for f in dicom_files(path) if find_header(f) is not None] if path.is_dir() else [path]
    found = {_identity(what, file, elements) for file in files}
    if len(found) != 1:
        raise InputError(f"{path} holds files of {len(found)} {what} ids: put each in a folder of its own")
    message = b"\0".join((what.encode(), *found.pop()))
    return hmac.new(salt, message, "sha256").hexdigest()[:DIGITS]


def _identity(what: str, file: Path, elements: Sequence[str]) -> tuple[bytes, ...]:
    with explained(file):
        dataset = read_dataset(file, elements)
        words = tuple(as_stored(dataset, name) for name in elements)
    if not words[0]:
        raise InputError(f"{file} states no {what} id: group its files by hand")
    return words
