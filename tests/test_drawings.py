"""Pictures of answers: what is drawn, what is said, and what is left out."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import matplotlib.colors
import numpy as np
import pytest
from commandline import Gyrus, tree
from exports import Exports, write_odd_pictures
from handmade_volumes import save_nifti

from gyrus.audit.page import _Drawer
from gyrus.datasets import records_in
from gyrus.drawings import NOT_A_DEVICE, OUTLINE, _draw, caption, save_drawings
from gyrus.errors import InputError
from gyrus.inference import evidence, predict
from gyrus.models import load_model
from gyrus.records import Dataset, DatasetInfo, Record
from gyrus.stages import predict_files


def orange(picture: Path) -> int:
    """Return how many pixels have the colour of the outline."""
    colour = np.array(matplotlib.colors.to_rgb(OUTLINE)) * 255
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    return int((np.abs(pixels[:, :, ::-1].astype(float) - colour).max(axis=2) < 40).sum())


@pytest.fixture(scope="module")
def drawn(calibrated: Exports, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], object, list[Path]]:
    """Pictures of slices, one of which is refused."""
    root = tmp_path_factory.mktemp("drawn")
    odd = write_odd_pictures(root, calibrated.discs.records[18].path)
    (root / "cut.png").write_bytes(b"")
    model, records = load_model(calibrated.model), [*calibrated.discs, *odd, Record(id="cut", path=root / "cut.png")]
    said = predict(model, records, keep_going=True)
    readable = [i for i, s in enumerate(said.status) if s != "unreadable"]
    pictures = save_drawings(
        partial(evidence, model), [records[i] for i in readable], only(said, readable), root / "out",
        preprocess=model.spec.preprocess, calibration=model.spec.calibration,
    )  # fmt: skip
    return records, said, pictures


def only(said, rows):
    from dataclasses import replace

    pick = {
        n: tuple(getattr(said, n)[i] for i in rows)
        for n in ("ids", "files", "patients", "labels", "status", "reasons", "outlines")
    }
    certainty = replace(
        said.certainty, temperature=said.certainty.temperature[rows], novelty=said.certainty.novelty[rows],
        sets=tuple(said.certainty.sets[i] for i in rows),
    )  # fmt: skip
    return replace(said, logits=said.logits[rows], certainty=certainty, **pick)


def test_there_is_one_picture_per_readable_slice(drawn) -> None:
    records, _, pictures = drawn
    assert len(pictures) == len(records) - 1
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert (pictures[0].parent / "run.json").is_file()


def test_an_outline_is_drawn_exactly_where_one_is_measured(drawn) -> None:
    _, said, pictures = drawn
    for row, picture in zip(said.rows(), pictures, strict=False):
        assert (orange(picture) > 60) == (row["outline"] is not None), row["id"]


def test_a_refused_slice_has_no_map(drawn) -> None:
    _, said, pictures = drawn
    for row, picture in zip(said.rows(), pictures, strict=False):
        pixels = cv2.imread(str(picture)).astype(int)
        coloured = np.ptp(pixels[:, pixels.shape[1] // 2 :], axis=2) > 60
        assert (coloured.sum() > 100) == (row["status"] != "refused"), row["id"]


def test_a_model_without_calibration_draws_its_map_alone(exported: Exports, tmp_path: Path) -> None:
    file = exported.discs.records[0].path
    said = predict_files(exported.model, [file], save=tmp_path / "out", device="cpu")
    (picture,) = (tmp_path / "out").glob("*.png")
    assert said.outlines is None
    assert orange(picture) < 60


def test_pictures_and_manifest_tell_slices_and_folders_apart(exported: Exports, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (40, 40, 3)).astype(np.int16)
    names = [save_nifti(tmp_path / folder / "T1.nii.gz", volume) for folder in ("a", "b")]
    odd = tmp_path / "b" / "an odd, #1.jpeg"
    cv2.imwrite(str(odd), volume[..., 0].astype(np.uint8))
    predict_files(exported.model, [*names, odd], slices=[0, 2], save=tmp_path / "out", device="cpu")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == [
        *("0000-a_T1_axial-0.png", "0001-a_T1_axial-2.png", "0002-b_T1_axial-0.png", "0003-b_T1_axial-2.png"),
        "0004-b_an_odd_1.png",
    ]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]["ids"] == [
        *(f"{folder}/T1.nii.gz#axial-{i}" for folder in "ab" for i in (0, 2)),
        "b/an odd, #1.jpeg",
    ]


def test_a_caption_names_the_slice_and_can_be_drawn() -> None:
    assert caption("a/T1.nii.gz#axial-12", "") == f"a/T1.nii.gz#axial-12  ·  {NOT_A_DEVICE}"
    assert caption("caf\udce9.png", "Why.") == f"Why.\ncaf?.png  ·  {NOT_A_DEVICE}"
    assert max(map(len, caption("long-" * 40, "").splitlines())) <= 92


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not UTF-8")
def test_a_file_name_that_is_not_utf_8_is_classified_and_drawn(
    gyrus: Gyrus, calibrated: Exports, tmp_path: Path
) -> None:
    file = shutil.copy(calibrated.discs.records[0].path, tmp_path / "caf\udce9.png")
    words = ("--out", tmp_path / "table.csv", "--save", tmp_path / "out", "--quiet")
    said = gyrus("predict", file, "--model", calibrated.model, *words)
    assert (said.code, said.err) == (0, "")
    assert b"caf\xe9.png," in (tmp_path / "table.csv").read_bytes()
    assert [p.name for p in (tmp_path / "out").glob("*.png")] == ["0000-caf_.png"]


@pytest.mark.parametrize(("out", "save"), [("a.csv", "a.csv"), ("a/b.json", "a"), ("a.csv", "./a.csv/b")])
def test_a_table_and_pictures_in_one_place_are_refused_before_any_work(
    gyrus: Gyrus, exported: Exports, tmp_path: Path, out: str, save: str
) -> None:
    words = ("--out", tmp_path / out, "--save", f"{tmp_path}/{save}")
    said = gyrus("predict", tmp_path / "no such file", "--model", exported.model, *words).refusal()
    assert said.endswith("stand in each other's way: choose places apart for --out and --save")


def test_the_command_line(gyrus: Gyrus, calibrated: Exports, tmp_path: Path) -> None:
    file = Path(shutil.copy(calibrated.discs.records[0].path, tmp_path / "a slice, with $igns.png"))
    said = gyrus("predict", file, "--model", calibrated.model, "--save", tmp_path / "out")
    assert "1 slice in" in said.out
    assert "pictures: " in said.out
    assert [p.name for p in (tmp_path / "out").glob("*.png")] == ["0000-a_slice_with_igns.png"]
    assert "already exists" in gyrus("predict", file, "--model", calibrated.model, "--save", tmp_path / "out").refusal()
    before = tree(tmp_path)
    (tmp_path / "cut.png").write_bytes(b"")
    gyrus("predict", tmp_path / "cut.png", "--model", calibrated.model, "--save", tmp_path / "more").refusal()
    (tmp_path / "cut.png").unlink()
    assert tree(tmp_path) == before
    refused = gyrus("predict", "--model", calibrated.model, "--save", tmp_path / "more").refusal()
    assert "name files to predict" in refused
    assert "name files" in gyrus("predict").refusal()


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_exported_model_draws_what_torch_draws(calibrated: Exports, tmp_path: Path, engine: str) -> None:
    files = [r.path for r in calibrated.discs.records[:3]]
    files += [r.path for r in write_odd_pictures(tmp_path, files[0])[1:2]]  # turned: refused
    for model, out in ((calibrated.model, "torch"), (getattr(calibrated, engine), engine)):
        predict_files(model, files, save=tmp_path / out, device="cpu")
    drawn = [sorted((tmp_path / out).glob("*.png")) for out in ("torch", engine)]
    assert [p.name for p in drawn[0]] == [p.name for p in drawn[1]]
    assert len(drawn[0]) == 4
    for mine, its in zip(*drawn, strict=True):
        pixels = [cv2.imread(str(p)).astype(int) for p in (mine, its)]
        assert (np.abs(pixels[0] - pixels[1]).max(axis=2) > 24).mean() < 1e-3
    assert sum(orange(p) > 60 for p in drawn[1]) > 1


def test_an_exported_model_draws_without_torch_and_not_over_what_is_there(calibrated: Exports, tmp_path: Path) -> None:
    code = (
        "import sys; from gyrus.engines import predict_exported_files; from pathlib import Path\n"
        f"args = Path({str(calibrated.onnx)!r}), [Path({str(calibrated.discs.records[0].path)!r})]\n"
        f"predict_exported_files(*args, save=Path({str(tmp_path / 'out')!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    with pytest.raises(InputError, match="out already exists: choose another --save"):
        predict_files(calibrated.onnx, [calibrated.discs.records[0].path], save=tmp_path / "out")


def test_pages_draw_pixels_that_are_not_square_as_they_are(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (60, 60, 20)).astype(np.int16)
    thick = save_nifti(tmp_path / "thick.nii.gz", volume, np.diag([2.0, 2.0, 9.0, 1.0]))
    (record,) = records_in([thick], "coronal", [30])
    assert record.read().aspect == pytest.approx(4.5)
    uri = _Drawer(Dataset(DatasetInfo("thick", "Thick slices"), tmp_path, (record,))).panel(record.id).uri
    assert uri is not None
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_GRAYSCALE)
    tall, wide = np.ptp(np.argwhere(drawn > 0), axis=0) + 1
    assert tall / wide == pytest.approx(20 * 9 / (60 * 2), rel=0.05)


def test_pixels_that_are_not_square_are_drawn_as_they_are(exported: Exports, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(0, 200, (60, 60, 20)).astype(np.int16)
    thick = save_nifti(tmp_path / "thick.nii.gz", volume, np.diag([2.0, 2.0, 6.0, 1.0]))
    model, records = load_model(exported.model), records_in([thick], "coronal", [30])
    figure = _draw(records[0], np.ones((8, 8), np.float32), predict(model, records).row(0), model.spec.preprocess, None)
    assert [axes.get_aspect() for axes in figure.axes] == [3.0, 3.0]


def test_a_graph_without_a_class_map_says_so(exported: Exports) -> None:
    model, records = load_model(exported.model), exported.discs.records[:1]
    figure = _draw(records[0], None, predict(model, records).row(0), model.spec.preprocess, None)
    assert [axes.get_title() for axes in figure.axes] == ["the slice", "no map: this model, exported, gives none"]
    assert [len(axes.images) for axes in figure.axes] == [1, 1]
