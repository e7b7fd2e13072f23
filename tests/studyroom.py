"""What the tests of studies share: small datasets in the place of the public ones, and small recipes for them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny_vgg  # noqa: F401 - registers itself
import yaml
from handmade_slices import write_png
from numpy.typing import NDArray
from PIL import Image

from gyrus.datasets import open_dataset
from gyrus.groups import Groups
from gyrus.records import Dataset, DatasetInfo, Record
from gyrus.splits import Split
from gyrus.studies.lab import Datasets, Source
from gyrus.studies.recipe import HERE, Recipe
from gyrus.studies.trainings import Outcome, Trainings, Unit
from gyrus.trainconfig import TrainConfig

Pixels = NDArray[np.uint8]

TRAIN = {"model": "vgg_tiny", "size": 32, "epochs": 1, "learning_rate": 1e-3, "precision": "fp32"}
"""A training that takes a tenth of a second."""

SMOKE = {
    "reduction": "Synthetic slices, two folds, two epochs.",
    "seeds": 1,
    "folds": 2,
    "phantoms": 16,
    "train": {"size": 48, "epochs": 2, "batch_size": 8, "pretrained": "none", "precision": "fp32"},
    "stand_ins": {"vgg16": "vgg_tiny", "vgg19": "vgg_tiny", "efficientnet_b0": "vgg_tiny"}
    | dict.fromkeys(("efficientnet_b2", "resnet50"), "mobilenetv2_100"),
}


def darker(pixels: Pixels) -> Pixels:
    """Return a slice as another collection holds it: other bytes, the same picture."""
    return np.rint(0.85 * pixels).astype(np.uint8)


def write_nameless(dataset: Dataset, out: Path, change: Callable[[Pixels], Pixels] = darker) -> Path:
    """Write slices under the ids they have, with their planes but without whose they are."""
    rows = [("file", "label", "plane")]
    for record in dataset:
        write_png(out / record.id, change(np.asarray(Image.open(record.path))))
        rows.append((record.id, str(record.label), str(record.plane)))
    with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return out


def write_yes_no(records: list[Record], out: Path) -> Path:
    """Write slices as navoneel has them: yes/Y1.png and no/N1.png."""
    for i, record in enumerate(records, start=1):
        name = f"no/N{i}.png" if record.label == "no_tumor" else f"yes/Y{i}.png"
        write_png(out / name, np.asarray(Image.open(record.path)))
    return out


def write_collections(phantom: Path, other: Path, out: Path) -> Path:
    """Write sartaj, cheng and navoneel side by side.

    Cheng is the phantom. Sartaj has its slices again, darker, under the same ids, and nobody knows whose they are; of
    one person of each class the axial ones are missing. Navoneel is of other heads, but for four slices from sartaj.
    """
    people = open_dataset(phantom)
    unseen_from_above = {r.label: r.patient for r in people}.values()
    kept = tuple(r for r in people if r.plane != "axial" or r.patient not in unseen_from_above)
    out.mkdir()
    (out / "cheng").symlink_to(phantom)
    sartaj = open_dataset(write_nameless(replace(people, records=kept), out / "sartaj"))
    stolen = [r for r in sartaj if r.label == "no_tumor"][:2] + [r for r in sartaj if r.label == "glioma"][:2]
    write_yes_no([*open_dataset(other), *stolen], out / "navoneel")
    return out


def write_recipe(path: Path, **changes: Any) -> Path:
    """Write :func:`recipe_of` a small study to a file."""
    path.write_text(yaml.safe_dump(small_study(**changes), sort_keys=False), encoding="utf-8")
    return path


def small_study(**changes: Any) -> dict[str, Any]:
    """Return a study of one dataset and one training as its YAML says it, with other keys put in."""
    study: dict[str, Any] = {
        "name": "small",
        "title": "A small study",
        "question": "Does it run?",
        "about": "It trains a small network.",
        "data": ["cheng"],
        "seeds": 1,
        "train": dict(TRAIN),
        "trainings": {"one": {"data": "cheng", "protocol": "honest", "split": {"fractions": [0.5, 0.25, 0.25]}}},
        "changed": "Nothing.",
    }
    return study | changes


def lab_of(
    roots: Mapping[str, Path], folder: Path, *, scale: str = "full", **changes: Any
) -> tuple[Datasets, Trainings]:
    """Return the datasets and trainings of :func:`small_study`."""
    recipe = Recipe.model_validate(small_study(**changes))
    datasets = Datasets(recipe, recipe.scale(scale), roots, folder / "data")
    return datasets, Trainings(recipe, scale, datasets, folder / "trainings", device="cpu")


def shipped(name: str) -> dict[str, Any]:
    """Return what the YAML of a study that gyrus ships says."""
    return dict(yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8")))


def with_smoke(name: str) -> dict[str, Any]:
    """Return a shipped study with a scale "smoke" that a few dozen slices and seconds are enough for."""
    study = shipped(name)
    scale: dict[str, Any] = dict(SMOKE)
    if name == "cam-iou":
        scale["trainings"] = {f"alexnet-{p}": {"size": 64} for p in ("own", "honest")}
    if name == "cam-attention":
        scale["seeds"] = 2
        study["derived"]["copies"]["augmented"] |= {"copies": {"tumor": 1, "no_tumor": 2}, "size": 64}
    for training in study["trainings"].values():
        split = training.setdefault("split", {})
        if "folds" not in split:
            untested = split.get("fractions", [0, 0, 1])[2] == 0
            split["fractions"] = [0.75, 0.25, 0.0] if untested else [0.5, 0.25, 0.25]
    for analysis in study["analyses"].values():
        if analysis["kind"] == "board":
            analysis |= {"methods": ["cam", "layercam"], "layers": "last"}
        if analysis["kind"] == "joint":
            analysis |= {"learn": 6}
    study["scales"]["smoke"] = scale
    return study


def make_outcome(
    probabilities: list[list[float]],
    truth: list[int],
    groups: list[str],
    *,
    seeds: list[int] | None = None,
    ids: list[str] | None = None,
    runs: list[int] | None = None,
    **fields: Any,
) -> Outcome:
    """Return what a training said by hand: (N, C) probabilities beside what is true, in runs of so many rows each."""
    n = len(truth)
    names = ids or [f"{i}.png" for i in range(n)]
    classes = tuple("abcd"[: len(probabilities[0])])
    records = [Record(i, Path(i), classes[t], g) for i, t, g in zip(names, truth, groups, strict=True)]
    dataset = Dataset(DatasetInfo("hand", "made by hand"), Path(), tuple({r.id: r for r in records}.values()))
    at, units = 0, []
    for size in runs or [n]:
        part = tuple(records[at : at + size])
        seed = seeds[at] if seeds else 0
        at += size
        of = {r.id: str(r.patient) for r in part} | {"t1": "train-1", "t2": "train-2", "v1": "val-1"}
        tested = tuple(r.id for r in part)
        split = Split(("t1", "t2"), ("v1",), tested, "patient", of, "f" * 16, "hand", seed, "holdout")
        source = Source(dataset, dataset, Groups("patient", of))
        units.append(Unit(Path(f"run-{seed}"), seed, split, TrainConfig.model_validate(TRAIN), source, part))
    epochs = fields.pop("epochs", tuple(({"epoch": 1.0, "train_loss": 1.0, "train_accuracy": 0.5},) for _ in units))
    return Outcome(
        units=tuple(units),
        classes=classes,
        ids=tuple(names),
        groups=tuple(groups),
        seeds=np.array(seeds or [0] * n),
        truth=np.array(truth),
        logits=np.log(np.array(probabilities)).astype(np.float32),
        epochs=epochs,
        chosen=tuple(rows[-1] for rows in epochs),
        minutes=1.26,
        **fields,
    )
