"""``gyrus study run``: every step of a study, its table, and its page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gyrus.artifacts import MANIFEST, plain, read_json, refuse_existing, write_json, write_manifest
from gyrus.datasets.registry import find_reader
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.loading import Progress
from gyrus.models.registry import BACKBONES
from gyrus.paths import PathLike, PathLikes, all_paths
from gyrus.studies.analyses import Analyses
from gyrus.studies.figures import Drawn, Painter
from gyrus.studies.lab import Datasets, find_roots
from gyrus.studies.layers import require_layers
from gyrus.studies.page import write_study_page
from gyrus.studies.plans import Row
from gyrus.studies.recipe import FULL, Recipe, find_study, nearest
from gyrus.studies.trainings import Trainings
from gyrus.studies.values import Values, facts, find_value, score

SCHEMA = "gyrus.study/1"
STUDY, PAGE, MARK = "study.json", "study.html", "recipe.json"


def run_study(
    name: PathLike,
    data: PathLikes,
    out: PathLike,
    *,
    scale: str = FULL,
    only: str | None = None,
    weights: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a study: its trainings under both protocols, its analyses, its figures, and claimed beside measured.

    Every step is kept below ``out`` under a fingerprint of the slices, the split and the recipe it was made from, of a
    file of initial weights, and of the outlines or planes it looks at. So a study that was stopped goes on where it
    was, and a changed recipe repeats only what it changes.

    Args:
        name: of a study gyrus ships, or the path of a recipe.
        data: where its datasets are, one place or several; see :func:`gyrus.studies.lab.find_roots`.
        out: the study's folder; one of an earlier run is continued.
        scale: "full", or one of the recipe's smaller versions.
        only: one step, with whatever it needs, in place of all.
        weights: architecture -> where its initial weights are: a file, "hub", "package" or "none".
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Returns:
        The content of ``study.json``, or with ``only`` that of the one step.

    Raises:
        InputError: no such study, scale or step; data that is not there; a recipe or slice that cannot be used.
    """
    started = time.time()
    given, out = [str(path) for path in all_paths(data)], Path(out)
    recipe = find_study(name)
    smaller = recipe.scale(scale)
    if only is not None and only not in recipe.steps:
        raise InputError(f"{recipe.name} has no step {only!r}{nearest(only, recipe.steps)}: see `gyrus study show`")
    _require_known(recipe, scale, weights or {})
    pick_device(device)
    roots = find_roots(recipe, tuple(given))
    for root in roots.values():
        find_reader(root)  # so that what is no dataset is refused before anything is written
    _claim(out, recipe, scale)
    datasets = Datasets(recipe, smaller, roots, out / "data", progress)
    trainings = Trainings(recipe, scale, datasets, out / "trainings", weights=weights, device=device, progress=progress)
    analyses = Analyses(recipe, datasets, trainings, out / "analyses", progress)
    painter = Painter(datasets, trainings, out / "figures", progress)
    for figure in recipe.figures:
        painter.check(figure)  # now, not when everything is trained
    require_layers(recipe, scale)
    if only in recipe.trainings or only in recipe.analyses:
        values, told = _step(only, recipe, trainings, analyses, smaller.stand_ins)
        one = {"schema": SCHEMA, "name": recipe.name, "scale": scale, "step": only, "values": values, "facts": told}
        return dict(plain(one))
    steps = [s for s in (*recipe.trainings, *recipe.analyses) if s not in smaller.skip]
    found: dict[str, tuple[Values, dict[str, Any]]] = {}
    for n, step in enumerate(steps):
        if progress:
            progress("study", n, len(steps))
        found[step] = _step(step, recipe, trainings, analyses, smaller.stand_ins)
    drawn = _draw(recipe, smaller.skip, painter)
    value = _value(recipe, scale, datasets, found, drawn, time.time() - started)
    (out / MANIFEST).unlink(missing_ok=True)
    write_json(out / STUDY, value)
    write_study_page(out / PAGE, value, drawn, out / "figures")
    write_manifest(
        out, "study", started=started, arguments={"study": recipe.name, "scale": scale, "data": given}, facts={}
    )
    return value


def show_study(name: PathLike) -> dict[str, Any]:
    """Return a study's recipe as plain values, with its steps.

    Raises:
        InputError: no such study, or a recipe that cannot be used.
    """
    recipe = find_study(name)
    return {"schema": "gyrus.recipe/1", **plain(recipe.model_dump(exclude_defaults=True)), "steps": list(recipe.steps)}


