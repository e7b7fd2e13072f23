from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.datasets.listing import and_more, class_name, count, listing, natural_key, read_table
from gyrus.errors import InputError


def test_natural_order() -> None:
    names = ["10.jpg", "B2.jpg", "2.jpg", "b10.jpg", "1.jpg", "image(9).jpg", "image(10).jpg", "image.jpg", "02.jpg"]
    assert sorted(names, key=natural_key) == [
        "1.jpg", "02.jpg", "2.jpg", "10.jpg", "B2.jpg", "b10.jpg", "image(9).jpg", "image(10).jpg", "image.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *((t, "glioma") for t in ("glioma", "Glioma_Tumor", "glioma_tumour", "GLIOMA TUMOR", "glioma-tumor")),
        *((t, "meningioma") for t in ("meningioma", "meningioma_tumor", " Meningioma ")),
        *((t, "pituitary") for t in ("pituitary", "pituitary_tumor", "Pituitary Tumour")),
        *((t, "no_tumor") for t in ("no_tumor", "notumor", "no", "NO", "normal", "Healthy", "no tumour", "no-tumor")),
        *((t, "tumor") for t in ("yes", "tumor", "Tumour", "YES")),
        *((t, t) for t in ("edema", "glioma_grade_2", "tumor_core")),
        ("Edema", "edema"),
    ],
)
def test_class_names(text: str, name: str) -> None:
    assert class_name(text) == name


def test_hidden_files_and_leftovers_are_not_listed(tmp_path: Path) -> None:
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", "2.JPG", "10.png", "notes.txt"):
        (tmp_path / name).touch()
    for name in (".git", "__MACOSX", "glioma"):
        (tmp_path / name).mkdir()
    here = listing(tmp_path)
    assert here.folders == ("glioma",)
    assert here.images == ("2.JPG", "10.png")
    assert here.others == ("notes.txt",)
    for wrong in (tmp_path / "none", tmp_path / "notes.txt"):
        with pytest.raises(InputError, match=f"{wrong.name} cannot be listed"):
            listing(wrong)


def test_phrases() -> None:
    assert count(1, "file") == "1 file"
    assert count(2573, "file") == "2,573 files"
    assert count(0, "file") == "0 files"
    assert and_more(["a"]) == "'a'"
    assert and_more(["a", "b", "c", "d", "e"]) == "'a', 'b', 'c' and 2 more"


def test_a_table_by_rows_as_a_spreadsheet_counts_them(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b'\xef\xbb\xbfFile, Label\r\n a.png ,"x,y"\r\n,\r\nb.png\r\n')
    columns, rows = read_table(table, ["file"])
    assert columns == ("file", "label")
    assert list(rows) == [(2, {"file": "a.png", "label": "x,y"}), (4, {"file": "b.png", "label": ""})]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "no column 'file'"),
        (b"file;label\na;b\n", "'file;label'"),
        (b"file,label,label\n", "two columns 'label'"),
        (b"file,label\na,b,c\n", "row 2 has 3 cells for 2 columns"),
        (b"file\n\xff\xfe\n", "UTF-8"),
        (b'file\n"a', "CSV"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"t.csv.*{word}"):
        list(read_table(tmp_path / "t.csv", ["file"])[1])
