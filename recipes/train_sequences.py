"""Train the sequence recogniser that ships with gyrus, from nothing: ``python recipes/train_sequences.py DATA``.

DATA holds ``cheng``, all of it T1 after contrast medium, and ``sartaj``, whose sequences were told by eye
(``benchmarks/sequences.csv``; its copies of Cheng are not among them). The phantom's slices are cut by
:mod:`sequence_slices`. Cheng's persons are first halved, and each half is judged by a network that learned from the
other: the share of slices called T1-CE goes into the description. Then one network learns from all of them, and is
written.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from plane_slices import photographed
from sequence_slices import OTHER, sequence_slices
from torch import Tensor, nn

from gyrus import Record, open_dataset
from gyrus.artifacts import sha256, write_json
from gyrus.augment import Augment, apply, draw
from gyrus.phantom.anatomy import build_atlas
from gyrus.preprocess import Preprocess
from gyrus.sequences.recogniser import ABOUT, HERE, SCHEMA, WEIGHTS, prepare_sequence, standardised
from gyrus.words import SEQUENCES

TOLD = Path(__file__).parents[1] / "benchmarks" / "sequences.csv"
SPEC = Preprocess(crop="head", size=112, mean=(0.5,), std=(0.5,))
WIDTHS = (16, 32, 48, 64)
VARIANTS = 3
"""Photographs of each slice of the phantom."""
MIX = (64, 32, 32)
"""Of a batch: slices of the phantom, of Sartaj, of Cheng."""
MADE = Augment(flip=0.5, rotate=6, translate=0.04, scale=0.08, brightness=0, contrast=0, noise=0.05)
REAL = Augment(
    flip=0.5, rotate=15, translate=0.05, scale=0.15, brightness=0.05, contrast=0.2, bias=0.3, noise=0.05, peel=0.25
)
UNSURE_BELOW = 0.5
CE = SEQUENCES.index("T1-CE")

Slices = NDArray[np.uint8]
Labels = NDArray[np.int64]


class SequenceNet(nn.Module):
    """3 x 3 convolutions in four stages, each halving the resolution; the mean and the greatest of each feature decide.

    What is bright matters, not where, and a vessel is as telling as all the white matter.
    """

    def __init__(self) -> None:
        super().__init__()
        before = WIDTHS[0]
        layers = [*_conv(1, before, 2)]
        for width in WIDTHS[1:]:
            layers += [*_conv(before, width, 2), *_conv(width, width, 1)]
            before = width
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(2 * before, len(SEQUENCES) + 1)

    def forward(self, slices: Tensor) -> Tensor:
        """Return (N, 5) logits, the last of what is no such sequence, of (N, 1, S, S) standardised slices."""
        seen = self.features(slices)
        logits: Tensor = self.head(self.drop(torch.cat([seen.mean(dim=(2, 3)), seen.amax(dim=(2, 3))], dim=1)))
        return logits


def _conv(before: int, width: int, stride: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))


@dataclass(frozen=True, eq=False)
class Material:
    """(N, S, S) slices, (N,) sequences, and (N,) how often each is drawn."""

    slices: Slices
    labels: Labels
    weights: NDArray[np.float64]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return some of the slices and their labels."""
        rows = torch.multinomial(torch.from_numpy(self.weights), count, replacement=True, generator=generator)
        return torch.from_numpy(self.slices)[rows], torch.from_numpy(self.labels)[rows]


def main() -> None:
    """Make the material, train, and write the network and its description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds cheng and sartaj")
    parser.add_argument("--patients", type=int, default=500, help="of the phantom")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the network and its description")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)

    made, sartaj = phantom(args.patients, args.seed), told(args.data / "sartaj")
    cheng, persons = contrasted(args.data / "cheng")
    half = dict(
        zip(names := sorted(set(persons)), np.random.default_rng(args.seed).permutation(len(names)) % 2, strict=True)
    )
    halves = np.array([half[p] for p in persons])
    unseen = np.empty(len(persons))
    for k in (0, 1):
        network = fit([made, sartaj, known(cheng[halves != k], persons, halves != k)], args.steps, args.seed)
        unseen[halves == k] = probabilities(network, cheng[halves == k])[:, CE]
    everyone = np.ones(len(persons), dtype=np.bool_)
    network = fit([made, sartaj, known(cheng, persons, everyone)], args.steps, args.seed)
    write(network, args.out, {
        "unsure_below": UNSURE_BELOW,
        "trained_on": {"phantom": len(made.labels), "sartaj": len(sartaj.labels), "cheng": len(cheng)},
        "patients": args.patients, "steps": args.steps, "seed": args.seed,
        "unseen_cheng": {"slices": len(unseen), "persons": len(names),
                         "called T1-CE": float((unseen >= UNSURE_BELOW).mean()),
                         "exceeded by 99 %": float(np.quantile(unseen, 0.01))},
    })  # fmt: skip


def phantom(patients: int, seed: int) -> Material:
    """Return slices of phantom patients, photographed."""
    atlas, rng = build_atlas(), np.random.default_rng([seed, 8])
    drawn = [s for n in range(patients) for s in sequence_slices(atlas, n, seed)]
    slices = np.stack(
        [prepare_sequence(photographed(s, rng, clutter=False), SPEC) for s in drawn for _ in range(VARIANTS)]
    )
    labels = np.array([s.sequence for s in drawn for _ in range(VARIANTS)], np.int64)
    return Material(slices, labels, np.ones(len(labels)))


def told(folder: Path) -> Material:
    """Return Sartaj's slices whose sequence could be told by eye; every sequence is drawn alike, other things half."""
    with TOLD.open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["dataset"] == folder.name and r["sequence"]]
    names = (*SEQUENCES, "other")
    labels = np.array([names.index(r["sequence"]) for r in rows], np.int64)
    share = 1 / np.bincount(labels, minlength=len(names))
    share[OTHER] /= 2
    return Material(_read([Record(r["file"], folder / r["file"]) for r in rows]), labels, share[labels])


