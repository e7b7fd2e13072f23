"""Where the slices of a converted folder come from, and the way back: slices into volumes, and volumes into NIfTI."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, write_json
from gyrus.errors import InputError
from gyrus.io import Grid, Volume, read_image, write_nifti
from gyrus.paths import PathLike

SCHEMA = "gyrus.geometry/1"
FILE = "geometry.json"


@dataclass(frozen=True, slots=True)
class Scale:
    """The line from a PNG's grey level to the source's value: value = level * slope + intercept.

    Attributes:
        bits: of the PNG, 8 or 16.
        slope: source units per grey level.
        intercept: the value of level 0.
        lossless: whether every value of the source has a level of its own and none is clipped.
    """

    bits: int = 8
    slope: float = 1.0
    intercept: float = 0.0
    lossless: bool = True

    def encode(self, values: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Return the grey levels; values beyond the first or last level are clipped to it."""
        levels = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        levels = np.clip(levels, 0, 2**self.bits - 1)
        return levels.astype(np.uint8) if self.bits == 8 else levels.astype(np.uint16)

    def decode(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values, in the source's units."""
        return (levels.astype(np.float64) * self.slope + self.intercept).astype(np.float32)


def scale_of(
    values: NDArray[np.float32],
    bits: int | None = None,
    window: tuple[float, float] | None = None,
    *,
    stretch: bool = True,
    colour: int | None = None,
) -> Scale:
    """Choose how values become grey levels.

    Whole numbers in 0..255 are kept as they are, in 8 bits. Otherwise 16 bits are taken: whole numbers that span at
    most 65,535 are multiplied by the largest whole number that fits, which loses nothing and can be seen in any viewer;
    what is not whole is rounded to 65,536 levels. With 8 bits asked for, or a window given, the values between its ends
    (by default the 0.5th and 99.5th percentile) are spread over all levels, and those outside are clipped.

    Args:
        values: a whole volume or image, finite.
        bits: 8 or 16; None chooses.
        window: (low, high) in the values' own units.
        stretch: False keeps whole numbers in 0..65535 as they are.
        colour: bits per channel of the picture whose luminance the values are; they keep its range, rounded.

    Raises:
        InputError: the window is empty or without end, or the bits are neither 8 nor 16.
    """
    if bits not in (None, 8, 16):
        raise InputError(f"a grey PNG has 8 or 16 bits, not {bits}: choose one of these")
    low, high = float(values.min()), float(values.max())
    whole = bool((values == np.rint(values)).all())
    if window is None and bits != 16 and whole and low >= 0 and high <= 255:
        return Scale()
    if window is None and bits != 8 and whole and high - low <= 65535:
        if not stretch and low >= 0 and high <= 65535:
            return Scale(16)
        return Scale(16, 1 / (65535 // max(1, int(high - low))), low)
    if colour is not None and window is None and (bits or colour) >= colour and low >= 0 and high < 2**colour:
        return Scale(bits or colour, lossless=False)
    if window is not None:
        low, high = window
        if not (high > low and math.isfinite(high - low)):
            raise InputError(f"the window from {low:g} to {high:g} is none: give two numbers, its lower end first")
    elif bits == 8:
        low, high = map(float, np.percentile(values, (0.5, 99.5)))
    depth = bits or 16
    return Scale(depth, (high - low if high > low else 1.0) / (2**depth - 1), low, lossless=False)


@dataclass(frozen=True)
class Placement:
    """One volume of a converted folder.

    Attributes:
        id: what it is called; its slices lie in ``images/<id>/``, as ``axial-0012.png``.
        plane: its slices are cut in.
        slices: indices of those that were written, ascending; None where all were.
        shape: (I, J, K) of the source in the RAS+ frame of :mod:`gyrus.io.volume`.
        affine: 4 x 4, of that frame, to millimetres.
        axes: the axis codes in which the source stores its voxels ("LPS").
        scale: of the PNGs' grey levels.
        spaced: False where the source's spacing is known to be a placeholder.
        region: what of the tumour the masks in ``masks/<id>/`` show; None where none is drawn.
    """

    id: str
    plane: str
    slices: tuple[int, ...] | None
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    axes: str
    scale: Scale
    spaced: bool = True
    region: str | None = None

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return Grid(self.shape, np.array(self.affine, dtype=np.float64))

    def file(self, index: int, kind: str = "images") -> str:
        """Return where a slice is kept in the folder; for images this is also its record's id."""
        return f"{kind}/{self.id}/{self.plane}-{index:04d}.png"


def save_geometry(folder: Path, placements: list[Placement], pictures: Mapping[str, Scale] | None = None) -> None:
    """Write ``geometry.json`` into a folder of converted slices.

    Args:
        folder: where the slices are.
        placements: of the volumes.
        pictures: the scale of each slice that was a picture already and is not kept in 8 bits as it was.
    """
    write_json(folder / FILE, {"schema": SCHEMA, "volumes": placements, "pictures": pictures or {}})


def load_geometry(folder: PathLike) -> dict[str, Placement]:
    """Return the volumes of a converted folder by their ids.

    Raises:
        InputError: its geometry.json is missing or damaged.
    """
    path = Path(folder) / FILE
    value = read_json(path, "the geometry of a folder that `gyrus data convert` wrote")
    try:
        if value["schema"] != SCHEMA:
            raise ValueError(f"its schema is {value['schema']!r}")
        return {entry["id"]: _placement(entry) for entry in value["volumes"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the geometry of converted slices ({error!r}): convert them again") from None


def _placement(entry: Mapping[str, Any]) -> Placement:
    i, j, k = map(int, entry["shape"])
    affine = np.array(entry["affine"], dtype=np.float64).reshape(4, 4)
    scale = Scale(**entry["scale"])
    if not all(isinstance(number, float | int) for number in (scale.slope, scale.intercept)):
        raise ValueError(f"the scale of {entry['id']} is no number")
    checked: dict[str, Any] = {
        "slices": None if entry["slices"] is None else tuple(map(int, entry["slices"])),
        "shape": (i, j, k),
        "affine": tuple(tuple(map(float, row)) for row in affine),
        "scale": scale,
    }
    return Placement(**{**entry, **checked})


def restore(folder: PathLike, volume: str | None = None, *, masks: bool = False) -> Volume:
    """Read a converted volume back from its slices, in the source's units.

    Args:
        folder: what :func:`gyrus.convert.convert_data` wrote.
        volume: its id, see :func:`load_geometry`; may be left out where there is one.
        masks: its tumour masks instead, as 0 and 1.

    Returns:
        Volume: equal to the source where ``scale.lossless``.

    Raises:
        InputError: no such volume, or not all its slices were written or are there.
    """
    folder = Path(folder)
    placed = _find(folder, volume)
    count = placed.grid.count(placed.plane)
    if placed.slices is not None:
        raise InputError(
            f"{folder} holds {len(placed.slices)} of the {count} slices of {placed.id}: convert it again with all"
        )
    size = placed.grid.size(placed.plane)
    cut = np.zeros((count, *size), dtype=np.float32)
    for index in range(count):
        path = folder / placed.file(index, "masks" if masks else "images")
        if masks and not path.exists():
            continue  # none is written where the mask would be empty
        levels = read_image(path).pixels
        if levels.shape != size:
            raise InputError(f"{path} is not of the size it was written in: convert its source again")
        cut[index] = levels > 0 if masks else placed.scale.decode(levels)
    return _volume(placed, cut)


def to_nifti(
    folder: PathLike, volume: str | None, out: PathLike, slices: Mapping[str, NDArray[Any]] | None = None
) -> Path:
    """Write a converted volume, or arrays made on its slices, as NIfTI: on the source's grid, voxel for voxel.

    The file has the source's own axis order and affine, so that its array can be compared with the source's directly.

    Args:
        folder: what :func:`gyrus.convert.convert_data` wrote.
        volume: its id; may be None where there is one.
        out: a name ending in .nii or .nii.gz.
        slices: record id (``images/<volume>/axial-0012.png``) -> (H, W) boolean, uint8 or float32, such as a map or a
            mask, all of one type; the slices that are not named are 0. None writes the volume itself.

    Returns:
        ``out``.

    Raises:
        InputError: no such volume or slice, an array of another size, or a name that is no NIfTI file's.
    """
    folder, out = Path(folder), Path(out)
    placed = _find(folder, volume)
    array = restore(folder, placed.id).voxels if slices is None else _laid(placed, slices)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(out, *_as_stored(array, placed))
    return out


def _as_stored(array: NDArray[Any], placed: Placement) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return an (I, J, K) array and its affine in the axis order of the source."""
    axes = [next(axis for axis, codes in enumerate(("RL", "AP", "SI")) if code in codes) for code in placed.axes]
    flipped = [code in "LPI" for code in placed.axes]
    stored = np.flip(array.transpose(axes), tuple(axis for axis, flip in enumerate(flipped) if flip))
    back = np.zeros((4, 4))  # index as stored to index in the RAS+ frame
    back[3, 3] = 1
    for axis, (ours, flip) in enumerate(zip(axes, flipped, strict=True)):
        back[ours, axis] = -1 if flip else 1
        back[ours, 3] = array.shape[ours] - 1 if flip else 0
    return np.ascontiguousarray(stored), placed.grid.affine @ back


def _laid(placed: Placement, slices: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return arrays by record id as one (I, J, K) array of their type, 0 where there is none."""
    size = placed.grid.size(placed.plane)
    place = {placed.file(index): index for index in range(placed.grid.count(placed.plane))}
    kind = np.result_type(*slices.values()) if slices else np.dtype(np.float32)
    cut = np.zeros((len(place), *size), dtype=kind)
    for name, array in slices.items():
        if name not in place:
            raise InputError(f"{placed.id} has no slice {name!r}: slices are called {placed.file(0)} and so on")
        if array.shape != size:
            raise InputError(f"the array for {name} is {array.shape}, but the slice {size}: lay it on the slice first")
        cut[place[name]] = array
    return _volume(placed, np.zeros_like(cut, dtype=np.float32)).stack(placed.plane, cut)


def _volume(placed: Placement, cut: NDArray[np.float32]) -> Volume:
    empty = Volume(np.zeros(placed.shape, dtype=np.float32), placed.grid.affine)
    return Volume(empty.stack(placed.plane, cut), placed.grid.affine, {"axes": placed.axes})


def _find(folder: Path, volume: str | None) -> Placement:
    known = load_geometry(folder)
    if volume is None and len(known) == 1:
        return next(iter(known.values()))
    if volume not in known:
        some = ", ".join(list(known)[:3]) or "none at all"
        raise InputError(f"{folder} has no volume {volume!r}: it has {len(known)} ({some})")
    return known[volume]
