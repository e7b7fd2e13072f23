"""Which way a 2-D slice was cut: axial, coronal, sagittal, or unsure."""

from __future__ import annotations

from gyrus.planes.recogniser import PlaneGuess, recognise_planes

__all__ = ["PlaneGuess", "recognise_planes"]
