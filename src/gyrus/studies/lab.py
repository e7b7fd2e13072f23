"""The datasets of one study: opened, made from one another, thinned to a scale, and grouped, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from gyrus.artifacts import read_json, sha256, to_json, write_json
from gyrus.datasets import open_dataset
from gyrus.datasets.registry import recognise
from gyrus.duplicates import find_copies
from gyrus.errors import InputError
from gyrus.groups import Groups, group_slices, join_groups, unknown_patients
from gyrus.loading import Progress
from gyrus.phantom import make_phantom
from gyrus.records import Dataset
from gyrus.studies import data
from gyrus.studies.plans import Data, Phantom, Scale
from gyrus.studies.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Source:
    """Slices to train or test on.

    Attributes:
        dataset: the slices.
        whole: what a split is saved for: the dataset they are selected from, or ``dataset`` where pixels or labels
            differ from any dataset on disk.
        groups: of every slice of ``whole``.
        made_from: the folder of the dataset that all of this goes back to, where it was made from another.
        persons_from: the folder of the dataset that tells whose the slices are, where that is another.
    """

    dataset: Dataset
    whole: Dataset
    groups: Groups
    made_from: Path | None = None
    persons_from: Path | None = None

    @property
    def origin(self) -> Path:
        """The folder of the dataset that was opened: whoever has the same one has the same people."""
        return self.made_from or self.whole.root

    @cached_property
    def outlines(self) -> str:
        """16 hex digits that change with the outline of any slice, which the fingerprint does not cover."""
        return digest_outlines(self.dataset)


class Datasets:
    """The datasets of one study by name, each made on first use.

    Args:
        recipe: the study.
        scale: how many slices of each.
        roots: name -> folder of each dataset in ``recipe.data``.
        folder: where groups and written images are kept.
        progress: called while slices are read.
    """

    def __init__(
        self, recipe: Recipe, scale: Scale, roots: Mapping[str, Path], folder: Path, progress: Progress | None = None
    ) -> None:
        self.recipe, self.scale, self.roots, self.folder, self.progress = recipe, scale, roots, folder, progress
        self._made: dict[str, Source] = {}

    def __getitem__(self, name: str) -> Source:
        if name not in self._made:
            plan = self.recipe.derived.get(name)
            self._made[name] = self._opened(name) if plan is None else self._derived(name, plan)
        return self._made[name]

    def _made_up(self, plan: Phantom) -> Source:
        patients = min(plan.patients, self.scale.phantoms or plan.patients)
        look = "-varied" if plan.varied else ""
        root = self.folder / f"phantom-{patients}-{plan.seed}{look}"
        if not root.exists():
            make_phantom(root, patients=patients, seed=plan.seed, varied=plan.varied)
        dataset = open_dataset(root)
        return Source(dataset, dataset, self._grouped(dataset))

    def _opened(self, name: str) -> Source:
        dataset = open_dataset(self.roots[name])
        groups = self._grouped(dataset)
        if self.scale.slices is None or self.scale.slices >= len(dataset):
            return Source(dataset, dataset, groups)
        fewer = data.sampled(dataset, self.scale.slices, 0, whole_groups=groups.of)
        return Source(fewer, dataset, groups)

    def _derived(self, name: str, plan: Data) -> Source:
        source = self[plan.of] if plan.of is not None else self._made_up(plan.phantom or Phantom())
        found, groups, selected = source.dataset, source.groups, True
        origin, persons = source.origin, source.persons_from
        if plan.persons_from is not None and not found.has_patients:
            known = self[plan.persons_from]
            groups, persons = self._joined(source, known), known.origin
        if plan.classes:
            found = data.of_classes(found, plan.classes)
        if plan.planes:
            found = data.in_planes(data.with_planes(found, progress=self.progress), plan.planes)
        if plan.without_copies_of is not None:
            found = data.without_copies(found, self[plan.without_copies_of].dataset, progress=self.progress)
        if plan.binary:
            found, selected = data.binary(found), False
        if plan.rebalanced is not None:
            fix = plan.rebalanced
            seen = data.with_planes(found, progress=self.progress)
            repeated = [r.id for r in seen if r.label == fix.label and r.plane in fix.planes]
            found = data.rebalanced(found, repeated, fix.transforms, self.folder / name, groups=groups.of)
            selected = False
        if plan.augmented is not None:
            copies = plan.augmented
            found = data.augmented(
                found, copies.copies, self.folder / name, augment=copies.augment, size=copies.size, seed=0,
                groups=groups.of,
            )  # fmt: skip
            selected = False
        if selected:
            return Source(found, source.whole, groups, origin, persons)
        if plan.rebalanced is not None or plan.augmented is not None:
            named = {r.id: str(r.patient) for r in found}  # the group of the slice that each was made from
            return Source(found, found, replace(groups, of=named, unknown=None), origin, persons)
        return Source(found, found, replace(groups, of={r.id: groups.of[r.id] for r in found}), origin, persons)

    def _grouped(self, dataset: Dataset) -> Groups:
        """Return the dataset's groups; clusters, which take reading every slice, are kept on disk."""
        if dataset.has_patients:
            return group_slices(dataset, "patient")
        unknown = unknown_patients(dataset)
        # By another name where some patients are known, since those that an earlier gyrus kept tear patients apart.
        kind = "clusters" if len(unknown) == len(dataset) else "clusters-and-patients"
        file = self.folder / f"{kind}-{dataset.fingerprint}.json"
        if file.is_file():
            return Groups("cluster", read_json(file, "the clusters of a dataset"), (), unknown)
        groups = group_slices(dataset, "cluster", progress=self.progress)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, dict(groups.of))
        return groups

    def _joined(self, source: Source, known: Source) -> Groups:
        """Return groups that keep together the slices of one person, known from the copies in another dataset."""
        file = self.folder / f"persons-{source.whole.fingerprint}-{known.whole.fingerprint}.json"
        if not file.is_file():
            records = [*source.whole, *known.whole]
            names = join_groups(records, find_copies(records, progress=self.progress))
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, {r.id: name for r, name in zip(source.whole, names, strict=False)})
        # Not "patient": whose the other slices are is as unknown as before.
        return Groups("cluster", read_json(file, "the persons of a dataset"), (), unknown_patients(source.whole))


