"""The leaderboard of a run and of a cross-validation: its scores, its choices, and that it can be interrupted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gyrus.artifacts import is_finished
from gyrus.errors import InputError
from gyrus.evaluate.localization import class_priors
from gyrus.evaluate.ranking import score_map
from gyrus.explain import explain_records
from gyrus.leaderboard import Scores, build_leaderboard, make_settings
from gyrus.leaderboard.entries import COLUMNS, THRESHOLDS, Entry, card_of, score, score_outline
from gyrus.leaderboard.learning import best_layers, best_of, from_plain, learn_thresholds, to_plain
from gyrus.leaderboard.passes import baseline_maps
from gyrus.leaderboard.settings import ONE_PASS, REPEATED, Settings
from gyrus.leaderboard.sources import _source, draw_sample, find_sources
from gyrus.leaderboard.store import join_parts, write_part
from gyrus.leaderboard.summary import summarise
from gyrus.models import load_model
from gyrus.preprocess import frame_of, prepare_all
from gyrus.records import Record
from gyrus.rundata import Fold
from gyrus.thresholds import Learned, Threshold, find_threshold, learn

SMALL = make_settings(methods=("cam", "layercam", "saliency", "occlusion"), sample=3, learn=6)


@pytest.fixture(scope="module")
def board(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board") / "board"
    build_leaderboard(trained, out, settings=SMALL, device="cpu")
    return out


@pytest.fixture(scope="module")
def value(board: Path) -> dict[str, Any]:
    return dict(json.loads((board / "leaderboard.json").read_text()))


@pytest.fixture(scope="module")
def scores(board: Path) -> Scores:
    return Scores(board / "slices.parquet")


def test_intervals_draw_a_person_with_all_their_names(trained: Path, scores: Scores, value: dict[str, Any]) -> None:
    (source,) = find_sources(trained, None, learn=6, seed=0)
    model = load_model(source.run)
    learned = learn_thresholds(source, model, class_priors(source.others, model.spec.preprocess), SMALL)
    names = sorted({source.persons[i] for i in scores.ids})
    merged = {i: names[0] if p == names[1] else p for i, p in source.persons.items()}
    got = summarise(scores, SMALL, [replace(source, persons=merged)], [learned])
    assert got["patients"] == value["patients"] - 1 == len(names) - 1


def test_rules_are_scored_with_the_prior_of_all_training_outlines(trained: Path, scores: Scores) -> None:
    (source,) = find_sources(trained, None, learn=6, seed=0)
    spec = load_model(source.run).spec.preprocess
    row, called = scores.entries.index(Entry("baseline", "prior")), scores.of_slices("predicted")

    def scored(training: Sequence[Record]) -> list[float]:
        priors, found = class_priors(training, spec), []
        for i, name in enumerate(scores.ids):
            image, record = source.dataset[name].read(), source.dataset[name]
            slices = prepare_all([image], spec)
            grid = baseline_maps([record], slices, [called[i]], priors)[scores.entries[row]][0]
            mask = np.asarray(record.read_mask(image.shape))
            found.append(score(frame_of(image, spec).place(grid), mask)["auprc"])
        return found

    assert scores.numbers("auprc")[row] == pytest.approx(scored(source.training))
    assert scored(source.others) != pytest.approx(scored(source.training))


class TestColumns:
    def test_every_column_has_a_card(self) -> None:
        assert {card_of(c).name for c in COLUMNS} <= {c.partition("@")[0] for c in COLUMNS}
        assert card_of("iou@otsu").name == "iou"

    def test_scores_are_those_of_the_metrics(self) -> None:
        rng = np.random.default_rng(0)
        placed = rng.random((30, 40)).astype(np.float32)
        mask = np.zeros((30, 40), dtype=bool)
        mask[5:12, 8:20] = True
        found, whole = score(placed, mask, find_threshold("sigma:1")), score_map(placed, mask).values
        for name in ("pointing", "energy_inside", "rank_accuracy", "auprc"):
            assert found[name] == whole[name]
        assert found["iou@percentile:95"] == whole["iou_p95"]
        assert found["dice@otsu"] == pytest.approx(whole["dice_otsu"])
        kept = find_threshold("sigma:1").keep(placed)
        assert found["iou@learned"] == (kept & mask).sum() / (kept | mask).sum()

    @pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.ones((4, 4), bool)])
    def test_nothing_is_defined_without_a_tumour_or_beside_it(self, mask: np.ndarray) -> None:
        placed = np.eye(4, dtype=np.float32)
        assert score(placed, mask) == {}
        assert score_outline(placed, mask, find_threshold("otsu"), (1.0, 1.0)) == {}

    def test_an_outline_is_scored_in_mm_and_by_its_largest_part(self) -> None:
        placed = np.zeros((20, 20), dtype=np.float32)
        placed[2:8, 2:8], placed[15:17, 15:17] = 1.0, 1.0
        mask = np.zeros((20, 20), dtype=bool)
        mask[2:8, 2:8] = True
        found = score_outline(placed, mask, find_threshold("maximum:0.5"), (1.0, 1.0))
        assert found["iou@learned+largest"] == found["dice@learned+largest"] == found["lesion_hits@learned"] == 1.0
        assert found["hausdorff95@learned"] > 5
        assert np.isnan(score_outline(placed, mask, find_threshold("maximum:0.5"), None)["hausdorff95@learned"])


class TestSettings:
    def test_methods_are_told_apart_by_their_cost(self) -> None:
        assert set(Settings().one_pass) == set(ONE_PASS)
        assert set(Settings().repeated) == set(REPEATED)
        assert len(ONE_PASS) >= 12

    def test_a_value_out_of_range_names_itself(self) -> None:
        with pytest.raises(InputError, match="sample = -1"):
            make_settings(sample=-1)


class TestSources:
    def test_learning_and_prior_share_no_patient_with_each_other_or_the_test(self, trained: Path) -> None:
        (source,) = find_sources(trained, None, learn=5, seed=0)
        people = [{r.patient for r in part} for part in (source.tested, source.learning, source.others)]
        assert all(people)
        assert len(set.union(*people)) == sum(map(len, people))

    def test_the_prior_of_the_tested_slices_is_of_all_training_outlines(self, trained: Path) -> None:
        (source,) = find_sources(trained, None, learn=1000, seed=0)
        outlined = {r.id for r in source.dataset.select(source.split.train) if r.mask is not None}
        assert {r.id for r in source.training} == outlined
        assert {r.id for r in (*source.learning, *source.others)} == outlined
        halves = [{source.persons[r.id] for r in part} for part in (source.learning, source.others)]
        assert abs(len(halves[0]) - len(halves[1])) <= 1

    def test_slices_without_a_tumour_are_not_scored_though_they_have_an_empty_mask(
        self, trained: Path, tmp_path: Path
    ) -> None:
        (source,) = find_sources(trained, None, learn=5, seed=0)
        some = next(r.mask for r in source.tested)
        masked = tuple(replace(r, mask=r.mask or some) for r in source.dataset)
        fold = Fold(source.run, replace(source.dataset, records=masked), source.split)
        assert [r.id for r in _source(fold, 5, 0).tested] == [r.id for r in source.tested]

    def test_the_sample_is_seeded_and_of_the_test_part(self, trained: Path) -> None:
        sources = find_sources(trained, None, learn=5, seed=0)
        one, again, other = (draw_sample(sources, 4, seed) for seed in (0, 0, 1))
        assert one == again != other
        assert one <= {r.id for r in sources[0].tested}
        assert len(one) == 4

    def test_what_is_no_run_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="did not finish"):
            find_sources(tmp_path, None, learn=5, seed=0)


class TestLearning:
    def test_the_cut_is_the_one_that_learning_by_hand_finds(self, trained: Path) -> None:
        (source,) = find_sources(trained, None, learn=4, seed=0)
        model = load_model(trained, device=torch.device("cpu"))
        settings = make_settings(methods=("cam", "layercam"), layers=("body",))
        learned = learn_thresholds(source, model, class_priors(source.others, model.spec.preprocess), settings)
        maps = explain_records(model, source.learning, methods=("cam",), true_class=False)
        placed, masks = [], []
        for record, grid in zip(source.learning, maps.arrays["cam", "body", "predicted"], strict=True):  # type: ignore[index]
            image = record.read()
            placed.append(frame_of(image, model.spec.preprocess).place(grid))
            masks.append(np.asarray(record.read_mask(image.shape)))
        assert learned[Entry("method", "cam", "body")] == learn(placed, masks)

    def test_choices_by_hand(self) -> None:
        def cut(score: float) -> Threshold:
            return Threshold("otsu", learned=Learned(9, score, 2))

        choices = {
            Entry("method", "a", "x"): cut(0.2),
            Entry("method", "a", "y"): cut(0.3),
            Entry("method", "b", "x"): cut(0.1),
            Entry("baseline", "c"): cut(0.9),
        }
        assert best_of(choices, "method") == Entry("method", "a", "y")
        assert best_of(choices, "baseline") == Entry("baseline", "c")
        assert best_of(choices, "null") is None
        assert best_layers(choices) == (Entry("method", "a", "y"), Entry("method", "b", "x"))
        assert from_plain(json.loads(json.dumps(to_plain(choices)))) == choices


class TestBoard:
    def test_scores_are_those_of_the_maps(self, scores: Scores, trained: Path) -> None:
        (source,) = find_sources(trained, None, learn=1, seed=0)
        model = load_model(trained, device=torch.device("cpu"))
        records = sorted(source.tested, key=lambda r: r.id)
        maps = explain_records(model, records, methods=("layercam",), true_class=False)
        row = scores.entries.index(Entry("method", "layercam", "body"))
        grids = maps.arrays["layercam", "body", "predicted"]  # type: ignore[index]
        for i, (record, grid) in enumerate(zip(records, grids, strict=True)):
            image = record.read()
            mask = record.read_mask(image.shape)
            assert mask is not None
            by_hand = score_map(frame_of(image, model.spec.preprocess).place(grid), mask).values
            assert scores.ids[i] == record.id
            for column, name in (("pointing", "pointing"), ("auprc", "auprc"), ("iou@percentile:95", "iou_p95")):
                assert scores.numbers(column)[row, i] == pytest.approx(by_hand[name], abs=1e-3, nan_ok=True)

    def test_every_kind_competes(self, value: dict[str, Any], scores: Scores) -> None:
        assert {e.kind for e in scores.entries} == {"method", "baseline", "null", "chosen", "ceiling"}
        assert len(value["rows"]) == len(scores.entries)
        assert {r["layer"] for r in value["rows"] if r["name"] == "cam"} == {"body"}
        assert len({r["layer"] for r in value["rows"] if r["name"] == "layercam" and r["kind"] == "method"}) > 2

    def test_slow_methods_and_null_models_are_scored_on_the_sample_alone(self, value: dict[str, Any]) -> None:
        rows = {(r["kind"], r["name"]): r for r in value["rows"]}
        assert rows["method", "occlusion"]["slices"] <= 3 < rows["method", "saliency"]["slices"]
        assert rows["null", "cam"]["slices"] <= 3
        assert "deletion" in rows["method", "occlusion"]["scores"]
        assert "deletion" in rows["baseline", "intensity"]["scores"]
        assert "mprt_rank" in rows["method", "cam"]["scores"]
        assert "mprt_rank" not in rows["method", "occlusion"]["scores"]

    def test_no_map_is_above_the_ceiling_of_its_grid(self, scores: Scores) -> None:
        iou, pointing, grid = scores.numbers("iou@percentile:95"), scores.numbers("pointing"), scores.numbers("grid")
        number = {e: i for i, e in enumerate(scores.entries)}
        compared = 0
        for entry, i in number.items():
            side = grid[i][~np.isnan(grid[i])]
            above = number.get(Entry("ceiling", f"{side[0]:.0f} x {side[0]:.0f} map")) if len(side) else None
            if entry.kind == "method" and above is not None:
                both = ~np.isnan(iou[i]) & ~np.isnan(iou[above])
                compared += both.sum()
                assert (iou[i][both] <= iou[above][both] + 1e-6).all()
                assert (pointing[i][both] <= pointing[above][both] + 1e-6).all()
        assert compared > 0

    def test_the_chosen_map_is_the_row_that_was_chosen(self, value: dict[str, Any], scores: Scores) -> None:
        (model,) = value["models"]
        number = {e: i for i, e in enumerate(scores.entries)}
        for name, kind in (("map", "method"), ("rule", "baseline")):
            chosen = model["chosen"][name]
            assert chosen["kind"] == kind
            entry = Entry(chosen["kind"], chosen["name"], chosen["layer"])
            for column in ("pointing", "iou@learned"):
                grid = scores.numbers(column)
                np.testing.assert_array_equal(grid[number[Entry("chosen", name)]], grid[number[entry]])

    def test_the_best_of_those_on_all_slices_is_behind_nobody(self, value: dict[str, Any]) -> None:
        everywhere = [r for r in value["rows"] if r["kind"] == "method" and r["name"] != "occlusion"]
        gaps = [r["behind"]["auprc"]["value"] for r in everywhere]
        assert max(gaps) == 0
        assert min(gaps) < 0

    def test_the_finding_compares_with_every_rule(self, value: dict[str, Any]) -> None:
        against = {row["name"] for row in value["finding"]["against"]}
        assert {"random", "centre", "intensity", "prior", "rule"} <= against
        for column, beaten in value["finding"]["beats_all"].items():
            lows = [row["differences"][column]["low"] for row in value["finding"]["against"]]
            assert beaten == all(low is not None and low > 0 for low in lows)

    def test_errors_are_told_by_confidence_and_by_the_map(self, value: dict[str, Any]) -> None:
        told = {(e["of"], e["number"]) for e in value["errors"]}
        assert {("map", "confidence"), ("map", "entropy"), ("prediction", "concentration")} <= told

    def test_thresholds_are_named_as_they_are_found_again(self) -> None:
        assert [find_threshold(t.name) for t in THRESHOLDS] == list(THRESHOLDS)

    def test_the_folder_is_finished_and_holds_no_parts(self, board: Path) -> None:
        assert is_finished(board)
        assert not (board / "parts").exists()


class TestInterruption:
    def test_it_goes_on_where_it_stopped_to_the_same_result(self, trained: Path, board: Path, tmp_path: Path) -> None:
        out = tmp_path / "board"

        def stop(what: str, done: int, total: int) -> None:
            if what == "scoring maps":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_leaderboard(trained, out, settings=SMALL, device="cpu", progress=stop)
        assert list((out / "parts").glob("*.parquet"))
        with pytest.raises(InputError, match="unfinished leaderboard"):
            build_leaderboard(trained, out, settings=SMALL)
        with pytest.raises(InputError, match="other arguments"):
            build_leaderboard(trained, out, settings=make_settings(sample=2), resume=True)
        build_leaderboard(trained, out, settings=SMALL, device="cpu", resume=True)
        assert (out / "leaderboard.json").read_text() == (board / "leaderboard.json").read_text()

    def test_one_worker_or_two_come_to_the_same_scores(
        self, trained: Path, scores: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gyrus.leaderboard.run.workers_for", lambda device: 1)
        build_leaderboard(trained, tmp_path / "board", settings=SMALL, device="cpu")
        other = Scores(tmp_path / "board/slices.parquet")
        assert other.ids == scores.ids
        assert other.entries == scores.entries
        for column in COLUMNS:  # but for the last digits, as sums are dealt out among cores in another way
            np.testing.assert_allclose(other.numbers(column), scores.numbers(column), rtol=0, atol=0.01)

    def test_a_taken_folder_is_refused(self, trained: Path, board: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="finished leaderboard"):
            build_leaderboard(trained, board, settings=SMALL)
        (tmp_path / "mine").mkdir()
        with pytest.raises(InputError, match="no leaderboard"):
            build_leaderboard(trained, tmp_path / "mine", settings=SMALL)

    def test_a_method_that_does_not_exist_leaves_nothing_behind(self, trained: Path, tmp_path: Path) -> None:
        settings = Settings.model_construct(methods=("cam",), layers=("nowhere",), sample=1, learn=1, seed=0)
        with pytest.raises(InputError, match="nowhere"):
            build_leaderboard(trained, tmp_path / "board", settings=settings)
        assert not (tmp_path / "board").exists()


def test_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    base = {"kind": "method", "name": "cam", "layer": "body", "label": "glioma"}
    write_part(tmp_path / "a.parquet", [{**base, "id": "2", "pointing": 1.0}, {**base, "id": "1", "pointing": 0.5}])
    write_part(tmp_path / "b.parquet", [{**base, "id": "3", "layer": "other", "auprc": 0.25}])
    join_parts([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "all.parquet")
    scores = Scores(tmp_path / "all.parquet")
    assert scores.ids == ("1", "2", "3")
    assert scores.entries == (Entry("method", "cam", "body"), Entry("method", "cam", "other"))
    nan = np.nan
    np.testing.assert_array_equal(scores.numbers("pointing"), [[0.5, 1.0, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(scores.numbers("auprc"), [[nan, nan, nan], [nan, nan, 0.25]])
    assert scores.of_slices("label") == ["glioma"] * 3
