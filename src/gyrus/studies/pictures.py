"""The figures of studies that show slices: samples, augmentation, crops, maps beside outlines, and sweeps of layers.

Every function returns a matplotlib ``Figure`` of rows of equal cells on white; :func:`save` writes it as PNG. Slices
are shown between their 0.5th and 99.5th percentile, maps by their positive part, each up to its own maximum.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gyrus.datasets.listing import count
from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.preprocess import Preprocess, frame_of, head_mask, head_outline, prepare
from gyrus.records import Dataset, Record
from gyrus.report.panels import COLOURS, CUT, TRUTH
from gyrus.thresholds import Threshold, find_threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gyrus.augment import Augment

DPI = 110
_GAP, _PARTED, _MARGIN, _LINE = 0.05, 0.2, 0.12, 0.15
"""Inches between cells, more between cases, around the figure, and from one line of print to the next."""
_WIDE = 1.5
"""Inches of a cell where three or four make a case."""
_SMALL, _TEXT = 7.5, 8.5
_LETTER = 0.075
"""Inches that a letter of text takes, at most on average."""
_INK, _PALE = "#222222", "#666666"
_TRUTH_KEY = ("the tumour's outline", TRUTH)

_Colour = tuple[int, int, int]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One slice with the map that explains an answer about it.

    Attributes:
        record: the slice; its mask, where it has one, is the truth.
        heat: (h, w) float32, the raw map over the network's input.
        spec: how the slice became that input.
        caption: one or two short lines ("meningioma called no_tumor, 0.98").
        cut: where the map is cut, for :func:`four_panels`.
    """

    record: Record
    heat: NDArray[np.float32]
    spec: Preprocess
    caption: str
    cut: Threshold = field(default_factory=lambda: find_threshold("percentile:95"))


@dataclass(frozen=True, slots=True, eq=False)
class _Cell:
    """One picture in a square frame.

    Attributes:
        picture: (H, W) grey or (H, W, 3) colour, in [0, 1].
        lines: masks on its grid and the colour of their outlines.
        box: (top, left, bottom, right) in its pixels, drawn dashed; may reach beyond it.
        above: a line over it, from its left edge on, over the cells at its right too.
        below: small print under its middle.
        exact: show its pixels as squares.
    """

    picture: NDArray[np.floating[Any]]
    lines: tuple[tuple[NDArray[np.bool_], _Colour], ...] = ()
    box: tuple[int, int, int, int] | None = None
    above: str = ""
    below: str = ""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class _Sheet:
    """What stands around the cells.

    Attributes:
        side: of a cell in inches.
        names: of the rows, at their left; none or all.
        heads: of the columns; none or all.
        key: what a colour means.
        parted: columns that stand away from the one before.
    """

    side: float
    names: Sequence[str] = ()
    heads: Sequence[str] = ()
    key: Sequence[tuple[str, _Colour]] = ()
    parted: Sequence[int] = ()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG on white and return its path; the folder is made, and a file there replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": None})  # the same bytes every time
    return path


def samples(dataset: Dataset, per_class: int = 4, seed: int = 0) -> Figure:
    """Draw a few random slices of each class, a class a row, of different patients where there are enough.

    Raises:
        InputError: no slice has a label, or one cannot be read.
    """
    rng = np.random.default_rng(seed)
    names, rows = [], []
    for name in _some(dataset.classes):
        records = [r for r in dataset if r.label == name]
        chosen = _of_different_patients([records[i] for i in rng.permutation(len(records))], per_class)
        rows.append([_Cell(_grey(r.read()), below=r.plane or "") for r in chosen])
        names.append(f"{name}\n{count(len(records), 'slice')}")
    return _draw(rows, _Sheet(1.5, names))


