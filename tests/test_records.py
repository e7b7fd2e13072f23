"""Records and datasets: lazy, unique, and with a fingerprint that changes when the data does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade_slices import listed, write_png
from handmade_volumes import BLOCK, save_nifti

from gyrus.errors import GyrusError, InputError, MissingExtraError
from gyrus.io import SliceRef
from gyrus.io.masks import OutlineMask
from gyrus.records import Dataset, Record

ROWS = [("b", "glioma", "p1"), ("a", "pituitary", "p2"), ("c", "glioma", "p1")]


def changed(dataset: Dataset, of: str, /, **fields: str | None) -> Dataset:
    return replace(dataset, records=tuple(replace(r, **fields) if r.id == of else r for r in dataset))


def test_order_and_look_up(tmp_path: Path) -> None:
    data = listed(tmp_path, ROWS)
    assert len(data) == 3
    assert [r.id for r in data] == ["b", "a", "c"]
    assert data["a"].label == "pituitary"
    assert data.classes == ("glioma", "pituitary")
    assert data.has_patients
    assert not data.has_masks
    chosen = data.select(["c", "b"])
    assert [r.id for r in chosen] == ["c", "b"]
    assert (chosen.root, chosen.info) == (data.root, data.info)
    with pytest.raises(InputError, match=r"holds no record 'x'"):
        data.select(["a", "x"])


def test_an_id_occurs_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"record id 'a' occurs more than once"):
        listed(tmp_path, [*ROWS, ("a", "glioma", "p1")])
    with pytest.raises(InputError, match="more than once"):
        listed(tmp_path, ROWS).select(["a", "a"])


def test_the_fingerprint_is_of_the_content_not_of_the_order(tmp_path: Path) -> None:
    data = listed(tmp_path / "one", ROWS)
    first = data.fingerprint
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert replace(data, records=data.records[::-1]).fingerprint == first
    assert listed(tmp_path / "two", ROWS).fingerprint == first  # the folder is of no account
    others = {
        changed(data, "a", label="glioma").fingerprint,
        changed(data, "a", patient="p1").fingerprint,
        changed(data, "a", patient=None).fingerprint,
        changed(data, "a", id="d").fingerprint,
        data.select(["a", "b"]).fingerprint,
    }
    (tmp_path / "one" / "a").write_text("longer")
    others.add(replace(data).fingerprint)
    assert len(others | {first}) == 7
    assert data.fingerprint == first  # read once


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    data = listed(tmp_path, ROWS)
    (tmp_path / "a").unlink()
    with pytest.raises(InputError, match=r"/a does not exist"):
        data.fingerprint  # noqa: B018


def test_pixels_and_masks_are_read_when_asked_for(tmp_path: Path) -> None:
    outline = OutlineMask("1,0 3,0 3,2 1,2", "table row 2")
    record = Record("x.png", tmp_path / "x.png", mask=outline)
    data = Dataset(listed(tmp_path, []).info, tmp_path, (record,))  # the file does not exist yet
    assert data.has_masks
    assert not data.has_patients
    with pytest.raises(InputError, match=r"x\.png does not exist"):
        record.read()
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    write_png(record.path, pixels)
    assert (record.read().pixels == pixels).all()
    mask = record.read_mask((3, 4))
    assert mask is not None
    assert mask.tolist() == [[False, True, True, False]] * 2 + [[False] * 4]
    assert replace(record, mask=None).read_mask((3, 4)) is None
    assert "OutlineMask" not in repr(record)  # an outline may have hundreds of corners


def test_a_slice_of_a_volume_is_read_from_it(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "x.nii", np.stack([BLOCK, BLOCK + 1000], axis=3))
    plain = save_nifti(tmp_path / "y.nii", BLOCK)
    for record, more in (
        (Record("y#coronal-3", plain, at=SliceRef("coronal", 3)), 0),
        (Record("x#coronal-3", path, at=SliceRef("coronal", 3, channel=1)), 1000),
    ):
        assert (record.read().pixels == BLOCK[:, 3, :].T[::-1, ::-1] + more).all()


def test_a_spacing_that_is_a_placeholder_is_unknown(tmp_path: Path) -> None:
    record = Record("x#axial-0", save_nifti(tmp_path / "x.nii", BLOCK), at=SliceRef("axial", 0))
    assert record.read().spacing is not None
    bare = replace(record, spaced=False).read()
    assert bare.spacing is None
    assert (bare.pixels == record.read().pixels).all()


def test_the_fingerprint_of_a_series_is_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    for name in ("1", "2"):
        (tmp_path / "series" / name).write_text("slice")
    rows = [Record(f"series#axial-{i}", tmp_path / "series", at=SliceRef("axial", i)) for i in (0, 1)]
    data = Dataset(listed(tmp_path, []).info, tmp_path, tuple(rows))
    first = data.fingerprint
    (tmp_path / "series" / "2").write_text("longer")
    assert replace(data).fingerprint != first


def test_the_summary_counts_what_is_known(tmp_path: Path) -> None:
    data = listed(tmp_path, ROWS)
    data = replace(
        data, records=(*data.records, Record("d", data["a"].path, plane="axial", subset="Testing")), notes=("One.",)
    )
    got = data.summary()
    assert json.loads(json.dumps(got)) == got
    assert got["slices"] == 4
    assert got["classes"] == {"glioma": 2, "pituitary": 1}
    assert got["unlabelled"] == 1
    assert (got["patients"], got["studies"], got["masks"]) == (2, 2, 0)
    assert got["patients_per_class"] == {"glioma": 1, "pituitary": 1}
    assert (got["planes"], got["subsets"], got["notes"]) == ({"axial": 1}, {"Testing": 1}, ["One."])
    empty = listed(tmp_path, [])
    assert (empty.summary()["patients"], empty.has_patients, empty.classes) == (None, False, ())


def test_errors_are_of_one_family() -> None:
    assert issubclass(InputError, GyrusError)
    assert issubclass(InputError, ValueError)
    missing = MissingExtraError("pydicom", "dicom")
    assert isinstance(missing, ImportError)
    assert str(missing) == "pydicom is not installed: run pip install -e '.[dicom]' in gyrus's own folder"
