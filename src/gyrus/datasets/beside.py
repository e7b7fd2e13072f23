"""What else lies in a folder in which a dataset was found: no reader leaves out another dataset without a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from gyrus.datasets.listing import and_more, listing
from gyrus.datasets.registry import recognise
from gyrus.errors import InputError
from gyrus.io import IMAGE_SUFFIXES, VOLUME_SUFFIXES

_ANYTHING = frozenset({"volumes", "folder"})
"""The readers that take any volumes, or any folders of pictures; all others know a dataset by its names."""
_PIXELS = (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES)


def left_out(root: Path, name: str, holding: Iterable[Path]) -> tuple[str, ...]:
    """Return a note on what lies beside the folders that a reader takes; where that is another dataset, refuse.

    Among cases a folder is another dataset only if it is known by its names: one of volumes may be a case of which too
    little is there. Beside the folder of a whole dataset, volumes and folders of classes are another one too.

    Args:
        root: what is opened.
        name: of the reader.
        holding: the folders at or below ``root`` that hold what it takes; whatever lies in them is theirs.

    Returns:
        One sentence, or none where nothing was left out.

    Raises:
        InputError: another dataset lies beside it; the message names all of them.
    """
    taken = set(holding)
    above = _above(root, taken)
    used = taken | above
    left: list[Path] = []
    for level in sorted(above):
        here = listing(level)
        inside = [level / folder for folder in here.folders]
        own = [path for path in inside if path in used]
        others = [path for path in inside if path not in used]
        among_cases = level in taken or not taken.isdisjoint(own)
        kinds = {path: kind for path in others if (kind := _kind(path)) is not None}
        found = {p: k for p, k in kinds.items() if k not in (name, *_ANYTHING) or not among_cases}
        if found:
            cure = "put each into a folder of its own" if among_cases else "give them one by one"
            raise InputError(f"{_several(root, dict.fromkeys(own, name) | found)}: {cure}")
        left += others
        if level not in taken:
            left += [level / file for file in here.files if file.lower().endswith(_PIXELS)]
    names = [path.relative_to(root).as_posix() for path in left]
    return (f"Left out as no part of this dataset: {and_more(names)}.",) if names else ()


def refuse_datasets_in(root: Path) -> None:
    """Refuse a folder that is no dataset because it holds some; called once it is known that it cannot be opened.

    Raises:
        InputError: a sub-folder is a dataset known by its names; the message names all that are datasets.
    """
    found = {root / folder: kind for folder in listing(root).folders if (kind := _kind(root / folder)) is not None}
    if not set(found.values()) - _ANYTHING:
        return
    if len(found) > 1:
        raise InputError(f"{_several(root, found)}: give them one by one")
    ((path, kind),) = found.items()
    raise InputError(f"{root} is no dataset, but {path.name!r} in it is one ({kind}): name {path}")


def _above(root: Path, taken: Iterable[Path]) -> set[Path]:
    """Return the folders that lead from ``root``, which is one of them, to those that are taken."""
    above = {root}
    for folder in taken:
        while folder != root and (folder := folder.parent) not in above:
            above.add(folder)
    return above


def _kind(path: Path) -> str | None:
    """Return the name of the dataset that a folder is, or None; not every folder of folders is one of classes."""
    known = recognise(path)
    if known == "folder" and not any(map(_has_classes, (path, *(path / folder for folder in listing(path).folders)))):
        return None
    return known


def _has_classes(path: Path) -> bool:
    inside = [listing(path / folder) for folder in listing(path).folders]
    return len(inside) > 1 and all(one.images and not one.folders for one in inside)


def _several(root: Path, found: Mapping[Path, str]) -> str:
    """Return in words which datasets a folder holds, those of one kind together."""
    kinds: dict[str, list[str]] = {}
    for path, kind in found.items():
        kinds.setdefault(kind, []).append(path.relative_to(root).as_posix())
    named = ", ".join(f"{and_more(paths)} ({kind})" for kind, paths in kinds.items())
    return f"{root} holds several datasets, {named}"
