"""Read any image file or volume gyrus knows."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from threading import Lock

from gyrus.errors import InputError
from gyrus.io import dicom, dicom_pixels, dicom_series, mat, nifti, raster
from gyrus.io.image import Image
from gyrus.io.volume import Grid, SliceRef, Volume
from gyrus.paths import PathLike

VOLUME_SUFFIXES = (*nifti.SUFFIXES, *dicom.SUFFIXES)
"""Endings of files that may hold a volume, lower-case; DICOM is known by its content as well, and a ``.dcm`` of one
frame reads like any image."""

_UNPACKING = Lock()  # threads that ask for slices of one volume must not each unpack it


def read_image(path: PathLike, at: SliceRef | None = None) -> Image:
    """Read one greyscale image: a PNG, JPEG, TIFF, BMP, MATLAB v7.3 or DICOM file, or a slice of a volume.

    Without ``at`` a DICOM file of one frame is given as displayed in the file, and a volume that is one slice thick as
    that slice. The two volumes read last are kept in memory (4 bytes a voxel, at most 2 GiB for two of the largest
    allowed), so that a volume's slices can be asked for one after the other.

    Args:
        path: the file, or the folder of a DICOM series.
        at: which slice of a volume.

    Returns:
        Image: (H, W) float32 pixels in file units, as displayed; a slice of a volume by the convention in
        :mod:`gyrus.io.volume`.

    Raises:
        InputError: missing, empty, damaged, too large, of a format gyrus does not read, a volume without ``at``, or
            ``at`` names no slice of it.
        MissingExtraError: the file is DICOM, and pydicom or the decoder it needs is not installed.
    """
    path = Path(path)
    if (at is None or not path.is_dir()) and not _may_be_volume(path):  # a folder with a slice is read as a series
        _refuse_slice(path, at)
        return mat.read_mat_image(path) if path.suffix.lower() == ".mat" else raster.read_raster(path)
    if at is None and (header := _single_frame(path)):
        return dicom_pixels.read_displayed(header)
    stamp = _stamp(path)
    chosen = _chosen(path, _kept_grid(path, stamp), at)
    with _UNPACKING:
        volume = _kept_volume(path, stamp, chosen.channel)
    return volume.take(chosen.plane, chosen.index)


def read_size(path: PathLike, at: SliceRef | None = None) -> tuple[int, int]:
    """Return (H, W) in pixels, as :func:`read_image` would give it, without reading the pixels.

    Raises:
        InputError: the header cannot be read, or names no such slice.
    """
    path = Path(path)
    if not _may_be_volume(path):
        _refuse_slice(path, at)
        return mat.read_mat_size(path) if path.suffix.lower() == ".mat" else raster.read_size(path)
    if at is None and (header := _single_frame(path)):
        return header.shape
    grid = _kept_grid(path, _stamp(path))
    return grid.size(_chosen(path, grid, at).plane)


def read_volume(path: PathLike, channel: int | None = None) -> Volume:
    """Read a volume: a NIfTI file, a folder that is one DICOM series, or a DICOM file.

    Args:
        path: the file or folder.
        channel: which volume of a 4-D NIfTI file, from 0.

    Raises:
        InputError: see :func:`gyrus.io.nifti.read_nifti` and :func:`gyrus.io.dicom_series.read_series`.
        MissingExtraError: the file is DICOM, and pydicom or the decoder it needs is not installed.
    """
    path = Path(path)
    if _is_nifti(path):
        return nifti.read_nifti(path, channel)
    if channel is not None:
        raise InputError(f"{path} is no 4-D NIfTI file and has no channels: leave the channel out")
    _check_volume(path)
    return dicom_series.read_dicom(path)


def read_grid(path: PathLike) -> Grid:
    """Return shape, affine and channels of a volume as :func:`read_volume` would give them, from headers alone.

    Raises:
        InputError: as far as the headers show it.
    """
    path = Path(path)
    return _kept_grid(path, _stamp(path))


def is_volume(path: PathLike) -> bool:
    """Tell whether a path is to be read slice by slice.

    That is a NIfTI file (by its name), a folder that holds a DICOM file, or a DICOM file of several frames. A damaged
    DICOM file counts as none; reading it says what is wrong.

    Raises:
        MissingExtraError: the file is DICOM, and pydicom is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return dicom_series.has_dicom(path)
    if _is_nifti(path):
        return True
    try:
        return dicom.is_dicom(path) and len(dicom.read_header(path).frames) > 1
    except InputError:
        return False


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(nifti.SUFFIXES) and not path.is_dir()


def _may_be_volume(path: Path) -> bool:
    """Tell by name, else by content; a picture's name is believed, so that reading one opens it once."""
    name = path.name.lower()
    if name.endswith((*raster.SUFFIXES, ".mat")):
        return False
    return name.endswith(VOLUME_SUFFIXES) or (dicom_series.has_dicom(path) if path.is_dir() else dicom.is_dicom(path))


def _single_frame(path: Path) -> dicom.Header | None:
    """Return the header of a DICOM file of one frame; None for anything else that may be a volume."""
    if path.is_dir() or _is_nifti(path):
        return None
    header = dicom.read_header(path)
    return header if len(header.frames) == 1 else None


def _check_volume(path: Path) -> None:
    """Refuse a file that is neither NIfTI nor DICOM, before it is read as the latter."""
    if path.is_file() and not _may_be_volume(path):
        raise InputError(f"{path} is not a volume gyrus reads: convert it to NIfTI, or read it as an image")


def _refuse_slice(path: Path, at: SliceRef | None) -> None:
    if at is not None:
        raise InputError(f"{path} is a single image and has no {at.plane} slice {at.index}: leave the slice out")


def _chosen(path: Path, grid: Grid, at: SliceRef | None) -> SliceRef:
    at = at or grid.only()
    if at is None:
        i, j, k = grid.shape
        raise InputError(f"{path} is a volume ({i} x {j} x {k}): name a plane and slice, or cut it with data convert")
    if at.index >= grid.count(at.plane):
        last = grid.count(at.plane) - 1
        raise InputError(f"{path} has {at.plane} slices 0 to {last}, no {at.index}: choose one of them")
    return at


_Stamp = tuple[tuple[str, int, int], ...]


def _stamp(path: Path) -> _Stamp:
    """Return names, times and sizes: of a file and the ``.img`` beside it, or of the files in a folder."""
    if not path.is_dir():
        files = [path, path.with_suffix(".img")]
        return tuple((f.name, s.st_mtime_ns, s.st_size) for f in files if f.exists() for s in [f.stat()])
    stamp = []
    with os.scandir(path) as entries:  # for every slice that is asked for, so with one look at each file
        for entry in entries:
            try:
                known = entry.stat()
            except FileNotFoundError:  # a link that leads nowhere
                continue
            stamp.append((entry.name, known.st_mtime_ns, known.st_size))
    return tuple(sorted(stamp))


@lru_cache(maxsize=64)
def _kept_grid(path: Path, stamp: _Stamp) -> Grid:  # noqa: ARG001 - the stamp is part of the key
    if _is_nifti(path):
        return nifti.read_nifti_grid(path)
    _check_volume(path)
    return dicom_series.read_dicom_grid(path)


@lru_cache(maxsize=2)
def _kept_volume(path: Path, stamp: _Stamp, channel: int | None) -> Volume:  # noqa: ARG001 - as above
    return read_volume(path, channel)
