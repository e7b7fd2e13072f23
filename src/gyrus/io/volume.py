"""The value 3-D files are read into, its fixed frame, and the one display convention for its slices.

The frame is RAS+, as nibabel uses it: voxel index i grows towards the patient's right, j towards the front (anterior),
k towards the top of the head (superior), and the affine takes (i, j, k) to millimetres in a world whose x, y and z grow
the same three ways. A volume stored in another axis order is brought there by swapping and flipping axes alone, with
its affine changed to match: no voxel is resampled or moved in the world. An oblique volume stays oblique; its axes are
then the closest ones, and its slices are named by them.

Slices are displayed the radiological way, whatever the file stores:

========  =====  ============================  ==========================================
plane     fixes  rows, from top to bottom      columns, from left to right
========  =====  ============================  ==========================================
axial     k      anterior to posterior (j)     patient's right to patient's left (i)
coronal   j      superior to inferior (k)      patient's right to patient's left (i)
sagittal  i      superior to inferior (k)      anterior to posterior (j)
========  =====  ============================  ==========================================

So in every plane rows and columns both run against the index of their axis, and the row's axis is the later one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gyrus.errors import InputError
from gyrus.io.image import Image

AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The voxel axis that each plane fixes."""

MAX_VOXELS = 1 << 28
"""The largest volume that is read, in voxels: 645 along each side, and 1 GiB as float32."""

_TIE = 1e-3  # relative: spacings closer than this count as equal


