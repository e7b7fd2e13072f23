"""Write docs/studies.md from the results of studies that were run: ``python docs/make_studies.py [RESULT ...]``.

Each result is a folder that ``gyrus study run`` finished, or a file with what it printed with ``--only STEP --json``,
which takes the place of that step's earlier figures. What the page needs of them is kept in docs/results, from which
it can be written again without any; what a study asks and did, its recipe says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gyrus.page.charts import standalone
from gyrus.studies import find_study
from gyrus.studies.page import claims_chart

HERE = Path(__file__).parent
RESULTS, PAGE, CHARTS = HERE / "results", HERE / "studies.md", HERE / "assets" / "studies"
KEPT = ("name", "scale", "reduction", "data", "table", "minutes")
TOLD = ("protocol", "statement", "seeds", "runs", "model", "in_place_of", "size", "epochs", "minutes")
HEAD = """# Five studies, measured

Five published studies, each run under its own protocol and under an honest one, in which no known person and no copy of
a picture is on both sides of a split ([why](explanation/patients.md)). The figures are of runs on parts of the public
sets, which hold fewer slices than the papers', and on two processor cores, for which much was made smaller: each
section says what. They are no verdict on the papers' own numbers at their size, but the gap between the two columns is
measured on the same slices, with the same networks.

A figure is followed by its 95 % interval from a bootstrap over patients, or over clusters of copies where patients are
unknown, all seeds pooled; seeds tried on the same patients are no new patients. One without an interval is a mean over
runs. "Not run" stands where the scale leaves a step out. Every section is made by one command, here
`gyrus study run NAME --data DATA --scale desk`, and this page by `docs/make_studies.py` from what these left behind; a
step that was run again by itself (`--only STEP`) has replaced its earlier figures. [How to run one](how-to/studies.md).
"""

FOUND = {
    "cam-attention": """
The attention network scores {attention-own:accuracy} under the study's protocol and {attention-honest:accuracy} once
the copies of a picture stay on one side. The difference, {copies-add:difference}, is the largest effect here, though
its interval still holds 0: a seed's honest test part has 38 pictures. Attention adds
{attention-minus-plain-own:difference} under the study's protocol and {attention-minus-plain:difference} under the
honest one, so nothing that five seeds could tell from chance. A frozen MobileNetV2, of which 1,281 weights are
trained, is better than either.
""",
    "cam-iou": """
Patients known from training are worth {vgg16-gap:difference} to a frozen VGG16, which scores {vgg16-own:accuracy}
under the study's protocol and {vgg16-honest:accuracy} by patient. Its CAM overlaps the outline by
{vgg16-cam:iou_p95}, where its area would allow {vgg16-cam:ceiling:iou_p95}, and a rule that no network took part in
by {mobilenet-joint:rule:iou}. The map of MobileNetV2 whose layer and cut training patients choose, element-wise
Grad-CAM at stride 8 averaged with that of the mirrored slice, does better than the rule ({mobilenet-joint:map:iou}),
and the two multiplied point into the tumour in {mobilenet-joint:both:pointing} of the slices where the rule does in
{mobilenet-joint:rule:pointing}. Neither overlaps by twice the
0.153 of the study's VGG19, which was our goal. A network that a teacher
told where to look, one that had seen synthetic tumours alone, reaches it. No person's outline guided it; the cut, as of
all maps here, is learned from training patients' outlines. Its class map overlaps by {taught-joint:map:iou} and
points into the tumour in {taught-joint:map:pointing} of the slices of patients it never saw, at an accuracy of
{taught-honest:accuracy}. Told by training patients' outlines it overlaps by
{guided-joint:map:iou} and points right in {guided-joint:map:pointing}. Either way of telling also adds to the
accuracy of MobileNetV2 alone, {mobilenet-honest:accuracy}: outlines {guiding:difference}, all that is new in the
taught recipe {teaching:difference}.
The 0.96 we had aimed at is missed by all.
""",
    "bratum": """
