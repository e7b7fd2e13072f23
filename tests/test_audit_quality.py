"""Pictures that are not plain slices: each kind planted on a phantom's head, and none found on the phantom itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from handmade_slices import write_png
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from gyrus.appearance import measure
from gyrus.appearance.faults import FAULTS, find_faults
from gyrus.audit.quality import ODD_FORMAT, UNREADABLE, WORRY, check_quality
from gyrus.datasets import open_dataset
from gyrus.findings import Finding
from gyrus.records import Record

Picture = NDArray[np.uint8]
Look = Callable[[Picture], list[Finding]]


@pytest.fixture(scope="module")
def head(tiny_phantom: Path) -> Picture:
    """An axial phantom slice, 96 px, black around the head."""
    record = next(r for r in open_dataset(tiny_phantom) if r.plane == "axial")
    return record.read().pixels.astype(np.uint8)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """What the checks find on one picture."""

    def findings(pixels: Picture) -> list[Finding]:
        return check_quality([Record("a.png", write_png(tmp_path / "a.png", pixels))])

    return findings


def kinds(findings: list[Finding]) -> list[str]:
    return [f.kind for f in findings]


def bordered(pixels: Picture, top: int, bottom: int, left: int, right: int, grey: int) -> Picture:
    return np.pad(pixels, ((top, bottom), (left, right)), constant_values=grey)


def on_grid(cells: list[Picture], columns: int, gap: int, grey: int) -> Picture:
    """Lay pictures of one size out in rows, ``gap`` pixels of ``grey`` between them."""
    cells = [bordered(c, 0, gap, 0, gap, grey) for c in cells]
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    grid = np.vstack(rows)
    return grid[: len(grid) - gap, : grid.shape[1] - gap]


def test_honest_slices_are_not_found_fault_with(tiny_phantom: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    records = open_dataset(tiny_phantom).records
    assert check_quality(records, progress=lambda *a: calls.append(a)) == []
    assert calls[-1] == ("looking at pictures", len(records), len(records))


def test_nothing_to_look_at() -> None:
    assert check_quality([]) == []


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    (found,) = check_quality([Record("x/a.png", tmp_path / "a.png")])
    assert (found.kind, found.score, found.slices) == ("unreadable", 1.0, ("x/a.png",))
    assert found.sentence.startswith(f"{tmp_path / 'a.png'} is a text file")


@pytest.mark.parametrize("grey", [0, 7, 255])
def test_one_grey_is_blank_and_nothing_else(look: Look, grey: int) -> None:
    (found,) = look(np.full((90, 100), grey, dtype=np.uint8))
    assert found.kind == "blank"
    assert found.facts["span"] == 0
    assert "span 0.0% of full scale" in found.sentence


def test_so_are_a_few_greys_and_noise(look: Look, head: Picture) -> None:
    assert kinds(look(head // 50)) == ["blank"]  # 0 to 5
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    (found,) = look(noise)
    assert found.kind == "blank"
    assert found.facts["structure"] == pytest.approx(1 / (4 * np.pi * 16), rel=0.3)  # of a Gaussian, sigma 4


def test_wide_numbers_are_measured_by_their_own_largest(tmp_path: Path, head: Picture) -> None:
    """A 12-bit scan in a 16-bit file fills little of its scale and is no blank."""
    path = tmp_path / "a.png"
    Image.fromarray(head.astype(np.uint16) * 4).save(path)
    assert check_quality([Record("a.png", path)]) == []


def test_a_thumbnail_is_tiny(look: Look, head: Picture) -> None:
    (found,) = look(cv2.resize(head, (40, 48), interpolation=cv2.INTER_AREA))
    assert (found.kind, found.facts["side"]) == ("tiny", 40)
    assert "40 x 48 pixels" in found.sentence
    assert look(cv2.resize(head, (64, 64), interpolation=cv2.INTER_AREA)) == []


@pytest.mark.parametrize("frame", [0, 3])
def test_a_negative_is_inverted_with_or_without_a_frame(look: Look, head: Picture, frame: int) -> None:
    assert kinds(look(bordered(255 - head, frame, frame, frame, frame, 255))) == ["inverted"]


def test_a_white_frame_is_no_negative(look: Look, head: Picture) -> None:
    (found,) = look(bordered(head, 1, 2, 3, 4, 255))
    assert (found.kind, found.facts["frame"]) == ("bright frame", [1, 2, 3, 4])
    assert "1, 2, 3 and 4 pixels at top, bottom, left and right" in found.sentence
    assert kinds(look(bordered(head, 0, 0, 0, 1, 200))) == ["bright frame"]
    assert look(bordered(head, 2, 2, 2, 2, 40)) == []


def test_colour_is_found_on_grey_and_grey_stored_as_colour_is_not(tmp_path: Path, head: Picture) -> None:
    rgb = np.repeat(head[..., None], 3, axis=2)
    marked = rgb.copy()
    marked[10:14, 20:24] = (255, 0, 0)
    records = []
    for name, pixels in (("grey.png", rgb), ("marked.png", marked)):
        Image.fromarray(pixels).save(tmp_path / name)
        records.append(Record(name, tmp_path / name))
    (found,) = check_quality(records)
    assert (found.kind, found.slices) == ("coloured", ("marked.png",))
    assert found.facts["share"] == pytest.approx(16 / 96**2)
    assert "0.2% of its pixels" in found.sentence


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_a_colour_photograph_is_one_and_tinted_film_is_not(name: str, tmp_path: Path, head: Picture) -> None:
    """Film photographed in a lit room is of one tint or several, all of them faint."""
    film = np.clip(head[..., None] * np.array([1.0, 1.1, 0.95]) + np.array([8, 0, 20]), 0, 255).astype(np.uint8)
    records = []
    for file, pixels in (("photograph.png", load_sample_image(name)), ("film.png", film)):
        Image.fromarray(pixels).save(tmp_path / file)
        records.append(Record(file, tmp_path / file))
    photograph, tinted = ({f.kind: f for f in find_faults(measure(r.read()))}["coloured"] for r in records)
    assert (photograph.degree, "colour picture" in photograph.sentence) == (1, True)
    assert 0 < tinted.degree < 1
    assert tinted.facts["share"] > 0.5
    assert "film" in tinted.sentence


@pytest.mark.parametrize(
    ("columns", "count", "gap", "grey"), [(2, 2, 0, 0), (1, 3, 4, 0), (2, 4, 4, 255), (3, 6, 4, 128), (4, 12, 0, 0)]
)
def test_several_heads_are_a_montage(look: Look, head: Picture, columns: int, count: int, gap: int, grey: int) -> None:
    found = next(f for f in look(on_grid([head] * count, columns, gap, grey)) if f.kind == "montage")
    assert found.facts["panels"] == [columns, count // columns]
    assert f"{columns} across and {count // columns} down" in found.sentence


def test_a_head_with_letters_beside_it_is_no_montage(look: Look, head: Picture) -> None:
    wide = bordered(head, 0, 0, 0, 48, 0)
    cv2.putText(wide, "R", (112, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    assert "montage" not in kinds(look(wide))


def test_two_parts_of_a_head_without_skull_are_no_montage_and_two_heads_are(look: Look) -> None:
    """In front the temporal lobes, behind the cerebellum, black between, as in low slices of BraTS."""
    lobes = np.zeros((240, 240), dtype=np.uint8)
    for centre, axes in (((95, 102), (25, 15)), ((145, 102), (25, 15)), ((120, 156), (50, 33))):
        cv2.ellipse(lobes, centre, axes, 0, 0, 360, 150, -1)
    assert not lobes[118:122].any()
    assert "montage" not in kinds(look(lobes))
    assert "montage" in kinds(look(np.ascontiguousarray(lobes[80:195])))


def test_a_strip_is_elongated(look: Look, head: Picture) -> None:
    found = look(cv2.resize(head, (288, 96)))
    assert kinds(found) == ["elongated"]
    assert found[0].facts["ratio"] == 3
    assert look(cv2.resize(head, (180, 96))) == []


@pytest.mark.parametrize("grey", [0, 255])
def test_bars_at_the_sides_are_a_letterbox(look: Look, head: Picture, grey: int) -> None:
    found = next(f for f in look(bordered(head, 0, 0, 36, 36, grey)) if f.kind == "letterboxed")
    assert found.facts["bars"] >= 72 / 168
    assert "letterboxed" not in kinds(look(bordered(head, 36, 36, 36, 36, grey)))  # a small head, but no bars


def test_a_burnt_out_area_is_clipped(look: Look, head: Picture) -> None:
    burnt = head.copy()
    cv2.circle(burnt, (48, 48), 12, 255, cv2.FILLED)
    (found,) = look(burnt)
    assert found.kind == "clipped"
    assert found.facts["white"] == pytest.approx(np.pi * 12**2 / 96**2, rel=0.1)
    spot = head.copy()
    cv2.circle(spot, (48, 48), 4, 255, cv2.FILLED)
    assert look(spot) == []


def test_a_white_line_around_the_head_may_be_bone(look: Look, head: Picture) -> None:
    ringed = head.copy()
    rows, columns = np.flatnonzero((head > 40).any(axis=1)), np.flatnonzero((head > 40).any(axis=0))
    box = (float(columns.mean()), float(rows.mean())), (float(np.ptp(columns)), float(np.ptp(rows))), 0.0
    cv2.ellipse(ringed, box, 255, thickness=3)
    (found,) = look(ringed)
    assert found.kind == "white ring"
    assert found.facts["enclosed"] > 0.9
    assert "bone on CT" in found.sentence


def test_a_format_of_few_is_named_once_with_its_labels(tmp_path: Path, head: Picture) -> None:
    records = []
    for i in range(40):
        path = tmp_path / f"{i}{'.jpg' if i < 2 else '.png'}"
        Image.fromarray(head).save(path)
        records.append(Record(path.name, path, "glioma" if i % 2 else "meningioma", source="mine"))
    (found,) = check_quality(records)
    assert (found.kind, found.slices) == ("rare format", ("0.jpg", "1.jpg"))
    assert found.sentence == (
        "Files of JPEG, 1 x 8 bits: 2 of the 40 of mine, where most are of PNG, 1 x 8 bits "
        "(1 glioma, 1 meningioma): another source, perhaps."
    )
    assert check_quality(records[:19]) == []  # too few to have a habit
    assert check_quality([*records[:1], *records[2:20]]) == []


def test_worst_first(tmp_path: Path, head: Picture) -> None:
    pictures = {"a": bordered(head, 2, 2, 2, 2, 255), "b": head * 0, "c": 255 - head, "d": on_grid([head] * 4, 2, 0, 0)}
    records = [Record(name, write_png(tmp_path / f"{name}.png", p)) for name, p in pictures.items()]
    found = check_quality(records)
    assert [(f.kind, f.slices) for f in found] == [
        ("blank", ("b",)),
        ("montage", ("d",)),
        ("inverted", ("c",)),
        ("bright frame", ("a",)),
    ]
    assert all(0.8 * WORRY[f.kind] <= f.score <= WORRY[f.kind] for f in found)


def test_every_kind_has_a_worry() -> None:
    assert set(WORRY) == {*FAULTS, UNREADABLE, ODD_FORMAT}


def test_measures_are_those_of_the_picture(tmp_path: Path) -> None:
    """A disc of radius 40 in a square of 100, grey 100 on 0."""
    disc = np.zeros((100, 100), dtype=np.uint8)
    cv2.circle(disc, (50, 50), 40, 100, cv2.FILLED)
    seen = measure(Record("a", write_png(tmp_path / "a.png", disc)).read())
    share = (disc > 0).mean()
    assert (seen.shape, seen.format, seen.bits, seen.channels) == ((100, 100), "PNG", 8, 1)
    assert seen.span == pytest.approx(100 / 255)
    assert seen.dark == pytest.approx(1 - share)
    assert seen.white == pytest.approx(share)
    assert seen.bars == pytest.approx(0.19)  # columns 0 to 9 and 91 to 99
    assert (seen.corner, seen.frame, seen.panels, seen.coloured) == (0, (0, 0, 0, 0), (1, 1), 0)
    assert seen.ring == pytest.approx(1, abs=0.1)