def contrasted(folder: Path) -> tuple[Slices, list[str]]:
    """Return Cheng's slices and whose each is."""
    data = open_dataset(folder)
    return _read(data.records), [str(r.patient) for r in data]


def known(slices: Slices, persons: Sequence[str], chosen: NDArray[np.bool_]) -> Material:
    """Return slices of T1-CE; someone with four times as many is drawn twice as often."""
    whose = [p for p, c in zip(persons, chosen, strict=True) if c]
    _, of, counts = np.unique(whose, return_inverse=True, return_counts=True)
    return Material(slices, np.full(len(slices), CE, np.int64), counts[of] ** -0.5)


def _read(records: Sequence[Record]) -> Slices:
    return np.stack([prepare_sequence(r.read(), SPEC) for r in records])


def fit(material: Sequence[Material], steps: int, seed: int) -> SequenceNet:
    """Train a network: AdamW, one cycle."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = SequenceNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    total = 0.0
    for step in range(1, steps + 1):
        parts = [m.draw(n, generator) for m, n in zip(material, MIX, strict=True)]
        moved = torch.cat([apply(slices, draw(MADE if i == 0 else REAL, len(slices), generator))
                           for i, (slices, _) in enumerate(parts)])  # fmt: skip
        power = torch.exp(0.3 * torch.randn(len(moved), 1, 1, generator=generator))
        batch = standardised_tensor((moved / 255).clamp(0, 1) ** power)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # half the time
            logits = network(batch.to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), torch.cat([labels for _, labels in parts]), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % 100 == 0:
            print(f"step {step}/{steps}: loss {total / 100:.3f}", flush=True)
            total = 0.0
    return network.eval()


def standardised_tensor(slices: Tensor) -> Tensor:
    """Return (N, 1, S, S) of (N, S, S) slices in [0, 1], as :func:`gyrus.sequences.recogniser.standardised` does."""
    mean, deviation = (slices.mean(dim=(1, 2), keepdim=True), slices.std(dim=(1, 2), keepdim=True, correction=0))
    return ((slices - mean) / (deviation + 1e-3))[:, None]


def probabilities(network: SequenceNet, slices: Slices) -> NDArray[np.float32]:
    """Return (N, 5) probabilities, each slice seen as it is and mirrored."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(slices), 64):
            batch = torch.from_numpy(standardised(slices[start : start + 64]))
            rows.append(((network(batch).softmax(dim=1) + network(batch.flip(-1)).softmax(dim=1)) / 2).numpy())
    return np.concatenate(rows)


def write(network: SequenceNet, out: Path, about: dict[str, Any]) -> None:
    """Write the network as ONNX, its normalisations folded into its convolutions, and its description."""
    nodes, weights, seen = [], [], "slices"

    def keep(name: str, values: Tensor) -> str:
        weights.append(numpy_helper.from_array(values.detach().float().numpy(), name))
        return name

    layers = list(network.features)
    for i, (conv, norm) in enumerate(zip(layers[::3], layers[1::3], strict=True)):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        named = [keep(f"weight{i}", conv.weight * scale[:, None, None, None]),
                 keep(f"bias{i}", norm.bias - norm.running_mean * scale)]  # fmt: skip
        nodes.append(helper.make_node("Conv", [seen, *named], [f"conv{i}"], kernel_shape=[3, 3],
                                      strides=list(conv.stride), pads=[1, 1, 1, 1]))  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"conv{i}"], [seen := f"relu{i}"]))
    nodes += [
        helper.make_node("GlobalAveragePool", [seen], ["mean"]),
        helper.make_node("GlobalMaxPool", [seen], ["most"]),
        helper.make_node("Concat", ["mean", "most"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", keep("head", network.head.weight), keep("head_bias", network.head.bias)],
                         ["logits"], transB=1),
    ]  # fmt: skip
    side = SPEC.size
    graph = helper.make_graph(
        nodes, "sequences",
        [helper.make_tensor_value_info("slices", TensorProto.FLOAT, ["n", 1, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(SEQUENCES) + 1])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="gyrus", ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, out / WEIGHTS)
    write_json(
        out / ABOUT, {"schema": SCHEMA, "sha256": sha256(out / WEIGHTS), "preprocess": SPEC.model_dump(), **about}
    )
    print(f"{out / WEIGHTS}: {(out / WEIGHTS).stat().st_size} bytes; {about['unseen_cheng']}")


if __name__ == "__main__":
    main()
