"""Calibrating models on slices of persons they did not learn from: their runs' validation parts, or other folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, refuse_existing, stage_folder
from gyrus.certainty.fit import COVERAGE, CUTS, FALSE_REFUSALS, Held, check_shares, fit_calibration, pooled
from gyrus.certainty.novelty import SCORES, Reference, Score, learn_reference, novelty
from gyrus.certainty.upright import UPRIGHT, learn_upright, turned
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.evaluate.classification import label_indices
from gyrus.evaluate.ranking import Ranking, undefined_because
from gyrus.inference import observe
from gyrus.loading import THREADS, Progress
from gyrus.models import Classifier, load_model
from gyrus.models.saved import CALIBRATED, SPEC, TRAINED, write_model
from gyrus.paths import PathLike, maybe_path
from gyrus.preprocess import frame_of
from gyrus.records import Record
from gyrus.refusal import REFUSES, refusing_kinds
from gyrus.rundata import Fold, joint_statement, open_folds
from gyrus.training import read_recipe

MOST = 1000
"""Training slices that strangeness is measured against, and which way up is learned from."""


def calibrate_run(
    run: PathLike,
    *,
    folds: PathLike | None = None,
    data: PathLike | None = None,
    coverage: float = COVERAGE,
    false_refusals: float = FALSE_REFUSALS,
    novelty: str = "mahalanobis",
    out: PathLike | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Calibrate a run's model on persons it did not learn from, into ``RUN/calibrate``: the same model, and more.

    From then on predictions of the run are calibrated probabilities, with a set of classes, a status and a reason.
    Which persons:

    - those of the validation part of the run's split;
    - for the runs of one cross-validation without validation parts: for each, the test parts of all the others, each
      slice as the model saw it that did not learn from its person (after Vovk 2015, "Cross-conformal predictors");
    - with ``folds``: the test parts of a cross-validation of the run's own recipe, so that the run itself can learn
      from every person.

    The last two promise a little less than the first, since the slices went through other models than the calibrated
    one, which learned from other persons by the same recipe.

    Args:
        run: a finished training run, or the folder of the runs of one cross-validation, each of which is calibrated.
        folds: a cross-validation of this run's recipe.
        data: the dataset, where it has moved since training.
        coverage: how often the set of a slice is to hold its true class, for each class, in (0, 1).
        false_refusals: the share of slices of unseen persons that may be refused as strange or upside down, in [0, 1).
        novelty: what tells strange slices: one of :data:`gyrus.certainty.novelty.SCORES`.
        out: the folder to write, of a single run; ``RUN/calibrate`` by default.
        seed: of the choice of the training slices that strangeness is measured against.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Returns:
        ``{"schema", "runs": [{"run", "model", "calibration"}]}``.

    Raises:
        InputError: the run is unfinished, nobody is left to calibrate on, ``folds`` are of another recipe or of other
            data, ``out`` exists, a slice cannot be read, or an option is out of range.
    """
    run, folds, data, out = Path(run), maybe_path(folds), maybe_path(data), maybe_path(out)
    score = next((s for s in SCORES if s == novelty), None)
    if score is None:
        raise InputError(f"there is no novelty score {novelty!r}: choose from {', '.join(SCORES)}")
    runs = open_folds(run, data)
    if out is not None and len(runs) > 1:
        raise InputError(
            f"{run} holds {len(runs)} runs, each of which is calibrated in its own folder: leave out --out"
        )
    targets = [out or one.run / CALIBRATED for one in runs]
    for target in targets:
        refuse_existing(target)
    check_shares(coverage, false_refusals)
    cross = None if folds is None else _for_use(runs, open_folds(folds, data))
    if len(runs) > 1 and not all(one.split.val for one in runs):  # each on the others, which have to be its folds
        joint_statement([one.split for one in runs])
        _of_same_recipe(runs[0], runs[1:])
    how = _How(score, seed, device, progress)
    arguments = {"coverage": coverage, "false_refusals": false_refusals, "novelty": novelty, "seed": seed}
    arguments |= {} if folds is None else {"folds": str(folds)}
    found = []
    for one, target, (held, statement, reference) in zip(runs, targets, _held_back(runs, cross, how), strict=True):
        with stage_folder(target, "calibrate", arguments=arguments, facts={"split": one.split.statement}) as folder:
            model = load_model(one.run / TRAINED)
            calibration = fit_calibration(
                held,
                model.classes,
                score,
                reference_slices=min(len(one.split.train), MOST),
                kinds=tuple(REFUSES),
                statement=statement,
                coverage=coverage,
                false_refusals=false_refusals,
            )
            model.spec, model.reference = model.spec.model_copy(update={"calibration": calibration}), reference
            write_model(model, folder)
        found.append({"run": str(one.run), "model": str(target), "calibration": calibration.to_dict()})
    return {"schema": "gyrus.calibration/1", "runs": found}


