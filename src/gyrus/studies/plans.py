"""The parts of a recipe: data, splits, trainings, analyses, figures, rows of the table, scales."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gyrus.augment import Augment
from gyrus.studies.data import Shift

ANSWERS = ("typical", "wrong", "sure")
"""Which answers a figure may show: right ones of middling certainty, wrong ones, wrong ones the model is sure of."""


class Part(BaseModel):
    """What every part of a recipe is: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Copies(Part):
    """Changed versions of every image, written beside the originals.

    Attributes:
        copies: of each image, or class -> of each image of that class.
        augment: how far each is changed.
        size: side of the written images in pixels.
    """

    copies: int | dict[str, int]
    augment: Augment
    size: int = Field(default=240, ge=32)

    @field_validator("copies")
    @classmethod
    def _none_or_more(cls, copies: int | dict[str, int]) -> int | dict[str, int]:
        numbers = copies.values() if isinstance(copies, dict) else (copies,)
        if min(numbers, default=0) < 0:
            raise ValueError(f"there cannot be {min(numbers)} copies of a slice: say 0 or more")
        return copies


class Fix(Part):
    """More slices of one class: those in the listed planes, each moved and turned as listed.

    Attributes:
        label: the class.
        planes: of the slices that are repeated.
        transforms: one more slice each.
    """

    label: str
    planes: tuple[str, ...]
    transforms: tuple[Shift, ...]


class Phantom(Part):
    """A synthetic dataset, as ``gyrus data phantom`` makes it.

    Attributes:
        patients: how many.
        seed: what they depend on.
        varied: whether gliomas are of every look.
    """

    patients: int = Field(default=120, ge=8)
    seed: int = Field(default=1, ge=0)
    varied: bool = True


class Data(Part):
    """A dataset made from another, or from nothing, in the order of these fields.

    Attributes:
        of: a dataset of the study, by its registered name, or another one of these.
        phantom: a synthetic one instead.
        persons_from: a dataset that knows its patients: slices that repeat one of its slices are that patient's.
        classes: keep these only.
        planes: keep slices seen in these only.
        without_copies_of: leave out what repeats a slice of that dataset.
        binary: name them tumor and no_tumor.
        rebalanced: add moved and turned slices of one class.
        augmented: add changed copies of all slices, before any split.
    """

    of: str | None = None
    phantom: Phantom | None = None
    persons_from: str | None = None
    classes: tuple[str, ...] = ()
    planes: tuple[str, ...] = ()
    without_copies_of: str | None = None
    binary: bool = False
    rebalanced: Fix | None = None
    augmented: Copies | None = None

    @model_validator(mode="after")
    def _from_one(self) -> Self:
        if (self.of is None) == (self.phantom is None):
            raise ValueError("a dataset is made of another (of) or is a phantom: say one of the two")
        return self

    @property
    def is_whole_phantom(self) -> bool:
        """Whether it is a phantom of which nothing is left out, added or renamed."""
        return self.model_fields_set == {"phantom"}

    @property
    def sources(self) -> tuple[str, ...]:
        """The datasets it needs."""
        return tuple(name for name in (self.of, self.persons_from, self.without_copies_of) if name is not None)


class SplitPlan(Part):
    """How slices are split.

    Attributes:
        folds: of a cross-validation; None for one hold-out.
        fractions: of train, val and test, for a hold-out.
        val: with folds, whether one of them chooses the epoch; without, the last epoch is kept.
        group: as for ``gyrus split``: auto, patient, cluster, or record-wise.
        originals: test and validate on originals only, where the data holds changed copies.
    """

    folds: int | None = Field(default=None, ge=2)
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    val: bool = False
    group: Literal["auto", "patient", "cluster", "record-wise"] = "auto"
    originals: bool = False


class Training(Part):
    """One experiment: data, split and recipe, repeated over seeds and folds.

    Attributes:
        data: a dataset of the study, or one of its ``derived``.
        protocol: the study's own, or the honest one.
        split: how.
        train: fields of :class:`gyrus.TrainConfig` that differ from the study's.
        test: another dataset that is classified in place of the split's test part.
        teacher: another training, of one run per seed, whose model guides the class map in place of outlines.
        synthetic: a phantom of the study whose slices take part in the training.
        seeds: how many, where not as many as the study says; each draws split and weights anew.
    """

    data: str
    protocol: Literal["own", "honest"]
    split: SplitPlan = SplitPlan()
    train: dict[str, Any] = {}
    test: str | None = None
    teacher: str | None = None
    synthetic: str | None = None
    seeds: int | None = Field(default=None, ge=1)


class Pair(Part):
    """Two trainings compared: slice by slice where they classified the same ones.

    Attributes:
        kind: "pair".
        a: a training.
        b: another; the difference is b minus a.
    """

    kind: Literal["pair"]
    a: str
    b: str


