from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.datasets import open_dataset
from gyrus.errors import InputError


def tree(root: Path, *names: str) -> Path:
    """Make files whose content is no image, so that reading a pixel fails; names ending in / are folders."""
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("not an image")
    return root


def test_one_folder_per_class(tmp_path: Path) -> None:
    data = open_dataset(
        tree(tmp_path, "Glioma/10.png", "Glioma/2.JPG", "healthy/a.tif", "healthy/b.bmp", "Cyst/1.jpeg")
    )
    assert data.info.name == "folder"
    assert data.root == tmp_path
    assert [(r.id, r.label, r.subset) for r in data] == [
        ("Cyst/1.jpeg", "cyst", None),
        ("Glioma/2.JPG", "glioma", None),
        ("Glioma/10.png", "glioma", None),
        ("healthy/a.tif", "no_tumor", None),
        ("healthy/b.bmp", "no_tumor", None),
    ]
    assert all(r.path == tmp_path / r.id and r.patient is None and r.source == "folder" for r in data)
    assert data.notes == ()
    with pytest.raises(InputError, match=r"2.JPG is a text file"):
        data["Glioma/2.JPG"].read()


def test_parts_of_a_split_become_subsets(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "train/yes/1.png", "train/no/1.png", "test/yes/1.png", "val/no/1.png"))
    assert [(r.id, r.label, r.subset) for r in data] == [
        ("test/yes/1.png", "tumor", "Testing"),
        ("train/no/1.png", "no_tumor", "Training"),
        ("train/yes/1.png", "tumor", "Training"),
        ("val/no/1.png", "no_tumor", "Validation"),
    ]


def test_3064_records_are_opened_without_reading_one(tmp_path: Path) -> None:
    # every file is empty, so any attempt to read a header or a pixel would be refused
    for label, number in (("glioma", 1426), ("meningioma", 708), ("pituitary", 930)):
        (tmp_path / label).mkdir()
        for i in range(number):
            (tmp_path / label / f"{i}.jpg").touch()
    data = open_dataset(tmp_path)
    assert len(data) == 3064
    assert data.summary()["classes"] == {"glioma": 1426, "meningioma": 708, "pituitary": 930}
    with pytest.raises(InputError, match="0 bytes"):
        data.records[0].read()


def test_leftovers_are_ignored_and_other_files_are_noted(tmp_path: Path) -> None:
    root = tree(tmp_path, "a/1.png", "a/Thumbs.db", "a/.x.png", "a/notes.txt", "b/1.png", "__MACOSX/a/1.png", "LICENSE")
    data = open_dataset(root)
    assert [r.id for r in data] == ["a/1.png", "b/1.png"]
    assert data.notes == ("2 files with the suffix of no image left out: 'LICENSE', 'notes.txt'.",)


def test_two_spellings_of_a_class_are_one_and_noted(tmp_path: Path) -> None:
    data = open_dataset(tree(tmp_path, "no/1.png", "healthy/1.png", "yes/1.png"))
    assert data.classes == ("no_tumor", "tumor")
    assert len(data) == 3
    assert data.notes == ("The folders 'healthy', 'no' were read as one class, 'no_tumor'.",)


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("glioma/1.png",), "only one class, 'glioma'"),
        (("yes/1.png", "tumour/1.png"), "only one class, 'tumor'"),
        (("Training/glioma/1.png", "Testing/glioma/1.png"), "only one class, 'glioma'"),
        (("a/1.png", "b/"), "b holds no images"),
        (("a/1.png", "b/readme.txt"), "b holds no images"),
        (("Training/a/1.png", "Training/b/1.png", "Testing/"), "Testing holds no class folders"),
        (("Training/a/1.png", "Training/b/"), "b holds no images"),
        (("Training/a/1.png", "Training/b/1.png", "glioma/1.png"), "mixes levels: 'Training' .* 'glioma'"),
        (("a/1.png", "b/1.png", "c.png"), r"mixes levels: it holds images \('c.png'\)"),
        (("Training/a/1.png", "Training/b/1.png", "Training/c.png"), r"Training mixes levels"),
        (("a/1.png", "a/deep/1.png", "b/1.png"), "a mixes levels: .*'deep'"),
        (("archive/yes/1.png", "archive/no/1.png"), "archive holds folders .* open that folder itself"),
    ],
)
def test_what_is_not_such_a_folder_is_refused(tmp_path: Path, names: tuple[str, ...], word: str) -> None:
    with pytest.raises(InputError, match=word):
        open_dataset(tree(tmp_path, *names))
