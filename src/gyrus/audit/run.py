"""The audit as a stage: every check on one dataset or several, into a folder with one page."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gyrus.artifacts import plain, stage_folder, write_json
from gyrus.audit import labels, leaks
from gyrus.audit.examined import Examined
from gyrus.audit.page import write_audit_page
from gyrus.audit.pool import by_source, parts_of, pool
from gyrus.audit.quality import check_quality
from gyrus.audit.shortcuts import find_shortcuts
from gyrus.datasets import open_dataset
from gyrus.datasets.listing import count
from gyrus.duplicates import find_copies
from gyrus.errors import InputError, MissingExtraError
from gyrus.findings import Finding
from gyrus.groups import join_groups
from gyrus.loading import Progress, read_ahead
from gyrus.paths import PathLike, PathLikes, all_paths
from gyrus.planes import recognise_planes
from gyrus.records import Dataset, Record
from gyrus.sequences import recognise_sequences
from gyrus.splits import Split

CHECKS = ("quality", "planes", "sequences", "shortcuts", "disagreements")
"""What can be left out of an audit; copies and the labels on them are always looked at."""

_CHUNK = 64
"""Slices in memory at a time."""


def audit_data(
    paths: PathLikes,
    out: PathLike,
    *,
    splits: PathLikes = (),
    skip: Sequence[str] = (),
    weights: PathLike = "package",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Look for what is wrong with data before anything is trained on it.

    Finds copies within and across datasets and across any split, contradicting labels, unusable pictures, shortcuts
    that tell the class without anatomy (before and after the canonical form), and labels that a model trained without
    the patient disagrees with.

    Args:
        paths: one dataset or several, as :func:`gyrus.open_dataset` takes them.
        out: the folder to write: ``audit.html``, ``audit.json``, ``findings.csv`` and ``run.json``.
        splits: files made by ``gyrus split`` to check besides the datasets' official splits.
        skip: names of :data:`CHECKS` to leave out.
        weights: of the frozen network behind "disagreements": "package", or a weight file of MobileNetV2.
        seed: of the cross-validations.
        progress: called as work goes on.

    Returns:
        What ``audit.json`` holds.

    Raises:
        InputError: no dataset, ``out`` exists, a split of other data, or an unknown check.
    """
    paths, splits, out = all_paths(paths), all_paths(splits), Path(out)
    unknown = [name for name in skip if name not in CHECKS]
    if unknown:
        raise InputError(f"there is no check {unknown[0]!r} to skip: choose from {', '.join(CHECKS)}")
    if not paths:
        raise InputError("no data named: name at least one dataset")
    datasets = [open_dataset(path) for path in paths]
    pooled = pool(datasets)
    parts = parts_of(pooled, datasets, [Split.load(path) for path in splits])
    arguments = {"paths": [str(p) for p in paths], "splits": [str(p) for p in splits], "skip": list(skip), "seed": seed}
    facts = {"data": [{"name": d.info.name, "fingerprint": d.fingerprint} for d in datasets]}
    with stage_folder(out, "audit", arguments=arguments, facts=facts) as folder:
        examined = examine(pooled, parts, skip=skip, weights=weights, seed=seed, progress=progress)
        value = plain(describe(examined, datasets))
        write_json(folder / "audit.json", value)
        _write_findings(folder / "findings.csv", examined.findings)
        write_audit_page(folder / "audit.html", examined, value)
    return {**value, "out": str(out)}


