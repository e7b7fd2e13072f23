"""NIfTI-1 and NIfTI-2 into :class:`Volume`, and arrays back into NIfTI.

nibabel interprets the header; the voxels are read here, because a compressed file must not be unpacked beyond what its
header claims, and not at all where it claims too much.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io.checks import brief, check_file
from gyrus.io.volume import Grid, Volume, check_affine, check_voxels, reorient, to_canonical
from gyrus.paths import PathLike

if TYPE_CHECKING:
    import nibabel as nib

SUFFIXES = (".nii", ".nii.gz", ".hdr")
"""The file name endings read here; a ``.hdr`` has its voxels in the ``.img`` beside it."""

_TO_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 1e-3}  # by the header's unit code: unknown (taken as mm), m, mm, micron
_SHORTEST_HEADER, _LONGEST_HEADER = 348, 540  # bytes, of NIfTI-1 and NIfTI-2
_FARTHEST_VOXELS = 1 << 28  # headers may be extended, but not by this many bytes
_CHUNK = 1 << 24


@dataclass(frozen=True)
class _Header:
    """What the header says, checked; ``shape`` and ``affine`` are as stored."""

    file: Path
    shape: tuple[int, int, int]
    channels: int
    affine: NDArray[np.float64]
    geometry: str
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    notes: tuple[str, ...]


def read_nifti(path: Path, channel: int | None = None) -> Volume:
    """Read a NIfTI file: ``.nii``, ``.nii.gz``, or a ``.hdr`` with its ``.img``.

    The affine is the sform where its code is not 0, else the qform where its code is not 0, else the voxel size alone
    in nibabel's default orientation (``meta["geometry"]`` says which, and a note warns of the last). Lengths in metres
    or microns become millimetres. The header's scaling is applied.

    Args:
        path: the file.
        channel: which volume of a 4-D file, from 0; may be left out where there is one.

    Raises:
        InputError: missing, damaged, cut short, larger than ``MAX_VOXELS``, colour or complex, not placed in space,
            with NaN or infinite voxels, or 4-D with no ``channel`` chosen.
    """
    path = Path(path)
    with _explained(path):
        header = _read_header(path)
        chosen = _channel(path, header.channels, channel)
        stored, surplus = _read_stored(path, header, chosen)
        voxels = _rescaled(path, stored, header)
    steps, _, affine, codes = to_canonical(header.shape, header.affine)
    meta = {
        "format": "NIfTI",
        "bits": 8 * header.dtype.itemsize,
        "channels": 1,
        "colour": 0.0,
        "coloured": 0.0,
        "vivid": 0.0,
        "axes": codes,
        "geometry": header.geometry,
        "notes": header.notes + surplus,
    }
    return Volume(reorient(voxels, steps), affine, meta)


def read_nifti_grid(path: Path) -> Grid:
    """Return the shape, affine and number of channels that :func:`read_nifti` would give, from the header alone.

    Raises:
        InputError: as far as the header shows it.
    """
    path = Path(path)
    with _explained(path):
        header = _read_header(path)
    _, shape, affine, _ = to_canonical(header.shape, header.affine)
    return Grid(shape, affine, header.channels)


def write_nifti(path: PathLike, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a volume, compressed where ``path`` ends in ``.gz``; the same input gives the same bytes.

    The voxels are stored as they are. The affine is stored as sform and, where it has no shear, as qform; NIfTI-1 keeps
    it in single precision, which moves no voxel of a head by more than 0.0001 mm.

    Args:
        path: a name ending in ``.nii`` or ``.nii.gz``; its folder exists.
        array: (I, J, K) float32, uint8 or bool (stored as 0 and 1).
        affine: (4, 4), voxel index to millimetres in RAS+ world coordinates.

    Raises:
        InputError: the name, type, shape or affine is another.
    """
    import nibabel as nib

    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise InputError(f"{path} is not a name for a NIfTI file: end it in .nii or .nii.gz")
    if array.ndim != 3 or array.dtype not in (np.float32, np.uint8, np.bool_):
        raise InputError(f"{path}: {array.shape} {array.dtype} is not a volume of float32, uint8 or bool: convert it")
    affine = np.asarray(affine, dtype=np.float64)
    check_affine(affine, str(path))
    image = nib.Nifti1Image(array.astype(np.uint8) if array.dtype == np.bool_ else array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner" if _is_rigid(affine) else "unknown")
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data)


def _is_rigid(affine: NDArray[np.float64]) -> bool:
    """Tell whether the axes are at right angles, as a qform needs."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever comes of a damaged file into one :class:`InputError`."""
    check_file(path)
    try:
        yield
    except InputError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged or cut short ({brief(error)}): restore it from its source") from error
    except Exception as error:  # nibabel answers a damaged header with nearly every kind of exception there is
        raise InputError(f"{path} is not a NIfTI file gyrus reads ({brief(error)}): restore it") from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file by its content, not its name: gzip or plain."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _read_header(path: Path) -> _Header:
    with _open(path) as stream:
        header, pair = _parsed(path, stream.read(_LONGEST_HEADER))
    file = path.with_suffix(".img") if pair else path
    check_file(file)
    shape, channels = _shape(path, header)
    check_voxels(path, shape)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path} holds voxels of the type {dtype}, not plain numbers: save them as float32")
    affine, geometry, notes = _affine(path, header)
    slope, intercept = header.get_slope_inter()  # None, None where the header asks for no scaling
    offset = int(header["vox_offset"])
    if not (0 if pair else int(header["sizeof_hdr"])) <= offset <= _FARTHEST_VOXELS:
        raise InputError(f"{path} says its voxels begin at byte {offset}: restore it from its source")
    return _Header(
        file=file,
        shape=shape,
        channels=channels,
        affine=affine,
        geometry=geometry,
        dtype=dtype,
        offset=offset,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        notes=notes,
    )


