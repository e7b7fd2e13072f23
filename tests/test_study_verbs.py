"""``gyrus study`` as a user meets it: exit codes, the two streams, one document or one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commandline import Gyrus, in_its_own_process, tree
from studyroom import small_study, write_recipe

from gyrus.studies import list_studies

FIGURES = [
    {"kind": "curves", "title": "Curves", "of": ["one"]},
    {"kind": "gallery", "title": "Confident mistakes", "of": ["one"], "options": {"which": "sure"}},
]
TABLE = [{"label": "accuracy", "claimed": 0.98, "own": "two", "honest": "one:accuracy"}]
TRAININGS = {"one": small_study()["trainings"]["one"]}
TRAININGS["two"] = {**TRAININGS["one"], "protocol": "own"}
QUICK = {"quick": {"reduction": "Half of it.", "train": {"size": 40}}}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    return write_recipe(folder / "small.yaml", trainings=TRAININGS, figures=FIGURES, table=TABLE, scales=QUICK)


class TestList:
    def test_as_a_document(self, gyrus: Gyrus) -> None:
        studies = gyrus("study", "list", "--json").document("gyrus.studies/1")["studies"]
        assert [s["name"] for s in studies] == list(list_studies())
        assert all(set(s) == {"name", "title", "data", "scales"} for s in studies)
        assert all(s["scales"] == ["full", "quick", "desk"] for s in studies)

    def test_as_a_table(self, gyrus: Gyrus) -> None:
        said = gyrus("study", "list")
        assert (said.code, said.err) == (0, "")
        for name in list_studies():
            assert name in said.out
        assert gyrus("study", "list", "--quiet").out == ""


class TestShow:
    @pytest.mark.parametrize("name", list_studies())
    def test_as_a_document(self, gyrus: Gyrus, name: str) -> None:
        value = gyrus("study", "show", name, "--json").document("gyrus.recipe/1")
        assert value["name"] == name
        words = {"title", "question", "about", "changed", "data", "trainings", "analyses", "figures", "table", "scales"}
        assert words <= value.keys()
        assert value["steps"][-2:] == ["figures", "page"]
        assert all("kind" in analysis for analysis in value["analyses"].values())

    @pytest.mark.parametrize("name", list_studies())
    def test_as_tables(self, gyrus: Gyrus, name: str) -> None:
        value = gyrus("study", "show", name, "--json").document("gyrus.recipe/1")
        said = gyrus("study", "show", name)
        assert (said.code, said.err) == (0, "")
        for words in (value["title"], *value["steps"], *(row["label"] for row in value["table"]), *value["scales"]):
            assert words in said.out

    def test_of_a_file_with_next_to_nothing_in_it(self, gyrus: Gyrus, tmp_path: Path) -> None:
        file = write_recipe(tmp_path / "small.yaml")
        assert "A small study" in gyrus("study", "show", file).out
        value = gyrus("study", "show", file, "--json").document("gyrus.recipe/1")
        assert value["steps"] == ["one", "figures", "page"]

    def test_of_none(self, gyrus: Gyrus, tmp_path: Path) -> None:
        assert gyrus("study", "show", "cam-ion").refusal() == (
            "there is no study 'cam-ion' (did you mean 'cam-iou'?): choose of " + ", ".join(list_studies())
        )
        missing = tmp_path / "none.yaml"
        assert gyrus("study", "show", missing).refusal() == f"{missing} does not exist: name a study's YAML file"


class TestRun:
    def test_a_study_as_a_document(self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        words = ("study", "run", small, "--data", f"cheng={tiny_phantom}", "--out", out, "--device", "cpu")
        value = gyrus(*words, "--json").document("gyrus.study/1")
        (row,) = value["table"]
        assert (row["label"], row["claimed"]) == ("accuracy", 0.98)
        assert row["own_value"] == value["steps"]["two"]["values"]["accuracy"]
        assert row["honest_value"] == value["steps"]["one"]["values"]["accuracy"]
        assert value["minutes"] >= 0
        said = gyrus(*words)
        assert (said.code, said.err) == (0, "")
        assert f"page: {out / 'study.html'}" in said.out
        assert "0.98" in said.out
        assert gyrus(*words, "--quiet").out == ""

    def test_where_there_is_nothing_to_show_the_figure_says_so(
        self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path
    ) -> None:
        """A network of one step is sure of nothing."""
        out = tmp_path / "out"
        words = ("study", "run", small, "--data", f"cheng={tiny_phantom}", "--out", out, "--device", "cpu")
        value = gyrus(*words, "--json").document("gyrus.study/1")
        assert [d["file"] for d in value["figures"] if d["title"] == "Confident mistakes"] == [
            "confident-mistakes-1.svg"
        ]
        chart = (out / "figures" / "confident-mistakes-1.svg").read_text(encoding="utf-8")
        assert "one: sure answers, any class" in chart
        assert "nothing to show" in chart

    def test_without_an_out_it_is_called_after_study_and_scale(
        self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        said = gyrus("study", "run", small, "--data", f"cheng={tiny_phantom}", "--quick", "--device", "cpu")
        assert said.code == 0
        assert "scale quick: Half of it." in said.out
        assert "page: small-quick/study.html" in said.out
        assert (tmp_path / "small-quick" / "study.html").is_file()

    def test_one_step(self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        words = ("study", "run", small, "--data", f"cheng={tiny_phantom}", "--out", tmp_path / "out", "--device", "cpu")
        value = gyrus(*words, "--only", "one", "--json").document("gyrus.study/1")
        assert set(value) == {"schema", "name", "scale", "step", "values", "facts"}
        assert (value["name"], value["scale"], value["step"]) == ("small", "full", "one")
        assert "small: one" in gyrus(*words, "--only", "one").out

    def test_initial_weights_of_a_file(self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path) -> None:
        words = ("study", "run", small, "--data", f"cheng={tiny_phantom}", "--out", tmp_path / "out", "--device", "cpu")
        said = gyrus(*words, "--weights", f"vgg_tiny={tmp_path / 'none.pth'}")
        assert "none.pth" in said.refusal()

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("study run padowa --data .", "there is no study 'padowa' (did you mean 'padova'?)"),
            (
                "study run {small} --data {room} --scale quik",
                "small has no scale 'quik' (did you mean 'quick'?): choose",
            ),
            ("study run {small} --data {room} --quick --scale desk", "--quick is --scale quick: leave one of them out"),
            ("study run {small} --data {room} --only on", "small has no step 'on' (did you mean 'one'?): see `gyrus"),
            (
                "study run {small} --data {room}",
                "small needs cheng, which is not in {room}: say where it is with --data",
            ),
            ("study run {small} --data chang={room}", "small needs no dataset 'chang': it needs cheng"),
            ("study run {small} --data cheng={room}/no", "{room}/no, given as cheng, does not exist: check the path"),
            ("study run {small} --data cheng={room}", "{room} is an empty folder: put images into it"),
            ("study run {small} --data {room} --weights vgg16.pth", "--weights vgg16.pth names no architecture: say"),
            ("study run {small}", "Missing option '--data'"),
            ("study run {small} --data {room} --device gpu", "there is no device 'gpu'"),
            ("study ruin", "No such command 'ruin'"),
        ],
    )
    def test_bad_input_is_one_sentence(
        self, gyrus: Gyrus, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
    ) -> None:
        room = tmp_path / "room"
        room.mkdir()
        monkeypatch.chdir(tmp_path)
        before = tree(tmp_path)
        places = {"small": small, "room": room}
        refusal = gyrus(*(word.format(**places) for word in line.split())).refusal()
        assert refusal.startswith(said.format(**places))
        assert tree(tmp_path) == before

    def test_a_wrong_recipe_is_one_sentence(self, gyrus: Gyrus, tmp_path: Path) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text(yaml.safe_dump(small_study(trainigns={})), encoding="utf-8")
        said = gyrus("study", "run", file, "--data", tmp_path).refusal()
        assert said == f"{file}: trainigns is no key of a study (did you mean 'trainings'?)"

    def test_a_folder_of_something_else_is_refused(
        self, gyrus: Gyrus, small: Path, tiny_phantom: Path, tmp_path: Path
    ) -> None:
        words: tuple[Any, ...] = ("study", "run", small, "--data", f"cheng={tiny_phantom}")
        before = tree(small.parent)
        said = gyrus(*words, "--out", small.parent).refusal()
        assert said == f"{small.parent} already exists and is no study's folder: choose another --out"
        assert tree(small.parent) == before


def test_one_document_in_a_process_of_its_own() -> None:
    assert in_its_own_process("study", "list", "--json").document("gyrus.studies/1")["studies"]
