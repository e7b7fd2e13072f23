"""Training guided by the phantom: its slices join, its outlines are the only ones read, and it guides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commandline import Gyrus
from numpy.typing import NDArray
from torch import Tensor

from gyrus import load_model, training
from gyrus.augment import WIDE, Augment
from gyrus.batches import outlines_of
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.phantom import make_phantom
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset, Record
from gyrus.splits import Split
from gyrus.synthetic import joined_by_phantom
from gyrus.trainconfig import make_config
from gyrus.training import fit, read_recipe

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


@pytest.fixture
def dataset(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


class TestJoined:
    def test_real_slices_lose_their_outlines_and_the_phantom_follows(self, dataset: Dataset) -> None:
        with joined_by_phantom(dataset.records, CLASSES, 8, seed=0) as shown:
            real, made = shown[: len(dataset)], shown[len(dataset) :]
            assert [r.id for r in real] == [r.id for r in dataset]
            assert any(r.mask for r in dataset)
            assert not any(r.mask for r in real)
            assert len(made) == 8 * 9
            assert {r.label for r in made} == set(CLASSES)
            for record in made:
                assert (record.mask is None) == (record.label == "no_tumor")
                record.read()
        assert not any(r.path.exists() for r in made)

    def test_its_patients_are_not_those_of_data_phantom(self, tmp_path: Path) -> None:
        usual = {r.path.read_bytes() for r in open_dataset(make_phantom(tmp_path / "usual", patients=8, seed=0))}
        with joined_by_phantom([], CLASSES, 8, seed=0) as shown:
            assert not usual & {r.path.read_bytes() for r in shown}

    def test_classes_that_nobody_asked_for_are_left_out(self) -> None:
        with joined_by_phantom([], ("glioma", "metastasis"), 8, seed=0) as shown:
            assert {r.label for r in shown} == {"glioma"}

    @pytest.mark.parametrize("classes", [("yes", "no"), ("metastasis", "no_tumor")])
    def test_without_a_class_in_common_it_cannot_guide(self, classes: tuple[str, ...]) -> None:
        with (
            pytest.raises(InputError, match="tumours are glioma, meningioma, pituitary, the data's classes"),
            joined_by_phantom([], classes, 8, seed=0),
        ):
            pass


class TestRecipe:
    def test_slices_are_changed_further_but_where_it_is_said_how_far(self) -> None:
        assert make_config(guide="phantom").augment == WIDE
        assert make_config(guide="phantom", augment={"noise": 0.1}).augment == WIDE.model_copy(update={"noise": 0.1})
        assert make_config(guide="phantom", augment=Augment()).augment == Augment()
        assert make_config(guide="mask").augment == make_config().augment == Augment()

    def test_a_frozen_network_cannot_be_guided_and_is_told_so(self) -> None:
        with pytest.raises(InputError, match="leave guide and fuse out"):
            make_config(guide="phantom", frozen=True)

    def test_what_needs_outlines_of_the_data_is_refused(self) -> None:
        for fields in ({"erase": 0.1}, {"canonical": True, "augment": {"peel": 0.1}}):
            with pytest.raises(InputError, match="with guide mask"):
                make_config(guide="phantom", **fields)


class Unreadable:
    """An outline that nobody may look at."""

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        raise AssertionError(f"an outline of the data was read, {shape}")


def test_the_outlines_of_the_data_are_not_read(
    dataset: Dataset, tiny_split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tuple(replace(r, mask=Unreadable() if r.mask else None) for r in dataset)
    hidden, split = replace(dataset, records=records), Split.load(tiny_split)
    recipe = {"model": "resnet18", "size": 32, "fuse": 8, "pooling": "lse", "epochs": 1, "precision": "fp32"}
    with pytest.raises(AssertionError, match="was read"):
        fit(hidden, split, make_config(**recipe, guide="mask"), tmp_path / "mask")
    taken: list[tuple[NDArray[np.uint8], Tensor]] = []

    def watched(records: Sequence[Record], spec: Preprocess) -> tuple[NDArray[np.uint8], Tensor]:
        taken.append(outlines_of(records, spec))
        return taken[-1]

    monkeypatch.setattr(training, "outlines_of", watched)
    config = make_config(**recipe, guide="phantom", phantoms=8)
    fit(hidden, split, config, tmp_path / "run")
    ((shares, known),) = taken  # of the train part alone
    real = [hidden[i].label for i in split.train]
    assert len(shares) == len(real) + 72
    assert not shares[: len(real)].any()
    assert known.tolist() == [float(label == "no_tumor") for label in real] + [1.0] * 72
    assert shares[len(real) :].any(axis=(1, 2)).sum() > 36  # three classes of four have a tumour
    told = load_model(tmp_path / "run").spec.training
    assert told["guide"] == "phantom"
    assert told["phantom"]["synthetic_slices"] == 72
    assert read_recipe(tmp_path / "run") == config


def test_on_the_command_line_a_zero_is_a_word(
    gyrus: Gyrus, tiny_phantom: Path, tiny_split: Path, tmp_path: Path
) -> None:
    words = (
        "train",
        tiny_phantom,
        "--split",
        tiny_split,
        "--model",
        "resnet18",
        "--pretrained",
        "none",
        "--size",
        32,
        "--epochs",
        1,
    )
    words += ("--guide", "phantom", "--phantoms", 8, "--noise", 0, "--out", tmp_path / "run", "--quiet")
    assert gyrus(*words).code == 0
    assert read_recipe(tmp_path / "run").augment == WIDE.model_copy(update={"noise": 0.0})