def _require_known(recipe: Recipe, scale: str, weights: Mapping[str, str]) -> None:
    """Refuse initial weights of an architecture that neither this study trains nor another may."""
    trained = sorted({recipe.config(name, scale, 0).model for name in recipe.trainings})
    wrong = next((name for name in weights if name not in (*trained, *BACKBONES)), None)
    if wrong is not None:
        raise InputError(
            f"there is no architecture {wrong!r}{nearest(wrong, (*trained, *BACKBONES))}: "
            f"{recipe.name} at scale {scale} trains {', '.join(trained)}"
        )


def _claim(out: Path, recipe: Recipe, scale: str) -> None:
    """Take a new folder, or that of the same study at the same scale."""
    if not out.exists():
        refuse_existing(out)
        out.mkdir(parents=True)
    elif not (out / MARK).is_file():
        if not out.is_dir() or any(out.iterdir()):
            raise InputError(f"{out} already exists and is no study's folder: choose another --out")
    else:
        before = read_json(out / MARK, "a study's mark")
        if not isinstance(before, dict) or not {"name", "scale"} <= before.keys():
            raise InputError(f"{out} already exists and is no study's folder: choose another --out")
        if (before["name"], before["scale"]) != (recipe.name, scale):
            raise InputError(f"{out} is of the study {before['name']} at scale {before['scale']}: choose another --out")
    write_json(out / MARK, {"name": recipe.name, "scale": scale, "recipe": recipe.model_dump()})


def _step(
    step: str, recipe: Recipe, trainings: Trainings, analyses: Analyses, stand_ins: Mapping[str, str]
) -> tuple[Values, dict[str, Any]]:
    if step in recipe.analyses:
        result = analyses[step]
        return result.values, {"kind": recipe.analyses[step].kind, **result.facts}
    outcome = trainings[step]
    named = str({**recipe.train, **recipe.trainings[step].train}.get("model", outcome.units[0].config.model))
    return score(outcome), {
        "kind": "training",
        "protocol": recipe.trainings[step].protocol,
        **facts(outcome, named if named in stand_ins else None),
    }


def _draw(recipe: Recipe, skipped: Sequence[str], painter: Painter) -> list[Drawn]:
    figures = [f for f in recipe.figures if not set(f.of) <= set(skipped)]
    kept = [f.model_copy(update={"of": tuple(o for o in f.of if o not in skipped)}) for f in figures]
    return [one for figure in kept for one in painter.draw(figure)]


def _stand_in(row: Row, found: Mapping[str, tuple[Values, dict[str, Any]]]) -> str | None:
    """Return the architecture that was trained in place of the one a row names; None where it names none, or was."""
    steps = (reference.partition(":")[0] for reference in (row.own, row.honest) if reference)
    told = next((found[step][1] for step in steps if step in found), {})
    named = told.get("in_place_of")
    return told["model"] if named and named.replace("_", "") in row.label.lower() else None


def _value(
    recipe: Recipe,
    scale: str,
    datasets: Datasets,
    found: Mapping[str, tuple[Values, dict[str, Any]]],
    drawn: Sequence[Drawn],
    seconds: float,
) -> dict[str, Any]:
    values = {step: one for step, (one, _) in found.items()}
    used = {name: datasets[name] for name in (*recipe.data, *recipe.derived)}
    rows = [
        {
            **row.model_dump(),
            "own_value": find_value(values, row.own) if row.own else None,
            "honest_value": find_value(values, row.honest) if row.honest else None,
            "stand_in": _stand_in(row, found),
        }
        for row in recipe.table
    ]
    return dict(
        plain(
            {
                "schema": SCHEMA,
                **recipe.model_dump(include={"name", "title", "question", "about", "changed"}),
                "scale": scale,
                "reduction": recipe.scale(scale).reduction,
                "synthetic": any("synthetic" in used[name].dataset.info.title.lower() for name in recipe.data),
                "data": {
                    name: {
                        "slices": len(s.dataset),
                        "groups": len({s.groups.of[r.id] for r in s.dataset}),
                        "grouping": s.groups.grouping,
                        "classes": {c: sum(r.label == c for r in s.dataset) for c in s.dataset.classes},
                        "notes": s.dataset.notes,
                    }
                    for name, s in used.items()
                },
                "table": rows,
                "steps": {step: {"values": one, "facts": told} for step, (one, told) in found.items()},
                "figures": [{"title": d.title, "file": d.file} for d in drawn],
                "minutes": round(sum(told.get("minutes", 0.0) for _, told in found.values()), 1),
                "seconds_now": round(seconds, 1),
            }
        )
    )
