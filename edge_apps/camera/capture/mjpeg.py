"""MJPEG: JPEG images one after another, as a camera's pipe or an HTTP server sends them.

Where an image starts and ends is read from its own data. What a camera writes around it (a Content-Type, a boundary, a
length) is often wrong and is never needed. Every search has a limit, and what is not an image is told apart from what
is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
"""Markers for the start and end of a JPEG image, and for its compressed data (ITU-T T.81, table B.1)."""

PADDING = b"\x00\xff \r\n"
"""What may stand between two images: some encoders fill their buffers up."""

LARGEST = 32 * 2**20
"""Bytes of one image; a 12-megapixel JPEG has 5."""

MOST_SEGMENTS = 10_000
"""Segments of one image, and markers without a body; a photograph has some dozens. Empty ones take 5 µs each."""

LONGEST_PADDING = 65_536
"""Bytes in front of a marker that only fill up."""

EXTRA = 3
"""Further images in a part before its delimiter is taken for one that does not come again; previews are one or two."""

MOST_CHANGES = 2
"""Times that another delimiter is believed; where each part has its own, there is none to wait for."""

_WITHOUT_LENGTH = frozenset(b"\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7")
"""Second bytes of markers that stand alone: TEM and the restart markers."""

_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
"""The beginning of a header line: the name of a field (RFC 5322, 2.2), and a colon."""

_HEAD_LINE = re.compile(_HEADER.pattern + b"|--")
"""The beginning of a header line or of a delimiter."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class StreamEnded(Exception):
    """There is nothing more to read."""


@dataclass(frozen=True)
class NoPicture:
    """Bytes in the place of an image: ``reason`` says what is wrong with them."""

    reason: str


@dataclass(frozen=True)
class Unended:
    """An image without its end marker, in front of a delimiter: ``data`` has the marker added.

    It may be whole, since some cameras leave the marker out, or be cut short: decoding tells.
    """

    data: bytes


Part = bytes | Unended | NoPicture

CUT_SHORT = "a JPEG image that is cut short"


@dataclass(frozen=True)
class Marks:
    """Patterns to search for, and the bytes of the longest match: it may have begun at the end of what was read.

    They are apart, since each begins with bytes of its own, which are searched for ten times as fast as alternatives.
    """

    patterns: tuple[re.Pattern[bytes], ...]
    longest: int

    def __or__(self, other: Marks) -> Marks:
        return Marks(self.patterns + other.patterns, max(self.longest, other.longest))

    def search(self, data: bytes | bytearray, start: int = 0, end: int = sys.maxsize) -> re.Match[bytes] | None:
        """Return the first match."""
        matches = (pattern.search(data, start, end) for pattern in self.patterns)
        return min((match for match in matches if match), key=lambda match: match.start(), default=None)


START = Marks((re.compile(rb"\xff\xd8\xff"),), 3)
"""An image begins: the start marker, and the first byte of the next one. Two bytes alone are too common in noise."""

IN_SCAN = Marks((re.compile(rb"\xff[\xd8-\xdd\xc4\xcc\xfe]"),), 2)
"""What ends compressed data: the end of the image, the tables of its next scan, or the start of another image.

In compressed data, 0xff is followed by 0 or by the number of a restart; any other marker there is damage, which the
decoder reports.
"""


class Bytes:
    """What is read and not used yet. ``read(n)`` gives one to ``n`` bytes as soon as there are any, none at the end."""

    def __init__(self, read: Callable[[int], bytes], held: bytes = b"") -> None:
        self._read = read
        self._held = bytearray(held)

    def exactly(self, count: int) -> bytes:
        """Take the next ``count`` bytes."""
        while len(self._held) < count:
            self._more()
        return self._take(count)

    def until(self, marks: Marks, limit: int) -> tuple[bytes, bytes] | None:
        """Take everything up to a mark, and the mark itself.

        Return None, and drop about ``limit`` bytes, if there is no mark within them.
        """
        searched = 0
        while not (match := marks.search(self._held, searched, limit)):
            if len(self._held) >= limit:
                self._take(limit - marks.longest + 1)  # the mark may have begun
                return None
            searched = max(0, len(self._held) - marks.longest + 1)
            self._more()
        mark = match.group()
        return self._take(match.end())[: -len(mark)], mark

    def give_back(self, data: bytes) -> None:
        """Put ``data`` in front of what is read next."""
        self._held[:0] = data

    def _more(self) -> None:
        data = self._read(65536)
        if not data:
            raise StreamEnded
        self._held += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


