"""What a frozen network makes of slices, computed once and kept on disk for every run that asks again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gyrus.artifacts import to_json
from gyrus.devices import has_fast_bf16
from gyrus.loading import Progress, batches
from gyrus.models import Classifier
from gyrus.records import Record

BATCH = 32

_FORM = {"architecture", "pooling", "keep_dense", "output_stride", "truncate", "fuse", "preprocess"}
"""What of a model's description decides its features; the same weights give others at another stride."""


def embed_records(
    model: Classifier,
    records: Sequence[Record],
    *,
    store: Path | None = None,
    precision: str = "auto",
    what: str = "features",
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Return what the last layer takes of every slice, see :meth:`gyrus.Classifier.embed`.

    Args:
        model: its body is run in evaluation mode, without gradients; its head is not looked at.
        records: N slices.
        store: a folder where features are kept, one file per network, preprocessing and precision; those that are
            there are not computed again. A slice is known by its file's place, size and date.
        precision: "auto" is bfloat16 where the processor multiplies it in hardware; "bf16", "fp32".
        what: the word for ``progress``.
        progress: called after each batch.

    Returns:
        (N, ...) float32.

    Raises:
        InputError: a slice cannot be read.
    """
    device = model.mean.device
    bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    file = None if store is None else store / f"{_digest(model, bf16)}.safetensors"
    known = {} if file is None else _kept(file)
    names = [_name(r) for r in records] if file is not None else [r.id for r in records]
    missing = [i for i, name in enumerate(names) if name not in known]
    was = model.training
    model.eval()
    start = 0
    for batch in batches([records[i] for i in missing], model.spec.preprocess, BATCH, what=what, progress=progress):
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = model.embed(model.normalise(torch.from_numpy(batch.slices))).float().cpu().numpy()
        # In order: safetensors writes memory as it lies, and a map's channels may lie last.
        known |= {names[missing[start + k]]: np.ascontiguousarray(row) for k, row in enumerate(found)}
        start += len(batch.records)
    model.train(was)
    if file is not None and missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.partial")
        aside.write_bytes(save(known))
        aside.replace(file)
    return np.stack([known[name] for name in names]) if names else np.empty(0, dtype=np.float32)


def _kept(file: Path) -> dict[str, NDArray[np.float32]]:
    """Return what a file of the store holds: nothing, if it is not there or damaged, and it is written again."""
    try:
        return load_file(file) if file.is_file() else {}
    except SafetensorError:
        return {}


def _digest(model: Classifier, bf16: bool) -> str:
    """Return 16 hex digits that change with whatever decides the features besides the slice."""
    digest = hashlib.sha256(to_json([model.spec.model_dump(include=_FORM), bf16]).encode())
    for name, tensor in model.state_dict().items():
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _name(record: Record) -> str:
    try:
        stat = record.path.stat()
    except OSError:
        return record.id  # reading it will say what is wrong
    return f"{record.path.absolute()}|{record.at}|{stat.st_size}|{stat.st_mtime_ns}"
