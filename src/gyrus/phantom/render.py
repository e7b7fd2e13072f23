"""From a patient and a plane to a slice: coordinates, tissue, tumour, and what the scanner adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.phantom.anatomy import Atlas
from gyrus.phantom.fields import Floats, band, mix, rician, soft_step
from gyrus.phantom.head import DARK, FAT, SDF_IN, SDF_OUT, SOFT, VESSEL
from gyrus.phantom.patient import Patient, Scan
from gyrus.phantom.tumours import Tumour

FIELD_OF_VIEW = 240.0
"""Edge of every slice in mm."""

_COARSE = 5.0  # mm between the points where the warp is worked out; it is smooth on this scale
# (row axis, column axis, slice axis): rows and columns both run against RAS, so that the patient's left is on the
# image's right, anterior on top of an axial slice and on the left of a sagittal one, superior on top of the others.
AXES = {"axial": (1, 0, 2), "coronal": (2, 0, 1), "sagittal": (2, 1, 0)}
_CENTRES = {"axial": (0.0, -12.0, 0.0), "coronal": (0.0, 0.0, -18.0), "sagittal": (0.0, -6.0, -18.0)}


@dataclass(frozen=True, eq=False)
class Cut:
    """One slice through a patient.

    Attributes:
        plane: axial, coronal or sagittal.
        level: position along the plane's own axis in the patient's mm.
        size: pixels per edge.
    """

    plane: str
    level: float
    size: int

    def points(self, patient: Patient, steps: int) -> NDArray[np.float64]:
        """Return (steps * steps, 3) patient positions in mm on a regular grid over the field of view, row by row."""
        rows, cols, axis = AXES[self.plane]
        centre = np.asarray(_CENTRES[self.plane]) + patient.centre
        offsets = (np.arange(steps) - (steps - 1) / 2) * (FIELD_OF_VIEW / steps)
        grid = np.empty((steps, steps, 3))
        grid[..., rows] = centre[rows] - offsets[:, None]
        grid[..., cols] = centre[cols] - offsets[None, :]
        grid[..., axis] = self.level
        return grid.reshape(-1, 3)


def tumour_mask(atlas: Atlas, patient: Patient, cut: Cut, tumour: Tumour) -> NDArray[np.bool_]:
    """Return the (size, size) mask of the tumour on the slice: where a pixel's centre is inside its surface."""
    points = cut.points(patient, cut.size)
    mask = np.zeros(len(points), bool)
    near = np.flatnonzero(((points - tumour.centre) ** 2).sum(axis=1) < (2.2 * tumour.radius) ** 2)
    if near.size:
        target = _to_atlas(atlas, patient, points[near], tumour)
        distance, _ = tumour.distance(atlas, points[near], atlas.hull_distance(target))
        mask[near] = distance < 0
    return mask.reshape(cut.size, cut.size)


