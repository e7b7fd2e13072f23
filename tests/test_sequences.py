"""The sequence recogniser: right on phantoms of every contrast, unsure of what is none, the same every time."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.artifacts import sha256
from gyrus.datasets import cheng, open_dataset
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.phantom.anatomy import build_atlas
from gyrus.records import Record
from gyrus.sequences import recognise_sequences, recogniser
from gyrus.sequences.recogniser import ABOUT, HERE, WEIGHTS, sequence_probabilities
from gyrus.words import SEQUENCES

ROOT = Path(__file__).parents[1]
CHECKED = ROOT / "benchmarks" / "sequences.csv"


def image(pixels: NDArray[np.generic]) -> Image:
    return Image(np.ascontiguousarray(pixels, np.float32))


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "recipes")
        yield importlib.import_module("sequence_slices")


@pytest.fixture(scope="module")
def scanned(recipe: ModuleType) -> tuple[list[Image], list[str | None]]:
    """Slices of eight patients that no training saw: its seed is 0."""
    atlas = build_atlas()
    drawn = [s for n in range(8) for s in recipe.sequence_slices(atlas, n, 77)]
    return [image(s.pixels) for s in drawn], [(*SEQUENCES, None)[s.sequence] for s in drawn]


def test_sequences_of_the_phantom(scanned: tuple[list[Image], list[str | None]]) -> None:
    images, truth = scanned
    guesses = recognise_sequences(images)
    assert len(images) > 80
    for sequence in SEQUENCES:
        right = [g.sequence == sequence for g, t in zip(guesses, truth, strict=True) if t == sequence]
        assert len(right) >= 10
        assert np.mean(right) >= (0.5 if sequence == "T1-CE" else 0.7), (
            sequence
        )  # what takes up medium is not everywhere
    assert not any(g.sequence == "T1-CE" for g, t in zip(guesses, truth, strict=True) if t in ("T2", "FLAIR"))


def test_the_phantom_is_after_contrast_medium(tiny_phantom: Path) -> None:
    guesses = recognise_sequences(list(open_dataset(tiny_phantom)))
    assert np.mean([g.probabilities["T1-CE"] >= 0.5 for g in guesses]) >= 0.7
    assert not any(g.sequence == "T2" for g in guesses)


def test_images_and_records_are_told_alike(tiny_phantom: Path) -> None:
    records = list(open_dataset(tiny_phantom))
    guesses = recognise_sequences(records)
    assert recognise_sequences(records) == guesses
    singly = [recognise_sequences([r.read()])[0] for r in records[:6]]
    assert [g.confidence for g in singly] == pytest.approx([g.confidence for g in guesses[:6]], abs=1e-5)


def test_a_mirrored_slice_and_another_unit_are_told_the_same(scanned: tuple[list[Image], list[str | None]]) -> None:
    images = scanned[0][:20]
    plain, mirrored, raised = (
        [g.confidence for g in recognise_sequences(of)]
        for of in (images, [image(i.pixels[:, ::-1]) for i in images], [image(i.pixels * 9 + 1000) for i in images])
    )
    assert plain == pytest.approx(mirrored, abs=0.2)  # the crop may shift by a pixel
    assert plain == pytest.approx(raised, abs=0.05)


def test_large_pictures_are_shrunk_first(scanned: tuple[list[Image], list[str | None]]) -> None:
    images = scanned[0][:20]
    larger = [image(np.kron(i.pixels, np.ones((4, 4)))) for i in images]
    near = np.abs(
        np.array([g.confidence for g in recognise_sequences(images)])
        - [g.confidence for g in recognise_sequences(larger)]
    )
    assert np.median(near) < 0.1


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (300, 200), (1, 1), (1, 3000)])
@pytest.mark.parametrize("value", [0, 128])
def test_pictures_of_nothing_get_probabilities(shape: tuple[int, int], value: int) -> None:
    (guess,) = recognise_sequences([image(np.full(shape, value))])
    assert tuple(guess.probabilities) == SEQUENCES
    assert 0 <= sum(guess.probabilities.values()) <= 1 + 1e-6


def test_what_is_said_is_consistent(scanned: tuple[list[Image], list[str | None]]) -> None:
    for guess in recognise_sequences(scanned[0][:30]):
        assert guess.confidence == max(guess.probabilities.values())
        if guess.sequence is not None:
            assert guess.probabilities[guess.sequence] == guess.confidence >= 0.5
        else:
            assert guess.confidence < 0.5


def test_none_and_progress(tiny_phantom: Path) -> None:
    assert recognise_sequences([]) == []
    assert sequence_probabilities(np.empty((0, 112, 112), np.uint8)).shape == (0, 4)
    calls: list[tuple[str, int, int]] = []
    recognise_sequences(list(open_dataset(tiny_phantom))[:5], progress=lambda *c: calls.append(c))
    assert calls == [("sequences", 5, 5)]


def test_an_unreadable_record_is_said(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"cut\.png"):
        recognise_sequences([Record("cut", tmp_path / "cut.png")])


def test_a_damaged_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ABOUT, WEIGHTS):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    (tmp_path / WEIGHTS).write_bytes((HERE / WEIGHTS).read_bytes() + b"\0")
    monkeypatch.setattr(recogniser, "HERE", tmp_path)
    with pytest.raises(InputError, match="install gyrus again"):
        recogniser._shipped.__wrapped__()


def test_the_network_is_small_and_is_the_one_described() -> None:
    about = json.loads((HERE / ABOUT).read_text(encoding="utf-8"))
    assert (HERE / WEIGHTS).stat().st_size < 500_000
    assert sha256(HERE / WEIGHTS) == about["sha256"]
    assert about["unseen_cheng"]["called T1-CE"] >= 0.97


def test_the_card_names_the_terms_and_repeats_no_figure() -> None:
    """Figures stand in one place, where a new network's replace them."""
    card = (HERE / "card.md").read_text(encoding="utf-8")
    assert cheng.INFO.licence in card
    for section in ("Intended use", "Out of scope", "Trained on", "Known failures"):
        assert f"\n## {section}\n" in card
    assert not re.search(r"\b0\.\d|\d ?%", card)
    where = re.search(r'See "(.+)" in `([^`]+)`', card)
    assert where is not None
    assert f"\n## {where[1]}\n" in (HERE.parents[2] / where[2]).read_text(encoding="utf-8")


def test_neither_importing_nor_asking_imports_torch() -> None:
    code = "import sys, numpy as np; from gyrus.io import Image; from gyrus import recognise_sequences; "
    code += "recognise_sequences([Image(np.zeros((64, 64), np.float32))]); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_slices_checked_by_eye() -> None:
    """Navoneel's, of which none was learned from: its T2 and FLAIR are not taken for T1 after contrast medium."""
    folder = os.environ.get("GYRUS_DATA")
    if folder is None:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    with CHECKED.open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["dataset"] == "navoneel" and r["sequence"] in SEQUENCES]
    guesses = recognise_sequences([Record(r["file"], Path(folder) / "navoneel" / r["file"]) for r in rows])
    assert len(rows) >= 140
    others = [g.probabilities["T1-CE"] < 0.5 for g, r in zip(guesses, rows, strict=True) if r["sequence"] != "T1-CE"]
    contrast = [g.probabilities["T1-CE"] >= 0.5 for g, r in zip(guesses, rows, strict=True) if r["sequence"] == "T1-CE"]
    assert np.mean(others) >= 0.95
    assert np.mean(contrast) >= 0.85
