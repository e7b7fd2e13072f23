"""From faults, scores and sets to a status and its reason in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gyrus.appearance import Fault
from gyrus.appearance.faults import FAULTS
from gyrus.certainty import Calibration
from gyrus.certainty.upright import EDGES
from gyrus.records import Record
from gyrus.refusal import REFUSES, Observed, answers, judge, refusing_kinds

CALIBRATION = Calibration(
    statement="the validation part of a split",
    slices=100,
    persons=20,
    temperature=1.5,
    coverage=0.95,
    thresholds={"glioma": 0.2, "meningioma": 0.0, "pituitary": 0.3},
    persons_per_class={"glioma": 30, "meningioma": 3, "pituitary": 30},
    novelty="knn",
    novelty_limit=0.5,
    turned_limit=0.1,
    false_refusals=0.01,
    refusing=tuple(k for k in REFUSES if k != "white ring"),
    reference_slices=100,
)


def status(
    *faults: Fault,
    novelty: float = 0.1,
    turned: float = 0.0,
    sequences: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
    members: tuple[str, ...] = ("glioma",),
    predicted: str = "glioma",
    known: tuple[str, ...] = (),
) -> tuple[str, str]:
    calibration = CALIBRATION.model_copy(update={"sequences": known})
    return judge(calibration, faults, novelty, turned, np.array(sequences, np.float32), members, predicted)


def test_a_plain_slice_with_one_class_is_answered() -> None:
    assert status() == ("ok", "")
    assert status(novelty=0.5, turned=0.1) == ("ok", "")  # at the limits themselves


def test_a_strange_slice_is_refused_with_its_score() -> None:
    assert status(novelty=0.51) == (
        "refused", "Unlike the slices the model learned from: its knn score is 0.51, and the limit 0.5.",
    )  # fmt: skip


def test_features_that_are_no_numbers_are_refused() -> None:
    assert status(novelty=float("nan"))[0] == "refused"


def test_upside_down() -> None:
    said, why = status(turned=0.11)
    assert said == "refused"
    assert why.startswith("Upside down")


@pytest.mark.parametrize("kind", REFUSES)
def test_faults_that_refuse_do_so_unless_the_data_was_full_of_them(kind: str) -> None:
    assert status(Fault(kind, 1.0, "Why.")) == ("flagged" if kind == "white ring" else "refused", "Why.")


@pytest.mark.parametrize("kind", [k for k in FAULTS if k not in REFUSES])
def test_other_faults_only_flag(kind: str) -> None:
    assert status(Fault(kind, 1.0, "Why.")) == ("flagged", "Why.")


def test_a_few_coloured_letters_flag_and_a_colour_photograph_is_refused() -> None:
    letters, photograph = Fault("coloured", 0.02, "A few."), Fault("coloured", 1.0, "Most.")
    assert status(letters)[0] == "flagged"
    assert status(photograph)[0] == "refused"
    assert (refusing_kinds([letters]), refusing_kinds([photograph])) == (frozenset(), {"coloured"})


def test_every_reason_against_is_told_and_doubts_are_not_told_with_them() -> None:
    said, why = status(Fault("blank", 1.0, "Blank."), Fault("tiny", 1.0, "Tiny."), turned=1, novelty=1, members=())
    assert said == "refused"
    assert [why.index(word) for word in ("Blank.", "Upside", "Unlike")] == sorted(
        why.index(word) for word in ("Blank.", "Upside", "Unlike")
    )
    assert "Tiny." not in why
    assert "No class" not in why


def test_sets_that_do_not_hold_one_class_are_flagged() -> None:
    assert status(members=()) == ("flagged", "No class is probable enough to be in its set at a coverage of 95%.")
    assert status(members=("glioma", "pituitary")) == (
        "flagged", "glioma or pituitary: none can be left out at a coverage of 95%.",
    )  # fmt: skip


@pytest.mark.parametrize(("coverage", "said"), [(0.95, "95%"), (0.995, "99.5%"), (0.57, "57%")])
def test_a_coverage_is_said_as_it_was_asked_for(coverage: float, said: str) -> None:
    calibration = CALIBRATION.model_copy(update={"coverage": coverage})
    none = np.zeros(4, np.float32)
    for members in ((), ("glioma", "pituitary")):
        assert judge(calibration, (), 0.1, 0, none, members, "glioma")[1].endswith(f"at a coverage of {said}.")


def test_a_class_that_can_never_be_left_out_says_so() -> None:
    said, why = status(members=("glioma", "meningioma", "pituitary"))
    assert said == "flagged"
    assert why.startswith("glioma, meningioma or pituitary: none")
    assert why.endswith("Too few persons had meningioma when the model was calibrated.")


def test_a_set_without_the_most_probable_class_is_flagged() -> None:
    """Each class has a threshold of its own, so the first may miss its own and a lesser one pass."""
    said = "pituitary is the most probable, but not probable enough to be in its own set, which holds"
    assert status(predicted="pituitary") == ("flagged", f"{said} glioma.")
    few = "Too few persons had meningioma when the model was calibrated."
    assert status(members=("meningioma",), predicted="pituitary") == ("flagged", f"{said} meningioma. {few}")
    assert status(members=("glioma", "meningioma"), predicted="pituitary") == (
        "flagged",
        f"{said} glioma and meningioma. glioma or meningioma: none can be left out at a coverage of 95%. {few}",
    )
    assert status(members=("meningioma",), predicted="meningioma") == ("ok", "")


def test_a_sequence_that_no_tumour_was_known_on_is_flagged() -> None:
    t2 = (0.05, 0.05, 0.8, 0.1)
    assert status(sequences=t2) == ("ok", "")  # not asked about
    learned = "the model learned to tell tumours on"
    assert status(sequences=t2, known=("T1-CE",)) == (
        "flagged", f"Looks like T2: {learned} T1-CE alone, and may miss one here.",
    )  # fmt: skip
    assert status(sequences=t2, known=("T1", "T1-CE", "FLAIR"))[1].endswith(
        "on T1, T1-CE or FLAIR alone, and may miss one here."
    )
    assert status(sequences=t2, known=("T1-CE", "T2")) == ("ok", "")
    assert status(sequences=(0.25, 0.25, 0.5, 0.0), known=("T1", "T1-CE")) == ("ok", "")  # half is enough
    ct = (0.1, 0.1, 0.1, 0.0)
    assert status(sequences=ct, known=("T1-CE",))[1].startswith("Looks like none of T1, T1-CE, T2 or FLAIR: ")
    weak = (0.25, 0.26, 0.25, 0.24)
    assert status(sequences=weak, known=("T1-CE",)) == (
        "flagged", "Does not look enough like T1-CE: the model learned to tell tumours on nothing else.",
    )  # fmt: skip


def test_a_refused_slice_is_not_told_its_sequence() -> None:
    assert "T2" not in status(novelty=1, sequences=(0, 0, 1, 0), known=("T1-CE",))[1]


class TestAnswers:
    """Four slices: one plain, one unreadable, one strange, one upside down."""

    CLASSES = ("glioma", "meningioma", "pituitary")
    RECORDS = tuple(Record(id=name, path=Path(f"{name}.png")) for name in ("plain", "cut", "strange", "turned"))

    @pytest.fixture
    def reference(self) -> dict[str, np.ndarray]:
        return {"upright": np.linspace(-1, 1, EDGES, dtype=np.float32)}

    @pytest.fixture
    def seen(self, reference: dict[str, np.ndarray]) -> Observed:
        seen = Observed.nothing(4, 3)
        seen.logits[[0, 2, 3]] = [9, 0, 0]
        seen.errors = {1: "cut.png is cut off."}
        seen.novelty[[0, 2, 3]] = [0.1, 0.6, 0.1]
        seen.edges[[0, 2], 0] = 1
        seen.edges[3, -1] = 1
        return seen

    def test_each_slice_is_judged_by_its_own_row(self, seen: Observed, reference: dict[str, np.ndarray]) -> None:
        unforced = CALIBRATION.model_copy(update={"thresholds": {**CALIBRATION.thresholds, "meningioma": 0.3}})
        said = answers(self.CLASSES, self.RECORDS, seen, unforced, reference, statement="a split")
        assert said.status == ("ok", "unreadable", "refused", "refused")
        assert [r.split(":")[0] for r in said.reasons] == [
            *("", "cut.png is cut off.", "Unlike the slices the model learned from", "Upside down"),
        ]
        assert said.certainty is not None
        assert said.certainty.sets == (("glioma",), None, None, None)
        assert said.certainty.temperature.tolist() == [1.5] * 4
        assert np.array_equal(said.certainty.novelty, [0.1, np.nan, 0.6, 0.1], equal_nan=True)
        assert said.probabilities[0, 0] == pytest.approx(1 / (1 + 2 * np.exp(-9 / 1.5)))
        assert said.statement == "a split"

    def test_the_most_probable_class_may_miss_its_own_threshold(self, reference: dict[str, np.ndarray]) -> None:
        """0.6 of meningioma is too little for 0.8, and 0.4 of glioma enough for 0.3: the answer is not in the set."""
        classes, thresholds = ("glioma", "meningioma"), {"glioma": 0.3, "meningioma": 0.8}
        changes = {"thresholds": thresholds, "persons_per_class": {"glioma": 30, "meningioma": 30}, "temperature": 1.0}
        seen = Observed.nothing(1, 2)
        seen.logits[0], seen.novelty[0] = np.log([0.4, 0.6]), 0.1
        said = answers(classes, self.RECORDS[:1], seen, CALIBRATION.model_copy(update=changes), reference)
        (row,) = said.rows()
        assert (row["predicted"], row["set"], row["status"]) == ("meningioma", ["glioma"], "flagged")
        assert row["reason"].startswith("meningioma is the most probable, but not probable enough")

    def test_a_class_in_every_set_flags(self, seen: Observed, reference: dict[str, np.ndarray]) -> None:
        said = answers(self.CLASSES, self.RECORDS, seen, CALIBRATION, reference)
        assert said.certainty is not None
        assert (said.status[0], said.certainty.sets[0]) == ("flagged", ("glioma", "meningioma"))

    def test_without_calibration_all_that_was_read_is_answered(self, seen: Observed) -> None:
        said = answers(self.CLASSES, self.RECORDS, seen, None, {})
        assert said.status == ("ok", "unreadable", "ok", "ok")
        assert said.certainty is None
        assert said.probabilities[0, 0] == pytest.approx(1 / (1 + 2 * np.exp(-9)))

    @pytest.mark.parametrize("calibration", [CALIBRATION, None])
    def test_logits_that_are_no_numbers_are_refused(
        self, calibration: Calibration | None, seen: Observed, reference: dict[str, np.ndarray]
    ) -> None:
        seen.logits[0, 1], seen.logits[2] = np.nan, np.inf
        said = answers(self.CLASSES, self.RECORDS, seen, calibration, reference)
        assert said.status[:3] == ("refused", "unreadable", "refused")
        assert said.reasons[0] == said.reasons[2]
        assert said.reasons[0].startswith("The network's numbers are not finite: ")
        assert said.predicted[0] is None
        assert said.certainty is None or said.certainty.sets[0] is None

    def test_no_slices_and_none_readable(self, reference: dict[str, np.ndarray]) -> None:
        assert len(answers(self.CLASSES, (), Observed.nothing(0, 3), CALIBRATION, reference)) == 0
        seen = Observed.nothing(1, 3)
        seen.errors = {0: "Why."}
        assert answers(self.CLASSES, self.RECORDS[:1], seen, CALIBRATION, reference).status == ("unreadable",)
