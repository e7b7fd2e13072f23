"""The head around the template: skull base, face, neck, sinuses and veins, painted with soft primitives.

Everything is in MNI152 millimetres (x to the patient's right is positive in the array order used here: RAS, so +x is
right, +y anterior, +z superior). Positions are approximate textbook anatomy; nothing is taken from a person's scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.phantom.fields import Floats, band, soft_step

Point = tuple[float, float, float]

SDF_IN, SDF_OUT, SOFT, FAT, DARK, VESSEL = range(6)
"""Channels of the head grid: distance outside the brain's hull and outside the skin (mm, negative inside), brightness
of the soft tissue, and the fractions of fat, of bone or air, and of contrast-filled vessel."""


@dataclass(frozen=True)
class Grid:
    """A regular grid in MNI millimetres: the first voxel's centre, the spacing and the shape."""

    origin: Point
    spacing: float
    shape: tuple[int, int, int]

    def axes(self) -> tuple[Floats, Floats, Floats]:
        """Return the three coordinate axes in mm, shaped to broadcast against each other."""
        ends = zip(self.origin, self.shape, strict=True)
        x, y, z = (np.asarray(o + self.spacing * np.arange(n), np.float32) for o, n in ends)
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def voxels(self, points: Floats) -> Floats:
        """Return the voxel coordinates of (N, 3) points given in mm."""
        return np.asarray((points - np.asarray(self.origin, np.float32)) / np.float32(self.spacing), np.float32)


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints soft ellipsoids and capsules into the channels of a head volume, in place."""

    grid: Grid
    volume: Floats

    def _box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice, slice]:
        ends = []
        for axis in range(3):
            a = int(np.floor((low[axis] - self.grid.origin[axis]) / self.grid.spacing))
            b = int(np.ceil((high[axis] - self.grid.origin[axis]) / self.grid.spacing)) + 1
            n = self.grid.shape[axis]
            ends.append(slice(min(max(a, 0), n), min(max(b, 0), n)))
        return ends[0], ends[1], ends[2]

    def _axes(self, box: tuple[slice, slice, slice]) -> tuple[Floats, Floats, Floats]:
        x, y, z = self.grid.axes()
        return x[box[0]], y[:, box[1]], z[:, :, box[2]]

    def _put(self, box: tuple[slice, slice, slice], inside: Floats, paint: dict[int, float]) -> None:
        for channel, value in paint.items():
            part = self.volume[(*box, channel)]
            part += (np.float32(value) - part) * inside

    def ellipsoid(
        self, centre: Point, radii: Point, paint: dict[int, float], *, soft: float = 2.0, power: int = 2
    ) -> None:
        """Blend the values of ``paint`` into an ellipsoid with edges ``soft`` mm wide; a higher power is boxier."""
        c, r = np.asarray(centre), np.asarray(radii)
        box = self._box(c - r - soft, c + r + soft)
        x, y, z = self._axes(box)
        k = (
            np.abs((x - c[0]) / r[0]) ** power + np.abs((y - c[1]) / r[1]) ** power + np.abs((z - c[2]) / r[2]) ** power
        ) ** (1 / power)
        self._put(box, soft_step((1 - k) * float(r.min()), 0.0, soft), paint)

    def capsule(self, start: Point, end: Point, radius: float, paint: dict[int, float], *, soft: float = 1.5) -> None:
        """Blend the values of ``paint`` into a tube with round ends."""
        a, b = np.asarray(start), np.asarray(end)
        box = self._box(np.minimum(a, b) - radius - soft, np.maximum(a, b) + radius + soft)
        x, y, z = self._axes(box)
        d = b - a
        t = np.clip(((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / float(d @ d), 0, 1)
        gap = np.sqrt((x - a[0] - t * d[0]) ** 2 + (y - a[1] - t * d[1]) ** 2 + (z - a[2] - t * d[2]) ** 2)
        self._put(box, soft_step(np.asarray(radius - gap, np.float32), 0.0, soft), paint)

    def both(self, centre: Point, radii: Point, paint: dict[int, float], *, soft: float = 2.0) -> None:
        """Paint an ellipsoid on both sides of the midline."""
        for side in (-1, 1):
            self.ellipsoid((side * centre[0], centre[1], centre[2]), radii, paint, soft=soft)

    def both_tubes(self, start: Point, end: Point, radius: float, paint: dict[int, float]) -> None:
        """Paint a capsule on both sides of the midline."""
        for s in (-1, 1):
            self.capsule((s * start[0], start[1], start[2]), (s * end[0], end[1], end[2]), radius, paint)


MUSCLE = {SOFT: 0.34, FAT: 0.0, DARK: 0.0}
FATTY = {SOFT: 0.5, FAT: 0.9, DARK: 0.0}
VOID = {SOFT: 0.1, FAT: 0.0, DARK: 1.0}
MARROW = {SOFT: 0.5, FAT: 0.55, DARK: 0.0}
MUCOSA = {SOFT: 0.62, FAT: 0.0, DARK: 0.0}
FLUID = {SOFT: 0.13, FAT: 0.0, DARK: 0.0}
BLOOD = {VESSEL: 1.0, DARK: 0.0}


def head_shape(grid: Grid, hull: Floats) -> Floats:
    """Return a function that is negative inside the head: the hull and scalp, joined smoothly to face and neck."""
    x, y, z = grid.axes()

    def ellipsoid(c: Point, r: Point) -> Floats:
        k = np.sqrt(((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((z - c[2]) / r[2]) ** 2)
        return np.asarray((k - 1) * min(r), np.float32)

    def join(a: Floats, b: Floats, k: float) -> Floats:
        h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
        return np.asarray(b + (a - b) * h - k * h * (1 - h), np.float32)

    out = join(hull - 13.5, ellipsoid((0, 37, -72), (66, 56, 62)), 14)
    out = join(out, ellipsoid((0, 0, -74), (70, 50, 52)), 14)  # jaw
    lean = y + 28 + 0.12 * (z + 80)
    neck = np.asarray((np.sqrt((x / 60) ** 2 + (lean / 62) ** 2) - 1) * 55 + np.maximum(z + 55, 0) * 0.9, np.float32)
    out = join(out, neck, 16)
    out = join(out, ellipsoid((0, 76, -118), (28, 24, 20)), 14)  # chin
    nose = ellipsoid((0, 92, -60), (12, 20, 19)) + np.maximum(z + 48, 0) * 0.25
    out = join(out, np.asarray(nose, np.float32), 9)
    out = join(out, ellipsoid((0, 88, -88), (22, 12, 9)), 8)  # lips
    for side in (-1, 1):
        out = np.minimum(out, ellipsoid((side * 83, -22, -42), (5, 15, 26)))  # ears
    return out


def paint_face(p: Painter) -> None:
    """Paint the facial skeleton, the air spaces and the orbits."""
    p.both((30, 40, -112), (12, 30, 14), FATTY, soft=8)  # cheek and parapharyngeal fat
    p.both((48, 10, -72), (11, 17, 30), MUSCLE, soft=5)  # masseter, pterygoids
    p.both((57, 22, -18), (8, 27, 26), MUSCLE, soft=4)  # temporalis
    p.both((44, 46, -42), (9, 14, 14), FATTY, soft=6)
    p.both((43, 12, -92), (4, 9, 30), VOID, soft=3)  # mandible
    p.both((43, 12, -92), (1.8, 6, 26), MARROW, soft=2)
    p.ellipsoid((0, 52, -128), (40, 36, 9), VOID, soft=4)
    p.ellipsoid((0, 54, -128), (36, 32, 5), MARROW, soft=3)
    p.ellipsoid((0, 42, -128), (30, 30, 12), MUSCLE, soft=3)
    p.ellipsoid((0, 36, -103), (23, 32, 17), {SOFT: 0.42, FAT: 0.12, DARK: 0}, soft=4)  # tongue
    p.ellipsoid((0, 72, -92), (24, 10, 10), VOID, soft=4)  # teeth
    p.ellipsoid((0, 42, -84), (24, 34, 3.4), VOID, soft=3)  # palate
    p.ellipsoid((0, 44, -81), (20, 26, 2.0), MARROW, soft=2)
    p.both((31, 48, -64), (14, 16, 17), VOID, soft=2.5)  # maxillary sinus
    p.ellipsoid((0, 50, -58), (15, 34, 22), MUCOSA, soft=4)  # nasal cavity with turbinates
    for side in (-1, 1):
        for x, z, ry in ((3.5, -66, 30), (4.0, -56, 28), (9.5, -70, 28), (10.5, -60, 26), (7.5, -46, 22)):
            p.ellipsoid((side * x, 48, z), (1.7, ry, 5.0), VOID, soft=1.6)
        for y in (30, 41, 52, 62):
            p.ellipsoid((side * 7.5, y, -40), (4.2, 4.6, 7.5), VOID, soft=1.6)  # ethmoid cells
        p.ellipsoid((side * 9, 79, -24), (8, 3.2, 8), VOID, soft=2)  # frontal sinus
        p.ellipsoid((side * 31, 44, -37), (15.5, 24, 14), {SOFT: 0.5, FAT: 0.72, DARK: 0}, soft=3)  # orbit
        p.ellipsoid((side * 33, 47, -24), (3, 16, 2), MUSCLE)
        p.ellipsoid((side * 33, 47, -48), (3, 16, 2), MUSCLE)
        p.capsule((side * 21, 60, -36), (side * 17, 30, -34), 2.2, MUSCLE)
        p.capsule((side * 45, 60, -36), (side * 30, 26, -34), 2.2, MUSCLE)
        p.capsule((side * 32, 54, -36), (side * 14, 16, -27), 2.3, MUSCLE)  # optic nerve
        p.ellipsoid((side * 33, 60, -37), (12.3, 12.3, 12.3), {SOFT: 0.5, FAT: 0, DARK: 0}, soft=1.5)
        p.ellipsoid((side * 33, 60, -37), (10.8, 10.8, 10.8), {SOFT: 0.13, FAT: 0, DARK: 0}, soft=1.2)
        p.ellipsoid((side * 33, 69, -37), (4.4, 2.2, 4.4), {SOFT: 0.36, FAT: 0, DARK: 0}, soft=1.2)


def paint_base(p: Painter) -> None:
    """Paint the skull base, the sella, the ears' bone, the spine and the throat."""
    p.ellipsoid((0, 12, -46), (30, 22, 9), {SOFT: 0.2, FAT: 0.1, DARK: 0.75}, soft=4)  # sphenoid bone
    p.ellipsoid((0, 20, -46), (15, 13, 9), VOID, soft=2)  # sphenoid sinus
    p.ellipsoid((0, 20, -46), (0.9, 13, 9), MUCOSA, soft=1.2)
    p.capsule((0, -13, -46), (0, -26, -72), 6.5, VOID, soft=2)  # clivus
    p.capsule((0, -13, -47), (0, -26, -71), 4.8, MARROW, soft=2.5)
    for side in (-1, 1):
        p.capsule((side * 16, -22, -44), (side * 54, -34, -40), 9, VOID, soft=4)  # petrous bone
        p.capsule((side * 18, -20, -45), (side * 30, -24, -45), 3.0, MARROW, soft=3)
        p.capsule((side * 16, -30, -36), (side * 26, -31, -36), 2.2, FLUID)  # internal auditory canal
        p.ellipsoid((side * 56, -42, -50), (10, 13, 17), VOID, soft=4)  # mastoid
        p.capsule((side * 60, -22, -46), (side * 84, -22, -46), 3.0, VOID, soft=2)
        p.ellipsoid((side * 46, 2, -50), (9, 7, 6), VOID, soft=3)
        p.capsule((side * 28, -20, -56), (side * 36, -22, -140), 3.6, {SOFT: 0.5, FAT: 0, DARK: 0, VESSEL: 0.5})
        p.capsule((side * 24, -8, -60), (side * 30, -6, -140), 2.6, {SOFT: 0.06, FAT: 0, DARK: 0.9})
    p.ellipsoid((0, -1, -27), (17, 13, 10), FLUID, soft=5)  # suprasellar cistern
    p.ellipsoid((0, 3, -34), (9, 8, 6), {SOFT: 0.45, FAT: 0, DARK: 0.0}, soft=3)
    p.ellipsoid((0, 2, -34.8), (5.6, 4.6, 3.2), {SOFT: 0.66, FAT: 0, DARK: 0}, soft=2)  # pituitary gland
    p.capsule((0, 1, -32), (0, -2, -20), 1.2, {SOFT: 0.62, FAT: 0, DARK: 0})
    p.both((13, 0, -34), (4.5, 9, 6.5), {SOFT: 0.62, FAT: 0, DARK: 0, VESSEL: 0.35}, soft=3)  # cavernous sinus
    p.both_tubes((12, -8, -37), (12, 7, -33), 2.4, {SOFT: 0.05, FAT: 0, DARK: 1, VESSEL: 0})  # carotid flow void
    for i in range(5):  # vertebrae
        body = (0.0, -25 - 1.5 * i, -84 - 17 * i)
        p.ellipsoid(body, (13, 8.4, 8.2), VOID, soft=2.5, power=4)
        p.ellipsoid(body, (11.5, 7.0, 6.8), {SOFT: 0.46, FAT: 0.2, DARK: 0.0}, soft=2.5, power=4)
        p.both((27, -40 - 1.5 * i, -84 - 17 * i), (9, 8, 5), {SOFT: 0.3, FAT: 0.2, DARK: 0.4}, soft=4)
        p.ellipsoid((0, -72 - 1.5 * i, -84 - 17 * i), (4, 11, 4), {SOFT: 0.4, FAT: 0.4, DARK: 0.2}, soft=3)
    p.ellipsoid((0, 4, -92), (13, 6, 26), VOID, soft=3)  # throat
    p.capsule((0, 2, -105), (0, -2, -150), 7, VOID, soft=3)
    p.ellipsoid((0, -60, -110), (42, 4, 46), FATTY, soft=6)  # fat between the neck's muscles
    p.both((40, -52, -112), (5, 26, 40), FATTY, soft=7)
    p.capsule((0, -44, -66), (0, -50, -150), 9.5, FLUID)  # spinal canal and cord
    p.capsule((0, -42, -60), (0, -49, -150), 5.2, {SOFT: 0.47, FAT: 0, DARK: 0})


