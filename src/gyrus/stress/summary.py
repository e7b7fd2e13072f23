"""What was said of every form of every slice, as figures with intervals over patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gyrus.intervals import Bootstrap, Interval
from gyrus.page.words import percent, plural
from gyrus.stress.degradations import DEGRADATIONS
from gyrus.stress.judge import CUT, Row
from gyrus.stress.views import CLEAN, FILLS, HEALTHY, TELEA, TISSUE, TUMOUR, Fill, Level

SURE = 0.5
"""A probability below which a class is no longer the answer."""
METHODS = {TELEA: "by Telea's method", TISSUE: "by tissue"}
"""The fills that are made of the tumour and of a healthy place alike, and what they are called in a sentence."""


def summarise(rows: Sequence[Row], persons: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Return the figures of a stress test.

    Args:
        rows: of all slices.
        persons: whose each is.
        seed: of the bootstrap; every figure is resampled by the same draws.

    Returns:
        ``{"finding", "inpainting", "controlled", "robustness"}``; see the reference of ``gyrus stress``.
    """
    bootstrap = Bootstrap(persons, seed)
    filled = any(r.filled or r.missing for r in rows)
    inpainting = [_fill(key, rows, bootstrap) for key in FILLS] if filled else []
    controlled = [_controlled(how, rows, bootstrap) for how in METHODS] if filled else []
    robustness = {
        "cut": CUT,
        "clean": _level(CLEAN, rows, bootstrap),
        "changes": [
            {
                "name": d.name,
                "title": d.title,
                "levels": [
                    {"strength": s, "said": d.said.format(s), **_level((d.name, float(s)), rows, bootstrap)}
                    for s in d.strengths
                ],
            }
            for d in DEGRADATIONS
        ],
    }
    return {
        "finding": _finding(controlled, inpainting, robustness),
        "inpainting": inpainting,
        "controlled": controlled,
        "robustness": robustness,
    }


def per_slice(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield one flat row for each form of each slice, also for fills that could not be made."""
    for row in rows:
        about = {"id": row.record.id, "patient": row.record.patient, "label": row.record.label}
        for (name, strength), said in row.levels.items():
            figures = {"predicted": said.predicted, "probability": said.probability}
            scores = {"pointing": said.pointing, "iou": said.iou}
            yield about | {"change": name, "strength": strength, **figures, **scores, "note": ""}
        for key in FILLS:
            if key in row.filled or key in row.missing:
                answer = row.filled.get(key)
                yield about | {
                    "change": " ".join(key),
                    "strength": "",
                    "predicted": answer.predicted if answer else "",
                    "probability": answer.probability if answer else np.nan,
                    "pointing": np.nan,
                    "iou": np.nan,
                    "note": row.sources.get(key, "") if answer else row.missing[key],
                }


def _fill(key: Fill, rows: Sequence[Row], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return the figures of one fill; slices without it are left out of each."""
    pairs = [(r.levels[CLEAN], r.filled.get(key)) for r in rows]
    before = np.array([clean.probability if then else np.nan for clean, then in pairs])
    after = np.array([then.probability if then else np.nan for _, then in pairs])
    switched = np.array([float(clean.predicted != then.predicted) if then else np.nan for clean, then in pairs])
    labels = np.array([str(r.record.label) for r in rows])
    fell = _fell(key, rows)
    made = [r for r in rows if key in r.filled]
    return {
        "place": key[0],
        "fill": key[1],
        "slices": len(made),
        "left_out": dict(Counter(r.missing[key] for r in rows if key in r.missing)),
        "sources": dict(Counter(r.sources[key] for r in made if key in r.sources)),
        "before": bootstrap.mean(before),
        "after": bootstrap.mean(after),
        "falls": bootstrap.mean(fell),
        "falls_per_class": {
            c: bootstrap.mean(np.where(labels == c, fell, np.nan)) for c in sorted({str(r.record.label) for r in made})
        },
        "change": bootstrap.mean(np.abs(after - before)),
        "switches": bootstrap.mean(switched),
    }


def _fell(key: Fill, rows: Sequence[Row]) -> NDArray[np.float64]:
    """Return (N,) whether the true class fell below :data:`SURE`; NaN without the fill, or where it was no answer."""
    fell = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        clean, then = row.levels[CLEAN], row.filled.get(key)
        if then and clean.predicted == str(row.record.label) and clean.probability >= SURE:
            fell[i] = then.probability < SURE
    return fell


def _controlled(how: str, rows: Sequence[Row], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return how often the class falls without the tumour and with healthy tissue filled in, on the same slices.

    A large tumour leaves no place for its shape beside it, and is the one whose filling changes most: over all slices
    with a fill, tumours would be compared with the controls of small ones.
    """
    tumour, healthy = _fell((TUMOUR, how), rows), _fell((HEALTHY, how), rows)
    both = ~np.isnan(tumour) & ~np.isnan(healthy)
    return {
        "fill": how,
        "slices": int(both.sum()),
        "tumour": bootstrap.mean(np.where(both, tumour, np.nan)),
        "healthy": bootstrap.mean(np.where(both, healthy, np.nan)),
    }


def _level(key: Level, rows: Sequence[Row], bootstrap: Bootstrap) -> dict[str, Interval]:
    said = [r.levels[key] for r in rows]
    columns: dict[str, NDArray[np.float64]] = {
        "accuracy": np.array([float(a.predicted == r.record.label) for a, r in zip(said, rows, strict=True)]),
        "pointing": np.array([a.pointing for a in said]),
        "iou": np.array([a.iou for a in said]),
    }
    return {name: bootstrap.mean(values) for name, values in columns.items()}


def _finding(
    controlled: Sequence[Mapping[str, Any]], inpainting: Sequence[Mapping[str, Any]], robustness: Mapping[str, Any]
) -> str:
    """Return in words whether the answer leaves with the tumour, and what costs the most accuracy."""
    clean = _share(robustness["clean"]["accuracy"].value)
    levels = [(change["title"], level) for change in robustness["changes"] for level in change["levels"]]
    title, worst = min(levels, key=lambda found: float(found[1]["accuracy"].value))
    said = (
        f"Accuracy is {clean} on clean slices and least, {_share(worst['accuracy'].value)}, "
        f"under {title} ({worst['said']})."
    )
    alone = {f["fill"]: f["falls"] for f in inpainting if f["place"] == TUMOUR}
    found = [_beside(of, alone[of["fill"]]) for of in controlled if alone[of["fill"]].n]
    if not found:
        return said
    return (
        f"Of the slices that were predicted rightly, at {SURE} or more, the probability of the class falls below "
        f"{SURE}: {'; '.join(found)}. {said}"
    )


def _beside(of: Mapping[str, Any], alone: Interval) -> str:
    """Return in words how often one way of filling tips the answer, beside its control where there is one."""
    how = METHODS[of["fill"]]
    if not of["slices"]:
        return (
            f"{how}, in {_share(alone.value)} with the tumour filled in ({plural(alone.n, 'slice')}, none with a place "
            f"for a control in healthy tissue)"
        )
    return (
        f"{how}, in {_share(of['tumour'].value)} with the tumour filled in and in {_share(of['healthy'].value)} with "
        f"as much healthy tissue ({plural(of['slices'], 'slice')} with both fills)"
    )


def _share(value: float) -> str:
    return percent(value) if value else "0\N{NO-BREAK SPACE}%"
