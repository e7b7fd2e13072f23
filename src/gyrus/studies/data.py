"""What studies make of a dataset: fewer classes, one plane, no copies of another set, a sample, added pictures.

Every function returns a :class:`Dataset` whose last note says in a sentence what was done; the one
given stays as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict

from gyrus.artifacts import is_finished, plain, read_manifest, stage_folder
from gyrus.datasets import open_dataset, write_manifest
from gyrus.datasets.listing import count
from gyrus.errors import InputError
from gyrus.geometry import scale_of
from gyrus.loading import Progress, batches
from gyrus.preprocess import Preprocess
from gyrus.records import PLANES, Dataset, Record
from gyrus.words import HEALTHY

if TYPE_CHECKING:
    from gyrus.augment import Augment

TUMOUR = "tumor"
COPY = "copy"
"""The ``subset`` of a picture that was made of another one; see :func:`originals`."""
ORIGINAL = "original"

_Levels = NDArray[np.uint8] | NDArray[np.uint16]
_Drawn = Iterable[tuple[str, Record, str, _Levels]]
"""The folder of a picture, the record it was made of, "original" or "copy", and its (H, W) grey levels."""


class Shift(BaseModel):
    """A listed transform: a rotation about the middle of the picture, then a shift, in the picture's own pixels.

    Attributes:
        x: to the right.
        y: downwards.
        rotate: degrees, counter-clockwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    x: float = 0.0
    y: float = 0.0
    rotate: float = 0.0

    def apply(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (H, W) picture moved, on the same grid, bilinear; what comes in from outside is its darkest."""
        height, width = pixels.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), self.rotate, 1.0)
        matrix[:, 2] += np.array([self.x, self.y])
        dark = float(pixels.min())
        return np.asarray(
            cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=dark), np.float32
        )


def binary(dataset: Dataset) -> Dataset:
    """Return the dataset with two classes: every label but no_tumor becomes tumor; an unknown one stays unknown."""
    records = [r if r.label in (None, HEALTHY) else replace(r, label=TUMOUR) for r in dataset]
    now = Counter(r.label for r in records)
    note = f"Labels joined to two classes: {now[TUMOUR]:,} tumor, {now[HEALTHY]:,} no_tumor."
    info = replace(dataset.info, classes=(HEALTHY, TUMOUR))
    return _noted(replace(dataset, info=info), records, note)


def of_classes(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """Return the slices of these classes.

    Raises:
        InputError: the dataset has no slice of one of them.
    """
    unknown = [c for c in classes if c not in dataset.classes]
    if unknown:
        raise InputError(
            f"{dataset.root} has no slice of class {unknown[0]!r}: choose from {', '.join(dataset.classes)}"
        )
    kept = [r for r in dataset if r.label in classes]
    info = replace(dataset.info, classes=tuple(sorted(classes)))
    return _noted(
        replace(dataset, info=info), kept, f"{_of(kept, dataset)} are of {' or '.join(sorted(classes))} and kept."
    )


def with_planes(dataset: Dataset, *, progress: Progress | None = None) -> Dataset:
    """Return the dataset with the plane of every slice that does not say, as :mod:`gyrus.planes` recognises it.

    Where it is unsure the plane stays None. Every such slice is read.

    Args:
        dataset: any dataset.
        progress: called as slices are read.

    Raises:
        InputError: a slice cannot be read.
    """
    from gyrus.planes import recognise_planes  # torch

    unknown = [r for r in dataset if r.plane is None]
    guesses = recognise_planes(unknown, progress=progress)
    planes = {r.id: guess.plane for r, guess in zip(unknown, guesses, strict=True)}
    records = [replace(r, plane=r.plane or planes[r.id]) for r in dataset]
    unsure = sum(plane is None for plane in planes.values())
    note = f"Planes of {count(len(unknown), 'slice')} recognised by their pixels; {unsure:,} unsure and left open."
    return _noted(dataset, records, note)


def in_planes(dataset: Dataset, planes: Sequence[str]) -> Dataset:
    """Return the slices that are known to be of these planes.

    Raises:
        InputError: no such plane, no plane is known, or no slice is of these.
    """
    wrong = [p for p in planes if p not in PLANES]
    if wrong:
        raise InputError(f"there is no plane {wrong[0]!r}: choose from {', '.join(PLANES)}")
    if all(r.plane is None for r in dataset):
        raise InputError(f"{dataset.root} does not say the plane of any slice: recognise them first (with_planes)")
    kept = [r for r in dataset if r.plane in planes]
    named = " or ".join(planes)
    if not kept:
        raise InputError(f"{dataset.root} has no {named} slice: choose other planes")
    unsure = sum(r.plane is None for r in dataset)
    return _noted(
        dataset, kept, f"{_of(kept, dataset)} are {named} and kept; of {unsure:,} left out the plane is unknown."
    )


def without_copies(dataset: Dataset, of: Dataset, *, progress: Progress | None = None) -> Dataset:
    """Return the slices of which no copy is in another dataset, see :func:`gyrus.duplicates.find_copies`.

    Both datasets are read and compared as one, so a slice goes too where it copies one that copies one of ``of``.

    Args:
        dataset: what to clean.
        of: what it may share nothing with.
        progress: called while slices are compared.

    Raises:
        InputError: a slice cannot be read, so that nobody knows whether it is a copy; or nothing is left.
    """
    from gyrus.duplicates import find_copies  # its index

    copies = find_copies((*dataset.records, *of.records), progress=progress)
    if copies.unreadable:
        raise InputError(next(iter(copies.unreadable.values())))
    dropped: set[int] = set()
    for cluster in copies.clusters:
        if max(cluster) >= len(dataset):
            dropped.update(cluster)
    kept = [r for i, r in enumerate(dataset) if i not in dropped]
    if not kept:
        raise InputError(f"every slice of {dataset.root} is a copy of one in {of.root}: test on another dataset")
    gone = len(dataset) - len(kept)
    note = f"{count(gone, 'slice')} of {len(dataset):,} left out, because {of.info.name} holds a copy."
    return _noted(dataset, kept, note)


def sampled(dataset: Dataset, n: int, seed: int, *, whole_groups: Mapping[str, str] | None) -> Dataset:
    """Return about n slices with the class shares of all.

    Groups are gone through in random order, and each is taken that brings the classes nearer to their share of n.

    Args:
        dataset: any dataset; one of n slices or fewer is returned as it is.
        n: how many, met to within about one group per class.
        seed: of the order.
        whole_groups: record id -> what is taken whole or not at all (patients, clusters); None takes single slices.

    Raises:
        InputError: a slice without a group, or a class of which nothing would be left.
    """
    if n >= len(dataset):
        return dataset
    members: dict[str, list[Record]] = defaultdict(list)
    for record in dataset:
        members[record.id if whole_groups is None else _group(whole_groups, record)].append(record)
    wanted = {label: n * k / len(dataset) for label, k in Counter(r.label for r in dataset).items()}
    names = sorted(members)
    chosen: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(names)):
        group = members[names[i]]
        labels = Counter(r.label for r in group)
        if sum(abs(wanted[c]) - abs(wanted[c] - k) for c, k in labels.items()) > 0:
            chosen.update(r.id for r in group)
            wanted = {c: w - labels[c] for c, w in wanted.items()}
    kept = [r for r in dataset if r.id in chosen]
    lost = sorted(set(dataset.classes) - {r.label for r in kept if r.label is not None})
    if lost:
        raise InputError(f"a sample of {n} of {dataset.root} holds no slice of {lost[0]!r}: take more slices")
    whole = "" if whole_groups is None else f" of {len({whole_groups[i] for i in chosen}):,} whole groups"
    return _noted(dataset, kept, f"A sample: {_of(kept, dataset)}{whole}, class shares kept, seed {seed}.")


def augmented(
    dataset: Dataset,
    copies: int | Mapping[str, int],
    folder: Path,
    *,
    augment: Augment,
    size: int,
    seed: int,
    groups: Mapping[str, str],
    progress: Progress | None = None,
) -> Dataset:
    """Write every slice and randomly changed copies of it: augmentation before the split, which some studies do.

    A split by record then puts copies of one picture on both sides. Every picture has the group of its source as its
    patient, so one by patient does not. Originals and copies are told apart by ``subset``, see :func:`originals`.
    Masks are not carried over.

    Args:
        dataset: labelled slices.
        copies: per slice, or class -> per slice of this class; the 2,065 pictures of study 5 are navoneel's 253 with
            6 copies of each tumor and 9 of each no_tumor.
        folder: where the pictures and their manifest go, with 8 hex digits of the arguments behind its name; what the
            same ones left there is opened again.
        augment: how far a copy may be changed.
        size: side of the pictures in pixels; slices are padded to squares.
        seed: of the changes, which depend on a slice's id besides, not on its place.
        groups: record id -> its patient, or cluster of copies.
        progress: called after each batch of slices.

    Raises:
        InputError: a class or slice that is not listed, a slice that cannot be read, or a folder with something else.
    """
    per_class = dict(copies) if isinstance(copies, Mapping) else dict.fromkeys(dataset.classes, copies)
    missing = next((r for r in dataset if r.label not in per_class), None)
    if missing is not None:
        raise InputError(f"{missing.id}: its class {missing.label!r} has no number of copies: add one, 0 for none")
    arguments = {
        "copies": per_class,
        "augment": augment.model_dump(),
        "size": size,
        "seed": seed,
    }
    drawn = _changed(dataset, per_class, augment, size, seed, progress)
    made = _kept(dataset, folder, "augment", arguments, groups, drawn)
    numbers = ", ".join(f"{n} of {label}" for label, n in sorted(per_class.items()))
    note = (
        f"{count(len(made) - len(dataset), 'copy', 'copies')} of {count(len(dataset), 'slice')} made before any split "
        f"({numbers} each), all {size} px wide; patients stand for the groups of their sources."
    )
    return _noted(made, made.records, note)


def rebalanced(
    dataset: Dataset,
    images: Sequence[str],
    transforms: Sequence[Shift],
    folder: Path,
    *,
    groups: Mapping[str, str],
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset with a copy of each listed slice under each listed transform.

    The slices stay where they are, but for the group each gets as its patient, which its copies share: a split by
    patient keeps them together. The copies are as wide and high as their source and have the subset "copy". Masks are
    not carried over to them.

    Args:
        dataset: any dataset.
        images: ids of the slices to copy.
        transforms: what makes a copy of each.
        folder: as for :func:`augmented`, for the copies and their manifest.
        groups: record id -> its patient, or cluster of copies.
        progress: called after each listed slice.

    Raises:
        InputError: nothing listed, an id or group that is not there, a slice that cannot be read, or a folder with
            something else.
    """
    if not images or not transforms:
        raise InputError(f"{dataset.root}: there is nothing to add: list at least one image and one transform")
    listed = dataset.select(images)
    arguments = {"images": list(images), "transforms": [t.model_dump() for t in transforms]}
    made = _kept(listed, folder, "rebalance", arguments, groups, _shifted(listed, transforms, progress))
    records = [replace(r, patient=_group(groups, r)) for r in dataset]
    note = (
        f"{count(len(made), 'copy', 'copies')} of {count(len(listed), 'listed slice')} added "
        f"({count(len(transforms), 'transform')}); patients stand for the groups of their sources."
    )
    return _noted(dataset, (*records, *made.records), note)


def originals(dataset: Dataset) -> tuple[str, ...]:
    """Return the ids of the slices that :func:`augmented` or :func:`rebalanced` did not make out of others."""
    return tuple(r.id for r in dataset if r.subset != COPY)


def _changed(
    dataset: Dataset, copies: Mapping[str, int], augment: Augment, size: int, seed: int, progress: Progress | None
) -> Iterator[tuple[str, Record, str, _Levels]]:
    """Yield every slice, 8-bit and square, and its changed copies."""
    import torch

    from gyrus.augment import apply, draw

    spec = Preprocess(size=size, intensity=(0, 100))
    for batch in batches(dataset.records, spec, 32, what="augmenting", progress=progress):
        for record, pixels in zip(batch.records, batch.slices, strict=True):
            yield ORIGINAL, record, ORIGINAL, pixels
            n = copies[str(record.label)]
            if n == 0:
                continue
            generator = torch.Generator().manual_seed(_seed(seed, record.id))
            moved = apply(torch.from_numpy(pixels).expand(n, -1, -1), draw(augment, n, generator))
            for i, one in enumerate(moved.round().to(torch.uint8).numpy(), start=1):
                yield f"{COPY}-{i}", record, COPY, one


def _shifted(
    listed: Dataset, transforms: Sequence[Shift], progress: Progress | None
) -> Iterator[tuple[str, Record, str, _Levels]]:
    """Yield every slice under every transform, at its own size and depth."""
    for done, record in enumerate(listed, start=1):
        pixels = record.read().pixels
        scale = scale_of(pixels, stretch=False)
        for i, transform in enumerate(transforms, start=1):
            yield f"shifted-{i}", record, COPY, scale.encode(transform.apply(pixels))
        if progress:
            progress("shifting", done, len(listed))


def _kept(
    dataset: Dataset, folder: Path, stage: str, arguments: Mapping[str, Any], groups: Mapping[str, str], drawn: _Drawn
) -> Dataset:
    """Return what was drawn as a dataset of PNG files, or what the same arguments left there before."""
    of = {r.id: _group(groups, r) for r in dataset}
    given = plain({**arguments, "fingerprint": dataset.fingerprint, "groups": _digest(of)})
    folder = folder.with_name(f"{folder.name}-{_digest(given)[:8]}")
    if is_finished(folder):
        before = read_manifest(folder)
        if (before["stage"], before["arguments"]) == (stage, given):
            return open_dataset(folder, "manifest")
    with stage_folder(folder, stage, arguments=given) as aside:
        records = []
        for place, record, subset, levels in drawn:
            file = _file(place, record.id)
            (aside / file).parent.mkdir(parents=True, exist_ok=True)
            Pillow.fromarray(levels).save(aside / file, compress_level=3)
            records.append(
                Record(
                    id=file,
                    path=aside / file,
                    label=record.label,
                    patient=of[record.id],
                    plane=record.plane,
                    subset=subset,
                    source=record.source,
                )
            )
        write_manifest(Dataset(dataset.info, aside, tuple(records)), aside / "manifest.csv")
    return open_dataset(folder, "manifest")


def _file(place: str, id: str) -> str:
    """Return where a picture is kept: the id of its source with .png behind, without what leads out of the folder."""
    path = PurePosixPath(id)
    inside = [path.name] if path.is_absolute() else [part for part in path.parts if part != ".."]
    return f"{PurePosixPath(place, *inside)}.png"


def _group(groups: Mapping[str, str], record: Record) -> str:
    try:
        return groups[record.id]
    except KeyError:
        raise InputError(f"record {record.id!r} has no group: group the same slices (gyrus.group_slices)") from None


def _seed(seed: int, id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\t{id}".encode("utf-8", "surrogateescape")).digest()[:4], "big")


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _of(kept: Sequence[Record], dataset: Dataset) -> str:
    return f"{len(kept):,} of {count(len(dataset), 'slice')}"


def _noted(dataset: Dataset, records: Iterable[Record], note: str) -> Dataset:
    return replace(dataset, records=tuple(records), notes=(*dataset.notes, note))
