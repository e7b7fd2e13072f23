"""What a study makes of its trained models, against figures that were counted by hand."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import tree
from handmade_slices import write_png
from PIL import Image
from scipy import stats
from studyroom import TRAIN, lab_of, make_outcome, write_nameless

from gyrus.certainty.temperature import fit_temperature
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.evaluate.calibration import expected_calibration_error
from gyrus.evaluate.ceilings import area_ceiling
from gyrus.evaluate.ranking import score_map
from gyrus.explain import explain_records
from gyrus.inference import predict
from gyrus.models import create_model, load_model
from gyrus.preprocess import Preprocess, frame_of
from gyrus.records import Dataset, Record
from gyrus.studies.analyses import Analyses, by_plane, compare
from gyrus.studies.joint import multiply
from gyrus.studies.plans import Maps
from gyrus.studies.trainings import softmax

HALF = {"fractions": [0.5, 0.25, 0.25]}
ONE = {"data": "cheng", "protocol": "honest", "split": HALF}
SAGITTAL = {"left": {"of": "cheng", "planes": ["sagittal"]}}
TOP = {"top": {"of": "sartaj", "planes": ["axial"]}}


@pytest.fixture(scope="module")
def phantom(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


@pytest.fixture(scope="module")
def nameless(phantom: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's slices darker, without whose they are, under the same names."""
    return write_nameless(phantom, tmp_path_factory.mktemp("analyses") / "sartaj")


@pytest.fixture(scope="module")
def make(tiny_phantom: Path, nameless: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Analyses]:
    """Return the analyses of a study of the phantom; all of this module's studies are kept in one folder."""
    folder = tmp_path_factory.mktemp("made")

    def make(analyses: dict[str, Any], *, both: bool = False, **changes: Any) -> Analyses:
        roots = {"cheng": tiny_phantom} | ({"sartaj": nameless} if both else {})
        fields = {"data": list(roots), "trainings": {"one": ONE}, "analyses": analyses, **changes}
        datasets, trainings = lab_of(roots, folder, **fields)
        return Analyses(trainings.recipe, datasets, trainings, folder / "analyses")

    return make


RIGHT, WRONG = [0.9, 0.1], [0.1, 0.9]


