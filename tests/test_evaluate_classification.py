"""Figures of a table of predictions: by hand, against scikit-learn, and where something is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gyrus.artifacts import to_json
from gyrus.errors import InputError
from gyrus.evaluate.classification import PER_CLASS, SUMMARY, label_indices, roc_auc, score_classification
from gyrus.predictions import Predictions

CLASSES = ("glioma", "meningioma", "pituitary")


def table(
    truth: Sequence[str | None], shares: Sequence[Sequence[float]], patients: Sequence[str | None] | None = None
) -> Predictions:
    """Predictions of the given probabilities."""
    n = len(truth)
    ids = tuple(f"{i}.png" for i in range(n))
    return Predictions(
        classes=CLASSES,
        ids=ids,
        files=ids,
        patients=tuple(patients if patients is not None else [f"p{i}" for i in range(n)]),
        labels=tuple(truth),
        logits=np.log(np.array(shares, dtype=np.float32)),
        status=("ok",) * n,
        reasons=("",) * n,
    )


G, M, P = (0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.2, 0.3, 0.5)


def test_by_hand() -> None:
    # true glioma: called g, g, m; meningioma: m, p; pituitary: p
    given = table(
        ["glioma", "glioma", "glioma", "meningioma", "meningioma", "pituitary"],
        [G, G, M, M, P, P],
        ["a", "a", "b", "c", "c", "d"],
    )
    got = score_classification(given)
    scores = got["slice"]
    assert scores["confusion"] == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert (scores["n"], scores["groups"]) == (6, 4)
    values = {name: scores[name].value for name in SUMMARY}
    assert values == pytest.approx(
        {
            "accuracy": 4 / 6,
            "balanced_accuracy": (2 / 3 + 1 / 2 + 1) / 3,
            "macro_precision": (1 + 1 / 2 + 1 / 2) / 3,
            "macro_recall": (2 / 3 + 1 / 2 + 1) / 3,
            "macro_f1": (4 / 5 + 1 / 2 + 2 / 3) / 3,
        }
    )
    per_class = {c: {n: scores["per_class"][c][n].value for n in PER_CLASS} for c in CLASSES}
    assert per_class["glioma"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 4 / 5})
    assert per_class["pituitary"] == pytest.approx({"precision": 1 / 2, "recall": 1, "f1": 2 / 3})
    # Pairs of a glioma and another slice, by p(glioma): .7 .7 .1 against .1 .2 .2; 6 right, 1 tie of 9.
    assert scores["per_class"]["glioma"]["roc_auc"].value == pytest.approx(6.5 / 9)
    assert got["interval_over"] == "patients"
    assert got["unreadable"] == 0
    assert scores["accuracy"].low <= values["accuracy"] <= scores["accuracy"].high
    assert scores["accuracy"].low < scores["accuracy"].high


def test_a_patient_has_the_mean_probability_of_their_slices() -> None:
    # Patient a is called glioma, glioma, pituitary by slice, but (.36, .26, .38) on average.
    shares = [(0.5, 0.4, 0.1), (0.5, 0.34, 0.16), (0.08, 0.04, 0.88), G, M]
    given = table(["pituitary", "pituitary", "glioma", "glioma", "meningioma"], shares, ["a", "a", "a", "b", "c"])
    scores = score_classification(given)["patient"]
    assert (scores["n"], scores["groups"]) == (3, 3)
    assert scores["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]  # a's label is that of most slices, pituitary
    assert scores["accuracy"].value == 1.0
    assert scores["per_class"]["pituitary"]["roc_auc"].value == 1.0


def test_without_patients_the_interval_is_over_slices() -> None:
    truth, shares = ["glioma", "meningioma", "pituitary"] * 4, [G, M, G] * 4
    got = score_classification(table(truth, shares, [None] * 12))
    assert got["interval_over"] == "slices"
    assert got["patient"] is None
    assert (got["slice"]["n"], got["slice"]["groups"]) == (12, 12)
    grouped = score_classification(table(truth, shares, ["a", "b", "c"] * 4))["slice"]["accuracy"]
    alone = got["slice"]["accuracy"]
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > alone.high - alone.low  # every slice of c is wrong together


def test_a_slice_of_an_unknown_patient_stands_for_itself_and_others_for_their_patients() -> None:
    truth, shares = ["glioma", "meningioma", "pituitary"] * 4, [G, M, G] * 4
    whole = score_classification(table(truth, shares, ["a", "b", "c"] * 4))
    got = score_classification(table(truth, shares, ["a", "b", "c"] * 3 + ["a", "b", None]))
    assert got["interval_over"] == "patients"
    assert (got["slice"]["n"], got["slice"]["groups"]) == (12, 4)
    assert (got["patient"]["n"], got["patient"]["confusion"]) == (3, whole["patient"]["confusion"])
    one = score_classification(table(truth, shares, ["a"] * 11 + [None]))
    assert (one["slice"]["groups"], one["patient"]["n"]) == (2, 1)
    assert np.isnan([one["patient"]["accuracy"].low, one["patient"]["accuracy"].high]).all()


def test_persons_are_drawn_under_all_their_names() -> None:
    given = table(["glioma", "meningioma", "pituitary"] * 2, [G, M, G] * 2, ["MR01", "b", "c", "MR01B", "b", None])
    persons = dict(zip(given.ids, ["MR01", "b", "c", "MR01", "b", "alone"], strict=True))
    got = score_classification(given, persons=persons)
    assert (got["slice"]["groups"], got["patient"]["n"]) == (4, 3)
    assert got["patient"]["confusion"] == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_groups_are_drawn_where_no_patient_is_known() -> None:
    given = table(["glioma", "meningioma", "pituitary"] * 2, [G, M, G] * 2, [None] * 6)
    persons = dict(zip(given.ids, "abcabc", strict=True))
    got = score_classification(given, persons=persons)
    assert (got["interval_over"], got["slice"]["groups"], got["patient"]) == ("groups", 3, None)


def test_the_seed_decides_the_interval() -> None:
    rng = np.random.default_rng(0)
    given = table(
        rng.choice(CLASSES, 60).tolist(), rng.dirichlet([1, 1, 1], 60).tolist(), [f"p{i % 13}" for i in range(60)]
    )
    assert score_classification(given, seed=1) == score_classification(given, seed=1)
    assert (
        score_classification(given, seed=1)["slice"]["macro_f1"]
        != score_classification(given, seed=2)["slice"]["macro_f1"]
    )


def test_a_class_that_no_slice_has_is_undefined_and_left_out_of_means() -> None:
    got = score_classification(table(["glioma", "meningioma", "glioma"], [G, M, P]))["slice"]
    absent = got["per_class"]["pituitary"]
    assert np.isnan([absent["recall"].value, absent["f1"].value, absent["roc_auc"].value, absent["roc_auc"].low]).all()
    assert absent["precision"].value == 0.0  # it was called once, wrongly
    assert got["balanced_accuracy"].value == pytest.approx((1 / 2 + 1) / 2)
    assert got["roc"]["pituitary"] == {"fpr": [], "tpr": []}
    assert got["roc"]["glioma"]["fpr"][0] == got["roc"]["glioma"]["tpr"][0] == 0
    assert got["roc"]["glioma"]["fpr"][-1] == got["roc"]["glioma"]["tpr"][-1] == 1
    assert "NaN" not in to_json(got)


def test_a_class_of_one_patient_has_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth = ["glioma"] * 20 + ["meningioma"] * 20 + ["pituitary"] * 6
    patients = [f"p{i}" for i in range(40)] + ["one"] * 6
    got = score_classification(table(truth, rng.dirichlet([1, 1, 1], 46).tolist(), patients))["slice"]["per_class"]
    assert got["glioma"]["roc_auc"].low < got["glioma"]["roc_auc"].value
    assert 0 < got["pituitary"]["roc_auc"].value < 1
    assert np.isnan(got["pituitary"]["roc_auc"].low)


def test_one_class_only() -> None:
    got = score_classification(table(["glioma"] * 3, [G, G, M]))["slice"]
    assert got["accuracy"].value == got["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert all(np.isnan(got["per_class"][c]["roc_auc"].value) for c in CLASSES)
    assert got["roc"]["glioma"] == {"fpr": [], "tpr": []}


def test_slices_that_could_not_be_read_are_counted_and_left_out() -> None:
    given = table(["glioma", "glioma", "meningioma"], [G, G, P])
    logits = given.logits.copy()
    logits[1] = np.nan
    broken = replace(given, logits=logits, status=("ok", "unreadable", "ok"), labels=("glioma", None, "meningioma"))
    got = score_classification(broken)
    assert (got["slice"]["n"], got["unreadable"]) == (2, 1)
    assert got["slice"]["accuracy"].value == 0.5
    with pytest.raises(InputError, match="there is no readable slice to score"):
        score_classification(replace(given, status=("unreadable",) * 3))
    with pytest.raises(InputError, match=r"1\.png: the model's logits are not finite"):
        score_classification(replace(given, logits=logits))


@pytest.mark.parametrize("label", ["edema", None, ""])
def test_a_label_the_model_does_not_know_is_refused(label: str | None) -> None:
    with pytest.raises(
        InputError, match=rf"label {label!r} is not one the model knows \(glioma, meningioma, pituitary\)"
    ):
        score_classification(table(["glioma", label], [G, M]))
    assert label_indices(["pituitary", "glioma"], CLASSES).tolist() == [2, 0]


@pytest.mark.parametrize("levels", [3, 1000])
def test_auc_against_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(40) < 0.4
    scores = (rng.integers(0, levels, 40) + positive).astype(np.float64)
    weights: NDArray[np.float64] = rng.integers(0, 4, (25, 40)).astype(np.float64)
    weights[0] = 1
    got = roc_auc(positive, scores, weights)
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights]
    assert got == pytest.approx(expected)
    repeated = np.repeat(np.arange(40), weights[3].astype(int))  # a weight is a slice drawn so many times
    assert got[3] == pytest.approx(roc_auc_score(positive[repeated], scores[repeated]))


def test_auc_without_one_side_is_undefined() -> None:
    scores, ones = np.array([0.1, 0.2]), np.ones((1, 2))
    assert np.isnan(roc_auc(np.array([True, True]), scores, ones)).all()
    both = roc_auc(np.array([True, False]), scores, np.array([[1.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(both[0])
    assert both[1] == 0.0
