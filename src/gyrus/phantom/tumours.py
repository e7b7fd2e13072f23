"""Tumours as implicit functions in the patient's space: where they grow, what shape they take, how they enhance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.phantom.anatomy import Atlas
from gyrus.phantom.fields import Floats, mix, soft_step
from gyrus.phantom.patient import Patient, centre_in_patient

GLIOMA, MENINGIOMA, PITUITARY, NO_TUMOR = CLASSES = ("glioma", "meningioma", "pituitary", "no_tumor")

# Skull-base sites of meningiomas in atlas mm (one side; the side is drawn), all clear of the sella. They are moved onto
# the hull: olfactory groove, sphenoid wing, middle fossa, cerebellopontine angle, posterior fossa.
_BASE_SITES = ((9.0, 44.0, -16.0), (34.0, 26.0, -14.0), (44.0, 6.0, -22.0), (24.0, -30.0, -34.0), (34.0, -60.0, -20.0))


@dataclass(frozen=True, eq=False)
class Tumour:
    """One tumour, in the patient's millimetres.

    Attributes:
        kind: its class.
        centre: (3,) mm.
        axes: (3, 3), rows are the unit axes divided by the semi-axes in mm.
        radius: geometric mean of the semi-axes in mm.
        rough: amplitude of the surface's noise, as a fraction of the radius.
        noise_scale: mm per noise voxel.
        offset: (3,) shift of the noise in voxels.
        level: brightness of the enhancing part.
        core: brightness of the core, for a ring; None enhances throughout.
        rim: thickness of the ring in mm.
        oedema: reach of the oedema in mm; 0 for none.
        push: how strongly the surroundings are displaced, 0 to 1.
        patches: noise above which it enhances, where it does so in patches; None enhances all alike.
    """

    kind: str
    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    radius: float
    rough: float
    noise_scale: float
    offset: NDArray[np.float64]
    level: float
    core: float | None
    rim: float
    oedema: float
    push: float
    patches: float | None = None

    def displaced(self, points: NDArray[np.float64], freedom: Floats) -> NDArray[np.float64]:
        """Return where the tissue now at ``points`` was before the tumour grew.

        Args:
            points: (N, 3) mm.
            freedom: (N,) from 0 (bone, which stays) to 1 (deep in the brain).
        """
        gap = points - self.centre
        near = np.exp(-((gap / (1.7 * self.radius)) ** 2).sum(axis=1))
        return np.asarray(points - gap * (self.push * near * freedom)[:, None], np.float64)

    def distance(self, atlas: Atlas, points: NDArray[np.float64], hull: Floats) -> tuple[Floats, Floats]:
        """Return the approximate distance (mm, negative inside) to the surface at (N, 3) points, and (N, 4) noise.

        Args:
            atlas: where the noise is kept.
            points: (N, 3) mm.
            hull: (N,) distance outside the brain's hull in mm, which no tumour of the brain or meninges leaves.
        """
        gap = points - self.centre
        k = np.sqrt(((gap @ self.axes.T) ** 2).sum(axis=1))
        noise = atlas.sample_noise(np.asarray(gap, np.float32), self.noise_scale, self.offset)
        rough = np.float32(self.rough * self.radius)
        d = np.asarray((k - 1) * self.radius + rough * (noise[:, 0] + 0.35 * noise[:, 1]), np.float32)
        if self.kind == GLIOMA:
            fine = atlas.sample_noise(np.asarray(gap, np.float32), 0.4 * self.noise_scale, self.offset)
            d = np.maximum(d + np.float32(0.3) * rough * fine[:, 0], hull + np.float32(2.5))
        elif self.kind == MENINGIOMA:
            d = np.maximum(d, hull - np.float32(2.2))
        return np.asarray(d, np.float32), noise

    def paint(self, image: Floats, d: Floats, noise: Floats, white: Floats, hull: Floats, dura: float) -> Floats:
        """Return the brightness with this tumour in it.

        Args:
            image: (N,) brightness without it.
            d: (N,) distance from :meth:`distance`.
            noise: (N, 4) from :meth:`distance`.
            white: (N,) fraction of white matter, along which oedema spreads.
            hull: (N,) distance outside the brain's hull in mm.
            dura: how much this patient's dura enhances.
        """
        if self.oedema:
            reach = soft_step(d + 3.0 * noise[:, 2], self.oedema, 7.0)
            image = mix(image, image * np.float32(0.66), (1 - reach) * white * (hull < 0))
        if self.kind == MENINGIOMA:  # the dural tail
            tail = np.exp(-((np.maximum(d, 0) / 7) ** 2)) * np.exp(-(((hull - 2.2) / 1.3) ** 2))
            image = mix(image, self.level, np.asarray(tail * (0.3 + 0.5 * dura), np.float32))
        body = self.level * (1 + (0.10 if self.kind == GLIOMA else 0.035) * noise[:, 3])
        if self.core is not None:
            depth = -d - self.rim * (1 + 0.45 * noise[:, 2])
            core = self.core * (1 + 0.15 * noise[:, 3])
            body = mix(np.asarray(body, np.float32), core, soft_step(np.asarray(depth, np.float32), 0.0, 2.2))
        if self.patches is not None:
            spots = soft_step(np.asarray(noise[:, 0] + 0.4 * noise[:, 3], np.float32), self.patches, 0.8)
            body = mix(image * np.float32(0.7), body, spots)
        return mix(image, body, soft_step(-d, 0.0, 1.4))


def draw_tumour(atlas: Atlas, patient: Patient, kind: str, rng: np.random.Generator, *, varied: bool = False) -> Tumour:
    """Draw a tumour of one kind; its place, size, shape and enhancement vary.

    Args:
        atlas: where it can grow.
        patient: in whom.
        kind: its class.
        rng: what it depends on.
        varied: let gliomas also be small or large, dark without enhancement, or patchy, and reach the cortex.
    """
    if kind == GLIOMA:
        return _varied_glioma(atlas, patient, rng) if varied else _glioma(atlas, patient, rng)
    if kind == MENINGIOMA:
        return _meningioma(atlas, patient, rng)
    return _pituitary(atlas, patient, rng)


def _shape(rng: np.random.Generator, radius: float, uneven: float) -> tuple[NDArray[np.float64], float]:
    """Return the axes of a randomly turned ellipsoid and its mean radius."""
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    semi = radius * np.exp(rng.normal(0, uneven, 3))
    return np.asarray(turn / semi[:, None], np.float64), float(np.prod(semi) ** (1 / 3))


def _glioma(atlas: Atlas, patient: Patient, rng: np.random.Generator) -> Tumour:
    start = atlas.white[rng.integers(len(atlas.white))].astype(np.float64)
    axes, radius = _shape(rng, rng.uniform(11.5, 19.0), 0.14)
    strong = rng.random() < 0.72
    return Tumour(
        kind=GLIOMA,
        centre=centre_in_patient(atlas, patient, start, 0.0),
        axes=axes,
        radius=radius,
        rough=rng.uniform(0.16, 0.26),
        noise_scale=radius * rng.uniform(0.18, 0.28),
        offset=rng.uniform(0, 64, 3),
        level=rng.uniform(0.72, 1.05) if strong else rng.uniform(0.58, 0.68),
        core=rng.uniform(0.17, 0.30),
        rim=rng.uniform(2.6, 5.4) if strong else rng.uniform(1.8, 3.0),
        oedema=rng.uniform(6.0, 18.0),
        push=rng.uniform(0.15, 0.4),
    )


def _varied_glioma(atlas: Atlas, patient: Patient, rng: np.random.Generator) -> Tumour:
    """Draw a glioma of any grade: 2 in 5 a ring, 3 in 10 dark throughout, 3 in 10 enhancing in patches."""
    pool = atlas.white if rng.random() < 0.6 else atlas.lobes
    start = pool[rng.integers(len(pool))].astype(np.float64)
    axes, radius = _shape(rng, rng.uniform(8.0, 30.0), 0.18)
    look = rng.random()
    core, rim, patches, oedema = None, 0.0, None, rng.uniform(3.0, 18.0)
    if look < 0.4:
        strong = rng.random() < 0.72
        level = rng.uniform(0.72, 1.05) if strong else rng.uniform(0.55, 0.68)
        core = rng.uniform(0.12, 0.32)
        rim = radius * (rng.uniform(0.12, 0.4) if strong else rng.uniform(0.08, 0.2))
    elif look < 0.7:
        level = patient.scan.white * rng.uniform(0.42, 0.8)
        oedema = rng.uniform(0.0, 6.0) if rng.random() < 0.5 else 0.0
    else:
        level, patches = rng.uniform(0.6, 1.0), rng.uniform(-0.5, 0.9)
    return Tumour(
        kind=GLIOMA,
        centre=centre_in_patient(atlas, patient, start, 0.0),
        axes=axes,
        radius=radius,
        rough=rng.uniform(0.12, 0.28),
        noise_scale=radius * rng.uniform(0.18, 0.30),
        offset=rng.uniform(0, 64, 3),
        level=level,
        core=core,
        rim=rim,
        oedema=oedema,
        push=rng.uniform(0.15, 0.45),
        patches=patches,
    )


def _meningioma(atlas: Atlas, patient: Patient, rng: np.random.Generator) -> Tumour:
    axes, radius = _shape(rng, rng.uniform(10.5, 17.5), 0.09)
    site, side = rng.random(), rng.choice((-1.0, 1.0))
    inward = 0.0
    if site < 0.6:
        start = atlas.surface[rng.integers(len(atlas.surface))].astype(np.float64)
        inward = radius * rng.uniform(0.45, 0.75)
    elif site < 0.78:
        start = np.array([side * radius * rng.uniform(0.75, 0.95), rng.uniform(-70, 50), rng.uniform(28, 58)])
    else:
        start = np.asarray(_BASE_SITES[rng.integers(len(_BASE_SITES))]) * (side, 1, 1) + rng.normal(0, 3, 3)
        start = start - float(atlas.hull_distance(start[None].astype(np.float32))[0]) * atlas.outward(start)
        inward = 0.7 * radius
    return Tumour(
        kind=MENINGIOMA,
        centre=centre_in_patient(atlas, patient, start, inward),
        axes=axes,
        radius=radius,
        rough=rng.uniform(0.03, 0.07),
        noise_scale=radius * rng.uniform(0.25, 0.4),
        offset=rng.uniform(0, 64, 3),
        level=rng.uniform(0.62, 0.92),
        core=None,
        rim=0.0,
        oedema=rng.uniform(4.0, 10.0) if rng.random() < 0.35 else 0.0,
        push=rng.uniform(0.3, 0.5),
    )


def _pituitary(atlas: Atlas, patient: Patient, rng: np.random.Generator) -> Tumour:
    axes, radius = _shape(rng, rng.uniform(7.5, 11.5), 0.10)
    start = np.array([rng.normal(0, 1.5), rng.normal(2.0, 1.0), -36.0 + 0.75 * radius + rng.normal(0, 1.0)])
    return Tumour(
        kind=PITUITARY,
        centre=centre_in_patient(atlas, patient, start, 0.0),
        axes=axes,
        radius=radius,
        rough=rng.uniform(0.05, 0.11),
        noise_scale=radius * rng.uniform(0.3, 0.45),
        offset=rng.uniform(0, 64, 3),
        level=rng.uniform(0.62, 0.92),
        core=None,
        rim=0.0,
        oedema=0.0,
        push=rng.uniform(0.2, 0.4),
    )
