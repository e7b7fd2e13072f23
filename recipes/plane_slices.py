"""Slices of known plane, cut from heads that gyrus makes itself and from any volumes at hand: no label is by hand.

Three kinds of heads, each cut at every level of the three planes, a little obliquely as real slices are:

- the phantom's patients, whole heads with face, neck and tumours, in contrasts far apart (T1, T2, FLAIR, CT, any);
- the MNI152 template bundled with nilearn, bent like the phantom's patients: a brain without a skull;
- NIfTI volumes and folders of DICOM slices, where a folder of them is given.

:func:`photographed` then does to a slice what happens on its way into a public dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from gyrus.io import Image
from gyrus.phantom.anatomy import Atlas
from gyrus.phantom.fields import trilinear
from gyrus.phantom.patient import Patient, Scan, draw_patient
from gyrus.phantom.render import AXES, Cut, render_slice
from gyrus.phantom.tumours import CLASSES, NO_TUMOR, draw_tumour
from gyrus.records import PLANES

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDE = 144
"""Pixels along each edge of a cut slice, 240 mm across."""

_LEVELS = {
    "axial": (-52.0, 80.0),
    "coronal": (-98.0, 72.0),
    "sagittal": (-66.0, 66.0),
}  # mm; the brain and a little more
_COUNTS = {"axial": 4, "coronal": 6, "sagittal": 4}  # slices of a head; a coronal cut changes most from level to level
_FILLED = 0.06  # a slice in which less than this share is head shows too little to have a plane
_TILT = (7.0, 16.0)  # degrees: standard deviation and limit of the obliquity about each axis
_MASK_VALUES = 32  # a volume with fewer distinct values is a mask, not a scan
_LEAST_EXTENT = 100.0  # mm; across a thinner slab no plane can be cut but along it
_HEAD_HEIGHT = 150.0  # mm, for volumes whose header says nothing


@dataclass(frozen=True, eq=False)
class Drawn:
    """One cut slice: (SIDE, SIDE) 8-bit pixels, the index of its plane in PLANES, and whose it is."""

    pixels: Pixels
    plane: int
    head: str


# Phantom -------------------------------------------------------------------------------------------------------------


def phantom_slices(atlas: Atlas, number: int, seed: int) -> Iterator[Drawn]:
    """Yield slices of one phantom patient, every plane at levels spread over the head."""
    rng = np.random.default_rng([seed, 1, number])
    patient = loosened(draw_patient(rng), rng)
    kind = CLASSES[number % len(CLASSES)]
    tumour = None if kind == NO_TUMOR else draw_tumour(atlas, patient, kind, rng)
    for plane in PLANES:
        for level in levels(plane, rng):
            pixels, _ = render_slice(atlas, patient, Cut(plane, level, SIDE), tumour, rng)
            if filled(pixels):
                yield Drawn(pixels, PLANES.index(plane), f"phantom-{number}")


def loosened(patient: Patient, rng: np.random.Generator) -> Patient:
    """Return the patient tilted in the scanner, of another build, and scanned with another contrast."""
    built = loosely_built(patient, rng)
    return replace(built, scan=_contrast(patient.scan, rng))


def loosely_built(patient: Patient, rng: np.random.Generator) -> Patient:
    """Return the patient tilted in the scanner and of another build."""
    build = np.exp(rng.normal(0, 0.05, 3))
    warp = replace(
        patient.warp,
        matrix=patient.warp.matrix @ tilt(rng) / build[None, :],
        knots=tuple(k * rng.uniform(0.7, 1.5) for k in patient.warp.knots),
    )
    return replace(patient, warp=warp)


def _contrast(scan: Scan, rng: np.random.Generator) -> Scan:
    """Return the scan as the phantom draws it (T1), or T2-like, FLAIR-like, CT-like, or like nothing in particular."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    kind = rng.choice(["t1", "t2", "flair", "ct", "any"], p=[0.5, 0.15, 0.1, 0.05, 0.2])
    noise = replace(scan, noise=scan.noise * between(0.5, 2.0), skull=between(4.0, 9.0))
    if kind == "t1":
        bright = between(0.45, 1.0)  # fat-suppressed scans have a darker scalp
        return replace(noise, grey=scan.white * between(0.7, 1.0), fat=scan.fat * bright, marrow=scan.marrow * bright)
    if kind == "t2":
        white = between(0.25, 0.4)
        return replace(noise, white=white, grey=white * between(1.2, 1.7), fluid=between(0.75, 1.1),
                       fat=between(0.2, 0.9), marrow=between(0.1, 0.5), vessel=between(0.02, 0.3),
                       dura=between(0.0, 0.2))  # fmt: skip
    if kind == "flair":
        white = between(0.35, 0.5)
        return replace(noise, white=white, grey=white * between(1.05, 1.4), fluid=between(0.05, 0.15),
                       fat=between(0.3, 0.9), vessel=between(0.05, 0.5), dura=between(0.0, 0.3))  # fmt: skip
    if kind == "ct":
        return replace(noise, white=0.42, grey=between(0.44, 0.5), fluid=between(0.2, 0.3), fat=between(0.1, 0.3),
                       marrow=between(1.6, 3.0), soft=1.0, vessel=between(0.4, 0.8), dura=0.1)  # fmt: skip
    return replace(noise, white=between(0.2, 1.0), grey=between(0.2, 1.0), fluid=between(0.05, 1.0),
                   fat=between(0.1, 1.0), marrow=between(0.1, 1.0), soft=between(0.5, 1.6),
                   vessel=between(0.0, 1.0))  # fmt: skip


