"""Draw the picture of the README from a run on the phantom, as ``make demo`` leaves one.

    .venv/bin/python docs/make_picture.py gyrus-demo/run docs/assets/maps.webp

Columns: for each tumour the slice of median overlap, then the slice of least overlap of all. Rows: the slice; the
positive part of the raw map; the tumour's outline beside the map cut at half its maximum.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from gyrus import Maps
from gyrus.maps import MapKey
from gyrus.page import pictures
from gyrus.preprocess import frame_of
from gyrus.records import Record
from gyrus.report import panels
from gyrus.rundata import open_run_data

GAP, LINE = 6, 26
INK, PAPER = (40, 44, 52), (255, 255, 255)


def main(run: Path, out: Path) -> None:
    """Write the picture.

    Raises:
        SystemExit: the run is not on synthetic data; pictures of patients do not belong into the documentation.
    """
    scores = json.loads((run / "evaluate" / "scores.json").read_text(encoding="utf-8"))
    if not scores["synthetic"]:
        raise SystemExit(f"{run} is not a run on the phantom: only synthetic slices may be drawn")
    best = scores["localization"]["contest"]["map"]
    key = MapKey(best["name"], best["layer"], best["target"])
    dataset, _ = open_run_data(run)
    maps = Maps.load(run / "explain")
    columns = [_column(dataset[row["id"]], maps, key, row) for row in _chosen(run, key)]
    gap = np.full((columns[0].shape[0], GAP, 3), PAPER, dtype=np.uint8)
    sheet = np.concatenate([part for c in columns for part in (gap, c)][1:], axis=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(sheet).save(out, quality=86, method=6)


def _chosen(run: Path, key: MapKey) -> list[dict[str, str]]:
    """Return the rows of the slices to show: the median of each tumour, and the worst of all."""
    with (run / "evaluate" / "localization.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["name"], r["layer"], r["target"]) == key]
    rows.sort(key=lambda r: (float(r["iou_half"]), float(r["auprc"])))
    by_label = [[r for r in rows if r["label"] == label] for label in sorted({r["label"] for r in rows})]
    return [*(same[len(same) // 2] for same in by_label), rows[0]]


def _column(record: Record, maps: Maps, key: MapKey, row: dict[str, Any]) -> NDArray[np.uint8]:
    image = record.read()
    mask = record.read_mask(image.shape)
    assert mask is not None, "only slices with an outline are chosen"
    placed = frame_of(image, maps.preprocess).place(maps.arrays[key][maps.ids.index(record.id)])
    shown = pictures.slice_panel(image.pixels, maps.preprocess.intensity)
    outlined = shown.copy()
    panels.draw_truth(outlined, mask)
    panels.draw_cut(outlined, placed >= placed.max() / 2)
    title = np.full((LINE, shown.shape[1], 3), PAPER, dtype=np.uint8)
    text = f"{record.label}, IoU {float(row['iou_half']):.2f}"
    cv2.putText(title, text, (2, LINE - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)
    gap = np.full((GAP, shown.shape[1], 3), PAPER, dtype=np.uint8)
    return np.concatenate([title, shown, gap, panels.heat_panel(placed), gap, outlined], axis=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
