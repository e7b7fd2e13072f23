"""Fitting a calibration from what a model made of held-out slices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gyrus.certainty.fit import CUTS, LEAST_TURN, Held, fit_calibration, known_sequences, pooled
from gyrus.certainty.novelty import novelty
from gyrus.errors import InputError

CLASSES = ("glioma", "pituitary")


def fit(held: Held, **options: float):
    how = {"kinds": ("blank", "inverted"), "statement": "here", "reference_slices": 40}
    return fit_calibration(held, CLASSES, "energy", **how, **options)


@pytest.fixture
def held() -> Held:
    """Twenty persons of each class, one slice each; always sure by a margin of 4, right three times in four."""
    truth = np.repeat([0, 1], 20)
    said = np.where(np.arange(40) % 4 == 0, 1 - truth, truth)
    logits = 4.0 * np.eye(2)[said] + np.linspace(0, 1, 40)[:, None]
    strange, upside_down = novelty("energy", {}, np.zeros((40, 1)), logits), np.linspace(-9, -1, 40)
    return Held(
        logits, strange, upside_down, [()] * 40, truth, [f"{i}" for i in range(40)], np.full((40, len(CUTS)), np.nan),
        np.tile([0.0, 0.9, 0.1, 0.0], (40, 1)),
    )  # fmt: skip


def test_by_hand(held: Held) -> None:
    found = fit(held, coverage=0.7, false_refusals=0.1)
    assert found.temperature == pytest.approx(4 / math.log(3), rel=1e-4)
    # 15 of 20 have 3/4, the rest 1/4: 0.7 of 21 is 14.7, the fifteenth
    assert found.thresholds == {"glioma": pytest.approx(0.75, abs=1e-4), "pituitary": pytest.approx(0.75, abs=1e-4)}
    # energy is -(shift + log(1 + e^4)), least strange last: a twentieth of 40 may exceed the limit, two
    strangest = -np.logaddexp(0, 4) - np.linspace(0, 1, 40)
    assert found.novelty_limit == pytest.approx(strangest[2])
    assert found.turned_limit == LEAST_TURN  # not -1: every slice is likelier upright
    some = fit(replace(held, turned=np.linspace(-9, 3, 40)), coverage=0.7, false_refusals=0.1)
    assert some.turned_limit == pytest.approx(np.linspace(-9, 3, 40)[37])  # two of 40 may exceed it
    assert (found.slices, found.persons, found.reference_slices) == (40, 40, 40)
    assert found.persons_per_class == {"glioma": 20, "pituitary": 20}
    assert found.refusing == ("blank", "inverted")
    assert found.always == ()
    assert (found.cut, found.cut_slices, found.cut_iou) == (None, 0, None)


def test_the_cut_is_that_of_the_highest_mean_overlap_where_there_are_outlines(held: Held) -> None:
    overlaps = np.full((40, len(CUTS)), 0.1)
    overlaps[:30, 7], overlaps[:30, 9], overlaps[30:] = 0.5, np.linspace(0, 1.2, 30), np.nan
    found = fit(replace(held, overlaps=overlaps))
    assert (found.cut, found.cut_slices) == (CUTS[9].name, 30)
    assert found.cut_iou == pytest.approx(0.6)
    assert fit(replace(held, overlaps=overlaps * np.nan)).cut is None


def test_the_default_promise_needs_nineteen_persons_of_a_class(held: Held) -> None:
    assert fit(held).always == ()
    few = Held(
        held.logits[2:],
        held.novelty[2:],
        held.turned[2:],
        held.faults[2:],
        held.truth[2:],
        held.persons[2:],
        held.overlaps[2:],
        held.sequences[2:],
    )
    found = fit(few)
    assert found.persons_per_class["glioma"] == 18
    assert found.always == ("glioma",)


def test_a_fault_that_the_data_is_full_of_does_not_refuse(held: Held) -> None:
    faults = [("inverted",)] * 5 + [()] * 35
    assert fit(replace(held, faults=faults), false_refusals=0.1).refusing == ("blank",)
    assert fit(replace(held, faults=faults), false_refusals=0.125).refusing == ("blank", "inverted")
    one = ["a"] * 5 + [f"{i}" for i in range(35)]  # all five of one person: a 36th of the persons
    assert fit(replace(held, faults=faults, persons=one), false_refusals=0.1).refusing == ("blank", "inverted")


@pytest.mark.parametrize("options", [{"coverage": 0}, {"coverage": 1}, {"false_refusals": -0.1}, {"false_refusals": 1}])
def test_shares_out_of_range(held: Held, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="choose one"):
        fit(held, **options)


def test_no_slice_at_all() -> None:
    none = Held(
        np.empty((0, 2)),
        np.empty(0),
        np.empty(0),
        [],
        np.empty(0, dtype=int),
        [],
        np.empty((0, len(CUTS))),
        np.empty((0, 4)),
    )
    with pytest.raises(InputError, match="no slice to fit"):
        fit(none)


def test_parts_are_pooled_slice_by_slice(held: Held) -> None:
    def cut(rows: slice) -> Held:
        return Held(*(getattr(held, f)[rows] for f in held.__dataclass_fields__))

    assert fit(pooled([cut(slice(0, 7)), cut(slice(7, 40))])) == fit(held)


def looked(*slices: tuple[int, int, float]) -> np.ndarray:
    """Return (N, 4): so many slices, each of so probable a sequence, else of none."""
    rows = []
    for count, sequence, p in slices:
        row = np.zeros(4)
        row[sequence] = p
        rows += [row] * count
    return np.array(rows)


class TestKnownSequences:
    """Twenty persons of either class, in this order."""

    def test_those_that_every_tumour_was_seen_on(self, held: Held) -> None:
        mixed = replace(held, sequences=looked((19, 1, 0.9), (1, 2, 0.9), (18, 1, 0.9), (2, 3, 0.9)))
        assert known_sequences(mixed, CLASSES) == ("T1-CE",)
        both = replace(held, sequences=looked((19, 1, 0.9), (1, 2, 0.6), (15, 1, 0.9), (5, 2, 0.9)))
        assert known_sequences(both, CLASSES) == ("T1-CE", "T2")
        apart = replace(held, sequences=looked((20, 1, 0.9), (20, 2, 0.9)))
        assert known_sequences(apart, CLASSES) == ()

    def test_a_slice_of_no_sequence_that_can_be_told_counts_for_none(self, held: Held) -> None:
        other = replace(held, sequences=looked((40, 1, 0.4)))
        assert known_sequences(other, CLASSES) == ()
        some = replace(held, sequences=looked((15, 1, 0.9), (5, 2, 0.4), (15, 1, 0.9), (5, 2, 0.4)))
        assert known_sequences(some, CLASSES) == ("T1-CE",)

    def test_every_person_counts_once(self, held: Held) -> None:
        """Of either class the twentieth of the twenty-one persons has twenty slices on T2."""
        rows = np.r_[np.arange(20), np.full(20, 19), np.arange(20, 40), np.full(20, 39)]
        sequences = np.tile(looked((20, 1, 0.9), (20, 2, 0.9)), (2, 1))
        persons = np.asarray(held.persons)[rows]
        persons[20:40], persons[60:] = "one", "another"
        many = replace(held, truth=held.truth[rows], persons=tuple(persons), sequences=sequences)
        assert known_sequences(many, CLASSES) == ("T1-CE",)

    def test_what_healthy_heads_were_shown_on_says_nothing(self, held: Held) -> None:
        one = replace(held, sequences=looked((20, 1, 0.9), (20, 2, 0.9)))
        assert known_sequences(one, ("glioma", "no_tumor")) == ("T1-CE",)
        assert known_sequences(one, ("no_tumor", "glioma")) == ("T2",)
        assert known_sequences(one, ("no_tumor",)) == ()

    def test_they_are_kept_with_the_calibration(self, held: Held) -> None:
        assert fit(held).sequences == ("T1-CE",)
