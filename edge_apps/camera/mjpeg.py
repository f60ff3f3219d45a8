"""MJPEG: pictures one after another, as a camera's pipe or an HTTP server sends them.

Whoever sends may send anything: every search has a limit, and what is no picture is told apart from what is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
"""Start and end of a JPEG picture, and the marker of its compressed data (ITU-T T.81, table B.1)."""

PADDING = b"\x00\xff \r\n"
"""What may stand between two pictures: some encoders fill their buffers up."""

LARGEST = 32 * 2**20
"""Bytes of one picture; a 12-megapixel JPEG has 5."""

LONGEST_HEAD = 64 * 2**10
"""Bytes of the header lines of one part."""


class StreamEnded(Exception):
    """There is nothing more to read."""


@dataclass(frozen=True)
class NoPicture:
    """Bytes in the place of a picture: ``reason`` says what is wrong with them."""

    reason: str


Part = bytes | NoPicture


class Bytes:
    """What is read and not used yet. ``read(n)`` gives one to ``n`` bytes as soon as there are any, none at the end."""

    def __init__(self, read: Callable[[int], bytes], held: bytes = b"") -> None:
        self._read = read
        self._held = bytearray(held)

    def exactly(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        while len(self._held) < count:
            self._more()
        return self._take(count)

    def until(self, mark: bytes, limit: int) -> bytes | None:
        """Everything up to and with ``mark``; None, and about as many bytes less, if it is not within ``limit``."""
        searched = 0
        while (at := self._held.find(mark, searched, limit)) < 0:
            if len(self._held) >= limit:
                self._take(limit - len(mark) + 1)  # the mark may have begun
                return None
            searched = max(0, len(self._held) - len(mark) + 1)
            self._more()
        return self._take(at + len(mark))

    def _more(self) -> None:
        data = self._read(65536)
        if not data:
            raise StreamEnded
        self._held += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


def pictures(stream: Bytes) -> Iterator[Part]:
    """Pictures that follow each other without anything between them; ends with ``StreamEnded``."""
    while True:
        before = stream.until(SOI, LARGEST)
        if before is None:
            yield NoPicture(f"{LARGEST // 2**20} MB without a JPEG picture")
            continue
        between = before[: -len(SOI)].strip(PADDING)
        if between:
            yield NoPicture(f"{len(between)} bytes that belong to no JPEG picture")
        yield _rest_of_picture(stream)


def parts(stream: Bytes, boundary: bytes) -> Iterator[Part]:
    """The parts of ``multipart/x-mixed-replace`` (RFC 2046, 5.1.1); ends with ``StreamEnded``.

    The length that a part states is believed, and the picture must be whole in it; without one the picture's own end
    mark ends it.
    """
    delimiter = b"--" + boundary.strip(b'"').lstrip(b"-")  # some cameras count the dashes into their boundary
    _skip(stream, delimiter)
    while True:
        head = _head(stream)
        if head is None:
            yield NoPicture("a part without a whole head")
            _skip(stream, delimiter)
        elif head.startswith(b"--"):
            raise StreamEnded  # the closing delimiter
        elif (length := _length(head)) is not None:
            yield whole(stream.exactly(length))
            _skip(stream, delimiter)
        else:
            start = stream.exactly(len(SOI))
            if start == SOI:  # its end is found at once; the boundary comes with the next picture
                yield _rest_of_picture(stream)
                _skip(stream, delimiter)
            else:
                yield whole(start + (stream.until(delimiter, LARGEST) or b"")[: -len(delimiter)])


def whole(data: bytes) -> Part:
    """The one picture in ``data``, without what cameras put before and behind it."""
    held = Bytes(lambda _: b"", data)
    try:
        if not data.strip():
            return NoPicture("an empty part")
        if held.until(SOI, len(data) + 1) is None:
            return NoPicture("no JPEG picture")
        return _rest_of_picture(held)
    except StreamEnded:
        return NoPicture("a JPEG picture that is cut short" if SOI in data else f"{len(data)} bytes that are no JPEG")


def _rest_of_picture(stream: Bytes) -> Part:
    """From the start mark on: segment by segment to the compressed data, since a thumbnail has an end mark too."""
    data = bytearray(SOI)
    while True:
        marker = stream.exactly(2)
        while marker == b"\xff\xff":  # padding
            marker = b"\xff" + stream.exactly(1)
        if marker[0] != 0xFF or marker[1] in (0x00, SOI[1], EOI[1]):
            return NoPicture("a JPEG picture with a broken head")
        length = stream.exactly(2)
        size = int.from_bytes(length, "big")
        if size < 2 or len(data) > LARGEST:
            return NoPicture("a JPEG picture with a broken head")
        data += marker + length + stream.exactly(size - 2)
        if marker[1] == SOS:
            break
    compressed = stream.until(EOI, LARGEST)
    if compressed is None:
        return NoPicture(f"a JPEG picture of more than {LARGEST // 2**20} MB")
    if SOI in compressed:  # in compressed data every 0xff is followed by 0 or a restart mark: the next picture began
        return NoPicture("a JPEG picture that is cut short")
    return bytes(data + compressed)


def _skip(stream: Bytes, delimiter: bytes) -> None:
    """To behind the next delimiter, however far it is: silence ends that, by the patience of whoever waits."""
    while stream.until(delimiter, LARGEST) is None:
        pass


def _head(stream: Bytes) -> bytes | None:
    """The header lines of a part; ``--`` for the closing delimiter."""
    start = stream.exactly(2)
    if start == b"--":
        return start
    head = bytearray(start)
    while not head.endswith((b"\n\r\n", b"\n\n")):
        line = stream.until(b"\n", LONGEST_HEAD)
        if line is None or len(head) > LONGEST_HEAD:
            return None
        head += line
    return bytes(head)


def _length(head: bytes) -> int | None:
    """The stated length, where it is a sensible one."""
    for line in head.splitlines():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value.strip()[:12])
            return length if length <= LARGEST else None
    return None
