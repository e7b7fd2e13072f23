from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import write_folds, write_mat
from PIL import Image as Pillow

from gyrus.datasets import open_dataset, write_manifest
from gyrus.errors import InputError
from gyrus.io.masks import OutlineMask
from gyrus.records import Dataset, DatasetInfo, Record

OUTLINE = "0.5,0.5 2.5,0.5 2.5,1.5 0.5,1.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two slices that are no images and one mask that is."""
    root = tmp_path / "set"
    (root / "img").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (root / "img" / name).write_text("not an image")
    Pillow.fromarray(np.array([[0, 0, 9, 0], [0, 0, 0, 0]], dtype=np.uint8)).save(root / "m.png")
    return root


def write(root: Path, *lines: str) -> Path:
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


def test_every_column(folder: Path) -> None:
    write(
        folder,
        "file,label,patient,study,mask,outline,plane,subset,scanner",
        "img/b.png,Glioma_tumor,p1,s1,m.png,,Axial,Training,X",
        f'img/a.png,,,,,"{OUTLINE}",,,',
    )
    for path in (folder, folder / "manifest.csv"):
        data = open_dataset(path)
        assert data.info.name == "manifest"
        assert data.root == path  # so that a run can open it again
        b, a = data.records  # in the table's order
        assert (b.id, b.label, b.patient, b.study, b.plane, b.subset) == (
            "img/b.png", "glioma", "p1", "s1", "axial", "Training",
        )  # fmt: skip
        assert (a.id, a.label, a.patient, a.study, a.plane, a.subset) == ("img/a.png", None, None, None, None, None)
    assert b.path == folder / "img" / "b.png"
    np.testing.assert_array_equal(b.read_mask((2, 4)), [[0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(a.read_mask((2, 4)), [[0, 0, 0, 0], [0, 1, 1, 0]])
    assert data.notes == (
        "The label 'Glioma_tumor' was read as 'glioma'.",
        "1 column of the manifest left out as unknown: 'scanner'.",
    )


def test_only_the_file_is_required_and_any_name_of_the_table_will_do(folder: Path) -> None:
    (folder / "mine.csv").write_text("file\nimg/a.png\n")
    data = open_dataset(folder / "mine.csv")
    assert [r.id for r in data] == ["img/a.png"]
    assert data.notes == ()


def test_files_elsewhere(folder: Path) -> None:
    outside = folder.parent / "other.png"
    outside.touch()
    write(folder, "file", "../other.png", "./img/../img/a.png", str(folder / "img" / "b.png"))
    assert [r.id for r in open_dataset(folder)] == ["../other.png", "img/a.png", "img/b.png"]
    write(folder, "file", str(outside))
    assert [r.id for r in open_dataset(folder)] == [outside.as_posix()]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("img/c.png,,,", r"row 3: the file img/c.png does not exist"),
        ("img,,,", r"row 3: the file img does not exist"),
        (",glioma,,", r"row 3: the column 'file' is empty"),
        ("img/./a.png,,,", r"row 3: the file img/a.png occurs a second time"),
        ("img/b.png,oblique,,", r"row 3: the plane 'oblique' is not one of axial, coronal, sagittal"),
        (f'img/b.png,,m.png,"{OUTLINE}"', r"row 3: it has a mask and an outline"),
        ("img/b.png,,n.png,", r"row 3: the mask n.png does not exist"),
        ('img/b.png,,,"1,1 2,2"', r"row 3 \(img/b.png\): the outline has 2 points"),
        ("img/b.png,,,1,1 2,2", r"row 3 has 6 cells for 4 columns"),
    ],
)
def test_a_wrong_row_is_named(folder: Path, row: str, word: str) -> None:
    write(folder, "file,plane,mask,outline", "img/a.png,,,", row)
    with pytest.raises(InputError, match=rf"manifest.csv {word}"):
        open_dataset(folder)


@pytest.mark.parametrize("length", [300, 100_000])
@pytest.mark.parametrize("column", ["file", "mask", "plane"])
def test_a_cell_longer_than_any_name_is_refused_and_not_shown_whole(folder: Path, column: str, length: int) -> None:
    row = {"file": "img/a.png", "mask": "", "plane": ""} | {column: "a" * length}
    write(folder, ",".join(row), ",".join(row.values()))
    with pytest.raises(InputError, match=r"manifest.csv row 2: the \w+ '?a{100}\.\.\.") as caught:
        open_dataset(folder)
    assert len(str(caught.value)) < 250 + 2 * len(str(folder))


def test_a_manifest_without_slices_or_files_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="lists no slices"):
        open_dataset(write(folder, "file,label"))
    with pytest.raises(InputError, match="no column 'file'"):
        open_dataset(write(folder, "path,label", "img/a.png,glioma"))


def test_dataset_json_says_what_it_is(folder: Path) -> None:
    write(folder, "file", "img/a.png")
    info = {
        "name": "ward",
        "title": "One ward",
        "licence": "none",
        "classes": ["a", "b"],
        "faults": ["Few."],
        "more": 1,
    }
    (folder / "dataset.json").write_text(json.dumps(info))
    data = open_dataset(folder)
    assert data.info == DatasetInfo("ward", "One ward", "", "none", ("a", "b"), ("Few.",))
    assert data.records[0].source == "ward"