def hold(
    model: Classifier,
    records: Sequence[Record],
    persons: Sequence[str],
    score: Score,
    reference: Reference,
    *,
    progress: Progress | None = None,
) -> Held:
    """Return what a calibration is fitted on.

    Args:
        model: in evaluation mode.
        records: labelled slices that it did not learn from.
        persons: of each.
        score: which novelty score.
        reference: what it compares with, and ``upright``, from slices the model learned from.
        progress: called as slices are read.

    Raises:
        InputError: a slice cannot be read, or has no label the model knows.
    """
    seen = observe(model, records, what="calibrating", progress=progress)
    return Held(
        logits=seen.logits,
        novelty=novelty(score, reference, seen.features, seen.logits),
        turned=turned(reference[UPRIGHT], seen.edges),
        faults=[refusing_kinds(f) for f in seen.faults],
        truth=label_indices([r.label for r in records], model.classes),
        persons=persons,
        overlaps=_overlaps(seen.maps, records, model),
        sequences=seen.sequences,
    )


def _overlaps(maps: NDArray[np.float32], records: Sequence[Record], model: Classifier) -> NDArray[np.float64]:
    """Return the (N, T) IoU of each slice's map with its outline under each cut; NaN where there is none."""
    if not maps.size:
        return np.full((len(records), len(CUTS)), np.nan)

    def score(job: tuple[Record, NDArray[np.float32]]) -> list[float]:
        record, grid = job
        if record.mask is None:
            return [np.nan] * len(CUTS)
        image = record.read()
        mask, placed = record.read_mask(image.shape), frame_of(image, model.spec.preprocess).place(grid)
        if mask is None or undefined_because(placed, mask):
            return [np.nan] * len(CUTS)
        ranking = Ranking(placed, mask)
        return [ranking.cut(threshold) for threshold in CUTS]

    with ThreadPoolExecutor(THREADS) as pool:
        return np.array(list(pool.map(score, zip(records, maps, strict=True))))


@dataclass(frozen=True)
class _How:
    score: Score
    seed: int
    device: str
    progress: Progress | None

    def look(self, fold: Fold, part: str | None) -> tuple[Reference, Held | None]:
        """Return what a run's model compares slices with, and what it made of a part of its split."""
        model = load_model(fold.run / TRAINED, device=pick_device(self.device))
        training = list(fold.dataset.select(fold.split.train))
        drawn = np.random.default_rng(self.seed).permutation(len(training))[:MOST]
        known = [training[i] for i in sorted(drawn)]
        learned = observe(model, known, what="looking at training slices", progress=self.progress)
        truth = label_indices([r.label for r in known], model.classes)
        reference = {
            **learn_reference(self.score, learned.features, truth),
            UPRIGHT: learn_upright(learned.edges),
        }
        if part is None:
            return reference, None
        records = list(fold.dataset.select(fold.split.part(part)))
        persons = [fold.persons[r.id] for r in records]
        return reference, hold(model, records, persons, self.score, reference, progress=self.progress)


