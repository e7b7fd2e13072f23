"""Calibrating a model on the slices that its run held back from learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gyrus.certainty import Calibration
from gyrus.certainty.fit import COVERAGE, FALSE_REFUSALS, Held, fit_calibration
from gyrus.certainty.novelty import Score, learn_reference
from gyrus.errors import InputError
from gyrus.inference import observe
from gyrus.loading import Progress
from gyrus.models import Classifier
from gyrus.records import Record
from gyrus.refusal import REFUSES, refusing_kinds

MOST = 1000
"""Training slices that a slice is compared with."""


def calibrate(
    model: Classifier,
    training: Sequence[Record],
    held: Sequence[Record],
    persons: Sequence[str],
    score: Score,
    *,
    statement: str,
    coverage: float = COVERAGE,
    false_refusals: float = FALSE_REFUSALS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Fit a calibration and give it to the model, whose weights stay as they are.

    Args:
        model: trained; its ``spec`` and ``reference`` are set.
        training: slices it learned from, of which at most :data:`MOST` are drawn.
        held: slices of persons it did not learn from.
        persons: of each of these.
        score: which novelty score.
        statement: what ``held`` is, in one sentence.
        coverage: how often a set is to hold the true class, in (0, 1).
        false_refusals: the share of slices of unseen persons that the limits may refuse, in [0, 1).
        seed: of the draw of training slices.
        progress: called as work goes on.

    Raises:
        InputError: a slice cannot be read, has no label the model knows, or an option is out of range.
    """
    drawn = np.random.default_rng(seed).permutation(len(training))[:MOST]
    known = [training[i] for i in sorted(drawn)]
    learned = observe(model, known, what="looking at training slices", progress=progress)
    reference = learn_reference(score, learned.features, _truth(model, known), learned.small)
    seen = observe(model, held, what="calibrating", progress=progress)
    faults = [refusing_kinds(f) for f in seen.faults]
    calibration = fit_calibration(
        Held(seen.logits, seen.features, seen.small, faults, _truth(model, held), persons),
        model.classes,
        score,
        reference,
        kinds=tuple(REFUSES),
        statement=statement,
        coverage=coverage,
        false_refusals=false_refusals,
    )
    model.spec = model.spec.model_copy(update={"calibration": calibration})
    model.reference = reference
    return calibration


def _truth(model: Classifier, records: Sequence[Record]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    index = {c: i for i, c in enumerate(model.classes)}
    strange = next((r for r in records if r.label not in index), None)
    if strange is not None:
        raise InputError(f"{strange.path}: its label {strange.label!r} is none of the model's: correct the labels")
    return np.array([index[str(r.label)] for r in records], dtype=np.int64)
