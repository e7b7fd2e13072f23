"""The report: what it says about a run made by hand, and that it needs nothing but its own file."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from gyrus.artifacts import stage_folder, write_json, write_manifest
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.evaluate import evaluate_run
from gyrus.maps import MapKey, Maps
from gyrus.page import pictures
from gyrus.page.words import NONE, number, percent, plural, span
from gyrus.predictions import Certainty, Predictions
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset
from gyrus.report import panels, write_report
from gyrus.report.comparison import Contest
from gyrus.report.gallery import _one_per_patient
from gyrus.report.source import SliceScore
from gyrus.report.words import kept_words, loss_words
from gyrus.splits import Grouping, holdout

THREE = ("glioma", "meningioma", "pituitary")
SPEC = Preprocess(size=32)
SHAPE = (40, 48)
MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose CAM points at every tumour, whose other maps do not, and which is sure of one wrong answer."""
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return read(write_report(run))


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Two classes, split record-wise, synthetic, one map blank and one not finite."""
    folder = tmp_path_factory.mktemp("flawed") / "run"
    return read(write_report(make_run(folder, THREE[:2], grouping="record-wise", title="Synthetic", broken=True)))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of other choices in training, and four slices refused."""
    training = {"epoch": 3, "choose": "last", "label_smoothing": 0.0, "class_weights": False}
    folder = tmp_path_factory.mktemp("other") / "run"
    return read(write_report(make_run(folder, refused=4, training=training)))


