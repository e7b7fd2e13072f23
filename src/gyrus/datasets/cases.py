"""Cases: the volumes of one exam, whose they are, and the labels drawn on them, in one vocabulary whatever the source.

The vocabulary and its integers are those of BraTS 2023 and 2024, with one added:

===  ================  =====================================  ==============  =========
     name              BraTS 2023 and 2024                    BraTS to 2021   Decathlon
===  ================  =====================================  ==============  =========
1    necrotic_core     1, NCR (NETC in 2024)                  1, NCR or NET   2
2    oedema            2, ED (SNFH in 2024)                   2               1
3    enhancing         3, ET                                  4               3
4    resection_cavity  4, RC (2024, after treatment)          -               -
5    tumor             an outline that is not divided further: Brain-Tumor-Progression
===  ================  =====================================  ==============  =========

``necrotic_core`` is the part of the core that does not enhance: BraTS drew necrosis and non-enhancing tumour as one
label from 2017 to 2020, and Decathlon's "non-enhancing tumor" is that label under another name.

Sources: Menze et al. 2015, doi 10.1109/TMI.2014.2377694; Bakas et al. 2017, doi 10.1038/sdata.2017.117; Baid et al.
2021, arXiv 2107.02314; de Verdier et al. 2024, arXiv 2405.18368; Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io import Grid, SliceRef, Volume, read_grid, read_image, read_volume
from gyrus.records import Dataset, DatasetInfo, Record

LABELS = ("background", "necrotic_core", "oedema", "enhancing", "resection_cavity", "tumor")
"""The vocabulary; a label's integer is its place."""

REGIONS: Mapping[str, tuple[str, ...]] = {
    "core": ("necrotic_core", "enhancing", "tumor"),
    "whole": ("necrotic_core", "oedema", "enhancing", "tumor"),
}
"""What counts as tumour: the core is what is outlined on contrast-enhanced T1; the whole has the oedema with it."""

MODALITIES = ("t1", "t1ce", "t2", "flair")

Slices = str | int | Sequence[int]
"""Which slices of a volume: "all", "middle" (one), or by index from 0."""


@dataclass(frozen=True, slots=True)
class VolumeRef:
    """Where a volume is kept; ``channel`` is its place in a 4-D file, from 0."""

    path: Path
    channel: int | None = None

    def read(self) -> Volume:
        """Read the voxels.

        Raises:
            InputError: as :func:`gyrus.io.read_volume`.
        """
        return read_volume(self.path, self.channel)


@dataclass(frozen=True, slots=True)
class LabelRef:
    """Where the labels of a case are kept, and what the stored integers mean.

    Attributes:
        path: a volume of integers, on the grid of the case's images.
        meaning: stored integer -> name in :data:`LABELS`; 0 is background. One name instead of a table stands for every
            integer but 0.
    """

    path: Path
    meaning: Mapping[int, str] | str

    def translate(self, stored: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return stored values, of any shape, in the common vocabulary.

        Raises:
            InputError: a value is not in the table.
        """
        if isinstance(self.meaning, str):
            return np.where(stored != 0, LABELS.index(self.meaning), 0).astype(np.uint8)
        out = np.zeros(stored.shape, dtype=np.uint8)
        known = stored == 0
        for value, name in self.meaning.items():
            here = stored == value
            out[here] = LABELS.index(name)
            known |= here
        if not known.all():
            table = ", ".join(f"{value} {name}" for value, name in self.meaning.items())
            raise InputError(
                f"{self.path} holds the label {stored[~known][0]:g}, which is none of its kind ({table}): "
                "correct the file, or its name"
            )
        return out


@dataclass(frozen=True, slots=True)
class LabelMask:
    """The tumour mask of one slice, cut from a case's labels when it is asked for.

    Attributes:
        labels: of the case.
        at: which slice.
        region: of the tumour.
        image: the volume that the slice is cut from.
    """

    labels: LabelRef
    at: SliceRef
    region: str
    image: Path

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask on the slice's (H, W) grid.

        Raises:
            InputError: the labels cannot be read, lie on another grid than the image, or hold a value that is not in
                their table.
        """
        check_grid(self.labels.path, read_grid(self.labels.path), self.image, read_grid(self.image))
        stored = read_image(self.labels.path, self.at).pixels
        if stored.shape != tuple(shape):
            raise InputError(
                f"{self.labels.path}: its {self.at.plane} slices are {stored.shape[1]} x {stored.shape[0]} pixels and "
                f"those of its image {shape[1]} x {shape[0]}: labels must be drawn on the image's own grid"
            )
        return in_region(self.labels.translate(stored), self.region)


@dataclass(frozen=True)
class Case:
    """One exam of one patient.

    Attributes:
        id: unique within its dataset: the path of its folder or file, without suffix, relative to the dataset's root.
        images: modality ("t1", "t1ce", "t2", "flair"; "image" where that is unknown) -> volume, all on one grid.
        patient: whose it is, or None where that is unknown.
        study: the exam, unique within the dataset, or None.
        labels: where the tumour is drawn, or None.
        tumour: the class of the tumour ("glioma"), or None where it is unknown.
        plane: the plane it was acquired in, where something better than the spacing tells.
        spaced: whether the header's spacing is real; False where it is known to be a placeholder.
    """

    id: str
    images: Mapping[str, VolumeRef]
    patient: str | None = None
    study: str | None = None
    labels: LabelRef | None = None
    tumour: str | None = None
    plane: str | None = None
    spaced: bool = True

    def image(self, modality: str | None = None) -> VolumeRef:
        """Return one of the volumes: by default the contrast-enhanced T1, or the only one.

        Raises:
            InputError: the case has none of that modality.
        """
        wanted = modality or ("t1ce" if "t1ce" in self.images else next(iter(self.images)))
        if wanted not in self.images:
            raise InputError(f"{self.id} has no {wanted} volume: it has {', '.join(self.images)}")
        return self.images[wanted]


@dataclass(frozen=True)
class Cases:
    """A dataset as volumes; attributes as in :class:`gyrus.records.Dataset`."""

    info: DatasetInfo
    root: Path
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()


def read_labels(case: Case, modality: str | None = None) -> NDArray[np.uint8]:
    """Return a case's labels in the common vocabulary, (I, J, K) uint8 indices into :data:`LABELS`.

    Args:
        case: whose.
        modality: on the grid of which of its volumes; as :meth:`Case.image`.

    Raises:
        InputError: it has none, they lie on another grid than that volume, or a value is not in their table.
    """
    if case.labels is None:
        raise InputError(f"{case.id} has no labels: choose a case whose tumour is drawn")
    volume, image = read_volume(case.labels.path), case.image(modality)
    check_grid(case.labels.path, volume.grid, image.path, read_grid(image.path))
    return case.labels.translate(volume.voxels)


def in_region(labels: NDArray[np.uint8], region: str) -> NDArray[np.bool_]:
    """Return where labels of the common vocabulary, of any shape, belong to a region.

    Raises:
        InputError: there is no such region.
    """
    if region not in REGIONS:
        raise InputError(f"there is no region {region!r} of a tumour: choose {' or '.join(REGIONS)}")
    return np.isin(labels, [LABELS.index(name) for name in REGIONS[region]])


def check_grid(labels: Path, drawn: Grid, image: Path, grid: Grid) -> None:
    """Refuse labels that do not lie on their image's grid.

    Raises:
        InputError: another shape, or a voxel that lies elsewhere by more than a tenth of its size.
    """
    if drawn.shape != grid.shape:
        raise InputError(
            f"{labels} has {' x '.join(map(str, drawn.shape))} voxels and its image {image.name} "
            f"{' x '.join(map(str, grid.shape))}: labels must be drawn on the image's own grid"
        )
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(grid.shape) - 1)  # one of them lies furthest away
    apart = np.abs(np.c_[corners, np.ones(8)] @ (drawn.affine - grid.affine).T).max()
    if apart > 0.1 * min(grid.spacing):
        raise InputError(
            f"{labels} lies {apart:.2g} mm away from its image {image.name}: labels must be drawn on the image's grid"
        )


