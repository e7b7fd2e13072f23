"""Sets of classes: by hand, against MAPIE, and in simulations where persons have several slices that are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gyrus.certainty.conformal import class_thresholds, needed, person_weights, prediction_sets, upper_quantile


def two_classes(first: list[float]) -> np.ndarray:
    """Return (N, 2) probabilities, the first class's given."""
    return np.stack([np.array(first), 1 - np.array(first)], axis=1)


class TestThresholds:
    def test_one_slice_each_by_hand(self) -> None:
        """Of four persons, four fifths of five are all four: the least of their probabilities; three fifths, three."""
        shares, zeros, persons = two_classes([0.9, 0.6, 0.8, 0.7]), np.zeros(4, dtype=int), ["a", "b", "c", "d"]
        assert class_thresholds(shares, zeros, persons, 0.8)[0] == 0.6
        assert class_thresholds(shares, zeros, persons, 0.6)[0] == 0.7
        assert class_thresholds(shares, zeros, persons, 0.61)[0] == 0.6
        assert class_thresholds(shares, zeros, persons, 0.81)[0] == 0

    def test_slices_of_one_person_share_one_persons_weight(self) -> None:
        """K = 2: each person has mass 1 / 3. Person a's four slices have 1 / 12 each, b's one has 1 / 3.

        In order: 0.9 (b) 4/12, 0.8 5/12, 0.7 6/12, 0.6 7/12, 0.1 8/12.
        """
        shares = two_classes([0.8, 0.7, 0.6, 0.1, 0.9])
        persons = ["a", "a", "a", "a", "b"]
        zeros = np.zeros(5, dtype=int)
        for coverage, least in ((4 / 12, 0.9), (0.34, 0.8), (0.5, 0.7), (7 / 12, 0.6), (0.6, 0.1), (0.67, 0.0)):
            assert class_thresholds(shares, zeros, persons, coverage)[0] == least

    @pytest.mark.parametrize(("persons", "promised"), [(18, False), (19, True)])
    def test_fewer_than_nineteen_persons_promise_no_95_percent(self, persons: int, promised: bool) -> None:
        shares = two_classes(np.linspace(0.5, 0.9, persons).tolist())
        least = class_thresholds(shares, np.zeros(persons, dtype=int), [f"{i}" for i in range(persons)], 0.95)[0]
        assert least == (0.5 if promised else 0)

    def test_a_class_that_no_one_has_is_in_every_set(self) -> None:
        least = class_thresholds(two_classes([0.9, 0.8]), np.zeros(2, dtype=int), ["a", "b"], 0.5)
        assert least.tolist() == [0.8, 0.0]
        assert prediction_sets(two_classes([0.99, 0.8, 0.2]), least).tolist() == [[1, 1], [1, 1], [0, 1]]

    def test_rows_of_nan_are_in_no_set(self) -> None:
        assert not prediction_sets(np.full((1, 2), np.nan), np.zeros(2)).any()


def test_how_many_persons_it_takes() -> None:
    assert [needed(c) for c in (0.5, 0.8, 0.9, 0.95, 0.99, 0.6)] == [1, 4, 9, 19, 99, 2]


def test_every_person_counts_once() -> None:
    assert person_weights(["a", "b", "a", "a"]) == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])


def test_the_upper_quantile_counts_persons() -> None:
    """Person b's one slice is half of all, so a tenth of a's ten slices is a twentieth."""
    values = np.array([*range(1, 11), 5.0])
    persons = [*"a" * 10, "b"]
    assert upper_quantile(values, persons, 0.05) == 9
    assert upper_quantile(values, persons, 0.0) == 10
    assert upper_quantile(values, persons, 0.5) == 5
    assert upper_quantile(np.array([3.0]), ["a"], 0.01) == 3