def augmentation(records: Sequence[Record], augment: Augment, spec: Preprocess, seed: int, *, draws: int = 2) -> Figure:
    """Draw slices as the network gets them, and below each what a few random draws of the augmentation make of it.

    Raises:
        InputError: no record, or a slice cannot be read.
    """
    import torch

    from gyrus.augment import apply, draw

    slices = torch.from_numpy(np.stack([prepare(r.read(), spec) for r in _some(records)]))
    generator = torch.Generator().manual_seed(seed)
    changed = [apply(slices, draw(augment, len(slices), generator)) for _ in range(draws)]
    rows = [[_Cell(one / 255) for one in several.numpy()] for several in (slices, *changed)]
    return _draw(rows, _Sheet(1.4, ("before", *["after"] * draws)))


def crop(records: Sequence[Record], spec: Preprocess) -> Figure:
    """Draw slices with the head's outline and the box that is cut out, and below each what the network gets.

    Raises:
        InputError: no record, or a slice cannot be read.
    """
    before, after = [], []
    for record in _some(records):
        image = record.read()
        head = head_mask(image.pixels) if spec.background == "keep" else head_outline(image.pixels)
        box = frame_of(image, spec).box
        before.append(_Cell(_grey(image), ((head, TRUTH),), box, below=_size(image.shape)))
        after.append(_Cell(prepare(image, spec) / 255, below=_size((spec.size, spec.size))))
    key = (("the head's outline", TRUTH), ("what the network sees", CUT))
    return _draw([before, after], _Sheet(1.5, ("before", "after"), key=key))


def four_panels(cases: Sequence[Case]) -> Figure:
    """Draw a row per case: slice, heatmap, what is kept of the map when it is cut, and the truth.

    The truth is outlined on the first three, and under what is kept stands its IoU with the truth.

    Raises:
        InputError: no case, or a slice or its mask cannot be read.
    """
    rows = []
    for case in _some(cases):
        image, placed, truth = _read(case)
        kept = case.cut.keep(placed)
        lines = _truth_line(truth)
        if truth is None:
            overlap, last = "", _Cell(np.full(image.shape, 0.93), below="no outline is known")
        else:
            union = int((kept | truth).sum())
            overlap = f"IoU {(kept & truth).sum() / union:.2f}" if union else "nothing kept, nothing there"
            last = _Cell(truth.astype(np.float64), below=f"{truth.mean():.1%} of the slice")
        rows.append(
            [
                _Cell(_grey(image), lines, above=_wrapped(case.caption, 4 * _WIDE)),
                _Cell(_heat(placed), lines, below=_state(placed)),
                _Cell(kept.astype(np.float64), lines, below=overlap),
                last,
            ]
        )
    cuts = {case.cut.name for case in cases}
    cut = f"cut ({cuts.pop()})" if len(cuts) == 1 else "cut"
    return _draw(rows, _Sheet(_WIDE, heads=("slice", "heatmap", cut, "truth"), key=_key(cases)))


def overlay_panels(cases: Sequence[Case], *, across: int = 2) -> Figure:
    """Draw each case as slice, heatmap, and the one over the other, its caption above; the truth is outlined.

    Args:
        cases: in the order to be read, row by row.
        across: how many stand side by side.

    Raises:
        InputError: no case, or a slice or its mask cannot be read.
    """
    across = min(across, len(_some(cases)))
    rows: list[list[_Cell | None]] = []
    for i, case in enumerate(cases):
        image, placed, truth = _read(case)
        grey, heat, lines = _grey(image), _heat(placed), _truth_line(truth)
        if i % across == 0:
            rows.append([])
        rows[-1] += [
            _Cell(grey, above=_wrapped(case.caption, 3 * _WIDE)),
            _Cell(heat, lines, below=_state(placed)),
            _Cell(_over(grey, placed), lines),
        ]
    heads = ("slice", "heatmap", "overlay") * across
    return _draw(rows, _Sheet(_WIDE, heads=heads, key=_key(cases), parted=range(3, 3 * across, 3)))


