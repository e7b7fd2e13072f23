"""The tables the command line prints, from the same values that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from gyrus.certainty.conformal import needed
from gyrus.maps import Maps
from gyrus.sheets import Column, Lines, Sheet

ACCURACIES = ("accuracy", "balanced_accuracy", "macro_f1")
SHOWN = ("pointing", "iou_p95", "iou_half", "iou_otsu", "energy_inside", "rank_accuracy", "auprc")
MOST_ROWS = 40


def dataset(value: Mapping[str, Any]) -> Lines:
    """Return what :func:`gyrus.datasets.describe.describe` found."""
    per_class = value["patients_per_class"]
    rows = [[c, n, per_class.get(c)] for c, n in value["classes"].items()]
    sizes = ", ".join(f"{s['width']}x{s['height']} ({s['slices']})" for s in value["sizes"][:6])
    more = f" and {len(value['sizes']) - 6} more" if len(value["sizes"]) > 6 else ""
    facts = [
        ["recognised as", value["name"]],
        ["what", value["title"]],
        ["slices", value["slices"]],
        ["patients", value["patients"] or "unknown: split with --group auto, or add a table with patients"],
        ["studies", value["studies"]],
        ["tumour outlines", value["masks"]],
        ["planes", _counts(value["planes"])],
        ["parts it ships in", _counts(value["subsets"])],
        ["sizes (width x height)", sizes + more],
        ["licence", value["licence"]],
        ["citation", value["citation"]],
        ["fingerprint", value["fingerprint"]],
    ]
    lines: Lines = [_facts(facts)]
    if rows:
        lines.append(Sheet("Classes", ["class", "slices", "patients"], rows))
    if value.get("volumes"):
        lines.append(_volumes(value["volumes"]))
    return lines + [f"fault: {f}" for f in value["faults"]] + [f"note: {n}" for n in value["notes"]]


def _volumes(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = ["modality", "n", "voxels", "spacing (mm)", "acquired", "oblique (degrees)"]
    shown = [
        [
            row["modality"],
            row["volumes"],
            " x ".join(str(n) for n in row["shape"]),
            " x ".join(f"{mm:.3g}" for mm in row["spacing_mm"]) if row["spacing_mm"] else "unknown",
            row["acquired"],
            f"{row['oblique_degrees']:.1f}",
        ]
        for row in rows
    ]
    return Sheet("Volumes, right x anterior x superior", columns, shown)


def audit(value: Mapping[str, Any]) -> Lines:
    """Return the verdicts of :func:`gyrus.audit_data`, its counts, and the probes before and after."""
    lines: Lines = [f"- {sentence}" for sentence in value["verdicts"]]
    overlaps = [[r["of"], r["in"], r["repeated"], r["n"], _counts(r["by_label"])] for r in value["copies"]["overlaps"]]
    if overlaps:
        lines.append(
            Sheet("Slices that have a copy in another dataset", ["of", "in", "n", "of all", "label"], overlaps)
        )
    for shortcut in value["shortcuts"]:
        after = {row["probe"]: row["balanced"] for row in shortcut["after"]}
        rows = [
            [r["title"], _interval(r["balanced"]), _interval(after.get(r["probe"])), f"{r['chance']:.3f}"]
            for r in shortcut["before"]
        ]
        title = f"Shortcuts in {shortcut['name']}: balanced accuracy [95 % interval over groups]"
        lines.append(Sheet(title, ["known to the probe", "as it is", "canonical form", "chance"], rows))
    if value["counts"]:
        lines.append(Sheet("Findings", ["kind", "n"], [[kind, n] for kind, n in value["counts"].items()]))
    lines += [f"not done: {check} ({why})" for check, why in value["skipped"].items()]
    return [*lines, f"page: {value['out']}/audit.html"]


def training(value: Mapping[str, Any]) -> Lines:
    """Return the epochs of :func:`gyrus.training.train_run`."""
    names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "seconds")
    rows = [[f"{e['epoch']:.0f}", *(f"{e[n]:.4f}" if n in e else None for n in names)] for e in value["epochs"]]
    return [
        value["statement"],
        Sheet("Epochs", ["epoch", *(n.replace("_", " ") for n in names)], rows),
        f"kept epoch {value['chosen_epoch']:.0f} in {value['run']}",
    ]


def calibrations(value: Mapping[str, Any]) -> Lines:
    """Return temperature, sets and limits of each model that was calibrated."""
    lines: Lines = []
    for run in value["runs"]:
        found = run["calibration"]
        lines.append(f"Calibrated on {found['statement']}")
        faults = ", ".join(found["refusing"]) or "none"
        facts = [
            ["slices", f"{found['slices']} of {found['persons']} persons"],
            ["temperature", f"{found['temperature']:.3f}"],
            ["coverage", f"{found['coverage']:g}"],
            ["false refusals", f"{found['false_refusals']:g}"],
            [found["novelty"], f"refused above {found['novelty_limit']:.4g}"],
            ["upside down", f"refused above {found['turned_limit']:.4g}"],
            ["faults that refuse", faults],
            ["sequences", _sequences(found)],
            ["outline", f"map cut at {found['cut']}, IoU {found['cut_iou']:.3f} here" if found["cut"] else "none"],
        ]
        rows = [
            [c, found["persons_per_class"][c], f"{least:.4f}" if least else "0: in every set, too few persons"]
            for c, least in found["thresholds"].items()
        ]
        lines += [_facts(facts), Sheet("In a set from", ["class", "persons", "probability"], rows)]
        if any(least == 0 for least in found["thresholds"].values()):
            lines.append(
                f"Too few persons for a coverage of {found['coverage']:g}: at least {needed(found['coverage'])} of a "
                "class are needed. Ask for less with --coverage, or split with a larger validation part."
            )
        lines.append(f"calibrated model: {run['model']}")
    return lines


def _sequences(found: Mapping[str, Any]) -> str:
    return f"others than {' and '.join(found['sequences'])} are flagged" if found["sequences"] else "not asked about"


def maps(made: Maps) -> Lines:
    """Return which maps were made and how many of them are usable."""
    rows = [
        [m["method"], m["layer"], m["target"], " x ".join(map(str, m["grid"])), _counts(m["status"])]
        for m in made.summary()["maps"]
    ]
    title = f"Raw maps of {len(made.ids)} slice{'s' * (len(made.ids) != 1)}"
    return [Sheet(title, ["method", "layer", "class", "grid", "status"], rows)]


def scores(value: Mapping[str, Any]) -> Lines:
    """Return accuracy beside its floors, each class, and every map beside its floors and ceilings."""
    kinds = [(k, value["classification"][k]) for k in ("slice", "patient") if value["classification"][k]]
    accuracy = [[f"model, per {k} (n = {s['n']})", *(_interval(s[f]) for f in ACCURACIES)] for k, s in kinds]
    accuracy += [[f["name"], *(_interval(f.get(a)) for a in ACCURACIES)] for f in value["floors"]]
    over = value["classification"]["interval_over"]
    names = ("precision", "recall", "f1", "roc_auc")
    classes = [[c, *(_interval(figures[n]) for n in names)] for c, figures in kinds[0][1]["per_class"].items()]
    lines: Lines = [
        value["statement"],
        Sheet(f"Accuracy [95 % interval over {over}]", ["", "accuracy", "balanced", "macro F1"], accuracy),
        Sheet("Per class, slices", ["class", *names], classes),
    ]
    return lines + certainty(value) + localization(value)


def certainty(value: Mapping[str, Any]) -> Lines:
    """Return how far probabilities mean what they say and, of a calibrated model, how far sets and refusals hold."""
    found = value["certainty"]
    names = ("ece", "brier")
    rows = [["calibrated" if found["calibrated"] else "not calibrated", *(_interval(found[n]) for n in names)]]
    if found["uncalibrated"]:
        rows.append(["before calibration", *(_interval(found["uncalibrated"][n]) for n in names)])
    lines: Lines = [Sheet(f"Probabilities, {found['empty_bins']} of 15 bins empty", ["", *names], rows)]
    sets = found["sets"]
    if sets:
        covered = [["all classes", _interval(sets["coverage"]), _interval(sets["size"]), _interval(sets["single"])]]
        covered += [[c, _interval(figure), "", ""] for c, figure in sets["per_class"].items()]
        title = f"Sets asked to hold the true class at {sets['asked']:g}, persons counting alike"
        lines.append(Sheet(title, ["class", "coverage", "classes in a set", "one class alone"], covered))
        answers = found["answers"]
        counted = _counts(answers["counts"])
        lines.append(
            f"Answers: {counted}; refused {_interval(answers['refused'])}, "
            f"accuracy of the rest {_interval(answers['accuracy'])}"
        )
    return lines


def localization(value: Mapping[str, Any]) -> Lines:
    """Return the localization table, or the sentence that says why there is none."""
    found = value["localization"]
    if found is None:
        if value["data"]["masks"]:
            return ["The maps of several folds are judged by `gyrus explain --leaderboard`."]
        return ["No slice has a tumour outline, so maps cannot be scored."]
    grids = {r["layer"]: tuple(r["grid"]) for r in found["rows"] if r["kind"] == "method"}
    alike = len(set(grids.values())) < len(grids)  # the grid alone does not tell the layers apart
    shown = [[_row_name(r, layer=alike), *(_interval(r["metrics"]["all"][m]) for m in SHOWN)] for r in found["rows"]]
    return [Sheet(f"Maps against outlines, n = {found['slices']} slices", ["map", *SHOWN], shown)]


def leaderboard(value: Mapping[str, Any]) -> Lines:
    """Return the best maps of a leaderboard beside the rules without a network, and the finding in one sentence."""
    wanted = ("pointing", "iou@learned", "iou@percentile:95", "energy_inside", "auprc", "road", "mprt_rank")
    columns = [c for c in wanted if any(c in row["scores"] for row in value["rows"])]
    kinds = ("chosen", "method", "baseline")

    def order(row: Mapping[str, Any]) -> tuple[int, float]:
        best = row["scores"].get("pointing", {}).get("value")
        return kinds.index(row["kind"]), -1.0 if best is None else -best

    rows = sorted((r for r in value["rows"] if r["kind"] in kinds), key=order)
    body = [
        [r["kind"], r["name"], r["layer"], r["slices"], *(_interval(r["scores"].get(c)) for c in columns)]
        for r in rows[:MOST_ROWS]
    ]
    found = value["finding"]
    said = (
        ""
        if found is None
        else (
            "The map chosen on training patients beats every rule without a network in pointing and IoU."
            if all(found["beats_all"].values())
            else "The map chosen on training patients does not beat every rule without a network in pointing and IoU."
        )
    )
    layer = Column("layer", least=12, middle=True)
    board = Sheet("Leaderboard", ["kind", "name", layer, "slices", *columns], body, keys=3)
    return [value["statement"], board, *([said] if said else [])]


def stress(value: Mapping[str, Any], out: Path) -> Lines:
    """Return what a stress test found in one sentence, each fill beside its controls, and each degradation."""
    lines: Lines = [value["statement"], value["finding"], *value["lacks"]]
    if value["inpainting"]:
        figures = ("before", "after", "falls", "change", "switches")
        head = ["filled", "by", "slices", "p before", "p after", "falls below 0.5", "change of p", "another answer"]
        rows = [[f["place"], f["fill"], f["slices"], *(_interval(f[n]) for n in figures)] for f in value["inpainting"]]
        lines.append(Sheet("p(true class) of slices with something filled in", head, rows, keys=2))
    robust = value["robustness"]
    measures = ("accuracy", "pointing", "iou")
    body = [["clean", "", *(_interval(robust["clean"][m]) for m in measures)]]
    for change in robust["changes"]:
        body += [
            [change["title"], level["said"], *(_interval(level[m]) for m in measures)] for level in change["levels"]
        ]
    title = f"Degraded slices, n = {value['slices']}; the map is that of the predicted class, cut at half its maximum"
    lines.append(Sheet(title, ["degradation", "strength", *measures], body, keys=2))
    return [*lines, f"page: {out / 'stress.html'}"]


def demo(value: Mapping[str, Any]) -> Lines:
    """Return the demo's scores, its one-sentence finding, and where the report is."""
    return [*scores(value["scores"]), value["finding"], f"report: {value['report']}"]


