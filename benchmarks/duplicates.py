"""How well and how fast copies are found: gyrus against imagededup's PHash and CNN, on slices whose copies are known.

    python benchmarks/duplicates.py [--data DIR] [--peers phash cnn] [--weights FILE]
    python benchmarks/duplicates.py [--data DIR] --growth 1000 5000 15000

The planted set (planted.py) holds every source once and one altered copy of each. Sources are phantom slices and, with
``--data``, the Cheng slices and the Sartaj slices under DIR/cheng and DIR/sartaj. No two Cheng or phantom slices are
the same, so any two of them that are merged are merged falsely; many are neighbours in one patient. Sartaj repeats
itself and Cheng in ways nobody has listed, so two real slices one of which is Sartaj's are not judged.

The persons are dealt into two halves by a hash of their names. gyrus's constants were set on the half called A; all
figures are of half B. A peer gets the threshold that is best for it on B itself: the lowest at which it merges nothing
falsely there, which nobody would know in practice. A further row lets it be wrong in one merge of twenty.
imagededup looks for no flips and turns, so the recall over the kinds that leave the picture upright is given too.
Intervals are Wilson's, 95 %.

imagededup is no dependency of gyrus: pip install imagededup. Its CNN is MobileNetV2 with ImageNet weights, from
``--weights`` (torchvision's file), or as torchvision fetches them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from planted import CHANGES, UPRIGHT, Planted, plant

from gyrus.datasets import open_dataset
from gyrus.duplicates import find_copies
from gyrus.duplicates.find import digest_of
from gyrus.duplicates.verify import SIMILAR
from gyrus.phantom import make_phantom
from gyrus.records import Record

SARTAJ = 600
"""Sartaj slices taken, evenly over the folder."""
TOLERATED = 0.95
"""The precision of the row in which the peers may err."""
PEERS = ("phash", "cnn")
_BLOCK = 512
_FINE = 100_000  # steps in which cosines are told apart


@dataclass(frozen=True)
class Outcome:
    """What one method did on half B.

    Attributes:
        name: the method.
        threshold: the score from which it merges.
        found: per source, whether its copy was merged with it.
        tolerant: the same at a precision of :data:`TOLERATED`, where the threshold was chosen here.
        false: pairs of different slices it merged, both in half B.
        wall: seconds, reading the files included.
        cpu: processor seconds, those of worker processes included.
    """

    name: str
    threshold: float
    found: NDArray[np.bool_]
    tolerant: NDArray[np.bool_]
    false: int
    wall: float
    cpu: float


@dataclass(frozen=True)
class Truth:
    """Which of the 2 n planted files are the same slice, which are not, and whose half they are in.

    Attributes:
        n: sources.
        kinds: what the copy of each went through, (n,).
        known: whether all copies of a file are known, (2 n,).
        phantom: whether it is a phantom slice, (2 n,).
        reported: whether it is in half B, (2 n,).
    """

    n: int
    kinds: NDArray[np.str_]
    known: NDArray[np.bool_]
    phantom: NDArray[np.bool_]
    reported: NDArray[np.bool_]

    def differ(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pairs, broadcast, are known to be different slices, both in half B."""
        judged = (self.known[rows] & self.known[columns]) | (self.phantom[rows] != self.phantom[columns])
        return np.asarray(judged & (rows % self.n != columns % self.n) & self.reported[rows] & self.reported[columns])


def processor_seconds() -> float:
    """Return the time spent on processors by this process and the workers it has waited for."""
    return sum(os.times()[:4])


def truth_of(planted: Planted) -> Truth:
    """Return what is known of a planted set."""
    source = np.array([g.split(":")[0] for g in planted.groups] * 2)
    half = [hashlib.sha256(g.encode()).digest()[0] % 2 == 1 for g in planted.groups]
    return Truth(planted.n, np.array(planted.kinds), source != "sartaj", source == "phantom", np.array(half * 2))


