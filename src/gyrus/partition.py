"""A dataset cut into parts of whole groups, each part with every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.records import Dataset, Record

MOST_SEED = 2**32 - 1
_DEALS = 100


def fold_shares(fractions: Sequence[float]) -> tuple[int, int, int]:
    """Return how many of n equal folds each part gets: up to 20 that meet the fractions, up to 100 that nearly do.

    Raises:
        InputError: a part would get next to nothing.
    """
    for most, tolerance in ((20, 0.001), (100, 0.01 + 1e-9)):
        for n in range(2, most + 1):
            val, test = (max(1, round(f * n)) if f else 0 for f in fractions[1:])
            counts = (n - val - test, val, test)
            if counts[0] > 0 and all(abs(c / n - f) <= tolerance for c, f in zip(counts, fractions, strict=True)):
                return counts
    raise InputError(f"fractions {tuple(fractions)} leave a part with next to nothing: give each 0.01 or more")


def cut_folds(
    dataset: Dataset, shares: Sequence[int], of: Mapping[str, str], seed: int, *, grouping: str
) -> list[list[Record]]:
    """Cut a dataset into folds of whole groups with like class shares, and return the parts that these make up.

    Where folds of like shares leave a part without a class, since patients hold several, groups are dealt out by the
    rarest class that each holds.

    Args:
        dataset: labelled slices.
        shares: how many folds each part has.
        of: record id -> group.
        seed: of the shuffle.
        grouping: what a group is, for the errors; groups of "record-wise" are single slices.

    Raises:
        InputError: no labels, one class, fewer groups than folds in a class, a part that lacks one, or a seed beyond 32
            bits.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"the seed {seed} is out of range: choose one from 0 to {MOST_SEED}")
    records, n = labelled(dataset), sum(shares)
    names = [of[r.id] for r in records]
    labels = [str(r.label) for r in records]
    label, fewest = fewest_groups(records, of)
    wise = grouping == "record-wise"
    if fewest < n:
        unit = "slices" if wise else f"{grouping} groups"
        raise InputError(
            f"{dataset.root}: class {label!r} has {fewest} {unit}, too few for {n} folds: "
            "use coarser fractions or fewer folds"
        )
    if wise:
        cuts = StratifiedKFold(n, shuffle=True, random_state=seed).split(labels, labels)
    else:
        cuts = StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(labels, labels, names)
    fold = np.empty(len(records), dtype=np.intp)
    for i, (_, held) in enumerate(cuts):
        fold[held] = i
    part_of = np.repeat(np.arange(len(shares)), shares)
    filled = [part for part, share in enumerate(shares) if share]
    if {*zip(part_of[fold].tolist(), labels, strict=True)} != {(part, name) for part in filled for name in labels}:
        dealt = _dealt(names, labels, part_of, seed)
        if dealt is None:
            raise InputError(
                f"{dataset.root}: no cut of its {grouping} groups into {n} folds has every class in every part: "
                "use coarser fractions or fewer folds"
            )
        fold = dealt
    return [[r for r, f in zip(records, fold, strict=True) if part_of[f] == part] for part in range(len(shares))]


def _dealt(
    names: Sequence[str], labels: Sequence[str], part_of: NDArray[np.intp], seed: int
) -> NDArray[np.intp] | None:
    """Deal groups out to folds by the rarest class that each holds, and return each record's fold.

    Of many deals the one whose folds have the most even class shares is taken of those that give every part every
    class; None where there is none.
    """
    groups, group = np.unique(names, return_inverse=True)
    classes, kind = np.unique(labels, return_inverse=True)
    held = np.zeros((len(groups), len(classes)))
    np.add.at(held, (group, kind), 1)
    spread = np.count_nonzero(held, axis=0)
    rarest = np.where(held > 0, spread, len(groups) + 1).argmin(axis=1)
    rng, best, least = np.random.default_rng(seed), None, np.inf
    for _ in range(_DEALS):
        order = rng.permutation(len(groups))
        order = order[np.lexsort((rarest[order], spread[rarest[order]]))]
        place = np.empty(len(groups), dtype=np.intp)
        place[order] = np.arange(len(groups)) % len(part_of)
        in_folds, in_parts = np.zeros((len(part_of), len(classes))), np.zeros((int(part_of.max()) + 1, len(classes)))
        np.add.at(in_folds, place, held)
        np.add.at(in_parts, part_of, in_folds)
        uneven = float((in_folds / held.sum(axis=0)).std(axis=0).sum())
        if in_parts[np.unique(part_of)].all() and uneven < least:
            best, least = place[group], uneven
    return best


def fewest_groups(records: Sequence[Record], of: Mapping[str, str]) -> tuple[str, int]:
    """Return the class with the fewest groups, and how many these are."""
    per_class = Counter(label for _, label in {(of[r.id], str(r.label)) for r in records})
    return min(per_class.items(), key=lambda item: (item[1], item[0]))


def labelled(dataset: Dataset) -> list[Record]:
    """Return the records of a dataset that can be split by class, in an order of their own.

    Raises:
        InputError: there is none, one has no label, or all are of one class.
    """
    if len(dataset) == 0:
        raise InputError(f"{dataset.root} holds no slices: name a folder with images in it")
    unlabelled = next((r for r in dataset if r.label is None), None)
    if unlabelled is not None:
        raise InputError(f"{dataset.root}: record {unlabelled.id!r} has no label: label every slice, or remove it")
    if len(dataset.classes) < 2:
        raise InputError(f"{dataset.root} holds one class only ({dataset.classes[0]}): a classifier needs at least two")
    return sorted(dataset, key=lambda record: record.id)  # so that a split does not depend on how files are listed
