"""The phantom: same bytes every time, masks that fit, sides that can be told, and neither trivial nor hopeless."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gyrus.errors import InputError
from gyrus.phantom import make_phantom
from gyrus.phantom.fields import periodic_noise, trilinear
from gyrus.phantom.patient import draw_patient
from gyrus.phantom.writer import patient_label

SIZE, PATIENTS, PER_PLANE = 128, 28, 2


@dataclass(frozen=True)
class Phantom:
    root: Path
    rows: list[dict[str, str]]
    images: NDArray[np.uint8]

    def mask(self, row: dict[str, str]) -> NDArray[np.bool_]:
        pixels = np.asarray(Image.open(self.root / row["mask"]))
        assert pixels.shape == (SIZE, SIZE)
        assert set(np.unique(pixels)) == {0, 255}
        return pixels > 0


def _rows(root: Path) -> list[dict[str, str]]:
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _bytes(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    out = tmp_path_factory.mktemp("phantom") / "set"
    assert make_phantom(out, patients=PATIENTS, seed=0, slices_per_plane=PER_PLANE, size=SIZE) == out
    rows = _rows(out)
    return Phantom(out, rows, np.stack([np.asarray(Image.open(out / r["file"])) for r in rows]))


def test_manifest_agrees_with_the_files(phantom: Phantom) -> None:
    rows = phantom.rows
    assert list(rows[0]) == ["file", "label", "patient", "study", "mask", "plane"]
    assert len(rows) == PATIENTS * 3 * PER_PLANE
    assert {r["file"] for r in rows} == {f"images/{p.name}" for p in (phantom.root / "images").iterdir()}
    assert {r["mask"] for r in rows if r["mask"]} == {f"masks/{p.name}" for p in (phantom.root / "masks").iterdir()}
    assert all(bool(r["mask"]) == (r["label"] != "no_tumor") for r in rows)
    assert all(r["plane"] in Path(r["file"]).name and r["patient"] in Path(r["file"]).name for r in rows)
    assert Counter(r["plane"] for r in rows) == dict.fromkeys(("axial", "coronal", "sagittal"), PATIENTS * PER_PLANE)
    assert phantom.images.dtype == np.uint8
    assert phantom.images.shape == (len(rows), SIZE, SIZE)


def test_classes_are_balanced_over_patients(phantom: Phantom) -> None:
    label = {r["patient"]: r["label"] for r in phantom.rows}
    assert all(label[r["patient"]] == r["label"] for r in phantom.rows)
    assert Counter(label.values()) == dict.fromkeys(("glioma", "meningioma", "pituitary", "no_tumor"), PATIENTS // 4)
    assert [label[f"P{k:03d}"] for k in range(PATIENTS)] == [patient_label(0, k) for k in range(PATIENTS)]
    assert [patient_label(0, k) for k in range(60)] != [patient_label(1, k) for k in range(60)]


def test_description_says_it_is_synthetic(phantom: Phantom) -> None:
    about = json.loads((phantom.root / "dataset.json").read_text(encoding="utf-8"))
    assert about["name"] == "phantom"
    assert about["synthetic"] is True
    assert "synthetic" in about["title"]
    assert about["classes"] == ["glioma", "meningioma", "no_tumor", "pituitary"]
    assert (about["seed"], about["patients"], about["size"]) == (0, PATIENTS, SIZE)
    assert about["spacing_mm"] == pytest.approx(240 / SIZE)
    assert about["licence"]
    assert about["citation"]
    assert "synthetic" in about["faults"][0]


def test_masks_are_inside_the_head_and_of_plausible_size(phantom: Phantom) -> None:
    diameter: dict[str, list[float]] = {}
    for row, image in zip(phantom.rows, phantom.images, strict=True):
        if not row["mask"]:
            continue
        mask = phantom.mask(row)
        head = ndimage.binary_fill_holes(ndimage.gaussian_filter(image.astype(float), 1.5) > 22)
        assert not (mask & ~head).any(), row["file"]
        area = int(mask.sum())
        assert 25 * (SIZE / 192) ** 2 <= area <= 0.06 * SIZE**2, row["file"]
        diameter.setdefault(row["label"], []).append(2 * np.sqrt(area / np.pi) * 240 / SIZE)
    medians = {label: float(np.median(d)) for label, d in diameter.items()}
    assert 18 <= medians["glioma"] <= 35
    assert 18 <= medians["meningioma"] <= 35
    assert 12 <= medians["pituitary"] <= 22


def test_tumours_stand_out_from_their_surroundings(phantom: Phantom) -> None:
    seen = []
    for row, image in zip(phantom.rows, phantom.images, strict=True):
        if row["label"] not in ("meningioma", "pituitary"):
            continue
        mask = phantom.mask(row)
        core = ndimage.binary_erosion(mask) if mask.sum() > 40 else mask
        around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
        seen.append(float(np.median(image[core])) - float(np.median(image[around])))
    assert np.min(seen) > 8
    assert np.median(seen) > 40


def test_varied_gliomas_are_of_every_look_and_nothing_else_changes(tmp_path: Path) -> None:
    usual, varied = (
        make_phantom(tmp_path / str(v), patients=40, seed=3, slices_per_plane=1, size=96, varied=v)
        for v in (False, True)
    )
    assert "gliomas" not in json.loads((usual / "dataset.json").read_text())
    assert json.loads((varied / "dataset.json").read_text())["gliomas"] == "varied"
    contrast, area = [], []
    for before, row in zip(_rows(usual), _rows(varied), strict=True):
        if row["label"] in ("meningioma", "pituitary"):
            assert (varied / row["file"]).read_bytes() == (usual / before["file"]).read_bytes()
        if row["label"] == "glioma":
            image, mask = (np.asarray(Image.open(varied / row[k])) for k in ("file", "mask"))
            around = ndimage.binary_dilation(mask > 0, iterations=5) & (mask == 0)
            contrast.append(float(np.median(image[mask > 0])) - float(np.median(image[around])))
            area.append((mask > 0).mean())
    assert np.mean(np.asarray(contrast) < -5) > 0.2  # dark
    assert np.mean(np.asarray(contrast) > 5) > 0.1  # bright
    assert max(area) > 6 * min(area)


def test_a_mirrored_slice_can_be_told(phantom: Phantom) -> None:
    # A linear rule on the odd part (image minus mirror image), fitted to everybody else, tells each patient's side.
    for plane, least in (("axial", 0.9), ("coronal", 0.8)):
        chosen = [i for i, r in enumerate(phantom.rows) if r["plane"] == plane]
        blurred = ndimage.gaussian_filter(phantom.images[chosen].astype(float), (0, 3, 3))
        odd = blurred - blurred[:, :, ::-1]
        assert (np.abs(odd).mean(axis=(1, 2)) > 2).all()
        traits = odd[:, ::4, SIZE // 2 :: 4].reshape(len(chosen), -1)
        traits /= np.linalg.norm(traits, axis=1, keepdims=True)
        patients = np.asarray([phantom.rows[i]["patient"] for i in chosen])
        told: list[bool] = []
        for patient in np.unique(patients):
            seen, unseen = traits[patients != patient], traits[patients == patient]
            rule = seen.T @ np.linalg.solve(seen @ seen.T + 0.3 * np.eye(len(seen)), np.ones(len(seen)))
            told += list(unseen @ rule > 0)
        assert np.mean(told) >= least, plane


def test_brightness_alone_does_not_find_the_tumour(phantom: Phantom) -> None:
    hits = []
    for row, image in zip(phantom.rows, phantom.images, strict=True):
        if row["mask"]:
            blurred = ndimage.gaussian_filter(image.astype(float), 0.025 * SIZE)
            hits.append(bool(phantom.mask(row).flat[int(blurred.argmax())]))
    assert 0.15 <= np.mean(hits) <= 0.60


def test_thumbnails_alone_do_not_tell_the_class(phantom: Phantom) -> None:
    edge = SIZE // 32
    thumbs = phantom.images.reshape(-1, 32, edge, 32, edge).mean(axis=(2, 4)).reshape(len(phantom.images), -1)
    thumbs = (thumbs - thumbs.mean(axis=1, keepdims=True)) / thumbs.std(axis=1, keepdims=True)
    squares = (thumbs**2).sum(axis=1)
    distance = squares[:, None] + squares[None] - 2 * thumbs @ thumbs.T
    label = np.asarray([r["label"] for r in phantom.rows])
    patient = np.asarray([r["patient"] for r in phantom.rows])
    distance[patient[:, None] == patient[None]] = np.inf
    assert np.mean(label[distance.argmin(axis=1)] == label) < 0.80


def test_nothing_but_the_tumour_separates_the_classes(phantom: Phantom) -> None:
    # Corners hold only noise and the receive field: they must not follow the class (four balanced ones: 0.25).
    corner = phantom.images[:, :8, :8].reshape(len(phantom.images), -1).astype(float)
    traits = np.stack([corner.mean(axis=1), corner.std(axis=1)], axis=1)
    traits = (traits - traits.mean(axis=0)) / traits.std(axis=0)
    label = np.asarray([r["label"] for r in phantom.rows])
    patient = np.asarray([r["patient"] for r in phantom.rows])
    distance = ((traits[:, None] - traits[None]) ** 2).sum(axis=2)
    distance[patient[:, None] == patient[None]] = np.inf
    assert np.mean(label[distance.argmin(axis=1)] == label) < 0.45


def test_another_seed_gives_other_patients() -> None:
    first, second = (draw_patient(np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.allclose(first.warp.matrix, second.warp.matrix)
    assert first.scan.noise != second.scan.noise


def test_the_inverse_warp_inverts() -> None:
    warp = draw_patient(np.random.default_rng(3)).warp
    for target in ((0.0, 2.0, -34.0), (-40.0, 20.0, 30.0), (30.0, -60.0, 50.0)):
        assert warp(warp.inverse(np.asarray(target))[None])[0] == pytest.approx(target, abs=0.1)


def test_same_arguments_give_the_same_bytes_and_a_patient_does_not_depend_on_the_others(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()  # an empty folder is as good as none
    numbers: Any = {"patients": np.int64(8), "seed": np.int64(5)}  # as a loop over an array has them
    a = _bytes(make_phantom(tmp_path / "a", patients=8, seed=5, slices_per_plane=1, size=64))
    b = _bytes(make_phantom(tmp_path / "b", slices_per_plane=1, size=64, **numbers))
    assert a == b
    more = _bytes(make_phantom(tmp_path / "more", patients=10, seed=5, slices_per_plane=1, size=64))
    assert {k: v for k, v in a.items() if k.endswith(".png")}.items() <= more.items()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "more"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patients": 7}, "at least 8"),
        ({"size": 63}, "at least 64"),
        ({"slices_per_plane": 0}, "at least 1"),
        ({"seed": -1}, "negative"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_phantom(tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        make_phantom(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        make_phantom(tmp_path / "kept.txt")
    assert (tmp_path / "kept.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_trilinear_by_hand() -> None:
    volume = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)  # value = 4x + 2y + z
    points = np.asarray([(0, 0, 0), (0.5, 0.5, 0.5), (1, 0.25, 0), (9, 9, -9)], np.float32)
    assert trilinear(volume, points)[:, 0].tolist() == [0.0, 3.5, 4.5, 6.0]
    assert trilinear(volume, points + 2, wrap=True)[:2, 0].tolist() == [0.0, 3.5]


def test_periodic_noise_tiles() -> None:
    noise = periodic_noise(np.random.default_rng(0), 16, 1.5, 2)
    assert noise.shape == (16, 16, 16, 2)
    assert noise.std(axis=(0, 1, 2)) == pytest.approx([1, 1], abs=1e-4)
    step = np.abs(np.diff(noise, axis=0)).mean()
    assert np.abs(noise[0] - noise[-1]).mean() == pytest.approx(step, rel=0.25)
