"""Record and Dataset: slices that are read only when asked for, and the table beside them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.io import Image, SliceRef, read_image
from gyrus.paths import PathLike

PLANES = ("axial", "coronal", "sagittal")


class MaskRef(Protocol):
    """Where a tumour mask is kept; read on demand, like the pixels."""

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask on the image's own (H, W) grid.

        Raises:
            InputError: the mask cannot be read or does not fit the image.
        """
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """One slice: where its pixels are, whose they are and what is known about them.

    Attributes:
        id: unique within its dataset and stable between machines; a POSIX path relative to the dataset's root, and for
            a slice of a volume its plane and index behind that ("T1.nii.gz#axial-12").
        path: the file that holds the pixels; for a slice of a DICOM series, the folder of its files. Text becomes a
            Path.
        label: the class name, or None where unknown.
        patient: whose slice it is; None where the dataset does not say. Splits are grouped by this.
        study: the exam within the patient, where known.
        mask: the tumour's outline, or None where there is none or it is unknown.
        plane: "axial", "coronal", "sagittal", or None where unknown.
        subset: the part of an official split the slice ships in ("Training", "Testing", "fold-1"), or None.
        source: the name of the dataset it comes from.
        at: which slice of a volume it is, or None where the file is one slice.
        spaced: whether the spacing that the file states is real; False where it is known to be a placeholder.
    """

    id: str
    path: Path
    label: str | None = None
    patient: str | None = None
    study: str | None = None
    mask: MaskRef | None = field(default=None, repr=False)
    plane: str | None = None
    subset: str | None = None
    source: str = "files"
    at: SliceRef | None = None
    spaced: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _path(self.path))

    def read(self) -> Image:
        """Read the pixels from disk; a spacing that is a placeholder is left out.

        Raises:
            InputError: the file is missing, damaged, or not an image gyrus reads; the message names it.
        """
        image = read_image(self.path, self.at)
        return image if self.spaced else replace(image, spacing=None)

    def read_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the tumour mask, (H, W) boolean on the image's grid, or None where there is none.

        Args:
            shape: (H, W) of this record's image.

        Raises:
            InputError: the mask does not fit the image; the message names the record.
        """
        return None if self.mask is None else self.mask.read(shape)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is published about a dataset: shown by ``gyrus info`` and printed on every report.

    Attributes:
        name: the registry's name for it.
        title: one line for people.
        citation: the paper or page to cite.
        licence: as its source states it.
        classes: the class names after spelling is normalised; empty where they depend on the folder.
        faults: known faults, one sentence each.
    """

    name: str
    title: str
    citation: str = ""
    licence: str = "not stated"
    classes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """An ordered collection of records, none of which has been read yet.

    Attributes:
        info: what is published about the dataset.
        root: the folder or file it was opened from; text becomes a Path.
        records: its slices, in a stable order.
        notes: what the reader noticed while opening it, one sentence each.
    """

    info: DatasetInfo
    root: Path
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", _path(self.root))
        twice = [i for i, n in Counter(r.id for r in self.records).items() if n > 1]
        if twice:
            raise InputError(f"{self.root}: the record id {twice[0]!r} occurs more than once; ids must be unique")

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, id: str) -> Record:
        return self._by_id[id]

    @cached_property
    def _by_id(self) -> dict[str, Record]:
        return {r.id: r for r in self.records}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names that occur, sorted."""
        return tuple(sorted({r.label for r in self.records if r.label is not None}))

    @property
    def has_patients(self) -> bool:
        """Whether every record says whose it is."""
        return bool(self.records) and all(r.patient is not None for r in self.records)

    @property
    def has_masks(self) -> bool:
        """Whether any record carries a tumour outline."""
        return any(r.mask is not None for r in self.records)

    def select(self, ids: Iterable[str]) -> Dataset:
        """Return the records with these ids, in the given order.

        Raises:
            InputError: an id is not in this dataset.
        """
        try:
            chosen = tuple(self._by_id[i] for i in ids)
        except KeyError as error:
            raise InputError(f"{self.root} holds no record {error.args[0]!r}: is this the right dataset?") from None
        return replace(self, records=chosen)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with any id, label, patient, or file size; no pixel is read."""
        digest = hashlib.sha256()
        sizes = {path: _size(path) for path in {r.path for r in self.records}}
        for r in sorted(self.records, key=lambda r: r.id):
            line = f"{r.id}\t{r.label}\t{r.patient}\t{sizes[r.path]}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))  # a file name need not be UTF-8
        return digest.hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """Return counts per class, plane and subset, and of patients, studies and masks, as a JSON-able dict."""

        def counts(values: Sequence[str | None]) -> dict[str, int]:
            return dict(sorted(Counter(v for v in values if v is not None).items()))

        return {
            "name": self.info.name,
            "title": self.info.title,
            "root": str(self.root),
            "fingerprint": self.fingerprint,
            "slices": len(self),
            "classes": counts([r.label for r in self]),
            "unlabelled": sum(r.label is None for r in self),
            "patients": len({r.patient for r in self if r.patient is not None}) or None,
            "patients_per_class": counts([r[1] for r in {(r.patient, r.label) for r in self if r.patient}]),
            "studies": len({r.study for r in self if r.study is not None}) or None,
            "masks": sum(r.mask is not None for r in self),
            "planes": counts([r.plane for r in self]),
            "subsets": counts([r.subset for r in self]),
            "citation": self.info.citation,
            "licence": self.info.licence,
            "faults": list(self.info.faults),
            "notes": list(self.notes),
        }


def _path(given: PathLike) -> Path:
    """Return a Path; one that is one already stays the same object, since the slices of a volume share theirs."""
    return given if isinstance(given, Path) else Path(given)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of the files in a folder, whose own size says nothing.

    Raises:
        InputError: it is not there.
    """
    try:
        return sum(p.stat().st_size for p in (path.iterdir() if path.is_dir() else [path]))
    except OSError:
        raise InputError(f"{path} does not exist: restore it, or correct the table that names it") from None
