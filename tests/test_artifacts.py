"""Folders of results: whole or not there, manifest last, JSON that any reader takes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gyrus import __version__
from gyrus.artifacts import (
    MANIFEST,
    is_finished,
    read_json,
    read_manifest,
    refuse_existing,
    sha256,
    stage_folder,
    to_json,
    write_json,
    write_manifest,
)
from gyrus.errors import InputError


@dataclass(frozen=True, slots=True)
class Inner:
    value: float
    where: Path


@dataclass(frozen=True)
class Outer:
    inner: Inner
    pair: tuple[int, ...]


def strict(text: str) -> Any:
    """Parse JSON, refusing what RFC 8259 does not know."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_anything_becomes_strict_json() -> None:
    value = {
        "nan": math.nan,
        "infinite": [math.inf, -math.inf, np.float32(np.nan)],
        "array": np.array([[1.5, np.nan], [2.0, 3.0]], dtype=np.float32),
        "numbers": [np.int64(3), np.float64(0.25), np.bool_(True), True, 7, None],
        "nested": Outer(Inner(np.nan, Path("a/b")), (1, 2)),
        3: "a key that is no text",
        "letters": "Größe",
    }
    assert strict(to_json(value)) == {
        "nan": None,
        "infinite": [None, None, None],
        "array": [[1.5, None], [2.0, 3.0]],
        "numbers": [3, 0.25, True, True, 7, None],
        "nested": {"inner": {"value": None, "where": "a/b"}, "pair": [1, 2]},
        "3": "a key that is no text",
        "letters": "Größe",
    }
    with pytest.raises(TypeError):
        to_json({"a": object()})


def test_writing_replaces_a_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path, "a test") == {"a": 2}
    with pytest.raises(TypeError):
        write_json(path, object())
    assert read_json(path, "a test") == {"a": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_unreadable_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json does not exist: name a split"):
        read_json(tmp_path / "none.json", "a split")
    for content in (b"{", b"\xff\xfe\x00", b""):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.json is not a split: it is not readable JSON"):
            read_json(tmp_path / "bad.json", "a split")
    with pytest.raises(InputError, match="is not a split"):
        read_json(tmp_path, "a split")


def test_a_stage_leaves_its_folder_and_a_manifest(tmp_path: Path) -> None:
    out = tmp_path / "results" / "explain"
    with stage_folder(
        out, "explain", arguments={"part": "test", "seed": np.int64(3)}, facts={"split": "by patient"}
    ) as folder:
        assert folder != out
        assert not out.exists()
        assert not is_finished(folder)
        (folder / "a.txt").write_text("abc")
        (folder / "deeper").mkdir()
        (folder / "deeper" / MANIFEST).write_text("{}")
    assert is_finished(out)
    assert [p.name for p in out.parent.iterdir()] == ["explain"]
    manifest = read_manifest(out)
    assert manifest["schema"] == "gyrus.run/1"
    assert (manifest["stage"], manifest["gyrus"]) == ("explain", __version__)
    assert manifest["arguments"] == {"part": "test", "seed": 3}
    assert manifest["split"] == "by patient"
    assert manifest["packages"]["numpy"] == np.__version__
    assert manifest["seconds"] >= 0
    assert manifest["started"].endswith("+00:00")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert manifest["outputs"]["a.txt"] == {"bytes": 3, "sha256": digest}
    assert list(manifest["outputs"]) == ["a.txt", f"deeper/{MANIFEST}"]
    assert sha256(out / "a.txt") == digest


def test_a_finished_stage_is_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with stage_folder(out, "train", arguments={}) as folder:
        (folder / "a").write_text("first")
    with (
        pytest.raises(InputError, match=r"out already exists: choose another --out"),
        stage_folder(out, "train", arguments={}),
    ):
        pytest.fail("the block must not run")
    assert (out / "a").read_text() == "first"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file already exists"):
        refuse_existing(tmp_path / "file")
    refuse_existing(tmp_path / "free")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stage_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with stage_folder(tmp_path / "out", "train", arguments={}) as folder:
            (folder / "a").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError), stage_folder(tmp_path / "out", "train", arguments={"a": object()}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_or_missing_run_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist: run the gyrus command that makes it"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no run\.json, so the run in it did not finish"):
        read_manifest(tmp_path)
    write_manifest(tmp_path, "train", started=0.0, arguments={}, facts={})
    assert read_manifest(tmp_path)["started"] == "1970-01-01T00:00:00+00:00"
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match="is not a run manifest"):
        read_manifest(tmp_path)


def test_a_package_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gyrus.artifacts._PACKAGES", ("numpy", "no-such-package-anywhere"))
    write_manifest(tmp_path, "train", started=0.0, arguments={}, facts={})
    assert read_manifest(tmp_path)["packages"] == {"numpy": np.__version__}
