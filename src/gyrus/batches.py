"""What a training run reads: all slices in memory, cut into batches in an order that can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gyrus.erasure import erase
from gyrus.preprocess import Preprocess, frame_of
from gyrus.records import Record
from gyrus.trainconfig import TrainConfig
from gyrus.words import HEALTHY


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
        for step, chunk in enumerate(order.tensor_split(len(self))):  # sizes differ by one at most: no odd batch of one
            if self.outlines is None:
                yield inputs[chunk], self.labels[chunk]
                continue
            shares, known = self.outlines
            slices, outlines, gone = self._erased(inputs[chunk], torch.from_numpy(shares)[chunk], known[chunk], step)
            yield slices, self.labels[chunk], outlines, known[chunk], gone

    def counts(self, classes: int) -> Tensor:
        """Return how many slices of each of the classes an epoch shows on average: (classes,) float32.

        A slice without its tumour is of no class.
        """
        shown = torch.bincount(self.labels, minlength=classes).float()
        if self.outlines is not None:
            outlined = torch.from_numpy(self.outlines[0].any(axis=(1, 2)))
            shown -= self.config.erase * torch.bincount(self.labels[outlined], minlength=classes)
        return shown

    def _erased(self, slices: Tensor, outlines: Tensor, known: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return slices and outlines after the erasures, and (N,) which lost their tumour."""
        if not self.config.erase:
            return slices, outlines, torch.zeros(len(slices), dtype=torch.bool)
        epoch = self.epoch() if self.epoch is not None else 0
        rng = np.random.default_rng([self.config.seed, epoch, 3, step])
        done = erase(slices.numpy(), outlines.numpy(), known.numpy(), self.config.erase, rng)
        return torch.from_numpy(done.slices), torch.from_numpy(done.outlines), torch.from_numpy(done.gone)


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
