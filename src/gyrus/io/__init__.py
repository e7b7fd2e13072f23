"""Readers: one module per file format, each returning the same :class:`Image`."""

from __future__ import annotations

from gyrus.io.image import Image
from gyrus.io.raster import SUFFIXES as IMAGE_SUFFIXES
from gyrus.io.reading import read_image, read_size

__all__ = ["IMAGE_SUFFIXES", "Image", "read_image", "read_size"]