def _row_name(row: Mapping[str, Any], *, layer: bool = False) -> str:
    grid = f" {row['grid'][0]}x{row['grid'][1]}" if row["kind"] == "method" else ""
    grid += f" at {row['layer']}" if layer and row["kind"] == "method" else ""
    kind = {"method": "", "baseline": "no network: ", "ceiling": "ceiling: "}[row["kind"]]
    target = f" ({row['target']} class)" if row["target"] else ""
    return f"{kind}{row['name']}{grid}{target}"


def _interval(value: Mapping[str, float | None] | None) -> str:
    """Return "0.912 [0.85, 0.96]", the value alone where it has no interval, or a dash where it is undefined."""
    if value is None or value["value"] is None:
        return "-"
    bounds = f" [{value['low']:.2f}, {value['high']:.2f}]" if value["low"] is not None else ""
    return f"{value['value']:.3f}{bounds}"


def export(value: Mapping[str, Any]) -> Lines:
    """Return how a graph was checked, of :func:`gyrus.export_model`."""
    names = {
        "slices": "slices checked",
        "probability_difference": "largest difference of a probability",
        "map_difference": "largest difference of a map, of its maximum",
        "map_rank_correlation": "rank correlation of the maps, median",
        "least_map_rank_correlation": "rank correlation of the maps, lowest",
        "same_class": "share predicted alike",
        "labelled": "slices with a true class of the model's",
        "accuracy_torch": "accuracy of torch",
        "accuracy_exported": "accuracy of the graph",
        "novelty_difference": "largest difference of the novelty score, of its size",
        "same_answer": "share with the same status and set",
    }
    columns = [value["parity"], *([value["int8"]] if value["int8"] else [])]
    rows = [[said, *(_measured(column[name]) for column in columns)] for name, said in names.items()]
    head = ["against torch", "float32", *(["int8"] if value["int8"] else [])]
    lines = [Sheet("Parity", head, rows), f"{value['engine']} graph in {value['out']}, which takes {value['input']}"]
    return [*lines, *([value["int8"]["warning"]] if value["int8"] and value["int8"]["warning"] else [])]


def _measured(value: float | int | None) -> str | None:
    return value if value is None else f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.4g}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{k} {n}" for k, n in counts.items())


def _facts(rows: list[list[Any]]) -> Table:
    made = Table(show_header=False, show_edge=False, box=None, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, fact in rows:
        if fact not in (None, ""):
            made.add_row(str(name), Text(str(fact)))
    return made
