"""The experiments of a study: how their slices are split, what is trained anew, and what comes of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import tree
from handmade_slices import write_png
from PIL import Image
from studyroom import TRAIN, lab_of, write_nameless

from gyrus.artifacts import is_finished, read_json
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.inference import predict
from gyrus.models import load_model
from gyrus.predictions import Predictions
from gyrus.records import Dataset
from gyrus.studies.lab import Datasets, Source
from gyrus.studies.plans import SplitPlan
from gyrus.studies.trainings import Outcome, Trainings, make_splits, statement

HALF = {"fractions": [0.5, 0.25, 0.25]}
HONEST = {"data": "cheng", "protocol": "honest", "split": HALF}
OWN = {"data": "cheng", "protocol": "own", "split": {**HALF, "group": "record-wise"}}
TWICE = {"copies": {"of": "cheng", "augmented": {"copies": 1, "size": 32, "augment": {}}}}
PLANES = {"top": {"of": "cheng", "planes": ["axial"]}, "rest": {"of": "cheng", "planes": ["sagittal", "coronal"]}}


@pytest.fixture(scope="module")
def phantom(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


@pytest.fixture(scope="module")
def lab(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    """The phantom, its slices twice, and its planes apart."""
    folder = tmp_path_factory.mktemp("splits")
    return lab_of({"cheng": tiny_phantom}, folder, derived={**TWICE, **PLANES})[0]


@pytest.fixture(scope="module")
def source(lab: Datasets) -> Source:
    return lab["cheng"]


@pytest.fixture
def begin(tiny_phantom: Path, tmp_path: Path) -> Callable[..., Trainings]:
    """Begin a study of the phantom in this test's folder, or go on with it."""

    def begin(*, folder: str = "study", roots: dict[str, Path] | None = None, **changes: Any) -> Trainings:
        where = {"cheng": tiny_phantom, **(roots or {})}
        return lab_of(where, tmp_path / folder, **{"data": list(where), "trainings": {"one": HONEST}, **changes})[1]

    return begin


def people(source: Source, ids: tuple[str, ...]) -> set[str | None]:
    return {source.whole[i].patient for i in ids}


def plan(**fields: Any) -> SplitPlan:
    return SplitPlan.model_validate(fields)


class TestSplits:
    def test_no_person_is_on_both_sides(self, source: Source) -> None:
        (split,) = make_splits(source, plan(**HALF), 0)
        train, val, test = (people(source, part) for part in (split.train, split.val, split.test))
        assert not (train & val) | (train & test) | (val & test)
        assert [len(split.part(p)) for p in ("train", "val", "test")] == [24, 12, 12]
        assert (split.grouping, split.leaks, split.seed) == ("patient", False, 0)
        split.check(source.whole)

    def test_record_wise_every_slice_is_its_own(self, source: Source) -> None:
        (split,) = make_splits(source, plan(**HALF, group="record-wise"), 0)
        assert people(source, split.train) & people(source, split.test)
        assert (split.grouping, split.leaks) == ("record-wise", True)
        split.check(source.whole)

    def test_another_seed_is_another_split(self, source: Source) -> None:
        one, again, other = (make_splits(source, plan(**HALF), seed)[0] for seed in (0, 0, 1))
        assert one == again
        assert one.test != other.test

    def test_every_slice_is_tested_in_one_fold(self, source: Source) -> None:
        splits = make_splits(source, plan(folds=4), 0)
        assert len(splits) == 4
        assert sorted(i for s in splits for i in s.test) == sorted(r.id for r in source.dataset)
        assert all(not s.val and len(s.train) == 36 for s in splits)
        assert all(not people(source, s.train) & people(source, s.test) for s in splits)

    def test_one_fold_may_choose_the_epoch(self, source: Source) -> None:
        assert all(len(s.val) == 12 for s in make_splits(source, plan(folds=4, val=True), 0))

    @pytest.mark.parametrize(("most", "folds"), [(2, 2), (3, 3), (9, 4), (None, 4)])
    def test_fewer_folds_never_more(self, source: Source, most: int | None, folds: int) -> None:
        assert len(make_splits(source, plan(folds=4), 0, most)) == folds

    def test_a_selection_is_split_for_the_whole(self, lab: Datasets) -> None:
        (split,) = make_splits(lab["top"], plan(**HALF), 0)
        assert len(split.train) + len(split.val) + len(split.test) == 16
        assert {lab["cheng"].whole[i].plane for i in (*split.train, *split.test)} == {"axial"}
        split.check(lab["cheng"].whole)

    @pytest.mark.parametrize("group", ["auto", "record-wise"])
    def test_on_originals_only(self, lab: Datasets, group: str) -> None:
        (every,) = make_splits(lab["copies"], plan(**HALF, group=group), 0)
        (some,) = make_splits(lab["copies"], plan(**HALF, group=group, originals=True), 0)
        whole = lab["copies"].whole
        assert some.train == every.train
        assert {whole[i].subset for i in some.train} == {"original", "copy"}
        for part in ("val", "test"):
            assert {whole[i].subset for i in every.part(part)} == {"original", "copy"}
            assert some.part(part) == tuple(i for i in every.part(part) if whole[i].subset == "original")
        some.check(whole)

    def test_copies_stay_with_their_source(self, lab: Datasets) -> None:
        (split,) = make_splits(lab["copies"], plan(**HALF), 0)
        sources = [{i.split("/", 1)[1] for i in part} for part in (split.train, split.val, split.test)]
        assert not (sources[0] & sources[1]) | (sources[0] & sources[2])