def digest_outlines(dataset: Dataset) -> str:
    """Return 16 hex digits that change with what any outline is made from; files are read whole and not decoded."""

    @cache
    def content(path: Path) -> str:
        return sha256(path) if path.is_file() else ""  # what is missing, its reader will name

    def told(value: Any) -> object:
        if isinstance(value, Path):
            return content(value)
        if is_dataclass(value):
            # Where an outline is listed is for messages, and changes with the place of the dataset.
            return [told(getattr(value, f.name)) for f in fields(value) if f.name != "where"]
        return str(value)

    return hashlib.sha256(to_json([[r.id, told(r.mask)] for r in dataset]).encode()).hexdigest()[:16]


def find_roots(recipe: Recipe, given: tuple[str, ...]) -> dict[str, Path]:
    """Return where each dataset of a study is.

    Args:
        recipe: the study.
        given: as on the command line: ``NAME=FOLDER``, a dataset's folder, or a folder that holds them by name.

    Raises:
        InputError: a dataset is in none of them, or a name is not the study's.
    """
    roots: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if equals:
            if name not in recipe.data:
                raise InputError(f"{recipe.name} needs no dataset {name!r}: it needs {', '.join(recipe.data)}")
            roots[name] = Path(folder)
            continue
        path = Path(text)
        inside = {known: path / known for known in recipe.data if (path / known).exists()}
        found = recognise(path) if path.exists() and not inside else None
        roots |= inside or ({found: path} if found in recipe.data else {})
    missing = [name for name in recipe.data if name not in roots]
    if missing:
        raise InputError(
            f"{recipe.name} needs {', '.join(missing)}, which is not in {', '.join(given) or 'any --data'}: "
            f"say where it is with --data {missing[0]}=FOLDER"
        )
    for name, root in roots.items():
        if not root.exists():
            raise InputError(f"{root}, given as {name}, does not exist: check the path")
    return roots
