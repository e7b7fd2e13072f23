"""Conversion: slices, labels, masks and manifest of any input, and nothing of a patient's identity."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade_slices import write_png
from handmade_volumes import (
    AFFINE,
    BLOCK,
    IDENTITY,
    ORDERS,
    SHAPE,
    TRACES,
    save_dicom,
    save_nifti,
    save_series,
    slice_dataset,
    stored,
    tilted,
)
from PIL import Image as Pillow

from gyrus.convert import convert_data
from gyrus.datasets import open_dataset, write_manifest
from gyrus.errors import InputError
from gyrus.geometry import load_geometry, restore
from gyrus.io import read_volume
from gyrus.page import write_page
from gyrus.splits import holdout


def written(folder: Path) -> str:
    """Return every file name and every byte of a folder, and the pixels of its pictures unpacked, in lower case."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.relative_to(folder).as_posix().encode())
        if path.is_file():
            parts.append(path.read_bytes())
        if path.suffix == ".png":
            with Pillow.open(path) as image:
                parts += [image.tobytes(), repr(image.info).encode()]
    return b"\n".join(parts).decode("latin-1").lower()


@pytest.mark.parametrize("plane", [None, "axial", "coronal", "sagittal"])
def test_an_oblique_series_survives(tmp_path: Path, plane: str | None) -> None:
    array, affine = stored(ORDERS[13], affine=tilted())
    source = save_series(tmp_path / "MORIARTY", array, affine)
    out = convert_data(source, tmp_path / "out", plane=plane)
    volume, again = read_volume(source), restore(out)
    assert (again.voxels == BLOCK).all()
    assert (again.affine == volume.affine).all()
    assert again.meta["axes"] == volume.meta["axes"]
    data = open_dataset(out)
    assert len(data) == volume.count(data.records[0].plane or "")
    assert data.has_patients


def test_slices_of_a_volume_of_nobody_stay_together(tmp_path: Path) -> None:
    for name in "ab":
        save_nifti(tmp_path / "in" / f"{name}.nii", BLOCK)
    save_series(tmp_path / "in" / "s", BLOCK, AFFINE, PatientID=None, StudyInstanceUID=None)
    data = open_dataset(convert_data(tmp_path / "in", tmp_path / "out"))
    assert {(r.patient, r.study) for r in data} == {(None, "a"), (None, "b"), (None, "unknown/series-1")}
    known = open_dataset(convert_data(save_series(tmp_path / "k", BLOCK, AFFINE), tmp_path / "known"))
    assert all(r.patient and r.study and len(r.study) > 10 for r in known)


def test_nothing_of_the_identity_is_written(tmp_path: Path) -> None:
    save_series(tmp_path / "Moriarty_James_1859" / "t1 Adler", BLOCK, AFFINE)
    save_series(tmp_path / "Moriarty_James_1859" / "t2 Adler", BLOCK, AFFINE, SeriesInstanceUID="1.2.3.4711.2")
    out = convert_data(tmp_path / "Moriarty_James_1859", tmp_path / "out")
    content = written(out)
    assert [word for word in (*TRACES, "1.2.3.47") if word in content] == []
    assert "series-2" in content
    (patient,) = {r.patient for r in open_dataset(out)}
    (again,) = {r.patient for r in open_dataset(convert_data(tmp_path / "Moriarty_James_1859", tmp_path / "two"))}
    (other,) = {
        r.patient
        for r in open_dataset(convert_data(tmp_path / "Moriarty_James_1859", tmp_path / "three", salt=b"x" * 16))
    }
    assert patient == again != other


def test_identity_is_kept_when_asked_for(tmp_path: Path) -> None:
    save_series(tmp_path / "in" / "t1 Adler", BLOCK, AFFINE)
    data = open_dataset(convert_data(tmp_path / "in", tmp_path / "out", keep_identity=True))
    assert {r.patient for r in data} == {IDENTITY["PatientID"]}
    assert data.records[0].id == "images/t1 Adler/axial-0000.png"
    assert "moriarty" not in written(tmp_path / "out")  # the id, not the name