def paint_veins(p: Painter, hull: Floats) -> None:
    """Paint the dural sinuses (the right transverse one is larger), the base's arteries and the choroid plexus."""
    x, y, z = p.grid.axes()
    vessel = p.volume[..., VESSEL]
    width = 3.4 + 2.4 * soft_step(-y, 10.0, 120.0)
    sagittal = soft_step(np.asarray(1.15 - np.abs(x) / width - np.abs(hull - 1.2) / 3.4, np.float32), 0.25, 0.4)
    sagittal = sagittal * soft_step(np.asarray(z - 0.12 * y, np.float32), 2.0, 8.0)
    np.maximum(vessel, sagittal, out=vessel)
    for side, size in ((1, 4.6), (-1, 3.0)):
        bow = z + 17 + 0.004 * (x * side) * 12
        tube = 1.2 - np.abs(bow) / size - np.abs(hull - 1.5) / (0.85 * size)
        tube = soft_step(np.asarray(tube, np.float32), 0.3, 0.4)
        tube = tube * soft_step(np.asarray(x * side, np.float32), 1.0, 4.0) * soft_step(-y, 44.0, 8.0)
        np.maximum(vessel, tube, out=vessel)
        p.capsule((side * 60, -46, -20), (side * 50, -50, -44), 0.9 * size, BLOOD)  # sigmoid sinus
        p.capsule((side * 50, -50, -44), (side * 30, -30, -58), 0.8 * size, BLOOD)
    p.capsule((0, -42, 4), (0, -92, -12), 1.7, BLOOD)
    p.capsule((0, -24, 9), (0, -42, 4), 1.6, BLOOD)
    p.both_tubes((2.2, 0, 14), (2.0, -26, 10), 1.0, BLOOD)
    p.capsule((0, -9, -46), (0, -10, -22), 1.9, BLOOD)
    for side in (-1, 1):
        p.capsule((side * 12, 6, -28), (side * 18, 2, -18), 2.0, BLOOD)
        p.capsule((side * 18, 2, -18), (side * 40, 3, -15), 1.6, BLOOD)
        p.capsule((side * 40, 3, -15), (side * 46, -12, 6), 1.3, BLOOD)
        p.capsule((side * 14, 5, -19), (side * 2, 26, -14), 1.2, BLOOD)
        p.capsule((side * 2, 26, -14), (side * 1, 42, 8), 1.1, BLOOD)
        p.capsule((side * 2, -14, -20), (side * 24, -26, -10), 1.2, BLOOD)
        p.capsule((side * 21, -38, 2), (side * 24, -44, 14), 2.6, {VESSEL: 0.75})  # choroid plexus
        p.capsule((side * 12, -22, 19), (side * 20, -38, 14), 1.4, {VESSEL: 0.55})


def build_head(grid: Grid, hull: Floats, skin: Floats) -> Floats:
    """Return the (X, Y, Z, 6) float32 head on ``grid``, given the distances outside the brain's hull and the skin."""
    volume = np.zeros((*grid.shape, 6), np.float32)
    volume[..., SDF_IN], volume[..., SDF_OUT] = hull, skin
    volume[..., SOFT] = 0.36
    painter = Painter(grid, volume)
    paint_face(painter)
    paint_base(painter)
    paint_veins(painter, hull)
    # Under the skin lies fat, thicker low on the head and thin where bone is near; on the bare skull it is the scalp.
    fat = band(skin, -7.2, -1.6, 2.0)
    np.maximum(volume[..., FAT], fat * (1 - volume[..., DARK]), out=volume[..., FAT])
    return volume
