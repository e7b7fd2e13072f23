"""The figures of an experiment, against ones that were counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from studyroom import make_outcome

from gyrus.intervals import Interval
from gyrus.studies.trainings import softmax, statement
from gyrus.studies.values import (
    accuracy_by_run,
    accuracy_by_seed,
    confusion,
    facts,
    find_value,
    plain_value,
    score,
)

# Two persons of two slices each, under two seeds. Of class a (0): 3 of 4 right; of class b (1): 1 of 4.
SAID = [[0.9, 0.1], [0.8, 0.2], [0.97, 0.03], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4], [0.99, 0.01], [0.98, 0.02]]
TRUTH = [0, 0, 1, 1, 0, 0, 1, 1]
WHO = ["p", "p", "q", "q"] * 2
SEEDS = [0] * 4 + [1] * 4
IDS = [f"{i}.png" for i in range(4)] * 2


@pytest.fixture(scope="module")
def values() -> dict[str, Interval]:
    return score(make_outcome(SAID, TRUTH, WHO, seeds=SEEDS, ids=IDS, runs=[4, 4]))


def test_rates_are_of_all_rows(values: dict[str, Interval]) -> None:
    expected = {
        "accuracy": 4 / 8,
        "balanced_accuracy": (3 / 4 + 1 / 4) / 2,
        "recall:a": 3 / 4,
        "recall:b": 1 / 4,
        "precision:a": 3 / 6,
        "precision:b": 1 / 2,
        "f1:a": 2 * 0.5 * 0.75 / 1.25,
        "f1:b": 2 * 0.5 * 0.25 / 0.75,
        "macro_f1": (0.6 + 1 / 3) / 2,
        "macro_precision": 0.5,
        "macro_recall": 0.5,
        "test_loss": -math.log(0.9 * 0.8 * 0.03 * 0.6 * 0.3 * 0.6 * 0.01 * 0.02) / 8,
    }
    for name, value in expected.items():
        assert values[name].value == pytest.approx(value), name


def test_intervals_are_over_persons_and_slices_count_once(values: dict[str, Interval]) -> None:
    """Drawing p twice gives its accuracy of 3/4, q twice 1/4; each happens a quarter of the time."""
    found = values["accuracy"]
    assert (found.low, found.high) == (0.25, 0.75)
    assert (found.n, found.groups) == (4, 2)
    assert values["recall:a"].n == 4


def test_the_loss_of_a_sure_error_is_exact() -> None:
    found = score(make_outcome([[1.0, 1e-36], [1.0, 1e-36]], [1, 0], ["p", "q"]))["test_loss"]
    assert found.value == pytest.approx(36 * math.log(10) / 2)


def test_sure_errors_and_what_the_seeds_differ_by(values: dict[str, Interval]) -> None:
    """Wrong are five rows but one: 0.97, 0.7, 0.99 and 0.98 sure; three of these four above 0.95."""
    assert values["confident_errors"].value == pytest.approx(3 / 4)
    assert values["confident_errors"].n == 4
    assert values["between_seeds"].value == pytest.approx(np.std([3 / 4, 1 / 4], ddof=1))
    assert math.isnan(values["between_seeds"].low)


def test_of_epochs_there_are_means_over_runs() -> None:
    rows = tuple(({"epoch": 1.0, "train_loss": loss, "train_accuracy": 0.5},) for loss in (0.2, 0.4))
    found = score(make_outcome(SAID, TRUTH, WHO, seeds=SEEDS, ids=IDS, runs=[4, 4], epochs=rows))
    assert found["train_loss"].value == pytest.approx(0.3)
    assert found["train_loss"].n == 2
    assert "val_loss" not in found


def test_without_errors_or_other_seeds_nothing_is_made_up() -> None:
    found = score(make_outcome([[0.9, 0.1], [0.1, 0.9]], [0, 1], ["p", "q"]))
    assert found["accuracy"].value == 1
    assert math.isnan(found["confident_errors"].value)
    assert math.isnan(found["between_seeds"].value)


def test_a_class_that_the_test_part_lacks_is_left_out_of_means() -> None:
    found = score(make_outcome([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], [0, 1], ["p", "q"]))
    assert math.isnan(found["recall:c"].value)
    assert math.isnan(found["f1:c"].value)
    assert found["macro_f1"].value == found["balanced_accuracy"].value == 1


def test_accuracy_by_seed_and_by_run() -> None:
    outcome = make_outcome(SAID, TRUTH, WHO, seeds=SEEDS, ids=IDS, runs=[3, 1, 2, 2])
    assert accuracy_by_seed(outcome) == [0.75, 0.25]
    assert accuracy_by_run(outcome) == pytest.approx([2 / 3, 1.0, 0.5, 0.0])


def test_the_confusion_matrix_has_the_truth_by_row() -> None:
    assert confusion(make_outcome(SAID, TRUTH, WHO)) == [[3, 1], [3, 1]]


def test_facts() -> None:
    told = facts(make_outcome(SAID, TRUTH, WHO, seeds=SEEDS, ids=IDS, runs=[3, 1, 2, 2]), "vgg16")
    assert told["statement"] == "hand, 2 folds, patient-wise, 2 seeds"
    assert (told["seeds"], told["runs"], told["groups"], told["minutes"]) == (2, 4, 2, 1.3)
    assert told["slices"] == {"train": [2, 2], "val": [1, 1], "test": [1, 3]}
    assert (told["model"], told["in_place_of"], told["size"]) == ("vgg_tiny", "vgg16", 32)
    assert told["confusion"] == [[3, 1], [3, 1]]
    assert told["record_wise"] is False


def test_a_hold_out_is_called_what_it_is() -> None:
    assert statement(make_outcome(SAID, TRUTH, WHO)) == "hand, holdout, patient-wise, 1 seed"


def test_figures_are_found_by_step_and_name() -> None:
    results = {"one": {"accuracy": plain_value(0.5), "f1:a": plain_value(0.25)}}
    assert find_value(results, "one:accuracy") == find_value(results, "one") == results["one"]["accuracy"]
    assert find_value(results, "one:f1:a") == results["one"]["f1:a"]
    assert find_value(results, "one:f1:b") is None
    assert find_value(results, "two:accuracy") is None


def test_softmax_is_of_each_row_and_does_not_overflow() -> None:
    found = softmax(np.array([[0.0, math.log(3)], [1000.0, 0.0]], dtype=np.float32))
    assert found == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))