class Board(Part):
    """Which of a training's maps shows the tumour: a leaderboard of its first seed.

    Attributes:
        kind: "board".
        of: a training on a dataset as it is published, with outlines.
        methods: of explanation.
        layers: module names, "stages", or "last".
        sample: slices for what is slow.
    """

    kind: Literal["board"]
    of: str
    methods: tuple[str, ...]
    layers: tuple[str, ...] | str = "stages"
    sample: int = 0


class Maps(Part):
    """How well one map of a training's models shows the tumour on some slices with outlines.

    Attributes:
        kind: "maps".
        of: a training.
        data: a dataset with outlines; a training patient's slices in it are left out. By default the test part.
        method: of explanation.
        layer: a module's name; by default the last.
        slices: at most so many.
    """

    kind: Literal["maps"]
    of: str
    data: str | None = None
    method: str = "gradcam"
    layer: str | None = None
    slices: int = Field(default=300, ge=1)


class Joint(Part):
    """Whether a map and a rule without a network, multiplied, show the tumour better than either.

    Attributes:
        kind: "joint".
        of: a training on a dataset with outlines.
        method: of explanation.
        layers: module names, or "stages"; training slices choose.
        rule: a map without a network.
        learn: training slices on which layer and cut are chosen.
        slices: at most so many are tested, of each seed.
    """

    kind: Literal["joint"]
    of: str
    method: str = "elementwise"
    layers: tuple[str, ...] | str = "stages"
    rule: str = "intensity*prior"
    learn: int = Field(default=100, ge=1)
    slices: int = Field(default=5000, ge=1)


class Temperature(Part):
    """How sure a training's models are of their errors, before and after temperature scaling on validation slices.

    Attributes:
        kind: "temperature".
        of: a training whose split has a validation part.
    """

    kind: Literal["temperature"]
    of: str


class ByPlane(Part):
    """What a training's models answer in each plane.

    Attributes:
        kind: "planes".
        of: a training.
        label: the class whose false alarms are counted, plane by plane.
    """

    kind: Literal["planes"]
    of: str
    label: str = "no_tumor"


Analysis = Annotated[Pair | Board | Maps | Joint | Temperature | ByPlane, Field(discriminator="kind")]


class Figure(Part):
    """One figure of the study.

    Attributes:
        kind: which; see :mod:`gyrus.studies.figures`.
        title: printed above it.
        of: the trainings, or the datasets, that it shows.
        options: what the kind takes besides.
    """

    kind: Literal[
        "balance", "samples", "augmentation", "crop", "curves", "spread", "confusion", "answers", "gallery", "sweep"
    ]
    title: str
    of: tuple[str, ...] = Field(min_length=1)
    options: dict[str, Any] = {}

    @field_validator("options")
    @classmethod
    def _possible(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in ("slices", "per_class"):
            number = options.get(name, 1)
            if type(number) is not int or number < 1:  # True is an int to Python
                raise ValueError(f"{name} is {number!r}: say a whole number from 1 on")
        for name in ("called", "label", "layer"):
            if options.get(name) is not None and not isinstance(options[name], str):
                raise ValueError(f"{name} is {options[name]!r}: say a name, in quotes if YAML does not read it as one")
        which = options.get("which", ANSWERS[0])
        if which not in ANSWERS:
            raise ValueError(f"which is {which!r}: choose of {', '.join(ANSWERS)}")
        return options

    @property
    def shows_data(self) -> bool:
        """Whether it is of datasets, not of trainings."""
        return self.kind in ("balance", "samples")

    @property
    def file(self) -> str:
        """What its files are called, before their number."""
        return re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")


class Row(Part):
    """One row of the table: claimed, under the study's own protocol, under the honest one.

    Attributes:
        label: what is measured.
        claimed: by the study, as printed there.
        own: where it was measured, as STEP:VALUE.
        honest: likewise.
    """

    label: str
    claimed: float | None = None
    own: str | None = None
    honest: str | None = None


class Scale(Part):
    """A smaller version of the study, and what is small about it.

    Attributes:
        reduction: in a sentence, printed with every table.
        slices: of each dataset, at most; whole patients or clusters are left out.
        phantoms: patients of each phantom, at most.
        seeds: at most.
        once: trainings of one seed only, and joint analyses that look at the first one's runs alone.
        folds: at most.
        train: fields of :class:`gyrus.TrainConfig`, put on every training.
        trainings: the same for single ones, by name.
        stand_ins: architecture -> the one trained in its place.
        skip: steps that are left out.
    """

    reduction: str
    slices: int | None = Field(default=None, ge=20)
    phantoms: int | None = Field(default=None, ge=8)
    seeds: int | None = Field(default=None, ge=1)
    once: tuple[str, ...] = ()
    folds: int | None = Field(default=None, ge=2)
    train: dict[str, Any] = {}
    trainings: dict[str, dict[str, Any]] = {}
    stand_ins: dict[str, str] = {}
    skip: tuple[str, ...] = ()
