"""A CSV table of slices, with an optional ``dataset.json`` beside it; the phantom is kept this way."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gyrus.datasets.listing import and_more, class_name, count, read_table, shown
from gyrus.datasets.registry import DatasetReader
from gyrus.errors import InputError
from gyrus.io.masks import FileMask, OutlineMask
from gyrus.io.mat import MatMask
from gyrus.paths import PathLike
from gyrus.records import PLANES, Dataset, DatasetInfo, MaskRef, Record

COLUMNS = ("file", "label", "patient", "study", "mask", "outline", "plane", "subset")
"""The columns of a manifest; only ``file`` is required."""

INFO = DatasetInfo(name="manifest", title="Slices listed in a CSV table")

PHANTOM_INFO = DatasetInfo(
    name="phantom",
    title="gyrus phantom: synthetic T1 contrast-enhanced slices with drawn tumours; no real patient is in it",
    citation=(
        "Synthetic, made by gyrus; anatomy from ICBM 152 nonlinear symmetric 2009a: V. Fonov et al., Unbiased average "
        "age-appropriate atlases for pediatric studies, NeuroImage 54(1):313-327, 2011"
    ),
    licence=(
        "CC0-1.0; anatomy after the ICBM 152 2009a template, (C) 1993-2009 L. Collins, McConnell Brain Imaging Centre"
    ),
    classes=("glioma", "meningioma", "no_tumor", "pituitary"),
    faults=("It is synthetic: a number measured on it says nothing about patients.",),
)


def recognises(root: Path) -> bool:
    """Tell whether ``root`` is a CSV file or a folder with manifest.csv."""
    return root.suffix.lower() == ".csv" if root.is_file() else (root / "manifest.csv").is_file()


def recognises_phantom(root: Path) -> bool:
    """Tell whether ``root`` is, or holds, a manifest whose dataset.json has the name "phantom"."""
    if not recognises(root):
        return False
    try:
        content = json.loads(_info_path(_table_path(root)).read_bytes())
    except (OSError, ValueError):
        return False  # the manifest's reader will say what is wrong with it
    return isinstance(content, dict) and content.get("name") == PHANTOM_INFO.name


def open_manifest(root: Path) -> Dataset:
    """Open a manifest: a CSV file with a header and one row per slice.

    ``file`` and ``mask`` are paths, absolute or relative to the CSV's own folder; ``outline`` is "x,y x,y ..." in
    pixels; ``plane`` is axial, coronal or sagittal. A slice has a mask or an outline, not both. Labels are brought to
    one spelling, see :func:`gyrus.datasets.listing.class_name`. Columns of other names are left out with a note. A
    ``dataset.json`` beside it (name, title, citation, licence, classes, faults) says what the dataset is.

    Args:
        root: the CSV file, or the folder with manifest.csv.

    Raises:
        InputError: the table or dataset.json cannot be read, or a row is wrong; the message names the row, counted as
            a spreadsheet does (the header is row 1).
    """
    table = _table_path(root)
    columns, rows = read_table(table, ("file",))
    info = _read_info(_info_path(table))
    records: dict[str, Record] = {}
    renamed: dict[str, str] = {}
    for number, row in rows:
        where = f"{table} row {number}"
        record = _record(table.parent, where, row, info.name)
        if record.id in records:
            raise InputError(f"{where}: the file {record.id} occurs a second time; remove one of the rows")
        records[record.id] = record
        if record.label is not None and record.label != row["label"]:
            renamed[row["label"]] = record.label
    if not records:
        raise InputError(f"{table} lists no slices: add a row for each")
    notes = [f"The label {old!r} was read as {new!r}." for old, new in sorted(renamed.items())]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        notes.append(f"{count(len(unknown), 'column')} of the manifest left out as unknown: {and_more(unknown)}.")
    return Dataset(info=info, root=root, records=tuple(records.values()), notes=tuple(notes))


def write_manifest(dataset: Dataset, out_csv: PathLike) -> Path:
    """Write a dataset as a manifest, with dataset.json beside it; slices and masks stay where they are.

    Paths are written relative to the table's folder. Ids are lost: a record opened from the manifest is called by that
    path. What no record has gets no column.

    Args:
        dataset: what to write; its masks must be outlines, image files or original Cheng files.
        out_csv: the table to write.

    Returns:
        Path: the table.

    Raises:
        InputError: the table, or a dataset.json that says something else, exists; a mask is of another kind; a record
            is a slice of a volume; or a name or text is not UTF-8, or too long for a table. No table is written then.
    """
    out = Path(out_csv)
    info_path, info = _info_path(out), json.dumps(asdict(dataset.info), indent=2, ensure_ascii=False) + "\n"
    if out.exists():
        raise InputError(f"{out} exists: name another file, or remove it first")
    if info_path.exists() and info_path.read_text(encoding="utf-8") != info:
        raise InputError(f"{info_path} exists and describes something else: write the manifest into another folder")
    rows = [_row(record, out.parent) for record in dataset]
    columns = [name for name in COLUMNS if name == "file" or any(row[name] for row in rows)]
    out.parent.mkdir(parents=True, exist_ok=True)
    info_path.write_text(info, encoding="utf-8")
    aside = out.with_name(f".{out.name}.partial-{os.getpid()}")  # half a table would open as a whole one
    try:
        with aside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return out


def _table_path(root: Path) -> Path:
    table = root / "manifest.csv" if root.is_dir() else root
    if not table.is_file():
        raise InputError(f"{table} does not exist: a manifest is a CSV file with a column 'file'")
    return table


def _info_path(table: Path) -> Path:
    return table.parent / "dataset.json"


def _read_info(path: Path) -> DatasetInfo:
    """Return what dataset.json says, or the plain manifest's info where there is none."""
    if not path.is_file():
        return INFO
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON ({error}): correct or remove it") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object with name, title, citation ...: correct or remove it")
    texts = {key: content[key] for key in ("name", "title", "citation", "licence") if key in content}
    lists = {key: content[key] for key in ("classes", "faults") if key in content}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise InputError(f"{path}: {key!r} is not text: correct it")
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{path}: {key!r} is not a list of texts: correct it")
    known: dict[str, Any] = {**texts, **{key: tuple(value) for key, value in lists.items()}}
    return DatasetInfo(**{"name": INFO.name, "title": INFO.title, **known})


