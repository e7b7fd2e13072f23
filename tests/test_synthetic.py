"""Synthetic slices in a training: which are taken, whose outlines guide, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Gyrus
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gyrus import convert_data, join_datasets, load_model, make_phantom, training
from gyrus.batches import Batches, outlines_of
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.records import Dataset
from gyrus.splits import Split
from gyrus.synthetic import synthetic_slices
from gyrus.teaching import taught_outlines
from gyrus.trainconfig import make_config
from gyrus.training import fit, read_recipe

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
RECIPE: dict[str, Any] = {
    "model": "resnet18", "size": 32, "fuse": 8, "pooling": "lse", "epochs": 1, "precision": "fp32", "device": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("made") / "phantom", patients=8, slices_per_plane=1, size=64, seed=9)


@pytest.fixture
def people(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


class TestSlices:
    def test_those_of_the_classes_at_hand(self, made: Path, people: Dataset) -> None:
        assert len(synthetic_slices(made, CLASSES, people)) == 8 * 3
        taken = synthetic_slices(made, ("glioma", "metastasis"), people)
        assert len(taken) == 2 * 3
        assert {r.label for r in taken} == {"glioma"}

    @pytest.mark.parametrize("classes", [("no_tumor", "tumor"), ("metastasis", "no_tumor")])
    def test_without_a_tumour_in_common_it_is_refused(
        self, made: Path, people: Dataset, classes: tuple[str, ...]
    ) -> None:
        with pytest.raises(
            InputError, match=f"has no tumour of the data's classes, {', '.join(classes)}: leave it out"
        ):
            synthetic_slices(made, classes, people)

    def test_what_is_no_phantom_is_refused(self, people: Dataset, tmp_path: Path) -> None:
        Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "a.png")
        (tmp_path / "manifest.csv").write_text("file,label,patient\na.png,glioma,P1\n")
        with pytest.raises(InputError, match=r"is no phantom.*join the data first"):
            synthetic_slices(tmp_path, CLASSES, people)

    def test_patients_of_the_data_s_own_phantom_are_refused(self, people: Dataset, tmp_path: Path) -> None:
        same = make_phantom(
            tmp_path / "same", patients=8, slices_per_plane=1, size=64, varied=True
        )  # of seed 0 as well
        with pytest.raises(
            InputError, match=r"has the same patients as .*: make another with gyrus data phantom --seed"
        ):
            synthetic_slices(same, CLASSES, people)

    def test_patients_of_a_phantom_that_the_data_was_joined_from_are_refused(self, made: Path, tmp_path: Path) -> None:
        other = make_phantom(tmp_path / "other", patients=8, slices_per_plane=1, size=64, seed=1)
        joined = join_datasets([other, made], tmp_path / "joined", name="ours")
        with pytest.raises(InputError, match="has the same patients as"):
            synthetic_slices(made, CLASSES, joined)
        third = make_phantom(tmp_path / "third", patients=8, slices_per_plane=1, size=64, seed=2)
        assert len(synthetic_slices(third, CLASSES, joined)) == 24

    def test_a_phantom_that_does_not_say_its_seed_is_refused(self, made: Path, tmp_path: Path) -> None:
        converted = convert_data(made, tmp_path / "converted")
        for given, beside in ((made, converted), (converted, made)):
            with pytest.raises(InputError, match=rf"{converted} does not say which seed"):
                synthetic_slices(given, CLASSES, open_dataset(beside))

    def test_a_phantom_by_its_table(self, made: Path) -> None:
        with pytest.raises(InputError, match="has the same patients as"):
            synthetic_slices(made, CLASSES, open_dataset(made / "manifest.csv"))


class TestTraining:
    def test_they_follow_the_real_ones_and_keep_their_outlines(
        self, tiny_phantom: Path, tiny_split: Path, trained: Path, made: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        shown: list[Batches] = []
        task = training._Task

        def watched(model: Any, config: Any, train: Batches, *others: Any) -> Any:
            shown.append(train)
            return task(model, config, train, *others)

        monkeypatch.setattr(training, "_Task", watched)
        dataset, split = open_dataset(tiny_phantom), Split.load(tiny_split)
        real, extra = [dataset[i] for i in split.train], synthetic_slices(made, CLASSES, dataset)
        spec = make_config(**RECIPE).preprocess()

        def same(a: tuple[NDArray[np.uint8], Tensor], b: Sequence[tuple[NDArray[np.uint8], Tensor]]) -> bool:
            shares, known = zip(*b, strict=True)
            return bool(np.array_equal(a[0], np.concatenate(shares)) and torch.equal(a[1], torch.cat(known)))

        guides = {"none": None, "mask": outlines_of(real, spec)}
        guides[str(trained)] = taught_outlines(load_model(trained), real, spec)
        for guide, outlines in guides.items():
            config = make_config(**RECIPE, guide=guide, synthetic=str(made))
            fit(dataset, split, config, tmp_path / Path(guide).name)
            batches = shown.pop()
            assert len(batches.inputs) == len(batches.labels) == len(real) + 24
            if outlines is None:
                assert batches.outlines is None
            else:
                assert batches.outlines is not None
                assert same(batches.outlines, [outlines, outlines_of(extra.records, spec)])
            told = load_model(tmp_path / Path(guide).name).spec.training
            assert (told["synthetic"]["slices"], told["synthetic"]["patients"]) == (24, 8)
            assert told["synthetic"]["licence"]
            assert told["synthetic"]["fingerprint"] == extra.fingerprint
            assert str(made) not in str(told)

    def test_on_the_command_line(
        self, gyrus: Gyrus, tiny_phantom: Path, tiny_split: Path, made: Path, tmp_path: Path
    ) -> None:
        words = ("train", tiny_phantom, "--split", tiny_split, "--model", "resnet18", "--pretrained", "none")
        words += ("--size", 32, "--epochs", 1, "--out", tmp_path / "run", "--quiet", "--synthetic", made)
        assert gyrus(*words).code == 0
        assert read_recipe(tmp_path / "run").synthetic == str(made)
