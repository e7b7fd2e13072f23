"""One synthetic patient: the warp from scanner to atlas, and how this scan shows each tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.phantom.anatomy import Atlas
from gyrus.phantom.fields import Floats

_KNOT_STEPS = (44.0, 19.0)  # mm between the knots of the two elastic fields
_KNOT_SIGMAS = (4.4, 1.0)  # mm, standard deviation of their knots
_REACH = 150.0  # mm from the centre that the knots cover


@dataclass(frozen=True, eq=False)
class Warp:
    """Where a point of the patient (mm, scanner axes: RAS) lies in the atlas.

    Attributes:
        matrix: (3, 3) rotation and scale.
        shift: (3,) mm.
        knots: cubic B-spline coefficients of each elastic field, (3, n, n, n) in mm.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]
    knots: tuple[NDArray[np.float64], ...]

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (N, 3) atlas positions in mm of (N, 3) patient positions in mm."""
        from scipy import ndimage

        q = points @ self.matrix.T + self.shift
        for knots, step in zip(self.knots, _KNOT_STEPS, strict=True):
            where = ((points + _REACH) / step).T
            q = q + np.stack(
                [ndimage.map_coordinates(k, where, order=3, prefilter=False, mode="nearest") for k in knots], axis=-1
            )
        return handed(np.asarray(q, np.float64))

    def inverse(self, target: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the (3,) patient position that the warp sends to one atlas position, to within 0.1 mm."""
        solve = np.linalg.inv(self.matrix)
        p = solve @ (target - self.shift)
        for _ in range(12):
            p = p + solve @ (target - self(p[None])[0])
        return np.asarray(p, np.float64)


def handed(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bend the symmetric template so that left and right can be told apart, in every patient the same way.

    The Yakovlevian torque (wider right frontal and left occipital lobe, the occipital fissure pushed to the right), a
    right hemisphere that is wider above and narrower below, and a left lateral ventricle larger than the right; all
    rather stronger than the average head's.
    """
    x, y, z = q.T
    lobe = np.tanh((y + 8) / 38)
    dx = -4.6 * lobe * np.minimum((x / 62) ** 2, 1.5) - 2.2 * np.tanh((z - 4) / 30) * np.minimum((x / 62) ** 2, 1.5)
    dx = dx - 3.2 * np.exp(-((x / 30) ** 2)) * np.maximum(-np.tanh((y + 55) / 22), 0)
    dy = -2.8 * np.tanh(x / 40) * np.abs(lobe)
    out = q + np.stack([dx, dy, np.zeros_like(z)], axis=-1)
    for centre, amount in (((-15.0, -6.0, 18.0), 0.42), ((-27.0, -42.0, 12.0), 0.36), ((14.0, -8.0, 18.0), -0.14)):
        gap = q - np.asarray(centre)
        pull = amount * np.exp(-((gap / (13.0, 24.0, 14.0)) ** 2).sum(axis=1))
        out = out - gap * pull[:, None]
    return np.asarray(out, np.float64)


@dataclass(frozen=True, eq=False)
class Scan:
    """How this patient's scan shows the tissues; brightness from 0 to about 1, drawn alike for every class.

    Attributes:
        white: brightness of white matter.
        grey: of grey matter.
        fluid: of cerebrospinal fluid.
        fat: of fat.
        marrow: of bone marrow in the skull.
        soft: factor on muscle and mucosa.
        vessel: of contrast-filled vessels.
        dura: how much the dura enhances.
        sulci: widening of the sulci (age), in units of tissue fraction.
        skull: thickness of the bone in mm.
        noise: standard deviation of the Rician noise's two channels.
        blur: width of the point spread in mm (one sigma).
        gamma: exponent of the display curve.
        bias: (3, 3) wave vectors in radians per mm and (3,) phases and strengths of the receive field, as (3, 5).
        offset: (3,) voxels by which the periodic noise is shifted.
    """

    white: float
    grey: float
    fluid: float
    fat: float
    marrow: float
    soft: float
    vessel: float
    dura: float
    sulci: float
    skull: float
    noise: float
    blur: float
    gamma: float
    bias: NDArray[np.float64]
    offset: NDArray[np.float64]

    def receive_field(self, points: NDArray[np.float64]) -> Floats:
        """Return the (N,) multiplicative receive field at (N, 3) points in mm."""
        log = np.zeros(len(points))
        for wave in self.bias:
            log += wave[4] * np.sin(points @ wave[:3] + wave[3])
        return np.exp(log).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Patient:
    """A synthetic patient: the shape of the head, the look of the scan and where the field of view is centred (mm)."""

    warp: Warp
    scan: Scan
    centre: NDArray[np.float64]


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw one patient; nothing here depends on the diagnosis."""
    pitch, roll, yaw = np.radians(rng.normal((0, 0, 0), (4.5, 2.0, 2.0)))
    scale = rng.normal(0.97, 0.025) * (1 + rng.normal(0, 0.022, 3))
    knots = []
    for step, sigma in zip(_KNOT_STEPS, _KNOT_SIGMAS, strict=True):
        n = int(np.ceil(2 * _REACH / step)) + 1
        knots.append(rng.normal(0, sigma, (3, n, n, n)))
    warp = Warp(_rotation(pitch, roll, yaw) / scale[None, :], rng.normal(0, 1.0, 3), tuple(knots))
    waves = np.column_stack([rng.normal(0, 1 / 75, (3, 3)), rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.04, 0.15, 3)])
    white = rng.uniform(0.44, 0.54)
    scan = Scan(
        white=white,
        grey=white * rng.uniform(0.72, 0.86),
        fluid=rng.uniform(0.10, 0.17),
        fat=rng.uniform(0.78, 1.05),
        marrow=rng.uniform(0.3, 0.75),
        soft=rng.uniform(0.85, 1.15),
        vessel=rng.uniform(0.72, 1.0),
        dura=rng.uniform(0.1, 0.6),
        sulci=rng.uniform(-0.10, 0.10),
        skull=rng.uniform(4.6, 6.6),
        noise=rng.uniform(0.008, 0.026),
        blur=rng.uniform(0.35, 0.85),
        gamma=rng.uniform(0.88, 1.12),
        bias=waves,
        offset=rng.uniform(0, 64, 3),
    )
    return Patient(warp, scan, rng.normal(0, (2.0, 3.0, 3.0)))


def centre_in_patient(atlas: Atlas, patient: Patient, point: NDArray[np.float64], inward: float) -> NDArray[np.float64]:
    """Return the patient position (mm) of an atlas point moved ``inward`` mm along the hull's inner normal."""
    moved = point - inward * atlas.outward(point) if inward else point
    return patient.warp.inverse(moved)


def _rotation(pitch: float, roll: float, yaw: float) -> NDArray[np.float64]:
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    ry = np.array([[c(roll), 0, s(roll)], [0, 1, 0], [-s(roll), 0, c(roll)]])
    rz = np.array([[c(yaw), -s(yaw), 0], [s(yaw), c(yaw), 0], [0, 0, 1]])
    return np.asarray(rx @ ry @ rz, np.float64)
