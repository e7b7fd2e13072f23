"""How often the plane recogniser is right on real slices whose planes were told by eye.

    python benchmarks/planes.py DATA

DATA holds ``cheng`` (images/N.jpg beside slices.csv) and ``sartaj``, as ``planes.csv`` names their files. "unsure"
counts as wrong. The planes were written down, and committed, before any recogniser had seen these slices; none of them
was used to train or to choose one.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from gyrus.intervals import Bootstrap, Interval
from gyrus.planes import PlaneGuess, recognise_planes
from gyrus.records import PLANES, Record

CHECKED = Path(__file__).with_suffix(".csv")
GOAL = 0.97


@dataclass(frozen=True)
class Checked:
    """One row of planes.csv, and whose slice it is: the patient where the dataset says, else the slice itself."""

    dataset: str
    file: str
    label: str
    plane: str
    sure: bool
    owner: str


def read_checked(data: Path) -> list[Checked]:
    """Return the hand-checked rows, with Cheng's patients from its own table."""
    with (data / "cheng" / "slices.csv").open(encoding="utf-8", newline="") as stream:
        patients = {f"images/{row['file']}": row["patient"] for row in csv.DictReader(stream)}
    with CHECKED.open(encoding="utf-8", newline="") as stream:
        return [
            Checked(r["dataset"], r["file"], r["class"], r["plane"], r["sure"] == "yes",
                    patients[r["file"]] if r["dataset"] == "cheng" else r["file"])
            for r in csv.DictReader(stream)
        ]  # fmt: skip


def wilson(right: int, n: int) -> Interval:
    """Return a share with Wilson's 95 % interval (Wilson 1927), which is honest near 1."""
    z, p = 1.959964, right / n
    middle, reach = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n), n, n)


def accuracies(rows: Sequence[Checked], right: Sequence[bool]) -> dict[str, Interval]:
    """Return accuracy in all, by dataset, by plane, by dataset and class, and on the slices whose plane is sure."""
    groups: dict[str, list[bool]] = {}
    for row, hit in zip(rows, right, strict=True):
        names = ["all", row.dataset, row.plane, f"{row.dataset} {row.label}"] + ["plane sure by eye"] * row.sure
        for name in names:
            groups.setdefault(name, []).append(hit)
    made = {name: wilson(sum(hits), len(hits)) for name, hits in groups.items()}
    made["all, patients drawn"] = Bootstrap([r.owner for r in rows]).mean(np.asarray(right, float))
    return dict(sorted(made.items()))


def confusion(rows: Iterable[Checked], guesses: Iterable[PlaneGuess]) -> dict[str, dict[str, int]]:
    """Return how often each plane was called what."""
    called = Counter((row.plane, guess.plane or "unsure") for row, guess in zip(rows, guesses, strict=True))
    return {plane: {name: called[plane, name] for name in (*PLANES, "unsure")} for plane in PLANES}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds cheng and sartaj")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    args = parser.parse_args()

    rows = read_checked(args.data)
    guesses = recognise_planes([Record(id=r.file, path=args.data / r.dataset / r.file) for r in rows])
    right = [guess.plane == row.plane for row, guess in zip(rows, guesses, strict=True)]
    scores, table = accuracies(rows, right), confusion(rows, guesses)
    wrong = [f"{r.dataset}/{r.file}: {r.plane}, called {g.plane or 'unsure'} ({g.confidence:.2f})"
             for r, g, hit in zip(rows, guesses, right, strict=True) if not hit]  # fmt: skip
    if args.json:
        figures = {name: [s.value, s.low, s.high, s.n] for name, s in scores.items()}
        print(json.dumps({"accuracy": figures, "confusion": table, "wrong": wrong}, indent=1))
        return
    for name, score in scores.items():
        print(f"{name:<24}{score}  of {score.n}")
    print(f"\n{'':<10}" + "".join(f"{name:>10}" for name in (*PLANES, "unsure")))
    for plane, counts in table.items():
        print(f"{plane:<10}" + "".join(f"{n:>10}" for n in counts.values()))
    print("\n" + "\n".join(wrong))
    print(f"goal of {GOAL}: {'met' if scores['all'].value >= GOAL else 'missed'}")


if __name__ == "__main__":
    main()
