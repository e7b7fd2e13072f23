"""A study's file: that every shipped one can be used, and that what is wrong with another is said by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from studyroom import small_study

from gyrus.errors import InputError
from gyrus.studies import find_study, list_studies, show_study
from gyrus.studies.plans import Figure
from gyrus.studies.recipe import FULL, HERE, Recipe, load_recipe

NAMES = ("bratum", "cam-attention", "cam-iou", "mrimaster", "padova")
MORE = {"two": {"data": "cheng", "protocol": "own", "split": {"group": "record-wise"}}}


def read(folder: Path, **changes: Any) -> Recipe:
    """Return the small study with some keys changed, by way of its file."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(small_study(**changes)), encoding="utf-8")
    return load_recipe(path)


def changed(recipe: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """Return the keys with one changed, in place: "trainings.one.data"."""
    *folders, last = place.split(".")
    here = recipe
    for name in folders:
        here = here.setdefault(name, {})
    here[last] = value
    return recipe


def gallery(**options: object) -> list[dict[str, object]]:
    """Return the figures of a study that has one, with these options."""
    return [{"kind": "gallery", "title": "G", "of": ["one"], "options": options}]


class TestShipped:
    def test_all_are_listed(self) -> None:
        assert list_studies() == NAMES
        assert sorted(p.stem for p in HERE.glob("*.yaml")) == list(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_can_be_used(self, name: str) -> None:
        recipe = find_study(name)
        assert recipe.name == name
        assert {"quick", "desk"} <= set(recipe.scales)
        assert {t.protocol for t in recipe.trainings.values()} == {"own", "honest"}
        assert {t.split.group for t in recipe.trainings.values() if t.protocol == "honest"} == {"auto"}
        assert {t.split.group for t in recipe.trainings.values() if t.protocol == "own"} == {"record-wise"}
        for scale in (FULL, *recipe.scales):
            for training in recipe.trainings:
                assert recipe.config(training, scale, 2).seed == 2

    @pytest.mark.parametrize("name", NAMES)
    def test_each_claims_something_and_makes_three_seeds_of_it(self, name: str) -> None:
        recipe = find_study(name)
        assert recipe.seeds >= 3
        claimed = [row for row in recipe.table if row.claimed is not None]
        assert claimed
        assert all(row.own or row.honest for row in recipe.table)
        assert len({row.label for row in recipe.table}) == len(recipe.table)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_is_shown_as_its_file_has_it(self, name: str) -> None:
        shown, file = show_study(name), yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
        assert shown["schema"] == "gyrus.recipe/1"
        assert list(shown["trainings"]) == list(file["trainings"])
        assert [row["label"] for row in shown["table"]] == [row["label"] for row in file["table"]]
        assert shown["steps"] == [*file["trainings"], *file["analyses"], "figures", "page"]

    def test_another_is_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(small_study()), encoding="utf-8")
        assert find_study(str(path)).steps == ("one", "figures", "page")


class TestFiles:
    def test_no_such_study(self) -> None:
        with pytest.raises(InputError, match=r"no study 'padowa' \(did you mean 'padova'\?\): choose of bratum, "):
            find_study("padowa")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.yaml does not exist: name a study's YAML file$"):
            find_study(str(tmp_path / "none.yaml"))
        with pytest.raises(InputError, match=r"is no YAML"):
            load_recipe(tmp_path)

    @pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\tx: 1", "%"])
    def test_no_yaml(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"bad\.yaml is no YAML \([^\n]+\): see the how-to on studies$"):
            load_recipe(tmp_path / "bad.yaml")

    def test_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_bytes(b"name: \xff\xfe")
        with pytest.raises(InputError, match="is no YAML"):
            load_recipe(tmp_path / "bad.yaml")

    @pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "3"])
    def test_no_keys(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="holds no keys"):
            load_recipe(tmp_path / "bad.yaml")


