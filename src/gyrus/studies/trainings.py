"""One experiment of a study: trained over seeds and folds, each run kept by a fingerprint of what it was made from."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import is_finished, read_json, read_manifest, sha256, stage_folder, to_json
from gyrus.datasets.listing import count
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.groups import group_slices
from gyrus.inference import predict, predict_frozen
from gyrus.loading import Progress
from gyrus.models import Classifier, load_model
from gyrus.models.registry import SOURCES
from gyrus.predictions import Predictions, joined
from gyrus.records import Record
from gyrus.splits import Split, holdout, kfold
from gyrus.studies import data
from gyrus.studies.lab import Datasets, Source
from gyrus.studies.plans import SplitPlan, Training
from gyrus.studies.recipe import Recipe
from gyrus.trainconfig import TrainConfig, make_config
from gyrus.training import EPOCHS, fit


@dataclass(frozen=True, eq=False)
class Unit:
    """One training run of an experiment.

    Attributes:
        run: its folder.
        seed: of split and weights.
        split: which slices it learns from and which it classifies.
        config: its recipe.
        source: its slices.
        test: records that it classifies.
    """

    run: Path
    seed: int
    split: Split
    config: TrainConfig
    source: Source
    test: tuple[Record, ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the runs of one experiment said about slices that they did not learn from.

    Attributes:
        units: its runs.
        classes: C names.
        ids: N record ids; a slice occurs once per seed.
        groups: N groups, as the honest protocol knows them, whatever the split was.
        seeds: (N,) of the run.
        truth: (N,) class indices.
        logits: (N, C) float32.
        epochs: per run the rows of its epochs.
        chosen: per run the row of the epoch that was kept.
        minutes: spent training, all runs together.
    """

    units: tuple[Unit, ...]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    seeds: NDArray[np.int64]
    truth: NDArray[np.int64]
    logits: NDArray[np.float32]
    epochs: tuple[tuple[Mapping[str, float], ...], ...]
    chosen: tuple[Mapping[str, float], ...]
    minutes: float

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, C) softmax of the logits."""
        return softmax(self.logits)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the most probable class is the true one."""
        return np.asarray(self.logits.argmax(axis=1) == self.truth)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the softmax over the last axis, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


