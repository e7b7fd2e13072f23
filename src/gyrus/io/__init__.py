"""Readers: one module per file format, each returning the same :class:`Image` or :class:`Volume`."""

from __future__ import annotations

from gyrus.io.dicom_pixels import windowed
from gyrus.io.dicom_series import Series, list_series, read_series
from gyrus.io.identity import patient_key, study_key
from gyrus.io.image import Image
from gyrus.io.nifti import write_nifti
from gyrus.io.raster import SUFFIXES as IMAGE_SUFFIXES
from gyrus.io.reading import VOLUME_SUFFIXES, is_volume, read_grid, read_image, read_size, read_volume
from gyrus.io.volume import Grid, SliceRef, Volume

__all__ = [
    "IMAGE_SUFFIXES",
    "VOLUME_SUFFIXES",
    "Grid",
    "Image",
    "Series",
    "SliceRef",
    "Volume",
    "is_volume",
    "list_series",
    "patient_key",
    "read_grid",
    "read_image",
    "read_series",
    "read_size",
    "read_volume",
    "study_key",
    "windowed",
    "write_nifti",
]
