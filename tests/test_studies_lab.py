"""The datasets of a study: found where they are, made from one another, and grouped by whose slices they are."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from handmade_slices import write_png
from studyroom import lab_of, small_study, write_nameless, write_yes_no

from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.io.masks import OutlineMask
from gyrus.records import Dataset
from gyrus.studies.lab import Datasets, digest_outlines, find_roots
from gyrus.studies.recipe import Recipe

THREE = Recipe.model_validate(small_study(data=["sartaj", "cheng", "navoneel"]))


def mirrored(pixels: np.ndarray) -> np.ndarray:
    """Return a slice as another collection took it over."""
    return np.rint(0.8 * pixels[:, ::-1]).astype(np.uint8)


@pytest.fixture(scope="module")
def phantom(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


@pytest.fixture(scope="module")
def nameless(phantom: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Under names of its own: the slices of the phantom's first four patients, changed, and two slices of its own."""
    people = sorted({str(r.patient) for r in phantom})[:4]
    taken = [replace(r, id=f"s{i}.png") for i, r in enumerate(r for r in phantom if r.patient in people)]
    folder = tmp_path_factory.mktemp("lab") / "sartaj"
    write_nameless(replace(phantom, records=tuple(taken)), folder, mirrored)
    rng = np.random.default_rng(0)
    with (folder / "manifest.csv").open("a", encoding="utf-8") as file:
        for name in ("own-1.png", "own-2.png"):
            coarse = rng.integers(0, 255, (6, 6), dtype=np.uint8)
            write_tiles(folder / name, coarse)
            file.write(f"{name},glioma,axial\n")
    return folder


def write_tiles(path: Path, coarse: np.ndarray) -> None:
    """Write a picture that resembles no head and no other such picture."""
    write_png(path, np.kron(coarse, np.ones((16, 16), dtype=np.uint8)))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three empty ones, called like the datasets."""
    room = tmp_path_factory.mktemp("room")
    for name in THREE.data:
        (room / name).mkdir()
    return room


class TestRoots:
    def test_a_folder_that_holds_them_by_name(self, room: Path) -> None:
        assert find_roots(THREE, (str(room),)) == {name: room / name for name in THREE.data}

    def test_each_by_name(self, room: Path, tmp_path: Path) -> None:
        given = tuple(f"{name}={tmp_path}" for name in THREE.data)
        assert find_roots(THREE, given) == dict.fromkeys(THREE.data, tmp_path)

    def test_what_is_said_later_counts(self, room: Path, tmp_path: Path) -> None:
        roots = find_roots(THREE, (str(room), f"cheng={tmp_path}"))
        assert roots == {"sartaj": room / "sartaj", "navoneel": room / "navoneel", "cheng": tmp_path}

    def test_a_dataset_itself_is_recognised(self, phantom: Dataset, room: Path, tmp_path: Path) -> None:
        folder = write_yes_no(list(phantom), tmp_path / "binary")
        roots = find_roots(THREE, (f"sartaj={room}", f"cheng={room}", str(folder)))
        assert roots["navoneel"] == folder

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                (),
                "small needs sartaj, cheng, navoneel, which is not in any --data: say where it is with --data sartaj=",
            ),
            (("{room}/cheng",), "small needs sartaj, cheng, navoneel, which is not in {room}/cheng: say"),
            (("sartaj={room}", "cheng={room}"), "small needs navoneel, which is not in sartaj={room}, cheng={room}"),
            (("chang={room}",), "small needs no dataset 'chang': it needs sartaj, cheng, navoneel"),
            (("{room}", "cheng={room}/none"), "{room}/none, given as cheng, does not exist: check the path"),
            (("{room}/none",), "small needs sartaj, cheng, navoneel, which is not in {room}/none"),
        ],
    )
    def test_what_is_not_there_is_said(self, room: Path, given: tuple[str, ...], said: str) -> None:
        with pytest.raises(InputError) as refused:
            find_roots(THREE, tuple(text.format(room=room) for text in given))
        assert str(refused.value).startswith(said.format(room=room))


def lab(roots: dict[str, Path], folder: Path, **changes: Any) -> Datasets:
    trainings = {"one": {"data": next(iter(roots)), "protocol": "honest"}}
    return lab_of(roots, folder, data=list(roots), trainings=trainings, **changes)[0]


class TestOpened:
    def test_by_patient_where_they_are_known(self, tiny_phantom: Path, phantom: Dataset, tmp_path: Path) -> None:
        source = lab({"cheng": tiny_phantom}, tmp_path)["cheng"]
        assert source.dataset is source.whole
        assert source.groups.grouping == "patient"
        assert source.groups.of == {r.id: r.patient for r in phantom}
        assert not (tmp_path / "data").exists()

    def test_clusters_are_found_once(
        self, tiny_phantom: Path, nameless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second study in the folder reads what the first has written."""
        roots = {"sartaj": nameless, "cheng": tiny_phantom}
        first = lab(roots, tmp_path)["sartaj"]
        assert first.groups.grouping == "cluster"
        (file,) = (tmp_path / "data").iterdir()
        assert file.name == f"clusters-{first.whole.fingerprint}.json"
        kept = json.loads(file.read_text())
        assert kept == dict(first.groups.of)
        file.write_text(json.dumps(dict.fromkeys(kept, "all")))
        assert set(lab(roots, tmp_path)["sartaj"].groups.of.values()) == {"all"}

    def test_one_blank_patient_does_not_tear_the_others_apart(
        self, phantom: Dataset, tiny_phantom: Path, tmp_path: Path
    ) -> None:
        """Neither are clusters believed that an earlier gyrus kept, which did."""
        folder = tmp_path / "cheng"
        folder.mkdir()
        (folder / "images").symlink_to(tiny_phantom / "images")
        blank = phantom.records[4].id
        lines = [f"{r.id},{r.label},{'' if r.id == blank else r.patient}" for r in phantom]
        (folder / "manifest.csv").write_text("\n".join(["file,label,patient", *lines]), encoding="utf-8")
        data = open_dataset(folder)
        (tmp_path / "data").mkdir()
        torn = {r.id: r.id for r in data}
        (tmp_path / "data" / f"clusters-{data.fingerprint}.json").write_text(json.dumps(torn))
        for _ in ("found", "kept"):
            groups = lab({"cheng": folder}, tmp_path)["cheng"].groups
            assert groups.grouping == "cluster"
            assert groups.unknown == {blank}
            of_whom: dict[str | None, set[str]] = {}
            for r in data:
                of_whom.setdefault(r.patient, set()).add(groups.of[r.id])
            assert all(len(names) == 1 for names in of_whom.values())

    def test_one_dataset_is_opened_once(self, tiny_phantom: Path, tmp_path: Path) -> None:
        datasets = lab({"cheng": tiny_phantom}, tmp_path)
        assert datasets["cheng"] is datasets["cheng"]

    def test_a_sample_is_of_whole_patients_and_split_for_the_whole(self, tiny_phantom: Path, tmp_path: Path) -> None:
        scales = {"less": {"reduction": "Less.", "slices": 24}}
        datasets, _ = lab_of({"cheng": tiny_phantom}, tmp_path, scale="less", scales=scales)
        source = datasets["cheng"]
        assert (len(source.dataset), len(source.whole), len(source.groups.of)) == (24, 48, 48)
        assert set(Counter(r.patient for r in source.dataset).values()) == {3}
        assert set(Counter(r.label for r in source.dataset).values()) == {6}

    def test_a_sample_of_more_than_there_are_is_all(self, tiny_phantom: Path, tmp_path: Path) -> None:
        scales = {"less": {"reduction": "Less.", "slices": 48}}
        source = lab_of({"cheng": tiny_phantom}, tmp_path, scale="less", scales=scales)[0]["cheng"]
        assert source.dataset is source.whole


