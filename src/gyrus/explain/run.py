"""Explaining a whole dataset: one forward pass per batch, every method, each slice's own classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.explain.cards import Options
from gyrus.explain.engine import Explainer
from gyrus.explain.layers import LayerSpec
from gyrus.explain.methods import DEFAULT_METHODS
from gyrus.explain.targets import TargetSpec
from gyrus.loading import Progress, batches
from gyrus.maps import MapKey, Maps
from gyrus.models import Classifier
from gyrus.records import Record


def explain_records(
    model: Classifier,
    records: Sequence[Record],
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    layers: LayerSpec = None,
    flips: bool = False,
    options: Options | None = None,
    true_class: bool = True,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Maps:
    """Return raw maps of every slice for its predicted class and, where its label is known, for its true one.

    Args:
        model: the classifier; left exactly as found.
        records: slices to explain.
        methods: names from :func:`gyrus.explain.list_methods`; those of one pass share it.
        layers: module names, "stages" or "sweep"; by default the last feature map. See :class:`Explainer`.
        flips: average each map with that of the mirrored slice, mirrored back.
        options: method name -> options that differ from its card.
        true_class: also explain the label, for records that all carry one the model knows.
        batch_size: slices per pass.
        progress: called after each batch.

    Raises:
        InputError: nothing to explain, an unreadable file, a label the model does not know, or see :class:`Explainer`.
    """
    if not records:
        raise InputError("there are no slices to explain: name a dataset, or a part of it, that has some")
    labelled = true_class and all(r.label is not None for r in records)
    truth = class_indices(records, model.classes) if labelled else None
    kinds = ("predicted", "true") if labelled else ("predicted",)
    arrays: dict[MapKey, NDArray[np.float32]] = {}
    status: dict[MapKey, list[str]] = {}
    explained: dict[str, list[str]] = {kind: [] for kind in kinds}
    with Explainer(model, layers) as explainer:
        explainer.find_methods(methods, options)  # what is asked for in vain is refused before a file is read
        start = 0
        for batch in batches(records, model.spec.preprocess, batch_size, what="explaining", progress=progress):
            rows = slice(start, start + len(batch.records))
            targets: dict[str, TargetSpec] = {"predicted": "predicted"}
            if truth is not None:
                targets["true"] = truth[rows]
            images = model.normalise(torch.from_numpy(batch.slices))
            found = explainer.several(images, targets, methods=methods, flips=flips, options=options)
            for kind, result in found.items():
                explained[kind] += [model.classes[int(c)] for c in result.target]
                for (method, layer), maps in result.maps.items():
                    key = MapKey(method, layer, kind)
                    if key not in arrays:
                        # Whole at once: kept batch by batch, small arrays among the activations would break up the
                        # heap, and the process would grow by several times what it keeps.
                        arrays[key] = np.empty((len(records), *maps.shape[1:]), dtype=np.float32)
                    arrays[key][rows] = maps.cpu().numpy()
                    status.setdefault(key, []).extend(result.status(method, layer))
            start = rows.stop
    return Maps(
        ids=tuple(r.id for r in records),
        arrays=arrays,
        status={key: tuple(parts) for key, parts in status.items()},
        explained={kind: tuple(names) for kind, names in explained.items()},
        preprocess=model.spec.preprocess,
    )


def class_indices(records: Sequence[Record], classes: Sequence[str]) -> torch.Tensor:
    """Return the (N,) int64 index of each record's label among the model's classes.

    Raises:
        InputError: a label the model does not know; the message names the record.
    """
    index = {name: i for i, name in enumerate(classes)}
    unknown = next((r for r in records if r.label not in index), None)
    if unknown is not None:
        raise InputError(
            f"{unknown.path} is labelled {unknown.label!r}, which the model does not know ({', '.join(classes)}): "
            "correct the label, or use a model trained on that class"
        )
    return torch.tensor([index[str(r.label)] for r in records])