def _parsed(path: Path, block: bytes) -> tuple[nib.Nifti1Header, bool]:
    """Return nibabel's view of the header, and whether the voxels are in an ``.img`` beside it."""
    import nibabel as nib

    one, two = block[344:348], block[4:8]
    if one in (b"n+1\0", b"ni1\0"):
        return nib.Nifti1Header(block[:_SHORTEST_HEADER], check=False), one == b"ni1\0"
    if two in (b"n+2\0", b"ni2\0"):
        return nib.Nifti2Header(block[:_LONGEST_HEADER], check=False), two == b"ni2\0"
    if len(block) < _SHORTEST_HEADER:
        raise InputError(f"{path} is cut short, or not a NIfTI file: restore it from its source")
    if block[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):  # 348, the size of an Analyze header too
        raise InputError(f"{path} is an Analyze file, which does not tell left from right: convert it to NIfTI")
    raise InputError(f"{path} is not a NIfTI file, whatever its name says: restore it or remove it")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[tuple[int, int, int], int]:
    """Return (I, J, K) as stored and how many such volumes there are."""
    count, *sizes = (int(n) for n in header["dim"])
    if not 2 <= count <= 7 or min(sizes[:count]) < 1:
        raise InputError(f"{path} claims dimensions {sizes[: max(count, 0)]}: restore it from its source")
    i, j, k, *rest = *sizes[:count], *([1] * (3 - count))
    return (i, j, k), math.prod(rest)


def _affine(path: Path, header: nib.Nifti1Header) -> tuple[NDArray[np.float64], str, tuple[str, ...]]:
    """Return the stored affine in mm, what it rests on, and notes."""
    notes: tuple[str, ...] = ()
    pixdim = header["pixdim"]
    pixdim[1:4] = np.abs(pixdim[1:4])  # sizes; the standard lets no sign mean anything here
    if pixdim[0] == 0:
        pixdim[0] = 1  # as the standard says
    if header["sform_code"] > 0:
        affine, geometry = header.get_sform(), "sform"
    elif header["qform_code"] > 0:
        affine, geometry = header.get_qform(), "qform"
    else:
        affine, geometry = header.get_base_affine(), "voxel size only"
        notes = ("The file does not say how the head lies: stored axes are taken to run to the left, front and top.",)
    unit = _TO_MM.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        raise InputError(f"{path} gives its lengths in an unknown unit: correct its header")
    affine = np.array(affine, dtype=np.float64)
    affine[:3] *= unit
    check_affine(affine, str(path))
    return affine, geometry, notes


def _channel(path: Path, channels: int, channel: int | None) -> int:
    if channel is None and channels == 1:
        return 0
    if channel is None:
        raise InputError(f"{path} holds {channels} volumes (4-D): choose one by its channel, 0 to {channels - 1}")
    if not 0 <= channel < channels:
        raise InputError(f"{path} has channels 0 to {channels - 1}, no {channel}: choose one of them")
    return channel


def _read_stored(path: Path, header: _Header, channel: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return the stored numbers of one volume, (I, J, K), and a note where the file goes on after them.

    Never more is unpacked than the header claims, so the checksum of a compressed file is held to account only where
    its last volume is read, which is where a 3-D file ends.
    """
    size = math.prod(header.shape) * header.dtype.itemsize
    data, got = np.empty(size, dtype=np.uint8), 0
    with _open(header.file) as stream:
        stream.seek(header.offset + channel * size)
        while got < size:
            chunk = stream.read(min(_CHUNK, size - got))
            if not chunk:
                raise InputError(f"{path} is cut short ({got} of {size} bytes are there): restore it from its source")
            data[got : got + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
            got += len(chunk)
        more = channel == header.channels - 1 and stream.read(1) != b""
    stored = data.view(header.dtype).reshape(header.shape, order="F")
    return stored, ("The file goes on after its voxels.",) if more else ()


def _rescaled(path: Path, stored: NDArray[Any], header: _Header) -> NDArray[np.float32]:
    """Apply the header's scaling, one slice at a time to keep the memory low; refuse what float32 cannot hold."""
    plain = (header.slope, header.intercept) == (1.0, 0.0)
    voxels = np.empty(stored.shape, dtype=np.float32, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # becomes infinite or NaN, and is refused as that
        for k in range(stored.shape[2]):
            voxels[..., k] = stored[..., k] if plain else stored[..., k] * np.float64(header.slope) + header.intercept
    wrong = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
    if wrong:
        raise InputError(f"{path} holds {wrong} NaN or infinite voxels: replace them, outside the head with 0")
    if plain and stored.dtype.kind in "iu" and stored.dtype.itemsize > 2 and np.abs(voxels).max() > 2**24:
        raise InputError(f"{path} holds whole numbers beyond 16,777,216, which lose digits: save it as float32")
    return voxels