class TestFile:
    def test_is_in_the_run_and_is_never_overwritten(self, run: Path, page: Page) -> None:
        assert (run / "report.html").read_text(encoding="utf-8") == page.html
        with pytest.raises(InputError, match=r"report\.html already exists"):
            write_report(run)

    def test_goes_where_it_is_told_and_is_the_same_each_time(self, run: Path, page: Page, tmp_path: Path) -> None:
        out = write_report(run, out=tmp_path / "new" / "a.html")
        assert out == tmp_path / "new" / "a.html"
        assert out.read_text(encoding="utf-8") == page.html
        assert [p.name for p in out.parent.iterdir()] == ["a.html"]

    def test_asks_for_nothing_outside_itself(self, page: Page) -> None:
        assert all(v.startswith(("data:", "#")) for v in page.references), page.references
        assert not re.search("@import|@font-face", page.html)
        assert all(u.startswith("#") for u in re.findall(r"url\(([^)]*)\)", page.html))
        assert not {"script", "iframe", "object", "embed"} & set(page.tags)

    def test_does_not_import_torch(self, run: Path, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from gyrus.report import write_report;"
            f"write_report(Path({str(run)!r}), out=Path({str(tmp_path / 'a.html')!r}));"
            "print(sorted({'torch', 'torchvision', 'matplotlib.pyplot'} & set(sys.modules)))"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == "[]"

    def test_is_well_formed(self, page: Page) -> None:
        assert page.unclosed == []
        assert len(page.ids) == len(set(page.ids))
        assert {r[1:] for r in page.references if r.startswith("#")} <= set(page.ids)
        assert page.headings == sorted(page.headings, key=lambda h: h != 1)  # h1 first, and only one
        assert page.headings.count(1) == 1
        assert all(alt for alt in page.alts)
        assert page.tags.count("caption") == page.tags.count("table")


class TestWords:
    def test_split_comes_first(self, page: Page) -> None:
        first = "Split hand, holdout 0.5/0.25/0.25, seed 0, patient-wise: no patient is on both sides"
        assert page.text.startswith(first)
        assert not re.search("Record-wise|Synthetic", page.text)

    def test_headline_tells_who_is_ahead(self, page: Page) -> None:
        pattern = r"The best map, (\S+) for the predicted class, .*? share of (\S+) of the slices; .*?\)\."
        said = re.search(pattern, page.text)
        assert said is not None
        assert said.groups() == ("CAM", "1.000")
        assert "difference" in said[0]

    def test_figures_of_scores_are_on_the_page(self, run: Path, page: Page) -> None:
        scores = json.loads((run / "evaluate" / "scores.json").read_text())
        accuracy = scores["classification"]["slice"]["accuracy"]
        assert accuracy["value"] == pytest.approx(11 / 12)
        assert f"Accuracy per slice 0.917 {span(accuracy)}" in page.text
        for row in scores["localization"]["rows"]:
            assert number(row["metrics"]["all"]["iou_p95"]["value"]) in page.text
        assert all(f["name"].lower() in page.text.lower() for f in scores["floors"])

    def test_says_how_maps_are_shown_and_cut(self, page: Page) -> None:
        assert "positive part of the raw map" in page.text
        assert "scaled to its own maximum" in page.text
        assert "95th percentile" in page.text
        assert "Research software, not a medical device." in page.text

    def test_data_is_cited_with_its_faults(self, page: Page) -> None:
        assert "A. Author, 2020 <b>" in page.text  # escaped, not markup
        assert "One known fault." in page.text

    def test_the_confidently_wrong_slice_is_shown_with_both_maps(self, page: Page) -> None:
        assert "1 of 1 wrong predictions of 12 carry a probability above 0.95." in page.text
        case = page.text[page.text.index("Wrong, and sure of it") :]
        assert "map for meningioma" in case
        assert "map for glioma" in case
        assert "labelled glioma, predicted meningioma (0.9" in case


class TestFlawed:
    def test_record_wise_is_warned_of_before_anything_else(self, flawed: Page) -> None:
        warning = "Record-wise split: these figures are not evidence."
        assert flawed.text.index(warning) < flawed.text.index("In short")
        assert flawed.text.startswith("Split hand, holdout 0.5/0.25/0.25, seed 0, RECORD-WISE: slices of one patient")

    def test_synthetic_is_said(self, flawed: Page) -> None:
        assert flawed.text.index("Synthetic data.") < flawed.text.index("In short")
        assert "2 classes (glioma, meningioma)" in flawed.text

    def test_undefined_scores_and_blank_maps_are_counted(self, flawed: Page) -> None:
        assert "undefined on 1: non-finite map, 1 blank, 1 non-finite" in flawed.text


@pytest.mark.parametrize(("explained", "unreadable"), [(True, 0), (False, 2)])
def test_without_outlines(tmp_path: Path, explained: bool, unreadable: int) -> None:
    made = make_run(tmp_path / "run", outlined=False, explained=explained, unreadable=unreadable)
    page = read(write_report(made))
    assert "The data has no tumour outlines" in page.text
    assert "Sure and right" in page.text
    assert "Least sure" in page.text
    assert ("map for glioma" in page.text) == explained
    assert ("2 slices could not be read and are in no figure." in page.text) == (unreadable == 2)
    assert "Ceilings" not in page.text


class TestChoices:
    def test_what_training_did_is_said_and_nothing_else(self, other: Page, page: Page) -> None:
        assert "epoch 3 were kept, the last. The training loss is that of augmented slices, taken" in other.text
        assert "label smoothing" not in other.text
        assert "the weights of epoch 2 were kept, by the lowest validation loss." in page.text
        assert kept_words({"choose": "accuracy"}) == "by the highest validation accuracy"
        assert loss_words({"label_smoothing": 0.05, "class_weights": True}).endswith(
            "augmented slices under label smoothing and class weights"
        )
        assert loss_words({"class_weights": True, "frozen": True}).endswith("as they are under class weights")

    def test_a_refused_slice_has_a_reason_and_neither_class_nor_probability(self, other: Page) -> None:
        assert re.search(r"labelled \w+, refused: Upside down\. (IoU|no outline)", other.text)
        assert "predicted None" not in other.text
        assert "4 refused" in other.text
        assert "leave the refused ones out; all other figures" in other.text


class TestRefusals:
    @pytest.fixture
    def copy(self, run: Path, tmp_path: Path) -> Path:
        return shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))

    def test_unfinished_stages_are_named(self, copy: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nowhere does not exist"):
            write_report(tmp_path / "nowhere")
        (copy / "evaluate" / "run.json").unlink()
        with pytest.raises(InputError, match=r"evaluate has no run\.json, so the run in it did not finish"):
            write_report(copy)

    def test_moved_data_is_found_by_name_only(self, run: Path, copy: Path) -> None:
        manifest = json.loads((copy / "run.json").read_text())
        manifest["data"]["root"] = str(copy / "gone")
        write_json(copy / "run.json", manifest)
        with pytest.raises(InputError, match="not there any more: name its new place with --data"):
            write_report(copy)
        assert write_report(copy, data=run.parent / "data") == copy / "report.html"

    def test_damaged_scores_are_named(self, copy: Path) -> None:
        table = copy / "evaluate" / "localization.csv"
        table.write_text(table.read_text().replace("pointing", "painting", 1))
        with pytest.raises(InputError, match=r"localization\.csv is no table"):
            write_report(copy)
        (copy / "evaluate" / "scores.json").write_text('{"schema": "other/1"}')
        with pytest.raises(InputError, match=r"scores\.json is not of schema"):
            write_report(copy)
        assert not (copy / "report.html").exists()


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "ahead"), (-0.3, -0.1, "behind"), (-0.1, 0.1, "open"), (None, None, "open")]
)
def test_verdict_follows_the_interval(low: float | None, high: float | None, verdict: str) -> None:
    assert Contest({}, {}, {"value": 0.0, "low": low, "high": high, "groups": 9}, 6).verdict == verdict
    assert Contest({}, {}, {"value": 0.2, "low": 0.2, "high": 0.2, "groups": 1}, 6).verdict == "open"


