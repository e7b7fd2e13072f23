"""One sub-folder per class, with or without a Training/Testing level above: the shape most public sets have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from gyrus.datasets.beside import refuse_datasets_in
from gyrus.datasets.listing import and_more, class_name, count, listing, natural_key, part_of
from gyrus.datasets.registry import DatasetReader
from gyrus.errors import InputError
from gyrus.records import Dataset, DatasetInfo, Record

_SUBSETS = {
    "training": "Training",
    "train": "Training",
    "testing": "Testing",
    "test": "Testing",
    "validation": "Validation",
    "valid": "Validation",
    "val": "Validation",
}

INFO = DatasetInfo(
    name="folder",
    title="A folder with one sub-folder of images per class",
    citation="",
    licence="not stated",
    classes=(),
    faults=("A folder of classes says nothing about patients, so slices of one person may be spread over a split.",),
)


def has_folders(root: Path) -> bool:
    """Tell whether ``root`` is a folder with at least one visible sub-folder."""
    return root.is_dir() and bool(listing(root).folders)


def has_classes(root: Path, names: frozenset[str]) -> bool:
    """Tell whether ``root`` is a folder with, among others, sub-folders of exactly these names."""
    return root.is_dir() and names <= frozenset(listing(root).folders)


def open_folder(
    root: Path, info: DatasetInfo = INFO, published: int | None = None, passed_over: Mapping[str, str] | None = None
) -> Dataset:
    """Open a folder of class folders.

    The level above the classes may be Training, Testing or Validation (or train, test, val), which become the records'
    ``subset``. Class names are brought to one spelling, see :func:`gyrus.datasets.listing.class_name`.

    Args:
        root: the folder.
        info: what is published about it; its name becomes the records' ``source``.
        published: how many slices the published dataset has, for a note where there are more or fewer.
        passed_over: sub-folders of ``root`` that hold no class, each with the reason, which becomes a note.

    Raises:
        InputError: no class folders, only one class, a class folder without images, or levels that are mixed.
    """
    here = listing(root)
    skipped = {name: reason for name, reason in (passed_over or {}).items() if name in here.folders}
    folders = tuple(name for name in here.folders if name not in skipped)
    notes = [f"The folder {name!r} was left out: {reason}." for name, reason in skipped.items()]
    if not folders:
        raise InputError(f"{root} holds no class folders: put the images into one sub-folder per class")
    subsets = {name: _SUBSETS[name.lower()] for name in folders if name.lower() in _SUBSETS}
    if subsets and len(subsets) < len(folders):
        odd = next(name for name in folders if name not in subsets)
        raise InputError(
            f"{root} mixes levels: {next(iter(subsets))!r} is a part of a split and {odd!r} is not; "
            "put every class folder inside a part, or none"
        )
    _refuse_images(root, here.images)
    aside = list(here.others)
    records: list[Record] = []
    spellings: dict[str, set[str]] = defaultdict(set)
    for part in subsets or (None,):
        level = root if part is None else root / part
        found = _open_level(level, folders if part is None else None, aside)
        for folder, images in found.items():
            spellings[class_name(folder)].add(folder)
            prefix = folder if part is None else f"{part}/{folder}"
            records += [
                Record(
                    id=f"{prefix}/{image}",
                    path=level / folder / image,
                    label=class_name(folder),
                    subset=None if part is None else subsets[part],
                    source=info.name,
                )
                for image in images
            ]
    if len(spellings) < 2:
        raise InputError(
            f"{root} holds only one class, {next(iter(spellings))!r}: a classifier needs at least two class folders"
        )
    records.sort(key=lambda record: natural_key(record.id))
    notes += [
        f"The folders {and_more(sorted(names))} were read as one class, {label!r}."
        for label, names in sorted(spellings.items())
        if len(names) > 1
    ]
    if aside:
        notes.append(f"{count(len(aside), 'file')} with the suffix of no image left out: {and_more(aside)}.")
    if published is not None:
        notes += part_of(len(records), published)
    return Dataset(info=info, root=root, records=tuple(records), notes=tuple(notes))


def _open_level(level: Path, folders: tuple[str, ...] | None, aside: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the image names of each class folder in ``level``; what is no image is added to ``aside``."""
    if folders is None:
        here = listing(level)
        folders = here.folders
        _refuse_images(level, here.images)
        aside += here.others
        if not folders:
            raise InputError(f"{level} holds no class folders: fill it or remove it")
    found = {}
    for folder in folders:
        inside = listing(level / folder)
        if inside.folders and inside.images:
            raise InputError(
                f"{level / folder} mixes levels: it holds images beside the folder {inside.folders[0]!r}; "
                "a class folder holds images only"
            )
        if inside.folders:
            raise InputError(
                f"{level / folder} holds folders where the images of a class were expected: "
                "open that folder itself, or move its images up"
            )
        if not inside.images:
            raise InputError(f"{level / folder} holds no images: fill this class folder or remove it")
        found[folder] = inside.images
        aside += inside.others
    return found


def _refuse_images(level: Path, images: tuple[str, ...]) -> None:
    if images:
        raise InputError(
            f"{level} mixes levels: it holds images ({and_more(images, 1)}) beside class folders; "
            "move every image into its class folder"
        )


def open_classes(root: Path) -> Dataset:
    """Open any folder of class folders.

    Raises:
        InputError: as :func:`open_folder`; where datasets lie in it that are no classes, the message names these.
    """
    try:
        return open_folder(root)
    except InputError:
        refuse_datasets_in(root)
        raise


READER = DatasetReader(
    info=INFO,
    recognises=has_folders,
    open=open_classes,
    looks_for="one sub-folder of images per class, or Training/ and Testing/ with such sub-folders",
)
