"""What a study makes of its trained models: comparisons, maps against outlines, certainty, planes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import is_finished, read_json, stage_folder, to_json, write_json
from gyrus.certainty.temperature import fit_temperature
from gyrus.devices import pick_device
from gyrus.duplicates import find_copies
from gyrus.errors import InputError
from gyrus.evaluate.calibration import confident_errors, expected_calibration_error
from gyrus.evaluate.ceilings import area_ceiling
from gyrus.evaluate.localization import localize
from gyrus.evaluate.pairing import Comparison, compare_independent, compare_paired
from gyrus.explain import explain_records
from gyrus.intervals import Bootstrap, Interval
from gyrus.leaderboard import build_leaderboard, make_settings
from gyrus.loading import Progress
from gyrus.models import load_model
from gyrus.predictions import Predictions
from gyrus.records import Dataset, Record
from gyrus.studies import data
from gyrus.studies.joint import multiply
from gyrus.studies.lab import Datasets
from gyrus.studies.plans import Analysis, Board, ByPlane, Joint, Maps, Pair, Temperature
from gyrus.studies.recipe import Recipe
from gyrus.studies.trainings import Outcome, Trainings, Unit, softmax
from gyrus.studies.values import Values, plain_value

RESULT = "result.json"

_Rows = Mapping[tuple[int, str], tuple[bool, str]]
"""(seed, id) -> (right, group)."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a step found.

    Attributes:
        values: by name, each with its interval where it has one.
        facts: what is told beside them, JSON-able.
    """

    values: Values
    facts: dict[str, Any]


class Analyses:
    """The analyses of one study, each done on first use and kept by a fingerprint of the runs it looks at."""

    def __init__(
        self, recipe: Recipe, datasets: Datasets, trainings: Trainings, folder: Path, progress: Progress | None = None
    ) -> None:
        self.recipe, self.datasets, self.trainings = recipe, datasets, trainings
        self.folder, self.progress = folder, progress

    def __getitem__(self, name: str) -> Result:
        plan = self.recipe.analyses[name]
        once = name in self.datasets.scale.once
        units = [u for t in _trainings(plan) for u in _first_seed(self.trainings.units(t), once)]
        runs = [str(u.run.relative_to(self.trainings.folder)) for u in units]
        inputs = to_json([plan.model_dump(), runs, self.trainings.scale, *self._elsewhere(plan, units)])
        folder = self.folder / f"{name}-{hashlib.sha256(inputs.encode()).hexdigest()[:8]}"
        if not is_finished(folder):
            found = self._find(plan, folder, once)
            with stage_folder(folder, plan.kind, arguments=plan.model_dump()) as aside:
                write_json(aside / RESULT, {"values": found.values, "facts": found.facts})
        value = read_json(folder / RESULT, "the result of a study's step")
        return Result({k: _interval(v) for k, v in value["values"].items()}, value["facts"])

    def _find(self, plan: Analysis, folder: Path, once: bool) -> Result:
        if isinstance(plan, Pair):
            return compare(self.trainings[plan.a], self.trainings[plan.b])
        if isinstance(plan, Board):
            return self._board(plan, folder.with_name(f"{folder.name}-board"))
        if isinstance(plan, Maps):
            return self._maps(plan)
        if isinstance(plan, Joint):
            return self._joint(plan, once)
        if isinstance(plan, Temperature):
            return self._temperature(plan)
        return self._planes(plan)

    def _elsewhere(self, plan: Analysis, units: Sequence[Unit]) -> list[object]:
        """Return what changes with all that an analysis looks at besides its runs: slices, outlines, planes."""
        if isinstance(plan, ByPlane):
            return [[r.id, r.plane] for u in units for r in u.test]
        if not isinstance(plan, Board | Joint | Maps):
            return []
        training, data = self.recipe.trainings[plan.of], plan.data if isinstance(plan, Maps) else None
        names = [name for name in (training.data, training.test, data) if name is not None]
        slices: list[object] = [] if data is None else [self.datasets[data].dataset.fingerprint]
        return [*slices, *(self.datasets[name].outlines for name in names)]

    def _board(self, plan: Board, out: Path) -> Result:
        outcome = self.trainings[plan.of]
        runs = outcome.units[0].run.parent
        if is_finished(out):
            value = read_json(out / "leaderboard.json", "a leaderboard")
        else:
            layers = plan.layers if isinstance(plan.layers, str) else list(plan.layers)
            settings = make_settings(methods=plan.methods, layers=layers, sample=plan.sample)
            value = build_leaderboard(
                runs, out, settings=settings, data=outcome.units[0].source.whole.root, resume=out.exists(),
                device=self.trainings.device, progress=self.progress,
            )  # fmt: skip
        values = _board_values(value) | self._ceiling(outcome)
        return Result(values, {"models": value["models"], "slices": value["slices"]})

    def _ceiling(self, outcome: Outcome) -> Values:
        """Return the IoU that no map cut at its 95th percentile can exceed, on the slices of the first seed."""
        first = _first_seed(outcome.units)
        records = [r for u in first for r in u.test if r.mask is not None]
        groups = [first[0].source.groups.of[r.id] for r in records]
        return {"ceiling:area:iou@percentile:95": Bootstrap(groups).mean(np.array(_ceilings(records)))}

    def _maps(self, plan: Maps) -> Result:
        outcome = self.trainings[plan.of]
        columns: dict[str, list[float]] = {}
        groups: list[str] = []
        ids: list[str] = []
        right: list[bool] = []
        areas: list[float] = []
        ceilings: list[float] = []
        for unit in outcome.units:
            records = self._unseen(unit, plan, len(outcome.units))
            if not records:
                continue
            model = load_model(unit.run, device=pick_device(self.trainings.device))
            layers = None if plan.layer is None else [plan.layer]
            maps = explain_records(
                model, records, methods=[plan.method], layers=layers, true_class=False, progress=self.progress
            )
            training = [r for r in unit.source.whole.select(unit.split.train) if r.mask is not None]
            found = localize(maps, records, training, progress=self.progress)
            key = next(k for k in found.scores if k.kind == "method")
            for name in ("iou_p95", "pointing", "energy_inside"):
                columns.setdefault(name, []).extend(s.values.get(name, np.nan) for s in found.scores[key])
            of = self._groups_of(plan, unit)
            groups += [of[r.id] for r in found.records]
            ids += [r.id for r in found.records]
            predicted = dict(zip(maps.ids, maps.explained["predicted"], strict=True))
            ceilings += _ceilings(found.records)
            right += [predicted[r.id] == r.label for r in found.records]
            areas += found.areas.tolist()
        if not groups:
            raise InputError(f"no slice is left on which the maps of {plan.of} could be scored: choose another --data")
        boot, hit = Bootstrap(groups), np.array(right)
        table = {name: np.array(v) for name, v in columns.items()}
        table |= {f"{name}:right": np.where(hit, v, np.nan) for name, v in columns.items()}
        table |= {"accuracy": hit.astype(float), "tumour_share": np.array(areas), "ceiling:iou_p95": np.array(ceilings)}
        values = {name: replace(boot.mean(v), n=_slices(ids, v)) for name, v in table.items()}
        return Result(values, {"slices": len(set(ids)), "groups": len(set(groups)), "runs": len(outcome.units)})

    def _joint(self, plan: Joint, once: bool) -> Result:
        outcome = self.trainings[plan.of]
        folds = len(_first_seed(outcome.units))
        columns: dict[str, list[float]] = {}
        groups: list[str] = []
        ids: list[str] = []
        chosen = []
        for unit in _first_seed(outcome.units, once):
            training = [r for r in unit.source.whole.select(unit.split.train) if r.mask is not None]
            found = multiply(
                load_model(unit.run, device=pick_device(self.trainings.device)),
                training,
                _some([r for r in unit.test if r.mask is not None], -(-plan.slices // folds), unit.seed),
                method=plan.method,
                layers=plan.layers,
                rule=plan.rule,
                learn=plan.learn,
                progress=self.progress,
            )
            for name, scores in (("iou", found.iou), ("pointing", found.pointing)):
                for what, of_slices in scores.items():
                    columns.setdefault(f"{what}:{name}", []).extend(of_slices.tolist())
            groups += [unit.source.groups.of[r.id] for r in found.records]
            ids += [r.id for r in found.records]
            chosen.append({what: [layer, cut.name] for what, (layer, cut) in found.chosen.items()})
        boot, table = Bootstrap(groups), {name: np.array(v) for name, v in columns.items()}
        values = {name: boot.mean(v) for name, v in table.items()}
        for name in ("iou", "pointing"):
            for other in ("map", "rule"):
                values[f"both-{other}:{name}"] = boot.mean(table[f"both:{name}"] - table[f"{other}:{name}"])
        slices = len(set(ids))
        values = {name: replace(v, n=slices) for name, v in values.items()}
        return Result(values, {"slices": slices, "groups": len(set(groups)), "runs": len(chosen), "chosen": chosen})

    def _unseen(self, unit: Unit, plan: Maps, runs: int) -> list[Record]:
        """Return slices with outlines of people whom a run did not learn from, its share of those asked for."""
        if plan.data is None:
            records = [r for r in unit.test if r.mask is not None]
        else:
            there = self.datasets[plan.data]
            whole = unit.source.whole
            # Of the whole dataset: a person may be met in slices that are not among those to be scored.
            met = self._met(whole, there.whole, set(unit.split.train) | set(unit.split.val))
            of = there.groups.of
            known = {of[i] for i in met}
            records = [r for r in there.dataset if r.mask is not None and of[r.id] not in known]
        return _some(records, -(-plan.slices // runs), unit.seed)

    def _met(self, training: Dataset, there: Dataset, learned: set[str]) -> set[str]:
        """Return the ids in ``there`` of slices that repeat one that was learned from."""
        file = self.folder / f"copies-{training.fingerprint}-{there.fingerprint}.json"
        if not file.is_file():
            records = [*training, *there]
            first = len(training)
            pairs = [
                [records[i].id, records[j].id]
                for cluster in find_copies(records, progress=self.progress).clusters
                for i in cluster
                for j in cluster
                if i < first <= j
            ]
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, pairs)
        met = {copy for source, copy in read_json(file, "the copies of two datasets") if source in learned}
        same = training.fingerprint == there.fingerprint or training.root == there.root
        return met | ({r.id for r in there} & learned if same else set())

    def _groups_of(self, plan: Maps, unit: Unit) -> Mapping[str, str]:
        return unit.source.groups.of if plan.data is None else self.datasets[plan.data].groups.of

    def _temperature(self, plan: Temperature) -> Result:
        outcome = self.trainings[plan.of]
        found, temperatures, start = [], [], 0
        for unit in outcome.units:
            logits = outcome.logits[start : start + len(unit.test)]
            start += len(unit.test)
            said = self._on_validation(unit)
            truth = np.array([said.classes.index(str(label)) for label in said.labels])
            temperatures.append(fit_temperature(said.logits, truth))
            found.append(softmax(logits / temperatures[-1]))
        before, after = outcome.probabilities, np.concatenate(found)
        values = {"temperature": plain_value(float(np.mean(temperatures)), len(temperatures))}
        for name, probabilities in (("before", before), ("after", after)):
            errors, sure = confident_errors(probabilities, outcome.truth)
            mistaken = ~outcome.correct
            is_sure = (probabilities.max(axis=1) > 0.95).astype(float)
            values[f"confident_errors:{name}"] = Bootstrap(outcome.groups).mean(np.where(mistaken, is_sure, np.nan))
            error = expected_calibration_error(probabilities, outcome.truth)
            values[f"ece:{name}"] = plain_value(error, len(outcome.ids))
            values[f"sure_and_wrong:{name}"] = plain_value(sure, errors)
        return Result(values, {"temperatures": temperatures, "errors": int((~outcome.correct).sum())})

    def _on_validation(self, unit: Unit) -> Predictions:
        """Return what a run says about its validation part, kept beside what it says about its test part."""
        out = unit.run / "predict-val"
        if not unit.split.val:
            raise InputError(f"{unit.run} has no validation part to fit a temperature on: give its split one")
        if not is_finished(out):
            model = load_model(unit.run, device=pick_device(self.trainings.device))
            with stage_folder(out, "predict", arguments={"part": "val"}) as folder:
                said = self.trainings.predict(model, list(unit.source.whole.select(unit.split.val)), unit.config)
                said.save(folder / "predictions.json")
        return Predictions.load(out / "predictions.json")

    def _planes(self, plan: ByPlane) -> Result:
        outcome = self.trainings[plan.of]
        training = self.recipe.trainings[plan.of]
        tested = self.datasets[training.test or training.data].dataset
        known = {r.id: r.plane for r in data.with_planes(tested, progress=self.progress)}
        return by_plane(outcome, [known[i] for i in outcome.ids], plan.label)


def _first_seed(units: Sequence[Unit], once: bool = True) -> Sequence[Unit]:
    """Return the runs of the first seed, or all of them."""
    return [u for u in units if u.seed == units[0].seed] if once else units


def _ceilings(records: Sequence[Record]) -> list[float]:
    """Return the highest IoU that a map cut at its 95th percentile could have on each slice; NaN without an outline."""
    masks = (r.read_mask(r.read().shape) for r in records)
    return [float(area_ceiling(m, 95.0)) if m is not None and m.any() else np.nan for m in masks]


def compare(a: Outcome, b: Outcome) -> Result:
    """Return the accuracy of ``b`` minus that of ``a``, slice by slice where both classified it under one seed.

    The difference pools the rows of all seeds, its interval draws a group with all of them, and its ``n`` counts a
    slice once. McNemar's test takes rows for independent, which one slice under several seeds is not: it looks at the
    first seed that both have, and at no other.

    Returns:
        ``difference`` and, where the slices are the same, ``mcnemar_p``, beside the facts ``rows`` (compared, of all
        seeds), ``mcnemar_seed``, and ``only_a`` and ``only_b``, the slices that one alone has right under that seed.
    """
    rows_a, rows_b = _rows(a), _rows(b)
    both = sorted(rows_a.keys() & rows_b.keys())
    if 2 * len(both) < min(len(rows_a), len(rows_b)):
        found = compare_independent(a.correct, a.groups, b.correct, b.groups)
        difference = replace(found.difference, n=len(set(a.ids)) + len(set(b.ids)))
        return Result({"difference": difference}, {"paired": False, "rows": [len(rows_a), len(rows_b)]})
    first = both[0][0]
    of_first = [(seed, i) for seed, i in both if seed == first]
    pooled, one = (_paired(rows_a, rows_b, keys) for keys in (both, of_first))
    values = {"difference": replace(pooled.difference, n=len({i for _, i in both}))}
    if one.mcnemar_p is not None:
        values["mcnemar_p"] = plain_value(one.mcnemar_p, len(of_first))
    told = {"paired": True, "rows": len(both), "mcnemar_seed": first, "only_a": one.only_a, "only_b": one.only_b}
    return Result(values, told)


def _paired(a: _Rows, b: _Rows, keys: Sequence[tuple[int, str]]) -> Comparison:
    right_a, right_b = (np.array([rows[k][0] for k in keys]) for rows in (a, b))
    return compare_paired(right_a, right_b, [a[k][1] for k in keys])


def by_plane(outcome: Outcome, planes: Sequence[str | None], label: str) -> Result:
    """Return accuracy and false alarms plane by plane: how often slices of other classes are called ``label``.

    Args:
        outcome: N rows.
        planes: N, None where unknown.
        label: the class.

    Returns:
        ``accuracy:PLANE``, ``false:PLANE``, and ``gap``: the false alarms of axial slices minus those of the others.
    """
    if label not in outcome.classes:
        raise InputError(f"the training knows no class {label!r}: choose of {', '.join(outcome.classes)}")
    which = outcome.classes.index(label)
    others, called = outcome.truth != which, outcome.logits.argmax(axis=1) == which
    plane, boot = np.array([str(p) for p in planes]), Bootstrap(outcome.groups)
    values: Values = {}
    for name in sorted(set(plane) - {"None"}):
        there = plane == name
        values[f"accuracy:{name}"] = boot.mean(np.where(there, outcome.correct, np.nan))
        values[f"false:{name}"] = boot.mean(np.where(there & others, called, np.nan))
        values[f"{label}:{name}"] = boot.mean(np.where(there, ~others, np.nan))
    axial, rest = (plane == "axial") & others, (plane != "axial") & (plane != "None") & others
    cells = np.stack([called & axial, axial, called & rest, rest], axis=1).astype(np.float64)
    values["gap"] = boot.statistic(cells, _gap)
    return Result(values, {"planes": {p: int((plane == p).sum()) for p in sorted(set(plane))}})


def _gap(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    hits, of, hits_rest, of_rest = (totals[..., i] for i in range(4))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(hits / of - hits_rest / of_rest)


def _slices(ids: Sequence[str], values: NDArray[np.float64]) -> int:
    """Return of how many slices (N,) rows are a mean: one under several seeds counts once, NaN not at all."""
    return len({i for i, known in zip(ids, ~np.isnan(values), strict=True) if known})


def _some(records: Sequence[Record], n: int, seed: int) -> list[Record]:
    """Return a seeded draw of n records at most, in their order."""
    order = np.random.default_rng(seed).permutation(len(records))[:n]
    return [records[int(i)] for i in sorted(order)]


def _rows(outcome: Outcome) -> _Rows:
    """Return (seed, id) -> (right, group)."""
    rows = zip(outcome.seeds.tolist(), outcome.ids, outcome.correct.tolist(), outcome.groups, strict=True)
    return {(seed, i): (right, group) for seed, i, right, group in rows}


def _board_values(value: Mapping[str, Any]) -> Values:
    """Return the figures of a leaderboard that a study's table refers to."""
    found: Values = {}
    wanted = ("pointing", "iou@learned", "iou@percentile:95", "dice@learned")
    for row in value["rows"]:
        if row["kind"] in ("chosen", "baseline"):
            for column in wanted:
                if column in row["scores"]:
                    found[f"{row['kind']}:{row['name']}:{column}"] = _interval(row["scores"][column])
    for column in wanted:
        best = max(
            (r for r in value["rows"] if r["kind"] == "method" and column in r["scores"]),
            key=lambda r: r["scores"][column]["value"] or 0.0,
            default=None,
        )
        cam = next((r for r in value["rows"] if r["kind"] == "method" and r["name"] == "cam"), None)
        if best is not None:
            found[f"best:{column}"] = _interval(best["scores"][column])
        if cam is not None and column in cam["scores"]:
            found[f"cam:{column}"] = _interval(cam["scores"][column])
    return found


def _trainings(plan: Analysis) -> tuple[str, ...]:
    return (plan.a, plan.b) if isinstance(plan, Pair) else (plan.of,)


def _interval(value: Mapping[str, Any]) -> Interval:
    numbers = [np.nan if value[k] is None else float(value[k]) for k in ("value", "low", "high")]
    return Interval(numbers[0], numbers[1], numbers[2], int(value["n"]), int(value["groups"]))
