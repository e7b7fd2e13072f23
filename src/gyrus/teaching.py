"""Outlines where nobody has drawn any: a trained model's map of the known class marks what it sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gyrus.batches import outlines_of
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.loading import Progress, load_slices
from gyrus.models import Classifier, load_model
from gyrus.preprocess import Preprocess
from gyrus.records import Record
from gyrus.shipped import list_shipped
from gyrus.thresholds import LARGEST, find_threshold
from gyrus.trainconfig import GUIDES, TrainConfig
from gyrus.words import HEALTHY

CUT = find_threshold(f"prominence:0.5+{LARGEST}")
"""Half of the peak's prominence over the map's median, in one piece: where the logits' zero lies does not matter."""

_BATCH = 32


def find_teacher(config: TrainConfig, classes: Sequence[str]) -> Classifier | None:
    """Return the model whose maps guide a training, or None where none does.

    Args:
        config: the recipe.
        classes: that the learner is trained for.

    Raises:
        InputError: there is no such model, it has no class map, frames slices in another way than the learner, or
            knows no tumour of these classes.
    """
    if config.teacher is None:
        return None
    if not config.teacher.exists() and config.guide in list_shipped():
        raise InputError(
            f"guide {config.guide} learned from every person of its data, so those that a split holds back may not be "
            "new to what it guides: train a model on this split, and name its run"
        )
    if not config.teacher.is_dir():
        raise InputError(f"guide {config.guide!r} is neither {' nor '.join(GUIDES)}, nor a trained model: correct it")
    teacher = load_model(config.teacher, device=pick_device(config.device))
    if not teacher.has_class_map:
        raise InputError(f"{config.guide} ends in dense layers, so it has no map to guide by: choose another --guide")
    if _framing(teacher.spec.preprocess) != _framing(config.preprocess()):
        raise InputError(
            f"{config.guide} prepares slices in another way (canonical form, crop, fit) than what it is to guide: "
            "train both alike"
        )
    if not {*classes} & {*teacher.classes} - {HEALTHY}:
        raise InputError(
            f"{config.guide} knows {', '.join(teacher.classes)}, and the data's classes are {', '.join(classes)}: "
            "choose another --guide"
        )
    return teacher


def teacher_facts(teacher: Classifier) -> dict[str, Any]:
    """Return what a trained model tells of the one that guided it."""
    form = ("architecture", "pooling", "fuse", "output_stride", "truncate")
    return {**{name: getattr(teacher.spec, name) for name in form}, **teacher.spec.training}


def all_trainings(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a model's description says of its training, and of those of the models it came from.

    Args:
        training: of its description; ``before`` holds that of the model it began from, ``teacher`` of the one that
            guided it.
    """
    further = [inner for key in ("before", "teacher") if isinstance(inner := training.get(key), Mapping)]
    return [training, *(one for inner in further for one in all_trainings(inner))]


def guiding_outlines(
    config: TrainConfig,
    teacher: Classifier | None,
    train: Sequence[Record],
    made: Iterable[Record],
    spec: Preprocess,
    progress: Progress | None = None,
) -> tuple[NDArray[np.uint8], Tensor] | None:
    """Return the outlines that guide a training, first of ``train`` and then of ``made``; None where nothing guides.

    Args:
        config: the recipe.
        teacher: see :func:`find_teacher`.
        train: real slices.
        made: synthetic ones, whose own outlines are always taken.
        spec: how slices are prepared.
        progress: called as slices are read.

    Raises:
        InputError: outlines are to guide and no slice has one, or a slice or an outline cannot be read.
    """
    if config.guide == "none":
        return None
    if teacher is None:
        found = outlines_of([*train, *made], spec)
        if not found[0].any():  # the empty maps of no_tumor would be all that is learned from
            raise InputError(
                "no slice of the train part has a tumour's outline: leave --guide mask out, or guide by a trained model"
            )
        return found
    marked, drawn = taught_outlines(teacher, train, spec, progress), outlines_of([*made], spec)
    return np.concatenate([marked[0], drawn[0]]), torch.cat([marked[1], drawn[1]])


def taught_outlines(
    teacher: Classifier, records: Sequence[Record], spec: Preprocess, progress: Progress | None = None
) -> tuple[NDArray[np.uint8], Tensor]:
    """Return outlines of slices as a trained model would draw them; those that people drew are not read.

    Of each slice the teacher makes the map of the class that is known, averaged with that of the mirrored slice; what
    :data:`CUT` keeps of it is the outline. Its batch statistics are first taken from these slices (Li et al. 2016,
    "Revisiting batch normalization for practical domain adaptation"), because a teacher of another scanner, or of none,
    is here for its eye and not for its answers.

    Args:
        teacher: from :func:`find_teacher`; left in evaluation mode with the statistics of these slices.
        records: N labelled slices.
        spec: how the learner's slices are prepared; the teacher's are framed alike, but may be of another size.
        progress: called as slices are read.

    Returns:
        (N, size, size) shares in 255ths, and (N,) whether the outline is known: not of a class the teacher lacks, nor
        where its map is blank. Slices of no_tumor have an empty one.

    Raises:
        InputError: a slice cannot be read.
    """
    labels = [str(r.label) for r in records]
    slices = torch.from_numpy(
        load_slices(records, teacher.spec.preprocess, what="reading for the teacher", progress=progress)
    )
    shares = np.zeros((len(records), spec.size, spec.size), dtype=np.uint8)
    known = torch.zeros(len(records))
    with torch.inference_mode():
        _adapt(teacher.eval(), slices)
        for start in range(0, len(records), _BATCH):
            maps = _symmetric_maps(teacher, slices[start : start + _BATCH])
            for i, label in enumerate(labels[start : start + _BATCH], start):
                if label == HEALTHY:
                    known[i] = 1
                elif label in teacher.classes:
                    grid = maps[i - start, teacher.classes.index(label)][None, None]
                    size = (spec.size, spec.size)
                    placed = F.interpolate(grid, size, mode="bilinear", align_corners=False)[0, 0]
                    shares[i] = 255 * CUT.keep(placed.numpy())
                    known[i] = float(shares[i].any())
            if progress:
                progress("marking tumours", min(start + _BATCH, len(records)), len(records))
    return shares, known


def _symmetric_maps(model: Classifier, slices: Tensor) -> Tensor:
    """Return (n, classes, h, w) class maps of uint8 slices, averaged with those of their mirror images."""
    images = model.normalise(slices)
    plain, mirrored = (model.class_map(model.features(x)).float().cpu() for x in (images, images.flip(-1)))
    return (plain + mirrored.flip(-1)) / 2


def _adapt(model: Classifier, slices: Tensor) -> None:
    """Give a model's batch normalisations the mean and variance of these slices, in a fixed mixed order."""
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
        layer.train()
    order = torch.randperm(len(slices), generator=torch.Generator().manual_seed(0))
    for chunk in order.tensor_split(-(-len(slices) // _BATCH)) if layers else ():
        model.features(model.normalise(slices[chunk]))
    model.eval()


def _framing(spec: Preprocess) -> tuple[object, ...]:
    """Return what decides which part of an image the network's square shows."""
    return spec.crop, spec.background, spec.margin, spec.fit