def layer_sweep(
    image: Image, maps: Mapping[str, NDArray[np.float32]], spec: Preprocess, *, truth: NDArray[np.bool_] | None = None
) -> Figure:
    """Draw a column per layer: its map on its own grid, laid on the slice's grid, and laid over the slice.

    Args:
        image: the slice, drawn at the left.
        maps: layer -> (h, w) float32 raw map over the network's input, in the order to be shown.
        spec: how the slice became that input.
        truth: (H, W) the tumour, where it is known, to be outlined.

    Raises:
        InputError: no map.
    """
    grey, frame, lines = _grey(image), frame_of(image, spec), _truth_line(truth)
    rows: tuple[list[_Cell | None], ...] = ([None], [None], [_Cell(grey, lines)])
    for raw in _some(list(maps.values())):
        placed = frame.place(raw)
        rows[0].append(_Cell(_heat(raw), exact=True, below=_state(raw)))
        rows[1].append(_Cell(_heat(placed), lines))
        rows[2].append(_Cell(_over(grey, placed), lines))
    grids = (_size(raw.shape) for raw in maps.values())
    heads = ["", *(f"{name}\n{grid}" for name, grid in zip(_short(list(maps)), grids, strict=True))]
    key = (_TRUTH_KEY,) if truth is not None else ()
    return _draw(rows, _Sheet(0.95, ("own grid", "on the slice", "overlaid"), heads, key))


def _draw(rows: Sequence[Sequence[_Cell | None]], sheet: _Sheet) -> Figure:
    """Lay the cells out from the top left; every length is in inches until it is handed to matplotlib."""
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    above = [_LINE * max(_lines(cell.above) for cell in row if cell) for row in rows]
    below = [_LINE * max(_lines(cell.below) for cell in row if cell) for row in rows]
    left = _MARGIN + (
        0.1 + _LETTER * max(len(line) for n in sheet.names for line in n.split("\n")) if sheet.names else 0
    )
    top = _MARGIN + (_LINE * max(_lines(head) for head in sheet.heads) + _GAP if sheet.heads else 0)
    at = [left + i * (sheet.side + _GAP) + _PARTED * sum(p <= i for p in sheet.parted) for i in range(columns)]
    width = at[-1] + sheet.side + _MARGIN
    height = top + sum(above) + sum(below) + len(rows) * (sheet.side + 2 * _GAP) + (_LINE if sheet.key else 0) + _MARGIN
    figure = Figure(figsize=(width, height), dpi=DPI)

    def write(x: float, y: float, text: str, *, size: float = _SMALL, colour: str = _PALE, **where: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, color=colour, linespacing=1.25, **where)

    for x, head in zip(at, sheet.heads, strict=False):
        write(x + sheet.side / 2, top - _GAP, head, ha="center", va="bottom")
    y = top
    for i, row in enumerate(rows):
        y += above[i] + _GAP
        if sheet.names:
            write(_MARGIN, y + sheet.side / 2, sheet.names[i], size=_TEXT, colour=_INK, va="center")
        for x, cell in zip(at, row, strict=False):
            if cell is not None:
                frame = (x / width, 1 - (y + sheet.side) / height, sheet.side / width, sheet.side / height)
                _fill(figure.add_axes(frame), cell)
                write(x, y - 0.03, cell.above, size=_TEXT, colour=_INK, va="bottom")
                write(x + sheet.side / 2, y + sheet.side + 0.03, cell.below, ha="center", va="top")
        y += sheet.side + below[i] + _GAP
    x = at[0]
    for text, colour in sheet.key:
        write(x, y + 0.03, "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 2, colour=_hex(colour), va="top")
        write(x + 0.22, y + 0.03, text, va="top")
        x += 0.45 + 0.065 * len(text)
    return figure


def _fill(axes: Axes, cell: _Cell) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    height, width = cell.picture.shape[:2]
    axes.set_axis_off()
    axes.imshow(cell.picture, "gray", vmin=0, vmax=1, interpolation="nearest" if cell.exact else "antialiased")
    axes.autoscale(False)
    for mask, colour in cell.lines:
        if mask.any():  # the margin closes outlines at the border
            outline = axes.contour(
                np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1), [0.5], colors=[_hex(colour)],
                linewidths=1.0,
            )  # fmt: skip
            outline.set(path_effects=[withStroke(linewidth=2.0, foreground="black")])
    if cell.box:
        top, left, bottom, right = (side - 0.5 for side in cell.box)
        axes.set_xlim(min(left, -0.5), max(right, width - 0.5))
        axes.set_ylim(max(bottom, height - 0.5), min(top, -0.5))
        axes.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top,
                fill=False, edgecolor=_hex(CUT), linewidth=1.2, linestyle=(0, (4, 2)), clip_on=False,
            )
        )  # fmt: skip


