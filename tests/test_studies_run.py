"""All five studies from end to end on synthetic slices, and what a study's folder may be asked for afterwards."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commandline import Gyrus, tree
from studyroom import SMOKE, small_study, with_smoke, write_collections, write_recipe

from gyrus.artifacts import is_finished, read_manifest
from gyrus.errors import InputError
from gyrus.page.words import number
from gyrus.phantom import make_phantom
from gyrus.studies import list_studies, run_study
from gyrus.studies.recipe import Recipe, load_recipe

DOCUMENT = {
    "schema", "name", "title", "question", "about", "changed", "scale", "reduction", "synthetic", "data", "table",
    "steps", "figures", "minutes", "seconds_now",
}  # fmt: skip
KINDS = {"training", "pair", "board", "maps", "temperature", "planes", "joint"}
PICTURES = {"balance", "samples", "augmentation", "crop", "gallery", "sweep"}
CHARTS = {"curves", "spread", "confusion", "answers"}


@dataclass(frozen=True)
class Ran:
    """A study that was run once.

    Attributes:
        file: its recipe, with the scale "smoke".
        data: the folder of its datasets.
        out: what it was run into.
        value: what the run returned.
        told: what was said to the progress callback.
    """

    file: Path
    data: Path
    out: Path
    value: dict[str, Any]
    told: list[tuple[str, int, int]]

    @property
    def recipe(self) -> Recipe:
        return load_recipe(self.file)


class Page(HTMLParser):
    """What a page asks for, and what is on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.asked += [str(named[k]) for k in ("src", "href", "xlink:href", "action", "data") if k in named]
        self.ids += [str(named["id"])] if "id" in named else []


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def collections(tiny_phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    people = make_phantom(folder / "people", patients=20, slices_per_plane=1, size=96, seed=7)
    return write_collections(people, tiny_phantom, folder / "data")


@pytest.fixture(scope="module")
def run(collections: Path, one_thread: None) -> Callable[[str], Ran]:
    """Run a study by its name, once. Look, do not touch."""
    done: dict[str, Ran] = {}

    def once(name: str) -> Ran:
        if name not in done:
            file, out = collections.parent / f"{name}.yaml", collections.parent / f"out-{name}"
            file.write_text(yaml.safe_dump(with_smoke(name), sort_keys=False), encoding="utf-8")
            told: list[tuple[str, int, int]] = []
            value = run_study(
                str(file), [str(collections)], out, scale="smoke", device="cpu",
                progress=lambda *call: told.append(call),
            )  # fmt: skip
            done[name] = Ran(file, collections, out, value, told)
        return done[name]

    return once


@pytest.fixture(params=list_studies())
def ran(request: pytest.FixtureRequest, run: Callable[[str], Ran]) -> Ran:
    return run(request.param)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def figure_of(ran: Ran, reference: str) -> dict[str, Any]:
    step, _, name = reference.partition(":")
    return dict(ran.value["steps"][step]["values"][name])


class TestSmoke:
    def test_the_document_is_whole_and_strict(self, ran: Ran) -> None:
        value = json.loads((ran.out / "study.json").read_text(encoding="utf-8"), parse_constant=refuse)
        assert value == ran.value
        assert value.keys() == DOCUMENT
        assert (value["schema"], value["scale"]) == ("gyrus.study/1", "smoke")
        assert value["synthetic"] == ("cheng" in ran.recipe.data)  # which says of itself that it is
        assert value["data"].keys() == {*ran.recipe.data, *ran.recipe.derived}
        assert all(d["slices"] == sum(d["classes"].values()) for d in value["data"].values())

    def test_every_step_was_done(self, ran: Ran) -> None:
        recipe = ran.recipe
        assert list(ran.value["steps"]) == [*recipe.trainings, *recipe.analyses]
        for name, step in ran.value["steps"].items():
            kind = "training" if name in recipe.trainings else recipe.analyses[name].kind
            assert step["facts"]["kind"] == kind
            for figure in step["values"].values():
                assert figure.keys() == {"value", "low", "high", "n", "groups"}
                assert figure["low"] is None or figure["low"] <= figure["high"]

    def test_every_row_has_what_its_recipe_names(self, ran: Ran) -> None:
        assert [row["label"] for row in ran.value["table"]] == [row.label for row in ran.recipe.table]
        for row, plan in zip(ran.value["table"], ran.recipe.table, strict=True):
            for reference, found in ((plan.own, row["own_value"]), (plan.honest, row["honest_value"])):
                assert found == (None if reference is None else figure_of(ran, reference))
                if reference is not None and reference.endswith("accuracy"):
                    assert 0 <= found["value"] <= 1
                if reference is not None and reference.endswith(":accuracy"):
                    assert found["low"] <= found["value"] <= found["high"]

    def test_every_training_says_how_it_was_made(self, ran: Ran) -> None:
        for name, plan in ran.recipe.trainings.items():
            facts = ran.value["steps"][name]["facts"]
            assert facts["protocol"] == plan.protocol
            assert facts["record_wise"] == (plan.protocol == "own")
            assert ("record-wise (patients cross)" in facts["statement"]) == facts["record_wise"]
            assert facts["seeds"] == len(facts["accuracy_by_seed"])
            assert facts["runs"] == facts["seeds"] * (1 if plan.split.folds is None else 2)
            assert sum(map(sum, facts["confusion"])) > 0
            wanted = {**ran.recipe.train, **plan.train}["model"]
            assert facts["in_place_of"] == (None if facts["model"] == wanted else wanted)

    def test_a_row_that_names_an_architecture_says_what_was_in_its_place(self, ran: Ran) -> None:
        told = {row["label"]: row["stand_in"] for row in ran.value["table"] if row["stand_in"]}
        expected = {
            "cam-iou": {"accuracy, VGG16": "vgg_tiny", "accuracy, VGG19": "vgg_tiny"},
            "cam-attention": {f"{part} accuracy, ResNet50": "mobilenetv2_100" for part in ("test", "validation")},
            "padova": {"accuracy, EfficientNetB2": "mobilenetv2_100", "accuracy, VGG16 frozen": "vgg_tiny"},
            "bratum": {},
        }
        if ran.recipe.name in expected:
            assert told == expected[ran.recipe.name]
        for label, name in told.items():
            assert f"{label} <small>{name} in its place</small>" in (ran.out / "study.html").read_text("utf-8")

    def test_every_figure_is_drawn(self, ran: Ran) -> None:
        drawn = ran.value["figures"]
        assert list(dict.fromkeys(d["title"] for d in drawn)) == [f.title for f in ran.recipe.figures]
        assert len({d["file"] for d in drawn}) == len(drawn)
        starts = {".svg": b"<?xml", ".png": b"\x89PNG\r\n"}
        for one in drawn:
            path = ran.out / "figures" / one["file"]
            assert path.read_bytes().startswith(starts[path.suffix])

    def test_the_page_needs_nothing_else(self, ran: Ran) -> None:
        text = (ran.out / "study.html").read_text(encoding="utf-8")
        page = Page(text)
        assert not {"script", "iframe", "object", "embed", "form"} & set(page.tags)
        assert all(asked.startswith(("#", "data:")) for asked in page.asked)
        assert not re.search(r"url\((?!#|'?data:)|@import| on\w+=", text)
        assert len(page.ids) == len(set(page.ids))
        assert {a.removeprefix("#") for a in page.asked if a.startswith("#")} <= set(page.ids)
        assert page.tags.count("img") == sum(d["file"].endswith(".png") for d in ran.value["figures"])

    def test_the_page_says_everything(self, ran: Ran) -> None:
        said = html.unescape((ran.out / "study.html").read_text(encoding="utf-8"))
        for title in (f.title for f in ran.recipe.figures):
            assert f"<h3>{title}</h3>" in said
        for row in ran.recipe.table:
            assert re.search(f'<th scope="row">{re.escape(row.label)}(</th>| <small>)', said)
            assert row.claimed is None or f"<b>{number(row.claimed)}</b>" in said
        assert ("Synthetic data." in said) == ran.value["synthetic"]
        for words in (ran.value["title"], ran.value["question"], ran.value["changed"], SMOKE["reduction"]):
            assert words in said
        assert "None" not in re.sub(r"<[^>]*>", " ", said)
        assert not re.search(r"\bnan\b|\{\{|\}\}", re.sub(r"<[^>]*>", " ", said))

    def test_the_manifest_is_written_last(self, ran: Ran) -> None:
        outputs = read_manifest(ran.out)["outputs"]
        figures = {f"figures/{d['file']}" for d in ran.value["figures"]}
        assert {"study.json", "study.html", "recipe.json", *figures} <= outputs.keys()
        files = [p for p in ran.out.rglob("*") if p.is_file()]
        assert max(files, key=lambda p: p.stat().st_mtime_ns) == ran.out / "run.json"
        assert outputs.keys() == {p.relative_to(ran.out).as_posix() for p in files} - {"run.json"}

    def test_progress_is_told_step_by_step(self, ran: Ran) -> None:
        steps = len(ran.recipe.trainings) + len(ran.recipe.analyses)
        assert [call for call in ran.told if call[0] == "study"] == [("study", n, steps) for n in range(steps)]
        assert all(0 <= done <= total for _, done, total in ran.told)

    def test_again_nothing_is_trained_and_the_table_is_the_same(self, ran: Ran, gyrus: Gyrus) -> None:
        before = tree(ran.out / "trainings", ran.out / "analyses", ran.out / "data")
        words = ("study", "run", ran.file, "--data", ran.data, "--scale", "smoke", "--out", ran.out, "--device", "cpu")
        value = gyrus(*words, "--json").document("gyrus.study/1")
        assert tree(ran.out / "trainings", ran.out / "analyses", ran.out / "data") == before
        assert {k: v for k, v in value.items() if k != "seconds_now"} == {
            k: v for k, v in ran.value.items() if k != "seconds_now"
        }


def test_together_they_do_everything_a_recipe_can_ask_for() -> None:
    studies = [with_smoke(name) for name in list_studies()]
    kinds = {a["kind"] for s in studies for a in s["analyses"].values()} | {"training"}
    assert kinds == KINDS
    assert {f["kind"] for s in studies for f in s["figures"]} == PICTURES | CHARTS


class TestFound:
    """What the slices were made for: what each study must have seen in them."""

    def test_copies_are_left_out_of_the_transfer(self, run: Callable[[str], Ran]) -> None:
        padova = run("padova").value
        data = padova["data"]
        assert (data["navoneel-all"]["slices"], data["navoneel-new"]["slices"]) == (52, 48)
        assert padova["steps"]["transfer-own"]["facts"]["slices"]["test"] == [52, 52]
        assert padova["steps"]["transfer-honest"]["facts"]["slices"]["test"] == [48, 48]
        assert data["enlarged"]["slices"] == data["persons"]["slices"] + 2 * 10

    def test_other_planes_of_the_same_persons_are_no_test(self, run: Callable[[str], Ran]) -> None:
        """Four persons have no axial slice, and of each a sagittal and a coronal one."""
        steps = run("padova").value["steps"]
        assert steps["axial-own"]["facts"]["slices"]["test"] == [40, 40]
        assert steps["axial-honest"]["facts"]["slices"]["test"] == [8, 8]
        assert steps["axial-honest"]["facts"]["groups"] == 4

    def test_persons_are_known_from_the_other_collection(self, run: Callable[[str], Ran]) -> None:
        for name in ("bratum", "mrimaster", "padova"):
            data = run(name).value["data"]
            assert (data["sartaj"]["slices"], data["sartaj"]["groups"]) == (56, 56)
            assert (data["persons"]["slices"], data["persons"]["groups"]) == (56, 20)

    def test_maps_are_of_persons_who_are_new(self, run: Callable[[str], Ran]) -> None:
        """Five persons have a pituitary tumour; those trained and validated on are copies of sartaj's."""
        bratum = run("bratum")
        for name, step in (("combined-honest", "left-pituitary-combined"), ("left-honest", "left-pituitary-left")):
            (split,) = (bratum.out / "trainings").glob(f"{name}-*/seed-0/fold-1/split.json")
            parts = json.loads(split.read_text())["parts"]
            learned = {re.findall(r"P\d+", i)[0] for part in ("train", "val") for i in parts[part]}
            pituitary = {r.split("-")[0] for r in people_with(bratum.data, "pituitary")}
            assert bratum.value["steps"][step]["facts"]["slices"] == len(pituitary - learned) > 0

    def test_copies_made_before_the_split(self, run: Callable[[str], Ran]) -> None:
        value = run("cam-attention").value
        navoneel, copies = (value["data"][n]["classes"] for n in ("navoneel", "copies"))
        assert copies == {"no_tumor": 3 * navoneel["no_tumor"], "tumor": 2 * navoneel["tumor"]}
        own, honest = (value["steps"][f"attention-{p}"]["facts"]["slices"]["test"] for p in ("own", "honest"))
        assert own[0] > 2 * honest[1] * 0.8
        assert value["steps"]["attention-minus-plain"]["facts"]["paired"]
        assert value["steps"]["attention-own"]["facts"]["seeds"] == 2

    def test_a_teacher_of_synthetic_slices_guides(self, run: Callable[[str], Ran]) -> None:
        ran = run("cam-iou")
        (teacher,) = (ran.out / "trainings").glob("teacher-*/seed-0/fold-1")
        folds = sorted((ran.out / "trainings").glob("taught-honest-*/seed-0/fold-*"))
        assert len(folds) == 2
        for fold in folds:
            recipe = json.loads((fold / "config.json").read_text())
            assert recipe["guide"] == str(teacher)
            told = json.loads((fold / "model" / "model.json").read_text())["training"]
            assert told["guide"] == "model"
            assert told["teacher"]["data"] == "phantom"
            assert told["synthetic"]["patients"] == 16
        assert ran.value["data"]["synthetic"]["groups"] == 16
        assert ran.value["steps"]["taught-honest"]["facts"]["slices"]["test"] == [60 // 2] * 2

    def test_maps_stand_beside_floors_and_a_ceiling(self, run: Callable[[str], Ran]) -> None:
        values = run("cam-iou").value["steps"]["vgg16-maps"]["values"]
        ceiling = values["ceiling:area:iou@percentile:95"]
        assert 0 < values["chosen:rule:iou@learned"]["value"] < 1
        assert values["cam:iou@percentile:95"]["value"] <= ceiling["value"] < 1
        assert ceiling["n"] == 45  # slices with a tumour
        assert ceiling["groups"] == 15
        assert values["best:pointing"]["value"] >= values["cam:pointing"]["value"]


def people_with(data: Path, label: str) -> set[str]:
    rows = (data / "cheng" / "manifest.csv").read_text().splitlines()
    return {row.split("/")[1] for row in rows if f",{label}," in row}


class TestOnly:
    def test_one_step_says_what_the_study_says(self, run: Callable[[str], Ran]) -> None:
        ran = run("mrimaster")
        before = (ran.out / "study.json").read_bytes()
        for step in ("small-honest", "small-certainty"):
            value = run_study(str(ran.file), [str(ran.data)], ran.out, scale="smoke", only=step, device="cpu")
            said = {"schema": "gyrus.study/1", "name": "mrimaster", "scale": "smoke", "step": step}
            assert value == said | ran.value["steps"][step]
        assert (ran.out / "study.json").read_bytes() == before

    def test_one_step_with_what_it_needs_and_nothing_else(
        self, run: Callable[[str], Ran], gyrus: Gyrus, tmp_path: Path
    ) -> None:
        ran = run("mrimaster")
        words = ("study", "run", ran.file, "--data", ran.data, "--scale", "smoke", "--out", tmp_path / "o")
        said = gyrus(*words, "--device", "cpu", "--only", "small-certainty")
        assert (said.code, said.err) == (0, "")
        assert "confident_errors:before" in said.out
        assert [re.sub("-[0-9a-f]{8}$", "", p.name) for p in (tmp_path / "o" / "trainings").iterdir()] == [
            "small-honest"
        ]
        assert not is_finished(tmp_path / "o")
        assert not (tmp_path / "o" / "study.html").exists()

    def test_no_such_step(self, run: Callable[[str], Ran], tmp_path: Path) -> None:
        ran = run("mrimaster")
        with pytest.raises(InputError, match=r"no step 'smal-gap' \(did you mean 'small-gap'\?\): see `gyrus study"):
            run_study(str(ran.file), [str(ran.data)], tmp_path / "o", scale="smoke", only="smal-gap")
        assert not (tmp_path / "o").exists()


class TestFolder:
    """What is refused, and that it is refused before anything is written."""

    @pytest.fixture
    def small(self, tmp_path: Path) -> Path:
        return write_recipe(tmp_path / "small.yaml")

    def refused(self, small: Path, data: Path, out: Path, **options: Any) -> str:
        before = tree(out.parent)
        with pytest.raises(InputError) as refusal:
            run_study(str(small), [str(data)], out, device="cpu", **options)
        assert tree(out.parent) == before
        return str(refusal.value)

    def test_of_another_study_or_scale(self, run: Callable[[str], Ran], small: Path) -> None:
        ran = run("mrimaster")
        said = f"{ran.out} is of the study mrimaster at scale smoke: choose another --out"
        assert self.refused(small, ran.data, ran.out) == said
        assert self.refused(ran.file, ran.data, ran.out, scale="quick") == said

    def test_foreign(self, collections: Path, small: Path, tmp_path: Path) -> None:
        said = "{} already exists and is no study's folder: choose another --out"
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "letter.txt").write_text("Dear Sir")
        assert self.refused(small, collections, folder) == said.format(folder)
        assert self.refused(small, collections, folder / "letter.txt") == said.format(folder / "letter.txt")
        for mark in ("{}", "[]", "3", '{"name": "small"}'):
            (folder / "recipe.json").write_text(mark)
            assert self.refused(small, collections, folder) == said.format(folder)
        (folder / "recipe.json").write_text("not JSON")
        assert "is not a study's mark" in self.refused(small, collections, folder)

    def test_an_empty_one_is_taken(self, collections: Path, small: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        run_study(str(small), [str(collections)], tmp_path / "empty", device="cpu")
        assert is_finished(tmp_path / "empty")

    def test_a_wrong_option_of_a_figure_is_met_before_anything_is_trained(
        self, collections: Path, tmp_path: Path
    ) -> None:
        figures = [{"kind": "gallery", "title": "Wrong", "of": ["one"], "options": {"whch": "wrong"}}]
        file = write_recipe(tmp_path / "small.yaml", figures=figures)
        with pytest.raises(InputError, match=r"figure 'Wrong' \(gallery\): .*'whch': correct its options"):
            run_study(str(file), [str(collections)], tmp_path / "out", device="cpu")
        assert not (tmp_path / "out" / "trainings").exists()

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({"analyses": {"look": {"kind": "maps", "of": "one", "layer": "net.stage"}}}, "look"),
            ({"analyses": {"look": {"kind": "joint", "of": "one", "layers": ["body", "net.stage"]}}}, "look"),
            ({"analyses": {"look": {"kind": "board", "of": "one", "methods": ["cam"], "layers": "net.stage"}}}, "look"),
            (
                {"figures": [{"kind": "gallery", "title": "Seen", "of": ["one"], "options": {"layer": "net.stage"}}]},
                "figure 'Seen'",
            ),
        ],
        ids=["maps", "joint", "board", "figure"],
    )
    def test_a_layer_that_is_not_there_is_met_before_anything_is_trained(
        self, collections: Path, tmp_path: Path, changes: dict[str, Any], where: str
    ) -> None:
        file = write_recipe(tmp_path / "small.yaml", **changes)
        with pytest.raises(InputError, match=f"^{where} looks at one: the model has no layer 'net.stage'"):
            run_study(str(file), [str(collections)], tmp_path / "out", device="cpu")
        assert not (tmp_path / "out" / "trainings").exists()

    def test_layers_of_what_is_skipped_are_not_asked_for(self, collections: Path, tmp_path: Path) -> None:
        analyses = {"look": {"kind": "maps", "of": "one", "layer": "net.stage"}}
        scales = {"less": {"reduction": "No maps.", "skip": ["look"]}}
        file = write_recipe(tmp_path / "small.yaml", analyses=analyses, scales=scales)
        run_study(str(file), [str(collections)], tmp_path / "out", scale="less", device="cpu")
        assert is_finished(tmp_path / "out")

    def test_weights_of_no_network(self, collections: Path, small: Path, tmp_path: Path) -> None:
        said = self.refused(small, collections, tmp_path / "out", weights={"vgg91": "vgg19.pth"})
        assert said == ("there is no architecture 'vgg91' (did you mean 'vgg19'?): small at scale full trains vgg_tiny")

    def test_a_network_too_large_for_its_slices(self, collections: Path, tmp_path: Path) -> None:
        train = {**small_study()["train"], "model": "alexnet", "size": 48}
        file = write_recipe(tmp_path / "small.yaml", train=train)
        with pytest.raises(InputError, match=r"alexnet has no feature map of 48 px: give it 63 px or more"):
            run_study(str(file), [str(collections)], tmp_path / "out", device="cpu")

    def test_a_skipped_step_is_not_run_and_its_figures_are_left_out(self, collections: Path, tmp_path: Path) -> None:
        one = small_study()["trainings"]["one"]
        file = write_recipe(
            tmp_path / "small.yaml",
            trainings={"one": one, "two": {**one, "protocol": "own"}},
            analyses={"gap": {"kind": "pair", "a": "one", "b": "two"}},
            figures=[
                {"kind": "curves", "title": "Both", "of": ["one", "two"]},
                {"kind": "confusion", "title": "Second", "of": ["two"]},
            ],
            table=[{"label": "accuracy", "own": "two:accuracy", "honest": "one"}, {"label": "gap", "own": "gap"}],
            scales={"less": {"reduction": "One of two.", "skip": ["two", "gap"]}},
        )
        value = run_study(str(file), [str(collections)], tmp_path / "out", scale="less", device="cpu")
        assert list(value["steps"]) == ["one"]
        assert {d["title"] for d in value["figures"]} == {"Both"}
        first, second = value["table"]
        assert (first["own_value"], second["own_value"]) == (None, None)
        assert first["honest_value"] == value["steps"]["one"]["values"]["accuracy"]
        page = (tmp_path / "out" / "study.html").read_text(encoding="utf-8")
        assert page.count("not run") == 2
        assert "One of two." in page

    def test_a_study_that_was_stopped_goes_on(self, collections: Path, tmp_path: Path) -> None:
        class StopError(Exception):
            """Raised from the progress callback."""

        def stop(what: str, done: int, total: int) -> None:
            if (what, done) == ("study", 1):
                raise StopError

        one = {"data": "cheng", "protocol": "honest", "split": {"fractions": [0.5, 0.25, 0.25]}}
        file = write_recipe(tmp_path / "small.yaml", trainings={"one": one, "two": {**one, "train": {"dropout": 0.5}}})
        with pytest.raises(StopError):
            run_study(str(file), [str(collections)], tmp_path / "stopped", device="cpu", progress=stop)
        assert not is_finished(tmp_path / "stopped")
        (first,) = (tmp_path / "stopped" / "trainings").iterdir()
        before = tree(first)
        stopped = run_study(str(file), [str(collections)], tmp_path / "stopped", device="cpu")
        assert tree(first) == before
        whole = run_study(str(file), [str(collections)], tmp_path / "whole", device="cpu")
        assert {k: s["values"] for k, s in stopped["steps"].items()} == {
            k: s["values"] for k, s in whole["steps"].items()
        }
