"""What a calibrated model refuses, and how far its probabilities and sets hold, on real slices.

The model must come from a run whose test persons it never saw. Where the run's split has no validation part, as here is
assumed, half of the test persons (drawn by seed, class by class) calibrate it and the other half is scored, so every
figure is of unseen persons. Strangeness is measured against
training slices, from which a slice upside down is told too.

    python benchmarks/refusal.py RUN --data DIR

DIR holds ``cheng``, and ``navoneel``, ``brats`` and ``dicom``, of which those that are missing are left out. Rubbish is
made from the scored slices and written as files, so that it is read as any file is.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from gyrus.certainty import Calibration
from gyrus.certainty.conformal import class_thresholds, person_weights, prediction_sets
from gyrus.certainty.fit import CUTS, Held, fit_calibration
from gyrus.certainty.novelty import SCORES, Reference, Score, learn_reference, novelty
from gyrus.certainty.temperature import fit_temperature, softmax
from gyrus.certainty.upright import UPRIGHT, learn_upright, turned
from gyrus.datasets import open_dataset, open_files, records_in
from gyrus.evaluate.calibration import brier_scores, expected_calibration_error, reliability
from gyrus.evaluate.classification import label_indices
from gyrus.inference import observe
from gyrus.models import load_model
from gyrus.records import Record
from gyrus.refusal import REFUSES, Observed, refusing_kinds
from gyrus.rundata import open_run_data

MADE = 100
"""Of each kind of rubbish."""
TRAINING = 1000
HALVES = 100
"""Random halves over which calibration error and coverage are averaged: one half of 34 persons says little."""

Picture = NDArray[np.uint8]


def main() -> None:
    """Print every figure as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a training run on the Cheng images")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the datasets")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data: Path = arguments.data
    rng = np.random.default_rng(arguments.seed)
    dataset, split = open_run_data(arguments.run, data / "cheng")
    model = load_model(arguments.run / "model")
    training, test = (list(dataset.select(split.part(p))) for p in ("train", "test"))
    known = [training[i] for i in sorted(rng.permutation(len(training))[:TRAINING])]
    learned, seen = observe(model, known), observe(model, test)
    truth = label_indices([r.label for r in test], model.classes)
    persons = [str(r.patient) for r in test]
    first = half_of(persons, truth, rng)
    halves = f"{first.sum()} calibrate, {(~first).sum()} are scored"
    print(f"{len(set(persons))} test persons, {len(test)} slices, of which {halves}.\n")
    print_certainty(seen.logits, truth, persons, rng)

    fitted: dict[Score, tuple[Reference, Calibration]] = {}
    for score in SCORES:
        compared = learn_reference(score, learned.features, label_indices([r.label for r in known], model.classes))
        reference = {**compared, UPRIGHT: learn_upright(learned.edges)}
        fitted[score] = (
            reference,
            fit_calibration(
                held_of(seen, truth, persons, first, score, reference),
                model.classes,
                score,
                reference_slices=len(known),
                kinds=tuple(REFUSES),
                statement="",
            ),
        )
    with tempfile.TemporaryDirectory() as folder:
        scored = [r for r, calibrates in zip(test, first, strict=True) if not calibrates]
        sets = {"Cheng, unseen persons": only(seen, ~first)}
        for name, records in (*rubbish(scored, Path(folder), rng), *other_sources(data)):
            sets[name] = observe(model, records, keep_going=True)
    print_refusals(sets, fitted)