class TestPair:
    def test_the_same_slices_are_compared_one_by_one(self) -> None:
        """b is right where a is wrong on three rows, a alone on one; under the first seed it is two, and none."""
        ids = ["1", "2", "3", "1", "2", "3"]
        people, seeds = ["p", "p", "q"] * 2, [0, 0, 0, 1, 1, 1]
        a = make_outcome([RIGHT, WRONG, WRONG, RIGHT, RIGHT, WRONG], [0] * 6, people, ids=ids, seeds=seeds, runs=[3, 3])
        b = make_outcome([RIGHT, RIGHT, RIGHT, WRONG, RIGHT, RIGHT], [0] * 6, people, ids=ids, seeds=seeds, runs=[3, 3])
        found = compare(a, b)
        assert found.values["difference"].value == pytest.approx(2 / 6)
        assert (found.values["difference"].n, found.values["difference"].groups) == (3, 2)
        assert found.values["mcnemar_p"].value == pytest.approx(stats.binomtest(0, 2).pvalue)
        assert found.values["mcnemar_p"].n == 3
        assert found.facts == {"paired": True, "rows": 6, "mcnemar_seed": 0, "only_a": 0, "only_b": 2}

    @pytest.mark.parametrize("seeds", [1, 3, 5])
    def test_the_same_answers_under_more_seeds_are_no_more_significant(self, seeds: int) -> None:
        """Of 20 slices b alone has eight right and a alone two, whatever the seed; a has a seed more, and answers."""
        said = {"a": [RIGHT] * 2 + [WRONG] * 8 + [RIGHT] * 10, "b": [WRONG] * 2 + [RIGHT] * 18}
        ids, people = [f"{i}" for i in range(20)], [f"p{i // 2}" for i in range(20)]
        a, b = (
            make_outcome(
                said[name] * n, [0] * 20 * n, people * n, ids=ids * n, runs=[20] * n,
                seeds=[s for s in range(first, first + n) for _ in ids],
            )
            for name, n, first in (("a", seeds + 1, 0), ("b", seeds, 1))
        )  # fmt: skip
        found = compare(a, b)
        assert (
            found.values["mcnemar_p"].value == pytest.approx(stats.binomtest(2, 10).pvalue) == pytest.approx(0.109375)
        )
        difference = found.values["difference"]
        assert (difference.value, difference.n, difference.groups) == (pytest.approx(6 / 20), 20, 10)
        assert found.facts == {"paired": True, "rows": 20 * seeds, "mcnemar_seed": 1, "only_a": 2, "only_b": 8}

    def test_of_other_slices_each_counts_once_too(self) -> None:
        a, b = (
            make_outcome([RIGHT] * 4, [0] * 4, ["p", "q"] * 2, ids=[*ids, *ids], seeds=[0, 0, 1, 1], runs=[2, 2])
            for ids in ("12", "34")
        )
        found = compare(a, b)
        assert (found.values["difference"].n, found.facts) == (4, {"paired": False, "rows": [4, 4]})

    def test_rows_are_matched_by_name_and_seed_not_by_place(self) -> None:
        a = make_outcome([RIGHT, WRONG], [0, 0], ["p", "q"], ids=["1", "2"])
        b = make_outcome([WRONG, RIGHT], [0, 0], ["q", "p"], ids=["2", "1"])
        found = compare(a, b)
        assert found.values["difference"].value == 0
        assert (found.facts["only_a"], found.facts["only_b"]) == (0, 0)
        other = make_outcome([WRONG, RIGHT], [0, 0], ["q", "p"], ids=["2", "1"], seeds=[1, 1])
        assert not compare(a, other).facts["paired"]

    def test_where_half_of_either_are_not_the_same_they_are_not_paired(self) -> None:
        a = make_outcome([RIGHT] * 4, [0] * 4, list("pqrs"), ids=["1", "2", "3", "4"])
        b = make_outcome([WRONG, RIGHT, WRONG, RIGHT, RIGHT], [0] * 5, list("vwxyz"), ids=["1", "6", "7", "8", "9"])
        found = compare(a, b)
        assert found.values["difference"].value == pytest.approx(3 / 5 - 1)
        assert found.facts == {"paired": False, "rows": [4, 5]}
        assert "mcnemar_p" not in found.values
        half = make_outcome([WRONG, RIGHT, WRONG, RIGHT], [0] * 4, list("pqxy"), ids=["1", "2", "7", "8"])
        told = {"paired": True, "rows": 2, "mcnemar_seed": 0, "only_a": 1, "only_b": 0}
        assert compare(a, half).facts == told


class TestPlanes:
    PLANES = ("axial", "axial", "axial", "coronal", "coronal", "sagittal", None, "axial")
    # Class a is healthy. The first two axial slices are ill and one is called healthy, of three others none.
    SAID = (RIGHT, WRONG, RIGHT, WRONG, WRONG, WRONG, RIGHT, WRONG)
    TRUTH = (1, 1, 0, 1, 0, 1, 1, 0)

    def found(self) -> Any:
        outcome = make_outcome(list(self.SAID), list(self.TRUTH), list("pqrstuvw"))
        return by_plane(outcome, self.PLANES, "a")

    def test_accuracy_false_alarms_and_shares_of_each_plane(self) -> None:
        values = {name: v.value for name, v in self.found().values.items()}
        assert values == pytest.approx(
            {
                "accuracy:axial": 2 / 4,
                "accuracy:coronal": 1 / 2,
                "accuracy:sagittal": 1.0,
                "false:axial": 1 / 2,
                "false:coronal": 0.0,
                "false:sagittal": 0.0,
                "a:axial": 2 / 4,
                "a:coronal": 1 / 2,
                "a:sagittal": 0.0,
                "gap": 1 / 2 - 0 / 2,
            }
        )
        assert self.found().facts == {"planes": {"None": 1, "axial": 4, "coronal": 2, "sagittal": 1}}
        assert self.found().values["false:axial"].n == 2

    def test_without_other_planes_there_is_no_gap(self) -> None:
        outcome = make_outcome([RIGHT, WRONG], [1, 1], ["p", "q"])
        found = by_plane(outcome, ["axial", "axial"], "a")
        assert found.values["false:axial"].value == 0.5
        assert math.isnan(found.values["gap"].value)

    def test_no_such_class(self) -> None:
        with pytest.raises(InputError, match="the training knows no class 'healthy': choose of a, b"):
            by_plane(make_outcome([RIGHT], [1], ["p"]), ["axial"], "healthy")

    def test_planes_are_those_of_the_test_slices(self, make: Callable[..., Analyses], phantom: Dataset) -> None:
        made = make({"planes": {"kind": "planes", "of": "one"}})
        facts = made["planes"].facts
        assert facts["planes"] == {"axial": 4, "coronal": 4, "sagittal": 4}


