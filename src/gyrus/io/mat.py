"""The original Cheng files: one slice per MATLAB v7.3 file (HDF5), and the fold index beside them.

Each ``N.mat`` holds a struct ``cjdata``: image (int16), label (1 meningioma, 2 glioma, 3 pituitary), PID (character
codes), tumorBorder (coordinates in turn) and tumorMask (logical). MATLAB stores columns first, so every 2-D array
arrives transposed. Source: Cheng, figshare 1512427, README.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io.checks import brief, check_file, check_size
from gyrus.io.image import Image
from gyrus.io.masks import fill_outline

if TYPE_CHECKING:
    import h5py

LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}
"""The class names of the numbers in ``cjdata.label``."""


def read_mat_image(path: Path) -> Image:
    """Read ``cjdata.image``, turned the way MATLAB shows it.

    Returns:
        Image: (H, W) float32 pixels in the file's own units, which may be negative; spacing None.

    Raises:
        InputError: the file is missing, damaged, not MATLAB v7.3, or holds no such image.
    """
    path = Path(path)
    with _opened(path) as cjdata:
        stored = _matrix(path, cjdata, "image")
        bits = 8 * stored.dtype.itemsize
        pixels = np.ascontiguousarray(stored[()].T, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise InputError(f"{path} holds NaN or infinite pixels: replace them before reading")
    meta = {
        "format": "MAT",
        "bits": bits,
        "channels": 1,
        "colour": 0.0,
        "coloured": 0.0,
        "vivid": 0.0,
        "orientation": 1,
    }
    return Image(pixels=pixels, spacing=None, meta=meta)


def read_mat_size(path: Path) -> tuple[int, int]:
    """Return (H, W) of ``cjdata.image`` without reading it.

    Raises:
        InputError: as :func:`read_mat_image`.
    """
    path = Path(path)
    with _opened(path) as cjdata:
        width, height = _matrix(path, cjdata, "image").shape
    return int(height), int(width)


def read_mat_header(path: Path) -> tuple[str, str]:
    """Return (label, PID): the class name and the study id; no pixel is read.

    Raises:
        InputError: the file cannot be read, or its label or PID is not as published.
    """
    path = Path(path)
    with _opened(path) as cjdata:
        label = np.asarray(_member(path, cjdata, "label")[()]).ravel()
        codes = np.asarray(_member(path, cjdata, "PID")[()])
    if label.size != 1 or label[0] not in LABELS:
        raise InputError(f"{path}: cjdata.label is {label.tolist()}, not 1, 2 or 3: restore the file from its source")
    if codes.dtype.kind != "u" or codes.max(initial=0) > 0x10FFFF:
        raise InputError(f"{path}: cjdata.PID is not text: restore the file from its source")
    pid = "".join(chr(code) for code in codes.ravel()).strip()
    if not pid or not pid.isprintable():
        raise InputError(f"{path}: cjdata.PID is empty or unreadable: restore the file from its source")
    return LABELS[int(label[0])], pid


def read_mat_outline(path: Path) -> NDArray[np.float64]:
    """Return the tumour's outline as x, y in turn, whichever of the two the file stores first.

    Both orders are filled, and the one that overlaps ``cjdata.tumorMask`` more (intersection over union) is taken.

    Returns:
        (N, 2) x (column) and y (row), in the file's own pixel units.

    Raises:
        InputError: the file cannot be read, or its outline is not at least three points.
    """
    path = Path(path)
    with _opened(path) as cjdata:
        border = np.asarray(_member(path, cjdata, "tumorBorder")[()], dtype=np.float64).ravel()
        mask = _matrix(path, cjdata, "tumorMask")[()].T != 0
    if border.size < 6 or border.size % 2 or not np.isfinite(border).all():
        raise InputError(f"{path}: cjdata.tumorBorder is not three or more points: restore the file from its source")
    pairs = border.reshape(-1, 2)
    as_stored, swapped = pairs, pairs[:, ::-1]
    return max((as_stored, swapped), key=lambda points: _overlap(fill_outline(points, mask.shape), mask))


def read_mat_folds(path: Path) -> NDArray[np.int64]:
    """Return the official fold, 1 to 5, of every slice: element k - 1 belongs to ``k.mat``.

    Args:
        path: ``cvind.mat``, MATLAB v7.3 or older.

    Raises:
        InputError: the file cannot be read, or holds no vector ``cvind`` of 1 to 5.
    """
    path = Path(path)
    check_file(path)
    values = _read_folds(path).ravel()
    if values.size == 0 or not np.isin(values, (1, 2, 3, 4, 5)).all():
        raise InputError(f"{path}: cvind is not a list of folds 1 to 5: restore the file from its source")
    return values.astype(np.int64)


@dataclass(frozen=True, slots=True)
class MatMask:
    """The official mask inside an original Cheng file.

    Attributes:
        path: the ``N.mat`` that holds it, as ``cjdata.tumorMask``.
    """

    path: Path

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask on the image's own (H, W) grid.

        Raises:
            InputError: the file cannot be read, or the mask is not of the image's size.
        """
        with _opened(self.path) as cjdata:
            mask = np.ascontiguousarray(_matrix(self.path, cjdata, "tumorMask")[()].T != 0)
        if mask.shape != tuple(shape):
            raise InputError(
                f"{self.path}: cjdata.tumorMask is {mask.shape[1]} x {mask.shape[0]} pixels but its image is "
                f"{shape[1]} x {shape[0]}: restore the file from its source"
            )
        return mask


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))