class TestFolders:
    """Where a run is kept changes with whatever decides its result."""

    def where(self, trainings: Trainings, name: str = "one") -> str:
        return trainings.units(name)[0].run.parent.parent.name

    def test_it_is_the_same_for_the_same(self, begin: Callable[..., Trainings]) -> None:
        assert self.where(begin()) == self.where(begin(folder="elsewhere"))
        assert re.fullmatch("one-[0-9a-f]{8}", self.where(begin()))

    @pytest.mark.parametrize(
        "changes",
        [
            {"train": {**TRAIN, "learning_rate": 2e-3}},
            {"train": {**TRAIN, "augment": {"flip": 0.1}}},
            {"trainings": {"one": {**HONEST, "split": {"fractions": [0.25, 0.25, 0.5]}}}},
            {"trainings": {"one": OWN}},
            {"trainings": {"one": {**HONEST, "data": "rest"}}, "derived": PLANES},
            {"trainings": {"one": {**HONEST, "test": "rest"}}, "derived": PLANES},
            {"trainings": {"one": {**HONEST, "teacher": "two"}, "two": HONEST}},
            {"trainings": {"one": {**HONEST, "synthetic": "made"}}, "derived": {"made": {"phantom": {"patients": 8}}}},
        ],
    )
    def test_it_is_another_for_another(self, begin: Callable[..., Trainings], changes: dict[str, Any]) -> None:
        assert self.where(begin()) != self.where(begin(**changes))

    def test_for_a_teacher_who_learned_otherwise(self, begin: Callable[..., Trainings]) -> None:
        first, second = (
            begin(trainings={"one": {**HONEST, "teacher": "two"}, "two": {**HONEST, "train": {"epochs": n}}})
            for n in (1, 2)
        )
        assert self.where(first) != self.where(second)
        unit, (teacher,) = first.units("one")[0], first.units("two")
        assert unit.config.guide == str(teacher.run)

    def test_not_for_more_seeds_or_another_device(self, begin: Callable[..., Trainings]) -> None:
        more = begin(seeds=3)
        assert [u.seed for u in more.units("one")] == [0, 1, 2]
        assert [u.run.parent.name for u in more.units("one")] == ["seed-0", "seed-1", "seed-2"]
        assert more.units("one")[0].run.relative_to(more.folder) == (
            begin().units("one")[0].run.relative_to(begin().folder)
        )
        trainings = begin()
        trainings.device = "auto"
        assert self.where(trainings) == self.where(begin())

    def test_for_other_test_slices_of_the_same_names(
        self, begin: Callable[..., Trainings], phantom: Dataset, tmp_path: Path
    ) -> None:
        trainings = {"one": {**HONEST, "test": "sartaj"}}
        roots = [write_nameless(phantom, tmp_path / "a"), write_nameless(phantom, tmp_path / "b", lambda p: 255 - p)]
        first, second = (begin(roots={"sartaj": root}, trainings=trainings) for root in roots)
        assert [r.id for r in first.units("one")[0].test] == [r.id for r in second.units("one")[0].test]
        assert self.where(first) != self.where(second)

    def test_for_other_weights_under_the_same_name(self, begin: Callable[..., Trainings], tmp_path: Path) -> None:
        found = []
        for content in (b"weights", b"others!"):
            (tmp_path / "vgg.pth").write_bytes(content)
            trainings = begin()
            trainings.weights = {TRAIN["model"]: str(tmp_path / "vgg.pth")}
            found.append(self.where(trainings))
        assert found[0] != found[1]

    def test_for_corrected_outlines_where_these_guide(
        self, begin: Callable[..., Trainings], tiny_phantom: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(tiny_phantom, tmp_path / "phantom")
        guided = {"two": {**HONEST, "train": {"guide": "mask"}}}
        mask = next(r.mask for r in open_dataset(root) if r.mask is not None)
        found = []
        for _ in range(2):
            trainings = begin(roots={"cheng": root}, trainings={"one": HONEST, **guided})
            found.append([self.where(trainings, name) for name in ("one", "two")])
            write_png(mask.path, 255 - np.asarray(Image.open(mask.path)))
        assert found[0][0] == found[1][0]
        assert found[0][1] != found[1][1]

    def test_seeds_and_folds_are_no_more_than_the_scale_says(self, begin: Callable[..., Trainings]) -> None:
        trainings = {"one": {**HONEST, "split": {"folds": 4}}, "two": {**HONEST, "seeds": 1}}
        scales = {"less": {"reduction": "Less.", "seeds": 2, "folds": 3}}
        whole = begin(seeds=3, trainings=trainings, scales=scales)
        less = begin(seeds=3, trainings=trainings, scales=scales, scale="less")
        counted = [[(u.seed, u.run.name) for u in t.units("one")] for t in (whole, less)]
        assert counted[0] == [(s, f"fold-{k}") for s in range(3) for k in range(1, 5)]
        assert counted[1] == [(s, f"fold-{k}") for s in range(2) for k in range(1, 4)]
        assert [len(t.units("two")) for t in (whole, less)] == [1, 1]


class TestRuns:
    def test_a_finished_one_is_left_alone(self, begin: Callable[..., Trainings]) -> None:
        first = begin()["one"]
        trainings = begin()
        before = tree(trainings.folder)
        dates = {p: p.stat().st_mtime_ns for p in trainings.folder.rglob("*")}
        again = trainings["one"]
        assert tree(trainings.folder) == before
        assert {p: p.stat().st_mtime_ns for p in trainings.folder.rglob("*")} == dates
        assert np.array_equal(first.logits, again.logits)
        assert first.minutes == again.minutes

    def test_an_unfinished_one_is_continued(self, begin: Callable[..., Trainings]) -> None:
        class StopError(Exception):
            """Raised from the progress callback."""

        told: list[str] = []

        def stop(what: str, done: int, total: int) -> None:
            if what == "epoch 2/3":
                raise StopError

        train = {**TRAIN, "epochs": 3, "dropout": 0.2}
        trainings = begin(train=train)
        trainings.progress = stop
        with pytest.raises(StopError):
            trainings["one"]
        (unit,) = trainings.units("one")
        assert unit.run.is_dir()
        assert not is_finished(unit.run)
        trainings = begin(train=train)
        trainings.progress = lambda what, done, total: told.append(what)
        continued, whole = trainings["one"], begin(train=train, folder="whole")["one"]
        assert "epoch 1/3" not in told
        assert "epoch 3/3" in told
        assert np.array_equal(continued.logits, whole.logits)

    def test_one_that_was_not_asked_yet_is_asked_and_not_trained(self, begin: Callable[..., Trainings]) -> None:
        first = begin()["one"]
        (unit,) = first.units
        before = tree(unit.run / "model")
        for path in (unit.run / "predict").iterdir():
            path.unlink()
        (unit.run / "predict").rmdir()
        assert np.array_equal(begin()["one"].logits, first.logits)
        assert tree(unit.run / "model") == before

    def test_what_it_says_is_what_its_model_says(self, begin: Callable[..., Trainings]) -> None:
        outcome = begin()["one"]
        (unit,) = outcome.units
        said = predict(load_model(unit.run), unit.test)
        assert said.ids == outcome.ids == unit.split.test
        assert np.array_equal(said.logits, outcome.logits)
        kept = Predictions.load(unit.run / "predict" / "predictions.json")
        assert kept.statement == unit.split.statement

    def test_a_frozen_network_looks_at_a_slice_once(self, begin: Callable[..., Trainings]) -> None:
        """Own and honest protocol, and validation: the features of all 48 slices are computed, and no others."""
        told: list[tuple[str, int, int]] = []
        trainings = begin(train={**TRAIN, "frozen": True, "epochs": 3}, trainings={"one": HONEST, "two": OWN})
        trainings.progress = lambda *call: told.append(call)
        first, second = trainings["one"], trainings["two"]
        looked = {what: total for what, _, total in told if what.startswith(("features of", "predicting"))}
        assert looked == {"features of train": 24, "features of val": 12, "predicting": 12}
        assert len(list(trainings.features.iterdir())) == 1
        for outcome in (first, second):
            (unit,) = outcome.units
            whole = predict(load_model(unit.run), unit.test)
            assert outcome.logits == pytest.approx(whole.logits, abs=1e-5)


class TestStrangers:
    def test_of_the_same_dataset_only_who_is_new_is_tested(self, begin: Callable[..., Trainings]) -> None:
        trainings = begin(trainings={"one": {**HONEST, "data": "top", "test": "rest"}}, derived=PLANES)
        (unit,) = trainings.units("one")
        learned = people(unit.source, (*unit.split.train, *unit.split.val))
        assert len(learned) == 12
        assert {r.patient for r in unit.test}.isdisjoint(learned)
        assert len(unit.test) == 2 * 4
        assert {r.plane for r in unit.test} == {"sagittal", "coronal"}

    def test_under_the_own_protocol_everybody_is(self, begin: Callable[..., Trainings]) -> None:
        trainings = begin(trainings={"one": {**OWN, "data": "top", "test": "rest"}}, derived=PLANES)
        assert len(trainings.units("one")[0].test) == 32

    def test_names_that_coincide_are_no_persons_that_do(
        self, begin: Callable[..., Trainings], phantom: Dataset, tmp_path: Path
    ) -> None:
        """Of neither the persons are known, so groups are called after slices, which have the same names in both."""
        roots = {name: write_nameless(phantom, tmp_path / name) for name in ("sartaj", "navoneel")}
        one = {**HONEST, "data": "sartaj", "test": "navoneel"}
        (unit,) = begin(roots=roots, trainings={"one": one}).units("one")
        assert [r.id for r in unit.test] == [r.id for r in phantom]
        assert set(unit.split.groups.values()) == {r.id for r in phantom}

    @pytest.mark.parametrize(("data", "test"), [("copies", "cheng"), ("cheng", "copies"), ("copies", "again")])
    def test_nor_is_one_met_who_was_learned_from_in_a_changed_copy(
        self, begin: Callable[..., Trainings], data: str, test: str
    ) -> None:
        """Copies are written to a folder of their own; their people are those of the dataset they were made of."""
        trainings = begin(
            trainings={"one": {**HONEST, "data": data, "test": test}},
            derived={**TWICE, "again": {"of": "copies", "binary": True}} if test == "again" else TWICE,
        )
        (unit,) = trainings.units("one")
        learned = people(unit.source, (*unit.split.train, *unit.split.val))
        everybody = {r.patient for r in trainings.datasets["cheng"].dataset}
        assert len(learned) == 12
        assert {r.patient for r in unit.test} == everybody - learned
        own = begin(trainings={"one": {**OWN, "data": data, "test": test}}, derived=trainings.recipe.derived)
        assert len(own.units("one")[0].test) == len(own.datasets[test].dataset)

    @pytest.mark.parametrize(("data", "test"), [("persons", "sartaj"), ("persons", "cheng"), ("copies", "sartaj")])
    def test_the_same_people_under_other_names_are_refused(
        self, begin: Callable[..., Trainings], phantom: Dataset, tmp_path: Path, data: str, test: str
    ) -> None:
        derived = {
            "persons": {"of": "sartaj", "persons_from": "cheng"},
            "copies": {"of": "persons", "augmented": {"copies": 1, "size": 32, "augment": {}}},
        }
        roots = {"sartaj": write_nameless(phantom, tmp_path / "sartaj")}
        trainings = begin(roots=roots, trainings={"one": {**HONEST, "data": data, "test": test}}, derived=derived)
        said = (
            rf"{data} and {test} hold slices of the same persons and group them differently, .* the same persons_from"
        )
        with pytest.raises(InputError, match=said):
            trainings.units("one")

    @pytest.mark.parametrize("test", [None, "rest"])
    def test_nobody_is_left(self, begin: Callable[..., Trainings], test: str | None) -> None:
        one = {**HONEST, "data": "top", "test": test, "split": {"fractions": [0.75, 0.25, 0.0]}}
        with pytest.raises(InputError, match=rf"no slice of {test or 'top'} is left to test one on: give its split a "):
            begin(trainings={"one": one}, derived=PLANES).units("one")

    def test_a_class_that_training_lacked_is_named(self, begin: Callable[..., Trainings]) -> None:
        two = {"two": {"of": "cheng", "classes": ["glioma", "no_tumor"]}}
        trainings = begin(trainings={"one": {**HONEST, "data": "two", "test": "cheng"}}, derived=two)
        said = r"a slice of cheng is '(meningioma|pituitary)', which the training does not know: glioma, no_tumor$"
        with pytest.raises(InputError, match=said):
            trainings["one"]


class TestOutcome:
    @pytest.fixture(scope="class")
    @staticmethod
    def outcome(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
        """Two folds under two seeds."""
        one = {**HONEST, "split": {"folds": 2}}
        folder = tmp_path_factory.mktemp("outcome")
        train = {**TRAIN, "epochs": 2}
        return lab_of({"cheng": tiny_phantom}, folder, seeds=2, train=train, trainings={"one": one})[1]["one"]

    def test_a_slice_occurs_once_per_seed(self, outcome: Outcome, phantom: Dataset) -> None:
        assert outcome.seeds.tolist() == [0] * 48 + [1] * 48
        for seed in (0, 1):
            rows = np.flatnonzero(outcome.seeds == seed)
            assert sorted(outcome.ids[i] for i in rows) == sorted(r.id for r in phantom)

    def test_rows_know_their_truth_and_their_person(self, outcome: Outcome, phantom: Dataset) -> None:
        for i, truth, group in zip(outcome.ids, outcome.truth, outcome.groups, strict=True):
            assert outcome.classes[truth] == phantom[i].label
            assert group == phantom[i].patient
        assert outcome.logits.shape == (96, 4)
        assert outcome.probabilities.sum(axis=1) == pytest.approx(np.ones(96))
        assert outcome.correct.tolist() == (outcome.logits.argmax(axis=1) == outcome.truth).tolist()

    def test_runs_tell_of_their_epochs(self, outcome: Outcome) -> None:
        assert [u.run.relative_to(u.run.parents[1]).as_posix() for u in outcome.units] == [
            "seed-0/fold-1", "seed-0/fold-2", "seed-1/fold-1", "seed-1/fold-2"
        ]  # fmt: skip
        assert [[row["epoch"] for row in rows] for rows in outcome.epochs] == [[1, 2]] * 4
        assert [row["epoch"] for row in outcome.chosen] == [2] * 4  # without a validation part
        seconds = [read_json(u.run / "run.json", "a manifest")["seconds"] for u in outcome.units]
        assert outcome.minutes == pytest.approx(sum(seconds) / 60)
        assert statement(outcome) == "phantom, 2 folds, patient-wise, 2 seeds"

    def test_the_kept_epoch_is_the_models(self, begin: Callable[..., Trainings]) -> None:
        outcome = begin(train={**TRAIN, "epochs": 3})["one"]
        kept = load_model(outcome.units[0].run).spec.training["epoch"]
        losses = [row["val_loss"] for row in outcome.epochs[0]]
        assert outcome.chosen[0]["epoch"] == kept == 1 + losses.index(min(losses))

    def test_groups_are_the_honest_ones_under_either_protocol(self, begin: Callable[..., Trainings]) -> None:
        outcome = begin(trainings={"one": OWN})["one"]
        assert len(set(outcome.groups)) <= 12
        assert set(outcome.groups) <= {f"P{i:03}" for i in range(16)}
        assert "record-wise (patients cross), 1 seed" in statement(outcome)

    def test_runs_that_know_other_classes_are_not_put_together(self, begin: Callable[..., Trainings]) -> None:
        trainings = begin(trainings={"one": {**HONEST, "split": {"folds": 2}}})
        units = trainings["one"].units
        said = Predictions.load(units[1].run / "predict" / "predictions.json")
        other = replace(said, classes=("a", *said.classes[1:]))
        other.save(units[1].run / "predict" / "predictions.json")
        with pytest.raises(InputError, match="do not know the same classes"):
            begin(trainings={"one": {**HONEST, "split": {"folds": 2}}})["one"]
