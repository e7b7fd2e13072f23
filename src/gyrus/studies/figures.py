"""The figures a recipe lists, drawn from the datasets and the trained models of a study."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.explain import explain_records
from gyrus.loading import Progress
from gyrus.models import load_model
from gyrus.page.charts import standalone
from gyrus.records import Record
from gyrus.studies import charts, data, pictures
from gyrus.studies.lab import Datasets
from gyrus.studies.plans import ANSWERS, Figure
from gyrus.studies.trainings import Outcome, Trainings, Unit
from gyrus.studies.values import accuracy_by_run, confusion

SURE = 0.95


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure on disk and on the page.

    Attributes:
        title: printed above it.
        file: its name in the folder of figures.
        chart: inline SVG, or None where the file is a picture.
    """

    title: str
    file: str
    chart: Markup | None


class Painter:
    """Draws the figures of one study into a folder.

    Args:
        datasets: the study's.
        trainings: likewise.
        folder: where the files go; what has the same name is replaced.
        progress: called while slices are read.
    """

    def __init__(
        self, datasets: Datasets, trainings: Trainings, folder: Path, progress: Progress | None = None
    ) -> None:
        self.datasets, self.trainings, self.folder, self.progress = datasets, trainings, folder, progress

    def draw(self, figure: Figure) -> list[Drawn]:
        """Draw one figure of a recipe, which may be several charts.

        Raises:
            InputError: as :meth:`check`, or slices that are not there.
        """
        made = self.check(figure)(figure.of, **figure.options)
        return [self._write(figure, k, one) for k, one in enumerate(made, start=1)]

    def check(self, figure: Figure) -> Callable[..., list[Markup] | list[Any]]:
        """Return what draws a figure, after making sure that it can be called with the figure's options.

        Raises:
            InputError: an option the kind does not take.
        """
        kinds: dict[str, Callable[..., list[Markup] | list[Any]]] = {
            "balance": self._balance,
            "samples": self._samples,
            "augmentation": self._augmentation,
            "crop": self._crop,
            "curves": self._curves,
            "spread": self._spread,
            "confusion": self._confusion,
            "answers": self._answers,
            "gallery": self._gallery,
            "sweep": self._sweep,
        }
        draw = kinds[figure.kind]
        try:
            inspect.signature(draw).bind(figure.of, **figure.options)
        except TypeError as error:
            raise InputError(f"figure {figure.title!r} ({figure.kind}): {error}: correct its options") from None
        return draw

    def _write(self, figure: Figure, k: int, made: Any) -> Drawn:
        name = f"{figure.file}-{k}"
        self.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(made, Markup):
            (self.folder / f"{name}.svg").write_text(standalone(made), encoding="utf-8")
            return Drawn(figure.title, f"{name}.svg", made)
        pictures.save(made, self.folder / f"{name}.png")
        return Drawn(figure.title, f"{name}.png", None)

    def _balance(self, of: Sequence[str], *, planes: bool = False) -> list[Markup]:
        found = {name: self.datasets[name].dataset for name in of}
        made = [charts.shares({n: dict(Counter(str(r.label) for r in d)) for n, d in found.items()}, "Classes")]
        for name, dataset in found.items() if planes else ():
            known = data.with_planes(dataset, progress=self.progress)
            rows = {c: dict(Counter(r.plane or "unsure" for r in known if r.label == c)) for c in known.classes}
            made.append(charts.shares(rows, f"Planes of {name}"))
        return made

    def _samples(self, of: Sequence[str], *, per_class: int = 4) -> list[Any]:
        return [pictures.samples(self.datasets[name].dataset, per_class) for name in of]

    def _augmentation(self, of: Sequence[str], *, slices: int = 3) -> list[Any]:
        made = []
        for name in of:
            unit = self.trainings.units(name)[0]
            records = _spread_out(list(unit.source.whole.select(unit.split.train)), slices)
            made.append(pictures.augmentation(records, unit.config.augment, unit.config.preprocess(), 0))
        return made

    def _crop(self, of: Sequence[str], *, slices: int = 4) -> list[Any]:
        made = []
        for name in of:
            unit = self.trainings.units(name)[0]
            records = _spread_out(list(unit.source.whole.select(unit.split.train)), slices)
            made.append(pictures.crop(records, unit.config.preprocess()))
        return made

    def _curves(self, of: Sequence[str]) -> list[Markup]:
        return charts.curves({name: self.trainings[name].epochs for name in of})

    def _spread(self, of: Sequence[str]) -> list[Markup]:
        return [charts.spread({name: accuracy_by_run(self.trainings[name]) for name in of}, "Accuracy of each run")]

    def _confusion(self, of: Sequence[str]) -> list[Markup]:
        found = {name: self.trainings[name] for name in of}
        return [charts.confusion_heatmap(confusion(o), o.classes, name) for name, o in found.items()]

    def _answers(self, of: Sequence[str]) -> list[Markup]:
        made = []
        for name in of:
            outcome = self.trainings[name]
            rows = {
                word: {c: int((outcome.truth[keep] == k).sum()) for k, c in enumerate(outcome.classes)}
                for word, keep in (("right", outcome.correct), ("wrong", ~outcome.correct))
            }
            made.append(charts.shares(rows, f"Classes among the answers of {name}"))
        return made

    def _gallery(
        self,
        of: Sequence[str],
        *,
        which: str = "typical",
        called: str | None = None,
        label: str | None = None,
        method: str = "gradcam",
        layer: str | None = None,
        truth: bool = False,
        slices: int = 6,
    ) -> list[Any]:
        """Draw some answers with their maps: typical right ones, wrong ones, or wrong ones the model is sure of."""
        made: list[Any] = []
        for name in of:
            chosen = choose(self.trainings[name], which, called=called, label=label, slices=slices)
            cases = self._cases(self.trainings[name], chosen, method, layer)
            if cases:
                made.append(pictures.four_panels(cases) if truth else pictures.overlay_panels(cases))
            else:
                made.append(_none(name, which, label, called))
        return made

    def _sweep(
        self, of: Sequence[str], *, which: str = "wrong", method: str = "gradcam", label: str | None = None
    ) -> list[Any]:
        made: list[Any] = []
        for name in of:
            outcome = self.trainings[name]
            chosen = choose(outcome, which, label=label, slices=1)
            made += [] if chosen else [_none(name, which, label)]
            for row in chosen:
                unit, record = _found(outcome, row)
                model = load_model(unit.run, device=pick_device(self.trainings.device))
                maps = explain_records(model, [record], methods=[method], layers="sweep", true_class=False)
                image = record.read()
                by_layer = {key.layer: array[0] for key, array in maps.arrays.items()}
                truth = record.read_mask(image.shape)
                made.append(pictures.layer_sweep(image, by_layer, maps.preprocess, truth=truth))
        return made

    def _cases(self, outcome: Outcome, rows: Sequence[int], method: str, layer: str | None) -> list[pictures.Case]:
        cases = []
        for row in rows:
            unit, record = _found(outcome, row)
            model = load_model(unit.run, device=pick_device(self.trainings.device))
            layers = None if layer is None else [layer]
            maps = explain_records(model, [record], methods=[method], layers=layers, true_class=False)
            heat = next(iter(maps.arrays.values()))[0]
            said, sure = int(outcome.logits[row].argmax()), float(outcome.probabilities[row].max())
            caption = f"{record.label}, called {outcome.classes[said]}, {sure:.2f}"
            cases.append(pictures.Case(record, heat, maps.preprocess, caption))
        return cases


