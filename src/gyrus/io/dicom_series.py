"""DICOM files that together make a :class:`Volume`: a series in a folder, or the frames of one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io.dicom import SUFFIXES, Frame, Header, find_header, has_mark, is_dicom, read_header, read_start
from gyrus.io.dicom_pixels import read_frames
from gyrus.io.raster import Tint
from gyrus.io.volume import Grid, Volume, check_affine, check_voxels, reorient, to_canonical
from gyrus.paths import PathLike, PathLikes, all_paths

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ALIKE = 1e-3  # direction cosines and relative spacings that differ by less are the same
_UNEVEN = 0.01  # of a step: how far a slice may lie from its place before a note says so,
_WRONG = 0.05  # and before the series is refused


@dataclass(frozen=True, slots=True)
class Series:
    """One DICOM series of a folder.

    Attributes:
        files: its image files, by name.
        number: the series' number, or None.
        modality: "MR", "CT" and so on.
    """

    files: tuple[Path, ...]
    number: int | None
    modality: str


@dataclass(frozen=True)
class _Lattice:
    """Slices in order: ``order[s]`` is the place in the flat list of frames; ``affine`` in RAS+, (column, row, s)."""

    order: tuple[int, ...]
    affine: NDArray[np.float64]
    geometry: str
    notes: tuple[str, ...]


def list_series(folder: PathLike) -> tuple[Series, ...]:
    """Tell apart the series in one folder (not in those below it), by number and then by name.

    Files that are not DICOM, and DICOM objects without an image, are passed over.

    Raises:
        InputError: the folder cannot be listed, or one of its DICOM files is damaged.
        MissingExtraError: pydicom is not installed.
    """
    found: dict[bytes, list[Header]] = {}
    for header in _headers(dicom_files(Path(folder))):
        found.setdefault(header.series, []).append(header)
    series = [Series(tuple(h.path for h in hs), hs[0].number, hs[0].meta["modality"]) for hs in found.values()]
    return tuple(sorted(series, key=lambda s: (s.number is None, s.number or 0, s.files)))


def read_dicom(path: Path) -> Volume:
    """Read a folder that holds one DICOM series, or one DICOM file, as a volume.

    Raises:
        InputError: as :func:`read_series`; or the folder holds no series, or several.
        MissingExtraError: pydicom, or the decoder its compression needs, is not installed.
    """
    path = Path(path)
    return _volume(path, _one_series(path))


def read_series(files: PathLikes) -> Volume:
    """Read the files of one series, in any order, as a volume.

    Slices are sorted by their position along the normal of the image plane, never by file name or instance number. The
    affine is built in DICOM's own frame (LPS) and turned to RAS+ once. A volume of several files needs position and
    orientation in each; the frames of one file that has none are taken as axial slices as displayed, which a note says.

    Raises:
        InputError: a file cannot be read; the files differ in series, size, orientation or spacing; two slices share a
            place; slices are missing or unevenly spaced (by more than 5 % of the step; a note tells of 1 % and more).
        MissingExtraError: pydicom, or the decoder their compression needs, is not installed.
    """
    files = all_paths(files)
    if not files:
        raise InputError("a DICOM series needs at least one file: name its files")
    return _volume(files[0] if len(files) == 1 else files[0].parent, _headers(files))


def read_dicom_grid(path: Path) -> Grid:
    """Return the shape and affine that :func:`read_dicom` would give, from the headers alone.

    Raises:
        InputError: as far as the headers show it.
    """
    path = Path(path)
    headers = _one_series(path)
    stored = _stored_shape(path, headers)  # first: what does not belong together has no lattice to speak of
    _, shape, affine, _ = to_canonical(stored, _lattice(path, headers).affine)
    return Grid(shape, affine)


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files in a folder, by name; hidden ones, and those of other kinds, are passed over.

    Raises:
        InputError: the folder cannot be listed; or a file in it may be a lost slice: it cannot be opened, starts with
            nothing but zeros, or has the name of a DICOM file without being one.
    """
    try:  # what is listed and does not exist is a link that leads nowhere
        files = sorted(f for f in folder.iterdir() if not f.name.startswith(".") and (f.is_file() or not f.exists()))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): check the path") from None
    return [f for f in files if _is_slice(f)]