def render_slice(
    atlas: Atlas, patient: Patient, cut: Cut, tumour: Tumour | None, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw one slice.

    Args:
        atlas: the head all patients are warped from.
        patient: whose head.
        cut: which slice.
        tumour: what grows in it, or None.
        rng: the scanner's noise.

    Returns:
        (size, size) 8-bit image and (size, size) boolean mask.
    """
    n = cut.size
    points = cut.points(patient, n)
    target = _warped(atlas, patient, cut, tumour)
    head = atlas.sample_head(target)
    shown = np.flatnonzero(head[:, SDF_OUT] < 3.0)
    at, head = target[shown], head[shown]
    values, white = _tissue(atlas, patient.scan, at, head)
    mask = np.zeros(n * n, bool)
    if tumour is not None:
        reach = 2.2 * tumour.radius + tumour.oedema + 8
        near = np.flatnonzero(((points[shown] - tumour.centre) ** 2).sum(axis=1) < reach**2)
        hull = head[near, SDF_IN]
        distance, noise = tumour.distance(atlas, points[shown[near]], hull)
        values[near] = tumour.paint(values[near], distance, noise, white[near], hull, patient.scan.dura)
        mask[shown[near]] = distance < 0
    image = np.zeros(n * n, np.float32)
    image[shown] = values * soft_step(-head[:, SDF_OUT], 0.0, 1.6)
    image *= patient.scan.receive_field(points)
    return _scan(image.reshape(n, n), patient.scan, rng), mask.reshape(n, n)


def _to_atlas(atlas: Atlas, patient: Patient, points: NDArray[np.float64], tumour: Tumour | None) -> Floats:
    """Return atlas positions of patient positions, with the brain pushed aside by the tumour."""
    target = patient.warp(points)
    if tumour is None:
        return np.asarray(target, np.float32)
    freedom = soft_step(-atlas.hull_distance(np.asarray(target, np.float32)), 6.0, 16.0)
    moved = tumour.displaced(points, freedom)
    return np.asarray(target + (moved - points) @ patient.warp.matrix.T, np.float32)


def _warped(atlas: Atlas, patient: Patient, cut: Cut, tumour: Tumour | None) -> Floats:
    """Return the (size * size, 3) atlas positions of a slice, interpolated from a coarse grid."""
    steps = min(int(np.ceil(FIELD_OF_VIEW / _COARSE)) + 1, cut.size)
    coarse = _to_atlas(atlas, patient, cut.points(patient, steps), tumour).reshape(steps, steps, 3)
    # Pixel centres of the fine grid in units of the coarse one; both grids share their outer edges.
    where = (np.arange(cut.size) + 0.5) * steps / cut.size - 0.5
    low = np.clip(np.floor(where).astype(np.int64), 0, steps - 2)
    frac = (where - low).astype(np.float32)
    rows = coarse[low] + (coarse[low + 1] - coarse[low]) * frac[:, None, None]
    fine = rows[:, low] + (rows[:, low + 1] - rows[:, low]) * frac[None, :, None]
    return np.asarray(fine.reshape(-1, 3), np.float32)


def _tissue(atlas: Atlas, scan: Scan, at: Floats, head: Floats) -> tuple[Floats, Floats]:
    """Return brightness and white-matter fraction at (N, 3) atlas positions, given the head's channels there."""
    noise = atlas.sample_noise(at, 2.6, scan.offset)
    fascia = atlas.sample_noise(at * np.asarray((1, 1, 0.35), np.float32), 4.2, scan.offset + 19)
    outer = _outside_brain(scan, head, noise, fascia)
    hull = head[:, SDF_IN]
    inside = np.flatnonzero(hull < 3.5)
    brain, white = _brain(atlas, scan, at[inside], hull[inside], noise[inside])
    edge = soft_step(-hull[inside], -2.6, 1.2)
    values, white_all = outer, np.zeros(len(at), np.float32)
    values[inside] = mix(outer[inside], brain, edge)
    white_all[inside] = white
    dura = np.exp(-(((hull - 2.7) / 0.9) ** 2)) * scan.dura * (0.6 + 0.2 * noise[:, 0])
    values = mix(values, scan.vessel * 0.85, np.clip(dura, 0, 1).astype(np.float32) * (head[:, FAT] < 0.3))
    return mix(values, scan.vessel, head[:, VESSEL]), white_all


def _outside_brain(scan: Scan, head: Floats, noise: Floats, fascia: Floats) -> Floats:
    """Return the brightness of skull, scalp, face and neck."""
    hull, skin = head[:, SDF_IN], head[:, SDF_OUT]
    values = head[:, SOFT] * np.float32(scan.soft) * (1 + 0.10 * noise[:, 1] + 0.06 * noise[:, 2])
    # Fat runs between muscles: in sheets, where a noise field that is stretched along the neck crosses zero.
    sheet = soft_step(-np.abs(fascia[:, 0] + 0.2 * noise[:, 1]), -0.17, 0.34) * soft_step(hull, 11.0, 5.0)
    sheet = sheet * (head[:, SOFT] > 0.3) * (head[:, SOFT] < 0.37) * (0.5 + 0.25 * fascia[:, 1])
    fat = np.maximum(head[:, FAT], sheet)
    lobules = np.float32(scan.fat) * (1 + 0.05 * noise[:, 0] + 0.05 * fascia[:, 2])
    values = mix(np.asarray(values, np.float32), lobules, np.clip(fat, 0, 1).astype(np.float32))
    # The vault: bone with marrow between its tables, wherever the skin is near; the base is painted in the atlas.
    thick = np.float32(scan.skull) * (1 + 0.12 * noise[:, 3])
    bone = band(hull, 2.6, 2.6 + thick, 1.4) * soft_step(-head[:, VESSEL], -0.5, 0.6)
    vault = soft_step(-skin, -22.0, 6.0)
    middle = np.exp(-(((hull - 2.6 - 0.5 * thick) / (0.2 * thick)) ** 2)) * (0.75 + 0.35 * noise[:, 2])
    inner = 0.04 + scan.marrow * np.clip(middle, 0, 1) * vault
    values = mix(values, inner, bone * (0.35 + 0.65 * vault))
    return mix(values, 0.03, head[:, DARK])


def _brain(atlas: Atlas, scan: Scan, at: Floats, hull: Floats, noise: Floats) -> tuple[Floats, Floats]:
    """Return brightness and white-matter fraction inside the hull: the template, sharpened, with sulci of its own."""
    grey, white = atlas.sample_brain(at).T
    white = soft_step(white + 0.06 * noise[:, 3], 0.5, 0.8)
    x, y, z = at.T
    # On the midline the template is a mean of brains that do not quite meet there, hence the lower threshold.
    needed = 0.5 + scan.sulci - 0.2 * np.exp(-((x / 6) ** 2))
    tissue = soft_step(grey + white + 0.10 * noise[:, 2], needed, 0.5)
    # Cortex lies near the hull, and on the medial wall of the hemispheres.
    medial = np.exp(-((x / 8) ** 4)) * np.maximum(soft_step(z, 24.0, 8.0), soft_step(-y, 54.0, 8.0))
    cortex = np.maximum(soft_step(-hull, 1.0, 2.0) * soft_step(hull, -17.0, 9.0), medial)
    coarse = atlas.sample_noise(at, 4.2, scan.offset + 7)
    fold = np.abs(coarse[:, 0] + 0.25 * noise[:, 1])
    sulcus = soft_step(-fold, -0.20 + 0.5 * scan.sulci, 0.16) * cortex * (1 - 0.9 * white)
    values = mix(np.full(len(at), scan.fluid, np.float32), scan.grey, tissue * (1 - 0.75 * sulcus))
    values = mix(values, scan.white, white)
    values = values * (1 + 0.025 * coarse[:, 2])
    # Where two noise fields are both near zero runs a thread: veins on the cortex and in the sulci.
    thread = np.sqrt(coarse[:, 0] ** 2 + coarse[:, 1] ** 2)
    vein = soft_step(-thread, -0.15, 0.14) * soft_step(hull, -16.0, 8.0)
    return mix(np.asarray(values, np.float32), scan.vessel * 0.9, vein * 0.8), white


def _scan(image: Floats, scan: Scan, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, add Rician noise, apply the display curve and return 8 bits."""
    import cv2

    pixel = FIELD_OF_VIEW / image.shape[0]
    blurred = cv2.GaussianBlur(image, (0, 0), max(scan.blur / pixel, 0.25))
    magnitude = rician(np.asarray(blurred, np.float32), scan.noise, rng)
    shown = np.clip(magnitude * 0.96, 0, 1) ** np.float32(scan.gamma)
    return np.asarray(np.rint(shown * 255), np.uint8)
