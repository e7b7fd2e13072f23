"""Train the plane recogniser that ships with gyrus, from nothing: ``python recipes/train_planes.py``.

Every slice is cut by :mod:`plane_slices` from heads whose orientation is known, so no label is by hand. One made head
in five and, of the volumes (``--volumes``), every second patient are held out, never trained on; they decide
below which confidence the recogniser says that it is unsure.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from plane_slices import (
    Drawn,
    nothing,
    phantom_slices,
    photographed,
    read_volumes,
    template,
    template_slices,
    volume_slices,
)
from safetensors.torch import save
from torch import Tensor

from gyrus.artifacts import sha256, write_json
from gyrus.augment import Augment, apply, draw
from gyrus.io import Image
from gyrus.phantom.anatomy import build_atlas
from gyrus.planes.network import SIZE, PlaneNet
from gyrus.planes.recogniser import ABOUT, HERE, SCHEMA, WEIGHTS, plane_probabilities
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import PLANES

SPEC = Preprocess(crop="head", size=SIZE, mean=(0.5,), std=(0.5,))
JITTER = Augment(flip=0.5, rotate=6, translate=0.04, scale=0.08, brightness=0.0, contrast=0.0)
NOTHING = len(PLANES)
LEAST_RIGHT = 0.98  # of what it answers on held-out slices
MOST_FOOLED = 0.02  # of pictures that are no slice, answered all the same
VARIANTS = 5
BATCH = 128
Slices = NDArray[np.uint8]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]


def main() -> None:
    """Cut, train, choose the threshold, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, help="folder of NIfTI files and DICOM series")
    parser.add_argument("--patients", type=int, default=600, help="phantom patients; a fifth as many templates")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the weights and their description")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)

    made = made_slices(args.patients, args.seed)
    real = [] if args.volumes is None else real_slices(args.volumes, args.seed)
    network, about = trained(made, real, args.epochs, args.seed)
    write(network, {**about, "patients": args.patients, "epochs": args.epochs, "seed": args.seed}, args.out)


