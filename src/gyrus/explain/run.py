"""Explaining a whole dataset: one forward pass per batch, every method, each slice's own classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gyrus.errors import InputError
from gyrus.explain.engine import Attribution, Explainer
from gyrus.explain.methods import METHODS
from gyrus.loading import Progress, batches
from gyrus.maps import MapKey, Maps
from gyrus.models import Classifier
from gyrus.records import Record


def explain_records(
    model: Classifier,
    records: Sequence[Record],
    *,
    methods: Sequence[str] = tuple(METHODS),
    layers: Sequence[str] | None = None,
    true_class: bool = True,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Maps:
    """Return raw maps of every slice for its predicted class and, where its label is known, for its true one.

    Args:
        model: the classifier; left exactly as found.
        records: slices to explain.
        methods: names from :func:`gyrus.explain.list_methods`; all of them cost one pass.
        layers: module names; by default the last feature map.
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
        chosen = explainer.find_methods(methods)
        start = 0
        for batch in batches(records, model.spec.preprocess, batch_size, what="explaining", progress=progress):
            rows = slice(start, start + len(batch.records))
            run = explainer.forward(model.normalise(torch.from_numpy(batch.slices)))
            logits = run.logits.detach().float()
            targets = {"predicted": logits.argmax(dim=1)}
            if truth is not None:
                targets["true"] = truth[rows].to(logits.device)
            for kind, target in targets.items():
                result = Attribution(explainer.maps(run, target, chosen), logits, target)
                explained[kind] += [model.classes[int(c)] for c in target]
                for (method, layer), maps in result.maps.items():
                    key = MapKey(method, layer, kind)
                    if key not in arrays:
                        # Whole at once: kept batch by batch, small arrays among the activations would break up the
                        # heap, and the process would grow by several times what it keeps.
                        arrays[key] = np.empty((len(records), *maps.shape[1:]), dtype=np.float32)
                    arrays[key][rows] = maps.cpu().numpy()
                    status.setdefault(key, []).extend(result.status(method, layer))
            start = rows.stop
            del run  # with its graph, before the next one is made
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