def _held_back(runs: Sequence[Fold], cross: Sequence[Fold] | None, how: _How) -> Iterator[tuple[Held, str, Reference]]:
    """Yield for each run the slices to calibrate on, what they are in one sentence, and what slices are compared with.

    Raises:
        InputError: nobody is left to calibrate on.
    """
    if cross is not None:
        parts = [held for _, held in (how.look(fold, "test") for fold in cross) if held is not None]
        statement = (
            f"{joint_statement([f.split for f in cross])} Each went through the model that did not learn from it."
        )
        for run in runs:
            yield pooled(parts), statement, how.look(run, None)[0]
    elif all(run.split.val for run in runs):
        for run in runs:
            reference, held = how.look(run, "val")
            assert held is not None, "a part was asked for"
            yield held, f"the validation part of {run.split.statement}", reference
    elif len(runs) > 1:
        seen = [how.look(run, "test") for run in runs]
        statement = f"the test parts of the other folds of {joint_statement([run.split for run in runs])}"
        for i, (reference, _) in enumerate(seen):
            yield (
                pooled([held for j, (_, held) in enumerate(seen) if j != i and held is not None]),
                statement,
                reference,
            )
    else:
        raise InputError(
            f"{runs[0].run} was trained on a split without a validation part, so no person is left to calibrate on: "
            "name a cross-validation of the same recipe with --folds, or split again with one, and train"
        )


def _for_use(runs: Sequence[Fold], cross: tuple[Fold, ...]) -> tuple[Fold, ...]:
    """Return the folds of a cross-validation that a run for use may be calibrated on.

    Raises:
        InputError: there are several runs, or a single fold; the run holds back a test part, on which the folds would
            calibrate it; or they were not trained alike.
    """
    if len(runs) > 1:
        raise InputError(f"{runs[0].run.parent} is a cross-validation itself: leave out --folds")
    (one,) = runs
    if len(cross) < 2:
        raise InputError(f"{cross[0].run} is no cross-validation: name the folder of all its runs with --folds")
    if one.split.test:
        raise InputError(
            f"{one.run} holds back a test part, on which the folds would calibrate it: train the run for use on every "
            "slice (gyrus split --fractions 1 0 0)"
        )
    _of_same_recipe(one, cross)
    return cross


_OTHERS = {"before": "pretrained", "teacher": "guide"}
"""Where a model's description tells of a model it came from, and the field of the recipe that names that one's path."""


def _recipe(run: Path) -> dict[str, Any]:
    """Return what a run was trained with, and what its description says of models that it came from.

    Seeds, persons and the epoch that was kept are left out.
    """
    recipe = read_recipe(run).model_dump(exclude={"seed", "device"})
    told = read_json(run / TRAINED / SPEC, "a model's description")["training"]
    made = {"synthetic": told["synthetic"]} if "synthetic" in told else {}
    return recipe | made | {field: _earlier(told[name]) for name, field in _OTHERS.items() if name in told}


def _earlier(training: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in training.items() if k not in {"seed", "split", "epoch"}}
    return kept | {name: _earlier(kept[name]) for name in _OTHERS if name in kept}


def _of_same_recipe(one: Fold, others: Sequence[Fold]) -> None:
    """Refuse runs of another recipe, seed and device aside, or of other data.

    Raises:
        InputError: one was trained otherwise.
    """
    recipe = _recipe(one.run)
    for fold in others:
        other = _recipe(fold.run)
        changed = sorted(k for k in recipe.keys() | other.keys() if recipe.get(k) != other.get(k))
        if changed:
            raise InputError(
                f"{fold.run} was trained with {changed[0]} {other.get(changed[0])!r} and {one.run} with "
                f"{recipe.get(changed[0])!r}: name a cross-validation of the same recipe"
            )
        if fold.split.fingerprint != one.split.fingerprint:
            raise InputError(
                f"{fold.run} was trained on other data than {one.run}: name a cross-validation of the same"
            )