def half_of(persons: Sequence[str], truth: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return (N,): whether each slice's person is drawn, half of the persons of each class."""
    drawn: set[str] = set()
    for c in np.unique(truth):
        names = sorted({p for p, t in zip(persons, truth, strict=True) if t == c})
        drawn |= set(rng.permutation(names)[: len(names) // 2].tolist())
    return np.array([p in drawn for p in persons])


def print_certainty(
    logits: NDArray[np.float32], truth: NDArray[np.int64], persons: Sequence[str], rng: np.random.Generator
) -> None:
    """Print calibration error, Brier score, coverage and set size, means over random halves of the persons."""
    names, coverages = np.array(persons), (0.8, 0.9, 0.95)
    figures: dict[str, list[float]] = {}
    for _ in range(HALVES):
        fit = half_of(persons, truth, rng)
        temperature = fit_temperature(logits[fit], truth[fit])
        before, after = softmax(logits[~fit]), softmax(logits[~fit], temperature)
        found = {"temperature": temperature}
        for when, p in (("before", before), ("after", after)):
            found[f"ECE {when}"] = expected_calibration_error(p, truth[~fit])
            found[f"Brier {when}"] = float(brier_scores(p, truth[~fit]).mean())
            found[f"empty bins of 15 {when}"] = sum(b.n == 0 for b in reliability(p, truth[~fit]))
        shares = softmax(logits[fit], temperature)
        for coverage in coverages:
            least = class_thresholds(shares, truth[fit], persons=names[fit].tolist(), coverage=coverage)
            members = prediction_sets(after, least)
            hit = members[np.arange(len(members)), truth[~fit]]
            weights = person_weights(names[~fit])
            found[f"coverage, {coverage:g} asked"] = float(np.average(hit, weights=weights))
            for c in np.unique(truth):
                rows = truth[~fit] == c
                own = person_weights(names[~fit][rows])
                found[f"coverage of class {c}, {coverage:g} asked"] = float(np.average(hit[rows], weights=own))
            found[f"set size, {coverage:g} asked"] = float(np.average(members.sum(axis=1), weights=weights))
            found[f"classes in every set, {coverage:g} asked"] = float((least == 0).sum())
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    print(f"| over {HALVES} halves | mean | 5th percentile | 95th |\n| --- | --- | --- | --- |")
    for name, values in figures.items():
        low, high = np.percentile(values, (5, 95))
        print(f"| {name} | {np.mean(values):.3f} | {low:.3f} | {high:.3f} |")
    print()


def print_refusals(sets: dict[str, Observed], fitted: dict[Score, tuple[Reference, Calibration]]) -> None:
    """Print for each kind of picture what refuses it, and how well each score tells it from unseen persons."""
    head = [
        "pictures",
        "n",
        "faults",
        "upside down",
        *SCORES,
        f"refused with {SCORES[0]}",
        *(f"AUROC {s}" for s in SCORES),
    ]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    own = next(iter(sets.values()))
    for name, seen in sets.items():
        reference, calibration = fitted[SCORES[0]]
        faults = np.array([bool(refusing_kinds(f) & set(calibration.refusing)) for f in seen.faults])
        flipped = turned(reference[UPRIGHT], seen.edges) > calibration.turned_limit
        strange, areas = {}, []
        for score, (known, limits) in fitted.items():
            values, usual = (novelty(score, known, o.features, o.logits) for o in (seen, own))
            strange[score] = values > limits.novelty_limit
            labels = np.repeat([0, 1], [len(usual), len(values)])
            areas.append("" if seen is own else f"{roc_auc_score(labels, np.concatenate([usual, values])):.3f}")
        refused = faults | flipped | strange[SCORES[0]]
        shares = (faults, flipped, *strange.values(), refused)
        print(f"| {' | '.join([name, str(len(refused)), *(f'{s.mean():.3f}' for s in shares), *areas])} |")


def only(seen: Observed, rows: NDArray[np.bool_]) -> Observed:
    """Return some of the slices of a pass."""
    faults = [f for f, chosen in zip(seen.faults, rows, strict=True) if chosen]
    return Observed(
        seen.logits[rows], {}, seen.features[rows], seen.edges[rows], faults, sequences=seen.sequences[rows]
    )


def held_of(
    seen: Observed,
    truth: NDArray[np.int64],
    persons: Sequence[str],
    rows: NDArray[np.bool_],
    score: Score,
    reference: Reference,
) -> Held:
    """Return what a calibration is fitted on."""
    part = only(seen, rows)
    kinds = [refusing_kinds(f) for f in part.faults]
    strange = novelty(score, reference, part.features, part.logits)
    upside_down, nothing = turned(reference[UPRIGHT], part.edges), np.full((int(rows.sum()), len(CUTS)), np.nan)
    names = np.array(persons)[rows].tolist()
    return Held(part.logits, strange, upside_down, kinds, truth[rows], names, nothing, part.sequences)


def rubbish(records: Sequence[Record], folder: Path, rng: np.random.Generator) -> Iterator[tuple[str, list[Record]]]:
    """Yield pictures no model should answer for, read from files."""
    slices = [grey(records[i]) for i in rng.permutation(len(records))[:MADE]]
    y, x = np.mgrid[:256, :320] / 256

    def photograph() -> Picture:
        waves = rng.normal(size=(3, 4, 3))  # channels, waves, (x, y, phase)
        layers = [sum(1 + np.sin(4 * a * x + 4 * b * y + c) for a, b, c in channel) * 30 for channel in waves]
        made = np.ascontiguousarray(np.stack(layers, axis=2).clip(0, 255).astype(np.uint8))
        cv2.putText(made, "Holiday 2024", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (255, 255, 255), 3)
        return made

    made: dict[str, tuple[str, Callable[[int], Picture], int]] = {
        "uniform noise": (".png", lambda _: rng.integers(0, 256, (256, 256), dtype=np.uint8), MADE),
        "one grey": (".png", lambda i: np.full((256, 256), 25 * i, dtype=np.uint8), 10),
        "colour gradients with text": (".png", lambda _: photograph(), MADE),
        "the same in grey": (
            ".png",
            lambda _: np.asarray(cv2.cvtColor(photograph(), cv2.COLOR_BGR2GRAY), np.uint8),
            MADE,
        ),
        "turned by 180 degrees": (".png", lambda i: np.ascontiguousarray(slices[i][::-1, ::-1]), MADE),
        "inverted": (".png", lambda i: 255 - slices[i], MADE),
        "JPEG quality 5": (".jpg", lambda i: slices[i], MADE),
    }
    for name, (suffix, make, n) in made.items():
        home = folder / name.replace(" ", "-")
        home.mkdir()
        for i in range(n):
            cv2.imwrite(str(home / f"{i}{suffix}"), make(i), [cv2.IMWRITE_JPEG_QUALITY, 5] if suffix == ".jpg" else [])
        yield name, list(open_files(home))


def grey(record: Record) -> Picture:
    """Return a slice as 8 bits."""
    pixels = record.read().pixels
    low, high = pixels.min(), np.percentile(pixels, 99.5)
    return np.asarray(np.clip((pixels - low) / (high - low) * 255, 0, 255), dtype=np.uint8)


def other_sources(data: Path) -> Iterator[tuple[str, list[Record]]]:
    """Yield real slices of other sources and sequences."""
    if (data / "navoneel").is_dir():
        yield "navoneel, another source", list(open_dataset(data / "navoneel"))
    case = data / "brats" / "BraTS-GLI-00000-000"
    for sequence in ("t1c", "t1n", "t2w", "t2f"):
        file = case / f"{case.name}-{sequence}.nii.gz"
        if file.is_file():
            yield f"BraTS {sequence}, skull stripped", records_in([file], slices=list(range(40, 120, 2)))
    if (data / "dicom").is_dir():
        yield "DICOM T1 without contrast, every slice", records_in([data / "dicom"])


if __name__ == "__main__":
    main()