@contextmanager
def _opened(path: Path) -> Iterator[h5py.Group]:
    """Open the group ``cjdata``; whatever HDF5 raises on a damaged file becomes one :class:`InputError`."""
    with _hdf5(path) as file:
        yield _member(path, file, "cjdata", of="")


@contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    check_file(path)
    import h5py

    try:
        if not h5py.is_hdf5(path):
            raise InputError(_not_hdf5(path))
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # h5py answers damage with OSError, KeyError, RuntimeError, ValueError and others
        raise InputError(f"{path} is damaged or cut short ({brief(error)}): restore it from its source") from error


def _not_hdf5(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"MATLAB 7.3"):
        return f"{path} is damaged or cut short: restore it from its source"
    if head.startswith(b"MATLAB"):
        return f"{path} is an older MATLAB file: save it again in MATLAB with '-v7.3', as the Cheng files are"
    return f"{path} is not a MATLAB v7.3 file: restore it from its source or remove it"


def _member(path: Path, group: h5py.Group, name: str, of: str = "cjdata.") -> h5py.Dataset:
    if not hasattr(group, "keys") or name not in group:
        raise InputError(f"{path} holds no {of}{name}: it is not a slice of the Cheng data; remove it from the folder")
    return group[name]


def _matrix(path: Path, cjdata: h5py.Group, name: str) -> h5py.Dataset:
    """Return a 2-D numeric dataset, (W, H) as HDF5 sees it, not read yet."""
    stored = _member(path, cjdata, name)
    if getattr(stored, "ndim", 0) != 2 or stored.dtype.kind not in "biuf":
        raise InputError(f"{path}: cjdata.{name} is not a 2-D array of numbers: restore the file from its source")
    check_size(path, stored.shape[1], stored.shape[0])
    return stored


def _read_folds(path: Path) -> NDArray[np.float64]:
    with path.open("rb") as stream:
        older = stream.read(10) in (b"MATLAB 5.0", b"MATLAB 4.0")
    if not older:
        with _hdf5(path) as file:
            return np.asarray(_member(path, file, "cvind", of="")[()], dtype=np.float64)
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path, variable_names=["cvind"])["cvind"], dtype=np.float64)
    except KeyError:
        raise InputError(f"{path} holds no cvind: it is not the Cheng fold index; restore or remove it") from None
    except Exception as error:  # as with HDF5: any kind may come out of a damaged file
        raise InputError(f"{path} is damaged or cut short ({brief(error)}): restore it from its source") from error
