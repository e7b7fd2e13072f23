"""How often the sequence recogniser is right on real slices, and what a model that knows T1-CE alone would flag.

    python benchmarks/sequences.py DATA

DATA holds ``navoneel``, whose sequences were told by eye and committed before any recogniser had seen a slice
(``sequences.csv``), ``brats`` and ``dicom``, whose files say, and ``sartaj``, of which it learned. None of the others
was learned from. "Flagged" is what has less than half of the probability of T1-CE.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from planes import wilson

from gyrus.datasets import records_in
from gyrus.records import Record
from gyrus.refusal import UNLIKELY
from gyrus.sequences import SequenceGuess, recognise_sequences
from gyrus.sequences.recogniser import ABOUT, HERE
from gyrus.words import SEQUENCES

TOLD = Path(__file__).with_suffix(".csv")
VOLUMES = {
    "t1n": "T1", "t1-bet": "T1", "t1c": "T1-CE", "t1c-bet": "T1-CE",
    "t2w": "T2", "t2-bet": "T2", "t2f": "FLAIR", "fla-bet": "FLAIR",
}  # fmt: skip
"""How a file of BraTS ends -> its sequence."""


def told_by_eye(data: Path, dataset: str) -> Iterator[tuple[str, str, list[Record]]]:
    """Yield dataset, sequence and slices."""
    with TOLD.open(encoding="utf-8", newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["dataset"] == dataset]
    for sequence in (*SEQUENCES, "other"):
        records = [Record(r["file"], data / dataset / r["file"]) for r in rows if r["sequence"] == sequence]
        if records:
            yield dataset, sequence, records


def volumes(data: Path) -> Iterator[tuple[str, str, list[Record]]]:
    """Yield every second slice from the middle of each volume, and the DICOM series."""
    for case in sorted(p for p in (data / "brats").iterdir() if p.is_dir()):
        for file in sorted(case.glob("*.nii.gz")):
            sequence = next((s for end, s in VOLUMES.items() if file.name.endswith(f"-{end}.nii.gz")), None)
            if sequence is not None:
                yield f"{case.name}, without skull", sequence, list(records_in([file], slices=list(range(40, 120, 2))))
    yield "DICOM series", "T1", list(records_in([data / "dicom"]))


def row(name: str, sequence: str, guesses: list[SequenceGuess], *, independent: bool) -> str:
    """Return a line of the table; one person's slices have no interval."""
    called = {s: sum(g.sequence == s for g in guesses) for s in SEQUENCES}
    flagged = int(np.sum([g.probabilities["T1-CE"] < UNLIKELY for g in guesses]))
    shown = str(wilson(flagged, len(guesses))) if independent else f"{flagged / len(guesses):.3f}"
    counts = [*called.values(), len(guesses) - sum(called.values())]
    return f"| {name} | {sequence} | {len(guesses)} | {' | '.join(map(str, counts))} | {shown} |"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the datasets")
    data: Path = parser.parse_args().data
    head = ["slices of", "sequence", "n", *(f"called {s}" for s in SEQUENCES), "unsure", "flagged"]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    for name, sequence, records in told_by_eye(data, "navoneel"):
        print(row(name, sequence, recognise_sequences(records), independent=True))
    for name, sequence, records in volumes(data):
        print(row(name, sequence, recognise_sequences(records), independent=False))
    for name, sequence, records in told_by_eye(data, "sartaj"):
        print(row(f"{name}, learned from", sequence, recognise_sequences(records), independent=True))
    print(f"\nCheng, T1-CE, by networks that did not learn from the person: {json.dumps(_unseen())}")


def _unseen() -> dict[str, float]:
    about = json.loads((HERE / ABOUT).read_text(encoding="utf-8"))
    unseen: dict[str, float] = about["unseen_cheng"]
    return unseen


if __name__ == "__main__":
    main()