def _is_slice(file: Path) -> bool:
    """Tell whether a file of a series' folder is DICOM; what may have been is not passed over without a word."""
    try:
        start = read_start(file)
    except OSError as error:
        raise InputError(f"{file} cannot be opened ({error.strerror}): check its permissions, or remove it") from None
    if has_mark(start):
        return True
    if not any(start):
        raise InputError(f"{file} is empty, or starts with zeros alone: restore it from its source or remove it")
    if file.suffix.lower() in SUFFIXES:
        raise InputError(
            f"{file} is not a DICOM file (it lacks the mark DICM): restore it from its source or remove it"
        )
    return False


def has_dicom(folder: Path) -> bool:
    """Tell whether a folder holds a DICOM file."""
    try:
        return any(not f.name.startswith(".") and f.is_file() and is_dicom(f) for f in Path(folder).iterdir())
    except OSError:
        return False


def _headers(files: Iterable[Path]) -> list[Header]:
    """Read the headers of those files that hold an image."""
    return [header for header in map(find_header, files) if header is not None]


def _one_series(path: Path) -> list[Header]:
    if not path.is_dir():
        return [read_header(path)]
    headers = _headers(dicom_files(path))
    if not headers:
        raise InputError(f"{path} is a folder without DICOM images: name a file, or a folder that holds one series")
    return headers


def _volume(where: Path, headers: Sequence[Header]) -> Volume:
    shape = _stored_shape(where, headers)
    lattice = _lattice(where, headers)
    place = {flat: s for s, flat in enumerate(lattice.order)}
    voxels = np.empty(shape, dtype=np.float32, order="F")
    tints: list[Tint] = []
    for header in headers:
        for pixels, tint in read_frames(header):
            voxels[:, :, place[len(tints)]] = pixels.T
            tints.append(tint)
    steps, _, affine, codes = to_canonical(shape, lattice.affine)
    first = headers[0]
    meta: dict[str, Any] = {
        **first.meta,
        "bits": max(h.meta["bits"] for h in headers),
        "colour": max(tint.most for tint in tints),
        "coloured": sum(tint.share for tint in tints) / len(tints),
        "vivid": sum(tint.vivid for tint in tints) / len(tints),
        "window": first.frames[0].window,
        "axes": codes,
        "geometry": lattice.geometry,
        "notes": lattice.notes,
    }
    return Volume(reorient(voxels, steps), affine, meta)


def _stored_shape(where: Path, headers: Sequence[Header]) -> tuple[int, int, int]:
    """Return (columns, rows, slices), after making sure that the files belong together."""
    several = {h.series for h in headers}
    if len(several) > 1:
        sizes = ", ".join(str(sum(h.series == s for h in headers)) for s in sorted(several))
        raise InputError(
            f"{where} holds {len(several)} DICOM series (of {sizes} files): put each in a folder of its own "
            "(gyrus.io.list_series tells them apart)"
        )
    shapes = {h.shape for h in headers}
    if len(shapes) > 1:
        raise InputError(f"{where} holds slices of {len(shapes)} sizes: keep those of one size")
    rows, columns = headers[0].shape
    shape = columns, rows, sum(len(h.frames) for h in headers)
    check_voxels(where, shape)
    return shape


def _lattice(where: Path, headers: Sequence[Header]) -> _Lattice:
    frames = [frame for header in headers for frame in header.frames]
    if any(f.position is None or f.axes is None for f in frames):
        if len(headers) > 1:
            raise InputError(f"{where} holds slices that do not say where they lie: read its files one by one")
        return _assumed(where, frames[0], len(frames))
    axes, spacing = _shared(where, frames)
    positions = np.array([f.position for f in frames])
    normal = np.cross(axes[0], axes[1])
    order = np.argsort(positions @ normal, kind="stable")
    start, step, notes = _steps(where, positions[order], normal, frames[0].step)
    return _Lattice(tuple(map(int, order)), _affine(where, axes, spacing, start, step), "slice positions", notes)