def _read(case: Case) -> tuple[Image, NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return the slice, the map laid over it, and the truth."""
    image = case.record.read()
    return image, frame_of(image, case.spec).place(case.heat), case.record.read_mask(image.shape)


def _grey(image: Image) -> NDArray[np.float64]:
    low, high = np.percentile(image.pixels, (0.5, 99.5))
    return np.asarray(np.clip((image.pixels - low) / (high - low if high > low else 1.0), 0, 1), np.float64)


def _share(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the positive part of a map as a share of its maximum; all 0 where there is none."""
    positive = np.maximum(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), 0).astype(np.float64)
    return np.asarray(positive / (float(positive.max()) or 1.0))


def _heat(values: NDArray[np.float32]) -> NDArray[np.float64]:
    import matplotlib

    return np.asarray(matplotlib.colormaps[COLOURS](_share(values))[..., :3])


def _over(grey: NDArray[np.float64], placed: NDArray[np.float32]) -> NDArray[np.float64]:
    """Lay a map's colours over a grey slice, the more opaque the higher its value."""
    opaque = 0.8 * _share(placed)[..., None] ** 0.75
    return np.asarray((1 - opaque) * grey[..., None] + opaque * _heat(placed))


def _state(values: NDArray[np.float32]) -> str:
    if not np.isfinite(values).all():
        return "not finite"
    return "" if float(values.max()) > 0 else "nowhere positive"


def _truth_line(truth: NDArray[np.bool_] | None) -> tuple[tuple[NDArray[np.bool_], _Colour], ...]:
    return () if truth is None else ((truth, TRUTH),)


def _key(cases: Sequence[Case]) -> tuple[tuple[str, _Colour], ...]:
    return (_TRUTH_KEY,) if any(case.record.mask is not None for case in cases) else ()


def _of_different_patients(records: Sequence[Record], n: int) -> list[Record]:
    """Return the first n of different patients, filled up in order where patients are too few."""
    first = {r.patient or r.id: r for r in reversed(records)}
    ranked = [r for r in records if first[r.patient or r.id] is r]
    return (ranked + [r for r in records if first[r.patient or r.id] is not r])[:n]


def _short(names: Sequence[str]) -> list[str]:
    """Return names of layers without the parts that all begin with, but for one that a bare number needs."""
    parts = [name.split(".") for name in names]
    homes = zip(*(p[:-1] for p in parts), strict=False)
    common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, homes))
    if common and any(p[common].isdigit() for p in parts):
        common -= 1
    return [".".join(p[common:]) for p in parts]


def _some(items: Sequence[_Item]) -> Sequence[_Item]:
    if not items:
        raise InputError("there is nothing to draw: choose at least one slice, class or map")
    return items


def _wrapped(text: str, inches: float) -> str:
    return "\n".join(textwrap.fill(line, int(inches / _LETTER)) for line in text.splitlines())


def _lines(text: str) -> int:
    return len(text.splitlines())


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} \N{MULTIPLICATION SIGN} {shape[0]}"


def _hex(colour: _Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