def test_the_real_series_loses_its_identity(tmp_path: Path) -> None:
    import pydicom

    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    source = Path(folder) / "dicom" / "structural_t1"
    header = pydicom.dcmread(min(source.iterdir()), stop_before_pixels=True)
    names = ("PatientName", "PatientBirthDate", "StudyDate", "StudyDescription", "StudyInstanceUID", "StudyID")
    names += ("SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "ProtocolName", "Manufacturer")
    words = [str(header.get(name)).lower() for name in names] + ["jane", "structural_t1", source.parent.name + "/"]
    assert all(len(word) > 3 for word in words)
    out = convert_data(source, tmp_path / "out")
    content = written(out)
    assert [word for word in words if word in content] == []
    data = open_dataset(out)
    assert (len(data), {r.plane for r in data}) == (48, {"axial"})
    assert (restore(out).voxels == read_volume(source).voxels).all()


@pytest.fixture
def brats(tmp_path: Path) -> Path:
    """Twelve patients; from the top down a blank slice, three with nothing drawn, one with oedema, two with core."""
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[1:3, 2, 0] = 4
    drawn[1:3, 3, 1] = 1
    drawn[0, 0, :3] = 2
    rng = np.random.default_rng(5)
    for n in range(12):
        name = f"BraTS20_Training_{n:03d}"
        image = rng.integers(0, 3000, SHAPE).astype(np.int16)
        image[:, :, 6] = 0
        for modality in ("t1ce", "flair"):
            save_nifti(tmp_path / "in" / name / f"{name}_{modality}.nii", image)
        save_nifti(tmp_path / "in" / name / f"{name}_seg.nii", drawn)
    return tmp_path / "in"


def test_slices_are_labelled_by_what_is_drawn_on_them(brats: Path, tmp_path: Path) -> None:
    out = convert_data(brats, tmp_path / "out")
    data = open_dataset(out)
    assert data.info.name == "brats"
    assert data.info.classes == ("glioma", "no_tumor")
    assert "no healthy brain" in data.info.faults[-1]
    one = [r for r in data if r.patient == "BraTS20_Training_003"]
    assert [(r.id[-8:-4], r.label) for r in one] == [
        ("0000", "glioma"), ("0001", "glioma"), ("0003", "no_tumor"), ("0004", "no_tumor"), ("0005", "no_tumor"),
    ]  # fmt: skip  # 2 shows oedema alone, 6 is blank: written, not listed
    assert len(list((out / "images" / "BraTS20_Training_003-t1ce").iterdir())) == 7
    assert [r.mask is not None for r in one] == [True, True, False, False, False]
    mask = one[0].read_mask((6, 5))
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[3, 2], [3, 3]]  # i = 1, 2 from the right, j = 2 of 6 from the front
    assert restore(out, "BraTS20_Training_003-t1ce", masks=True).voxels.sum() == 4
    assert len(data) == 60
    split = holdout(data, (0.5, 0.25, 0.25))
    assert (len(split.train), len(split.val), len(split.test)) == (30, 15, 15)


def test_the_whole_tumour_and_every_modality(brats: Path, tmp_path: Path) -> None:
    out = convert_data(brats, tmp_path / "out", region="whole", modality="all")
    data = open_dataset(out)
    assert {r.id.split("/")[1].rpartition("-")[2] for r in data} == {"t1ce", "flair"}
    assert sum(r.label == "glioma" for r in data) == 2 * 12 * 3
    assert {p.region for p in load_geometry(out).values()} == {"whole"}
    with pytest.raises(InputError, match="BraTS20_Training_000 has no t2 volume: it has t1ce, flair"):
        convert_data(brats, tmp_path / "other", modality="t2")
    assert not (tmp_path / "other").exists()


def test_cases_without_labels_are_listed_whole(tmp_path: Path) -> None:
    for modality in ("t1ce", "flair"):
        save_nifti(tmp_path / "in" / f"BraTS20_Validation_001_{modality}.nii", BLOCK)
    data = open_dataset(convert_data(tmp_path / "in", tmp_path / "out"))
    assert len(data) == 7
    assert data.classes == ()


