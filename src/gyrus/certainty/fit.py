"""Fitting a calibration on slices of persons the model did not learn from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.certainty.calibration import Calibration
from gyrus.certainty.conformal import class_thresholds, person_weights, upper_quantile
from gyrus.certainty.novelty import Score
from gyrus.certainty.temperature import fit_temperature, softmax
from gyrus.errors import InputError
from gyrus.thresholds import candidates
from gyrus.words import HEALTHY, SEQUENCES

COVERAGE, FALSE_REFUSALS = 0.95, 0.01
"""What is promised, and risked, where nothing else is asked for."""
CUTS = tuple(candidates())
"""Among which the cut of the outline is chosen."""
KNOWN = 0.05
"""Of the slices of each tumour: a sequence that fewer look like is not known to the model."""
LEAST_TURN = 0.0
"""The log odds above which a slice may be called upside down at all: it must be the likelier way."""


@dataclass(frozen=True, eq=False)
class Held:
    """What a model, or several of one recipe, made of N labelled slices that they did not learn from.

    Attributes:
        logits: (N, C) float.
        novelty: (N,) float, see :func:`gyrus.certainty.novelty.novelty`.
        turned: (N,) float, see :func:`gyrus.certainty.upright.turned`.
        faults: for each slice, the kinds of fault that could refuse it.
        truth: (N,) class indices.
        persons: N ids.
        overlaps: (N, T) IoU of the predicted class's map with the outline under each of :data:`CUTS`; NaN without an
            outline or a class map.
        sequences: (N, 4) the probability of each of :data:`gyrus.words.SEQUENCES`.
    """

    logits: NDArray[np.floating]
    novelty: NDArray[np.floating]
    turned: NDArray[np.floating]
    faults: Sequence[Collection[str]]
    truth: NDArray[np.integer]
    persons: Sequence[str]
    overlaps: NDArray[np.floating]
    sequences: NDArray[np.floating]


def pooled(parts: Sequence[Held]) -> Held:
    """Return the slices of all parts as one."""
    return Held(
        logits=np.concatenate([p.logits for p in parts]),
        novelty=np.concatenate([p.novelty for p in parts]),
        turned=np.concatenate([p.turned for p in parts]),
        faults=[f for p in parts for f in p.faults],
        truth=np.concatenate([p.truth for p in parts]),
        persons=[i for p in parts for i in p.persons],
        overlaps=np.concatenate([p.overlaps for p in parts]),
        sequences=np.concatenate([p.sequences for p in parts]),
    )


def fit_calibration(
    held: Held,
    classes: Sequence[str],
    score: Score,
    *,
    reference_slices: int,
    kinds: Sequence[str],
    statement: str,
    coverage: float = COVERAGE,
    false_refusals: float = FALSE_REFUSALS,
) -> Calibration:
    """Return temperature, thresholds, limits and the outline's cut for a model.

    Every person counts once throughout but in the temperature and the cut, which are fitted slice by slice. The two
    limits are quantiles of the held-out slices; each may refuse half of ``false_refusals``. A kind of fault that more
    than that share of the slices have is how this data looks, and flags instead of refusing.

    Args:
        held: slices of persons that the model did not learn from.
        classes: C names, in the order of the logits.
        score: which novelty score ``held`` has.
        reference_slices: of the training part, with which slices are compared.
        kinds: of faults that refuse a picture unless the data is full of them.
        statement: what the slices are, in one sentence.
        coverage: how often a set is to hold the true class, in (0, 1).
        false_refusals: the share of slices of unseen persons to be refused, in [0, 1).

    Raises:
        InputError: there is no slice, logits are not finite, or a share is out of range.
    """
    check_shares(coverage, false_refusals)
    temperature = fit_temperature(held.logits, held.truth)
    thresholds = class_thresholds(softmax(held.logits, temperature), held.truth, held.persons, coverage)
    weights = person_weights(held.persons)
    shares = {k: float(np.average([k in f for f in held.faults], weights=weights)) for k in kinds}
    names = np.asarray(held.persons)
    cut, slices, overlap = _best_cut(held.overlaps)
    return Calibration(
        statement=statement,
        slices=len(held.truth),
        persons=len(set(held.persons)),
        temperature=temperature,
        coverage=coverage,
        thresholds={c: float(t) for c, t in zip(classes, thresholds, strict=True)},
        persons_per_class={c: len(set(names[held.truth == i].tolist())) for i, c in enumerate(classes)},
        novelty=score,
        novelty_limit=upper_quantile(held.novelty, held.persons, false_refusals / 2),
        turned_limit=max(LEAST_TURN, upper_quantile(held.turned, held.persons, false_refusals / 2)),
        false_refusals=false_refusals,
        refusing=tuple(k for k, share in shares.items() if share <= false_refusals),
        sequences=known_sequences(held, classes),
        reference_slices=reference_slices,
        cut=cut,
        cut_slices=slices,
        cut_iou=overlap,
    )


def known_sequences(held: Held, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the sequences that tumours are known on: those that a twentieth of the slices of each tumour looks like.

    Every person counts once, and a slice that most likely is of no sequence that can be told counts for none. What
    healthy heads were shown on does not count: in public collections that is often another sequence, on which a tumour
    was never shown.

    Args:
        held: slices of persons that the model did not learn from.
        classes: C names, in the order of the logits.

    Returns:
        Names of :data:`gyrus.words.SEQUENCES`; none where no slice has a tumour.
    """
    other = 1 - held.sequences.sum(axis=1, keepdims=True)
    likely, persons = np.hstack([held.sequences, other]).argmax(axis=1), np.asarray(held.persons)
    shares = [
        np.bincount(likely[rows], person_weights(persons[rows]), len(SEQUENCES)) / len(set(persons[rows]))
        for rows in (held.truth == i for i, name in enumerate(classes) if name != HEALTHY)
        if rows.any()
    ]
    return tuple(name for s, name in enumerate(SEQUENCES) if shares and all(share[s] >= KNOWN for share in shares))


def check_shares(coverage: float, false_refusals: float) -> None:
    """Refuse shares that nobody can promise.

    Raises:
        InputError: one is out of range.
    """
    if not 0 < coverage < 1:
        raise InputError(f"a coverage of {coverage:g} cannot be promised: choose one between 0 and 1, such as 0.95")
    if not 0 <= false_refusals < 1:
        raise InputError(f"false refusals of {false_refusals:g} are no share: choose one from 0 up to 1, such as 0.01")


def _best_cut(overlaps: NDArray[np.floating]) -> tuple[str | None, int, float | None]:
    """Return the threshold of the highest mean IoU, of equals the first, the slices it was chosen on, and that mean."""
    known = overlaps[np.isfinite(overlaps).all(axis=1)]
    if not len(known):
        return None, 0, None
    means = known.mean(axis=0)
    return CUTS[int(means.argmax())].name, len(known), float(means.max())
