"""Print a leaderboard as the Markdown tables of docs/explanation/which-map.md.

gyrus explain --leaderboard --model cv --out board
python benchmarks/leaderboard_table.py board/leaderboard.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

COLUMNS = ("pointing", "iou@learned", "iou@percentile:95", "energy_inside", "auprc")
SAMPLED = ("road", "insertion", "deletion", "max_sensitivity", "mprt_rank")
ROWS = 12


def figure(value: Mapping[str, Any] | None) -> str:
    """Return "0.430 [0.38, 0.48]", without the brackets where there is no interval, or nothing where no value."""
    if value is None or value["value"] is None:
        return ""
    return f"{value['value']:.3f}" + ("" if value["low"] is None else f" [{value['low']:.2f}, {value['high']:.2f}]")


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    """Yield a table of these rows, best pointing first."""
    yield f"| | layer, grid | n | {' | '.join(columns)} |"
    yield f"|---|---|---|{'---|' * len(columns)}"
    for row in sorted(rows, key=lambda r: -(r["scores"]["pointing"]["value"] or 0)):
        where = ", ".join(str(x) for x in (row["layer"], row["grid"]) if x)
        cells = " | ".join(figure(row["scores"].get(c)) for c in columns)
        yield f"| {row['kind']}: {row['name']} | {where} | {row['scores'][columns[0]]['n']} | {cells} |"


def main() -> None:
    """Read the file named on the command line and print its tables."""
    value = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    scored = [r for r in value["rows"] if r["scores"].get("pointing", {}).get("value") is not None]
    methods = sorted((r for r in scored if r["kind"] == "method"), key=lambda r: -r["scores"]["pointing"]["value"])
    last = [r for r in methods if r["name"] == "cam"]
    shown = [*methods[:ROWS], *(r for r in last if r not in methods[:ROWS])]
    others = [r for r in scored if r["kind"] in ("chosen", "baseline", "ceiling")]
    best_null = max(
        (r for r in scored if r["kind"] == "null"), default=None, key=lambda r: r["scores"]["pointing"]["value"]
    )
    judged = [r for r in scored if r["kind"] in ("method", "baseline", "chosen") and "road" in r["scores"]]
    most = max((r["scores"]["road"]["n"] for r in judged), default=0)
    judged = [r for r in judged if r["scores"]["road"]["n"] > most / 2]  # a layer that was best in most of the models
    lines = [value["statement"], "", *table([*others, *shown, *([best_null] if best_null else [])], COLUMNS), ""]
    lines += [
        *table(judged, SAMPLED),
        "",
        "| wrong | told by | AUROC | gain over the confidence |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {e['of']} ({e['wrong']}) | {e['number']} | {figure(e['auroc'])} | {figure(e['gain'])} |"
        for e in value["errors"]
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
