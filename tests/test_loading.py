"""Slices in batches: in order, bounded, and with unreadable files named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from handmade_slices import pictured

from gyrus.errors import InputError
from gyrus.io import Image
from gyrus.loading import batches, load_slices
from gyrus.preprocess import Preprocess, prepare
from gyrus.records import Record

SPEC = Preprocess(size=16)


class Counting:
    """What a record is to the loader, counting its reads."""

    def __init__(self, record: Record, reads: list[str]) -> None:
        self.record, self.reads = record, reads

    def read(self) -> Image:
        self.reads.append(self.record.id)
        return self.record.read()


def test_batches_keep_the_order(tmp_path: Path) -> None:
    records = pictured(tmp_path, 7)
    calls: list[tuple[str, int, int]] = []
    got = list(batches(records, SPEC, 3, what="reading", progress=lambda *a: calls.append(a)))
    assert [[r.id for r in b.records] for b in got] == [
        ["0.png", "1.png", "2.png"],
        ["3.png", "4.png", "5.png"],
        ["6.png"],
    ]
    assert [b.readable for b in got] == [[0, 1, 2], [0, 1, 2], [0]]
    assert all(b.slices.dtype == np.uint8 and b.slices.shape[1:] == (16, 16) and not b.errors for b in got)
    expected = np.stack([prepare(r.read(), SPEC) for r in records])
    assert (np.concatenate([b.slices for b in got]) == expected).all()
    assert len(np.unique(expected, axis=0)) == 7  # so that an exchange would have been seen
    assert calls == [("reading", 3, 7), ("reading", 6, 7), ("reading", 7, 7)]


def test_all_at_once_is_the_same(tmp_path: Path) -> None:
    records = pictured(tmp_path, 3) * 30  # more than one of its batches
    calls: list[tuple[str, int, int]] = []
    got = load_slices(records, SPEC, what="reading", progress=lambda *a: calls.append(a))
    assert (got == np.concatenate([b.slices for b in batches(records, SPEC, 7)])).all()
    assert got.shape == (90, 16, 16)
    assert calls[-1] == ("reading", 90, 90)


def test_nothing_to_read() -> None:
    assert list(batches([], SPEC, 4)) == []
    assert load_slices([], SPEC).shape == (0, 16, 16)


def test_an_unreadable_file_is_noted_when_told_to_keep_going(tmp_path: Path) -> None:
    records = pictured(tmp_path, 5)
    records[1].path.write_text("not an image")
    records[4].path.unlink()
    got = list(batches(records, SPEC, 2, keep_going=True))
    assert [b.readable for b in got] == [[0], [0, 1], []]
    assert [len(b.slices) for b in got] == [1, 2, 0]
    assert got[2].slices.shape == (0, 16, 16)
    assert [list(b.errors) for b in got] == [[1], [], [0]]
    assert "1.png" in got[0].errors[1]
    assert "4.png does not exist" in got[2].errors[0]
    assert (got[1].slices == load_slices(records[2:4], SPEC)).all()


def test_an_unreadable_file_stops_the_reading_otherwise(tmp_path: Path) -> None:
    records = pictured(tmp_path, 5)
    records[3].path.write_bytes(b"")
    stream = batches(records, SPEC, 2)
    assert len(next(stream).records) == 2
    with pytest.raises(InputError, match=r"3\.png is empty"):
        next(stream)
    with pytest.raises(InputError, match=r"3\.png is empty"):
        load_slices(records, SPEC)


def test_an_error_that_is_not_the_user_s_is_not_hidden(tmp_path: Path) -> None:
    class Broken:
        def read(self) -> Image:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(batches([*pictured(tmp_path, 1), Broken()], SPEC, 2, keep_going=True))


def test_no_more_than_the_next_batch_is_read_ahead(tmp_path: Path) -> None:
    reads: list[str] = []
    records = [Counting(r, reads) for r in pictured(tmp_path, 12)]
    ahead = []
    stream = batches(records, SPEC, 2)
    for n, _ in enumerate(stream):
        ahead.append(len(reads) - 2 * (n + 1))
        if n == 2:
            stream.close()
            break
    assert max(ahead) <= 2
    assert len(reads) <= 8


def test_a_note_of_each_image_that_could_be_read(tmp_path: Path) -> None:
    records = pictured(tmp_path, 5)
    records[1].path.write_text("not an image")
    got = list(batches(records, SPEC, 2, keep_going=True, note=lambda image, _: float(image.pixels.sum())))
    expected = [float(r.read().pixels.sum()) for i, r in enumerate(records) if i != 1]
    assert [n for b in got for n in b.notes] == expected
    assert [len(b.notes) for b in got] == [len(b.readable) for b in got] == [1, 2, 1]
    assert [n for b in batches(records[2:], SPEC, 2) for n in b.notes] == [None] * 3
