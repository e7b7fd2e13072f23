from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.datasets import open_files
from gyrus.errors import InputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("x/10.png", "x/2.JPG", "x/deep/1.tif", "x/notes.txt", "x/.h.png", "x/cvind.mat", "x/7.mat", "y/2.JPG"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def ids(*paths: str | Path) -> list[str]:
    return [record.id for record in open_files(paths)]


def test_a_folder_with_what_is_below_it_in_natural_order(root: Path) -> None:
    data = open_files(root / "x")
    assert [r.id for r in data] == ["2.JPG", "7.mat", "10.png", "deep/1.tif"]
    assert data.info.name == "files"
    assert data.root == root / "x"
    assert all(r.label is None and r.patient is None and r.source == "files" for r in data)
    assert all(r.path.is_absolute() and r.path.is_file() for r in data)


def test_one_file_whatever_its_suffix(root: Path) -> None:
    assert ids(root / "x" / "notes.txt") == ["notes.txt"]
    assert [r.id for r in open_files(str(root / "x" / "10.png"))] == ["10.png"]


def test_files_of_the_same_name_get_ids_of_their_own_in_the_given_order(root: Path) -> None:
    assert ids(root / "y" / "2.JPG", root / "x" / "2.JPG") == ["y/2.JPG", "x/2.JPG"]
    assert ids(root / "y", root / "x" / "deep") == ["y/2.JPG", "x/deep/1.tif"]


def test_a_file_named_twice_is_taken_once_and_noted(root: Path) -> None:
    data = open_files([root / "y" / "2.JPG", root / "x" / ".." / "y" / "2.JPG", root / "y"])
    assert [r.id for r in data] == ["2.JPG"]
    assert data.notes == ("2 files named more than once and taken once.",)


def test_relative_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "x")
    assert ids("10.png", "deep") == ["10.png", "deep/1.tif"]
    assert ids(".") == ["2.JPG", "7.mat", "10.png", "deep/1.tif"]


def test_a_link_that_leads_back_up_does_not_go_on_for_ever(root: Path) -> None:
    (root / "x" / "deep" / "up").symlink_to(root, target_is_directory=True)
    assert len(ids(root / "x")) == 4


def test_nothing_to_open_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="no files named"):
        open_files([])
    with pytest.raises(InputError, match="empty holds no images"):
        open_files(root / "empty")
    with pytest.raises(InputError, match=r"none.png does not exist"):
        open_files([root / "y", root / "none.png"])
