"""One picture per slice: what was answered, where the evidence lies, and how large it is.

No torch here: the map may come from torch or from an exported graph, and is drawn alike.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gyrus.artifacts import stage_folder
from gyrus.certainty import Calibration
from gyrus.io import IMAGE_SUFFIXES, VOLUME_SUFFIXES
from gyrus.paths import PathLike
from gyrus.predictions import UNREADABLE, Predictions
from gyrus.preprocess import Preprocess, frame_of
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


Evidence = Callable[[Sequence[Record]], Iterable[NDArray[np.float32] | None]]
"""What gives the map of each slice's predicted class, (h, w) on the network's grid, or None where there is none:
:func:`gyrus.inference.evidence` of a torch model, :func:`gyrus.exported.evidence` of an exported one."""


def save_drawings(
    evidence: Evidence,
    records: Sequence[Record],
    predictions: Predictions,
    folder: PathLike,
    *,
    preprocess: Preprocess,
    calibration: Calibration | None,
) -> list[Path]:
    """Draw each readable slice, the outline of its evidence, and the map of the predicted class, side by side.

    Of the map the positive part is shown, brightest at its maximum. A refused slice stands alone with the reason.

    Args:
        evidence: of the model that made the predictions.
        records: N slices.
        predictions: of them, in this order.
        folder: created; one PNG per slice, and a manifest.
        preprocess: of the model, by which a map is laid over its slice.
        calibration: of the model, which says where its map is cut; without one there is no outline.

    Returns:
        The pictures, in the order of the readable slices.

    Raises:
        InputError: the folder is taken, or a slice cannot be read any more.
    """
    folder = Path(folder)
    rows = [i for i, s in enumerate(predictions.status) if s != UNREADABLE]
    names = [f"{n:04}-{_file_name(records[i].id)}.png" for n, i in enumerate(rows)]
    kept = [records[i] for i in rows]
    cut = None if calibration is None else calibration.cut
    arguments = {"ids": [r.id for r in kept], "files": [str(r.path) for r in kept]}
    with stage_folder(folder, "draw", arguments=arguments) as aside:
        for i, name, record, grid in zip(rows, names, kept, evidence(kept), strict=True):
            figure = _draw(record, grid, predictions.row(i), preprocess, cut)
            figure.savefig(aside / name, dpi=110, facecolor=_PAPER)
    return [folder / name for name in names]


def _file_name(id: str) -> str:
    """Return the last 60 characters of an id, without the suffix of its image, as any file system takes them."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", _SUFFIX.sub("", id))[-60:]


def _draw(
    record: Record, grid: NDArray[np.float32] | None, row: dict[str, Any], preprocess: Preprocess, cut: str | None
) -> Figure:
    image = record.read()
    if grid is None or not has_outline(row["predicted"]):
        cut = None
    placed = None if grid is None else frame_of(image, preprocess).place(grid)
    region = None if placed is None or cut is None else outline(placed, cut, image.spacing)
    low, high = np.percentile(image.pixels, preprocess.intensity)
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
        left.set_title("the slice" if cut is None else _size(region), fontsize=9, color=_MUTED)
        if row["predicted"] is None:
            right.set_title("no map: no class is answered", fontsize=9, color=_MUTED)
        elif placed is None:
            right.set_title("no map: this model, exported, gives none", fontsize=9, color=_MUTED)
        else:
            positive = np.maximum(placed, 0)
            top = max(float(positive.max()), 1e-6)
            share = positive / top
            right.imshow(share, cmap=HEAT, vmin=0, vmax=1, alpha=np.sqrt(share) * 0.85, aspect=image.aspect)
            right.set_title(f"evidence for {_plain(row['predicted'])}", fontsize=9, color=_MUTED)
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
