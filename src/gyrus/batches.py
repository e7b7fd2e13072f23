"""What a training run reads: all slices in memory, cut into batches in an order that can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gyrus.preprocess import Preprocess, frame_of
from gyrus.records import Record
from gyrus.trainconfig import TrainConfig

HEALTHY = "no_tumor"


@dataclass(eq=False)
class Batches:
    """Batches straight from cached slices or features; the order of a shuffled pass depends on (seed, epoch) alone."""

    inputs: np.ndarray[Any, Any]
    labels: Tensor
    config: TrainConfig
    outlines: tuple[np.ndarray[Any, np.dtype[np.uint8]], Tensor] | None = None
    epoch: Callable[[], int] | None = None

    def __len__(self) -> int:
        n = len(self.labels)
        return min(-(-n // self.config.batch_size), max(n // 2, 1)) if n else 0

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.labels)
        order = torch.arange(n)
        if self.epoch is not None:
            generator = torch.Generator().manual_seed(stream(self.config.seed, self.epoch(), 0))
            order = torch.randperm(n, generator=generator)
        inputs = torch.from_numpy(self.inputs)
        for chunk in order.tensor_split(len(self)):  # sizes differ by one at most: no odd batch of one
            outlined = (
                () if self.outlines is None else (torch.from_numpy(self.outlines[0])[chunk], self.outlines[1][chunk])
            )
            yield inputs[chunk], self.labels[chunk], *outlined


def stream(*key: int) -> int:
    """Return a seed that depends on every number of ``key`` and on nothing else."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def outlines_of(records: Sequence[Record], spec: Preprocess) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Tensor]:
    """Return (N, size, size) the share of each input pixel that is tumour, in 255ths, and (N,) whether it is known."""
    shares = np.zeros((len(records), spec.size, spec.size), dtype=np.uint8)
    for i, record in enumerate(records):
        if record.mask is not None:
            image = record.read()
            mask = record.read_mask(image.shape)
            assert mask is not None, "the record has one"
            shares[i] = np.rint(255 * frame_of(image, spec).cut(mask, spec.size))
    known = [record.mask is not None or record.label == HEALTHY for record in records]
    return shares, torch.tensor(known, dtype=torch.float32)


def indices_of(records: Sequence[Record], classes: tuple[str, ...]) -> Tensor:
    """Return the (N,) class numbers of labelled slices."""
    return torch.tensor([classes.index(str(r.label)) for r in records], dtype=torch.int64)
