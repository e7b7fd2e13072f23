"""A trained model's map in place of outlines: what it marks by hand, and that training follows it and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import Gyrus
from numpy.typing import NDArray
from tiny_vgg import vgg_tiny
from torch import Tensor, nn

from gyrus import create_model, load_model, save_model, teaching
from gyrus.augment import Augment
from gyrus.datasets import open_dataset
from gyrus.errors import InputError
from gyrus.loading import load_slices
from gyrus.models import Classifier
from gyrus.preprocess import Preprocess
from gyrus.records import Dataset
from gyrus.splits import Split, split_dataset
from gyrus.stages import train_folds
from gyrus.teaching import CUT, find_teacher, taught_outlines, teacher_facts
from gyrus.trainconfig import make_config
from gyrus.training import fit, read_recipe

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
SPEC = Preprocess(size=32)
RECIPE: dict[str, Any] = {
    "model": "resnet18", "size": 32, "fuse": 8, "pooling": "lse", "epochs": 1, "precision": "fp32", "device": "cpu",
}  # fmt: skip


@pytest.fixture
def dataset(tiny_phantom: Path) -> Dataset:
    return open_dataset(tiny_phantom)


class Eye(nn.Module):
    """Shows a slice at half its size, one cell too far to the right, as one feature."""

    channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(F.avg_pool2d(images[:, :1].roll(2, -1), 2))


def seer(classes: tuple[str, ...] = CLASSES, spec: Preprocess = SPEC) -> Classifier:
    """A classifier to whom gliomas are what is dark, and every other class what is bright."""
    model = Classifier(Eye(), create_model("resnet18", classes, preprocess=spec).spec)
    with torch.no_grad():
        model.head.weight.fill_(1.0)
        model.head.weight[classes.index("glioma")] = -1.0
    return model.eval()


class Unreadable:
    """An outline that nobody may look at."""

    def read(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        raise AssertionError(f"an outline of the data was read, {shape}")


def hidden(dataset: Dataset) -> Dataset:
    return replace(dataset, records=tuple(replace(r, mask=Unreadable() if r.mask else None) for r in dataset))


class TestMarks:
    def test_half_of_the_rise_in_one_piece_of_the_known_class_s_map(self, dataset: Dataset) -> None:
        records = [r for r in dataset if r.label != "no_tumor"][:9]
        shares, known = taught_outlines(seer(), records, SPEC)
        assert known.tolist() == [1.0] * 9
        slices = torch.from_numpy(load_slices(records, SPEC)).float()
        for share, piece, record in zip(shares, slices, records, strict=True):
            cells = F.avg_pool2d(piece[None, None], 2)
            both = (cells.roll(1, -1) + cells.roll(-1, -1)) / 2  # the mirrored slice errs to the other side
            sign = -1 if record.label == "glioma" else 1
            placed = sign * F.interpolate(both, (32, 32), mode="bilinear", align_corners=False)[0, 0]
            kept = CUT.keep(placed.numpy())
            assert 0 < kept.sum() < kept.size
            assert (share == 255 * kept).mean() > 0.99  # of the normalised map: a rounding apart

    def test_no_tumor_is_marked_empty_and_a_class_it_does_not_know_not_at_all(self, dataset: Dataset) -> None:
        teacher = seer(("glioma", "no_tumor"))
        shares, known = taught_outlines(teacher, dataset.records, SPEC)
        for share, taken, record in zip(shares, known, dataset, strict=True):
            assert taken == (record.label in ("glioma", "no_tumor"))
            assert share.any() == (record.label == "glioma")

    def test_a_map_that_says_nothing_marks_nothing(self, dataset: Dataset) -> None:
        teacher = seer()
        with torch.no_grad():
            teacher.head.weight.zero_()
        _, known = taught_outlines(teacher, dataset.records, SPEC)
        assert known.tolist() == [float(r.label == "no_tumor") for r in dataset]

    def test_the_learner_may_see_the_same_window_in_more_pixels(self, dataset: Dataset) -> None:
        records = [r for r in dataset if r.label == "pituitary"]
        small, _ = taught_outlines(seer(), records, SPEC)
        large, _ = taught_outlines(seer(), records, SPEC.model_copy(update={"size": 64, "mean": (0.5,), "std": (1.0,)}))
        assert large.shape == (len(records), 64, 64)
        assert np.abs(large.mean(axis=(1, 2)) - small.mean(axis=(1, 2))).max() < 20  # of 255

    def test_its_statistics_become_those_of_the_slices(self, dataset: Dataset) -> None:
        teacher = seer()
        first, again = (taught_outlines(teacher, dataset.records, SPEC) for _ in range(2))
        assert np.array_equal(first[0], again[0])  # so that a run that is resumed goes on with the same outlines
        slices = teacher.normalise(torch.from_numpy(load_slices(dataset.records, SPEC)))
        assert teacher.body.norm.running_mean.item() == pytest.approx(slices[:, 0].mean().item(), abs=0.02)
        assert not teacher.training


class TestTeachers:
    """Those that cannot guide are refused before a slice is read."""

    def refused(self, tmp_path: Path, model: Classifier, **recipe: Any) -> str:
        save_model(model, tmp_path / "teacher")
        with pytest.raises(InputError) as stop:
            find_teacher(make_config(**{**RECIPE, **recipe}, guide=str(tmp_path / "teacher")), CLASSES)
        return str(stop.value).removeprefix(str(tmp_path / "teacher"))

    def test_another_window(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, create_model("resnet18", CLASSES, preprocess=SPEC), canonical=True)
        assert said.startswith(" prepares slices in another way (canonical form, crop, fit)")

    def test_other_tumours(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, create_model("resnet18", ("metastasis", "no_tumor"), preprocess=SPEC))
        assert said.startswith(" knows metastasis, no_tumor, and the data's classes are glioma, ")

    def test_no_map(self, tmp_path: Path) -> None:
        said = self.refused(tmp_path, create_model(vgg_tiny.__name__, CLASSES, keep_dense=True, preprocess=SPEC))
        assert said.startswith(" ends in dense layers, so it has no map to guide by")


class TestTraining:
    def test_it_follows_the_teacher_and_reads_no_outline(
        self, dataset: Dataset, tiny_split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The weights are those that the teacher's outlines, put in by hand, lead to."""
        split, teacher = Split.load(tiny_split), seer(spec=make_config(**RECIPE).preprocess())
        save_model(create_model("resnet18", CLASSES, preprocess=teacher.spec.preprocess), tmp_path / "teacher")
        monkeypatch.setattr(teaching, "load_model", lambda _, device: teacher)
        with pytest.raises(AssertionError, match="was read"):
            fit(hidden(dataset), split, make_config(**RECIPE, guide="mask"), tmp_path / "mask")
        config = make_config(**RECIPE, guide=str(tmp_path / "teacher"))
        fit(hidden(dataset), split, config, tmp_path / "taught")
        told = load_model(tmp_path / "taught").spec.training
        assert told["guide"] == "model"
        assert told["teacher"] == teacher_facts(teacher)
        assert told["teacher"]["architecture"] == "resnet18"
        assert str(tmp_path) not in (tmp_path / "taught" / "model" / "model.json").read_text()
        assert read_recipe(tmp_path / "taught") == config

        marked = taught_outlines(teacher, [dataset[i] for i in split.train], teacher.spec.preprocess)
        monkeypatch.setattr(teaching, "outlines_of", lambda *_: marked)
        fit(dataset, split, make_config(**RECIPE, guide="mask"), tmp_path / "by-hand")
        mine, theirs = (load_model(tmp_path / run).state_dict() for run in ("taught", "by-hand"))
        assert all(torch.equal(value, theirs[name]) for name, value in mine.items())

    def test_a_teacher_that_has_seen_who_is_held_back_is_refused(
        self, trained: Path, dataset: Dataset, tiny_split: Path, tmp_path: Path
    ) -> None:
        split = Split.load(tiny_split)
        swapped = Split(**{**split.__dict__, "train": split.test, "test": split.train})
        with pytest.raises(InputError, match="which this split holds back"):
            fit(dataset, swapped, make_config(**RECIPE, guide=str(trained)), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_folds_have_teachers_of_their_own_or_one_for_all(
        self, tiny_phantom: Path, dataset: Dataset, tmp_path: Path
    ) -> None:
        split_dataset(tiny_phantom, tmp_path / "folds", folds=3, val_fold=False)
        train_folds(tiny_phantom, tmp_path / "folds", make_config(**RECIPE), tmp_path / "first")
        taught = make_config(**RECIPE, guide=str(tmp_path / "first"))
        train_folds(tiny_phantom, tmp_path / "folds", taught, tmp_path / "cv")
        for name in ("fold-1", "fold-2", "fold-3"):
            assert read_recipe(tmp_path / "cv" / name).guide == str(tmp_path / "first" / name)
        (tmp_path / "first" / "fold-2").rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="has no finished run fold-2"):
            train_folds(tiny_phantom, tmp_path / "folds", taught, tmp_path / "again")

    def test_what_is_no_model_is_refused_by_name(self, dataset: Dataset, tiny_split: Path, tmp_path: Path) -> None:
        config = make_config(**RECIPE, guide="masks")
        with pytest.raises(InputError, match="guide 'masks' is neither none nor mask, nor a trained model: correct it"):
            fit(dataset, Split.load(tiny_split), config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_the_model_in_the_package_is_refused_for_whom_it_knows(
        self, dataset: Dataset, tiny_split: Path, tmp_path: Path
    ) -> None:
        config = make_config(**RECIPE, guide="gyrus-base")
        with pytest.raises(InputError, match="guide gyrus-base learned from every person of its data"):
            fit(dataset, Split.load(tiny_split), config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_data_without_an_outline_guides_nobody(self, dataset: Dataset, tiny_split: Path, tmp_path: Path) -> None:
        """Slices of no_tumor have an empty outline, and nothing else would be learned from."""
        bare = replace(dataset, records=tuple(replace(r, mask=None) for r in dataset))
        for fields in ({}, {"erase": 0.2}):
            with pytest.raises(InputError, match="no slice of the train part has a tumour's outline: leave --guide"):
                fit(bare, Split.load(tiny_split), make_config(**RECIPE, guide="mask", **fields), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_what_needs_outlines_of_the_data_is_refused(self, tmp_path: Path) -> None:
        for fields in ({"erase": 0.1}, {"canonical": True, "augment": {"peel": 0.1}}):
            with pytest.raises(InputError, match="with guide mask"):
                make_config(guide=str(tmp_path), **fields)


def test_on_the_command_line(gyrus: Gyrus, tiny_phantom: Path, tiny_split: Path, trained: Path, tmp_path: Path) -> None:
    words = ("train", tiny_phantom, "--split", tiny_split, "--model", "resnet18", "--pretrained", "none", "--size", 32)
    words += ("--epochs", 1, "--out", tmp_path / "run", "--quiet", "--guide", trained)
    words += ("--rotate", 20, "--scale", 0.2, "--brightness", 0, "--contrast", 0.4)
    assert gyrus(*words).code == 0
    recipe = read_recipe(tmp_path / "run")
    assert recipe.guide == str(trained)
    assert recipe.augment == Augment(rotate=20, scale=0.2, brightness=0, contrast=0.4)