def made_slices(patients: int, seed: int) -> list[Drawn]:
    """Return slices of phantom patients and of the template."""
    atlas, (brain, affine) = build_atlas(), template()
    made = [s for n in range(patients) for s in phantom_slices(atlas, n, seed)]
    return made + [s for n in range(patients // 5) for s in template_slices(brain, affine, n, seed)]


def real_slices(folder: Path, seed: int) -> list[Drawn]:
    """Return slices of every volume in a folder."""
    return [s for volume in read_volumes(folder) for s in volume_slices(volume, 20, seed)]


def is_held_out(head: str) -> bool:
    """Return whether a made head is kept for validation: one in five, by its name."""
    return zlib.crc32(head.encode()) % 5 == 0


def trained(made: Sequence[Drawn], real: Sequence[Drawn], epochs: int, seed: int) -> tuple[PlaneNet, dict[str, Any]]:
    """Return the trained network, rounded to the 16 bits it is stored in, and what was measured."""
    volumes = sorted({s.head for s in real})
    learnt = [s for s in made if not is_held_out(s.head)] + [s for s in real if s.head in volumes[::2]]
    slices, labels = prepared(learnt, VARIANTS, 0.1, seed)
    network = fit(slices, labels, epochs, seed).half().float()
    kept = [s for s in made if is_held_out(s.head)] + [s for s in real if s.head in volumes[1::2]]
    probabilities, planes = plane_probabilities(network, as_cut(kept)), np.asarray([s.plane for s in kept])
    fooled = plane_probabilities(network, pictures_of_nothing(kept, len(kept) // 4, np.random.default_rng(seed)))
    threshold = choose_threshold(probabilities, planes, fooled)
    report = {"answers to no slice": float((fooled.max(axis=1) >= threshold).mean())}
    for name in ("phantom", "template", "volume"):
        these = np.asarray([kind_of(s.head) == name for s in kept])
        if these.any():
            report[name] = summary(probabilities[these], planes[these], threshold)
    return network, {"unsure_below": threshold, "trained_on": len(slices), "held_out": report}


def prepared(drawn: Sequence[Drawn], variants: int, empty: float, seed: int) -> tuple[Slices, Labels]:
    """Return each slice photographed ``variants`` times and prepared, and a share of pictures of nothing."""
    rng = np.random.default_rng([seed, 4])
    slices = np.stack([prepare(photographed(s, rng), SPEC) for s in drawn for _ in range(variants)])
    blank = pictures_of_nothing(drawn, round(empty * len(slices)), rng)
    labels = [s.plane for s in drawn for _ in range(variants)] + [NOTHING] * len(blank)
    return np.concatenate([slices, blank]), np.asarray(labels, np.int64)


def pictures_of_nothing(drawn: Sequence[Drawn], count: int, rng: np.random.Generator) -> Slices:
    """Return prepared pictures that show no plane, some of them made from the slices."""
    pixels = np.stack([s.pixels for s in drawn])
    return np.stack([prepare(nothing(pixels, rng), SPEC) for _ in range(count)])


def as_cut(drawn: Sequence[Drawn]) -> Slices:
    """Return the slices prepared as they are."""
    return np.stack([prepare(Image(s.pixels.astype(np.float32)), SPEC) for s in drawn])


def kind_of(head: str) -> str:
    """Return what a head is: phantom, template or volume."""
    return next((kind for kind in ("phantom", "template") if head.startswith(kind)), "volume")


def fit(slices: Slices, labels: Labels, epochs: int, seed: int) -> PlaneNet:
    """Train a network: AdamW, one cycle, mirrored and jittered slices."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = PlaneNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    images, targets = torch.from_numpy(slices), torch.from_numpy(labels)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator)[: steps * BATCH].split(BATCH):
            batch = jittered(images[chosen], generator).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):  # half the time
                logits = network(batch)
            loss = F.cross_entropy(logits.float(), targets[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.3f}", flush=True)
    return network.eval()


def jittered(slices: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, 1, S, S) slices in [0, 1], moved a little and brightened by a power of their own."""
    moved = apply(slices, draw(JITTER, len(slices), generator))[:, None] / 255
    power = torch.exp(0.3 * torch.randn(len(slices), 1, 1, 1, generator=generator))
    return moved**power


def choose_threshold(probabilities: Probabilities, planes: Labels, fooled: Probabilities) -> float:
    """Return the lowest confidence, in hundredths from 0.5, that keeps both promises on what was held out."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == planes
    for threshold in np.arange(50, 100) / 100:
        kept = right[sure >= threshold].mean() >= LEAST_RIGHT
        if kept and (fooled.max(axis=1) >= threshold).mean() <= MOST_FOOLED:
            return float(threshold)
    raise RuntimeError("no threshold keeps both promises: train longer")


def summary(probabilities: Probabilities, planes: Labels, threshold: float) -> dict[str, Any]:
    """Return how many slices there are, how many are told right or not at all, and which plane was called what."""
    unsure = len(PLANES)
    guess = np.where(probabilities.max(axis=1) >= threshold, probabilities.argmax(axis=1), unsure)
    table = np.zeros((len(PLANES), unsure + 1), int)
    np.add.at(table, (planes, guess), 1)
    called = {
        plane: dict(zip((*PLANES, "unsure"), row.tolist(), strict=True))
        for plane, row in zip(PLANES, table, strict=True)
    }
    return {"slices": len(planes), "right": float((guess == planes).mean()), "unsure": float((guess == unsure).mean()),
            "called": called}  # fmt: skip


def write(network: PlaneNet, about: dict[str, Any], out: Path) -> None:
    """Write the weights in 16 bits and their description."""
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()}
    (out / WEIGHTS).write_bytes(save(state))
    write_json(
        out / ABOUT, {"schema": SCHEMA, "sha256": sha256(out / WEIGHTS), "preprocess": SPEC.model_dump(), **about}
    )
    print(f"{out / WEIGHTS}: {(out / WEIGHTS).stat().st_size} bytes; held out: {about['held_out']}")


if __name__ == "__main__":
    main()
