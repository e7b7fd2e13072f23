"""Maps against outlines over a dataset: the right slice, the right place, floors and ceilings beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade_slices import write_png
from numpy.typing import NDArray

from gyrus.baselines import BASELINES
from gyrus.errors import InputError
from gyrus.evaluate.localization import QUARTILES, Localization, RowKey, class_priors, localize, size_quartiles
from gyrus.evaluate.ranking import METRICS, PERCENTILES
from gyrus.io.masks import OutlineMask
from gyrus.maps import MapKey, Maps
from gyrus.preprocess import Preprocess, frame_of
from gyrus.records import Record

SHAPE = (40, 60)
SPEC = Preprocess(size=60)  # padded to 60 x 60, so a cell of a 60 x 60 map is a pixel, ten rows further down
BOXES = {"a": (4, 6, 12, 15), "b": (20, 30, 25, 38), "c": (28, 44, 38, 56), "d": (2, 50, 5, 54)}
LABELS = {"a": "glioma", "b": "meningioma", "c": "glioma", "d": "meningioma"}
GRIDS = ((60, 60), (4, 5))


def record(root: Path, name: str, box: tuple[int, int, int, int] | None, label: str) -> Record:
    """A slice whose tumour, top, left, bottom, right, is bright."""
    pixels = np.random.default_rng(len(name)).integers(0, 60, SHAPE).astype(np.uint8)
    mask = None
    if box is not None:
        top, left, bottom, right = box
        pixels[top:bottom, left:right] = 220
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        mask = OutlineMask(tuple((x - 0.5, y - 0.5) for x, y in corners), name)
    return Record(f"{name}.png", write_png(root / f"{name}.png", pixels), label, f"patient-{name}", mask=mask)


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    some = [record(tmp_path, name, box, LABELS[name]) for name, box in BOXES.items()]
    return [*some[:2], record(tmp_path, "none", None, "no_tumor"), *some[2:]]


def planted(records: list[Record], spec: Preprocess = SPEC) -> Maps:
    """The masks themselves, their complements, noise, and maps that are blank or broken."""
    rng = np.random.default_rng(0)
    masks = []
    for r in records:
        image = r.read()
        mask = r.read_mask(image.shape)
        masks.append(frame_of(image, spec).cut(np.zeros(SHAPE, bool) if mask is None else mask, spec.size))
    inside = np.stack(masks)
    n = len(records)
    broken = inside.copy()
    broken[0, 30, 30] = np.nan
    arrays: dict[MapKey, NDArray[np.float32]] = {
        MapKey("outside", "body", "true"): 1 - inside,
        MapKey("inside", "body", "true"): inside,
        MapKey("inside", "body", "predicted"): inside,
        MapKey("noise", "body", "predicted"): rng.random((n, *GRIDS[1]), dtype=np.float32),
        MapKey("blank", "body", "predicted"): np.zeros((n, *GRIDS[1]), dtype=np.float32),
        MapKey("broken", "body", "predicted"): broken,
    }
    labels = tuple(str(r.label) for r in records)
    explained = {"predicted": ("glioma",) * n, "true": labels}
    return Maps(tuple(r.id for r in records), arrays, dict.fromkeys(arrays, ("ok",) * n), explained, spec)


@pytest.fixture
def scored(records: list[Record]) -> Localization:
    return localize(planted(records), records, records)


def means(scored: Localization, name: str, target: str = "predicted") -> dict[str, float]:
    row = next(r for r in scored.table() if (r["name"], r["target"]) == (name, target))
    return {m: v.value for m, v in row["metrics"]["all"].items()}


def test_a_planted_map_scores_one_and_its_complement_nothing(scored: Localization) -> None:
    for target in ("predicted", "true"):
        inside = means(scored, "inside", target)
        assert {m: inside[m] for m in METRICS if "p95" not in m} == pytest.approx(
            {m: 1.0 for m in METRICS if "p95" not in m}
        )
    outside = means(scored, "outside", "true")
    assert {m: outside[m] for m in METRICS if m != "auprc"} == pytest.approx({m: 0.0 for m in METRICS if m != "auprc"})
    assert outside["auprc"] == pytest.approx(scored.areas.mean())  # tumour last of all: a tie over the whole image


def test_the_rows_and_their_order(scored: Localization) -> None:
    keys = list(scored.scores)
    assert [k.kind for k in keys] == sorted((k.kind for k in keys), key=["method", "baseline", "ceiling"].index)
    methods = [(k.name, k.target) for k in keys if k.kind == "method"]
    assert methods[-2:] == [("outside", "true"), ("inside", "true")]
    assert {t for _, t in methods[:-2]} == {"predicted"}
    baselines = {(k.name, k.target) for k in keys if k.kind == "baseline"}
    expected = {(b.name, t) for b in BASELINES.values() for t in (("predicted", "true") if b.per_class else ("",))}
    assert baselines == expected
    assert {k.grid for k in keys if k.kind == "baseline"} == {(60, 60)}
    ceilings = [k for k in keys if k.kind == "ceiling"]
    assert ceilings == [
        RowKey("ceiling", "area kept", "", "", (0, 0)),
        RowKey("ceiling", "4 x 5 map", "", "", (4, 5)),
        RowKey("ceiling", "60 x 60 map", "", "", (60, 60)),
    ]
    assert all(len(scores) == 4 for scores in scored.scores.values())


def test_slices_without_an_outline_are_passed_over(scored: Localization) -> None:
    assert [r.id for r in scored.records] == ["a.png", "b.png", "c.png", "d.png"]
    areas = [(bottom - top) * (right - left) / (40 * 60) for top, left, bottom, right in BOXES.values()]
    assert scored.areas == pytest.approx(areas)


def test_what_is_undefined_is_counted(scored: Localization) -> None:
    rows = {(r["name"], r["target"]): r for r in scored.table()}
    broken = rows["broken", "predicted"]
    assert broken["undefined"] == {"non-finite map": 1}
    assert broken["metrics"]["all"]["pointing"].n == 3
    assert broken["metrics"]["all"]["pointing"].value == 1.0
    assert np.isfinite(broken["curve"]).all()
    blank = rows["blank", "predicted"]
    assert blank["undefined"] == {}
    assert blank["metrics"]["all"]["pointing"].value == pytest.approx(scored.areas.mean())


def test_each_row_is_given_by_class_and_by_size(scored: Localization) -> None:
    for row in scored.table():
        assert list(row["metrics"]) == ["all", "class:glioma", "class:meningioma", *(f"size:{q}" for q in QUARTILES)]
        assert all(list(v) == list(METRICS) for v in row["metrics"].values())
        assert len(row["curve"]) == len(PERCENTILES)
    noise = next(s for k, s in scored.scores.items() if k.name == "noise")
    row = next(r for r in scored.table() if r["name"] == "noise")
    auprc = [s.values["auprc"] for s in noise]
    assert row["metrics"]["class:glioma"]["auprc"].value == pytest.approx((auprc[0] + auprc[2]) / 2)
    assert row["metrics"]["size:smallest"]["auprc"].value == pytest.approx(auprc[3])
    assert row["metrics"]["size:largest"]["auprc"].value == pytest.approx(auprc[2])
    assert row["metrics"]["all"]["auprc"].groups == 4
    assert row["curve"] == pytest.approx(np.mean([s.curve for s in noise], axis=0))


@pytest.mark.parametrize("spec", [SPEC, SPEC.model_copy(update={"crop": "head"}), Preprocess(size=32, fit="stretch")])
def test_no_map_passes_the_ceiling_of_its_grid(records: list[Record], spec: Preprocess) -> None:
    n, rng = len(records), np.random.default_rng(0)
    arrays = {MapKey(f"noise {i}", "body", "predicted"): rng.random((n, 4, 5), dtype=np.float32) for i in range(40)}
    explained = {"predicted": ("glioma",) * n}
    maps = Maps(tuple(r.id for r in records), arrays, dict.fromkeys(arrays, ("ok",) * n), explained, spec)
    scored = localize(maps, records, records)
    grid = next(s for k, s in scored.scores.items() if k.grid == (4, 5) and k.kind == "ceiling")
    for key, scores in scored.scores.items():
        if key.kind == "method":
            for score, best in zip(scores, grid, strict=True):
                assert all(score.values[m] <= best.values[m] + 1e-9 for m in best.values)
                assert score.curve.max() <= best.values["iou_p95"] + 1e-9


def test_the_rows_of_the_csv(scored: Localization) -> None:
    rows = list(scored.per_slice())
    assert len(rows) == 4 * len(scored.scores)
    assert list(rows[0]) == [
        *("id", "patient", "label", "tumour_share", "kind", "name", "layer", "target"),
        *METRICS,
        "undefined",
    ]
    first = next(r for r in rows if r["name"] == "broken")
    assert (first["id"], first["patient"], first["label"]) == ("a.png", "patient-a", "glioma")
    assert first["undefined"] == "non-finite map"
    assert np.isnan(first["pointing"])
    ceiling = next(r for r in rows if r["name"] == "area kept")
    assert ceiling["iou_p95"] > 0
    assert np.isnan(ceiling["pointing"])


def test_empty_and_full_outlines_are_undefined_everywhere(records: list[Record]) -> None:
    full = OutlineMask("-0.5,-0.5 59.5,-0.5 59.5,39.5 -0.5,39.5", "full")
    empty = OutlineMask("3.2,3.2 3.4,3.2 3.4,3.4", "empty")  # between pixel centres
    odd = [replace(records[0], mask=full), replace(records[1], mask=empty), *records[2:]]
    scored = localize(planted(odd), odd, [])
    for row in scored.table():
        assert row["undefined"]["full mask"] == 1
        assert row["undefined"]["empty mask"] == 1
    ceiling = next(s for k, s in scored.scores.items() if k.name == "60 x 60 map" and k.kind == "ceiling")
    assert [s.reason for s in ceiling] == ["full mask", "empty mask", "", ""]
    assert ceiling[2].values["pointing"] == 1.0
    none = [replace(r, mask=empty) for r in odd]
    assert all(r["metrics"]["all"]["auprc"].n == 0 for r in localize(planted(none), none, []).table())


def test_the_prior_is_of_the_training_masks_alone(records: list[Record]) -> None:
    priors = class_priors([r for r in records if r.mask is not None], SPEC)
    assert list(priors) == ["glioma", "meningioma"]
    expected = np.zeros((60, 60), dtype=np.float32)
    for name in ("a", "c"):
        top, left, bottom, right = BOXES[name]
        expected[top + 10 : bottom + 10, left:right] += 0.5
    assert priors["glioma"] == pytest.approx(expected, abs=1e-6)
    assert class_priors([], SPEC) == {}
    without = localize(planted(records), records, [records[2]])  # no training slice has an outline
    assert {k.name for k in without.scores if k.kind == "baseline"} == {"random", "centre", "edges", "intensity"}
    assert without.contest() is not None
    given = localize(planted(records), records, records)
    assert means(given, "prior", "true")["energy_inside"] > means(given, "prior", "predicted")["energy_inside"]
    assert means(given, "intensity", "")["pointing"] == 1.0  # the hand-made tumours are the brightest spots


def test_progress_is_told(records: list[Record]) -> None:
    calls: list[tuple[str, int, int]] = []
    localize(planted(records), records, [], progress=lambda *a: calls.append(a))
    assert calls == [("scoring maps", i, 4) for i in range(1, 5)]


def test_maps_of_other_records_or_no_outline_are_refused(records: list[Record]) -> None:
    maps = planted(records)
    with pytest.raises(InputError, match="the maps were made for other records"):
        localize(maps, records[::-1], [])
    bare = [replace(r, mask=None) for r in records]
    with pytest.raises(InputError, match="no slice has a tumour outline"):
        localize(maps, bare, [])


def test_sizes_are_quartiles_by_rank() -> None:
    assert size_quartiles(np.array([0.4, 0.1, 0.3, 0.2, 0.8, 0.5, 0.6, 0.7])).tolist() == [1, 0, 1, 0, 3, 2, 2, 3]
    assert size_quartiles(np.full(5, 0.1)).tolist() == [0] * 5
    assert size_quartiles(np.empty(0)).shape == (0,)
    assert size_quartiles(np.array([0, 0.4, 0, 0.1, 0.3, 0.2])).tolist() == [-1, 3, -1, 0, 2, 1]


def test_a_map_that_is_defined_on_few_slices_takes_no_part_in_the_contest(records: list[Record]) -> None:
    maps = planted(records)
    arrays = {k: v.copy() for k, v in maps.arrays.items() if k.method in ("inside", "noise")}
    rare = MapKey("rare", "body", "predicted")
    arrays[rare] = arrays[MapKey("inside", "body", "predicted")].copy()
    arrays[rare][:-1, 30, 30] = np.nan
    arrays[MapKey("inside", "body", "predicted")][0] *= -1  # misses one
    status = dict.fromkeys(arrays, ("ok",) * len(records))
    found = localize(replace(maps, arrays=arrays, status=status), records, records).contest()
    assert found is not None
    assert found["map"].name == "inside"