class TestPersons:
    DERIVED: ClassVar[dict[str, Any]] = {"persons": {"of": "sartaj", "persons_from": "cheng"}}

    def test_copies_of_one_persons_slices_are_one_group(
        self, tiny_phantom: Path, nameless: Path, phantom: Dataset, tmp_path: Path
    ) -> None:
        """The three slices of a head resemble each other no more than those of others: only Cheng joins them."""
        source = lab({"sartaj": nameless, "cheng": tiny_phantom}, tmp_path, derived=self.DERIVED)["persons"]
        people = sorted({str(r.patient) for r in phantom})[:4]
        of_whom = [str(r.patient) for r in phantom if r.patient in people]
        groups: dict[str, set[str]] = {}
        for i, patient in enumerate(of_whom):
            groups.setdefault(patient, set()).add(source.groups.of[f"s{i}.png"])
        assert all(len(names) == 1 for names in groups.values())
        assert len(set.union(*groups.values())) == 4
        assert source.groups.of["own-1.png"] == "own-1.png"
        assert source.groups.of["own-2.png"] == "own-2.png"
        assert source.groups.grouping == "cluster"
        assert source.groups.of.keys() == {r.id for r in source.whole}

    def test_clusters_alone_do_not_know_them(self, tiny_phantom: Path, nameless: Path, tmp_path: Path) -> None:
        source = lab({"sartaj": nameless, "cheng": tiny_phantom}, tmp_path)["sartaj"]
        assert len(set(source.groups.of.values())) == 14

    def test_they_are_found_once(self, tiny_phantom: Path, nameless: Path, tmp_path: Path) -> None:
        roots = {"sartaj": nameless, "cheng": tiny_phantom}
        first = lab(roots, tmp_path, derived=self.DERIVED)["persons"]
        (file,) = (tmp_path / "data").glob("persons-*.json")
        assert json.loads(file.read_text()) == dict(first.groups.of)
        file.write_text(json.dumps(dict.fromkeys(first.groups.of, "all")))
        assert set(lab(roots, tmp_path, derived=self.DERIVED)["persons"].groups.of.values()) == {"all"}

    def test_a_dataset_that_knows_its_patients_needs_no_other(
        self, tiny_phantom: Path, nameless: Path, tmp_path: Path
    ) -> None:
        derived = {"persons": {"of": "cheng", "persons_from": "sartaj"}}
        source = lab({"sartaj": nameless, "cheng": tiny_phantom}, tmp_path, derived=derived)["persons"]
        assert source.groups.grouping == "patient"