@pytest.mark.parametrize(
    ("content", "word"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"name": 1}', "'name'"), ('{"classes": "a"}', "'classes'")],
)
def test_a_dataset_json_that_is_none_is_refused(folder: Path, content: str, word: str) -> None:
    write(folder, "file", "img/a.png")
    (folder / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=f"dataset.json.*{word}"):
        open_dataset(folder)


def test_the_phantom_is_recognised_by_its_name(folder: Path) -> None:
    write(folder, "file,label", "img/a.png,no_tumor")
    (folder / "dataset.json").write_text('{"name": "phantom", "title": "60 patients, seed 0"}')
    data = open_dataset(folder)
    assert data.info.name == "phantom"
    assert data.info.title == "60 patients, seed 0"
    assert data.records[0].source == "phantom"


def test_3064_rows_are_opened_without_reading_a_slice(folder: Path) -> None:
    for i in range(3064):
        (folder / f"{i}.png").touch()
    write(folder, "file,label", *(f"{i}.png,glioma" for i in range(3064)))
    assert len(open_dataset(folder)) == 3064


def test_a_round_trip_keeps_all_but_the_place(folder: Path) -> None:
    write(
        folder,
        "file,label,patient,study,mask,outline,plane,subset",
        "img/b.png,glioma,p1,s1,m.png,,axial,Training",
        f'img/a.png,,,,,"{OUTLINE}",,',
    )
    (folder / "dataset.json").write_text('{"name": "ward", "title": "One ward", "faults": ["Fäden."]}')
    first = open_dataset(folder)
    out = write_manifest(first, folder.parent / "copy" / "deep" / "table.csv")
    second = open_dataset(out)
    assert second.info == first.info
    for a, b in zip(first, second, strict=True):
        assert b.id == f"../../set/{a.id}"
        assert b.path.samefile(a.path)
        assert (a.label, a.patient, a.study, a.plane, a.subset) == (b.label, b.patient, b.study, b.plane, b.subset)
        np.testing.assert_array_equal(a.read_mask((2, 4)), b.read_mask((2, 4)))


def test_original_cheng_files_survive_a_round_trip(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    for number in (1, 2):
        write_mat(tmp_path / f"{number}.mat", image, number, "77B", mask=image > 8)
    write_folds(tmp_path / "cvind.mat", [1, 2])
    first = open_dataset(tmp_path)
    second = open_dataset(write_manifest(first, tmp_path / "table.csv"))
    assert [(r.id, r.label, r.patient, r.study, r.subset) for r in second] == [
        (r.id, r.label, r.patient, r.study, r.subset) for r in first
    ]
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.records[0].read_mask((3, 4)), image > 8)
    np.testing.assert_array_equal(second.records[1].read().pixels, image)


def test_columns_that_would_be_empty_are_not_written(folder: Path) -> None:
    write(folder, "file,label", "img/a.png,glioma")
    out = write_manifest(open_dataset(folder), folder.parent / "x.csv")
    assert out.read_text() == "file,label\nset/img/a.png,glioma\n"


def test_writing_overwrites_nothing(folder: Path) -> None:
    data = open_dataset(write(folder, "file", "img/a.png"))
    with pytest.raises(InputError, match=r"manifest.csv exists"):
        write_manifest(data, folder / "manifest.csv")
    (folder.parent / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match=r"dataset.json exists"):
        write_manifest(data, folder.parent / "x.csv")
    assert not (folder.parent / "x.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_written(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy(folder / "img" / "a.png", folder / "img" / name)
    names = ("a.png", name)
    data = Dataset(DatasetInfo("x", "x"), folder, tuple(Record(n, folder / "img" / n) for n in names))
    assert len(data.fingerprint) == 16
    with pytest.raises(InputError, match="its file is not UTF-8"):
        write_manifest(data, folder.parent / "out" / "x.csv")
    assert not (folder.parent / "out").exists()


def test_an_outline_that_no_table_holds_is_not_written(folder: Path) -> None:
    long = OutlineMask(tuple((float(i % 4), 0.123456789) for i in range(10_000)), "a.png")
    data = Dataset(DatasetInfo("x", "x"), folder, (Record("a.png", folder / "img" / "a.png", mask=long),))
    with pytest.raises(InputError, match="its outline is longer than a table's cell may be"):
        write_manifest(data, folder.parent / "x.csv")
    assert not (folder.parent / "x.csv").exists()


def test_a_mask_that_is_nowhere_on_disk_cannot_be_written(folder: Path) -> None:
    class Computed:
        def read(self, shape: tuple[int, int]) -> np.ndarray:
            return np.zeros(shape, dtype=np.bool_)

    data = Dataset(DatasetInfo("x", "x"), folder, (Record("img/a.png", folder / "img/a.png", mask=Computed()),))
    with pytest.raises(InputError, match=r"img/a.png: its mask"):
        write_manifest(data, folder.parent / "x.csv")
    assert not (folder.parent / "x.csv").exists()
