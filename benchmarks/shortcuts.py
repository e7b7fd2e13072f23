"""What gives the class away without any anatomy, before and after the canonical form of preprocessing.

Two collections that many papers have trained on are probed:

- Sartaj alone (four classes from one Kaggle folder), grouped by clusters of copies, as it names no patients;
- Cheng's three tumours with Sartaj's healthy brains, grouped by patient, and by cluster where there is none.

Usage, with the folders ``cheng`` and ``sartaj`` in DIR:

    python benchmarks/shortcuts.py --data DIR

It prints one table of each in Markdown, what they were measured on, and every result in words. A figure in bold beats
chance; "best told" is the class that is most surely told from the rest, and "no_tumor" how well that one is: balanced
accuracy, and plain accuracy in brackets.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gyrus.datasets import open_dataset
from gyrus.duplicates import find_copies
from gyrus.intervals import Interval
from gyrus.preprocess import Preprocess
from gyrus.probes import ProbeResult, compare_probes
from gyrus.records import Record


def collections(data: Path) -> dict[str, tuple[list[Record], list[str]]]:
    """Return title -> records and the group of each."""
    sartaj = list(open_dataset(data / "sartaj"))
    groups = [f"sartaj {cluster}" for cluster in find_copies(sartaj).cluster_of()]
    healthy = [i for i, r in enumerate(sartaj) if r.label == "no_tumor"]
    cheng = list(open_dataset(data / "cheng"))
    return {
        "Sartaj": (sartaj, groups),
        "Cheng's tumours with Sartaj's no_tumor": (
            [*cheng, *(sartaj[i] for i in healthy)],
            [*(f"cheng {r.patient}" for r in cheng), *(groups[i] for i in healthy)],
        ),
    }


def percent(figure: Interval) -> str:
    """Return an estimate and its interval in per cent."""
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def told(result: ProbeResult, name: str) -> str:
    """Return how well a class is told from the rest: balanced accuracy, and plain accuracy in brackets."""
    figures = result.per_class[name]
    return f"{100 * figures.balanced.value:.1f} ({100 * figures.accuracy.value:.1f})"


def cells(result: ProbeResult | None) -> list[str]:
    """Return the columns of one probe on one form of the picture."""
    if result is None:
        return ["nothing to see", "", ""]
    mark = "**" if result.beats_chance else ""
    best = max(result.per_class, key=lambda name: result.per_class[name].balanced.value)
    which = f"{best} {told(result, best)}" if result.beats_chance else ""
    return [f"{mark}{percent(result.balanced)}{mark}", which, told(result, "no_tumor")]


def table(before: Sequence[ProbeResult], after: Sequence[ProbeResult]) -> str:
    """Return the probes as a Markdown table."""
    prepared = {r.name: r for r in after}
    head = ["probe", "as stored", "best told", "no_tumor", "canonical", "best told", "no_tumor"]
    rows = [head, ["---"] * len(head)]
    for result in before:
        of_table = result.name in ("plane", "source")
        rows.append(
            [result.title, *cells(result), *(["as before", "", ""] if of_table else cells(prepared.get(result.name)))]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def gaps(before: Sequence[ProbeResult], after: Sequence[ProbeResult]) -> list[str]:
    """Return a sentence on what the nearest neighbour gains when groups are torn apart."""
    return [
        f"Nearest neighbour, {form}: balanced accuracy {percent(r.record_wise)} record-wise, {percent(r.balanced)} "
        f"group-wise, gap {percent(r.gap)}."
        for form, results in (("as stored", before), ("canonical", after))
        for r in results
        if r.record_wise is not None and r.gap is not None
    ]


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What gives the class away without any anatomy.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cheng/ and sartaj/")
    parser.add_argument("--seed", type=int, default=0, help="of folds, trees and bootstrap")
    arguments = parser.parse_args()
    for title, (records, groups) in collections(arguments.data).items():
        wall, cpu = time.perf_counter(), time.process_time()
        before, after = compare_probes(records, groups, Preprocess.canonical(), seed=arguments.seed)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        classes = ", ".join(f"{name} {n}" for name, n in sorted(Counter(str(r.label) for r in records).items()))
        first = before[0]
        lines = [
            f"### {title}", "", table(before, after), "",
            f"{first.n} slices ({classes}) in {first.groups} groups; chance {100 * first.chance:.1f} balanced, "
            f"{100 * first.majority:.1f} plain (majority); seed {arguments.seed}.",
            *gaps(before, after), f"{wall:.0f} s, {cpu:.0f} s of CPU.", "",
        ]  # fmt: skip
        lines += [f"- {r.sentence}" for r in before] + ["", "After:", ""] + [f"- {r.sentence}" for r in after]
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