class TestDerived:
    @pytest.fixture
    def make(self, tiny_phantom: Path, tmp_path: Path) -> Any:
        """Return one dataset derived from the phantom."""

        def make(**plan: Any) -> Any:
            derived = {"made": {"of": "cheng", **plan}, "again": {"of": "made"}}
            return lab({"cheng": tiny_phantom}, tmp_path, derived=derived)

        return make

    def test_selections_are_split_for_the_whole(self, make: Any) -> None:
        datasets = make(classes=["glioma", "no_tumor"], planes=["sagittal"])
        source = datasets["made"]
        assert {r.label for r in source.dataset} == {"glioma", "no_tumor"}
        assert {r.plane for r in source.dataset} == {"sagittal"}
        assert (len(source.dataset), len(source.whole)) == (8, 48)
        assert source.whole is datasets["cheng"].whole
        assert source.groups is datasets["cheng"].groups
        assert [r.id for r in datasets["again"].dataset] == [r.id for r in source.dataset]
        assert datasets["again"].whole is source.whole

    def test_other_labels_are_a_dataset_of_their_own(self, make: Any) -> None:
        source = make(planes=["axial"], binary=True)["made"]
        assert source.whole is source.dataset
        assert source.dataset.classes == ("no_tumor", "tumor")
        assert source.groups.of == {r.id: r.patient for r in source.dataset}
        assert source.groups.grouping == "patient"

    def test_copies_belong_to_whom_they_were_made_from(self, make: Any, phantom: Dataset) -> None:
        copies = {"copies": {"tumor": 1, "no_tumor": 2}, "augment": {"rotate": 5}, "size": 32}
        source = make(binary=True, augmented=copies)["made"]
        assert Counter(r.label for r in source.dataset) == {"tumor": 2 * 36, "no_tumor": 3 * 12}
        patients = {str(r.patient) for r in phantom}
        assert set(source.groups.of.values()) == patients
        assert all(str(source.groups.of[r.id]) in r.id for r in source.dataset)
        assert source.groups.grouping == "patient"

    def test_one_class_is_enlarged_in_the_listed_planes(self, make: Any) -> None:
        fix = {"label": "no_tumor", "planes": ["sagittal", "coronal"], "transforms": [{"x": 3}, {"rotate": 45}]}
        source = make(rebalanced=fix)["made"]
        assert len(source.dataset) == 48 + 2 * 8
        made = [r for r in source.dataset if r.subset == "copy"]
        assert {(r.label, r.plane) for r in made} == {("no_tumor", "sagittal"), ("no_tumor", "coronal")}
        assert {source.groups.of[r.id] for r in made} == {r.patient for r in source.dataset if r.label == "no_tumor"}

    def test_what_another_dataset_holds_is_left_out(self, tiny_phantom: Path, nameless: Path, tmp_path: Path) -> None:
        derived = {"new": {"of": "sartaj", "without_copies_of": "cheng"}}
        source = lab({"sartaj": nameless, "cheng": tiny_phantom}, tmp_path, derived=derived)["new"]
        assert [r.id for r in source.dataset] == ["own-1.png", "own-2.png"]
        assert len(source.whole) == 14

    def test_planes_are_recognised_where_none_is_stated(self, phantom: Dataset, tmp_path: Path) -> None:
        folder = write_yes_no([r for r in phantom if r.plane == "axial"][:6], tmp_path / "navoneel")
        source = lab({"navoneel": folder}, tmp_path, derived={"top": {"of": "navoneel", "planes": ["axial"]}})["top"]
        assert len(source.dataset) >= 4
        assert {r.plane for r in source.dataset} == {"axial"}


class TestOutlines:
    def test_their_digest_is_that_of_what_is_drawn_and_of_no_place(self, phantom: Dataset, tmp_path: Path) -> None:
        copy = open_dataset(shutil.copytree(phantom.root, tmp_path / "copy"))
        assert digest_outlines(copy) == digest_outlines(phantom)
        before = copy.fingerprint
        outlined = next(r for r in copy if r.mask is not None)
        write_png(outlined.mask.path, np.ones(outlined.read().shape, dtype=np.uint8))
        assert open_dataset(copy.root).fingerprint == before
        assert digest_outlines(copy) != digest_outlines(phantom)

    def test_corners_in_a_table_count_and_where_it_lies_does_not(self, phantom: Dataset) -> None:
        def digest(points: str, where: str) -> str:
            outline = OutlineMask(points, where)
            return digest_outlines(replace(phantom, records=(replace(phantom.records[0], mask=outline),)))

        assert digest("1,1 5,1 5,5", "row 1") == digest("1,1 5,1 5,5", "elsewhere, row 1")
        assert digest("1,1 5,1 5,5", "row 1") != digest("1,1 5,1 5,6", "row 1")