After a fifth of its epochs the study's figures come out again under its own protocol, and higher:
{combined-own:accuracy} for the combined network, where it had 0.930. Of that, known persons and pictures are worth
{combined-gap:difference}. Neither protocol shows that a network for one plane sees more than one for all: by
patient the axial one has {top-honest:accuracy} where the combined one has {by-plane:accuracy:axial} on axial
slices, the sagittal one {left-honest:accuracy} against {by-plane:accuracy:sagittal}, the coronal one
{back-honest:accuracy} against {by-plane:accuracy:coronal}. That false negatives come from the axial view holds:
{by-plane:false:axial} of the tumours seen from above are called healthy, {by-plane:false:sagittal} of those seen
from the left. And left-view pituitary is right for the wrong reason: {left-pituitary-left:accuracy} of the slices
of unseen persons are right, but the tumour, which covers {left-pituitary-left:tumour_share} of the slice, holds
{left-pituitary-left:energy_inside:right} of the map, hardly more than of a map of nothing, and
{left-pituitary-left:pointing:right} of the peaks. The last layer has 4 x 4 cells here, but at stride 8 it is no
better.
""",
    "mrimaster": """
The study's figures come out again under its own protocol: {small-own:accuracy} for the small network,
{vgg16-own:accuracy} for the frozen VGG16. Without known persons and copies it is {small-honest:accuracy} and
{vgg16-honest:accuracy}, and that the two end level holds ({vgg16-over-small:difference}). Of the small network's errors
{small-certainty:confident_errors:before} are made with more than 0.95 of certainty; with the temperature that
validation slices give, {small-certainty:confident_errors:after}.
""",
    "padova": """
Seven of the twelve epochs, at 96 px, do not bring the network to where the study had it (training accuracy
{single-own:train_accuracy} against 0.999), but what its random split is worth shows: {single-own:accuracy}, where
it claims 0.980, and {single-honest:accuracy} of persons and pictures that were not met. Over the folds the
difference is {gap:difference}. What transfers does so poorly: trained on Sartaj, {transfer-honest:recall:tumor} of
the tumours in navoneel are found, and the balanced accuracy on pictures that Sartaj does not hold is
{transfer-honest:balanced_accuracy}, where with those that it holds it seems {transfer-own:balanced_accuracy}.
Whether axial is taken for healthy: yes. {planes-before:false:axial} of the axial tumours are called healthy,
{planes-before:gap} more than of the others. Adam is ahead of SGD by {optimizer:difference}, and enlarging the
healthy class does {enlarging:difference}: neither can be told from nothing.
""",
}
"""What the runs on this page say, in words; figures are put in from them."""


def main() -> None:
    """Keep what the results hold, and write the page."""
    RESULTS.mkdir(exist_ok=True)
    for given in map(Path, sys.argv[1:]):
        value = json.loads((given / "study.json" if given.is_dir() else given).read_text(encoding="utf-8"))
        file = RESULTS / f"{value['name']}.json"
        found = trimmed(value) if given.is_dir() else renewed(json.loads(file.read_text(encoding="utf-8")), value)
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    CHARTS.mkdir(parents=True, exist_ok=True)
    for value in kept():
        if drawn := claims_chart(value):
            (CHARTS / f"{value['name']}.svg").write_text(standalone(drawn), encoding="utf-8")


def kept() -> list[dict[str, Any]]:
    """Return what docs/results holds, study by study."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(RESULTS.glob("*.json"))]


def trimmed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page needs of a study."""
    steps = value["steps"].items()
    trainings = {name: trained(step) for name, step in steps if step["facts"]["kind"] == "training"}
    return {k: value[k] for k in KEPT} | {"trainings": trainings}


def trained(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page tells of a training."""
    values = step["values"]
    found = {"accuracy": values["accuracy"], "between_seeds": values["between_seeds"]["value"]}
    return {k: step["facts"][k] for k in TOLD} | found


