"""Volumes written the long way round: an asymmetric block in any axis order, as NIfTI and as DICOM with an identity."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHAPE = (5, 6, 7)
SPACING = (0.75, 1.25, 3.5)
BLOCK = np.random.default_rng(3).permutation(np.arange(np.prod(SHAPE))).reshape(SHAPE).astype(np.int16)
"""(I, J, K), RAS+; every voxel has a value of its own, so it can be told where it went."""

AFFINE = np.array([[0.75, 0, 0, -31.5], [0, 1.25, 0, 12.25], [0, 0, 3.5, -7], [0, 0, 0, 1]])

# What identifies the patient; every word of it is looked for in what comes out.
IDENTITY = {
    "PatientName": "Moriarty^James",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "18591107",
    "PatientAddress": "Reichenbach",
    "OtherPatientIDs": "OLD-0815",
    "PatientComments": "wanted in London",
    "InstitutionName": "Diogenes Hospital",
    "ReferringPhysicianName": "Watson^John",
    "OperatorsName": "Lestrade",
    "StudyDate": "18910504",
    "StudyDescription": "Head of J. Moriarty",
    "SeriesDescription": "t1 Moriarty",
    "AccessionNumber": "ACC-221B",
    "ImageComments": "see Moran",
    "StationName": "BAKERSTREET",
    "ProtocolName": "Adler",
}
PRIVATE = "Hudson"
TRACES = (
    *("moriarty", "james", "4711", "1859", "reichenbach", "0815", "london", "diogenes", "watson", "lestrade"),
    *("1891", "221b", "moran", "bakerstreet", "adler", "hudson"),
)


def tilted(affine: NDArray[Any] = AFFINE, degrees: Sequence[float] = (20, -13, 9)) -> NDArray[np.float64]:
    """Turn an affine about x, y and z; the centre of the block stays where it is."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    centre = (np.array(SHAPE) - 1) / 2
    out = np.eye(4)
    out[:3, :3] = turn @ affine[:3, :3]
    out[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - out[:3, :3] @ centre
    return out


ORDERS = [(p, f) for p in itertools.permutations(range(3)) for f in itertools.product((False, True), repeat=3)]
"""All 48: stored axis n is axis p[n] of the block, run through backwards where f[n]."""


def stored(
    order: tuple[tuple[int, ...], tuple[bool, ...]], block: NDArray[Any] = BLOCK, affine: NDArray[Any] = AFFINE
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the block and its affine in another axis order; every voxel keeps its place in the world."""
    axes, flips = order
    back = np.zeros((4, 4))  # stored index to the block's index
    back[3, 3] = 1
    for n, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        back[axis, n] = -1 if flip else 1
        back[axis, 3] = block.shape[axis] - 1 if flip else 0
    array = block.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return np.ascontiguousarray(array), affine @ back


def save_nifti(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = AFFINE, **fields: Any) -> Path:
    """Write with nibabel; ``fields`` are put into the header as they are."""
    image = nib.Nifti1Image(array, affine)
    for name, value in fields.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def slice_dataset(pixels: NDArray[Any], **elements: Any) -> Dataset:
    """Return an uncompressed MR slice of this identity; ``elements`` are added or replaced, and dropped where None."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    # Its digits are drawn, and one in a few hundred would hold what is looked for as a trace.
    meta.MediaStorageSOPInstanceUID = next(u for u in iter(generate_uid, "") if not any(t in u for t in TRACES))
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality = "MR"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.99", "1.2.3.99.1"
    ds.SeriesNumber, ds.InstanceNumber = 3, 1
    for name, value in IDENTITY.items():
        setattr(ds, name, value)
    ds.private_block(0x0011, "gyrus tests", create=True).add_new(0x01, "LO", PRIVATE)
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = padded(pixels.tobytes())
    for name, value in elements.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    return ds


def report_dataset(**elements: Any) -> Dataset:
    """Return a report on such a slice, which holds no image."""
    ds = slice_dataset(BLOCK[0], Rows=None, Columns=None, PixelData=None, Modality="SR", **elements)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    return ds


def padded(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def save_dicom(path: Path, ds: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def series(array: NDArray[Any], affine: NDArray[Any], **elements: Any) -> Iterator[Dataset]:
    """Yield one slice for each index of the last axis; columns run along the first axis, rows along the second."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    across, down = lps[:3, 0], lps[:3, 1]
    axes = [*across / np.linalg.norm(across), *down / np.linalg.norm(down)]
    for s in range(array.shape[2]):
        place = {
            "ImagePositionPatient": decimals(lps[:3, 3] + s * lps[:3, 2]),
            "ImageOrientationPatient": decimals(axes),
            "PixelSpacing": decimals([np.linalg.norm(down), np.linalg.norm(across)]),
            "SliceThickness": "1",
            "InstanceNumber": s + 1,
        }
        yield slice_dataset(np.ascontiguousarray(array[:, :, s].T), **{**place, **elements})


def decimals(values: Any) -> list[str]:
    """Write numbers as DICOM does, in at most 16 characters."""
    return [f"{float(v):.16g}" if len(f"{float(v):.16g}") <= 16 else f"{float(v):.9g}"[:16] for v in values]


def save_series(folder: Path, array: NDArray[Any], affine: NDArray[Any], **elements: Any) -> Path:
    """Write a series whose file names and instance numbers say nothing of the order."""
    slices = list(series(array, affine, **elements))
    for name, s in enumerate(np.random.default_rng(8).permutation(len(slices))):
        slices[s].InstanceNumber = int(name) + 1
        save_dicom(folder / f"IM{name:03d}", slices[s])
    return folder


def enhanced(array: NDArray[Any], affine: NDArray[Any], order: Sequence[int] | None = None) -> Dataset:
    """Return one multi-frame file whose frames each say where they are, stored in ``order``."""
    slices = list(series(array, affine))
    order = range(len(slices)) if order is None else order
    ds = slice_dataset(np.ascontiguousarray(array[:, :, 0].T), NumberOfFrames=len(slices))
    ds.PixelData = padded(b"".join(array[:, :, s].T.tobytes() for s in order))
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = slices[0].PixelSpacing, slices[0].SliceThickness
    orientation.ImageOrientationPatient = slices[0].ImageOrientationPatient
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for s in order:
        position, values, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = slices[s].ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", str(s), "US"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [position], [values]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    return ds
