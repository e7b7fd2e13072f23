"""What a run's probabilities, sets and refusals are worth: by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gyrus.artifacts import to_json
from gyrus.evaluate.certainty import mean_over_persons, score_certainty
from gyrus.predictions import Certainty, Predictions

CLASSES = ("glioma", "meningioma")


def table(shares: list[float], labels: list[str], patients: list[str | None], **more: object) -> Predictions:
    """Predictions of the given probabilities of glioma."""
    n = len(shares)
    ids = tuple(f"{i}.png" for i in range(n))
    logits = np.log(np.stack([shares, 1 - np.array(shares)], axis=1)).astype(np.float32)
    return Predictions(CLASSES, ids, ids, tuple(patients), tuple(labels), logits, ("ok",) * n, ("",) * n, **more)  # type: ignore[arg-type]


def test_of_an_uncalibrated_model() -> None:
    given = table([0.9, 0.9, 0.9, 0.9], ["glioma"] * 3 + ["meningioma"], ["a", "a", "b", "c"])
    found = score_certainty(given)
    assert found["calibrated"] is False
    assert found["ece"].value == pytest.approx(0.15)
    assert (found["ece"].n, found["ece"].groups) == (4, 3)
    assert found["brier"].value == pytest.approx((3 * 0.02 + 1.62) / 4)
    assert found["uncalibrated"] is found["sets"] is None
    assert found["empty_bins"] == 14
    assert [b["n"] for b in found["bins"]] == [0] * 13 + [4, 0]
    full = found["bins"][13]
    assert (full["accuracy"].value, full["accuracy"].groups) == (0.75, 3)
    assert full["confidence"] == pytest.approx(0.9)
    assert np.isnan(found["bins"][0]["accuracy"].value)
    assert found["answers"]["counts"] == {"ok": 4, "flagged": 0, "refused": 0}
    assert found["answers"]["accuracy"].value == 0.75
    to_json(found)


def test_of_a_calibrated_model() -> None:
    """Person a: one of two covered. b: covered, by two classes. c: refused, and in no set. d: an empty set."""
    sets = (("glioma",), ("meningioma",), ("glioma", "meningioma"), None, ())
    given = table(
        [0.9, 0.2, 0.6, 0.3, 0.8],
        ["glioma", "glioma", "meningioma", "glioma", "meningioma"],
        ["a", "a", "b", "c", "d"],
        certainty=Certainty(0.9, np.full(5, 2.0), np.zeros(5), sets),
    )
    given = replace(given, status=("ok", "ok", "flagged", "refused", "flagged"), reasons=("", "", "x", "y", "z"))
    found = score_certainty(given)
    assert found["calibrated"] is True
    assert found["uncalibrated"]["brier"].value == pytest.approx(np.mean([0.02, 1.28, 0.72, 0.98, 1.28]), abs=1e-6)
    assert found["brier"].value != pytest.approx(found["uncalibrated"]["brier"].value, abs=0.01)
    sets_found = found["sets"]
    assert sets_found["asked"] == 0.9
    assert sets_found["coverage"].value == pytest.approx((0.5 + 1 + 0) / 3)
    assert (sets_found["coverage"].n, sets_found["coverage"].groups) == (4, 3)
    assert sets_found["per_class"]["glioma"].value == 0.5
    assert sets_found["per_class"]["meningioma"].value == 0.5
    assert sets_found["size"].value == pytest.approx((1 + 2 + 0) / 3)
    assert sets_found["single"].value == pytest.approx(1 / 3)
    assert sets_found["empty"] == 1
    answers = found["answers"]
    assert answers["counts"] == {"ok": 2, "flagged": 2, "refused": 1}
    assert answers["refused"].value == 0.2
    assert answers["accuracy"].value == 0.25  # of four, the first alone


def test_unreadable_rows_are_left_out_and_a_slice_of_an_unknown_patient_stands_for_itself() -> None:
    given = table([0.9, 0.9, 0.9], ["glioma"] * 3, [None, "a", "a"])
    logits = given.logits.copy()
    logits[0] = np.nan
    found = score_certainty(replace(given, logits=logits, status=("unreadable", "ok", "ok"), labels=(None, *CLASSES)))
    assert (found["brier"].n, found["brier"].groups) == (2, 1)
    assert np.isnan([found["brier"].low, found["ece"].high]).all()  # one person
    found = score_certainty(given)
    assert (found["brier"].n, found["brier"].groups) == (3, 2)
    found = score_certainty(replace(given, patients=(None,) * 3))
    assert (found["brier"].n, found["brier"].groups) == (3, 3)


def test_a_class_without_slices_and_nothing_answered_are_undefined() -> None:
    given = table([0.9], ["glioma"], ["a"], certainty=Certainty(0.9, np.ones(1), np.zeros(1), (("glioma",),)))
    assert np.isnan(score_certainty(given)["sets"]["per_class"]["meningioma"].value)
    refused = replace(
        given, status=("refused",), reasons=("x",), certainty=Certainty(0.9, np.ones(1), np.zeros(1), (None,))
    )
    found = score_certainty(refused)
    assert np.isnan(found["sets"]["coverage"].value)
    assert np.isnan(found["answers"]["accuracy"].value)
    assert found["answers"]["refused"].value == 1


def test_the_interval_is_over_persons() -> None:
    """Two persons, one always covered and one never: replicates are 0, 1/2 or 1."""
    found = mean_over_persons(np.array([1.0, 1, 1, 0]), ["a", "a", "a", "b"])
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    assert (found.n, found.groups) == (4, 2)
