from __future__ import annotations

import os
from pathlib import Path

import pytest

from gyrus.datasets import open_dataset
from gyrus.errors import InputError

NAVONEEL = ("yes/Y1.jpg", "yes/Y258.JPG", "no/1 no.jpeg", "no/No11.jpg", "no/N1.JPG", "no/no 1.jpg", "no/41no.jpg",
            "no/no.jpg")  # fmt: skip


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def real(name: str) -> Path:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return Path(folder) / name


def test_sartaj(tmp_path: Path) -> None:
    kinds = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
    data = open_dataset(
        touch(tmp_path, *(f"{part}/{kind}/1.jpg" for part in ("Training", "Testing") for kind in kinds))
    )
    assert data.info.name == "sartaj"
    assert data.classes == data.info.classes
    assert [r.subset for r in data] == ["Testing"] * 4 + ["Training"] * 4
    assert data.notes == ("Holds 8 slices; the published dataset has 3,264.",)


def test_nickparvar(tmp_path: Path) -> None:
    kinds = ("glioma", "meningioma", "notumor", "pituitary")
    data = open_dataset(
        touch(tmp_path, *(f"{part}/{kind}/1.jpg" for part in ("Training", "Testing") for kind in kinds))
    )
    assert data.info.name == "nickparvar"
    assert data.classes == data.info.classes
    assert {r.source for r in data} == {"nickparvar"}


def test_br35h_by_its_unlabelled_folder_which_is_left_out(tmp_path: Path) -> None:
    data = open_dataset(touch(tmp_path, "yes/a.jpg", "no/b.jpg", "pred/pred0.jpg"))
    assert data.info.name == "br35h"
    assert data.classes == ("no_tumor", "tumor")
    assert len(data) == 2
    assert data.notes[0] == "The folder 'pred' was left out: its images carry no label."


def test_br35h_by_its_file_names(tmp_path: Path) -> None:
    assert open_dataset(touch(tmp_path, "yes/y0.jpg", "yes/y1.jpg", "no/no0.jpg")).info.name == "br35h"


def test_navoneel_by_its_file_names_and_without_its_second_copy(tmp_path: Path) -> None:
    data = open_dataset(touch(tmp_path, *NAVONEEL, "brain_tumor_dataset/yes/Y1.jpg", "brain_tumor_dataset/no/no.jpg"))
    assert data.info.name == "navoneel"
    assert len(data) == len(NAVONEEL)
    assert data.notes[0].startswith("The folder 'brain_tumor_dataset' was left out")


@pytest.mark.parametrize(
    "names",
    [
        ("yes/1.jpg", "no/1.jpg"),
        ("yes/Y1.jpg", "no/slice.jpg"),
        ("yes/y1.jpg", "no/1 no.jpg"),
        ("Training/glioma/1.jpg", "Training/notumor/1.jpg"),
    ],
)
def test_a_folder_of_other_names_is_a_plain_folder(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert open_dataset(touch(tmp_path, *names)).info.name == "folder"


def test_a_recognised_folder_with_an_empty_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no").mkdir()
    with pytest.raises(InputError, match="no holds no images"):
        open_dataset(touch(tmp_path, "yes/y0.jpg", "pred/1.jpg"))


def test_the_real_sartaj() -> None:
    data = open_dataset(real("sartaj"))
    assert data.info.name == "sartaj"
    assert len(data) == 2573
    assert data.summary()["subsets"] == {"Training": 2322, "Testing": 251}
    assert data.classes == data.info.classes
    assert all(record.read().pixels.any() for record in data.records[::100])


def test_the_real_navoneel() -> None:
    data = open_dataset(real("navoneel"))
    assert data.info.name == "navoneel"
    assert len(data) == 253
    assert data.summary()["classes"] == {"tumor": 155, "no_tumor": 98}
    formats = {record.read().meta["format"] for record in data}
    assert formats == {"JPEG", "PNG"}  # six files named .jpg are PNG inside
