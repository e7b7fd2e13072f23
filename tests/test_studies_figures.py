"""Which answers of a study are looked at, and which figures may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studyroom import lab_of, make_outcome

from gyrus.errors import InputError
from gyrus.records import Record
from gyrus.studies.figures import Painter, choose
from gyrus.studies.figures import _found as found
from gyrus.studies.figures import _spread_out as spread_out
from gyrus.studies.plans import Figure

# Rows 0 to 3 are right; 4 to 7 wrong, of p, q, r and r; 6 is sure.
SAID = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9], [0.98, 0.02], [0.8, 0.2]]
TRUTH = [0, 0, 1, 1, 0, 0, 1, 1]
WHO = list("ppqrpqrr")


class TestChoice:
    @pytest.mark.parametrize(
        ("options", "rows"),
        [
            ({"which": "wrong"}, [6, 5, 4]),  # the surest first, and of r only this one
            ({"which": "wrong", "slices": 2}, [6, 5]),
            ({"which": "wrong", "label": "a"}, [5, 4]),
            ({"which": "wrong", "called": "a"}, [6]),
            ({"which": "wrong", "label": "a", "called": "a"}, []),
            ({"which": "sure"}, [6]),
            ({"which": "sure", "label": "a"}, []),
        ],
    )
    def test_by_hand(self, options: dict[str, Any], rows: list[int]) -> None:
        assert choose(make_outcome(SAID, TRUTH, WHO), **options) == rows

    def test_the_typical_right_answer_is_of_middling_certainty(self) -> None:
        right = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.45, 0.55]]
        assert choose(make_outcome(right, [0, 0, 1, 0], list("pqrs")), "typical") == [2, 1, 0]
        assert choose(make_outcome(right, [0, 0, 1, 0], list("prrs")), "typical") == [2, 0]

    def test_what_there_is_not(self) -> None:
        outcome = make_outcome(SAID, TRUTH, WHO)
        with pytest.raises(InputError, match="cannot be chosen by 'best': choose of typical, wrong, sure"):
            choose(outcome, "best")
        with pytest.raises(InputError, match="the training knows no class 'glioma': choose of a, b"):
            choose(outcome, "wrong", label="glioma")

    def test_a_row_is_that_of_its_run(self) -> None:
        outcome = make_outcome(SAID, TRUTH, WHO, seeds=[0, 0, 0, 1, 1, 1, 1, 1], runs=[3, 5])
        assert [found(outcome, row)[0].seed for row in range(8)] == [0] * 3 + [1] * 5
        assert [found(outcome, row)[1].id for row in range(8)] == list(outcome.ids)
        with pytest.raises(IndexError):
            found(outcome, 8)

    def test_slices_of_different_classes_come_first(self) -> None:
        records = [Record(str(i), Path(), label) for i, label in enumerate("aaabbc")]
        assert [r.id for r in spread_out(records, 5)] == ["0", "3", "5", "1", "4"]
        assert len(spread_out(records, 9)) == 6


class TestPainter:
    @pytest.fixture
    def paint(self, tiny_phantom: Path, tmp_path: Path) -> Callable[..., list[str]]:
        """Draw one figure of a small study and return the names of its files."""

        def paint(kind: str, of: list[str], **options: Any) -> list[str]:
            split = {"fractions": [0.5, 0.25, 0.25]}
            one = {"data": "cheng", "protocol": "honest", "split": split}
            datasets, trainings = lab_of({"cheng": tiny_phantom}, tmp_path, trainings={"one": one})
            painter = Painter(datasets, trainings, tmp_path / "figures")
            figure = Figure.model_validate({"kind": kind, "title": "The title", "of": of, "options": options})
            return [drawn.file for drawn in painter.draw(figure)]

        return paint

    def test_an_option_that_the_kind_does_not_take(self, paint: Callable[..., list[str]]) -> None:
        said = r"^figure 'The title' \(curves\): got an unexpected keyword argument 'slices': correct its options$"
        with pytest.raises(InputError, match=said):
            paint("curves", ["one"], slices=3)

    def test_maps_of_a_layer_beside_the_truth(self, paint: Callable[..., list[str]]) -> None:
        drawn = paint("gallery", ["one"], which="wrong", truth=True, layer="body", method="layercam", slices=1)
        assert drawn == ["the-title-1.png"]

    def test_several_of_one_kind_are_numbered(self, paint: Callable[..., list[str]], tmp_path: Path) -> None:
        assert paint("balance", ["cheng"], planes=True) == ["the-title-1.svg", "the-title-2.svg"]
        assert paint("samples", ["cheng", "cheng"], per_class=1) == ["the-title-1.png", "the-title-2.png"]
        assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
            "the-title-1.png", "the-title-1.svg", "the-title-2.png", "the-title-2.svg"
        ]  # fmt: skip

    def test_a_sweep_of_nothing_says_so(self, paint: Callable[..., list[str]], tmp_path: Path) -> None:
        assert paint("sweep", ["one"], which="sure") == ["the-title-1.svg"]
        assert "nothing to show" in (tmp_path / "figures" / "the-title-1.svg").read_text(encoding="utf-8")