def test_words_by_hand() -> None:
    assert [number(v) for v in (None, float("nan"), 0.12345, -0.2, -0.0001)] == [
        NONE,
        NONE,
        "0.123",
        f"{MINUS}0.200",
        "0.000",
    ]
    assert span({"low": 0.1, "high": 0.25}) == f"0.100{NONE}0.250"
    assert span({"low": -0.1, "high": 0.25}) == f"{MINUS}0.100 to 0.250"
    assert span({"low": None, "high": None}) == ""
    assert [percent(v) for v in (0.0076, 0.017, 0.123)] == ["0.76\u00a0%", "1.7\u00a0%", "12\u00a0%"]
    assert [plural(n, "slice") for n in (1, 2, 2451)] == ["1 slice", "2 slices", "2,451 slices"]


def test_one_slice_per_patient_then_filled_up() -> None:
    order = [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", "b")]
    assert _one_per_patient(order, 2) == ("1", "3")
    assert _one_per_patient(order, 4) == ("1", "2", "3", "4")
    assert _one_per_patient(order[:1], 4) == ("1",)


class TestPanels:
    def test_heat_is_the_positive_part_on_a_given_scale(self) -> None:
        placed = np.array([[-4.0, 0.0], [1.0, 2.0]], dtype=np.float32)
        table = panels._colours()
        own, shared = panels.heat_panel(placed), panels.heat_panel(placed, 4.0)
        corner = pictures.SIDE - 1
        assert own[0, 0].tolist() == own[0, corner].tolist() == table[0].tolist()
        assert own[corner, corner].tolist() == table[255].tolist()
        assert shared[corner, corner].tolist() == table[128].tolist()
        assert (panels.heat_panel(-np.ones((3, 3), dtype=np.float32)) == table[0]).all()
        assert (panels.heat_panel(np.full((3, 3), np.nan, dtype=np.float32)) == table[0]).all()

    def test_outlines_lie_on_the_edge_of_the_mask(self) -> None:
        mask = np.zeros((110, 110), dtype=bool)
        mask[30:80, 30:80] = True
        panel = np.zeros((pictures.SIDE, pictures.SIDE, 3), dtype=np.uint8)
        panels.draw_truth(panel, mask)
        drawn = np.argwhere((panel == panels.TRUTH).all(axis=2))
        assert drawn.min() in (59, 60, 61)
        assert drawn.max() in (158, 159, 160)
        assert not panel[80:140, 80:140].any()

    def test_narrow_slices_stand_in_the_middle_and_constant_ones_are_drawn(self) -> None:
        pixels = np.tile(np.linspace(100, 200, 50, dtype=np.float32), (100, 1))
        panel = pictures.slice_panel(pixels, (0.0, 100.0))
        assert panel.shape == (220, 220, 3)
        assert not np.delete(panel, np.s_[55:165], axis=1).any()
        assert panel[:, 160].min() > 200
        assert not pictures.slice_panel(np.full((9, 9), 7, dtype=np.float32), (0.5, 99.5)).any()

    @pytest.mark.parametrize("aspect", [3.0, 1 / 3])
    def test_pixels_that_are_not_square_are_drawn_in_proportion(self, aspect: float) -> None:
        pixels = np.full((60, 60), 100, dtype=np.float32)
        pixels[0] = 0
        mask = np.zeros((60, 60), dtype=bool)
        mask[20:40, 20:40] = True
        panel = pictures.slice_panel(pictures.squared(pixels, aspect), (0.0, 100.0))
        extent = np.ptp(np.argwhere(panel[:, :, 0] > 128), axis=0) + 1
        assert extent[0] / extent[1] == pytest.approx(aspect, rel=0.05)
        panels.draw_truth(panel, pictures.squared(mask, aspect))
        tall, wide = np.ptp(np.argwhere((panel == panels.TRUTH).all(axis=2)), axis=0) + 1
        assert tall / wide == pytest.approx(aspect, rel=0.1)
        assert pictures.squared(mask, 1.0) is mask

    def test_cut_keeps_what_is_above_the_percentile(self) -> None:
        ramp = np.arange(100, dtype=np.float32).reshape(10, 10)
        assert panels.kept_above(ramp).sum() == 5
        assert not panels.kept_above(np.zeros((4, 4), dtype=np.float32)).any()
        assert not panels.kept_above(np.full((4, 4), np.inf, dtype=np.float32)).any()

    def test_data_uri_holds_the_picture(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        png = np.frombuffer(base64.b64decode(pictures.data_uri(picture).split(",")[1]), dtype=np.uint8)
        assert (cv2.imdecode(png, cv2.IMREAD_COLOR)[:, :, ::-1] == picture).all()


def _score(patient: str, pointing: float) -> SliceScore:
    return SliceScore("s", patient, 0.01, pointing, 0.0, 0.0)


def make_run(
    folder: Path,
    classes: tuple[str, ...] = THREE,
    *,
    outlined: bool = True,
    explained: bool = True,
    grouping: Grouping = "patient",
    title: str = "Squares drawn by hand",
    unreadable: int = 0,
    refused: int = 0,
    broken: bool = False,
    training: dict[str, object] | None = None,
) -> Path:
    """Write a finished run beside its data: 4 patients of 4 slices per class, one bright square on each slice.

    The model is right on all test slices but the first, of which it is sure.
    """
    dataset = _write_data(folder.parent / "data", classes, outlined, title)
    split = holdout(dataset, (0.5, 0.25, 0.25), grouping=grouping)
    folder.mkdir()
    split.save(folder / "split.json")
    epochs = [f"{e},{1 / e},{1 - 0.5 / e},{1 - 0.6 / e},{1.1 / e},{1 - 0.6 / e},{1 - 0.7 / e}" for e in (1, 2, 3)]
    head = "epoch,train_loss,train_accuracy,train_macro_f1,val_loss,val_accuracy,val_macro_f1"
    (folder / "epochs.csv").write_text("\n".join([head, *epochs]) + "\n")
    (folder / "model").mkdir()
    described = {"architecture": "net", "classes": classes, "target_layer": "body", "pretrained": "none"}
    described |= {"licence": "none", "sha256": "ab" * 32, "preprocess": SPEC.model_dump()}
    described |= {"training": training or {"epoch": 2}}
    write_json(folder / "model" / "model.json", described)
    facts = {"seed": 0, "data": {"name": "manifest", "root": str(dataset.root), "fingerprint": dataset.fingerprint}}
    write_manifest(folder, "train", started=time.time(), arguments={"epochs": 3, "augment": {"flip": 0.5}}, facts=facts)

    test = dataset.select(split.test)
    facts = {"split": split.statement}
    with_spec = facts | {"preprocess": SPEC.model_dump()}
    with stage_folder(folder / "predict", "predict", arguments={"part": "test"}, facts=with_spec) as aside:
        predictions = _predict(test, classes, split.statement, unreadable)
        if refused:
            predictions = _refuse(predictions, refused)
        predictions.save(aside / "predictions.json")
    if explained:
        with stage_folder(folder / "explain", "explain", arguments={"part": "test"}, facts=facts) as aside:
            _explain(test, predictions, broken).save(aside)
    evaluate_run(folder)
    return folder


def _write_data(root: Path, classes: tuple[str, ...], outlined: bool, title: str) -> Dataset:
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    rows = [("file", "label", "patient", "outline")]
    for c in classes:
        for n in range(16):
            name, x, y = f"{c}-{n:02d}.png", *(int(v) for v in rng.integers(8, 28, 2))
            pixels = rng.integers(20, 60, SHAPE, dtype=np.uint8)
            pixels[y : y + 8, x : x + 8] = 220
            cv2.imwrite(str(root / name), pixels)
            corners = f"{x},{y} {x + 7},{y} {x + 7},{y + 7} {x},{y + 7}"
            rows.append((name, c, f"{c}-{n // 4}", corners if outlined else ""))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    info = {"name": "hand", "title": title, "citation": "A. Author, 2020 <b>", "faults": ["One known fault."]}
    (root / "dataset.json").write_text(json.dumps(info))
    return open_dataset(root)


def _predict(test: Dataset, classes: tuple[str, ...], statement: str, unreadable: int) -> Predictions:
    truth = [classes.index(str(r.label)) for r in test]
    logits = np.full((len(test), len(classes)), -1.0, dtype=np.float32)
    logits[np.arange(len(test)), truth] = 1 + np.arange(len(test)) / 10
    logits[0] = -4
    logits[0, (truth[0] + 1) % len(classes)] = 4
    status = ["ok"] * len(test)
    for i in range(len(test) - unreadable, len(test)):
        logits[i], status[i] = np.nan, "unreadable"
    columns = ([r.id for r in test], [str(r.path) for r in test], [r.patient for r in test], [r.label for r in test])
    return Predictions(
        classes,
        *(tuple(c) for c in columns),
        logits,
        tuple(status),
        tuple("" if s == "ok" else "damaged" for s in status),
        statement,
    )


def _refuse(made: Predictions, n: int) -> Predictions:
    """Return the same of a calibrated model that refuses the last n slices."""
    answered = len(made) - n
    sets = [(c,) for c in made.predicted[:answered]]
    certainty = Certainty(0.95, np.ones(len(made)), np.zeros(len(made)), (*sets, *[None] * n))
    status, reasons = (*made.status[:answered], *["refused"] * n), (*[""] * answered, *["Upside down."] * n)
    return replace(made, status=status, reasons=reasons, certainty=certainty)


def _explain(test: Dataset, predictions: Predictions, broken: bool) -> Maps:
    """Return CAM, the slice itself shrunk, so that it peaks in the square, and Grad-CAM, noise."""
    rng = np.random.default_rng(1)
    pixels = np.stack([cv2.copyMakeBorder(r.read().pixels, 4, 4, 0, 0, cv2.BORDER_CONSTANT) for r in test])
    blurred = [cv2.GaussianBlur(p, (0, 0), 3) for p in pixels]
    bright = np.stack([cv2.resize(p, (24, 24), interpolation=cv2.INTER_AREA) for p in blurred])
    noise = rng.normal(size=(len(test), 4, 4)).astype(np.float32)
    if broken:
        noise[0], noise[1, 0, 0] = 0.5, np.nan
    fine = ("ok",) * len(test)
    arrays, status = {}, {}
    for target in ("predicted", "true"):
        cam, gradcam = MapKey("cam", "body", target), MapKey("gradcam", "body", target)
        arrays |= {cam: bright, gradcam: noise}
        status |= {cam: fine, gradcam: ("blank", "non-finite", *fine[2:]) if broken else fine}
    likeliest = tuple(predictions.classes[int(row.argmax())] for row in predictions.logits)
    explained = {"predicted": likeliest, "true": tuple(str(r.label) for r in test)}
    return Maps(tuple(r.id for r in test), arrays, status, explained, SPEC)


@dataclass
class Page(HTMLParser):
    """The parts of a page that the tests look at."""

    html: str
    tags: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    alts: list[str | None] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()

    @property
    def text(self) -> str:
        """All words of the body, in order, a space between them."""
        return re.sub(r" ([;:,.)])", r"\1", re.sub(r"\s+", " ", " ".join(self.words))).replace("( ", "(").strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.references += [str(values[a]) for a in ("src", "href", "srcset", "poster") if a in values]
        self.alts += [values.get("alt")] if tag == "img" else []
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("img", "meta", "link", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)


def read(path: Path) -> Page:
    """Parse a report."""
    page = Page(path.read_text(encoding="utf-8"))
    page.unclosed += page.open
    return page
