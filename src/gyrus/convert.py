"""Any image, volume or dataset as PNG slices with a manifest.

A converted folder holds ``images/`` and ``masks/`` (PNG), ``manifest.csv`` and ``dataset.json``, so that it opens like
any dataset, and ``geometry.json``, by which :mod:`gyrus.geometry` lays slices back into their volumes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.artifacts import stage_folder
from gyrus.datasets import open_files, volumes, write_manifest
from gyrus.datasets.cases import MODALITIES, Case, Cases, Slices, chosen, in_region, read_labels
from gyrus.datasets.folder import INFO as FOLDER
from gyrus.datasets.registry import find_reader, recognise
from gyrus.errors import InputError
from gyrus.geometry import Placement, Scale, save_geometry, scale_of
from gyrus.io import SliceRef, Volume
from gyrus.io.masks import FileMask
from gyrus.loading import Progress
from gyrus.paths import PathLike
from gyrus.records import Dataset, DatasetInfo, Record

_FAULT = (
    "Its slices were cut from volumes, and no_tumor is one of a patient with a tumour on which none is drawn: it is no "
    "healthy brain, and its level alone may tell."
)


@dataclass(frozen=True)
class _Options:
    plane: str | None
    slices: Slices
    modality: str | None
    region: str
    bits: int | None
    window: tuple[float, float] | None


def convert_data(
    data: PathLike,
    out: PathLike,
    *,
    name: str | None = None,
    plane: str | None = None,
    slices: Slices = "all",
    modality: str | None = None,
    region: str = "core",
    bits: int | None = None,
    window: tuple[float, float] | None = None,
    salt: bytes | None = None,
    keep_identity: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Turn an image, a volume, or a folder or dataset of them into PNG slices with a manifest.

    Where a tumour is drawn, a slice that the region touches gets the tumour's class and a mask, and one on which
    nothing is drawn is "no_tumor"; one in between (oedema alone), or blank, is written but not listed in the manifest,
    for its class is not known. Where no tumour is drawn every slice is listed, without a label. A volume of which
    neither patient nor study is known is listed as a study of its own. Slices that are images already keep their
    labels, patients, masks and grey levels.

    Args:
        data: what to convert.
        out: the folder to write; it appears only when all of it is written.
        name: of the dataset's reader, where it should not be recognised.
        plane: "axial", "coronal" or "sagittal"; by default the one each volume was acquired in.
        slices: which ones of each volume: "all", "middle", or indices from 0.
        modality: "t1", "t1ce", "t2", "flair", or "all"; by default the contrast-enhanced T1, or the only one.
        region: what of the tumour the masks show: its "core", or the "whole" with the oedema.
        bits: 8 or 16 per pixel; see :func:`gyrus.geometry.scale_of`.
        window: the values that are spread over the grey levels; see :func:`gyrus.geometry.scale_of`.
        salt: of the hashes that stand for the patients of DICOM files, at least 16 bytes: the same salt gives the same
            hashes. By default it is drawn from the first file.
        keep_identity: keep the patient ids of DICOM headers and the names of their folders and files.
        progress: called after each volume or image.

    Returns:
        ``out``.

    Raises:
        InputError: nothing to convert, something that cannot be read, labels that do not fit, or ``out`` exists.
        MissingExtraError: the data is DICOM and pydicom is not installed.
    """
    data, out = Path(data), Path(out)
    options = _Options(plane, slices, modality, region, bits, window)
    _refuse_unknown(options)
    # The source's path is not kept: folders are named after patients.
    with stage_folder(out, "convert", arguments=asdict(options) | {"keep_identity": keep_identity}) as folder:
        opened = _open(data, name, salt, keep_identity)
        if isinstance(opened, Cases):
            info, records = _write_cases(opened, folder, options, progress)
        else:
            info, records = _write_images(opened, folder, options, progress)
        if not records:
            raise InputError(f"{data}: every slice is blank or shows oedema alone, so none is listed: choose others")
        write_manifest(Dataset(info, folder, tuple(records)), folder / "manifest.csv")
    return out


def _refuse_unknown(options: _Options) -> None:
    """Refuse a plane, region or modality that is none, though the data be such that nobody would ask for it."""
    if options.plane is not None:
        SliceRef(options.plane, 0)
    in_region(np.zeros(0, np.uint8), options.region)
    known = (None, *MODALITIES, "image", "all")
    if options.modality not in known:
        raise InputError(f"there is no modality {options.modality!r}: choose {', '.join(map(str, known[1:]))}")


def _open(data: Path, name: str | None, salt: bytes | None, keep_identity: bool) -> Cases | Dataset:
    """Open the data as volumes where it holds them, else as slices; a folder that is no dataset as a pile of images."""
    known = name or (recognise(data) if data.exists() else None)
    if known is None:
        return open_files(data)
    if known == volumes.INFO.name:
        return volumes.open_cases(data, salt, keep_identity=keep_identity)
    reader = find_reader(data, known)
    if reader.cases is not None:
        return reader.cases(data)
    try:
        return reader.open(data)
    except InputError:
        if name is not None or known != FOLDER.name:
            raise
        return open_files(data)


