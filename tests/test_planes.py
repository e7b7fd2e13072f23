"""The plane recogniser: right on the phantom, unsure of what is no slice, the same every time, small, not pickled."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gyrus.artifacts import sha256
from gyrus.datasets import progression
from gyrus.io import Image
from gyrus.phantom import make_phantom
from gyrus.planes import recognise_planes
from gyrus.planes.recogniser import ABOUT, HERE, WEIGHTS
from gyrus.records import PLANES, Record

CHECKED = Path(__file__).parents[1] / "benchmarks" / "planes.csv"


def image(pixels: NDArray[np.generic]) -> Image:
    return Image(np.ascontiguousarray(pixels, np.float32))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """One slice per plane of twelve patients that no training saw: its seeds are lists, this one a number."""
    root = make_phantom(tmp_path_factory.mktemp("planes") / "set", patients=12, seed=77, slices_per_plane=1, size=160)
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return [Record(r["file"], root / r["file"], plane=r["plane"]) for r in csv.DictReader(stream)]


def test_planes_of_the_phantom(phantom: list[Record]) -> None:
    guesses = recognise_planes(phantom)
    right = [g.plane == r.plane for g, r in zip(guesses, phantom, strict=True)]
    assert np.mean(right) >= 0.94  # 34 of 36
    for plane in PLANES:
        assert sum(hit for hit, r in zip(right, phantom, strict=True) if r.plane == plane) >= 10


def test_images_and_records_are_told_alike(phantom: list[Record]) -> None:
    """And the same again, however they are grouped into batches."""
    guesses = recognise_planes(phantom)
    assert recognise_planes(phantom) == guesses
    singly = [recognise_planes([r.read()])[0] for r in phantom[:6]]
    assert [g.plane for g in singly] == [g.plane for g in guesses[:6]]
    assert [g.confidence for g in singly] == pytest.approx([g.confidence for g in guesses[:6]], abs=1e-5)


def test_a_mirrored_slice_is_told_the_same(phantom: list[Record]) -> None:
    images = [r.read() for r in phantom]
    mirrored = recognise_planes([image(i.pixels[:, ::-1]) for i in images])
    same = [a.plane == b.plane for a, b in zip(recognise_planes(images), mirrored, strict=True)]
    assert sum(same) >= len(same) - 1  # the crop may shift by a pixel


def test_scale_and_unit_do_not_matter(phantom: list[Record]) -> None:
    read = phantom[0].read()
    (plain,), (raised,) = (recognise_planes([i]) for i in (read, image(read.pixels * 200 + 1000)))
    assert raised.plane == plain.plane
    assert raised.confidence == pytest.approx(plain.confidence, abs=0.02)


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (300, 200), (1, 1)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_is_unsure(shape: tuple[int, int], value: int) -> None:
    assert recognise_planes([image(np.full(shape, value))])[0].plane is None


def test_noise_is_unsure() -> None:
    """Noise as a scanner has it, in air; noise as bright as a head is the hardest picture of nothing there is."""
    rng = np.random.default_rng(0)
    rician = [np.abs(rng.normal(0, 12, (256, 256))) for _ in range(20)]
    assert [g.plane for g in recognise_planes([image(p) for p in rician])] == [None] * 20
    uniform = recognise_planes([image(rng.uniform(0, 255, (128, 160))) for _ in range(20)])
    assert max(g.confidence for g in uniform) < 0.75
    assert sum(g.plane is None for g in uniform) > 10


def test_probabilities_are_of_the_planes(phantom: list[Record]) -> None:
    for guess in recognise_planes(phantom[:3]):
        assert tuple(guess.probabilities) == PLANES
        assert 0 <= sum(guess.probabilities.values()) <= 1 + 1e-6
        assert guess.confidence == max(guess.probabilities.values())
        if guess.plane is not None:
            assert guess.probabilities[guess.plane] == guess.confidence


def test_none_and_progress(phantom: list[Record]) -> None:
    assert recognise_planes([]) == []
    calls: list[tuple[str, int, int]] = []
    recognise_planes(phantom[:5], progress=lambda *c: calls.append(c))
    assert calls == [("planes", 5, 5)]


def test_the_network_is_small_and_is_the_one_described() -> None:
    about = json.loads((HERE / ABOUT).read_text(encoding="utf-8"))
    assert (HERE / WEIGHTS).stat().st_size < 500_000
    assert sha256(HERE / WEIGHTS) == about["sha256"]
    assert 0.34 < about["unsure_below"] < 1


def test_the_weights_are_plain_tensors() -> None:
    """A safetensors file: a length, a JSON header of names, types and offsets, then numbers; nothing to unpickle."""
    data = (HERE / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert {v["dtype"] for k, v in header.items() if k != "__metadata__"} <= {"F16", "I64"}
    assert max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__") == len(data) - 8 - length


def test_the_card_names_the_terms_and_repeats_no_figure() -> None:
    """Figures stand in one place, where a new network's replace them."""
    card = (HERE / "card.md").read_text(encoding="utf-8")
    assert progression.INFO.licence in card
    assert "10.7937/K9/TCIA.2018.15quzvnb" in card
    for section in ("Intended use", "Out of scope", "Trained on", "Known failures"):
        assert f"\n## {section}\n" in card
    assert not re.search(r"\b0\.\d|\d ?%", card.replace("10.1016/j.neuroimage.2010.07.033", ""))
    where = re.search(r'See "(.+)" in `(.+)`', card)
    assert where is not None
    assert f"\n## {where[1]}\n" in (HERE.parents[2] / where[2]).read_text(encoding="utf-8")


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, gyrus.planes; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hand_checked_slices() -> None:
    folder = os.environ.get("GYRUS_DATA")
    if folder is None:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    with CHECKED.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    guesses = recognise_planes([Record(r["file"], Path(folder) / r["dataset"] / r["file"]) for r in rows])
    assert len(rows) >= 300
    right = np.mean([g.plane == r["plane"] for g, r in zip(guesses, rows, strict=True)])
    assert right >= 0.97, "it was 0.982 when it was trained; 0.97 is the goal"
