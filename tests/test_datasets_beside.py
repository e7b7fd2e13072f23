"""A folder that holds more than one dataset, and whatever else lies beside the one that a reader is meant for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commandline import Gyrus
from handmade import write_mat
from handmade_volumes import BLOCK, save_nifti
from test_datasets_brats import write_case, write_decathlon
from test_datasets_cheng import IMAGE

from gyrus.datasets import beside, list_datasets, open_dataset, records_in
from gyrus.datasets import volumes as volumes_reader
from gyrus.datasets.listing import Listing, listing
from gyrus.datasets.registry import open_cases, recognise
from gyrus.errors import InputError


def touch(root: Path, *names: str) -> Path:
    """Write empty files, which is all that recognition looks at."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def brats(root: Path, *cases: str) -> Path:
    for case in cases or ("BraTS20_Training_001",):
        touch(root / case, *(f"{case}_{m}.nii.gz" for m in ("t1", "t1ce", "t2", "flair", "seg")))
    return root


def cheng(root: Path) -> Path:
    touch(root, "images/1.jpg")
    (root / "slices.csv").write_text("file,label,patient,study,outline\n1.jpg,glioma,a,a,\n")
    return root


def progression(root: Path) -> Path:
    return touch(root, *(f"0{n}/{e}_{k}.nii.gz" for n in (1, 2) for e in ("Pre", "Post") for k in ("Scan_T1", "Mask")))


def classes(root: Path) -> Path:
    return touch(root, *(f"{part}/{name}/{i}.png" for part in ("train", "test") for name in "ab" for i in (1, 2)))


def volumes(root: Path) -> Path:
    return touch(root, "scan/T1.nii.gz")


def decathlon(root: Path) -> Path:
    return write_decathlon(root)


