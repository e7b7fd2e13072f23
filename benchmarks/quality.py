"""What the checks of pictures find in the shared collections, and of what is planted in them.

Usage, with the folders ``sartaj``, ``cheng`` and ``navoneel`` in DIR:

    python benchmarks/quality.py --data DIR

It prints the two tables of ``docs/explanation/labels-and-quality.md`` in Markdown: how many slices of each collection
each check flags as they are, and which part it finds of negatives, of coarse JPEG, and of grids of slices, with a 95 %
interval from a bootstrap over the pictures. A few minutes of two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gyrus.appearance import find_faults, measure
from gyrus.audit.quality import check_quality
from gyrus.datasets import open_dataset
from gyrus.intervals import Bootstrap
from gyrus.loading import THREADS
from gyrus.preprocess import head_mask
from gyrus.records import Record

SOURCES = ("sartaj", "cheng", "navoneel")
SAMPLE, GRIDS, CELL, LINE = 300, 200, 128, 4
Pixels = NDArray[np.uint8]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    words = parser.parse_args()
    found = {name: list(open_dataset(words.data / name)) for name in SOURCES}
    print(as_they_are(found), end="\n\n", flush=True)
    rng = np.random.default_rng(words.seed)
    some = {name: sample(records, rng) for name, records in found.items()}
    print("| planted | as | n | found |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for title, kind, pictures, suffix in planted(some, rng):
            print(row(title, kind, pictures, suffix, Path(folder)), flush=True)


def as_they_are(found: dict[str, list[Record]]) -> str:
    """Return how many slices of each collection each check flags."""
    counts = {n: Counter(f.kind for f in check_quality(records) for _ in f.slices) for n, records in found.items()}
    kinds = sorted({kind for count in counts.values() for kind in count})
    titles = " | ".join(f"{name} ({len(records):,})" for name, records in found.items())
    rows = [f"| {kind} | {' | '.join(str(counts[name][kind]) for name in found)} |" for kind in kinds]
    return "\n".join([f"| kind | {titles} |", "| --- |" + " --- |" * len(found), *rows])


def sample(records: Sequence[Record], rng: np.random.Generator) -> list[Pixels]:
    """Return at most ``SAMPLE`` slices, (H, W) of 8 bits, drawn without replacement."""
    drawn = rng.permutation(len(records))[:SAMPLE]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda i: np.rint(records[i].read().pixels).astype(np.uint8), sorted(drawn)))


def planted(
    some: dict[str, list[Pixels]], rng: np.random.Generator
) -> Iterator[tuple[str, str, list[Pixels], tuple[str, int]]]:
    """Yield (title, kind of fault, pictures, how they are saved: suffix and quality)."""
    png = (".png", 0)
    for name, slices in some.items():
        yield f"negatives of {name}", "inverted", [255 - s for s in slices], png
    for name, slices in some.items():
        for quality in (5, 10, 20):
            yield f"{name} as JPEG of quality {quality}", "blocky", slices, (".jpg", quality)
    everything = [s for slices in some.values() for s in slices]
    heads = [to_head(s) for s in everything]
    layouts: dict[str, Callable[[], Pixels]] = {
        "grids of 2 to 12 slices, a black or white gap between": lambda: grid(everything, rng, gap=True),
        "no gap between": lambda: grid(everything, rng, gap=False),
        "cut to the head, white lines between": lambda: grid(heads, rng, gap=True, grey=255),
        "cut to the head, touching": lambda: grid(heads, rng, gap=False),
    }
    for title, lay in layouts.items():
        yield title, "montage", [lay() for _ in range(GRIDS)], png


def to_head(pixels: Pixels) -> Pixels:
    """Return the rectangle around the head."""
    mask = head_mask(pixels.astype(np.float32))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return pixels
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def grid(slices: Sequence[Pixels], rng: np.random.Generator, *, gap: bool, grey: int | None = None) -> Pixels:
    """Lay 2 to 12 slices out in rows of up to four, each in a square of ``CELL`` pixels."""
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    columns = max(columns, 2) if rows == 1 else columns
    line = LINE if gap else 0
    shade = int(rng.choice([0, 255])) if grey is None else grey
    canvas = np.full((rows * (CELL + line) - line, columns * (CELL + line) - line), shade, dtype=np.uint8)
    for i, k in enumerate(rng.integers(len(slices), size=rows * columns)):
        top, left = (i // columns) * (CELL + line), (i % columns) * (CELL + line)
        canvas[top : top + CELL, left : left + CELL] = cv2.resize(slices[k], (CELL, CELL), interpolation=cv2.INTER_AREA)
    return canvas


def row(title: str, kind: str, pictures: Sequence[Pixels], saved: tuple[str, int], folder: Path) -> str:
    """Save the pictures, look at them as files, and return a row of the table."""
    suffix, quality = saved

    def look(i: int) -> float:
        path = folder / f"{i}{suffix}"
        cv2.imwrite(str(path), pictures[i], [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [])
        return float(kind in {fault.kind for fault in find_faults(measure(Record(path.name, path).read()))})

    with ThreadPoolExecutor(THREADS) as pool:
        hits = np.array(list(pool.map(look, range(len(pictures)))))
    mean = Bootstrap([str(i) for i in range(len(hits))]).mean(hits)
    return f"| {title} | {kind} | {len(hits)} | {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}] |"


if __name__ == "__main__":
    main()