def examine(
    dataset: Dataset,
    parts: dict[str, dict[str, str]],
    *,
    skip: Sequence[str] = (),
    weights: PathLike = "package",
    seed: int = 0,
    progress: Progress | None = None,
) -> Examined:
    """Run every check on pooled slices; see :func:`audit_data` for the arguments."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "copies"):
        found = Examined(dataset, find_copies(dataset.records, progress=progress), parts, seconds=seconds)
        found.leaks = leaks.find_leaks(dataset, found.copies, parts)
        found.findings += leaks.copy_findings(dataset, found.copies, parts)
    records = list(dataset.records)
    groups = join_groups(records, found.copies)
    with _timed(seconds, "labels"):
        found.findings += labels.contradicting_labels(records, found.copies)
        found.findings += labels.patients_of_two_classes(records)
        found.findings += labels.repeat_exams(records)
    if "quality" not in skip:
        with _timed(seconds, "quality"):
            found.findings += check_quality(records, progress=progress)
    readable = [i for i in range(len(records)) if i not in found.copies.unreadable]
    kept = [records[i] for i in readable]
    kept_groups = [groups[i] for i in readable]
    if not {"planes", "sequences"} <= set(skip):
        with _timed(seconds, "recognition"):
            _recognise(found, kept, skip, progress)
    if "shortcuts" not in skip:
        with _timed(seconds, "shortcuts"):
            planes = [g.plane for g in found.planes] or [r.plane for r in kept]
            sequences = [g.sequence for g in found.sequences] or None
            found.shortcuts = find_shortcuts(kept, kept_groups, planes, sequences, seed=seed, progress=progress)
    if "disagreements" not in skip:
        with _timed(seconds, "disagreements"):
            try:
                found.findings += labels.confident_disagreements(
                    kept, kept_groups, seed=seed, weights=weights, progress=progress
                )
            except MissingExtraError as error:
                found.skipped["disagreements"] = str(error)
    found.skipped |= dict.fromkeys(skip, "left out by --skip")
    found.findings.sort(key=lambda f: (-f.score, f.kind, f.slices))
    return found


def _recognise(found: Examined, records: Sequence[Record], skip: Sequence[str], progress: Progress | None) -> None:
    """Tell planes and sequences, every file being read once for both."""
    done = 0
    for chunk, looked in read_ahead(records, Record.read, _CHUNK):
        images = [image for image in looked if not isinstance(image, InputError)]
        if "planes" not in skip:
            found.planes += recognise_planes(images)
        if "sequences" not in skip:
            found.sequences += recognise_sequences(images)
        done += len(chunk)
        if progress:
            progress("planes and sequences", done, len(records))


def describe(found: Examined, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """Return what ``audit.json`` holds."""
    records = found.dataset.records
    readable = [r for i, r in enumerate(records) if i not in found.copies.unreadable]
    kinds = Counter(pair.kind for pair in found.copies.pairs)
    redundant = Counter(records[i].source for cluster in found.copies.clusters for i in cluster[1:])
    return {
        "schema": "gyrus.audit/1",
        "datasets": [d.summary() | {"called": name} for d, name in zip(datasets, by_source(records), strict=True)],
        "verdicts": verdicts(found),
        "copies": {
            "pairs": {kind: kinds[kind] for kind in ("file", "pixels", "near")},
            "clusters": len(found.copies.clusters),
            "redundant": {name: redundant[name] for name in by_source(records)},
            "leaks": [
                {"split": k.split, "n": k.n, "repeated": k.repeated, **k.by_kind, "sentence": k.sentence}
                for k in found.leaks
            ],
            "overlaps": leaks.overlaps(found.dataset, found.copies),
        },
        "planes": _counted("plane", readable, [g.plane for g in found.planes]),
        "sequences": _counted("sequence", readable, [g.sequence for g in found.sequences]),
        "shortcuts": [s.to_dict(readable) for s in found.shortcuts],
        "counts": dict(Counter(f.kind for f in found.findings)),
        "findings": found.findings,
        "skipped": found.skipped,
        "seconds": {name: round(value, 1) for name, value in found.seconds.items()},
    }


def _counted(what: str, records: Sequence[Record], told: Sequence[str | None]) -> dict[str, list[dict[str, Any]]]:
    """Return for each dataset how many slices of each label are of each plane or sequence; nothing if none was told."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for record, name in zip(records, told, strict=False):
        counts.setdefault(record.source, Counter())[str(record.label), name or "unsure"] += 1
    return {
        source: [{"label": label, what: name, "n": n} for (label, name), n in sorted(of.items())]
        for source, of in counts.items()
    }


def verdicts(found: Examined) -> list[str]:
    """Return what a reader must know, in plain sentences, worst first."""
    said = [leak.sentence for leak in found.leaks if leak.repeated]
    kinds = Counter(f.kind for f in found.findings)
    if kinds[labels.CONTRADICTION]:
        said.append(f"{count(kinds[labels.CONTRADICTION], 'picture')} under contradicting labels.")
    for row in leaks.overlaps(found.dataset, found.copies):
        if row["repeated"]:
            said.append(
                f"{row['repeated']:,} of the {count(row['n'], 'slice')} of {row['of']} repeat slices of {row['in']}."
            )
    said += [sentence for s in found.shortcuts if (sentence := s.verdict)]
    said += [leak.sentence for leak in found.leaks if not leak.repeated]
    return said or ["No copies, contradicting labels or shortcuts were found."]


def _write_findings(path: Path, findings: Sequence[Finding]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("score", "kind", "slices", "sentence"))
        writer.writerows((f"{f.score:.4f}", f.kind, "\n".join(f.slices), f.sentence) for f in findings)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