class Trainings:
    """The experiments of one study at one scale, each done on first use and read from its files ever after.

    Args:
        recipe: the study.
        scale: "full" or one of its scales.
        datasets: its slices.
        folder: where the runs go.
        weights: architecture -> where its initial weights are.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.
    """

    def __init__(
        self,
        recipe: Recipe,
        scale: str,
        datasets: Datasets,
        folder: Path,
        *,
        weights: Mapping[str, str] | None = None,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.scale, self.datasets, self.folder = recipe, scale, datasets, folder
        self.weights, self.device, self.progress = weights or {}, device, progress
        self.features = folder / "features"
        self._done: dict[str, Outcome] = {}
        self._hashes: dict[str, str] = {}

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._done:
            teacher = self.recipe.trainings[name].teacher
            if teacher is not None:
                self[teacher]
            units = self.units(name)
            for n, unit in enumerate(units):
                if self.progress:
                    self.progress(f"{name}, run", n, len(units))
                self._train(unit)
            self._done[name] = self._outcome(name, units)
        return self._done[name]

    def units(self, name: str) -> tuple[Unit, ...]:
        """Return the runs of an experiment, seed by seed and fold by fold; none is trained yet."""
        plan, smaller = self.recipe.trainings[name], self.recipe.scale(self.scale)
        seeds = 1 if name in smaller.once else min(plan.seeds or self.recipe.seeds, smaller.seeds or 1000)
        source = self.datasets[plan.data]
        test = None if plan.test is None else self.datasets[plan.test]
        found = []
        for seed in range(seeds):
            config = self.recipe.config(name, self.scale, seed, self.weights)
            config = config.model_copy(update={"device": self.device})
            splits = make_splits(source, plan.split, seed, smaller.folds)
            paths = self._paths(plan, seed)
            key = _key(config, splits, test, paths, self._contents(config, source))
            config = make_config(
                **{**config.model_dump(), **{field: str(path.absolute()) for field, (path, _) in paths.items()}}
            )
            for k, split in enumerate(splits, start=1):
                if test is None:
                    records = tuple(source.whole.select(split.test))
                else:
                    records = _strangers(plan, test, source, split)
                if not records:
                    where = plan.test or plan.data
                    raise InputError(
                        f"no slice of {where} is left to test {name} on: give its split a test part, or test on slices "
                        "of persons that it does not learn from"
                    )
                run = self.folder / f"{name}-{key}" / f"seed-{seed}" / f"fold-{k}"
                found.append(Unit(run, seed, split, config, source, records))
        return tuple(found)

    def _paths(self, plan: Training, seed: int) -> dict[str, tuple[Path, str]]:
        """Return the fields of a recipe that are paths here, each with what stands for its content."""
        found = {}
        if plan.teacher is not None:
            taught = {unit.seed: unit.run for unit in self.units(plan.teacher)}
            run = taught.get(seed, taught[0])
            found["guide"] = run, run.relative_to(self.folder).parts[0]  # which ends in its key
        if plan.synthetic is not None:
            made = self.datasets[plan.synthetic].dataset
            found["synthetic"] = made.root, made.fingerprint
        return found

    def _contents(self, config: TrainConfig, source: Source) -> list[str]:
        """Return what stands for the files that a training reads and neither recipe nor fingerprint covers."""
        found = []
        weights = config.pretrained
        if weights not in SOURCES and Path(weights).is_file():
            if weights not in self._hashes:
                self._hashes[weights] = sha256(Path(weights))
            found.append(f"weights {self._hashes[weights]}")
        if config.guide == "mask":
            found.append(f"outlines {source.outlines}")
        return found

    def _train(self, unit: Unit) -> None:
        if not is_finished(unit.run):
            fit(
                unit.source.whole, unit.split, unit.config, unit.run, resume=unit.run.exists(), features=self.features,
                progress=self.progress,
            )  # fmt: skip
        if not is_finished(unit.run / "predict"):
            model = load_model(unit.run, device=pick_device(unit.config.device))
            facts = {"preprocess": model.spec.preprocess.model_dump(), "split": unit.split.statement}
            with stage_folder(unit.run / "predict", "predict", arguments={"part": "test"}, facts=facts) as folder:
                said = self.predict(model, unit.test, unit.config, unit.split.statement)
                said.save(folder / "predictions.json")

    def predict(
        self, model: Classifier, records: Sequence[Record], config: TrainConfig, statement: str = ""
    ) -> Predictions:
        """Return what a run's model says of some slices, by the features it was trained on where these are kept."""
        if not config.frozen:
            return predict(model, records, statement=statement, progress=self.progress)
        return predict_frozen(
            model, records, self.features, precision=config.precision, statement=statement, progress=self.progress
        )

    def _outcome(self, name: str, units: Sequence[Unit]) -> Outcome:
        said = [Predictions.load(u.run / "predict" / "predictions.json") for u in units]
        plan, together = self.recipe.trainings[name], joined(said)
        tested = plan.data if plan.test is None else plan.test
        of, classes = self.datasets[tested].groups.of, together.classes
        epochs = tuple(_epochs(u.run) for u in units)
        return Outcome(
            units=tuple(units),
            classes=classes,
            ids=together.ids,
            groups=tuple(of[i] for i in together.ids),
            seeds=np.array([u.seed for u, p in zip(units, said, strict=True) for _ in p.ids], dtype=np.int64),
            truth=np.array([_index(classes, label, tested) for label in together.labels], dtype=np.int64),
            logits=together.logits,
            epochs=epochs,
            chosen=tuple(_chosen(u.run, rows) for u, rows in zip(units, epochs, strict=True)),
            minutes=sum(read_manifest(u.run)["seconds"] for u in units) / 60,
        )


def make_splits(source: Source, plan: SplitPlan, seed: int, folds: int | None = None) -> tuple[Split, ...]:
    """Return the splits of one seed, saved for the whole dataset.

    Args:
        source: the slices.
        plan: how to split them.
        seed: of the shuffle.
        folds: fewer of them, each larger, than the plan says.

    Raises:
        InputError: as :func:`gyrus.holdout`.
    """
    grouping = group_slices(source.whole, "record-wise") if plan.group == "record-wise" else source.groups
    made: tuple[Split, ...]
    if plan.folds is None:
        made = (holdout(source.dataset, plan.fractions, grouping=grouping, seed=seed),)
    else:
        k = min(plan.folds, folds or plan.folds)
        made = kfold(source.dataset, k, val_fold=plan.val, grouping=grouping, seed=seed)
    whole = [replace(s, fingerprint=source.whole.fingerprint) for s in made]
    if not plan.originals:
        return tuple(whole)
    kept = set(data.originals(source.dataset))
    only = [{part: tuple(i for i in s.part(part) if i in kept) for part in ("val", "test")} for s in whole]
    return tuple(replace(s, val=parts["val"], test=parts["test"]) for s, parts in zip(whole, only, strict=True))


def _strangers(plan: Training, test: Source, source: Source, split: Split) -> tuple[Record, ...]:
    """Return the slices of another dataset; where both go back to the same one, without the groups learned from.

    Raises:
        InputError: both hold slices of the same people, and call these by other names.
    """
    here, there = ((s.origin, s.persons_from) for s in (source, test))
    if split.leaks or not {*here} & {*there} - {None}:
        return test.dataset.records
    if here != there:  # groups are called after slices of the one or of the other: a name then says nothing
        raise InputError(
            f"{plan.data} and {plan.test} hold slices of the same persons and group them differently, so nobody knows "
            f"who is new in {plan.test}: derive both from one dataset with the same persons_from"
        )
    learned = {split.groups[i] for i in (*split.train, *split.val)}
    return tuple(r for r in test.dataset if test.groups.of[r.id] not in learned)


def statement(outcome: Outcome) -> str:
    """Return in a sentence how the slices of an experiment were split."""
    first = outcome.units[0].split
    how = "record-wise (patients cross)" if first.leaks else f"{first.grouping}-wise"
    seeds, runs = len(set(outcome.seeds.tolist())), len(outcome.units)
    scheme = f"{runs // seeds} folds" if runs > seeds else first.scheme
    return f"{first.dataset}, {scheme}, {how}, {count(seeds, 'seed')}"


def _key(
    config: TrainConfig,
    splits: Sequence[Split],
    test: Source | None,
    paths: Mapping[str, tuple[Path, str]],
    contents: Sequence[str],
) -> str:
    """Return 8 hex digits that change with whatever decides the result of these runs."""
    inputs: list[object] = [config.model_dump(exclude={"seed", "device"}, exclude_defaults=True), splits[0].fingerprint]
    if test is not None:
        inputs.append(test.dataset.fingerprint)  # not the ids, which other data may have too
    inputs += [f"{field} {content}" for field, (_, content) in paths.items()]
    inputs += contents
    inputs += [[s.train, s.val, s.test] for s in splits]
    return hashlib.sha256(to_json(inputs).encode()).hexdigest()[:8]


def _index(classes: tuple[str, ...], label: str | None, where: str) -> int:
    if label not in classes:
        raise InputError(f"a slice of {where} is {label!r}, which the training does not know: {', '.join(classes)}")
    return classes.index(str(label))


def _epochs(run: Path) -> tuple[Mapping[str, float], ...]:
    with (run / EPOCHS).open(newline="", encoding="utf-8") as file:
        return tuple({k: float(v) for k, v in row.items()} for row in csv.DictReader(file))


def _chosen(run: Path, rows: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    epoch = read_json(run / "model" / "model.json", "a model's description")["training"]["epoch"]
    return next(row for row in rows if row["epoch"] == epoch)
