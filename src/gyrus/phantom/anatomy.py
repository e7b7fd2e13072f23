"""The atlas every phantom patient is warped from: the MNI152 template with a head built around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.phantom.fields import Floats, periodic_noise, trilinear
from gyrus.phantom.head import SDF_IN, Grid, build_head, head_shape

NOISE_SIZE = 64
"""Edge of the periodic noise in voxels; its features are about four voxels wide."""

_HEAD = Grid((-105.0, -138.0, -150.0), 1.5, (141, 180, 172))
_COARSE = 2  # the hull is smooth: its distances are worked out on every second voxel


@dataclass(frozen=True, eq=False)
class Atlas:
    """The symmetric adult head that all patients are warped from, in MNI152 millimetres (RAS).

    Attributes:
        brain_grid: where ``brain`` lies (1 mm).
        brain: (X, Y, Z, 2) float32, the fractions of grey and of white matter.
        head_grid: where ``head`` lies (1.5 mm).
        head: (X, Y, Z, 6) float32; see :mod:`gyrus.phantom.head` for the channels.
        noise: (64, 64, 64, 4) float32, smooth periodic noise of unit variance.
        white: (N, 3) float32, points deep in the cerebral white matter, in mm.
        lobes: (N, 3) float32, points of the hemispheres' grey and white matter a little below the hull, in mm.
        surface: (N, 3) float32, points on the hull of the brain above the skull base, in mm.
    """

    brain_grid: Grid
    brain: Floats
    head_grid: Grid
    head: Floats
    noise: Floats
    white: Floats
    lobes: Floats
    surface: Floats

    def sample_brain(self, points: Floats) -> Floats:
        """Return (N, 2) grey and white fractions at (N, 3) points in mm."""
        return trilinear(self.brain, self.brain_grid.voxels(points))

    def sample_head(self, points: Floats) -> Floats:
        """Return (N, 6) head channels at (N, 3) points in mm."""
        return trilinear(self.head, self.head_grid.voxels(points))

    def sample_noise(self, points: Floats, scale: float, offset: NDArray[np.float64]) -> Floats:
        """Return (N, 4) noise whose voxels are ``scale`` mm, shifted by ``offset`` voxels."""
        return trilinear(self.noise, np.asarray(points / scale + offset, np.float32), wrap=True)

    def hull_distance(self, points: Floats) -> Floats:
        """Return the distance outside the brain's hull in mm at (N, 3) points; negative inside."""
        return self.sample_head(points)[:, SDF_IN]

    def outward(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the unit normal of the hull at one point in mm."""
        steps = np.concatenate([np.eye(3), -np.eye(3)]) * 3.0
        d = self.hull_distance(np.asarray(point + steps, np.float32)).astype(np.float64)
        gradient = d[:3] - d[3:]
        return np.asarray(gradient / max(float(np.linalg.norm(gradient)), 1e-6), np.float64)


def build_atlas() -> Atlas:
    """Build the atlas from the MNI152 template that ships inside nilearn; nothing is downloaded.

    Template: ICBM 152 nonlinear symmetric 2009a (Fonov et al., NeuroImage 54, 2011).
    """
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    loaders = (load_mni152_gm_template, load_mni152_wm_template)
    grey, white = (np.asarray(load(resolution=1).dataobj, np.float32) for load in loaders)
    nx, ny, nz = grey.shape
    grid = Grid((-98.0, -134.0, -72.0), 1.0, (nx, ny, nz))
    coarse = _coarse_grid()
    rough = _hull_distance(grid, grey + white, coarse)
    skin = _signed_distance(head_shape(coarse, rough) < 0, coarse.spacing, 0.8)
    hull = _refined(coarse, rough)
    head = build_head(_HEAD, hull, _refined(coarse, skin))
    noise = periodic_noise(np.random.default_rng(152), NOISE_SIZE, 1.6, 4)
    return Atlas(
        brain_grid=grid,
        brain=np.ascontiguousarray(np.stack([grey, white], axis=-1)),
        head_grid=_HEAD,
        head=head,
        noise=noise,
        white=_white_points(grid, white, hull),
        lobes=_lobe_points(grid, grey + white, hull),
        surface=_surface_points(hull),
    )


def _coarse_grid() -> Grid:
    """Return a grid over the same box as the head's, with every second voxel."""
    nx, ny, nz = ((n + _COARSE - 1) // _COARSE + 1 for n in _HEAD.shape)
    return Grid(_HEAD.origin, _HEAD.spacing * _COARSE, (nx, ny, nz))


def _signed_distance(inside: NDArray[np.bool_], spacing: float, sigma: float) -> Floats:
    """Return the distance outside a shape (mm, negative inside), smoothed by ``sigma`` voxels."""
    from scipy import ndimage

    out = ndimage.distance_transform_edt(~inside, sampling=spacing)
    signed = out - ndimage.distance_transform_edt(inside, sampling=spacing)
    return np.asarray(ndimage.gaussian_filter(signed.astype(np.float32), sigma), np.float32)


def _hull_distance(grid: Grid, tissue: Floats, coarse: Grid) -> Floats:
    """Return the smoothed signed distance (mm) to the brain with its sulci and cisterns filled, on the coarse grid."""
    from scipy import ndimage

    points = np.stack(np.broadcast_arrays(*coarse.axes()), axis=-1).reshape(-1, 3)
    smooth = ndimage.gaussian_filter(tissue, 1.0)[..., None]
    voxels = grid.voxels(np.asarray(points, np.float32))
    within = ((voxels >= 0) & (voxels < np.asarray(grid.shape) - 1)).all(axis=1)
    brain = np.zeros(len(points), bool)
    brain[within] = trilinear(smooth, voxels[within])[:, 0] > 0.35
    brain = brain.reshape(coarse.shape)
    # Closing by distance: out by 12 mm, then back, which bridges the fissures and leaves the outer shape as it was.
    grown = ndimage.distance_transform_edt(~brain, sampling=coarse.spacing) <= 12
    closed = (ndimage.distance_transform_edt(grown, sampling=coarse.spacing) > 12) | brain
    return _signed_distance(closed, coarse.spacing, 1.3)


def _refined(coarse: Grid, field: Floats) -> Floats:
    """Return a field of the coarse grid on the head's grid."""
    points = np.stack(np.broadcast_arrays(*_HEAD.axes()), axis=-1).reshape(-1, 3)
    values = trilinear(field[..., None], coarse.voxels(np.asarray(points, np.float32)))
    return np.asarray(values.reshape(_HEAD.shape), np.float32)


def _white_points(grid: Grid, white: Floats, hull: Floats) -> Floats:
    """Return points of the hemispheres' white matter where a glioma may start."""
    points, depth = _points(grid, white > 0.85, hull)
    x, y, z = points.T
    lobes = (np.abs(x) > 15) & (z > -24) & ~((y < -38) & (z < 4))
    return np.asarray(points[lobes & (depth < -11)], np.float32)


def _lobe_points(grid: Grid, tissue: Floats, hull: Floats) -> Floats:
    """Return points anywhere in the hemispheres, the cortex and the temporal lobes included."""
    points, depth = _points(grid, tissue > 0.7, hull)
    x, y, z = points.T
    lobes = (np.abs(x) > 6) & (z > -40) & ~((y < -38) & (z < -8))
    return np.asarray(points[lobes & (depth < -5)], np.float32)


def _points(grid: Grid, where: NDArray[np.bool_], hull: Floats) -> tuple[Floats, Floats]:
    """Return every third point in mm of where something holds, (N, 3), and its distance outside the hull, (N,)."""
    step = 3
    index = np.argwhere(where[::step, ::step, ::step]) * step
    points = np.asarray(index + np.asarray(grid.origin), np.float32)
    return points, trilinear(hull[..., None], _HEAD.voxels(points))[:, 0]


def _surface_points(hull: Floats) -> Floats:
    """Return points of the brain's hull over the convexity, where a meningioma may start."""
    step = 2
    index = np.argwhere(np.abs(hull[::step, ::step, ::step] + 1) < 1.2) * step
    points = np.asarray(index * _HEAD.spacing + np.asarray(_HEAD.origin), np.float32)
    return points[points[:, 2] > 6]