class TestTemperature:
    def test_it_is_fitted_on_validation_slices_and_judged_on_others(self, make: Callable[..., Analyses]) -> None:
        made = make({"sure": {"kind": "temperature", "of": "one"}}, seeds=2)
        found, outcome = made["sure"], made.trainings["one"]
        temperatures, after = [], []
        for k, unit in enumerate(outcome.units):
            said = predict(load_model(unit.run), list(unit.source.whole.select(unit.split.val)))
            truth = np.array([said.classes.index(str(label)) for label in said.labels])
            temperatures.append(fit_temperature(said.logits, truth))
            after.append(softmax(outcome.logits[12 * k : 12 * k + 12] / temperatures[-1]))
        assert found.facts["temperatures"] == pytest.approx(temperatures)
        assert found.facts["errors"] == int((~outcome.correct).sum())
        values = found.values
        assert values["temperature"].value == pytest.approx(np.mean(temperatures))
        wrong = ~outcome.correct
        for name, shares in (("before", outcome.probabilities), ("after", np.concatenate(after))):
            sure = shares.max(axis=1) > 0.95
            assert values[f"confident_errors:{name}"].value == pytest.approx((sure & wrong).sum() / wrong.sum())
            assert values[f"sure_and_wrong:{name}"].value == (sure & wrong).sum()
            assert values[f"ece:{name}"].value == pytest.approx(expected_calibration_error(shares, outcome.truth))

    def test_a_split_without_a_validation_part_cannot_tell(self, make: Callable[..., Analyses]) -> None:
        made = make({"sure": {"kind": "temperature", "of": "f"}}, trainings={"f": {**ONE, "split": {"folds": 2}}})
        with pytest.raises(InputError, match="has no validation part to fit a temperature on: give its split one"):
            made["sure"]