def sources(data: Path | None, scratch: Path) -> list[Record]:
    """Return the slices that copies are made of."""
    found = list(open_dataset(make_phantom(scratch / "phantom", patients=40, slices_per_plane=3)).records)
    if data is not None:
        found += open_dataset(data / "cheng").records
        unique = {digest_of(r.path): r for r in reversed(open_dataset(data / "sartaj").records)}
        own = sorted(unique.values(), key=lambda r: r.id)
        found += own[:: max(1, len(own) // SARTAJ)][:SARTAJ]
    return found


def by_gyrus(planted: Planted, truth: Truth) -> Outcome:
    """Find the copies as the audit does: what is merged is what ends in one cluster."""
    start, busy = time.perf_counter(), processor_seconds()
    copies = find_copies(planted.records)
    wall, cpu = time.perf_counter() - start, processor_seconds() - busy
    cluster = np.array(copies.cluster_of())
    pairs = np.array([(a, b) for c in copies.clusters for k, a in enumerate(c) for b in c[k + 1 :]]).reshape(-1, 2)
    false = int(truth.differ(pairs[:, 0], pairs[:, 1]).sum())
    found = cluster[: truth.n] == cluster[truth.n :]
    return Outcome("gyrus", SIMILAR, found, found, false, wall, cpu)


def by_phash(planted: Planted, truth: Truth, folder: Path) -> Outcome:
    """Run imagededup's PHash; the score of a pair is 1 less a 32nd for each of the 64 bits that differ."""
    from imagededup.methods import PHash  # type: ignore[import-not-found]

    method = PHash()

    def encode() -> dict[str, Any]:
        return dict(method.encode_images(str(folder), recursive=True))

    def bits(codes: list[Any]) -> NDArray[np.float32]:
        one = np.array([[int(bit) for bit in f"{int(code, 16):064b}"] for code in codes], dtype=np.float32)
        return 2 * one - 1

    return _by_peer(
        "imagededup PHash", planted, truth, encode, bits,
        lambda codes, least: method.find_duplicates(encoding_map=codes, max_distance_threshold=round(32 * (1 - least))),
    )  # fmt: skip


def by_cnn(planted: Planted, truth: Truth, folder: Path, weights: Path | None) -> Outcome:
    """Run imagededup's CNN on MobileNetV2; the score of a pair is the cosine."""
    import torch
    from imagededup.methods import CNN
    from imagededup.utils.models import CustomModel  # type: ignore[import-not-found]
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    pretrained = MobileNet_V2_Weights.IMAGENET1K_V1
    network = mobilenet_v2(weights=None if weights else pretrained)
    if weights:
        network.load_state_dict(torch.load(weights, weights_only=True))
    body = torch.nn.Sequential(network.features, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    method = CNN(model_config=CustomModel(name="MobileNetV2", model=body, transform=pretrained.transforms()))
    return _by_peer(
        "imagededup CNN", planted, truth,
        lambda: dict(method.encode_images(str(folder), recursive=True, num_enc_workers=0)),
        lambda codes: np.stack(codes).astype(np.float32),
        lambda codes, least: method.find_duplicates(
            encoding_map=codes, min_similarity_threshold=least, num_sim_workers=0
        ),
    )  # fmt: skip


def _by_peer(
    name: str,
    planted: Planted,
    truth: Truth,
    encode: Callable[[], dict[str, Any]],
    vectors: Callable[[list[Any]], NDArray[np.float32]],
    search: Callable[[dict[str, Any], float], object],
) -> Outcome:
    """Time encoding and searching, and find the thresholds that suit the method best on half B."""
    start, busy = time.perf_counter(), processor_seconds()
    codes = encode()
    wall, cpu = time.perf_counter() - start, processor_seconds() - busy
    rows = vectors([codes[r.id] for r in planted.records])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    everyone = np.arange(len(rows))
    different = np.zeros(2 * _FINE + 1, dtype=np.int64)  # pairs by their score
    for at in range(0, len(rows), _BLOCK):
        block = everyone[at : at + _BLOCK, None]
        levels = _levels(rows[at : at + _BLOCK] @ rows.T)
        judged = truth.differ(block, everyone[None]) & (block < everyone[None])
        different += np.bincount(levels[judged], minlength=len(different))
    copies = _levels((rows[: truth.n] * rows[truth.n :]).sum(axis=1))
    same = np.bincount(copies[truth.reported[: truth.n]], minlength=len(different))
    false, true = different[::-1].cumsum()[::-1], same[::-1].cumsum()[::-1]  # at each score or above
    strict = int(np.flatnonzero(false > 0)[-1]) + 1
    tolerant = int(np.flatnonzero(np.append(false <= (1 - TOLERATED) * (false + true), True))[0])
    threshold = min(strict / _FINE - 1, 1.0)
    start, busy = time.perf_counter(), processor_seconds()
    search(codes, threshold)
    wall, cpu = wall + time.perf_counter() - start, cpu + processor_seconds() - busy
    return Outcome(name, threshold, copies >= strict, copies >= tolerant, 0, wall, cpu)


def _levels(cosines: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return cosines as whole numbers, for their sums round."""
    return np.clip(np.rint((cosines + 1) * _FINE), 0, 2 * _FINE).astype(np.int64)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927)."""
    z = 1.959964
    mid, half = hits + z * z / 2, z * (hits * (n - hits) / n + z * z / 4) ** 0.5
    return (mid - half) / (n + z * z), (mid + half) / (n + z * z)


def share(hits: int, n: int) -> str:
    """Return a proportion with its interval, or a dash where there is nothing to count."""
    if not n:
        return "-"
    low, high = wilson(hits, n)
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}]"


def table(outcomes: list[Outcome], truth: Truth) -> str:
    """Return the figures of half B as a Markdown table, one column per method."""
    mine = truth.reported[: truth.n]
    rows: Iterable[tuple[str, NDArray[np.bool_]]] = (
        *((kind, mine & (truth.kinds == kind)) for kind in CHANGES),
        ("all upright kinds", mine & np.isin(truth.kinds, UPRIGHT)),
        ("all kinds", mine),
    )
    lines = ["| copies | n | " + " | ".join(o.name for o in outcomes) + " |", "|---|---|" + "---|" * len(outcomes)]
    lines += [
        f"| {name} | {part.sum()} | " + " | ".join(share(int(o.found[part].sum()), int(part.sum())) for o in outcomes)
        + " |"
        for name, part in rows
    ]  # fmt: skip
    lines += [
        f"| all kinds, precision {TOLERATED} | | "
        + " | ".join(share(int(o.tolerant[mine].sum()), int(mine.sum())) for o in outcomes)
        + " |",
        "| merges | | " + " | ".join(str(int(o.found[mine].sum()) + o.false) for o in outcomes) + " |",
        "| of them false | | " + " | ".join(str(o.false) for o in outcomes) + " |",
        "| precision | | "
        + " | ".join(share(int(o.found[mine].sum()), int(o.found[mine].sum()) + o.false) for o in outcomes)
        + " |",
        "| threshold | | " + " | ".join(f"{o.threshold:.4g}" for o in outcomes) + " |",
        "| seconds (processor) | | " + " | ".join(f"{o.wall:.0f} ({o.cpu:.0f})" for o in outcomes) + " |",
    ]
    return "\n".join(lines)


def growth(data: Path | None, scratch: Path, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Time :func:`find_copies` on nested sets of sources and rounds of copies of them, and yield one row per size."""
    originals = sources(data, scratch / "growth")
    files: list[Record] = []
    while len(files) < max(sizes):
        planted = plant(originals, scratch / "growth" / f"round-{len(files)}", seed=1 + len(files))
        files += planted.records[planted.n if files else 0 :]
    order = np.random.default_rng(0).permutation(max(sizes))
    for size in sizes:
        start, busy = time.perf_counter(), processor_seconds()
        copies = find_copies([files[i] for i in order[:size]])
        wall, cpu = time.perf_counter() - start, processor_seconds() - busy
        yield {
            "files": size,
            "clusters": len(copies.clusters),
            "wall": wall,
            "cpu": cpu,
            "ms_per_file": 1e3 * cpu / size,
        }


def machine() -> Mapping[str, Any]:
    """Return what the seconds depend on."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, and print tables or one JSON document."""
    parser = argparse.ArgumentParser(description="Copies found: gyrus against imagededup.")
    parser.add_argument("--data", type=Path, help="folder with cheng/ and sartaj/; without it the phantom alone")
    parser.add_argument("--weights", type=Path, help="torchvision's MobileNetV2 weights, a .pth file")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS, help="whom to compare with")
    parser.add_argument("--growth", type=int, nargs="+", help="instead, time gyrus alone on so many files")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of the tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.growth:
            document, text = _growth(arguments, Path(temporary))
        else:
            document, text = _comparison(arguments, Path(temporary))
    facts = machine()
    if arguments.json:
        text = json.dumps({"schema": "gyrus.benchmark.duplicates/1", "machine": facts, **document}, indent=1)
    else:
        text += "\n\n" + ", ".join(f"{k} {v}" for k, v in facts.items())
    sys.stdout.write(text + "\n")


def _growth(arguments: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], str]:
    rows = list(growth(arguments.data, scratch, arguments.growth))
    lines = ["| files | clusters | seconds | processor seconds | ms per file |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['files']} | {r['clusters']} | {r['wall']:.0f} | {r['cpu']:.0f} | {r['ms_per_file']:.1f} |" for r in rows
    ]
    return {"growth": rows}, "\n".join(lines)


def _comparison(arguments: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], str]:
    planted = plant(sources(arguments.data, scratch), scratch / "planted")
    truth = truth_of(planted)
    outcomes, note = [by_gyrus(planted, truth)], ""
    if arguments.peers and find_spec("imagededup") is None:
        note = "imagededup is not installed, so gyrus stands alone: pip install imagededup\n\n"
    else:
        if "phash" in arguments.peers:
            outcomes.append(by_phash(planted, truth, scratch / "planted"))
        if "cnn" in arguments.peers:
            outcomes.append(by_cnn(planted, truth, scratch / "planted", arguments.weights))
    methods = [
        {"name": o.name, "threshold": o.threshold, "false": o.false, "wall": o.wall, "cpu": o.cpu}
        | {"recall": float(o.found[truth.reported[: truth.n]].mean())}
        for o in outcomes
    ]
    text = f"{note}{truth.n} sources and {truth.n} copies; figures of half B\n\n{table(outcomes, truth)}"
    return {"sources": truth.n, "methods": methods}, text


if __name__ == "__main__":
    main()