def test_with_one_slice_a_person_each_class_is_that_of_mapie() -> None:
    """MAPIE (split conformal, LAC score) knows neither classes apart nor persons: it is given one class at a time."""
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):
        """Its features are the probabilities."""

        def __init__(self) -> None:
            self.classes_ = np.arange(3)

        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(axis=1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 45, 25])
    shares = rng.dirichlet([1, 1, 1], len(truth)) * 0.5 + 0.5 * np.eye(3)[truth] * rng.random((len(truth), 1))
    shares /= shares.sum(axis=1, keepdims=True)
    new = rng.dirichlet([1, 1, 1], 400)
    persons = [f"{i}" for i in range(len(truth))]
    for coverage in (0.8, 0.9, 0.95):
        members = prediction_sets(new, class_thresholds(shares, truth, persons, coverage))
        for c in range(3):
            peer = SplitConformalClassifier(Given(), confidence_level=coverage, conformity_score="lac", prefit=True)
            with pytest.warns(UserWarning, match="less labels"):
                peer.conformalize(shares[truth == c], truth[truth == c])
            _, sets = peer.predict_set(new)
            assert np.array_equal(members[:, c], sets[:, c, 0]), (coverage, c)


class TestCoverage:
    COVERAGE, PERSONS, RUNS = 0.9, 30, 600

    def draw(self, rng: np.random.Generator, persons: int, label: int) -> tuple[np.ndarray, list[str]]:
        """Return probabilities of the slices of persons of one class: 1 to 40 each, that differ little within one."""
        rows, names = [], []
        for person in range(persons):
            own = rng.normal(0.3 if label else 1.2, 1.5)
            n = int(rng.integers(1, 41))
            logits = np.zeros((n, 3))
            logits[:, label] = own + 0.2 * rng.standard_normal(n)
            powers = np.exp(logits)
            rows.append(powers / powers.sum(axis=1, keepdims=True))
            names += [f"{label}-{person}"] * n
        return np.concatenate(rows), names

    @pytest.mark.parametrize("label", [0, 1])
    def test_a_slice_of_a_new_person_is_covered_as_often_as_promised_in_each_class(self, label: int) -> None:
        """Exchangeable persons: a run calibrates on 30 and asks for one slice of one new person.

        The bound is from below; that it is not far off is known from 30 persons: at most 2 / 31 above it.
        """
        rng = np.random.default_rng(label)
        hits = 0
        for _ in range(self.RUNS):
            both = [self.draw(rng, self.PERSONS, c) for c in (0, 1)]
            shares = np.concatenate([s for s, _ in both])
            truth = np.repeat([0, 1], [len(s) for s, _ in both])
            least = class_thresholds(shares, truth, [n for _, names in both for n in names], self.COVERAGE)
            new, _ = self.draw(rng, 1, label)
            hits += bool(new[rng.integers(len(new)), label] >= least[label])
        low, _ = stats.binom.interval(0.999, self.RUNS, self.COVERAGE)
        _, high = stats.binom.interval(0.999, self.RUNS, self.COVERAGE + 2 / (self.PERSONS + 1))
        assert low <= hits <= high

    def test_slices_taken_for_persons_promise_too_much(self) -> None:
        """Where persons with many slices are the sure ones, counting slices misses those with few."""
        rng = np.random.default_rng(3)

        def person() -> np.ndarray:
            return np.full(40, 0.9) if rng.random() < 0.5 else np.array([rng.random()])

        by_person = by_slice = 0
        for _ in range(300):
            people = [person() for _ in range(30)]
            names = [f"{i}" for i, p in enumerate(people) for _ in p]
            shares = two_classes(np.concatenate(people).tolist())
            zeros = np.zeros(len(shares), dtype=int)
            new = person()[0]
            by_person += new >= class_thresholds(shares, zeros, names, 0.9)[0]
            by_slice += new >= class_thresholds(shares, zeros, [f"{i}" for i in range(len(shares))], 0.9)[0]
        low, _ = stats.binom.interval(0.999, 300, 0.9)
        assert by_person >= low
        assert by_slice < low