class JpegStream:
    """Iterate over the images of a stream, and over what stands in the place of one; ends with ``StreamEnded``.

    Nothing, padding, or the heads of multipart parts (RFC 2046, 5.1.1) may stand between the images. The delimiter of
    the parts is read from the stream itself. ``boundary``, the one that the camera states, is tried first.
    """

    def __init__(self, stream: Bytes, boundary: bytes = b"") -> None:
        self._stream = stream
        self._images = 0
        self._is_delimited = False  # whether the delimiter was met
        self._is_in_part = False  # behind a delimiter, and no image yet
        self._extra = 0
        self._changes = 0
        name = boundary.strip(b'"').lstrip(b"-")  # some cameras count the dashes into their boundary
        self._expect(b"--" + name if name else b"")

    @property
    def images(self) -> int:
        """How many images there were."""
        return self._images

    @property
    def is_delimited(self) -> bool:
        """Whether a delimiter of parts was met."""
        return self._is_delimited

    @property
    def is_still(self) -> bool:
        """Whether the stream so far is one image and nothing else."""
        return self._images == 1 and not self._is_delimited

    def __iter__(self) -> Iterator[Part]:
        while True:
            found = self._stream.until(self._between, LARGEST)
            if found is None:
                yield NoPicture(f"{LARGEST // 2**20} MB without a JPEG image")
            elif found[1].startswith(SOI):
                self._stream.give_back(found[1][len(SOI) :])
                yield from self._at_start(found[0])
            else:
                yield from self._at_delimiter(found[0])

    def _expect(self, delimiter: bytes) -> None:
        """Look for ``delimiter`` from here on, where a line starts: a header may hold it, too."""
        literal = re.escape(delimiter)
        line = re.compile(literal + rb"(?<![^\n\x00\xff]" + literal + b")")
        self._delimiter = Marks((line,) if delimiter else (), len(delimiter) + 1)
        self._between, self._in_scan = START | self._delimiter, IN_SCAN | self._delimiter

    def _at_delimiter(self, before: bytes) -> Iterator[Part]:
        if self._is_in_part:
            yield _no_image(before)
        self._is_delimited = True
        self._extra = 0
        following = self._stream.exactly(2)
        self._is_in_part = following != b"--"  # else it is the closing delimiter, behind each part of some cameras
        self._stream.give_back(following)

    def _at_start(self, before: bytes) -> Iterator[Part]:
        if self._is_delimited and not self._is_in_part:
            # A second image in a part is a preview of the first: unless the delimiter does not come any more.
            self._extra += 1
            if self._extra <= EXTRA:
                self._image()
                return
            self._is_delimited = False
            self._changes += 1
        if not self._is_delimited:
            yield from self._between_images(before)
        self._is_in_part = False
        part = self._image()
        self._images += not isinstance(part, NoPicture)
        yield part

    def _between_images(self, before: bytes) -> Iterator[Part]:
        """Learn the delimiter from what stands in front of an image, and tell what is neither a head nor padding."""
        delimiter = _delimiter_in(before) if self._changes <= MOST_CHANGES else b""
        if delimiter:
            self._expect(delimiter)
            self._is_delimited = True
            starts = [match.end() for match in self._delimiter.patterns[0].finditer(before)]
            for start, following in pairwise(starts):
                yield _no_image(before[start : following - len(delimiter)])
            return
        stray = before.strip(PADDING)
        if not all(_HEAD_LINE.match(line) for line in _lines(stray)):
            yield NoPicture(f"{len(stray)} bytes that belong to no JPEG image")

    def _image(self) -> Part:
        """Read an image behind its start marker, segment by segment: a thumbnail in one has an end marker too."""
        stream, data, has_scan = self._stream, bytearray(SOI), False
        for _ in range(MOST_SEGMENTS):
            if len(data) > LARGEST:
                break
            marker = stream.exactly(2)
            padding = 0
            while marker == b"\xff\xff" and padding < LONGEST_PADDING:
                marker = b"\xff" + stream.exactly(1)
                padding += 1
            if has_scan and marker == EOI:
                return bytes(data + EOI)
            if marker[0] != 0xFF or marker[1] in (0x00, 0xFF) or marker in (SOI, EOI):
                stream.give_back(marker)  # the next image, or the delimiter, may begin here
                return NoPicture("a JPEG image with a broken head")
            data += marker
            if marker[1] in _WITHOUT_LENGTH:
                continue
            length = stream.exactly(2)
            size = int.from_bytes(length, "big")
            if size < 2:
                return NoPicture("a JPEG image with a broken head")
            body = stream.exactly(size - 2)
            if delimiter := self._delimiter.search(body):
                stream.give_back(body[delimiter.start() :])
                return NoPicture(CUT_SHORT)
            data += length + body
            if marker == SOS:
                has_scan = True
                found = stream.until(self._in_scan, LARGEST)
                if found is None:
                    break
                compressed, mark = found
                stream.give_back(mark)
                data += compressed
                if mark == SOI:  # the next image began
                    return NoPicture(CUT_SHORT)
                if mark[0] != 0xFF:
                    return Unended(_without_line_end(data) + EOI)
        return NoPicture(f"a JPEG image of more than {LARGEST // 2**20} MB or {MOST_SEGMENTS:,} segments")


def _delimiter_in(before: bytes) -> bytes:
    """Return the last line in front of an image that starts with two dashes, or that stands above its header lines."""
    lines = _lines(before)
    dashed = [line for line in lines if line.startswith(b"--") and line.strip(b"-")]
    if dashed:
        return dashed[-1]
    is_head = False
    for line in reversed(lines):
        if not _HEADER.match(line):
            return line if is_head else b""
        is_head = True
    return b""


def _no_image(part: bytes) -> NoPicture:
    """Describe a part without an image, from behind its delimiter to the next one."""
    blank = _BLANK_LINE.search(part)
    body = _without_line_end(part[blank.end() :]) if blank else b""
    return NoPicture(f"{len(body)} bytes that are not a JPEG image" if body.strip() else "an empty part")


def _lines(data: bytes) -> list[bytes]:
    """Return the lines that are not empty, without their ends."""
    return [line for line in (line.strip() for line in data.split(b"\n")) if line]


def _without_line_end(data: bytes | bytearray) -> bytes:
    """Return ``data`` without the line end that belongs to the delimiter behind it."""
    return bytes(data).removesuffix(b"\n").removesuffix(b"\r")