class TestMaps:
    def people(self, made: Analyses, name: str) -> tuple[set[str], set[str], list[str]]:
        """Return whom the first run learned from, whom it is then shown, and the slices of these."""
        (unit,) = made.trainings.units(made.recipe.analyses[name].of)  # type: ignore[union-attr]
        plan = made.recipe.analyses[name]
        assert isinstance(plan, Maps)
        shown = made._unseen(unit, plan, 1)
        learned = {re.findall(r"P\d+", i)[0] for i in (*unit.split.train, *unit.split.val)}
        return learned, {str(r.patient) for r in shown}, [r.id for r in shown]

    def test_scores_are_those_of_the_maps(self, make: Callable[..., Analyses]) -> None:
        made = make({"maps": {"kind": "maps", "of": "one", "method": "layercam"}})
        found = made["maps"]
        (unit,) = made.trainings.units("one")
        model, records = load_model(unit.run), [r for r in unit.test if r.mask is not None]
        maps = explain_records(model, records, methods=["layercam"], true_class=False)
        rows, right = [], []
        for record, grid in zip(records, next(iter(maps.arrays.values())), strict=True):
            image = record.read()
            mask = np.asarray(record.read_mask(image.shape))
            rows.append(score_map(frame_of(image, model.spec.preprocess).place(grid), mask).values)
            right.append(maps.explained["predicted"][maps.ids.index(record.id)] == record.label)
        for name in ("pointing", "iou_p95", "energy_inside"):
            column = np.array([row.get(name, np.nan) for row in rows])
            assert found.values[name].value == pytest.approx(np.nanmean(column))
            if any(right):
                assert found.values[f"{name}:right"].value == pytest.approx(np.nanmean(column[right]))
        assert found.values["accuracy"].value == pytest.approx(np.mean(right))
        shares = [np.asarray(r.read_mask(r.read().shape)).mean() for r in records]
        assert found.values["tumour_share"].value == pytest.approx(np.mean(shares), rel=1e-5)
        assert found.facts == {"slices": len(records), "groups": 3, "runs": 1}

    def test_of_the_same_dataset_whom_it_learned_from_is_left_out(self, make: Callable[..., Analyses]) -> None:
        made = make({"maps": {"kind": "maps", "of": "one", "data": "left"}}, derived=SAGITTAL)
        learned, shown, ids = self.people(made, "maps")
        assert learned.isdisjoint(shown)
        assert len(shown) == 3
        assert all("sagittal" in i for i in ids)

    def test_of_another_dataset_whose_slices_it_saw_copies_of(self, make: Callable[..., Analyses]) -> None:
        trainings = {"two": {"data": "sartaj", "protocol": "honest", "split": HALF}}
        made = make({"maps": {"kind": "maps", "of": "two", "data": "cheng"}}, both=True, trainings=trainings)
        learned, shown, _ = self.people(made, "maps")
        assert learned.isdisjoint(shown)
        ill = {str(r.patient) for r in made.datasets["cheng"].dataset if r.mask is not None}
        assert shown == ill - learned

    def test_even_where_it_saw_other_slices_of_theirs(self, make: Callable[..., Analyses]) -> None:
        """Learned from axial slices, asked about sagittal ones: no picture is met twice, and yet the person is."""
        trainings = {"two": {"data": "top", "protocol": "honest", "split": HALF}}
        made = make(
            {"maps": {"kind": "maps", "of": "two", "data": "left"}}, both=True, trainings=trainings,
            derived={**SAGITTAL, **TOP},
        )  # fmt: skip
        learned, shown, ids = self.people(made, "maps")
        assert len(learned) == 12
        assert learned.isdisjoint(shown)
        assert ids
        assert all("sagittal" in i for i in ids)

    def test_names_that_coincide_are_no_persons_that_do(
        self, make: Callable[..., Analyses], phantom: Dataset, tmp_path: Path
    ) -> None:
        """Under the names of the phantom's slices stand pictures of nobody: all may be shown."""
        rng = np.random.default_rng(0)

        def noise(pixels: np.ndarray) -> np.ndarray:
            coarse = rng.integers(0, 255, (6, 6), dtype=np.uint8)
            return np.kron(coarse, np.ones((16, 16), dtype=np.uint8))

        few = replace(phantom, records=phantom.records[:24])
        noisy = write_nameless(few, tmp_path / "sartaj", noise)
        fields = {
            "data": ["cheng", "sartaj"],
            "trainings": {"two": {"data": "sartaj", "protocol": "honest", "split": {"fractions": [0.5, 0.0, 0.5]}}},
            "analyses": {"maps": {"kind": "maps", "of": "two", "data": "cheng"}},
        }
        datasets, trainings = lab_of({"cheng": phantom.root, "sartaj": noisy}, tmp_path, **fields)
        made = Analyses(trainings.recipe, datasets, trainings, tmp_path / "analyses")
        assert self.people(made, "maps")[1] == {str(r.patient) for r in phantom if r.mask is not None}

    def test_no_more_than_asked_for(self, make: Callable[..., Analyses]) -> None:
        plan = {"kind": "maps", "of": "one", "slices": 4}
        assert make({"maps": plan})["maps"].facts["slices"] == 4
        ids = {tuple(self.people(make({"maps": plan}), "maps")[2]) for _ in range(2)}
        assert len(ids) == 1

    def test_a_slice_under_three_seeds_counts_once(self, make: Callable[..., Analyses]) -> None:
        """In two folds every slice is tested, and under each seed again."""
        thrice = {"thrice": {**ONE, "seeds": 3, "split": {"folds": 2}}}
        made = make({"maps": {"kind": "maps", "of": "thrice"}}, trainings=thrice)
        found = made["maps"]
        outlined = [r for r in made.datasets["cheng"].dataset if r.mask is not None]
        assert found.facts == {"slices": len(outlined), "groups": len({r.patient for r in outlined}), "runs": 6}
        for name in ("accuracy", "pointing", "tumour_share", "ceiling:iou_p95"):
            assert found.values[name].n == len(outlined)
        assert found.values["pointing:right"].n <= len(outlined)

    def test_nobody_is_left(self, make: Callable[..., Analyses]) -> None:
        derived = {"healthy": {"of": "cheng", "classes": ["no_tumor"]}}
        made = make({"maps": {"kind": "maps", "of": "one", "data": "healthy"}}, derived=derived)
        with pytest.raises(InputError, match="no slice is left on which the maps of one could be scored"):
            made["maps"]


