"""From the table of slices to the leaderboard: intervals over patients, differences to the best, and the finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.artifacts import plain
from gyrus.evaluate.cards import Card
from gyrus.evaluate.localization import DEFINED
from gyrus.evaluate.truthfree import error_auroc, error_auroc_gain
from gyrus.intervals import Bootstrap, Interval
from gyrus.leaderboard.contest import CHOSEN
from gyrus.leaderboard.entries import COLUMNS, LEARNED, TRUTH_FREE, Entry, card_of
from gyrus.leaderboard.learning import Choices, best_of
from gyrus.leaderboard.settings import OPTIONS, PERCENTAGES, STEPS, Settings
from gyrus.leaderboard.sources import Source, statement
from gyrus.leaderboard.store import Scores

SCHEMA = "gyrus.leaderboard/1"
FINDING = ("pointing", f"iou@{LEARNED}")


def summarise(
    scores: Scores, settings: Settings, sources: Sequence[Source], learned: Sequence[Choices]
) -> dict[str, Any]:
    """Return the leaderboard as plain values, each interval an object of value, low, high, n and groups.

    Args:
        scores: every slice's.
        settings: it was made with.
        sources: the models and their slices.
        learned: each model's thresholds.

    Returns:
        ``{"schema", "statement", "record_wise", "synthetic", "data", "slices", "patients", "settings", "columns",
        "models", "rows", "finding", "errors"}``. A row is an entry with its grid, the number of slices, its ``scores``
        by column and, for maps of the network, how far it is ``behind`` the best of them in each (paired; 0 for the
        best itself). The finding compares the map that was best on training patients with every rule without a network.
        Errors are AUROCs with which a number that needs no outline tells wrong predictions, and wrong maps, from right
        ones.
    """
    persons = [sources[0].persons[i] for i in scores.ids]
    bootstrap = Bootstrap(persons, settings.seed)
    grids = {c: scores.numbers(c) for c in COLUMNS}
    filled = {c: g for c, g in grids.items() if not np.isnan(g).all()}
    split = sources[0].split
    return dict(
        plain(
            {
                "schema": SCHEMA,
                "statement": statement(sources),
                "record_wise": split.leaks,
                "synthetic": "synthetic" in sources[0].dataset.info.title.lower(),
                "data": split.dataset,
                "slices": len(scores.ids),
                "patients": bootstrap.groups,
                "settings": {
                    **settings.model_dump(),
                    "options": OPTIONS,
                    "steps": STEPS,
                    "percentages": PERCENTAGES,
                },
                "columns": [{"column": c, **card_of(c).plain()} for c in filled],
                "models": [_model(s, c) for s, c in zip(sources, learned, strict=True)],
                "rows": _rows(scores, filled, bootstrap),
                "finding": _finding(scores, filled, bootstrap),
                "errors": _errors(scores, filled, persons, settings.seed),
            }
        )
    )


def _model(source: Source, learned: Choices) -> dict[str, Any]:
    """Return a run, and what was chosen on its training patients."""
    chosen: dict[str, Any] = {}
    for name, kind in CHOSEN.items():
        best = best_of(learned, kind)
        if best is not None and learned[best].learned is not None:
            chosen[name] = {**best._asdict(), "threshold": learned[best].name, "learned": learned[best].learned}
    return {"name": source.name, "slices": len(source.tested), "learned_on": len(source.learning), "chosen": chosen}


def _rows(scores: Scores, grids: Mapping[str, NDArray[np.float64]], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    best = {c: _best(scores.entries, g, card_of(c)) for c, g in grids.items()}
    side = scores.numbers("grid")
    rows = []
    for i, entry in enumerate(scores.entries):
        defined = {c: g[i] for c, g in grids.items() if not np.isnan(g[i]).all()}
        leaders = best if entry.kind == "method" else {}
        rows.append(
            {
                **entry._asdict(),
                "grid": int(np.nanmax(side[i])) if not np.isnan(side[i]).all() else None,
                "slices": max((int((~np.isnan(v)).sum()) for v in defined.values()), default=0),
                "scores": {c: bootstrap.mean(v) for c, v in defined.items()},
                "behind": {
                    c: bootstrap.mean(v - grids[c][leader])
                    for c, v in defined.items()
                    if (leader := leaders.get(c)) is not None
                },
            }
        )
    return rows


def _best(entries: Sequence[Entry], grid: NDArray[np.float64], card: Card) -> int | None:
    """Return which map of the network has the best mean in a column; None where the column does not judge.

    Those scored on less than nine tenths of the slices that others are do not take part: a mean over the sample is no
    match for one over all.
    """
    if card.better == "neither":
        return None
    sign = -1.0 if card.better == "lower" else 1.0
    known = {i: int((~np.isnan(grid[i])).sum()) for i, e in enumerate(entries) if e.kind == "method"}
    most = max(known.values(), default=0)
    means = {i: sign * float(np.nanmean(grid[i])) for i, n in known.items() if n > DEFINED * most}
    return max(means, key=lambda i: means[i], default=None)


def _finding(scores: Scores, grids: Mapping[str, NDArray[np.float64]], bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Return whether the map chosen on training patients beats each rule without a network on the slices tested."""
    number = {e: i for i, e in enumerate(scores.entries)}
    chosen = number.get(Entry("chosen", "map"))
    if chosen is None or any(c not in grids for c in FINDING):
        return None
    rules = [e for e in scores.entries if e.kind == "baseline" or e == Entry("chosen", "rule")]
    against = [
        {
            **rule._asdict(),
            "differences": {c: bootstrap.mean(grids[c][chosen] - grids[c][number[rule]]) for c in FINDING},
        }
        for rule in rules
    ]
    beaten = {c: all(_above(row["differences"][c]) for row in against) for c in FINDING}
    return {"map": {c: bootstrap.mean(grids[c][chosen]) for c in FINDING}, "against": against, "beats_all": beaten}


def _above(difference: Interval) -> bool:
    return difference.low > 0


def _errors(
    scores: Scores, grids: Mapping[str, NDArray[np.float64]], persons: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Return how well the confidence, and each truth-free number of the chosen map, tell wrong from right.

    A prediction is wrong where it is not the label; a map, where its highest point lies outside the tumour.
    """
    chosen = {e: i for i, e in enumerate(scores.entries)}.get(Entry("chosen", "map"))
    if chosen is None or "pointing" not in grids:
        return []
    labels, predicted = scores.of_slices("label"), scores.of_slices("predicted")
    hit = grids["pointing"][chosen]
    wrong = {
        "prediction": np.array([a != b for a, b in zip(labels, predicted, strict=True)], dtype=float),
        "map": np.where(np.isnan(hit), np.nan, hit < 0.5),
    }
    numbers = {"confidence": np.array(scores.of_slices("confidence"), dtype=np.float64)}
    numbers |= {c: grids[c][chosen] for c in TRUTH_FREE if c in grids}
    found = []
    for of, errors in wrong.items():
        known = ~np.isnan(errors)
        groups = [p for p, k in zip(persons, known, strict=True) if k]
        for name, values in numbers.items():
            mistaken = errors[known] > 0
            auroc = error_auroc(values[known], mistaken, groups, seed=seed)
            gain = error_auroc_gain(values[known], numbers["confidence"][known], mistaken, groups, seed=seed)
            found.append({"of": of, "number": name, "wrong": int(mistaken.sum()), "auroc": auroc, "gain": gain})
    return found