def _write_cases(
    cases: Cases, folder: Path, options: _Options, progress: Progress | None
) -> tuple[DatasetInfo, list[Record]]:
    """Write the volumes of all cases; return what the dataset is, and the records of the slices that are listed."""
    wanted = [
        (case, modality)
        for case in cases.cases
        for modality in (case.images if options.modality == "all" else (options.modality,))
    ]
    records: list[Record] = []
    placements: dict[str, Placement] = {}
    for done, (case, modality) in enumerate(wanted, start=1):
        placed, listed = _write_volume(case, modality, folder, options, cases.info.name)
        if placed.id in placements:
            raise InputError(f"{cases.root} holds two volumes called {placed.id}: rename one")
        placements[placed.id] = placed
        records += listed
        if progress:
            progress("converting", done, len(wanted))
    save_geometry(folder, list(placements.values()))
    drawn = any(placed.region for placed in placements.values())
    classes = tuple(sorted({r.label for r in records if r.label is not None}))
    info = replace(cases.info, classes=classes, faults=(*cases.info.faults, _FAULT) if drawn else cases.info.faults)
    return info, records


def _write_volume(
    case: Case, modality: str | None, folder: Path, options: _Options, source: str
) -> tuple[Placement, list[Record]]:
    """Write the slices of one volume and their masks."""
    ref = case.image(modality)
    volume = ref.read()
    called = next(name for name, image in case.images.items() if image == ref)
    plane = options.plane or case.plane or volume.acquired
    labels = Volume(read_labels(case, called).astype(np.float32), volume.affine) if case.labels else None
    indices = chosen(options.slices, volume.count(plane), f"{ref.path} ({plane})")
    study = _utf8(case.id) if case.patient is None and case.study is None else case.study  # its slices belong together
    placed = Placement(
        id=_utf8(case.id if called == "image" else f"{case.id}-{called}"),
        plane=plane,
        slices=None if len(indices) == volume.count(plane) else tuple(indices),
        shape=volume.grid.shape,
        affine=tuple(tuple(map(float, row)) for row in volume.affine),
        axes=volume.meta["axes"],
        scale=scale_of(volume.voxels, options.bits, options.window),
        spaced=case.spaced,
        region=options.region if labels else None,
    )
    listed = []
    for index in indices:
        pixels = volume.take(plane, index).pixels
        _save(folder / placed.file(index), placed.scale.encode(pixels))
        drawn = None if labels is None else labels.take(plane, index).pixels.astype(np.uint8)
        mask = None if drawn is None else in_region(drawn, options.region)
        if mask is not None and mask.any():
            _save(folder / placed.file(index, "masks"), mask.astype(np.uint8) * 255)
        label = None if drawn is None or mask is None else _label(drawn, mask, case)
        if drawn is None or (label is not None and pixels.min() < pixels.max()):
            listed.append(
                Record(
                    id=placed.file(index),
                    path=folder / placed.file(index),
                    label=label,
                    patient=case.patient,
                    study=study,
                    mask=FileMask(folder / placed.file(index, "masks")) if mask is not None and mask.any() else None,
                    plane=plane,
                    source=source,
                )
            )
    return placed, listed


def _label(drawn: NDArray[np.uint8], mask: NDArray[np.bool_], case: Case) -> str | None:
    """Return the class of a slice by what is drawn on it; None where that is something outside the region alone."""
    if mask.any():
        return case.tumour or "tumor"
    return None if drawn.any() else "no_tumor"


def _write_images(
    dataset: Dataset, folder: Path, options: _Options, progress: Progress | None
) -> tuple[DatasetInfo, list[Record]]:
    """Write pictures as PNG, each with its mask; return what the dataset is, and their records."""
    if any(record.at is not None for record in dataset):
        raise InputError(f"{dataset.root} holds volumes beside pictures: convert them apart")
    records: dict[str, Record] = {}
    scales = {}
    for done, record in enumerate(dataset, start=1):
        image = record.read()
        file = _picture_name(record.id)
        stem, number = file.removesuffix(".png"), done
        while file in records:
            file, number = f"{stem}-{number}.png", number + 1
        depth = image.meta.get("bits")
        colour = depth if depth in (8, 16) and image.meta.get("colour", 0) > 0 else None
        scale = scale_of(image.pixels, options.bits, options.window, stretch=False, colour=colour)
        if scale != Scale():
            scales[file] = scale
        _save(folder / file, scale.encode(image.pixels))
        drawn, mask = record.read_mask(image.shape), None
        if drawn is not None:
            mask = FileMask(folder / file.replace("images/", "masks/", 1))
            _save(mask.path, drawn.astype(np.uint8) * 255)
        records[file] = replace(record, id=file, path=folder / file, mask=mask)
        if progress:
            progress("converting", done, len(dataset))
    save_geometry(folder, [], scales)
    return dataset.info, list(records.values())


def _picture_name(id: str) -> str:
    """Return where a picture is kept: its id with the suffix .png, without what would lead out of the folder."""
    path = PurePosixPath(_utf8(id))
    inside = [path.name] if path.is_absolute() else [part for part in path.parts if part != ".."]
    return PurePosixPath("images", *inside).with_suffix(".png").as_posix()


def _utf8(name: str) -> str:
    """Return a name in which "_" stands for what is not UTF-8, since the manifest has to name it."""
    return re.sub("[\ud800-\udfff]", "_", name)


def _save(path: Path, levels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(levels).save(path, compress_level=3)
