"""Recognise the plane of slices whose files do not say, with the small network that ships beside this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, sha256
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.loading import Progress, load_slices
from gyrus.preprocess import Preprocess, prepare_all
from gyrus.records import PLANES, Record

if TYPE_CHECKING:
    from gyrus.planes.network import PlaneNet

HERE = Path(__file__).parent
WEIGHTS, ABOUT, SCHEMA = "planes.safetensors", "planes.json", "gyrus.planes/1"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class PlaneGuess:
    """What the recogniser says of one slice.

    Attributes:
        plane: "axial", "coronal" or "sagittal"; None where it is unsure.
        confidence: the greatest of the three probabilities, in [0, 1].
        probabilities: of each plane; what they lack to 1 is the probability that it is no slice of a head.
    """

    plane: str | None
    confidence: float
    probabilities: Mapping[str, float]


def recognise_planes(
    images: Sequence[Image] | Sequence[Record], *, progress: Progress | None = None
) -> list[PlaneGuess]:
    """Tell the plane of each slice from its pixels alone.

    Each slice is seen twice, as it is and mirrored, and the two sets of probabilities are averaged. What a slice is
    given does not depend on the others. Runs on the CPU; the first call imports torch.

    Args:
        images: slices as read, or records, which are read one batch at a time; of any size and contrast.
        progress: called as records are read.

    Returns:
        One guess per slice, in their order.

    Raises:
        InputError: a record's file cannot be read, or the network's own files are damaged.
    """
    network, spec, unsure_below = _shipped()
    slices = _prepared(images, spec, progress)
    guesses = []
    for row in plane_probabilities(network, slices):
        likely = int(row.argmax())
        plane = PLANES[likely] if row[likely] >= unsure_below else None
        by_name = {name: float(p) for name, p in zip(PLANES, row, strict=True)}
        guesses.append(PlaneGuess(plane, float(row[likely]), MappingProxyType(by_name)))
    return guesses


def plane_probabilities(network: PlaneNet, slices: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the (N, 3) probabilities of the planes of (N, S, S) prepared slices, in the order of PLANES."""
    import torch

    rows = [np.empty((0, len(PLANES)), np.float32)]
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(slices), _BATCH):
            batch = torch.from_numpy(slices[start : start + _BATCH]).float()[:, None] / 255
            both = (network(batch).softmax(dim=1) + network(batch.flip(-1)).softmax(dim=1)) / 2
            rows.append(both[:, : len(PLANES)].numpy())
    return np.concatenate(rows)


def _prepared(
    images: Sequence[Image] | Sequence[Record], spec: Preprocess, progress: Progress | None
) -> NDArray[np.uint8]:
    records = [i for i in images if isinstance(i, Record)]
    if records:
        return load_slices(records, spec, what="planes", progress=progress)
    return prepare_all([i for i in images if isinstance(i, Image)], spec)


@cache
def _shipped() -> tuple[PlaneNet, Preprocess, float]:
    """Return the network that ships with gyrus, what it expects, and the confidence below which it is unsure."""
    from safetensors.torch import load

    from gyrus.planes.network import PlaneNet

    about = read_json(HERE / ABOUT, "the description of gyrus's plane recogniser")
    if about["sha256"] != sha256(HERE / WEIGHTS):
        raise InputError(f"{HERE / WEIGHTS} is not the file that {ABOUT} describes: install gyrus again")
    network = PlaneNet()
    network.load_state_dict({k: v.float() for k, v in load((HERE / WEIGHTS).read_bytes()).items()})
    return network.eval(), Preprocess.model_validate(about["preprocess"]), float(about["unsure_below"])
