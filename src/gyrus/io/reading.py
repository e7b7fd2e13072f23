"""Read any image file gyrus knows."""

from __future__ import annotations

from pathlib import Path

from gyrus.io import mat, raster
from gyrus.io.image import Image


def read_image(path: Path) -> Image:
    """Read one greyscale image; ``.mat`` is MATLAB v7.3, any other name is a PNG, JPEG, TIFF or BMP by its content.

    Returns:
        Image: (H, W) float32 pixels in file units, as displayed.

    Raises:
        InputError: the file is missing, empty, damaged, too large, or of a format gyrus does not read.
    """
    path = Path(path)
    return mat.read_mat_image(path) if path.suffix.lower() == ".mat" else raster.read_raster(path)


def read_size(path: Path) -> tuple[int, int]:
    """Return (H, W) in pixels, as :func:`read_image` would give it, without reading the pixels.

    Raises:
        InputError: the header cannot be read.
    """
    path = Path(path)
    return mat.read_mat_size(path) if path.suffix.lower() == ".mat" else raster.read_size(path)