def _shared(where: Path, frames: Sequence[Frame]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the axes and spacing that all frames have in common."""
    axes = np.array([f.axes for f in frames])
    if np.abs(axes[0] @ axes[0].T - np.eye(2)).max() > _ALIKE:
        raise InputError(f"{where} gives image axes that are not at right angles: restore it from its source")
    if np.abs(axes - axes[0]).max() > _ALIKE:
        raise InputError(f"{where} holds slices that lie at different angles: put each stack in a folder of its own")
    if any(f.spacing is None or f.spacing_where != frames[0].spacing_where for f in frames):
        raise InputError(f"{where} holds slices without a pixel spacing: correct their headers")
    spacings = np.array([f.spacing for f in frames])
    if np.abs(spacings / spacings[0] - 1).max() > _ALIKE:
        raise InputError(f"{where} holds slices of different pixel spacing: keep those of one spacing")
    return axes.mean(axis=0), (float(spacings[0, 0]), float(spacings[0, 1]))


def _steps(
    where: Path, positions: NDArray[np.float64], normal: NDArray[np.float64], claimed: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Return the first position, the step from slice to slice in mm (LPS), and notes.

    Args:
        where: what is being read.
        positions: (n, 3) in order along the normal.
        normal: (3,) unit vector.
        claimed: the header's own step in mm, which counts only where there is one slice.
    """
    if len(positions) == 1:
        note = () if claimed else ("One slice of unknown thickness: taken as 1 mm.",)
        return positions[0], normal * (claimed or 1.0), note
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if gaps.min() < max(1e-3, usual * _ALIKE):
        raise InputError(
            f"{where} holds several slices at one place (echoes, time points or copies): keep one for each place"
        )
    if gaps.max() > 1.5 * usual:
        after = int(np.argmax(gaps))
        raise InputError(
            f"{where} lacks slices: {gaps.max():.4g} mm after slice {after + 1} of {len(positions)}, where "
            f"{usual:.4g} mm are usual; restore them"
        )
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    straight = positions[0] + np.arange(len(positions))[:, None] * step
    off = float(np.linalg.norm(positions - straight, axis=1).max() / np.linalg.norm(step))
    if off > _WRONG:
        raise InputError(f"{where} holds slices {gaps.min():.4g} to {gaps.max():.4g} mm apart: resample them evenly")
    notes = (f"Slices lie up to {100 * off:.1f} % of a step from even spacing.",) if off > _UNEVEN else ()
    return positions[0], step, notes


def _assumed(where: Path, first: Frame, count: int) -> _Lattice:
    """Place the frames of a file that describes where the first lies at most."""
    order = tuple(range(count))
    if first.position is not None and first.axes is not None and first.step is not None:
        axes, spacing = _shared(where, [first])
        affine = _affine(where, axes, spacing, first.position, np.cross(axes[0], axes[1]) * first.step)
        note = "The file places its first frame alone: the others are taken to follow along its normal."
        return _Lattice(order, affine, "first frame", (note,))
    spacing, step = first.spacing or (1.0, 1.0), first.step or 1.0
    affine = _affine(where, np.eye(3)[:2], spacing, np.zeros(3), np.array([0, 0, step]))
    note = "The file does not say how its frames lie: they are taken as axial slices as displayed, from below."
    return _Lattice(order, affine, "unknown", (note,))


def _affine(
    where: Path,
    axes: NDArray[np.float64],
    spacing: tuple[float, float],
    start: NDArray[np.float64],
    step: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (column, row, slice) to RAS+ mm. Source: DICOM PS3.3 C.7.6.2.1.1, then x and y negated."""
    lps = np.eye(4)
    lps[:3, 0] = axes[0] * spacing[1]  # along a row the column index grows: PixelSpacing names the rows' distance first
    lps[:3, 1] = axes[1] * spacing[0]
    lps[:3, 2] = step
    lps[:3, 3] = start
    affine: NDArray[np.float64] = _LPS_TO_RAS @ lps
    check_affine(affine, str(where))
    return affine
