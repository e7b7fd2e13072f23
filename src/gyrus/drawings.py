"""One picture per slice: what was answered, where the evidence lies, and how large it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gyrus.artifacts import stage_folder
from gyrus.explain.engine import Explainer
from gyrus.inference import predicted_maps
from gyrus.io import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from gyrus.loading import Progress, batches
from gyrus.models import Classifier
from gyrus.paths import PathLike
from gyrus.predictions import UNREADABLE, Predictions
from gyrus.preprocess import frame_of
from gyrus.records import PLANES, Record
from gyrus.refusal import has_outline, outline
from gyrus.regions import Region

OUTLINE = "#f0a01e"
"""Orange, as in reports: where the map is cut."""
HEAT = "magma"
NOT_A_DEVICE = "Research software, not a medical device."
_WIDE, _INK, _PAPER, _MUTED = 92, "#e8e8ea", "#17181b", "#a0a3aa"
_SUFFIX = re.compile(
    rf"({'|'.join(map(re.escape, (*IMAGE_SUFFIXES, *VOLUME_SUFFIXES, '.mat')))})(?=(#({'|'.join(PLANES)})-[0-9]+)?\Z)",
    re.IGNORECASE,
)
"""The suffix of an id, which in that of a slice of a volume stands before its plane and index."""


def save_drawings(
    model: Classifier,
    records: Sequence[Record],
    predictions: Predictions,
    folder: PathLike,
    *,
    progress: Progress | None = None,
) -> list[Path]:
    """Draw each readable slice, the outline of its evidence, and the map of the predicted class, side by side.

    The map is the model's class map, or Grad-CAM where it has none; its positive part is shown, brightest at its
    maximum. It is cut as the calibration says; without one there is no outline. A refused slice stands alone with the
    reason.

    Args:
        model: that made the predictions.
        records: N slices.
        predictions: of them, in this order.
        folder: created; one PNG per slice, and a manifest.
        progress: called as slices are drawn.

    Returns:
        The pictures, in the order of the readable slices.

    Raises:
        InputError: the folder is taken, or a slice cannot be read any more.
    """
    folder = Path(folder)
    rows = [i for i, s in enumerate(predictions.status) if s != UNREADABLE]
    names = [f"{n:04}-{_file_name(records[i].id)}.png" for n, i in enumerate(rows)]
    ids, files = [records[i].id for i in rows], [str(records[i].path) for i in rows]
    with stage_folder(folder, "draw", arguments={"ids": ids, "files": files}) as aside:
        maps = _maps(model, [records[i] for i in rows], progress)
        for i, name, (record, grid) in zip(rows, names, maps, strict=True):
            figure = _draw(model, record, grid, predictions.row(i))
            figure.savefig(aside / name, dpi=110, facecolor=_PAPER)
    return [folder / name for name in names]


def _file_name(id: str) -> str:
    """Return the last 60 characters of an id, without the suffix of its image, as any file system takes them."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", _SUFFIX.sub("", id))[-60:]


def _maps(
    model: Classifier, records: Sequence[Record], progress: Progress | None
) -> Iterator[tuple[Record, NDArray[np.float32]]]:
    """Yield each record with the map of its predicted class, (h, w)."""
    with Explainer(model) as explainer:  # which has the model in evaluation mode for as long
        for batch in batches(records, model.spec.preprocess, 8, what="drawing", progress=progress):
            images = model.normalise(torch.from_numpy(batch.slices))
            with torch.inference_mode():
                features = model.features(images)
                grids = predicted_maps(model, features, model.finish(features).float().cpu().numpy())
            if grids is None:
                ((_, found),) = explainer(images, methods=["gradcam"], target="predicted").maps.items()
                grids = found.float().cpu().numpy()
            yield from zip(batch.records, grids, strict=True)


def _draw(model: Classifier, record: Record, grid: NDArray[np.float32], row: dict[str, Any]) -> Figure:
    image = record.read()
    spec, calibration = model.spec.preprocess, model.spec.calibration
    placed = frame_of(image, spec).place(grid)
    answered, cut = row["predicted"] is not None, None if calibration is None else calibration.cut
    sought = cut is not None and has_outline(row["predicted"])
    region = outline(placed, str(cut), image.spacing) if sought else None
    low, high = np.percentile(image.pixels, spec.intensity)
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False, "text.color": _INK}):
        figure = Figure(figsize=(9.2, 5.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            axes.imshow(
                image.pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="lanczos",
                aspect=image.aspect,
            )  # fmt: skip
            axes.set_axis_off()
        if region is not None:
            _outline(left, region)
        left.set_title(_size(region) if sought else "the slice", fontsize=9, color=_MUTED)
        if answered:
            positive = np.maximum(placed, 0)
            top = max(float(positive.max()), 1e-6)
            share = positive / top
            right.imshow(share, cmap=HEAT, vmin=0, vmax=1, alpha=np.sqrt(share) * 0.85, aspect=image.aspect)
            right.set_title(f"evidence for {_plain(row['predicted'])}", fontsize=9, color=_MUTED)
        else:
            right.set_title("no map: no class is answered", fontsize=9, color=_MUTED)
        figure.suptitle(_headline(row), fontsize=13, fontweight="bold", x=0.02, ha="left")
        figure.supxlabel(caption(record.id, row["reason"]), fontsize=8.5, color=_MUTED, x=0.02, ha="left")
    return figure


def caption(id: str, reason: str) -> str:
    """Return what stands below a picture, in lines: the reason, and which slice it is."""
    name = id.encode("utf-8", "replace").decode("utf-8")  # matplotlib takes no file name that is not UTF-8
    which = textwrap.wrap(f"{name}  ·  {NOT_A_DEVICE}", _WIDE, break_on_hyphens=False)
    return "\n".join([*textwrap.wrap(reason, _WIDE), *which])


def _outline(axes: Axes, region: Region) -> None:
    for contour in region.contours:
        closed = np.vstack([contour, contour[:1]])
        axes.plot(*closed.T, color="black", linewidth=3, alpha=0.6)
        axes.plot(*closed.T, color=OUTLINE, linewidth=1.6)
    axes.plot(*region.ends.T, color=OUTLINE, linewidth=1, linestyle=(0, (3, 2)))


def _headline(row: dict[str, Any]) -> str:
    if row["predicted"] is None:
        return "Refused"
    share = f"{_plain(row['predicted'])}  {row['probabilities'][row['predicted']]:.0%}"
    if row["set"] is None:
        return f"{share}   (not calibrated)"
    members = ", ".join(_plain(c) for c in row["set"]) or "none"
    return f"{share}   set: {members}   {row['status']}"


def _size(region: Region | None) -> str:
    if region is None:
        return "no outline: nothing of the map is above its cut"
    return f"longest diameter {region.diameter:.0f} {region.unit}, area {region.area:,.0f} {region.unit}²"


def _plain(name: str) -> str:
    return name.replace("_", " ")
