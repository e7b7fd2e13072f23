"""Recognise the sequence of slices whose files do not say, with the small network that ships beside this module.

OpenCV runs it, so that an exported model, which needs no torch, is asked the same and answers the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import read_json, sha256
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.loading import Progress, read_ahead
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record
from gyrus.words import SEQUENCES

HERE = Path(__file__).parent
WEIGHTS, ABOUT, SCHEMA = "sequences.onnx", "sequences.json", "gyrus.sequences/1"
_BATCH, _SIDE = 64, 256
_NOTHING = np.empty((0, len(SEQUENCES)), np.float32)
_ASKING = Lock()  # a network of OpenCV's holds the slices it is asked about


@dataclass(frozen=True, slots=True)
class SequenceGuess:
    """What the recogniser says of one slice.

    Attributes:
        sequence: "T1", "T1-CE", "T2" or "FLAIR"; None where it is unsure.
        confidence: the greatest of the four probabilities, in [0, 1].
        probabilities: of each sequence; what they lack to 1 is the probability that it is something else, such as CT.
    """

    sequence: str | None
    confidence: float
    probabilities: Mapping[str, float]


class _Shipped(NamedTuple):
    """The network, what it expects, and the confidence below which it is unsure."""

    network: Any
    spec: Preprocess
    unsure_below: float


def recognise_sequences(
    images: Sequence[Image] | Sequence[Record], *, progress: Progress | None = None
) -> list[SequenceGuess]:
    """Tell the sequence of each slice from its pixels alone.

    Each slice is seen twice, as it is and mirrored, and the two sets of probabilities are averaged. What a slice is
    given does not depend on the others. Runs on the CPU, without torch.

    Args:
        images: slices as read, or records, which are read one batch at a time; of any size, plane and unit.
        progress: called as records are read.

    Returns:
        One guess per slice, in their order.

    Raises:
        InputError: a record's file cannot be read, or the network's own files are damaged.
    """
    guesses = []
    for row in np.concatenate([_NOTHING, *_told(images, progress)]):
        likely = int(row.argmax())
        sequence = SEQUENCES[likely] if row[likely] >= _shipped().unsure_below else None
        by_name = {name: float(p) for name, p in zip(SEQUENCES, row, strict=True)}
        guesses.append(SequenceGuess(sequence, float(row[likely]), MappingProxyType(by_name)))
    return guesses


def _told(images: Sequence[Image] | Sequence[Record], progress: Progress | None) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of one batch after the other; records are read ahead."""
    records = [i for i in images if isinstance(i, Record)]
    done = 0
    for chunk, small in read_ahead(records, lambda r: prepare_sequence(r.read()), _BATCH):
        yield sequence_probabilities(np.stack([s for s in small if not isinstance(s, InputError)]))
        done += len(chunk)
        if progress:
            progress("sequences", done, len(records))
    pictures = [prepare_sequence(i) for i in images if isinstance(i, Image)]
    if pictures:
        yield sequence_probabilities(np.stack(pictures))


def prepare_sequence(image: Image, spec: Preprocess | None = None) -> NDArray[np.uint8]:
    """Return an image as the recogniser sees it, (S, S).

    Args:
        image: of any size; a large one is first shrunk, since the head is found as well there and four times as fast.
        spec: to train another recogniser with; by default what the shipped one expects.
    """
    scale = _SIDE / max(image.shape)
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape)
        image = Image(np.asarray(cv2.resize(image.pixels, (width, height), interpolation=cv2.INTER_AREA), np.float32))
    return prepare(image, spec or _shipped().spec)


def sequence_of(image: Image) -> NDArray[np.float32]:
    """Return the (4,) probabilities of one image, in the order of SEQUENCES."""
    return np.asarray(sequence_probabilities(prepare_sequence(image)[None])[0])


def sequence_probabilities(slices: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the (N, 4) probabilities, in the order of SEQUENCES, of (N, S, S) slices that were prepared for it."""
    rows = [_NOTHING]
    for start in range(0, len(slices), _BATCH):
        batch = standardised(slices[start : start + _BATCH])
        plain, mirrored = np.split(_softmax(_asked(np.concatenate([batch, batch[..., ::-1]]))), 2)
        rows.append((plain + mirrored)[:, : len(SEQUENCES)] / np.float32(2))
    return np.concatenate(rows)


def standardised(slices: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 1, S, S) slices of mean 0 and deviation 1 each, or all 0 where a slice is of one grey."""
    scaled = slices[:, None].astype(np.float32) / 255
    mean, deviation = (f(scaled, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.std))
    return np.asarray((scaled - mean) / (deviation + np.float32(1e-3)), np.float32)


def _asked(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, 5) logits of slices."""
    network = _shipped().network
    with _ASKING:
        network.setInput(np.ascontiguousarray(batch))
        return np.array(network.forward(), dtype=np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


@cache
def _shipped() -> _Shipped:
    about = read_json(HERE / ABOUT, "the description of gyrus's sequence recogniser")
    if about["sha256"] != sha256(HERE / WEIGHTS):
        raise InputError(f"{HERE / WEIGHTS} is not the file that {ABOUT} describes: install gyrus again")
    network = cv2.dnn.readNetFromONNX(np.frombuffer((HERE / WEIGHTS).read_bytes(), np.uint8))
    return _Shipped(network, Preprocess.model_validate(about["preprocess"]), float(about["unsure_below"]))