@dataclass(frozen=True, slots=True)
class SliceRef:
    """One slice of a volume.

    Attributes:
        plane: "axial", "coronal" or "sagittal".
        index: which one, from 0: the voxel index along the axis the plane fixes, so it grows towards the patient's
            right, front or top.
        channel: which volume of a 4-D file, from 0; None where the file holds one.

    Raises:
        InputError: no such plane, or a negative index.
    """

    plane: str
    index: int
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.plane not in AXIS:
            raise InputError(f"there is no plane {self.plane!r}: choose axial, coronal or sagittal")
        if self.index < 0:
            raise InputError(f"there is no slice {self.index}: slices are counted from 0")


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of a volume lie, known from its header alone.

    Attributes:
        shape: (I, J, K), the number of voxels along each axis, RAS+ as the module says.
        affine: (4, 4) float64, voxel index to millimetres in RAS+ world coordinates.
        channels: how many volumes of this shape the file holds; 1 but for a 4-D file.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    channels: int = 1

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance in mm between neighbouring voxel centres along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def acquired(self) -> str:
        """The plane across which the spacing is largest, which the scanner most likely cut in; ties: axial."""
        widest = max(self.spacing) * (1 - _TIE)
        return next(plane for plane in ("axial", "coronal", "sagittal") if self.spacing[AXIS[plane]] >= widest)

    def count(self, plane: str) -> int:
        """Return how many slices there are in a plane."""
        return self.shape[_axis(plane)]

    def size(self, plane: str) -> tuple[int, int]:
        """Return (H, W) of a plane's slices as displayed."""
        column, row = (n for axis, n in enumerate(self.shape) if axis != _axis(plane))
        return row, column

    def only(self) -> SliceRef | None:
        """Return the one slice of a volume that is one slice thick, else None."""
        return next((SliceRef(plane, 0) for plane in ("axial", "coronal", "sagittal") if self.count(plane) == 1), None)


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A 3-D image in the frame the module describes.

    Attributes:
        voxels: (I, J, K) float32, finite, in the file's own units after its rescaling.
        affine: (4, 4) float64, voxel index to millimetres in RAS+ world coordinates; invertible.
        meta: what else the file says, never who the patient is: ``format``, ``bits``, ``channels``, ``colour`` and
            ``coloured`` as in :class:`Image`, for all slices together; ``axes``, the axis codes as stored ("LPS" where
            index 0, 1, 2 grow to the left, the back and the top); ``geometry``, what the affine rests on; ``notes``,
            what a reader should know, one sentence each.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]
    meta: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or self.voxels.dtype != np.float32:
            raise TypeError(f"Volume.voxels must be (I, J, K) float32, not {self.voxels.shape} {self.voxels.dtype}")
        if self.affine.shape != (4, 4) or self.affine.dtype != np.float64:
            raise TypeError(f"Volume.affine must be (4, 4) float64, not {self.affine.shape} {self.affine.dtype}")

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        i, j, k = self.voxels.shape
        return Grid((i, j, k), self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """The distance in mm between neighbouring voxel centres along i, j and k."""
        return self.grid.spacing

    @property
    def acquired(self) -> str:
        """The plane across which the spacing is largest; ties: axial."""
        return self.grid.acquired

    def count(self, plane: str) -> int:
        """Return how many slices there are in a plane."""
        return self.grid.count(plane)

    def take(self, plane: str, index: int) -> Image:
        """Return one slice as displayed, with its spacing, the volume's ``meta``, and its ``plane`` and ``index``.

        Raises:
            InputError: there is no such plane or slice.
        """
        if not 0 <= index < self.count(plane):
            raise InputError(f"the volume has {plane} slices 0 to {self.count(plane) - 1}, no {index}: choose one")
        pixels = np.array(_displayed(self.voxels, plane)[index], order="C")
        column, row = (mm for axis, mm in enumerate(self.spacing) if axis != AXIS[plane])
        return Image(pixels, (row, column), {**self.meta, "plane": plane, "index": index})

    def stack(self, plane: str, arrays: ArrayLike) -> NDArray[Any]:
        """Put arrays made on every slice of a plane back into the volume's frame: the inverse of :meth:`take`.

        Args:
            plane: the plane the slices were taken in.
            arrays: (n, h, w) of any type, in the order of the slices and as displayed.

        Returns:
            (I, J, K) of the same type, fit for this volume's affine.

        Raises:
            InputError: their number or size is not that of this volume's slices.
        """
        arrays = np.asarray(arrays)
        wanted = (self.count(plane), *self.grid.size(plane))
        if arrays.shape != wanted:
            raise InputError(f"slices of {arrays.shape} do not stack into this volume: its {plane} ones are {wanted}")
        back = np.moveaxis(arrays[:, ::-1, ::-1].swapaxes(1, 2), 0, AXIS[plane])
        return np.ascontiguousarray(back)


def _displayed(voxels: NDArray[Any], plane: str) -> NDArray[Any]:
    """Return a view (n, h, w) of all slices of a plane as displayed."""
    return np.moveaxis(voxels, _axis(plane), 0).swapaxes(1, 2)[:, ::-1, ::-1]


def _axis(plane: str) -> int:
    return AXIS[SliceRef(plane, 0).plane]


def to_canonical(
    shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, int, int], NDArray[np.float64], str]:
    """Find the axis swaps and flips that bring stored voxels closest to RAS+.

    Args:
        shape: of the voxels as stored.
        affine: (4, 4), stored voxel index to RAS+ millimetres, invertible.

    Returns:
        (steps, shape, affine, codes): ``steps`` for :func:`reorient`; the shape and affine afterwards; the axis codes
        as stored, such as "LPS".
    """
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt2axcodes

    steps = io_orientation(affine)
    i, j, k = apply_orientation(np.broadcast_to(False, shape), steps).shape
    turned = np.asarray(affine @ inv_ornt_aff(steps, shape), dtype=np.float64)
    return steps, (i, j, k), turned, "".join(ornt2axcodes(steps))


def reorient(voxels: NDArray[Any], steps: NDArray[np.float64]) -> NDArray[Any]:
    """Apply the axis swaps and flips of :func:`to_canonical`; returns a view."""
    from nibabel.orientations import apply_orientation

    return np.asarray(apply_orientation(voxels, steps))


def check_affine(affine: NDArray[np.float64], where: str) -> None:
    """Refuse an affine that does not place voxels in space.

    Raises:
        InputError: it is not finite, flattens an axis, lies beyond 1e9 mm, or has a spacing outside 1e-6 to 1e6 mm.
    """
    linear = affine[:3, :3]
    spacing = np.linalg.norm(linear, axis=0) if np.abs(affine).max() < 1e9 else np.zeros(3)
    sound = bool(((spacing > 1e-6) & (spacing < 1e6)).all())
    if not sound or abs(np.linalg.det(linear / spacing)) < 1e-3:
        raise InputError(f"{where}: its geometry flattens the volume or is not finite: correct its header")


def check_voxels(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse a volume by the size its header claims, before anything is decoded.

    Raises:
        InputError: it has more than :data:`MAX_VOXELS`.
    """
    if math.prod(shape) > MAX_VOXELS:
        claimed = " x ".join(map(str, shape))
        raise InputError(
            f"{path} claims {claimed} voxels, more than the {MAX_VOXELS // 10**6} million gyrus reads: "
            "resample or crop it first"
        )