def refused(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        open_dataset(root)
    said = str(caught.value)
    assert said.startswith(f"{root} ")
    assert "\n" not in said
    return said.removeprefix(f"{root} ")


class TestSeveralDatasets:
    @pytest.mark.parametrize("linked", [(), ("brats",), ("cheng",), ("brats", "cheng")])
    def test_are_named_whether_they_are_there_or_linked(self, tmp_path: Path, linked: tuple[str, ...]) -> None:
        root = tmp_path / "x"
        root.mkdir()
        for name, write in (("brats", brats), ("cheng", cheng)):
            write((tmp_path if name in linked else root) / name)
            if name in linked:
                (root / name).symlink_to(tmp_path / name)
        assert refused(root) == "holds several datasets, 'brats' (brats), 'cheng' (cheng): give them one by one"

    @pytest.mark.parametrize(
        ("others", "named"),
        [
            ((brats, progression), "'brats' (brats), 'progression' (progression)"),
            ((brats, volumes), "'brats' (brats), 'volumes' (volumes)"),
            ((brats, classes), "'brats' (brats), 'classes' (folder)"),
            ((progression, volumes), "'progression' (progression), 'volumes' (volumes)"),
            ((cheng, classes), "'cheng' (cheng), 'classes' (folder)"),
            ((cheng, volumes), "'cheng' (cheng), 'volumes' (volumes)"),
            ((brats, decathlon), "'decathlon', 'brats' (brats)"),
        ],
    )
    def test_of_two_kinds(self, tmp_path: Path, others: tuple, named: str) -> None:
        for write in others:
            write(tmp_path / write.__name__)
        assert refused(tmp_path) == f"holds several datasets, {named}: give them one by one"

    def test_below_a_wrapper(self, tmp_path: Path) -> None:
        brats(tmp_path / "archive" / "brats")
        cheng(tmp_path / "archive" / "cheng")
        assert refused(tmp_path).startswith("holds several datasets, 'archive/brats' (brats), 'archive/cheng' (cheng):")

    def test_one_among_the_cases_of_another(self, tmp_path: Path) -> None:
        brats(tmp_path, *(f"BraTS20_Training_00{i}" for i in range(1, 6)))
        cheng(tmp_path / "cheng")
        first = ", ".join(f"'BraTS20_Training_00{i}'" for i in (1, 2, 3))
        cure = "put each into a folder of its own"
        assert refused(tmp_path) == f"holds several datasets, {first} and 2 more (brats), 'cheng' (cheng): {cure}"

    def test_originals_of_cheng_beside_another(self, tmp_path: Path) -> None:
        write_mat(touch(tmp_path, "mat/1.mat") / "mat" / "1.mat", IMAGE)
        progression(tmp_path / "progression")
        assert "'mat' (cheng), 'progression' (progression)" in refused(tmp_path)

    def test_every_verb_says_so(self, tmp_path: Path, gyrus: Gyrus) -> None:
        brats(tmp_path / "brats")
        cheng(tmp_path / "cheng")
        out = tmp_path / "out"
        for words in (
            ("data", "info", tmp_path),
            ("data", "convert", tmp_path, "--out", out),
            ("audit", tmp_path, "--out", out),
            ("split", tmp_path, "--out", out),
            ("predict", tmp_path),
        ):
            assert "'brats' (brats), 'cheng' (cheng): give them one by one" in gyrus(*words).refusal()
        assert not out.exists()

    def test_one_alone_is_named_too(self, tmp_path: Path) -> None:
        cheng(tmp_path / "cheng")
        said = f"is no dataset, but 'cheng' in it is one (cheng): name {tmp_path / 'cheng'}"
        assert refused(tmp_path) == said

    def test_pictures_of_several_are_looked_at_all_the_same(self, tmp_path: Path) -> None:
        """Nothing is left out of a pile of pictures, so it stays what it was."""
        cheng(tmp_path / "cheng")
        classes(tmp_path / "classes")
        assert len(records_in(tmp_path)) == 9


class TestOneDataset:
    @pytest.mark.parametrize(
        "wrapper",
        [
            "",
            "MICCAI_BraTS_2018_Data_Training/HGG",
            "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData",
            "archive/BraTS2021_Training_Data",
        ],
    )
    def test_brats_is_recognised_in_its_wrappers(self, tmp_path: Path, wrapper: str) -> None:
        brats(tmp_path / wrapper, "BraTS20_Training_001", "BraTS20_Training_002")
        (tmp_path / wrapper / "name_mapping.csv").touch()
        assert recognise(tmp_path) == "brats"
        opened = open_cases(tmp_path)
        assert [c.id for c in opened.cases] == [(Path(wrapper) / f"BraTS20_Training_00{i}").as_posix() for i in (1, 2)]
        assert opened.notes == ()

    def test_the_parts_of_one_year_are_one(self, tmp_path: Path) -> None:
        for part in ("Training", "Validation"):
            brats(tmp_path / f"BraTS2020_{part}Data" / f"MICCAI_BraTS2020_{part}Data", f"BraTS20_{part}_001")
        brats(tmp_path / "HGG", "Brats18_TCIA01_131_1")
        opened = open_cases(tmp_path)
        assert (len(opened.cases), opened.notes) == (3, ())

    def test_decathlon_is_recognised_in_its_wrapper(self, tmp_path: Path) -> None:
        """It used to be taken for any volumes, its labels among them."""
        write_decathlon(tmp_path / "Task01_BrainTumour")
        assert recognise(tmp_path) == "brats"
        assert [c.id for c in open_cases(tmp_path).cases] == [
            "Task01_BrainTumour/imagesTr/BRATS_001",
            "Task01_BrainTumour/imagesTs/BRATS_485",
        ]
        assert open_cases(tmp_path).notes == ()

    def test_what_is_left_out_is_noted(self, tmp_path: Path) -> None:
        write_case(tmp_path / "data" / "BraTS-GLI-00001-000", 2023)
        save_nifti(tmp_path / "data" / "BraTS-GLI-00002-000" / "BraTS-GLI-00002-000-t1c.nii.gz", BLOCK)
        touch(tmp_path, "docs/a.txt", "atlas.nii.gz", "readme.txt", "data/table.csv")
        note = "Left out as no part of this dataset: 'docs', 'atlas.nii.gz', 'data/BraTS-GLI-00002-000'."
        assert open_cases(tmp_path).notes == (note,)
        assert open_dataset(tmp_path).notes == (note,)
        assert [c.id for c in open_cases(tmp_path).cases] == ["data/BraTS-GLI-00001-000"]

    def test_what_lies_in_a_case_is_the_case_s(self, tmp_path: Path) -> None:
        brats(tmp_path, "BraTS20_Training_001")
        touch(tmp_path / "BraTS20_Training_001", "steps/brain.nii.gz", "steps/png/a.png", "mask.nii.gz")
        assert open_cases(tmp_path).notes == ()

    def test_a_patient_s_name_is_not_told_of_volumes(self, tmp_path: Path) -> None:
        save_nifti(tmp_path / "scan" / "T1.nii.gz", BLOCK)
        (tmp_path / "MORIARTY_JAMES").mkdir()
        assert open_dataset(tmp_path).notes == ()

    def test_originals_of_cheng_note_what_they_leave(self, tmp_path: Path) -> None:
        write_mat(touch(tmp_path, "brainTumorDataPublic_1-766/1.mat") / "brainTumorDataPublic_1-766" / "1.mat", IMAGE)
        volumes(tmp_path / "dicom")
        assert "Left out as no part of this dataset: 'dicom'." in open_dataset(tmp_path).notes

    def test_a_link_that_leads_back_up_ends(self, tmp_path: Path) -> None:
        brats(tmp_path / "brats")
        (tmp_path / "brats" / "up").symlink_to(tmp_path)
        assert open_cases(tmp_path).notes == ("Left out as no part of this dataset: 'brats/up'.",)


def test_nothing_is_listed_twice_to_look_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dataset that is alone, the folders of the cases are listed once to open it."""
    brats(tmp_path, *(f"BraTS20_Training_{i:03}" for i in range(20)))
    list_datasets()
    listed: list[Path] = []

    def counted(folder: Path) -> Listing:
        listed.append(folder)
        return listing(folder)

    for module in (volumes_reader, beside):
        monkeypatch.setattr(module, "listing", counted)
    assert len(open_cases(tmp_path).cases) == 20
    cases = [folder for folder in listed if folder != tmp_path]
    assert len(cases) == 20 + 1  # and one of them, to recognise the dataset by


@pytest.fixture
def real() -> Path:
    folder = os.environ.get("GYRUS_DATA")
    if not folder:
        pytest.skip("GYRUS_DATA is not set: it names the folder that holds the real datasets")
    return Path(folder)


def test_the_real_datasets_are_told_apart(real: Path, tmp_path: Path) -> None:
    for name in ("brats", "cheng", "progression", "sartaj", "navoneel"):
        assert recognise(real / name) == name
        (tmp_path / "links").mkdir(exist_ok=True)
        (tmp_path / "links" / name).symlink_to(real / name)
    shutil.copytree(real / "brats", tmp_path / "copies" / "brats")
    shutil.copytree(real / "dicom", tmp_path / "copies" / "dicom")
    said = refused(tmp_path / "links")
    assert all(f"'{name}' ({name})" in said for name in ("brats", "cheng", "progression", "sartaj", "navoneel"))
    assert "'brats' (brats), 'dicom' (volumes)" in refused(tmp_path / "copies")