def tilt(rng: np.random.Generator) -> Floats:
    """Return a (3, 3) rotation by small angles about the three axes."""
    sigma, most = _TILT
    return np.asarray(
        Rotation.from_euler("xyz", np.clip(rng.normal(0, sigma, 3), -most, most), degrees=True).as_matrix()
    )


def levels(plane: str, rng: np.random.Generator) -> Floats:
    """Return levels in mm, one in each of equally many parts of the head."""
    count, (low, high) = _COUNTS[plane], _LEVELS[plane]
    return np.asarray(low + (np.arange(count) + rng.uniform(0, 1, count)) / count * (high - low))


def filled(pixels: Pixels) -> bool:
    """Return whether enough of the slice is head."""
    return float((pixels > 0.15 * np.percentile(pixels, 99.5)).mean()) >= _FILLED


# Template ------------------------------------------------------------------------------------------------------------


def template() -> tuple[NDArray[np.float32], Floats]:
    """Return the T1-weighted MNI152 template, (X, Y, Z) in [0, 1] without skull, and its affine.

    ICBM 152 nonlinear symmetric 2009a (Fonov et al., NeuroImage 54, 2011), as nilearn bundles it.
    """
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    return np.asarray(image.dataobj, np.float32), np.asarray(image.affine)


def template_slices(brain: NDArray[np.float32], affine: Floats, number: int, seed: int) -> Iterator[Drawn]:
    """Yield slices of the template, bent and scanned as one of the phantom's patients."""
    rng = np.random.default_rng([seed, 2, number])
    patient = loosened(draw_patient(rng), rng)
    curve = contrast_curve(rng)
    to_voxels = np.linalg.inv(affine)
    for plane in PLANES:
        for level in levels(plane, rng):
            points = _warped(patient, Cut(plane, level, SIDE))
            values = _sampled(brain, points @ to_voxels[:3, :3].T + to_voxels[:3, 3])
            pixels = _as_pixels(_curved(values, curve) + rng.normal(0, patient.scan.noise, values.shape))
            if filled(pixels):
                yield Drawn(pixels, PLANES.index(plane), f"template-{number}")


