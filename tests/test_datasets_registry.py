from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gyrus.datasets import (
    DatasetReader,
    dataset_info,
    list_datasets,
    open_dataset,
    open_files,
    register,
    registry,
)
from gyrus.errors import InputError
from gyrus.records import Dataset, DatasetInfo


def test_every_dataset_is_described() -> None:
    assert list_datasets() == (
        "phantom", "cheng", "manifest", "sartaj", "nickparvar", "br35h", "navoneel", "brats", "progression", "volumes",
        "folder",
    )  # fmt: skip
    for name in list_datasets():
        info = dataset_info(name)
        assert info.name == name
        assert info.title
        assert info.licence
    for name in ("cheng", "sartaj", "nickparvar", "br35h", "navoneel", "brats", "progression"):
        info = dataset_info(name)
        assert info.citation
        assert info.classes == tuple(sorted(info.classes))
        assert info.classes
        assert all(fault.endswith(".") for fault in info.faults)
        assert info.faults


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'chang'.*cheng.*folder"):
        dataset_info("chang")
    with pytest.raises(InputError, match=r"'chang'"):
        open_dataset(tmp_path, name="chang")


def test_what_is_not_recognised_is_told_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "none")
    with pytest.raises(InputError, match=r"empty folder.*slices.csv.*manifest.csv.*Training/"):
        open_dataset(str(tmp_path))
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"not a dataset gyrus recognises.*slices.csv.*manifest.csv.*Training/"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="not a dataset gyrus recognises"):
        open_dataset(tmp_path / "readme.txt")


def test_a_name_overrides_recognition(tmp_path: Path) -> None:
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").touch()
    assert open_dataset(tmp_path).info.name == "folder"
    named = open_dataset(tmp_path, name="navoneel")
    assert named.info.name == "navoneel"
    assert {r.source for r in named} == {"navoneel"}
    with pytest.raises(InputError, match=r"manifest.csv"):
        open_dataset(tmp_path, name="manifest")
    with pytest.raises(InputError, match=r"not the Cheng dataset"):
        open_dataset(tmp_path, name="cheng")


def test_a_reader_of_ones_own_comes_before_the_plain_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = DatasetInfo(name="mine", title="A hospital's own layout")

    def open_mine(root: Path) -> Dataset:
        return Dataset(info=info, root=root, records=open_files(root / "a" / "1.png").records)

    reader = DatasetReader(info, lambda root: (root / "mine.txt").exists(), open_mine, "mine.txt")
    list_datasets()
    monkeypatch.setattr(registry, "_readers", dict(registry._readers))
    register(reader)
    assert list_datasets()[-2:] == ("mine", "folder")
    with pytest.raises(InputError, match="'mine' is registered already"):
        register(reader)
    for name in ("a/1.png", "b/1.png", "mine.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert open_dataset(tmp_path).info is info


def test_importing_and_opening_loads_nothing_heavy(tmp_path: Path) -> None:
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").touch()
    code = (
        "import sys; from gyrus.datasets import open_dataset; "
        f"assert len(open_dataset({str(tmp_path)!r})) == 2; "
        "heavy = {'torch', 'matplotlib', 'nilearn', 'h5py', 'scipy', 'cv2'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