def test_some_slices(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "x.nii", BLOCK)
    assert [r.id for r in open_dataset(convert_data(source, tmp_path / "a", slices="middle"))] == [
        "images/x/axial-0003.png"
    ]
    out = convert_data(source, tmp_path / "b", slices=[4, 0], plane="coronal")
    assert [r.id for r in open_dataset(out)] == ["images/x/coronal-0000.png", "images/x/coronal-0004.png"]
    assert load_geometry(out)["x"].slices == (0, 4)
    with pytest.raises(InputError, match=r"x\.nii \(axial\) has slices 0 to 6, no 7"):
        convert_data(source, tmp_path / "c", slices=7)
    with pytest.raises(InputError, match="there is no plane 'oblique'"):
        convert_data(source, tmp_path / "c", plane="oblique")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plane": "sideways"}, "there is no plane 'sideways'"),
        ({"region": "bogus"}, "there is no region 'bogus'"),
        ({"modality": "t9"}, "there is no modality 't9': choose t1, t1ce"),
        ({"window": (0, np.inf)}, "the window from 0 to inf is none"),
    ],
)
def test_options_that_are_none_are_refused_of_pictures_and_volumes_alike(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    write_png(tmp_path / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    save_nifti(tmp_path / "x.nii", BLOCK * np.int16(20))
    for source in ("a.png", "x.nii"):
        with pytest.raises(InputError, match=says):
            convert_data(tmp_path / source, tmp_path / "out", **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "x.nii"]


def test_a_volume_whose_name_is_not_utf_8_is_called_otherwise(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "v") + b"\xff.nii"))
    shutil.copy(save_nifti(tmp_path / "x.nii", BLOCK), odd)
    made = convert_data(odd, tmp_path / "out")
    assert list(load_geometry(made)) == ["v_"]
    assert (restore(made).voxels == restore(convert_data(tmp_path / "x.nii", tmp_path / "plain")).voxels).all()


def test_values_are_scaled_as_stated(tmp_path: Path) -> None:
    source = save_nifti(tmp_path / "x.nii", BLOCK * np.int16(20) - np.int16(100))
    plain = convert_data(source, tmp_path / "plain")
    png = np.asarray(Pillow.open(plain / "images" / "x" / "axial-0002.png")).astype(float)
    scale = load_geometry(plain)["x"].scale
    assert (png * scale.slope + scale.intercept == (BLOCK[:, :, 2].T[::-1, ::-1] * 20.0 - 100)).all()
    assert png.max() > 40000  # not a black picture in a viewer
    eight = convert_data(source, tmp_path / "eight", bits=8, window=(0, 1000))
    png = np.asarray(Pillow.open(eight / "images" / "x" / "axial-0002.png"))
    assert png.dtype == np.uint8
    wanted = np.rint(np.clip(BLOCK[:, :, 2].T[::-1, ::-1] * 20.0 - 100, 0, 1000) * 0.255)
    assert np.abs(png - wanted).max() <= 1  # halves round either way
    assert not load_geometry(eight)["x"].scale.lossless


