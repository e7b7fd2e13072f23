"""A study as a value: what a YAML file in this folder says, checked before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from gyrus.baselines import BASELINES
from gyrus.errors import InputError
from gyrus.explain.methods import METHODS
from gyrus.paths import PathLike
from gyrus.studies.plans import (
    Analysis,
    Board,
    ByPlane,
    Copies,
    Data,
    Figure,
    Fix,
    Joint,
    Maps,
    Pair,
    Part,
    Phantom,
    Row,
    Scale,
    SplitPlan,
    Temperature,
    Training,
)
from gyrus.trainconfig import TrainConfig, make_config

HERE = Path(__file__).parent
FULL = "full"


class Recipe(Part):
    """A published study.

    Attributes:
        name: on the command line.
        title: one line.
        question: what it asks.
        about: what it did, and what is reproduced.
        data: the datasets it needs, by their registered names.
        seeds: of every training.
        train: fields of :class:`gyrus.TrainConfig` that all trainings share.
        derived: datasets made from those in ``data``.
        trainings: by name.
        analyses: by name, what is made of trained models.
        figures: in the order of the page.
        table: claimed beside measured.
        changed: two sentences on what the honest protocol changes and why.
        scales: smaller versions by name; "quick" is one of them.
    """

    name: str
    title: str
    question: str
    about: str
    data: tuple[str, ...] = Field(min_length=1)
    seeds: int = Field(default=3, ge=1)
    train: dict[str, Any] = Field(default={})
    derived: dict[str, Data] = Field(default={})
    trainings: dict[str, Training] = Field(min_length=1)
    analyses: dict[str, Analysis] = Field(default={})
    figures: tuple[Figure, ...] = ()
    table: tuple[Row, ...] = ()
    changed: str
    scales: dict[str, Scale] = Field(default={})

    @model_validator(mode="after")
    def _names_are_there(self) -> Self:
        datasets = {*self.data, *self.derived}
        self._refuse_two_meanings()
        for where, name, known in self._mentions(datasets):
            if name not in known:
                raise ValueError(f"{where} names {name!r}, which is not there{nearest(name, known)}")
        for name, scale in self.scales.items():
            for step in (*scale.trainings, *scale.once, *scale.skip):
                if step not in self.steps:
                    raise ValueError(f"scale {name!r} names {step!r}, which is no step{nearest(step, self.steps)}")
        for name in self.trainings:
            for scale_name in (FULL, *self.scales):
                config = self.config(name, scale_name, 0)
                if self.trainings[name].teacher is not None:
                    make_config(**{**config.model_dump(), "guide": "a teacher"})
        for name in self.derived:
            self._refuse_circle(name, ())
        return self

    @property
    def steps(self) -> tuple[str, ...]:
        """Everything that ``--only`` takes, in the order in which it is done."""
        return (*self.trainings, *self.analyses, "figures", "page")

    def scale(self, name: str) -> Scale:
        """Return a smaller version, or the whole study under the name "full".

        Raises:
            InputError: there is none of that name.
        """
        if name == FULL:
            return Scale(reduction="")
        if name not in self.scales:
            known = (FULL, *self.scales)
            raise InputError(f"{self.name} has no scale {name!r}{nearest(name, known)}: choose of {', '.join(known)}")
        return self.scales[name]

    def config(self, training: str, scale: str, seed: int, weights: Mapping[str, str] | None = None) -> TrainConfig:
        """Return what a training is trained with.

        Args:
            training: its name.
            scale: "full" or one of ``scales``.
            seed: of weights, order and augmentation.
            weights: architecture -> where its initial weights are, in place of the recipe's source.

        Raises:
            InputError: a field that :class:`gyrus.TrainConfig` lacks, or an impossible value.
        """
        smaller = self.scale(scale)
        fields: dict[str, Any] = {**self.train, **self.trainings[training].train}
        model = str(fields.get("model", TrainConfig.model_fields["model"].default))
        fields["model"] = smaller.stand_ins.get(model, model)
        fields |= {**smaller.train, **smaller.trainings.get(training, {}), "seed": seed}
        fields["pretrained"] = (weights or {}).get(fields["model"], fields.get("pretrained", "none"))
        unknown = next((key for key in fields if key not in TrainConfig.model_fields), None)
        if unknown is not None:
            known = tuple(TrainConfig.model_fields)
            raise InputError(f"{training} sets {unknown!r}, which no training knows{nearest(unknown, known)}")
        return make_config(**fields)

    def _refuse_two_meanings(self) -> None:
        named = {
            "datasets": (*self.data, *self.derived),
            "steps": self.steps,
            "figures": [figure.file for figure in self.figures],
        }
        for what, names in named.items():
            twice = next((name for name in names if list(names).count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two {what} are called {twice!r}: rename one of them")

    def _refuse_circle(self, name: str, before: tuple[str, ...]) -> None:
        if name in before:
            raise ValueError(f"derived.{name} is made from itself, by way of {' and '.join(before)}")
        for source in self.derived[name].sources if name in self.derived else ():
            self._refuse_circle(source, (*before, name))

    def _mentions(self, datasets: set[str]) -> Iterator[tuple[str, str, Iterable[str]]]:
        """Yield (where, name, what it must be one of) for every name that stands for something else."""
        for key, data in self.derived.items():
            for source in data.sources:
                yield f"derived.{key}", source, datasets - {key}
        for key, training in self.trainings.items():
            for name in (training.data, training.test):
                if name is not None:
                    yield f"trainings.{key}", name, datasets
            if training.synthetic is not None:  # the whole of a phantom, none of whose people is tested
                phantoms = {n for n, d in self.derived.items() if d.is_whole_phantom}
                yield f"trainings.{key}", training.synthetic, phantoms - {training.data, training.test}
            if training.teacher is not None:
                alone = {n for n, t in self.trainings.items() if t.split.folds is None and t.teacher is None}
                yield f"trainings.{key}", training.teacher, alone - {key}
        for key, analysis in self.analyses.items():
            for field in ("of", "a", "b"):
                if hasattr(analysis, field):
                    yield f"analyses.{key}", getattr(analysis, field), self.trainings
            if isinstance(analysis, Maps) and analysis.data is not None:
                yield f"analyses.{key}", analysis.data, datasets
            if isinstance(analysis, Board | Maps | Joint):
                for name in analysis.methods if isinstance(analysis, Board) else (analysis.method,):
                    yield f"analyses.{key}", name, METHODS
            if isinstance(analysis, Joint):
                yield f"analyses.{key}", analysis.rule, BASELINES
        for figure in self.figures:
            if "method" in figure.options:
                yield f"figure {figure.title!r}", str(figure.options["method"]), METHODS
            for name in figure.of:
                yield f"figure {figure.title!r}", name, datasets if figure.shows_data else self.trainings
        for row in self.table:
            for value in (row.own, row.honest):
                if value is not None:
                    yield f"table row {row.label!r}", value.partition(":")[0], {*self.trainings, *self.analyses}


def load_recipe(path: Path) -> Recipe:
    """Read a study's file.

    Raises:
        InputError: it is missing, is no YAML, or says something that cannot be; a wrong key is named with the nearest
            right one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node, value = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: name a study's YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no YAML ({str(error).splitlines()[0]}): see the how-to on studies") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no keys: see the how-to on studies")
    _refuse_misread(node, path, set())
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from None