def relative_name(path: Path, root: Path) -> str:
    """Return a POSIX path relative to a dataset's root; what is the root itself is called by its own name."""
    return path.relative_to(root).as_posix() if path != root else path.absolute().name


def chosen(slices: Slices, count: int, where: str) -> list[int]:
    """Return the indices that are meant, ascending and each once.

    Raises:
        InputError: an index beyond the volume, or a word that is not "all" or "middle".
    """
    if slices == "all":
        return list(range(count))
    if slices == "middle":
        return [count // 2]
    if isinstance(slices, str):
        raise InputError(f"there is no slice {slices!r}: choose all, middle, or numbers from 0")
    wanted = sorted({slices} if isinstance(slices, int) else set(slices))
    beyond = [i for i in wanted if not 0 <= i < count]
    if beyond or not wanted:
        raise InputError(f"{where} has slices 0 to {count - 1}, no {beyond[0] if beyond else 'empty list'}: choose one")
    return wanted


def case_records(
    cases: Cases,
    *,
    modality: str | None = None,
    plane: str | None = None,
    slices: Slices = "all",
    region: str = "core",
) -> Dataset:
    """Return the slices of every case as a dataset; headers are read, pixels are not.

    A slice has no label: only its pixels tell whether the tumour reaches it. :func:`gyrus.convert.convert_data` looks.

    Args:
        cases: from :func:`gyrus.datasets.registry.open_cases`.
        modality: which volume of each case; the contrast-enhanced T1, or the only one, by default.
        plane: of the slices; by default the one each volume was acquired in.
        slices: which ones of each volume.
        region: what the masks show.

    Raises:
        InputError: a volume that cannot be read, a modality a case lacks, or a slice it does not have.
    """
    records = []
    for case in cases.cases:
        ref = case.image(modality)
        grid = read_grid(ref.path)
        cut = plane or case.plane or grid.acquired
        name = relative_name(ref.path, cases.root)
        for index in chosen(slices, grid.count(cut), f"{ref.path} ({cut})"):
            drawn = None if case.labels is None else LabelMask(case.labels, SliceRef(cut, index), region, ref.path)
            records.append(
                Record(
                    id=f"{name}#{cut}-{index}",
                    path=ref.path,
                    at=SliceRef(cut, index, ref.channel),
                    spaced=case.spaced,
                    patient=case.patient,
                    study=case.study,
                    mask=drawn,
                    plane=cut,
                    source=cases.info.name,
                )
            )
    return Dataset(info=cases.info, root=cases.root, records=tuple(records), notes=cases.notes)