def _record(folder: Path, where: str, row: Mapping[str, str], source: str) -> Record:
    """Make a record of a row, whose cells are blank-free texts, all of them optional but ``file``."""
    if not row["file"]:
        raise InputError(f"{where}: the column 'file' is empty; name the slice's file or remove the row")
    plane = row.get("plane", "").lower() or None
    if plane is not None and plane not in PLANES:
        raise InputError(
            f"{where}: the plane {shown(row['plane'])!r} is not one of {', '.join(PLANES)}; correct or empty it"
        )
    path = _existing(folder, where, "file", row["file"])
    return Record(
        id=_id(folder, row["file"]),
        path=path,
        label=class_name(row["label"]) if row.get("label") else None,
        patient=row.get("patient") or None,
        study=row.get("study") or None,
        mask=_mask(folder, where, row),
        plane=plane,
        subset=row.get("subset") or None,
        source=source,
    )


def _mask(folder: Path, where: str, row: Mapping[str, str]) -> MaskRef | None:
    mask, outline = row.get("mask"), row.get("outline")
    if mask and outline:
        raise InputError(f"{where}: it has a mask and an outline; empty one of the two")
    if outline:
        return OutlineMask(outline, f"{where} ({shown(row['file'])})")
    if not mask:
        return None
    path = _existing(folder, where, "mask", mask)
    return MatMask(path) if path.suffix.lower() == ".mat" else FileMask(path)


def _existing(folder: Path, where: str, column: str, cell: str) -> Path:
    path = folder / cell
    try:
        there = path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        there = False
    if not there:
        raise InputError(
            f"{where}: the {column} {shown(cell)} does not exist; paths are relative to {folder}, "
            "so restore or correct it"
        )
    return path


def _id(folder: Path, cell: str) -> str:
    """Return the path relative to the manifest, tidied up; a file elsewhere keeps its ``..`` or its absolute path."""
    base, plain = Path(os.path.normpath(folder)), Path(os.path.normpath(folder / cell))
    if plain.is_relative_to(base):
        return plain.relative_to(base).as_posix()
    return plain.as_posix() if Path(cell).is_absolute() else Path(os.path.relpath(plain, base)).as_posix()


def _row(record: Record, folder: Path) -> dict[str, str]:
    if record.at is not None:
        raise InputError(
            f"{record.id} is a slice of a volume, which a table cannot name: run `gyrus data convert` first"
        )
    mask, outline = "", ""
    match record.mask:
        case None:
            pass
        case OutlineMask():
            outline = " ".join(f"{float(x)!r},{float(y)!r}" for x, y in record.mask.vertices())
        case FileMask() | MatMask():
            mask = _relative(record.mask.path, folder)
        case _:
            raise InputError(f"{record.id}: its mask is neither a file nor an outline; save it as PNG first")
    row = {
        "file": _relative(record.path, folder),
        "label": record.label or "",
        "patient": record.patient or "",
        "study": record.study or "",
        "mask": mask,
        "outline": outline,
        "plane": record.plane or "",
        "subset": record.subset or "",
    }
    for column, cell in row.items():
        if any("\ud800" <= letter <= "\udfff" for letter in cell):
            raise InputError(f"{record.path}: its {column} is not UTF-8, which a table cannot name: rename it first")
        if len(cell) > csv.field_size_limit():
            raise InputError(f"{record.path}: its {column} is longer than a table's cell may be: save it as a PNG mask")
    return row


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive on Windows, to which no relative path leads
        return path.absolute().as_posix()


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_manifest,
    looks_for="manifest.csv, or any CSV file, with a column 'file'",
)
PHANTOM = DatasetReader(
    info=PHANTOM_INFO,
    recognises=recognises_phantom,
    open=open_manifest,
    looks_for="manifest.csv beside a dataset.json whose name is phantom",
)
