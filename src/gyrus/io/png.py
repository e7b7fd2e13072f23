"""PNG: what its chunks say, and its pixels, every one of them or none.

Pillow takes rows that are missing at the end of the packed pixels for black, checks no checksum of a chunk of pixels,
and keeps eight bits of 16-bit colour; libpng, by way of OpenCV, refuses the first two, keeps all bits, and is faster.
It is shown only the chunks that pixels depend on: it remarks on others, colour profiles above all, on the console.
Source: PNG specification, third edition, W3C 2025.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
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

_SIGNATURE = 8  # bytes before the first chunk
_ORIENTATION = 274


def read_facts(path: Path, stream: BinaryIO) -> tuple[int, int, int]:
    """Return (bits per sample, colour type, EXIF orientation) without unpacking any pixel.

    Pillow decodes the whole image to find an orientation, because the chunk that holds it may come last.

    Raises:
        InputError: the chunks do not go on to the end mark.
    """
    depth, colour_type, orientation = 8, 2, 1
    for kind, length in _chunks(path, stream):
        if kind == b"IHDR":
            depth, colour_type = stream.read(length)[8:10]
        elif kind == b"eXIf":
            exif = Pillow.Exif()
            exif.load(stream.read(length))
            orientation = exif.get(_ORIENTATION, 1)
    return depth, colour_type, orientation


def decode(path: Path, stream: BinaryIO) -> NDArray[Any]:
    """Return the samples as stored: (H, W) grey or (H, W, 3) RGB, uint8 or uint16, without palette or alpha.

    Samples of fewer than 8 bits are spread over 0..255.

    Raises:
        InputError: a checksum is wrong, or there are fewer pixels than the header says.
    """
    import cv2

    stream.seek(0)
    needed = [stream.read(_SIGNATURE)]
    for kind, length in _chunks(path, stream):
        body, checksum = stream.read(length), stream.read(4)
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise InputError(f"{path} is damaged (a checksum in it is wrong): restore it from its source")
        if kind[:1].isupper():
            needed += [length.to_bytes(4, "big"), kind, body, checksum]
    samples = cv2.imdecode(np.frombuffer(b"".join(needed), np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise InputError(f"{path} is damaged or cut short (its pixels do not unpack): restore it from its source")
    return np.asarray(samples if samples.ndim == 2 else samples[..., 2::-1])  # OpenCV's order is B, G, R, A


def _chunks(path: Path, stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the kind and length of every chunk, the stream standing where its data begin.

    Raises:
        InputError: the file ends before the end mark does.
    """
    stream.seek(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        after = stream.tell() + length + 4
        if len(head) == 8:
            yield kind, length
        stream.seek(after - 1)
        if len(head) < 8 or not stream.read(1):
            raise InputError(f"{path} is cut short: the end of the PNG is missing; restore it from its source")