class TestWrongKeys:
    @pytest.mark.parametrize(
        ("place", "said"),
        [
            ("trainngs", "trainngs is no key of a study (did you mean 'trainings'?)"),
            ("trainings.one.protokol", "trainings.one.protokol is no key of a study (did you mean 'protocol'?)"),
            ("trainings.one.split.fold", "trainings.one.split.fold is no key of a study (did you mean 'folds'?)"),
            ("scales.quick.stand_in", "scales.quick.stand_in is no key of a study (did you mean 'stand_ins'?)"),
            ("xyzzy", "xyzzy is no key of a study"),
        ],
    )
    def test_names_itself_and_the_nearest_right_one(self, tmp_path: Path, place: str, said: str) -> None:
        changes = changed(small_study(scales={"quick": {"reduction": "less"}}), place, "record-wise")
        with pytest.raises(InputError) as refused:
            read(tmp_path, **changes)
        assert str(refused.value) == f"{tmp_path / 'small.yaml'}: {said}"

    def test_of_an_analysis_and_a_figure(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"analyses\.gap\.pair\.c is no key"):
            read(tmp_path, analyses={"gap": {"kind": "pair", "a": "one", "b": "one", "c": "one"}})
        with pytest.raises(InputError, match=r"figures\.0\.option is no key of a study \(did you mean 'options'\?\)"):
            read(tmp_path, figures=[{"kind": "balance", "title": "t", "of": ["cheng"], "option": 1}])

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [
            ("seeds", 0, "seeds: Input should be greater than or equal to 1"),
            ("data", [], "data: Tuple should have at least 1 item"),
            ("trainings", {}, "trainings: Dictionary should have at least 1 item"),
            ("trainings.one.protocol", "fair", "trainings.one.protocol: Input should be 'own' or 'honest'"),
            ("trainings.one.split.folds", 1, "trainings.one.split.folds: Input should be greater than or equal to 2"),
            ("trainings.one.split.fractions", [0.5, 0.5], "trainings.one.split.fractions.2: Field required"),
            ("trainings.one.split.group", "person", "trainings.one.split.group: Input should be 'auto', 'patient'"),
            ("analyses", {"a": {"kind": "duel", "of": "one"}}, "does not match any of the expected tags"),
            ("figures", [{"kind": "pie", "title": "t", "of": ["one"]}], "figures.0.kind: Input should be 'balance'"),
            ("figures", [{"kind": "balance", "title": "t", "of": []}], "figures.0.of: Tuple should have at least 1"),
            (
                "derived.c",
                {"of": "cheng", "augmented": {"copies": -1, "augment": {}}},
                "cannot be -1 copies of a slice",
            ),
            ("derived.c", {"of": "cheng", "augmented": {"copies": {"g": -2}, "augment": {}}}, "cannot be -2 copies"),
            ("figures", gallery(slices="lots"), "figures.0.options: slices is 'lots': say a whole number from 1 on"),
            ("figures", gallery(slices=0), "figures.0.options: slices is 0: say a whole number from 1 on"),
            ("figures", gallery(slices=True), "figures.0.options: slices is True: say a whole number from 1 on"),
            ("figures", gallery(per_class=0), "figures.0.options: per_class is 0: say a whole number from 1 on"),
            ("figures", gallery(which="zzz"), "figures.0.options: which is 'zzz': choose of typical, wrong, sure"),
            ("figures", gallery(label=False), "figures.0.options: label is False: say a name, in quotes"),
            ("changed", None, "changed: Input should be a valid string"),
        ],
    )
    def test_an_impossible_value_names_its_place(self, tmp_path: Path, place: str, value: object, said: str) -> None:
        with pytest.raises(InputError, match=re.escape(said)) as refused:
            read(tmp_path, **changed(small_study(), place, value))
        assert "\n" not in str(refused.value)

    def test_what_is_missing(self, tmp_path: Path) -> None:
        study = small_study()
        del study["question"]
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        with pytest.raises(InputError, match=r"small\.yaml: question: Field required$"):
            load_recipe(tmp_path / "small.yaml")