def renewed(value: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a study, with one step's new figures."""
    if one["scale"] != value["scale"]:
        raise SystemExit(f"{one['step']} was run at scale {one['scale']}, and the page shows {value['scale']}")
    table, trainings = [dict(row) for row in value["table"]], dict(value["trainings"])
    for row in table:
        for side in ("own", "honest"):
            step, _, name = (row[side] or "").partition(":")
            if step == one["step"]:
                row[f"{side}_value"] = one["values"].get(name or "accuracy")
    if one["facts"]["kind"] == "training":
        trainings[one["step"]] = trained(one)
    minutes = round(sum(t["minutes"] for t in trainings.values()), 1)
    reduction = find_study(value["name"]).scale(value["scale"]).reduction
    return {**value, "reduction": reduction, "minutes": minutes, "table": table, "trainings": trainings}


def page() -> str:
    """Return the page, made from docs/results."""
    return "\n".join([HEAD, *(section(value) for value in kept())])


def section(value: Mapping[str, Any]) -> str:
    """Return one study: what it asks, what changed, the table, the trainings; in the words that its recipe has now."""
    recipe = find_study(value["name"])
    rows = [
        (named(r), number(r["claimed"]), figure(r["own_value"], r["own"]), figure(r["honest_value"], r["honest"]))
        for r in value["table"]
    ]
    trainings = [
        (
            f"`{name}`",
            t["statement"],
            network(t),
            f"{t['runs']} runs, {t['seeds']} seeds",
            f"{t['accuracy']['n']} of {t['accuracy']['groups']}",
            f"{t['minutes']:.1f}",
            figure(t["accuracy"], "accuracy"),
            number(t["between_seeds"]),
        )
        for name, t in value["trainings"].items()
    ]
    data = "; ".join(
        f"`{n}` {d['slices']:,} slices of {d['groups']:,} {d['grouping']}s" for n, d in value["data"].items()
    )
    head = ("training", "split", "network", "repeated", "test slices of groups", "minutes", "accuracy", "between seeds")
    parts = [
        f"## {recipe.name}: {recipe.title}\n",
        f"{recipe.question} {recipe.about.strip()}\n",
        f"**Made smaller.** {value['reduction'].strip() or 'Nothing.'} Training took {value['minutes']:.0f} minutes.\n",
        f"**What changed, and why.** {recipe.changed.strip()}\n",
        f"**What we found.** {told(FOUND[value['name']], value['table'])}\n",
        f"![Accuracies of {value['name']}: claimed and measured](assets/studies/{value['name']}.svg)\n",
        table(("", "claimed", "own protocol", "honest protocol"), rows),
        f'??? note "Every training"\n\n    Data: {data}.\n',
        indented(table(head, trainings)),
    ]
    return "\n".join(parts)


def named(row: Mapping[str, Any]) -> str:
    """Return what a row measures, and on what where that is not what the study had."""
    return f"{row['label']} ({row['stand_in']} in its place)" if row["stand_in"] else row["label"]


def told(text: str, table: Iterable[Mapping[str, Any]]) -> str:
    """Return a text with every {STEP:VALUE} replaced by the figure that the table has for it."""
    figures = {row[side]: figure(row[f"{side}_value"], row[side]) for row in table for side in ("own", "honest")}
    return re.sub(r"\{([^}]+)\}", lambda found: figures[found[1]], text.strip())


def network(training: Mapping[str, Any]) -> str:
    """Return what was trained, at which size, and what it stands in for."""
    instead = f" in place of {training['in_place_of']}" if training["in_place_of"] else ""
    return f"{training['model']}{instead}, {training['size']} px, {training['epochs']} epochs"


def figure(value: Mapping[str, Any] | None, named: str | None) -> str:
    """Return a figure with its interval."""
    if value is None or value["value"] is None:
        return "not run" if named and value is None else ""
    span = "" if value["low"] is None else f" [{number(value['low'])}, {number(value['high'])}]"
    return f"{number(value['value'])}{span}"


def number(value: float | None) -> str:
    """Return three decimals, or nothing."""
    return "" if value is None else f"{value:.3f}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def indented(text: str) -> str:
    """Return the lines four columns to the right, as part of a folded note."""
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))


if __name__ == "__main__":
    main()
