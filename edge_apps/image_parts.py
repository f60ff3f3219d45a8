"""The parts that image files consist of: segments of a JPEG, chunks of a PNG or of a RIFF file such as WebP.

Their number has a limit, since millions of empty ones fit into a file that is not large.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MOST_PARTS = 100_000
"""A PNG of 256 MB that libpng wrote has 31,000 chunks of 8 KB; a JPEG has some hundreds of segments at most."""

SOS, EOI = 0xDA, 0xD9
"""JPEG markers: a scan of compressed data begins, the image ends (ITU-T T.81, table B.1)."""

_MARKER = re.compile(rb"\xff[^\xff\x00\x01\xd0-\xd8]")
"""The next marker with a body. Padding, stuffed zeros, restarts and stray bytes are passed over, as decoders do."""


class TooManyParts(ValueError):
    """A file of more parts than any honest one has."""

    def __init__(self) -> None:
        super().__init__(f"it has more than {MOST_PARTS:,} parts")


class Segment(NamedTuple):
    """Where the body of a JPEG segment lies, without its length; the end may be behind that of the file."""

    marker: int
    start: int
    end: int


class Chunk(NamedTuple):
    """Where the body of a chunk lies; the end may be behind that of the file."""

    name: bytes
    start: int
    end: int


def jpeg_segments(data: bytes) -> Iterator[Segment]:
    """Walk the segments from the start marker to the end of the image, through all scans.

    Raises:
        TooManyParts: there are more than ``MOST_PARTS``.
    """
    at = 2
    for _ in range(MOST_PARTS):
        found = _MARKER.search(data, at)
        if found is None or found.end() + 2 > len(data):
            return
        marker, start = data[found.end() - 1], found.end() + 2
        if marker == EOI:
            return
        at = found.end() + int.from_bytes(data[found.end() : start], "big")
        yield Segment(marker, start, at)
    raise TooManyParts


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Walk the chunks; each has its length and name in front, big-endian, and a checksum behind it.

    Raises:
        TooManyParts: there are more than ``MOST_PARTS``.
    """
    at = 8
    for _ in range(MOST_PARTS):
        if at + 8 > len(data):
            return
        chunk = Chunk(data[at + 4 : at + 8], at + 8, at + 8 + int.from_bytes(data[at : at + 4], "big"))
        yield chunk
        at = chunk.end + 4
    raise TooManyParts


def riff_chunks(data: bytes) -> Iterator[Chunk]:
    """Walk the chunks; each has its name and length in front, little-endian, and is padded to an even length.

    Raises:
        TooManyParts: there are more than ``MOST_PARTS``.
    """
    at = 12
    for _ in range(MOST_PARTS):
        if at + 8 > len(data):
            return
        chunk = Chunk(data[at : at + 4], at + 8, at + 8 + int.from_bytes(data[at + 4 : at + 8], "little"))
        yield chunk
        at = chunk.end + chunk.end % 2
    raise TooManyParts
