"""Each probe finds the shortcut planted for it, names the class it marks, and finds nothing where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError
from gyrus.preprocess import Preprocess
from gyrus.probes import (
    MARGIN,
    PROBES,
    ProbeResult,
    Views,
    compare_probes,
    corner_floor,
    probe_views,
    run_probes,
)
from gyrus.records import Record

CANONICAL = Preprocess.canonical(64)
MARKED = ("in the corner", "at the border", "wide", "compressed", "dim")
CLASSES = (*MARKED, "as it is")
GROUPS, COPIES = 12, 3
SHORTCUTS = list(zip(("corners", "border", "geometry", "file", "histogram"), MARKED, strict=True))
CHANCE = 1 / len(CLASSES)


def head(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a head with a texture of its own, 60 x 60, on faint noise."""
    y, x = np.ogrid[:60, :60]
    distance = np.hypot(
        (y - rng.uniform(28, 32)) / rng.uniform(20, 24), (x - rng.uniform(28, 32)) / rng.uniform(17, 22)
    )
    texture = np.kron(rng.uniform(80, 200, (10, 10)), np.ones((6, 6)))
    return np.where(distance <= 1, texture, 0.0)


def planted(label: str, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Plant what gives the class away, but for the compression."""
    if label == "in the corner":
        pixels[3:7, 54:57] = 120  # clear of the outermost two pixels
    if label == "at the border":
        pixels[0, 20:40] = 90
    if label == "dim":
        pixels = 200 * (pixels / 200) ** 3  # the brightest stays, which sets the scale of all
    if label == "wide":
        pixels = np.kron(pixels, np.ones((1, 2)))
    return pixels


def written(folder: Path, shortcuts: bool) -> tuple[list[Record], list[str]]:
    """Write 6 classes of 12 pictures in three noisy copies each; the copies of a picture are a group."""
    rng = np.random.default_rng(5)
    records, groups = [], []
    for g in range(GROUPS * len(CLASSES)):
        label = CLASSES[g % len(CLASSES)]
        base = head(rng)
        for k in range(COPIES):
            pixels = planted(label, base.copy()) if shortcuts else base
            noisy = np.clip(pixels + rng.uniform(0, 6, pixels.shape), 0, 255).astype(np.uint8)
            path = folder / f"{g}-{k}.jpg"
            quality = 94 if shortcuts and label == "compressed" else 95
            Pillow.fromarray(noisy).save(path, quality=quality)
            records.append(Record(path.name, path, label))
            groups.append(f"group {g}")
    return records, groups


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], list[str]]:
    return written(tmp_path_factory.mktemp("marked"), shortcuts=True)


@pytest.fixture(scope="module")
def found(marked: tuple[list[Record], list[str]]) -> tuple[dict[str, ProbeResult], dict[str, ProbeResult]]:
    """What the probes find in the marked slices, before and after the canonical form."""
    before, after = compare_probes(*marked, CANONICAL)
    return {r.name: r for r in before}, {r.name: r for r in after}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProbeResult]:
    return {r.name: r for r in run_probes(*written(tmp_path_factory.mktemp("honest"), shortcuts=False))}


@pytest.mark.parametrize(("probe", "label"), SHORTCUTS)
def test_a_shortcut_is_found_and_its_class_named(
    probe: str, label: str, found: tuple[dict[str, ProbeResult], dict[str, ProbeResult]]
) -> None:
    result = found[0][probe]
    assert result.beats_chance
    assert result.suspicious
    assert result.balanced.low > CHANCE + MARGIN
    figures = result.per_class[label]
    assert figures.recall.value > 0.9
    assert figures.balanced.value == max(f.balanced.value for f in result.per_class.values())
    assert PROBES[probe].subject in result.sentence
    assert ("may be anatomy" in result.sentence) == (probe == "histogram")
    assert (
        f"; {label} is told from the rest with an accuracy of {100 * figures.accuracy.value:.1f} %" in result.sentence
    )


@pytest.mark.parametrize(("probe", "label"), SHORTCUTS)
def test_the_pictures_that_drive_a_probe_are_of_its_class_and_of_many_groups(
    probe: str, label: str, found: tuple[dict[str, ProbeResult], dict[str, ProbeResult]],
    marked: tuple[list[Record], list[str]],
) -> None:  # fmt: skip
    records, groups = marked
    drivers = found[0][probe].drivers
    assert [records[i].label for i in drivers[:4]] == [label] * 4
    assert len({groups[i] for i in drivers}) == len(drivers)


def test_honest_slices_show_none_of_it(honest: dict[str, ProbeResult]) -> None:
    for name in ("corners", "border", "geometry", "file", "histogram", "silhouette"):
        result = honest[name]
        assert not result.beats_chance, name
        assert not result.suspicious
        assert result.chance == pytest.approx(CHANCE)
        assert result.balanced.low <= CHANCE, name  # or all of it below: training has seen more of the other classes
        assert "alone the class cannot be told" in result.sentence
        assert result.drivers == ()


def test_what_all_slices_share_tells_nothing(honest: dict[str, ProbeResult]) -> None:
    """The pictures are all of one size, so every fold guesses one class."""
    assert honest["geometry"].balanced.value == pytest.approx(CHANCE, abs=1e-9)
    assert not {"plane", "source"} & honest.keys()  # unknown, and one dataset


def test_copies_are_found_by_the_nearest_neighbour_and_kept_together(honest: dict[str, ProbeResult]) -> None:
    result = honest["thumbnail"]
    assert result.record_wise is not None
    assert result.gap is not None
    assert result.record_wise.value > 0.95
    assert result.balanced.low <= CHANCE
    assert result.gap.value == pytest.approx(result.record_wise.value - result.balanced.value)
    assert result.suspicious
    assert not result.beats_chance
    assert result.sentence.endswith("a record-wise split leaks.")


def test_the_canonical_form_takes_away_corners_border_and_size(
    found: tuple[dict[str, ProbeResult], dict[str, ProbeResult]],
) -> None:
    _, after = found
    assert list(after) == [name for name, probe in PROBES.items() if probe.of_picture]
    for name in ("corners", "border"):
        assert after[name].balanced.value == pytest.approx(CHANCE, abs=1e-9)
        assert not after[name].beats_chance
    for label in ("in the corner", "at the border"):
        assert found[0]["silhouette"].per_class[label].recall.value > 0.9
        assert after["silhouette"].per_class[label].recall.value < 0.5
    assert after["histogram"].per_class["dim"].recall.value > 0.8  # brightness inside the head is the head's own


def test_it_counts_what_it_saw(honest: dict[str, ProbeResult]) -> None:
    for result in honest.values():
        assert (result.n, result.groups) == (GROUPS * len(CLASSES) * COPIES, GROUPS * len(CLASSES))
        assert result.majority == pytest.approx(CHANCE)
        assert list(result.per_class) == sorted(CLASSES)
        assert result.what == PROBES[result.name].what


# Planes, datasets and what is left out


def table_only(labels: Sequence[str | None], **facts: Sequence[str | None]) -> Views:
    """Views of blank pictures, of which only the records differ."""
    n = len(labels)
    records = [
        Record(str(i), Path("none"), label, source=str(facts["source"][i]) if "source" in facts else "one")
        for i, label in enumerate(labels)
    ]
    return Views(
        np.zeros((n, 64, 64), dtype=np.uint8), np.zeros((n, 32), dtype=np.float32), np.ones((n, 2), dtype=np.float32),
        np.zeros((n, 8)), records, prepared=False,
    )  # fmt: skip


LABELS = ["glioma", "pituitary"] * 20
APART = [str(i) for i in range(40)]


def results_of(views: Views, planes: Sequence[str | None] | None = None) -> dict[str, ProbeResult]:
    return {r.name: r for r in probe_views(views, APART[: len(views.records)], planes=planes)}


def test_the_plane_tells_the_class_where_it_is_known() -> None:
    planes = ["axial" if label == "glioma" else "sagittal" for label in LABELS]
    result = results_of(table_only(LABELS), [*planes[:30], *[None] * 10])["plane"]
    assert result.beats_chance
    assert result.accuracy.value == 1
    assert (result.n, result.groups, result.chance) == (30, 30, 0.5)
    assert "the two are told apart with an accuracy of 100.0 %" in result.sentence
    assert set(result.drivers) <= set(range(30))
    records = [replace(r, plane=p) for r, p in zip(table_only(LABELS).records, planes, strict=True)]
    own = table_only(LABELS).select(range(40), records)
    assert results_of(own)["plane"].n == 40
    both = ["axial" if i % 4 < 2 else "coronal" for i in range(40)]
    assert not results_of(table_only(LABELS), both)["plane"].beats_chance


def test_planes_known_of_one_class_alone_are_no_probe() -> None:
    planes = ["axial" if i % 4 else "coronal" for i in range(40)]
    alone = [p if label == "glioma" else None for p, label in zip(planes, LABELS, strict=True)]
    assert "plane" not in results_of(table_only(LABELS), alone)
    assert "plane" not in results_of(table_only(LABELS), ["axial"] * 40)


def test_the_sequence_tells_the_class_where_it_is_given() -> None:
    sequences = ["T1-CE" if label == "glioma" else "T2" for label in LABELS]
    views = table_only(LABELS)
    (result,) = (
        r for r in probe_views(views, APART, sequences=[*sequences[:30], *[None] * 10]) if r.name == "sequence"
    )
    assert (result.accuracy.value, result.n) == (1, 30)
    assert "the MRI sequence of the slice" in result.sentence
    assert "sequence" not in results_of(views)
    with pytest.raises(InputError, match="one for each"):
        probe_views(views, APART, sequences=["T2"])


def test_the_dataset_tells_the_class() -> None:
    sources = ["cheng" if label == "glioma" else "sartaj" for label in LABELS]
    result = results_of(table_only(LABELS, source=sources))["source"]
    assert result.accuracy.value == 1
    assert "the dataset a slice comes from alone the class is told" in result.sentence
    mixed = ["cheng" if i % 4 < 2 else "sartaj" for i in range(40)]
    assert not results_of(table_only(LABELS, source=mixed))["source"].beats_chance


def test_blank_pictures_are_at_chance() -> None:
    results = results_of(table_only(LABELS))
    assert set(results) == set(PROBES) - {"plane", "sequence", "source"}
    for result in results.values():
        assert result.balanced.value == pytest.approx(0.5, abs=1e-9)
        assert not result.suspicious


def test_unlabelled_slices_and_lone_classes_are_left_out() -> None:
    labels = [*LABELS[:30], None, None, "meningioma"]
    planes = ["axial" if label == "glioma" else "coronal" for label in labels]
    result = results_of(table_only(labels), planes)["plane"]
    assert result.n == 30
    assert list(result.per_class) == ["glioma", "pituitary"]


def test_few_groups_mean_few_folds() -> None:
    labels = ["a", "a", "b", "b", "b", "b"]
    planes = ["axial", "axial", *["coronal"] * 4]
    views = table_only(labels)
    (result,) = (r for r in probe_views(views, list("uvwwxx"), planes=planes) if r.name == "plane")
    assert (result.n, result.groups) == (6, 4)


def test_too_little_to_probe_is_said() -> None:
    for labels, groups in ((["a"] * 4, "wxyz"), (["a", "a", "b", "b"], "xxyz"), ([None] * 4, "wxyz")):
        with pytest.raises(InputError, match="two classes of at least two groups"):
            probe_views(table_only(labels), list(groups))
    with pytest.raises(InputError, match="one for each"):
        probe_views(table_only(LABELS), APART[1:])
    with pytest.raises(InputError, match="one for each"):
        probe_views(table_only(LABELS), APART, planes=["axial"])
    with pytest.raises(InputError, match="no slice to probe"):
        run_probes([], [])


def test_the_same_seed_gives_the_same_result() -> None:
    noise = np.random.default_rng(0).random((40, 32)).astype(np.float32)
    views = replace(table_only(LABELS), histogram=noise)
    first, again, other = (probe_views(views, APART, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


# The floor


def test_the_corners_tell_the_test_part_what_they_told_in_training() -> None:
    rng = np.random.default_rng(0)
    slices = rng.integers(0, 60, (60, 96, 96)).astype(np.uint8)
    slices[:, 30:60, 30:60] = 255
    labels = np.arange(60) % 3
    slices[labels == 1, 2:10, 84:94] = 200
    slices[labels == 2, 85:95, 2:10] = 200
    assert (corner_floor(slices[:30], labels[:30], slices[30:]) == labels[30:]).all()
    moved = slices[30:].copy()
    moved[:, 12:84, 12:84] = rng.integers(0, 255, (30, 72, 72))  # nothing in the middle changes a guess
    moved[:, 40, 40] = 255
    assert (corner_floor(slices[:30], labels[:30], moved) == labels[30:]).all()
    assert corner_floor(slices, labels, slices[:0]).shape == (0,)
    black = np.zeros_like(slices)
    assert len(set(corner_floor(black[:30], labels[:30], black[30:]).tolist())) == 1