def _refuse_misread(node: Any, path: Path, seen: set[int]) -> None:
    """Refuse keys that YAML 1.1 takes for a truth value or a number, and those of which it would drop all but one."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    words: set[str] = set()
    for key, _ in pairs:
        where = f"{path} line {key.start_mark.line + 1}"
        if not key.tag.endswith((":str", ":merge")):
            raise InputError(f"{where}: YAML does not read the key {key.value!r} as a word: put it in quotes")
        if key.value in words:
            raise InputError(f"{where}: the key {key.value!r} is there a second time: rename or remove one")
        words.add(key.value)
    for child in [value for _, value in pairs] or node.value:
        _refuse_misread(child, path, seen)


def list_studies() -> tuple[str, ...]:
    """Return the names of the studies that gyrus ships."""
    return tuple(sorted(path.stem for path in HERE.glob("*.yaml")))


def find_study(name: PathLike) -> Recipe:
    """Return a study by its name, or by the path of its YAML file.

    Raises:
        InputError: there is none of that name, or the file cannot be used.
    """
    name = str(name)
    if name.endswith((".yaml", ".yml")):
        return load_recipe(Path(name))
    known = list_studies()
    if name not in known:
        raise InputError(f"there is no study {name!r}{nearest(name, known)}: choose of {', '.join(known)}")
    return load_recipe(HERE / f"{name}.yaml")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ", did you mean ...?" where something known is near, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _first(error: ValidationError) -> str:
    """Return the first thing wrong with a recipe as a sentence."""
    wrong = error.errors()[0]
    where = ".".join(str(p) for p in wrong["loc"])
    if wrong["type"] != "extra_forbidden":
        said = str(wrong["msg"]).removeprefix("Value error, ")
        return f"{where}: {said}" if where else said
    return f"{where} is no key of a study{nearest(str(wrong['loc'][-1]), _keys(Recipe))}"


def _keys(model: type[BaseModel]) -> set[str]:
    """Return every key that may stand anywhere in a recipe."""
    parts = (Data, Phantom, Copies, Fix, SplitPlan, Training, Figure, Row, Scale)
    analyses = (Pair, Board, Maps, Joint, Temperature, ByPlane)
    return {key for part in (model, *parts, *analyses) for key in part.model_fields}
