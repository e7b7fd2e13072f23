"""The audit as a stage: what it leaves behind, what it says of planted faults, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from gyrus.artifacts import is_finished
from gyrus.audit import CHECKS, audit_data
from gyrus.errors import InputError
from gyrus.page.words import breakable

FAST = ("shortcuts", "disagreements", "planes", "sequences")


def write_slice(path: Path, seed: int) -> None:
    """Draw a head of its own: a bright ring around blurred noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((128, 128)).astype(np.float32), (0, 0), 3)
    noise = (noise - noise.min()) / np.ptp(noise)
    head = np.zeros((128, 128), dtype=np.uint8)
    cv2.ellipse(head, (64, 64), (44, 54), 0, 0, 360, 1, -1)
    picture = np.where(head > 0, 60 + 160 * noise, 0).astype(np.uint8)
    cv2.ellipse(picture, (64, 64), (44, 54), 0, 0, 360, 230, 3)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Sixteen Training slices and six Testing ones: two copied, one of them under another label, and one unreadable."""
    root = tmp_path / "planted"
    for i in range(16):
        write_slice(root / "Training" / ("yes" if i % 2 else "no") / f"{i}.png", i)
    for i in range(16, 20):
        write_slice(root / "Testing" / ("yes" if i % 2 else "no") / f"{i}.png", i)
    shutil.copy(root / "Training/yes/1.png", root / "Testing/yes/a copy.png")
    mirrored = cv2.imread(str(root / "Training/no/2.png"), cv2.IMREAD_GRAYSCALE)[:, ::-1]
    assert cv2.imwrite(str(root / "Testing/yes/mirror.jpg"), mirrored)
    (root / "Training/no/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


@pytest.fixture
def found(planted: Path, tmp_path: Path) -> dict[str, Any]:
    return audit_data([planted], tmp_path / "audit", skip=FAST)


def test_planted_faults_are_found_and_said(found: dict[str, Any]) -> None:
    (leak,) = found["copies"]["leaks"]
    assert (leak["n"], leak["repeated"], leak["file"], leak["near"]) == (6, 2, 1, 1)
    assert found["verdicts"][0] == (
        "2 of the 6 test slices of the official split of planted repeat a training slice: "
        "1 as the same file, 1 as a near-duplicate."
    )
    assert found["verdicts"][1] == "1 picture under contradicting labels."
    (contradiction,) = [f for f in found["findings"] if f["kind"] == "contradicting labels"]
    assert set(contradiction["slices"]) == {"planted/Training/no/2.png", "planted/Testing/yes/mirror.jpg"}
    (unreadable,) = [f for f in found["findings"] if f["kind"] == "unreadable"]
    assert unreadable["slices"] == ["planted/Training/no/broken.png"]


def test_the_folder_holds_a_page_a_table_and_the_whole(found: dict[str, Any]) -> None:
    out = Path(found["out"])
    assert is_finished(out)
    assert {p.name for p in out.iterdir()} == {"audit.html", "audit.json", "findings.csv", "run.json"}
    assert json.loads((out / "audit.json").read_text()) == {k: v for k, v in found.items() if k != "out"}
    with (out / "findings.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(found["findings"])
    told = {(f["kind"], f["sentence"], tuple(f["slices"])) for f in found["findings"]}
    assert {(r["kind"], r["sentence"], tuple(r["slices"].splitlines())) for r in rows} == told
    assert [float(r["score"]) for r in rows] == sorted((float(r["score"]) for r in rows), reverse=True)


def test_the_page_needs_nothing_else(found: dict[str, Any]) -> None:
    page = (Path(found["out"]) / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert page.count("data:image/png;base64,") >= 4
    assert found["verdicts"][0] in page
    assert "unreadable" in page
    assert "left out by --skip" in page


def test_a_line_of_the_page_may_end_within_an_id(found: dict[str, Any]) -> None:
    page = (Path(found["out"]) / "audit.html").read_text(encoding="utf-8")
    assert "planted/<wbr>Testing/<wbr>yes/<wbr>mirror.jpg" in page
    assert breakable("a/<b>_c") == "a/<wbr>&lt;b&gt;_c"


def test_a_copy_in_another_dataset_is_none_within(tmp_path: Path) -> None:
    """Two of five slices are copied into a second folder, one of them twice: there alone one repeats within."""
    for i in range(5):
        write_slice(tmp_path / "one" / ("yes" if i % 2 else "no") / f"{i}.png", i)
    for i, name in ((1, "a"), (1, "b"), (3, "c")):
        (tmp_path / "two/yes").mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / f"one/yes/{i}.png", tmp_path / f"two/yes/{name}.png")
    write_slice(tmp_path / "two/no/d.png", 9)
    audit_data([tmp_path / "one", tmp_path / "two"], tmp_path / "audit", skip=(*FAST, "quality"))
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    rows = re.findall(r'<tr><th scope="row">(one|two)</th><td class="words">(.+?)</td><td>(\d)</td><td>(\d)</td>', page)
    assert rows == [
        ("one", "one itself", "0", "5"),
        ("two", "two itself", "2", "4"),
        ("one", "two", "2", "5"),
        ("two", "one", "3", "4"),
    ]


def test_of_several_copies_the_page_shows_one_as_a_bad_picture(planted: Path, tmp_path: Path) -> None:
    """A bright frame on a slice and on its copy are two findings and one picture; one on another slice is a second."""
    for name, source in (("a", 3), ("b", 3), ("c", 5)):
        picture = cv2.imread(str(planted / f"Training/yes/{source}.png"), cv2.IMREAD_GRAYSCALE)
        assert cv2.imwrite(str(planted / f"Training/yes/{name}.png"), cv2.copyMakeBorder(
            picture, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=255))  # fmt: skip
    found = audit_data([planted], tmp_path / "framed", skip=FAST)
    framed = [f for f in found["findings"] if f["kind"] == "bright frame"]
    assert len(framed) == 3
    page = (tmp_path / "framed" / "audit.html").read_text(encoding="utf-8")
    section = page[page.index("<h3>Bright frame</h3>") :]
    section = section[: section.index("</section>")]
    assert section[: section.find("<h3>", 4)].count("<figure") == 2
    assert "Shown are 2 of 3" in section


def test_what_cannot_be_audited_is_refused(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no check 'luck' to skip: choose from " + ", ".join(CHECKS)):
        audit_data([planted], tmp_path / "out", skip=["luck"])
    with pytest.raises(InputError, match="no data named"):
        audit_data([], tmp_path / "out")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="already exists"):
        audit_data([planted], tmp_path / "taken", skip=FAST)
    assert not (tmp_path / "out").exists()


def test_shortcuts_planes_and_sequences_are_looked_at(tiny_phantom: Path, tmp_path: Path) -> None:
    """The phantom's pictures hold their class in no corner; planes are what its manifest says, and most are T1-CE."""
    found = audit_data([tiny_phantom], tmp_path / "audit", skip=("disagreements", "quality"))
    (shortcuts,) = found["shortcuts"]
    assert shortcuts["name"] == "phantom"
    corners = next(row for row in shortcuts["before"] if row["probe"] == "corners")
    assert not corners["suspicious"]
    assert {row["plane"] for row in found["planes"]["phantom"]} <= {"axial", "coronal", "sagittal", "unsure"}
    slices = found["datasets"][0]["slices"]
    assert sum(row["n"] for row in found["planes"]["phantom"]) == slices
    scanned = {s: sum(r["n"] for r in found["sequences"]["phantom"] if r["sequence"] == s) for s in ("T1-CE", "T2")}
    assert scanned["T1-CE"] >= 0.7 * slices
    assert scanned["T2"] == 0
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert page.index('<h2 id="planes">') < page.index('<h2 id="sequences">')
