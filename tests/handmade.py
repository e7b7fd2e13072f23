"""Files written byte by byte or as MATLAB would, for the tests of the readers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

_TIFF_CODES = {"u": 1, "i": 2, "f": 3}
_PACK = {3: "H", 4: "I"}


def write_mat(
    path: Path,
    image: NDArray[Any],
    label: float = 1.0,
    pid: str = "100360",
    mask: NDArray[Any] | None = None,
    border: Sequence[float] = (1.0, 1.0, 2.0, 1.0, 2.0, 2.0),
) -> Path:
    """Write a slice as MATLAB v7.3 does: a 512-byte block, then HDF5 with every array transposed."""
    mask = np.zeros(image.shape, dtype=np.uint8) if mask is None else mask
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        cjdata = file.create_group("cjdata")
        cjdata["image"] = image.T
        cjdata["label"] = np.array([[float(label)]])
        cjdata["PID"] = np.array([[ord(letter)] for letter in pid], dtype=np.uint16)
        cjdata["tumorBorder"] = np.array([border], dtype=np.float64)
        cjdata["tumorMask"] = mask.astype(np.uint8).T
    return _stamp(path)


def write_folds(path: Path, folds: Sequence[int]) -> Path:
    """Write cvind.mat as MATLAB v7.3 does: an N x 1 vector arrives as 1 x N."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cvind"] = np.array([folds], dtype=np.float64)
    return _stamp(path)


def _stamp(path: Path) -> Path:
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + b"\x00\x02IM")
    return path


def write_tiff(
    path: Path,
    samples: NDArray[Any],
    *,
    order: Literal["<", ">"] = "<",
    orientation: int = 1,
    photometric: int | None = None,
    pages: int = 1,
    description: str = "",
    resolution: tuple[int, int] | None = None,
) -> Path:
    """Write an uncompressed TIFF from its specification: (H, W) or (H, W, C) of any integer or float kind.

    ``resolution`` is (x, y) in pixels per unit; ``order`` is "<" for II and ">" for MM.
    """
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    if photometric is None:
        photometric = 2 if channels > 1 else 1
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8))
    for page in range(pages):
        tags: list[tuple[int, int, Sequence[Any]]] = [
            (256, 4, [width]),
            (257, 4, [height]),
            (258, 3, [samples.itemsize * 8] * channels),
            (259, 3, [1]),
            (262, 3, [photometric]),
            (273, 4, [0]),  # where the samples start, filled in below
            (274, 3, [orientation]),
            (277, 3, [channels]),
            (278, 4, [height]),
            (279, 4, [len(data)]),
            (339, 3, [_TIFF_CODES[samples.dtype.kind]] * channels),
        ]
        if description:
            tags.append((270, 2, description.encode() + b"\0"))
        if resolution:
            tags += [(282, 5, [resolution[0]]), (283, 5, [resolution[1]])]
        tags.sort()
        behind = len(out) + 2 + 12 * len(tags) + 4  # where values too long for their entry go
        values, entries = b"", b""
        for tag, kind, items in tags:
            if kind == 2:
                raw = bytes(items)
            elif kind == 5:
                raw = b"".join(struct.pack(order + "II", item, 1) for item in items)
            else:
                raw = b"".join(struct.pack(order + _PACK[kind], item) for item in items)
            if len(raw) > 4:
                values, raw = values + raw, struct.pack(order + "I", behind + len(values))
            entries += struct.pack(order + "HHI", tag, kind, len(items)) + raw.ljust(4, b"\0")
        start = behind + len(values)
        at = 12 * [tag for tag, *_ in tags].index(273) + 8
        entries = entries[:at] + struct.pack(order + "I", start) + entries[at + 4 :]
        following = start + len(data) if page < pages - 1 else 0
        out += struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + values + data
    path.write_bytes(out)
    return path
