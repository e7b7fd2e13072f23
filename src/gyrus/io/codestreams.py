"""What compressed frames say of themselves, checked before a decoder is trusted with them.

Decoders believe the header of a codestream, not that of the file around it, so one that claims more is refused first.
Lossless JPEG is checked to the last marker: only GDCM decodes it, and a damaged header can make GDCM end the process.
Sources: ITU-T T.81 annexes B and H (JPEG), T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_J2K_START = b"\xff\x4f\xff\x51"
_LOSSLESS, _TABLES, _RESTARTS, _SCAN = 0xC3, 0xC4, 0xDD, 0xDA
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SEGMENTS = _FRAMES | {_TABLES, _RESTARTS, _SCAN, 0xDB, 0xF8, 0xFE, *range(0xE0, 0xF0)}  # markers with a length
_END, _PADDING, _ZEROS = b"\xff\xd9", b"\0\xff", bytes(8)
_SEQUENTIAL = {0xC0, 0xC1}
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # within a scan, but for restarts
_ENTROPY = 0  # in place of a marker: the coded pixels, up to the end


def frame_size(codestream: bytes) -> tuple[int, int, int] | None:
    """Return (H, W, channels) from the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    None where there is no such header, or where a JPEG's segments do not lead up to a scan or it has no end.
    """
    start = codestream.find(_J2K_START, 0, 1 << 12)  # a JP2 file's boxes may come first
    if start >= 0:
        across, down, left, top = struct.unpack_from(">4I", codestream, start + 8)
        return down - top, across - left, struct.unpack_from(">H", codestream, start + 40)[0]
    found = list(_segments(codestream))
    frames = [payload for marker, payload in found if marker in _FRAMES]
    if len(frames) != 1 or not dict(found).get(_ENTROPY, b"").rstrip(_PADDING).endswith(_END):
        return None
    _, height, width, channels = struct.unpack_from(">BHHB", frames[0])
    return height, width, channels


def unended(codestream: bytes) -> bytes | None:
    """Return a JPEG up to the end of its coded pixels, and zeros in place of its end mark.

    libjpeg fills with grey what is missing before the mark, and only whispers a warning. Without the mark it asks for
    more data instead, unless all of the picture is there. None for what is not sequential and in one scan, where
    libjpeg asks for the mark in any case.
    """
    found = list(_segments(codestream))
    coded = dict(found).get(_ENTROPY)
    end = None if coded is None else _MARKER.search(coded)
    if not _SEQUENTIAL & dict(found).keys() or coded is None or end is None or coded[end.start() :][:2] != _END:
        return None
    return codestream[: len(codestream) - len(coded) + end.start()] + _ZEROS


def is_sound_lossless(codestream: bytes, bits: int) -> bool:
    """Tell whether a codestream is lossless JPEG (process 14) in one scan, well-formed but for its coded pixels.

    Args:
        codestream: one frame.
        bits: that the file allots to each sample, 8 or 16.
    """
    found = list(_segments(codestream))
    segments = dict(found)
    if len([marker for marker, _ in found if marker in _FRAMES]) != 1 or _LOSSLESS not in segments:
        return False
    precision, _, width, channels = struct.unpack_from(">BHHB", segments[_LOSSLESS])
    components, scan, coded = segments[_LOSSLESS][6:], segments.get(_SCAN, b""), segments.get(_ENTROPY, b"")
    tables = {table for marker, payload in found if marker == _TABLES for table in _tables(payload)}
    restarts = int.from_bytes(segments.get(_RESTARTS, b""), "big")
    first_marker = _MARKER.search(coded)
    return (
        2 <= precision <= 16
        and (precision > 8) == (bits > 8)
        and len(components) == 3 * channels
        and set(components[1::3]) == {0x11}  # no channel is stored smaller than another
        and len(scan) == 4 + 2 * channels
        and scan[0] == channels
        and scan[1:-3:2] == components[0::3]
        and {selector >> 4 for selector in scan[2:-3:2]} <= tables
        and 1 <= scan[-3] <= 7  # the predictor
        and scan[-2:] == b"\0\0"
        and restarts % max(width, 1) == 0
        and first_marker is not None
        and coded[first_marker.start() :].rstrip(_PADDING) == _END
    )


def _segments(codestream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, payload) up to the scan, as long as one follows upon the other, and then what it codes."""
    position = 2
    while position + 4 <= len(codestream) and codestream[position] == 0xFF:
        marker, length = codestream[position + 1], int.from_bytes(codestream[position + 2 : position + 4], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker not in _SEGMENTS or length < 2:
            return
        yield marker, codestream[position + 4 : position + 2 + length]
        position += 2 + length
        if marker == _SCAN:
            yield _ENTROPY, codestream[position:]
            return


def _tables(payload: bytes) -> Iterator[int]:
    """Yield the numbers of the Huffman tables in a segment, as far as they are fit for differences of 16 bits."""
    while len(payload) >= 17:
        number, counts = payload[0], payload[1:17]
        symbols = payload[17 : 17 + sum(counts)]
        if number > 3 or len(symbols) != sum(counts) or not symbols or max(symbols) > 16:
            return
        yield number
        payload = payload[17 + len(symbols) :]