def choose(
    outcome: Outcome, which: str, *, called: str | None = None, label: str | None = None, slices: int = 6
) -> list[int]:
    """Return rows of an outcome to look at, of different groups.

    Args:
        outcome: of an experiment.
        which: "typical" (right, of middling certainty), "wrong" (the surest first), or "sure" (wrong, above 0.95).
        called: only those given this class.
        label: only those of this class.
        slices: at most so many.

    Raises:
        InputError: no such choice.
    """
    sure = outcome.probabilities.max(axis=1)
    if which not in ANSWERS:
        raise InputError(f"slices cannot be chosen by {which!r}: choose of {', '.join(ANSWERS)}")
    keep = outcome.correct.copy() if which == "typical" else ~outcome.correct
    if which == "sure":
        keep &= sure > SURE
    if called is not None:
        keep &= outcome.logits.argmax(axis=1) == _index(outcome, called)
    if label is not None:
        keep &= outcome.truth == _index(outcome, label)
    rows = np.flatnonzero(keep)
    middle = float(np.median(sure[rows])) if len(rows) else 0.0
    order = sorted(rows, key=lambda i: (abs(sure[i] - middle) if which == "typical" else -sure[i], outcome.ids[i]))
    chosen: dict[str, int] = {}
    for row in order:
        chosen.setdefault(outcome.groups[row], int(row))
    return list(chosen.values())[:slices]


def _index(outcome: Outcome, name: str) -> int:
    if name not in outcome.classes:
        raise InputError(f"the training knows no class {name!r}: choose of {', '.join(outcome.classes)}")
    return outcome.classes.index(name)


def _none(name: str, which: str, label: str | None, called: str | None = None) -> Markup:
    """Return the chart that stands where a training gave no answer of the kind looked for."""
    said = f" called {called}" if called else ""
    return charts.nothing(f"{name}: {which} answers, {label or 'any class'}{said}")


def _found(outcome: Outcome, row: int) -> tuple[Unit, Record]:
    """Return the run that classified a row, and its record."""
    for unit in outcome.units:
        if row < len(unit.test):
            return unit, unit.test[row]
        row -= len(unit.test)
    raise IndexError(row)


def _spread_out(records: Sequence[Record], n: int) -> list[Record]:
    """Return up to n records of different classes, as far as there are."""
    by_class: dict[str | None, list[Record]] = {}
    for record in records:
        by_class.setdefault(record.label, []).append(record)
    turns: Mapping[int, list[Record]] = {i: [rows[i] for rows in by_class.values() if i < len(rows)] for i in range(n)}
    return [record for turn in turns.values() for record in turn][:n]