def test_pictures_keep_their_grey_levels_and_their_rows(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_png(root / "a.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    write_png(root / "m.png", np.eye(3, 4, dtype=np.uint8))
    Pillow.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * 300).save(root / "a.tif")
    (root / "manifest.csv").write_text(
        "file,label,patient,study,mask,plane,subset\na.png,glioma,p1,s1,m.png,axial,Training\na.tif,pituitary,p2,,,,\n"
    )
    first, second = open_dataset(convert_data(root, tmp_path / "out")).records
    assert (first.id, second.id) == ("images/a.png", "images/a-2.png")
    assert (first.label, first.patient, first.study, first.plane, first.subset) == (
        "glioma", "p1", "s1", "axial", "Training",
    )  # fmt: skip
    assert (first.read().pixels == np.arange(12).reshape(3, 4)).all()
    assert (second.read().pixels == np.arange(12).reshape(3, 4) * 300).all()
    mask = first.read_mask((3, 4))
    assert mask is not None
    assert (mask == np.eye(3, 4)).all()
    assert second.mask is None


def test_a_tint_does_not_stretch_a_picture(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 9, 3, axis=2)
    tinted = grey.copy()
    tinted[1, 2, 0] += 1
    for name, pixels in (("grey", grey), ("tinted", tinted)):
        (tmp_path / "in").mkdir(exist_ok=True)
        Pillow.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    out = convert_data(tmp_path / "in", tmp_path / "out")
    for name in ("grey", "tinted"):
        with Pillow.open(out / "images" / f"{name}.png") as image:
            assert image.mode == "L"
            assert (np.asarray(image) == grey[..., 0]).all()
    (scale,) = json.loads((out / "geometry.json").read_text())["pictures"].values()
    assert scale == {"bits": 8, "slope": 1.0, "intercept": 0.0, "lossless": False}


def test_a_picture_elsewhere_stays_in_the_folder(tmp_path: Path) -> None:
    write_png(tmp_path / "pictures" / "a.png", np.zeros((3, 4), np.uint8))
    (tmp_path / "table").mkdir()
    absolute = write_png(tmp_path / "b.png", np.zeros((3, 4), np.uint8))
    (tmp_path / "table" / "manifest.csv").write_text(f"file\n../pictures/a.png\n{absolute}\n")
    out = convert_data(tmp_path / "table", tmp_path / "out")
    assert [r.id for r in open_dataset(out)] == ["images/pictures/a.png", "images/b.png"]


def test_a_pile_of_pictures_and_one_alone(tmp_path: Path) -> None:
    for name in ("one/a.png", "one/b.png"):
        write_png(tmp_path / name, np.zeros((3, 4), np.uint8))
    assert len(open_dataset(convert_data(tmp_path / "one", tmp_path / "out"))) == 2
    assert len(open_dataset(convert_data(tmp_path / "one" / "a.png", tmp_path / "single"))) == 1


def test_names_that_come_to_the_same_keep_their_pictures(tmp_path: Path) -> None:
    """The third would be called 1-3.png, which is the first."""
    greys = {"1-3.bmp": 10, "1.bmp": 20, "1.png": 30}
    for name, grey in greys.items():
        (tmp_path / "one").mkdir(exist_ok=True)
        Pillow.fromarray(np.full((3, 4), grey, np.uint8)).save(tmp_path / "one" / name)
    data = open_dataset(convert_data(tmp_path / "one", tmp_path / "out"))
    assert sorted(r.read().pixels[0, 0] for r in data) == sorted(greys.values())


def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, brats: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        convert_data(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        convert_data(tmp_path / "none", tmp_path / "out")
    both = write_png(tmp_path / "both" / "a.png", np.zeros((3, 4), np.uint8)).parent
    save_nifti(both / "x.nii", BLOCK)
    with pytest.raises(InputError, match="holds volumes beside pictures"):
        convert_data(both, tmp_path / "out")
    twins = save_nifti(tmp_path / "twins" / "x.nii", BLOCK).parent
    save_nifti(twins / "x.nii.gz", BLOCK)
    with pytest.raises(InputError, match="holds two volumes called x"):
        convert_data(twins, tmp_path / "out")
    labels = brats / "BraTS20_Training_002" / "BraTS20_Training_002_seg.nii"
    save_nifti(labels, np.zeros((5, 6, 8), np.uint8))
    with pytest.raises(InputError, match=r"BraTS20_Training_002_seg\.nii has 5 x 6 x 8 voxels and its image"):
        convert_data(brats, tmp_path / "out")
    save_nifti(labels, np.full(SHAPE, 9, np.uint8))
    with pytest.raises(InputError, match="holds the label 9"):
        convert_data(brats, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out already exists"):
        convert_data(brats, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["both", "empty", "in", "out", "twins"]


def test_nothing_left_to_list_is_said(tmp_path: Path) -> None:
    for modality in ("t1ce", "flair"):
        save_nifti(tmp_path / "in" / f"c_{modality}.nii", BLOCK)
    save_nifti(tmp_path / "in" / "c_seg.nii", np.full(SHAPE, 2, np.uint8))
    with pytest.raises(InputError, match="every slice is blank or shows oedema alone"):
        convert_data(tmp_path / "in", tmp_path / "out")


def test_volumes_cannot_be_written_as_a_manifest_unconverted(tmp_path: Path) -> None:
    data = open_dataset(save_nifti(tmp_path / "x.nii", BLOCK))
    with pytest.raises(InputError, match=r"x\.nii#axial-0 is a slice of a volume.*gyrus data convert"):
        write_manifest(data, tmp_path / "x.csv")


def test_the_run_says_how_and_progress_is_told(tmp_path: Path) -> None:
    source = save_dicom(tmp_path / "one.dcm", slice_dataset(BLOCK[0], PixelSpacing=["1", "2"], SliceThickness="3"))
    told: list[tuple[str, int, int]] = []
    out = convert_data(source, tmp_path / "out", progress=lambda *said: told.append(said))
    assert told == [("converting", 1, 1)]
    run = json.loads((out / "run.json").read_text())
    assert run["stage"] == "convert"
    assert run["arguments"]["keep_identity"] is False
    assert "manifest.csv" in run["outputs"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_written_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "in" / "glioma").mkdir(parents=True)
    write_png(tmp_path / "in" / "glioma" / os.fsdecode(b"caf\xe9.png"), np.zeros((2, 2), np.uint8))
    data = open_dataset(convert_data(tmp_path / "in", tmp_path / "out"))
    assert [(r.id, r.label) for r in data] == [("images/glioma/caf_.png", None)]
    write_page(tmp_path / "page.html", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "caf\\udce9"