class TestBoard:
    PLAN = {"kind": "board", "of": "one", "methods": ["cam", "layercam"], "layers": "last"}  # noqa: RUF012

    def test_it_is_made_once_and_its_ceiling_is_the_masks(self, make: Callable[..., Analyses]) -> None:
        made = make({"board": self.PLAN})
        found = made["board"]
        outcome = made.trainings["one"]
        masks = [np.asarray(r.read_mask(r.read().shape)) for r in outcome.units[0].test if r.mask is not None]
        ceiling = found.values["ceiling:area:iou@percentile:95"]
        assert ceiling.value == pytest.approx(np.mean([area_ceiling(m, 95.0) for m in masks]))
        assert found.values["best:pointing"].value >= found.values["cam:pointing"].value
        (board,) = made.folder.glob("board-*-board")
        before = tree(board)
        (kept,) = made.folder.glob("board-????????")
        for path in kept.iterdir():
            path.unlink()
        kept.rmdir()
        assert make({"board": self.PLAN})["board"].values.keys() == found.values.keys()
        assert tree(board) == before


class TestJoint:
    def test_what_both_add_is_their_difference(self, make: Callable[..., Analyses]) -> None:
        plan = {"kind": "joint", "of": "one", "method": "cam", "layers": ["body"], "learn": 6}
        found = make({"joint": plan})["joint"]
        for name in ("iou", "pointing"):
            both = found.values[f"both:{name}"].value
            for other in ("map", "rule"):
                difference = found.values[f"both-{other}:{name}"]
                assert difference.value == pytest.approx(both - found.values[f"{other}:{name}"].value)
        assert found.facts["slices"] == found.values["both:iou"].n == 9
        assert [chosen["map"][0] for chosen in found.facts["chosen"]] == ["body"]

    def test_all_seeds_take_part_and_a_slice_counts_once(self, make: Callable[..., Analyses]) -> None:
        plan = {"kind": "joint", "of": "twice", "method": "cam", "layers": ["body"], "learn": 6}
        fields = {"trainings": {"twice": {**ONE, "seeds": 2}}}
        found = make({"both": plan}, **fields)["both"]
        scales = {"once": {"reduction": "One seed.", "once": ["first"]}}
        first = make({"first": plan}, scales=scales, scale="once", **fields)["first"]
        assert (found.facts["runs"], first.facts["runs"]) == (2, 1)
        assert len(found.facts["chosen"]) == 2
        assert first.facts["slices"] == first.values["map:iou"].n == 9
        assert 9 < found.facts["slices"] == found.values["map:iou"].n <= 18

    def test_no_exam_of_a_patient_it_chooses_on_is_in_the_prior(
        self, phantom: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outlined = [r for r in phantom if r.mask is not None]
        names = {
            p: f"MR{1000 + i // 2}{'B' * (i % 2)}" for i, p in enumerate(sorted({str(r.patient) for r in outlined}))
        }
        training = [replace(r, patient=names[str(r.patient)]) for r in outlined]
        learned = training[int(np.random.default_rng(0).permutation(len(training))[0])]
        person = str(learned.patient).rstrip("B")
        assert len({r.patient for r in training if str(r.patient).rstrip("B") == person}) == 2
        given: list[Record] = []

        def stop(records: Sequence[Record], _spec: Preprocess) -> None:
            given.extend(records)
            raise KeyboardInterrupt

        monkeypatch.setattr("gyrus.studies.joint.class_priors", stop)
        model = create_model("small_cnn", phantom.classes, preprocess=Preprocess(size=32, mean=(0.5,), std=(0.5,)))
        with pytest.raises(KeyboardInterrupt):
            multiply(model, training, training, method="cam", layers="last", rule="intensity*prior", learn=1)
        assert {str(r.patient).rstrip("B") for r in given} == {n.rstrip("B") for n in names.values()} - {person}

    def test_a_rule_that_is_none_is_refused_at_once(self, make: Callable[..., Analyses]) -> None:
        with pytest.raises(ValueError, match=r"analyses\.joint names 'intensit', which is not there \(did you mean"):
            make({"joint": {"kind": "joint", "of": "one", "rule": "intensit"}})


class TestKept:
    def test_an_analysis_is_made_once(self, make: Callable[..., Analyses]) -> None:
        plan = {"gap": {"kind": "pair", "a": "one", "b": "two"}}
        fields = {"trainings": {"one": ONE, "two": {**ONE, "train": {"learning_rate": 0.1}}}}
        first = make(plan, **fields)
        found = first["gap"]
        before = tree(first.folder)
        again = make(plan, **fields)
        assert again["gap"].values == found.values
        assert tree(first.folder) == before

    def test_undefined_figures_survive_being_kept(self, make: Callable[..., Analyses]) -> None:
        """Of a run with one seed there is no interval for McNemar's p."""
        plan = {"gap": {"kind": "pair", "a": "one", "b": "one"}}
        found = make(plan)["gap"].values["mcnemar_p"]
        assert (found.value, math.isnan(found.low)) == (1.0, True)

    def test_another_plan_run_or_dataset_is_another_analysis(
        self, make: Callable[..., Analyses], phantom: Dataset, tiny_phantom: Path, tmp_path: Path
    ) -> None:
        def folders(analyses: Analyses, name: str) -> set[str]:
            analyses[name]
            return {p.name for p in analyses.folder.glob(f"{name}-????????")}

        plan = {"kind": "maps", "of": "one", "slices": 2, "data": "some"}
        derived = {"some": {"of": "cheng", "classes": ["glioma"]}}
        one = folders(make({"other": plan}, derived=derived), "other")
        two = folders(make({"other": {**plan, "slices": 3}}, derived=derived), "other")
        three = folders(make({"other": plan}, derived={"some": {"of": "cheng", "classes": ["pituitary"]}}), "other")
        four = folders(make({"other": plan}, derived=derived, train={**TRAIN, "batch_size": 4}), "other")
        assert [len(found) for found in (one, two, three, four)] == [1, 2, 3, 4]

    def test_corrected_outlines_and_planes_are_looked_at_anew(self, tiny_phantom: Path, tmp_path: Path) -> None:
        """Neither is part of a dataset's fingerprint."""

        def folders(name: str) -> int:
            plans = {"maps": {"kind": "maps", "of": "one", "slices": 2}, "planes": {"kind": "planes", "of": "one"}}
            fields = {"data": ["cheng"], "trainings": {"one": ONE}, "analyses": plans}
            datasets, trainings = lab_of({"cheng": root}, tmp_path / "study", **fields)
            analyses = Analyses(trainings.recipe, datasets, trainings, tmp_path / "study" / "analyses")
            analyses[name]
            return len(list(analyses.folder.glob(f"{name}-????????")))

        root = shutil.copytree(tiny_phantom, tmp_path / "phantom")
        mask = next(r.mask for r in open_dataset(root) if r.mask is not None)
        assert [folders(name) for name in ("maps", "planes")] == [1, 1]
        write_png(mask.path, 255 - np.asarray(Image.open(mask.path)))
        assert [folders(name) for name in ("maps", "planes")] == [2, 1]
        table = root / "manifest.csv"
        table.write_text(table.read_text(encoding="utf-8").replace(",coronal", ",axial"), encoding="utf-8")
        assert [folders(name) for name in ("maps", "planes")] == [2, 2]
