"""PNG: what its chunks say, and its pixels, every one of them or none.

Pillow takes rows that are missing at the end of the packed pixels, and numbers beyond the palette, for black, checks no
checksum of a chunk of pixels, and keeps eight bits of 16-bit colour. libpng, by way of OpenCV, keeps all bits, and is
faster and stricter. It remarks on the console on whatever else is in a file, so it is shown the pixels alone, those of
a palette as plain numbers; it still remarks on packed pixels that end too early.
Source: PNG specification, third edition, W3C 2025.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from gyrus.errors import InputError

CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Channels by the header's colour type, a palette's being three."""
PALETTE = 3
"""The colour type whose samples are numbers of colours."""

_SIGNATURE, _HEADER = 8, 13  # bytes before the first chunk, and of what the first holds
_GREY = 0
_LONGEST = 1_000_000  # pixels along an edge, libpng's own limit
_OPTIONAL = 0x20  # the bit of a chunk's first letter without which no reader may pass it over
_ORIENTATION = 274


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
    """Return what libpng makes of a file of nothing but a header and packed pixels."""
    import cv2

    parts = [(b"IHDR", header), *((b"IDAT", part) for part in packed), (b"IEND", b"")]
    plain = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")
        for kind, body in parts
    )
    samples = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise InputError(f"{path} is damaged or cut short (its pixels do not unpack): restore it from its source")
    return np.asarray(samples if samples.ndim == 2 else samples[..., 2::-1])  # OpenCV's order is B, G, R, A


def _checked(path: Path, stream: BinaryIO, kind: bytes, length: int) -> bytes:
    """Return the data of the chunk that the stream stands at.

    Raises:
        InputError: their checksum is another.
    """
    body, checksum = stream.read(length), stream.read(4)
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
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        at += 8 + length + 4
        stream.seek(at - 1)
        if len(head) < 8 or not stream.read(1):
            raise InputError(f"{path} is cut short: the end of the PNG is missing; restore it from its source")
        stream.seek(at - length - 4)
        yield kind, length