def _warped(patient: Patient, cut: Cut) -> Floats:
    """Return the (SIDE * SIDE, 3) atlas positions of a cut, from every third pixel: the warp is smooth."""
    steps = SIDE // 3
    coarse = patient.warp(cut.points(patient, steps)).reshape(steps, steps, 3)
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).reshape(-1, 3))


def contrast_curve(rng: np.random.Generator) -> Floats:
    """Return brightness at 0, 0.2, ... 1 of the original's: half of the time in the same order, else in any."""
    knots = rng.uniform(0.05, 1.0, 5)
    return np.concatenate([[0.0], np.sort(knots) if rng.random() < 0.5 else knots])


def _curved(values: NDArray[np.float32], curve: Floats) -> Floats:
    return np.asarray(np.interp(values, np.linspace(0, 1, len(curve)), curve))


def _sampled(volume: NDArray[np.float32], voxels: Floats) -> NDArray[np.float32]:
    """Return a volume's values at (SIDE * SIDE, 3) voxel coordinates as a (SIDE, SIDE) image, 0 beyond its edges."""
    inside = ((voxels >= 0) & (voxels <= np.asarray(volume.shape) - 1)).all(axis=1)
    values = trilinear(volume[..., None], np.asarray(voxels, np.float32))[:, 0] * inside
    return np.asarray(values.reshape(SIDE, SIDE), np.float32)


def _as_pixels(values: NDArray[np.floating]) -> Pixels:
    """Return values in [0, 1] as 8-bit pixels."""
    return np.asarray(np.clip(np.rint(255 * np.asarray(values)), 0, 255), np.uint8)


# Volumes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan: (X, Y, Z) values scaled to [0, 1], the affine from voxels to RAS millimetres, and whose it is."""

    values: NDArray[np.float32]
    affine: Floats
    patient: str


def read_volumes(folder: Path) -> list[Volume]:
    """Read every NIfTI file and every folder of DICOM slices; masks are left out. Sorted by patient.

    A patient is the folder a file lies in.
    """
    found = [_read_nifti(path) for path in sorted(folder.rglob("*.nii*"))]
    found += [_read_series(d) for d in sorted({path.parent for path in folder.rglob("*.dcm")})]
    return sorted((v for v in found if v is not None), key=lambda v: v.patient)


def _read_nifti(path: Path) -> Volume | None:
    import nibabel as nib

    image = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(image.dataobj, np.float32)
    if values.ndim != 3 or len(np.unique(values)) < _MASK_VALUES:
        return None
    affine = np.array(image.affine)
    if np.allclose(image.header.get_zooms(), 1) and values.shape[2] < _LEAST_EXTENT:  # a placeholder for "unknown"
        affine[:3, 2] *= _HEAD_HEIGHT / values.shape[2]
    return Volume(_scaled(values), affine, path.parent.name)


def _read_series(folder: Path) -> Volume:
    """Read the slices of one series; position and orientation as DICOM PS3.3 C.7.6.2.1.1 has them, LPS to RAS."""
    import pydicom

    files = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    row, column = np.split(np.asarray(files[0].ImageOrientationPatient, float), 2)
    normal = np.cross(row, column)
    files.sort(key=lambda f: float(normal @ np.asarray(f.ImagePositionPatient, float)))
    first, last = (np.asarray(f.ImagePositionPatient, float) for f in (files[0], files[-1]))
    down, across = (float(v) for v in files[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * across, column * down, (last - first) / (len(files) - 1), first])
    affine = np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine
    values = np.stack([f.pixel_array.T for f in files], axis=-1).astype(np.float32)
    return Volume(_scaled(values), affine, folder.name)


def _scaled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.clip(values / max(float(np.percentile(values[values > 0], 99.5)), 1e-6), 0, 1), np.float32)