class TestYaml11:
    """What YAML 1.1 reads as a truth value is refused in a sentence, not taken for something else."""

    @pytest.mark.parametrize("word", ["on", "yes", "no", "off", "3", "2026-01-01", "~"])
    def test_as_a_key(self, tmp_path: Path, word: str) -> None:
        text = yaml.safe_dump(small_study())
        (tmp_path / "bad.yaml").write_text(f"{text}{word}: 3\n", encoding="utf-8")
        line = text.count("\n") + 1
        said = f"bad.yaml line {line}: YAML does not read the key {word!r} as a word: put it in quotes"
        with pytest.raises(InputError, match=re.escape(said) + "$"):
            load_recipe(tmp_path / "bad.yaml")

    def test_as_the_name_of_a_training(self, tmp_path: Path) -> None:
        text = yaml.safe_dump(small_study()).replace("one:", "no:")
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="does not read the key 'no' as a word"):
            load_recipe(tmp_path / "bad.yaml")
        (tmp_path / "good.yaml").write_text(text.replace("no:", "'no':"), encoding="utf-8")
        assert load_recipe(tmp_path / "good.yaml").steps[0] == "no"

    def test_deep_inside(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("list: [{b: {}}, [1, &x\n  {no: 1}], *x]\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"bad\.yaml line 2: YAML does not read the key 'no'"):
            load_recipe(tmp_path / "bad.yaml")

    def test_one_of_two_is_not_dropped(self, tmp_path: Path) -> None:
        text = "a: {&m b: 1, c: 2}\nd: &d {e: 1}\nf: {<<: *d, e: 2}\na: 3\n"
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(
            InputError, match=r"bad\.yaml line 4: the key 'a' is there a second time: rename or remove one$"
        ):
            load_recipe(tmp_path / "bad.yaml")

    def test_what_holds_itself_is_refused_in_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("name: &a [*a]\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"bad\.yaml: name: Input should be a valid string$"):
            load_recipe(tmp_path / "bad.yaml")

    def test_as_a_class(self, tmp_path: Path) -> None:
        text = yaml.safe_dump(small_study()) + "derived: {some: {of: cheng, classes: [no]}}\n"
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"derived\.some\.classes\.0: Input should be a valid string"):
            load_recipe(tmp_path / "bad.yaml")

    def test_a_number_without_its_point_is_a_number(self, tmp_path: Path) -> None:
        """YAML 1.1 reads 5e-4 as a word."""
        text = yaml.safe_dump(small_study()).replace("learning_rate: 0.001", "learning_rate: 5e-4")
        (tmp_path / "rate.yaml").write_text(text, encoding="utf-8")
        assert load_recipe(tmp_path / "rate.yaml").config("one", FULL, 0).learning_rate == 5e-4


class TestNames:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"trainings": {"one": {"data": "chang", "protocol": "own"}}},
                "trainings.one names 'chang', which is not there (did you mean 'cheng'?)",
            ),
            (
                {"trainings": {"one": {"data": "cheng", "protocol": "own", "test": "navonel"}}},
                "trainings.one names 'navonel', which is not there",
            ),
            (
                {"trainings": {"one": {"data": "cheng", "protocol": "own", "synthetic": "cheng"}}},
                "trainings.one names 'cheng', which is not there",
            ),
            (
                {
                    "derived": {"made": {"phantom": {}, "planes": ["axial"]}},
                    "trainings": {"one": {"data": "cheng", "protocol": "own", "synthetic": "made"}},
                },
                "trainings.one names 'made', which is not there",
            ),
            (
                {
                    "derived": {"made": {"phantom": {}}},
                    "trainings": {"one": {"data": "made", "protocol": "own", "synthetic": "made"}},
                },
                "trainings.one names 'made', which is not there",
            ),
            (
                {"trainings": {"one": {"data": "cheng", "protocol": "own", "teacher": "one"}}},
                "trainings.one names 'one', which is not there",
            ),
            (
                {"derived": {"left": {"of": "cheng", "phantom": {}}}},
                "derived.left: a dataset is made of another (of) or is a phantom: say one of the two",
            ),
            (
                {"derived": {"left": {"binary": True}}},
                "derived.left: a dataset is made of another (of) or is a phantom: say one of the two",
            ),
            ({"derived": {"left": {"of": "sartaj"}}}, "derived.left names 'sartaj', which is not there"),
            ({"derived": {"left": {"of": "left"}}}, "derived.left names 'left', which is not there"),
            (
                {"derived": {"left": {"of": "cheng", "persons_from": "chenk"}}},
                "derived.left names 'chenk', which is not there (did you mean 'cheng'?)",
            ),
            (
                {"derived": {"left": {"of": "cheng", "without_copies_of": "x"}}},
                "derived.left names 'x', which is not there",
            ),
            (
                {"analyses": {"gap": {"kind": "pair", "a": "one", "b": "ones"}}},
                "analyses.gap names 'ones', which is not there (did you mean 'one'?)",
            ),
            (
                {"analyses": {"sure": {"kind": "temperature", "of": "cheng"}}},
                "analyses.sure names 'cheng', which is not there",
            ),
            (
                {"analyses": {"maps": {"kind": "maps", "of": "one", "data": "brats"}}},
                "analyses.maps names 'brats', which is not there",
            ),
            (
                {"analyses": {"maps": {"kind": "maps", "of": "one", "method": "grad-cam"}}},
                "analyses.maps names 'grad-cam', which is not there (did you mean 'gradcam'?)",
            ),
            (
                {"analyses": {"board": {"kind": "board", "of": "one", "methods": ["cam", "layer-cam"]}}},
                "analyses.board names 'layer-cam', which is not there (did you mean 'layercam'?)",
            ),
            (
                {"figures": [{"kind": "curves", "title": "Curves", "of": ["onne"]}]},
                "figure 'Curves' names 'onne', which is not there (did you mean 'one'?)",
            ),
            (
                {"figures": [{"kind": "gallery", "title": "G", "of": ["one"], "options": {"method": "cams"}}]},
                "figure 'G' names 'cams', which is not there (did you mean 'cam'?)",
            ),
            (
                {"figures": [{"kind": "gallery", "title": "G", "of": ["one"], "options": {"method": 3}}]},
                "figure 'G' names '3', which is not there",
            ),
            (
                {"table": [{"label": "accuracy", "own": "on:accuracy"}]},
                "table row 'accuracy' names 'on', which is not there (did you mean 'one'?)",
            ),
            (
                {"scales": {"quick": {"reduction": "r", "skip": ["onw"]}}},
                "scale 'quick' names 'onw', which is no step (did you mean 'one'?)",
            ),
            (
                {"scales": {"quick": {"reduction": "r", "trainings": {"oen": {"size": 64}}}}},
                "scale 'quick' names 'oen', which is no step (did you mean 'one'?)",
            ),
        ],
    )
    def test_one_that_stands_for_nothing_is_refused(self, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError) as refused:
            read(tmp_path, **changes)
        assert str(refused.value) == f"{tmp_path / 'small.yaml'}: {said}"

    @pytest.mark.parametrize(("kind", "of"), [("curves", "cheng"), ("sweep", "cheng"), ("balance", "one")])
    def test_a_figure_of_data_is_none_of_trainings(self, tmp_path: Path, kind: str, of: str) -> None:
        with pytest.raises(InputError, match=f"figure 'Title' names '{of}', which is not there"):
            read(tmp_path, figures=[{"kind": kind, "title": "Title", "of": [of]}])

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"derived": {"cheng": {"of": "cheng"}}}, "two datasets are called 'cheng'"),
            ({"analyses": {"one": {"kind": "planes", "of": "one"}}}, "two steps are called 'one'"),
            ({"analyses": {"figures": {"kind": "planes", "of": "one"}}}, "two steps are called 'figures'"),
            (
                {
                    "figures": [
                        {"kind": "balance", "title": t, "of": ["cheng"]} for t in ("All, by class", "all by-class")
                    ]
                },
                "two figures are called 'all-by-class'",
            ),
        ],
    )
    def test_one_that_stands_for_two_things_is_refused(
        self, tmp_path: Path, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(InputError, match=f"{said}: rename one of them$"):
            read(tmp_path, **changes)

    def test_nothing_is_made_from_itself(self, tmp_path: Path) -> None:
        circle = {"a": {"of": "b"}, "b": {"of": "cheng", "without_copies_of": "c"}, "c": {"of": "a"}}
        with pytest.raises(InputError, match=r"derived\.a is made from itself, by way of a and b and c$"):
            read(tmp_path, derived=circle)
        line = {"a": {"of": "b"}, "b": {"of": "c"}, "c": {"of": "cheng"}}
        assert read(tmp_path, derived=line).derived["a"].sources == ("b",)

    def test_figures_are_called_after_their_titles(self) -> None:
        assert Figure(kind="curves", title="With, and WITHOUT: 3 x", of=("a",)).file == "with-and-without-3-x"


class TestScales:
    SCALES: ClassVar[dict[str, Any]] = {
        "less": {
            "reduction": "Less.",
            "train": {"size": 64, "epochs": 2},
            "trainings": {"one": {"epochs": 3}},
            "stand_ins": {"vgg16": "resnet18"},
        }
    }  # fmt: skip

    def recipe(self, **changes: Any) -> Recipe:
        trainings = {
            "one": {"data": "cheng", "protocol": "honest", "train": {"model": "vgg16", "size": 128, "batch_size": 4}},
            **MORE,
        }
        return Recipe.model_validate(small_study(trainings=trainings, scales=self.SCALES) | changes)

    def test_the_whole_study_is_one_too(self) -> None:
        recipe = self.recipe()
        assert recipe.scale(FULL).reduction == ""
        assert recipe.scale("less").reduction == "Less."
        with pytest.raises(
            InputError, match=r"small has no scale 'les' \(did you mean 'less'\?\): choose of full, less"
        ):
            recipe.scale("les")

    def test_nearer_words_come_last(self) -> None:
        """The study's, the training's, the scale's, the scale's for this training, and the seed."""
        recipe = self.recipe()
        full, less = recipe.config("one", FULL, 1), recipe.config("one", "less", 1)
        assert (full.model, full.size, full.epochs, full.batch_size, full.seed) == ("vgg16", 128, 1, 4, 1)
        assert (less.model, less.size, less.epochs, less.batch_size, less.seed) == ("resnet18", 64, 3, 4, 1)
        other = recipe.config("two", "less", 0)
        assert (other.model, other.size, other.epochs, other.batch_size) == ("vgg_tiny", 64, 2, 32)

    def test_weights_are_those_of_the_network_that_is_trained(self) -> None:
        recipe = self.recipe(train={"pretrained": "hub"})
        weights = {"vgg16": "a.pth", "resnet18": "b.pth"}
        assert recipe.config("one", FULL, 0).pretrained == "hub"
        assert recipe.config("one", FULL, 0, weights).pretrained == "a.pth"
        assert recipe.config("one", "less", 0, weights).pretrained == "b.pth"
        assert recipe.config("one", "less", 0, {"vgg16": "a.pth"}).pretrained == "hub"
        assert recipe.config("two", "less", 0, weights).pretrained == "hub"
        assert self.recipe().config("one", FULL, 0).pretrained == "none"

    def test_the_default_network_has_stand_ins_too(self) -> None:
        scales = {"less": {"reduction": "r", "stand_ins": {"mobilenetv2_100": "alexnet"}}}
        recipe = Recipe.model_validate(small_study(train={}, scales=scales))
        assert recipe.config("one", "less", 0).model == "alexnet"

    @pytest.mark.parametrize(
        ("place", "value", "said"),
        [
            ("train.epoch", 3, "one sets 'epoch', which no training knows (did you mean 'epochs'?)"),
            ("trainings.one.train.optimiser", "adam", "one sets 'optimiser', which no training knows (did you mean"),
            ("scales.less.train.sizes", 64, "one sets 'sizes', which no training knows (did you mean 'size'?)"),
            ("scales.less.trainings.one.seeds", 2, "one sets 'seeds', which no training knows (did you mean 'seed'?)"),
            ("train.epochs", 0, "epochs = 0 cannot be used: Input should be greater than or equal to 1"),
            ("scales.less.train.size", 8, "size = 8 cannot be used"),
            ("train.optimizer", "lion", "optimizer = 'lion' cannot be used"),
            ("train.augment", {"flipp": 1}, "augment.flipp = 1 cannot be used"),
            ("train.frozen", "maybe", "frozen = 'maybe' cannot be used"),
        ],
    )
    def test_what_no_training_can_do_is_refused_at_once(
        self, tmp_path: Path, place: str, value: object, said: str
    ) -> None:
        scales = {"less": {"reduction": "Less."}}
        with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'small.yaml'}: {said}")):
            read(tmp_path, **changed(small_study(scales=scales), place, value))

    def test_steps_are_in_the_order_in_which_they_are_done(self) -> None:
        analyses = {"z": {"kind": "pair", "a": "one", "b": "two"}, "a": {"kind": "planes", "of": "two"}}
        assert self.recipe(analyses=analyses).steps == ("one", "two", "z", "a", "figures", "page")
