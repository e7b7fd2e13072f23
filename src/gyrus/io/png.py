"""PNG: what its chunks say, and its pixels, every one of them or none.

Pillow takes rows that are missing at the end of the packed pixels, and numbers beyond the palette, for black, checks no
checksum of a chunk of pixels, and keeps eight bits of 16-bit colour. libpng, by way of OpenCV, keeps all bits, and is
faster and stricter. It remarks on the console on whatever is wrong or left over, so it is shown the pixels alone, those
of a palette as plain numbers, once they are known to be all there. They are inflated by ISA-L, in half zlib's time.
Source: PNG specification, third edition, W3C 2025.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError

CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Channels by the header's colour type, a palette's being three."""
PALETTE = 3
"""The colour type whose samples are numbers of colours."""

_SIGNATURE, _HEADER = 8, 13  # bytes before the first chunk, and of what the first holds
_CHECKSUM = 4  # bytes behind a chunk
_GREY = 0
_LONGEST = 1_000_000  # pixels along an edge, libpng's own limit
_OPTIONAL = 0x20  # the bit of a chunk's first letter without which no reader may pass it over
_ORIENTATION = 274
_LAST_FILTER = 4
# Of each pass of an interlaced file: its first column and row, and the steps between its columns and between its rows.
_ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
_CHUNK = 2**20  # bytes of rows in each that libpng is shown
_INFLATION_ERROR = cast("type[Exception]", isal_zlib.error)  # its type stub calls the class an instance


def read_facts(path: Path, stream: BinaryIO) -> tuple[int, int, int]:
    """Return (bits per sample, colour type, EXIF orientation) without unpacking any pixel.

    Pillow decodes the whole image to find an orientation, because the chunk that holds it may come last.

    Raises:
        InputError: the chunks do not go on to the end mark, or an edge is longer than a million pixels.
    """
    depth, colour_type, orientation = 8, 2, 1
    for kind, length in _chunks(path, stream):
        if kind == b"IHDR":
            width, height, depth, colour_type = struct.unpack_from(">IIBB", _checked(path, stream, kind, length))
            if max(width, height) > _LONGEST:
                raise InputError(f"{path} has an edge of more than {_LONGEST:,} pixels: cut it, or save it as TIFF")
        elif kind == b"eXIf":
            exif = Pillow.Exif()
            exif.load(_checked(path, stream, kind, length))
            orientation = exif.get(_ORIENTATION, 1)
    return depth, colour_type, orientation


def decode(path: Path, stream: BinaryIO) -> NDArray[Any]:
    """Return the samples as stored, uint8 or uint16, without alpha: (H, W) grey or (H, W, 3) RGB.

    Samples of fewer than 8 bits are spread over 0..255, numbers of a palette are looked up, and grey that had alpha has
    three equal channels.

    Raises:
        InputError: a checksum is wrong, there are fewer pixels than the header says, a number is beyond the palette,
            or there is a chunk that must not be passed over and is not known.
    """
    header, palette, packed = b"", b"", []
    for kind, length in _chunks(path, stream):
        if kind == b"IDAT":
            packed.append(_checked(path, stream, kind, length))
        elif kind == b"IHDR" and not header and length == _HEADER:
            header = _checked(path, stream, kind, length)
        elif kind == b"PLTE":
            palette = _checked(path, stream, kind, length)
        elif kind != b"IEND" and not kind[0] & _OPTIONAL:
            name = kind.decode("ascii", "backslashreplace")
            raise InputError(f"{path} is no plain PNG (it has a chunk {name!r} too many): save it as PNG again")
    depth, colour_type = header[8:10]
    if colour_type != PALETTE:
        return _unpacked(path, header, packed)
    numbers = _unpacked(path, header[:9] + bytes([_GREY]) + header[10:], packed) // (255 // (2**depth - 1))
    colours = np.frombuffer(palette, np.uint8)[: len(palette) // 3 * 3].reshape(-1, 3)
    if numbers.max() >= len(colours):
        raise InputError(f"{path} is damaged (a pixel's colour is not in its palette): restore it from its source")
    return np.asarray(colours[numbers])


def _unpacked(path: Path, header: bytes, packed: Sequence[bytes]) -> NDArray[Any]:
    """Return what libpng makes of a file of nothing but a header and these pixels, packed anew without compression."""
    import cv2

    rows = zlib.compress(_inflated(path, header, packed), level=0)
    parts = [(b"IDAT", rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)]
    plain = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in [(b"IHDR", header), *parts, (b"IEND", b"")]:
        checksum = isal_zlib.crc32(body, isal_zlib.crc32(kind))
        plain += [len(body).to_bytes(4, "big"), kind, body, checksum.to_bytes(4, "big")]
    samples = cv2.imdecode(np.frombuffer(b"".join(plain), np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise InputError(f"{path} is damaged (its pixels do not unpack): restore it from its source")
    return np.asarray(samples if samples.ndim == 2 else samples[..., 2::-1])  # OpenCV's order is B, G, R, A


def _inflated(path: Path, header: bytes, packed: Sequence[bytes]) -> bytes:
    """Return the filtered rows, as long as the header says they are; what is packed behind them is left out.

    Raises:
        InputError: they are fewer, their checksum is wrong, or a row's filter is none that there is.
    """
    passes = _passes(header)
    total = sum(count * length for count, length in passes)
    stream = isal_zlib.decompressobj()
    try:
        rows = stream.decompress(b"".join(packed), total + 1)
    except _INFLATION_ERROR as error:
        raise InputError(f"{path} is damaged (its pixels do not unpack): restore it from its source") from error
    if len(rows) < total or (len(rows) == total and not stream.eof):
        raise InputError(f"{path} is cut short (its pixels are fewer than its header says): restore it from its source")
    at = 0
    for count, length in passes:
        if max(rows[at : at + count * length : length]) > _LAST_FILTER:
            raise InputError(f"{path} is damaged (a row of it has no known filter): restore it from its source")
        at += count * length
    return rows[:total]


def _passes(header: bytes) -> list[tuple[int, int]]:
    """Return how many filtered rows there are, and the bytes of each: once, or for each pass of an interlaced file."""
    width, height, depth, colour_type, interlaced = struct.unpack(">IIBBxxB", header)
    bits = depth * (1 if colour_type == PALETTE else CHANNELS[colour_type])
    passes = []
    for x, y, right, down in _ADAM7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // right), -(-(height - y) // down)
        if columns > 0 and rows > 0:
            passes.append((rows, 1 + -(-columns * bits // 8)))
    return passes


def _checked(path: Path, stream: BinaryIO, kind: bytes, length: int) -> bytes:
    """Return the data of the chunk that the stream stands at.

    Raises:
        InputError: the file ends before they do, or their checksum is another.
    """
    body, checksum = stream.read(length), stream.read(_CHECKSUM)
    if len(checksum) < _CHECKSUM:
        raise _cut_short(path)
    if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
        raise InputError(f"{path} is damaged (a checksum in it is wrong): restore it from its source")
    return body


def _chunks(path: Path, stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and length of every chunk, the stream standing where its data begin.

    Raises:
        InputError: the file ends before the end mark does.
    """
    at, kind = _SIGNATURE, b""
    while kind != b"IEND":
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            raise _cut_short(path)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        at += 8 + length + _CHECKSUM
        yield kind, length
    stream.seek(at - 1)
    if not stream.read(1):
        raise _cut_short(path)


def _cut_short(path: Path) -> InputError:
    return InputError(f"{path} is cut short: the end of the PNG is missing; restore it from its source")
