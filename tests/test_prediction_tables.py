"""The table of ``gyrus predict``: one line per slice wherever there is room for it, and no two of them alike."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Gyrus

from gyrus.console import show
from gyrus.prediction_tables import common_folder
from gyrus.prediction_tables import predictions as table
from gyrus.predictions import Certainty, Predictions

CLASSES = ("glioma", "no_tumor")
FOUR = ("glioma", "meningioma", "no_tumor", "pituitary")
LONG = "BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz"


def shown(made: Predictions) -> str:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        show({}, as_json=False, quiet=False, tables=table(made))
    return stream.getvalue()


def cells(text: str) -> list[list[str]]:
    """Return the rows of what was printed, without the head."""
    return [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]


def head(text: str) -> list[str]:
    return next([c.strip() for c in line.split("┃")] for line in text.splitlines() if "┃" in line)


def predictions(n: int, statement: str = "", status: str = "ok") -> Predictions:
    logits = np.tile(np.float32([0.0, np.log(3.0)]), (n, 1))
    if n and status != "ok":
        logits[0] = np.nan
    return Predictions(
        classes=CLASSES,
        ids=tuple(f"{i}" for i in range(n)),
        files=tuple(f"{i}.png" for i in range(n)),
        patients=(None,) * n,
        labels=("glioma",) * n,
        logits=logits,
        status=("ok" if status == "ok" else "unreadable",) * min(n, 1) + ("ok",) * (n - 1),
        reasons=("" if status == "ok" else status,) * min(n, 1) + ("",) * (n - 1),
        statement=statement,
    )


class TestPredictions:
    def test_rows(self) -> None:
        text = shown(predictions(2, "how it was split"))
        assert text.startswith("how it was split\n")
        row = next(line for line in text.splitlines() if line.startswith("0.png"))
        assert [cell.strip() for cell in row.split("│")] == ["0.png", "no_tumor", "0.250", "0.750", "glioma"]

    def test_a_calibrated_model_says_set_status_and_reason(self) -> None:
        certainty = Certainty(0.95, np.ones(2), np.zeros(2), (("glioma", "no_tumor"), None))
        reasons = ("0.png: either", "1.png: strange")
        made = replace(predictions(2), status=("flagged", "refused"), reasons=reasons, certainty=certainty)
        text = shown(made)
        first, second = ([c.strip() for c in x.split("│")] for x in text.splitlines() if x[:5] in ("0.png", "1.png"))
        assert first == ["0.png", "no_tumor", "0.250", "0.750", "glioma, no_tumor", "flagged", "glioma"]
        assert second == ["1.png", "", "-", "-", "", "refused", "glioma"]
        assert "refused: 1.png: 1.png: strange" in text

    def test_slices_of_a_volume_are_told_apart(self) -> None:
        made = replace(
            predictions(3),
            ids=("sub/T1.nii.gz#axial-4", "sub/T1.nii.gz#axial-12", "odd#axial-3"),
            files=("x/sub/T1.nii.gz", "x/sub/T1.nii.gz", "x/odd#axial-3"),  # the last is a file of that name
            status=("flagged", "unreadable", "refused"),
            reasons=("either", "x/sub/T1.nii.gz is cut off", "strange"),
        )
        lines = shown(made).splitlines()
        assert lines[0] == "files in x:"
        assert [line.split("│")[0].strip() for line in lines if "│" in line] == [
            *("sub/T1.nii.gz#axial-4", "sub/T1.nii.gz#axial-12", "odd#axial-3"),
        ]
        assert lines[-3:] == [
            "unreadable: sub/T1.nii.gz#axial-12: x/sub/T1.nii.gz is cut off",
            "flagged: sub/T1.nii.gz#axial-4: either",
            "refused: odd#axial-3: strange",
        ]

    def test_unreadable_files_are_told_apart(self) -> None:
        text = shown(predictions(2, status="0.png is empty [0 bytes]"))
        row = next(line for line in text.splitlines() if line.startswith("0.png"))
        assert [cell.strip() for cell in row.split("│")] == ["0.png", "", "-", "-", "glioma"]
        assert text.endswith("unreadable: 0.png is empty [0 bytes]\n")

    @pytest.mark.parametrize(("n", "more"), [(40, 0), (41, 1), (57, 17)])
    def test_many(self, n: int, more: int) -> None:
        text = shown(predictions(n))
        assert text.count(".png") == 40
        assert (f"and {more} more" in text) == bool(more)
        assert not text.startswith("\n")

    def test_columns_that_say_nothing_are_left_out(self) -> None:
        unknown = replace(predictions(2), labels=(None, None))
        assert head(shown(unknown)) == ["file", "class", "p(glioma)", "p(no_tumor)"]
        certainty = Certainty(0.95, np.ones(2), np.zeros(2), (None, None))
        refused = replace(unknown, status=("refused",) * 2, reasons=("strange",) * 2, certainty=certainty)
        assert head(shown(refused)) == ["file", "status"]


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        (["/data/a/1.png", "/data/a/2.png"], "/data/a"),
        (["/data/a/1.png", "/data/ab/2.png", "/data/a/c/3.png"], "/data"),
        (["/data/1.png"], "/data"),
        (["sub/1.png", "sub/1.png"], "sub"),
        (["../a/1.png", "../b/2.png"], ".."),
        (["/a/1.png", "/b/2.png"], ""),
        (["/1.png"], ""),
        (["1.png", "sub/2.png"], ""),
        (["1.png"], ""),
        (["/data/1.png", "data/2.png"], ""),
        ([], ""),
    ],
)
def test_common_folder(files: list[str], folder: str) -> None:
    assert common_folder(files) == folder


def four(files: Sequence[str], ids: Sequence[str], **fields: Any) -> Predictions:
    """A calibrated table of four classes, whose last slice is refused and whose first leaves two classes."""
    n = len(files)
    sets = (("glioma", "meningioma"), *(("meningioma",),) * (n - 2), None)
    status = ("flagged", *("ok",) * (n - 2), "refused")
    outline = {"diameter": 56.2, "unit": "mm"}
    made = Predictions(
        classes=FOUR,
        ids=tuple(ids),
        files=tuple(files),
        patients=(None,) * n,
        labels=(None,) * n,
        logits=np.tile(np.log(np.float32([0.05, 0.9, 0.03, 0.02])), (n, 1)),
        status=status,
        reasons=tuple("" if s == "ok" else "why" for s in status),
        certainty=Certainty(0.95, np.ones(n), np.zeros(n), sets),
        outlines=(*(outline,) * (n - 1), None),
    )
    return replace(made, **fields)


class TestNarrowScreens:
    VOLUME = four([f"/data/brats/{LONG}"] * 4, [f"brats/{LONG}#axial-{n}" for n in (3, 80, 90, 154)])

    @pytest.fixture(autouse=True)
    def screen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")

    def rows(self, made: Predictions) -> list[list[str]]:
        text = shown(made)
        table = [line for line in text.splitlines() if "│" in line or "┃" in line or "━" in line]
        assert max(map(len, table)) <= int(os.environ["COLUMNS"])
        return cells(text)

    def test_a_slice_is_one_line_that_tells_it_from_all_others(self) -> None:
        rows = self.rows(self.VOLUME)
        assert [row[1:] for row in rows] == [
            ["meningioma", "0.900", "glioma, meningioma", "56 mm", "flagged"],
            ["meningioma", "0.900", "meningioma", "56 mm", "ok"],
            ["meningioma", "0.900", "meningioma", "56 mm", "ok"],
            ["", "-", "", "", "refused"],
        ]
        names = [row[0] for row in rows]
        assert len(set(names)) == 4
        assert all("…" in name and name.endswith(f"l-{n}") for name, n in zip(names, (3, 80, 90, 154), strict=True))

    def test_it_says_what_is_left_out_and_where_it_is(self) -> None:
        text = shown(self.VOLUME)
        assert head(text) == ["file", "class", "p", "set", "diameter", "status"]
        assert "\np is for that class; --json and --out hold p for all classes.\n" in text
        assert f"\nrefused: {Path(LONG).name}#axial-154: why\n" in text
        assert text.startswith(f"file in /data/brats/{Path(LONG).parent}:\n")

    def test_with_labels_there_is_no_room_for_diameters(self) -> None:
        labelled = replace(self.VOLUME, labels=("meningioma",) * 4)
        assert [len(row) for row in self.rows(labelled)] == [6] * 4
        assert head(shown(labelled)) == ["file", "class", "p", "set", "status", "label"]
        assert "p for all classes, and diameters." in shown(labelled)

    def test_sets_of_nearly_all_classes_say_what_can_be_left_out(self) -> None:
        assert self.VOLUME.certainty is not None
        sets = (FOUR, FOUR[1:], FOUR[:2], None)
        made = replace(self.VOLUME, certainty=replace(self.VOLUME.certainty, sets=sets))
        assert [row[3] for row in self.rows(made)] == ["all 4", "all but glioma", "glioma, meningioma", ""]

    def test_names_that_would_look_alike_are_whole(self) -> None:
        alike = [f"{'x' * 40}{n}{'y' * 40}.png" for n in "abcd"]
        rows = self.rows(four(alike, alike))
        assert "".join(row[0] for row in rows) == "".join(alike)

    def test_with_more_room_there_is_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "140")
        assert head(shown(self.VOLUME)) == ["file", "class", *(f"p({c})" for c in FOUR), "set", "diameter", "status"]
        assert [row[0] for row in self.rows(self.VOLUME)][1] != f"{Path(LONG).name}#axial-80"
        monkeypatch.setenv("COLUMNS", "200")
        assert [row[0] for row in self.rows(self.VOLUME)][1] == f"{Path(LONG).name}#axial-80"


def test_on_the_command_line(gyrus: Gyrus, tiny_phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((tiny_phantom / "images").iterdir())[:3]
    monkeypatch.setenv("COLUMNS", "80")
    said = gyrus("predict", *files, "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"files in {files[0].parent}:\nPredictions, calibrated\n")
    rows = cells(said.out)
    assert [row[0] for row in rows] == [file.name for file in files]
    document = json.loads(gyrus("predict", *files, "--device", "cpu", "--json").out)
    assert [row["file"] for row in document["rows"]] == [str(file) for file in files]
    assert [row["status"] for row in document["rows"]] == [row[-1] for row in rows]
    assert all(len(row["logits"]) == 4 for row in document["rows"])