def volume_slices(volume: Volume, count: int, seed: int) -> Iterator[Drawn]:
    """Yield slices of a volume, tilted a little each; planes that the volume is too thin for are left out."""
    rng = np.random.default_rng([seed, 3, *volume.patient.encode()])
    head = np.argwhere(ndimage.binary_opening(volume.values > 0.1, iterations=2))
    world = head[:: max(1, len(head) // 20000)] @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    low, high = np.percentile(world, (0.5, 99.5), axis=0)
    to_voxels = np.linalg.inv(volume.affine)
    for plane in PLANES:
        rows, columns, axis = AXES[plane]
        if min((high - low)[[rows, columns]]) < _LEAST_EXTENT:
            continue
        for level in rng.uniform(low[axis], high[axis], count):
            offsets = _plane_points(plane)
            offsets[:, axis] = level - (low + high)[axis] / 2
            points = offsets @ tilt(rng).T + (low + high) / 2
            values = _sampled(volume.values, points @ to_voxels[:3, :3].T + to_voxels[:3, 3])
            curve = contrast_curve(rng) if rng.random() < 0.3 else np.linspace(0, 1, 6)
            pixels = _as_pixels(_curved(values, curve))
            if filled(pixels):
                yield Drawn(pixels, PLANES.index(plane), volume.patient)


def _plane_points(plane: str) -> Floats:
    """Return (SIDE * SIDE, 3) offsets in mm from the centre of a plane, in radiological convention."""
    rows, columns, _ = AXES[plane]
    steps = (np.arange(SIDE) - (SIDE - 1) / 2) * (240.0 / SIDE)
    grid = np.zeros((SIDE, SIDE, 3))
    grid[..., rows] = -steps[:, None]
    grid[..., columns] = -steps[None, :]
    return grid.reshape(-1, 3)


# What is no slice ----------------------------------------------------------------------------------------------------


def nothing(slices: NDArray[np.uint8], rng: np.random.Generator) -> Image:
    """Return a picture of no plane: flat, noise, blobs, or one of the (N, SIDE, SIDE) slices shuffled."""
    return Image(_nothing(slices[rng.integers(len(slices))], rng).astype(np.float32))


def _nothing(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    kind = rng.integers(5)
    if kind == 0:
        return np.full((SIDE, SIDE), rng.integers(256), np.uint8)
    if kind == 1:
        field = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), rng.choice([0.0, 1.0, 3.0, 8.0, 20.0]))
        return _as_pixels((field - field.min()) / np.ptp(field))
    if kind == 2:
        return _ellipses(rng)
    if kind == 3:
        return _mosaic(pixels, int(rng.integers(4, 8)), rng)
    spectrum = np.abs(np.fft.rfft2(pixels)) * np.exp(2j * np.pi * rng.random((SIDE, SIDE // 2 + 1)))
    field = np.fft.irfft2(spectrum, s=pixels.shape)
    return _as_pixels((field - field.min()) / np.ptp(field))


def _ellipses(rng: np.random.Generator) -> Pixels:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(1, 5)):
        centre, axes = rng.integers(SIDE // 4, 3 * SIDE // 4, 2), rng.integers(4, SIDE // 2, 2)
        cv2.ellipse(
            canvas, centre.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, int(rng.integers(256)), -1
        )
    return canvas


def _mosaic(pixels: Pixels, parts: int, rng: np.random.Generator) -> Pixels:
    """Cut a slice into parts x parts tiles and lay them out in another order."""
    edge = SIDE // parts
    tiles = [pixels[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge] for i in range(parts) for j in range(parts)]
    order = rng.permutation(len(tiles))
    return np.vstack([np.hstack([tiles[k] for k in order[i * parts : (i + 1) * parts]]) for i in range(parts)])


# From the scanner into a dataset -------------------------------------------------------------------------------------


def photographed(drawn: Drawn, rng: np.random.Generator, *, clutter: bool = True) -> Image:
    """Return the slice as a dataset might hold it.

    First what the phantom's face lacks: cheeks, another build, and, with ``clutter``, things that are dark or bright.
    Then cut by the field of view, turned within 25 degrees, squeezed, upside down or turned by a quarter now and then;
    with a receive field, foreign texture, another gamma, blur, noise, thick slices, letters, a frame.
    """
    plane = PLANES[drawn.plane]
    image = drawn.pixels.astype(np.float32) / 255
    if rng.random() < (0.6 if plane == "coronal" else 0.3):
        image = _fleshed(image, rng)
    if rng.random() < 0.5:
        image = _reshaped(image, rng)
    if clutter and rng.random() < 0.35:
        _clutter(image, plane != "sagittal", rng)
    image = _trimmed(image, plane, rng)
    if rng.random() < 0.15:
        image = _thick(image, rng)
    image = _framed(image, rng)
    image = image * np.exp(rng.uniform(0, 0.35) * _field(image.shape, 3, rng))  # the receive field
    if rng.random() < 0.4:  # structure that the phantom lacks, in some parts more than in others
        amount = rng.uniform(0, 0.35) * np.clip(_field(image.shape, 4, rng), 0, 1.5)
        image = image * np.exp(amount * _field(image.shape, int(rng.integers(12, 50)), rng))
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0.15, 0.35))  # contrast medium makes the brain look dark
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.4:
        image = np.abs(image + rng.normal(0, rng.uniform(0.005, 0.05), image.shape))
    if rng.random() < 0.06:
        image = np.rot90(image, rng.integers(1, 4)) if rng.random() < 0.7 else image[::-1]
    stored = np.ascontiguousarray(_as_pixels(image))
    if rng.random() < 0.2:
        _annotate(stored, rng)
    return Image(stored.astype(np.float32))


def _trimmed(image: NDArray[np.float32], plane: str, rng: np.random.Generator) -> NDArray[np.float32]:
    """Cut off some of the head at the edges; of coronal and sagittal slices, half of the time, some of the neck."""
    head = np.argwhere(image > 0.1)
    if not len(head):
        return image
    (top, left), (bottom, right) = head.min(axis=0), head.max(axis=0) + 1
    shares = rng.uniform(0, 0.22, 4) * (rng.random(4) < 0.1)
    if plane != "axial" and rng.random() < 0.5:
        shares[1] = rng.uniform(0.0, 0.4)
    cuts = np.round(shares * np.repeat([bottom - top, right - left], 2)).astype(int)
    low, high, near, far = np.where(cuts, np.array([top, SIDE - bottom, left, SIDE - right]) + cuts, 0)
    trimmed = np.zeros_like(image)
    trimmed[low : SIDE - high, near : SIDE - far] = image[low : SIDE - high, near : SIDE - far]
    return trimmed


def _fleshed(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Fill the hollows of the head's outline, as cheeks and a thick neck do, and let the skin run around them."""
    seen = (image > 0.1).astype(np.uint8)
    contours, _ = cv2.findContours(seen, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate([c for c in contours if len(c) > 20] or [np.zeros((1, 1, 2), np.int32)]))
    inside = np.zeros_like(seen)
    cv2.fillPoly(inside, [hull], 1)
    flesh = rng.uniform(0.1, 0.6) * np.exp(0.4 * _field(image.shape, int(rng.integers(6, 30)), rng))
    filled_in = np.where((inside > 0) & (cv2.blur(image, (3, 3)) < 0.1), flesh, image).astype(np.float32)
    keep = cv2.blur(seen.astype(np.float32), (15, 15)) > 0.97  # the hollows inside the head stay dark
    filled_in = np.where(keep, image, filled_in)
    if rng.random() < 0.7:
        cv2.polylines(filled_in, [hull], True, float(rng.uniform(0.5, 1.0)), int(rng.integers(2, 7)), cv2.LINE_AA)
    return np.asarray(filled_in, np.float32)


def _reshaped(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Widen or narrow the head by an amount that changes from top to bottom, and stretch it likewise across."""
    steps = np.arange(SIDE, dtype=np.float32) - SIDE / 2
    wide, high = (np.exp(np.interp(steps, np.linspace(-SIDE / 2, SIDE / 2, 4), rng.normal(0, 0.1, 4))) for _ in "xy")
    across = steps[None, :] / wide[:, None] + SIDE / 2
    down = steps[:, None] / high[None, :] + SIDE / 2
    return np.asarray(
        cv2.remap(image, across.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR), np.float32
    )


def _clutter(image: NDArray[np.float32], paired: bool, rng: np.random.Generator) -> None:
    """Paint dark and bright spots into the head, in place: tumours, sinuses, vessels; on both sides or on one."""
    head = np.argwhere(image > 0.1)
    if not len(head):
        return
    middle = (head[:, 1].min() + head[:, 1].max()) / 2
    for _ in range(rng.integers(1, 7)):
        y, x = head[rng.integers(len(head))]
        axes, angle = rng.uniform(2, rng.choice([6, 14]), 2).astype(int).tolist(), float(rng.uniform(0, 180))
        value, soft = np.float32(rng.uniform(0, 1)), rng.uniform(0.4, 2.0)
        spot = np.zeros_like(image)
        cv2.ellipse(spot, (int(x), int(y)), axes, angle, 0, 360, 1.0, -1)
        if paired and rng.random() < 0.5:
            cv2.ellipse(spot, (round(2 * middle - x), int(y)), axes, -angle, 0, 360, 1.0, -1)
        image += (value - image) * cv2.GaussianBlur(spot, (0, 0), soft)


def _thick(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what is left of an image whose rows or columns are 3 to 7 mm thick slices."""
    coarse = round(SIDE * (240 / SIDE) / rng.uniform(3, 7))
    shape = (SIDE, coarse) if rng.random() < 0.5 else (coarse, SIDE)
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.float32)


def _framed(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a window of the slice as another scanner, or whoever cropped it, would frame it."""
    head = np.argwhere(image > 0.1)
    top, bottom = (head[:, 0].min(), head[:, 0].max()) if len(head) else (0, SIDE)
    left, right = (head[:, 1].min(), head[:, 1].max()) if len(head) else (0, SIDE)
    centre = np.array([(left + right) / 2, (top + bottom) / 2]) + rng.normal(0, 6, 2)
    side = max(bottom - top, right - left, 40) * np.exp(
        rng.normal(0.08, 0.1)
    )  # below 1 the field of view cuts the head
    height, width = (round(s) for s in 128 * np.exp(rng.normal(0, 0.08, 2)))
    angle = float(np.clip(rng.normal(0, 12), -25, 25))
    matrix = cv2.getRotationMatrix2D(centre.tolist(), angle, 1.0)
    stretch = np.array([width, height]) / side
    matrix = np.diag(stretch) @ matrix
    matrix[:, 2] += np.array([width, height]) / 2 - stretch * centre
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)


def _field(shape: tuple[int, int], knots: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise of about unit variance with so many bumps along each edge."""
    coarse = rng.standard_normal((knots, knots), np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _annotate(stored: Pixels, rng: np.random.Generator) -> None:
    """Write letters into a corner, draw an arrow or a frame, in place."""
    height, width = stored.shape
    value = int(rng.integers(150, 256))
    kind = rng.integers(3)
    if kind == 0:
        text = "".join(chr(rng.integers(65, 91)) for _ in range(rng.integers(1, 6)))
        at = (int(rng.uniform(0, 0.8) * width), int(rng.choice([0.1, 0.97]) * height))
        cv2.putText(stored, text, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.25, 0.6)), value, 1, cv2.LINE_AA)
    elif kind == 1:
        ends = rng.uniform(0.2, 0.8, (2, 2)) * (width, height)
        cv2.arrowedLine(stored, *(tuple(int(v) for v in p) for p in ends), value, 1, cv2.LINE_AA)
    else:
        cv2.rectangle(stored, (0, 0), (width - 1, height - 1), value, int(rng.integers(1, 3)))
