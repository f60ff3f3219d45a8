"""What a video file itself says of its frames, where OpenCV only guesses: its count is the duration times a rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_apps.untrusted import open_regular

HEADER_LIMIT = 64 * 2**20
"""Bytes of a header or index that are read; one of an hour at 60 frames a second has about 3."""


MOST_CHUNKS = 100_000
"""Chunks that follow each other; an hour of MP4 in fragments of one second has 7,200. Passing one takes 2 µs."""

MOST_EDITS = 10_000
"""Entries of an edit list; most have one or two."""

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
"""Matroska's first element, and the one that holds all the others (RFC 9559)."""


@dataclass(frozen=True)
class Container:
    """``frames``: how many the file counts, None where its format does not count them or some of them are not shown.

    ``missing``: bytes that belong to the file by its own header, and are not there.
    """

    frames: int | None = None
    missing: int = 0


@dataclass(frozen=True)
class Chunk:
    """A named piece of a file: where its body starts and ends, which may be behind the end of the file."""

    name: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Time:
    """A duration, and how many of its units are a second."""

    scale: int
    duration: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.duration / self.scale


def read_container(path: Path) -> Container:
    """Look at the headers of an AVI, MP4 or Matroska file; anything else, and what is damaged, states nothing."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(12)
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return Container(_avi_frames(file, size) or None)  # 0: it was never finished
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _mp4(file, size)
            if head[:4] == EBML:
                return Container(missing=_missing_of_matroska(file, size))
    except (OSError, ValueError, IndexError, OverflowError):  # cut short, or not what it looks like
        pass
    return Container()


def _avi_frames(file: BinaryIO, size: int) -> int | None:
    """Return the stated length of the first video stream, less the chunks of no bytes that stand for no new frame."""
    stream, frames, empty = None, None, 0
    for chunk in _riff(file, 12, size):
        if chunk.name == b"LIST" and _read(file, chunk, 4) == b"hdrl":
            stream, frames = _avi_video(file, Chunk(b"hdrl", chunk.start + 4, chunk.end))
        elif chunk.name == b"idx1" and stream is not None:
            names = [b"%02d%s" % (stream, kind) for kind in (b"dc", b"db")]
            index = _read(file, chunk)
            entries = (index[at : at + 16] for at in range(0, len(index) - 15, 16))
            empty = sum(entry[:4] in names and entry[12:] == bytes(4) for entry in entries)
    return None if frames is None else frames - empty


def _avi_video(file: BinaryIO, headers: Chunk) -> tuple[int | None, int | None]:
    """Return the number and the length of the first video stream."""
    lists = (chunk for chunk in _riff(file, headers.start, headers.end) if chunk.name == b"LIST")
    streams = (chunk for chunk in lists if _read(file, chunk, 4) == b"strl")
    for number, stream in enumerate(streams):
        for chunk in _riff(file, stream.start + 4, stream.end):
            header = _read(file, chunk, 36) if chunk.name == b"strh" else b""
            if header[:4] == b"vids":
                return number, int.from_bytes(header[32:36], "little")
    return None, None


def _riff(file: BinaryIO, at: int, end: int) -> Iterator[Chunk]:
    for _ in range(MOST_CHUNKS):
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:4] == bytes(4):  # zeros: space that was never written
            return
        chunk = Chunk(head[:4], at + 8, at + 8 + int.from_bytes(head[4:], "little"))
        yield chunk
        at = chunk.end + chunk.end % 2
    raise ValueError("the file has too many chunks")


def _mp4(file: BinaryIO, size: int) -> Container:
    boxes = list(_boxes(file, 0, size))
    missing = max((box.end - size for box in boxes), default=0)
    movie = next((box for box in boxes if box.name == b"moov"), None)
    if movie is None or any(box.name == b"moof" for box in boxes):
        return Container(missing=max(0, missing))
    return Container(_mp4_frames(file, movie) or None, max(0, missing))


def _mp4_frames(file: BinaryIO, movie: Chunk) -> int | None:
    """Return the samples of the first video track; None where its edit list shows only a part of them."""
    movie_time = _time(file, _find(file, movie, b"mvhd"))
    for track in (box for box in _boxes(file, movie.start, movie.end) if box.name == b"trak"):
        handler = _find(file, track, b"mdia", b"hdlr")
        if handler is None or _read(file, handler, 12)[8:] != b"vide":
            continue
        sizes = _find(file, track, b"mdia", b"minf", b"stbl", b"stsz")
        edits = _find(file, track, b"edts", b"elst")
        media_time = _time(file, _find(file, track, b"mdia", b"mdhd"))
        frames = None if sizes is None else int.from_bytes(_read(file, sizes, 12)[8:12], "big")
        if edits is None or not frames:
            return frames
        shown = _edited(_read(file, edits, 8 + 20 * MOST_EDITS)) / movie_time.scale
        return None if 0 < shown < media_time.seconds * (1 - 1 / frames) else frames
    return None


def _time(file: BinaryIO, box: Chunk | None) -> Time:
    """Return what ``mvhd`` and ``mdhd`` have in common (ISO/IEC 14496-12, 8.2.2 and 8.4.2)."""
    if box is None:
        raise ValueError("the file has no time")
    data = _read(file, box, 36)
    wide = data[0] == 1
    at, length = (20, 8) if wide else (12, 4)
    scale = int.from_bytes(data[at : at + 4], "big")
    if not scale:
        raise ValueError("the file counts in no time")
    return Time(scale, int.from_bytes(data[at + 4 : at + 4 + length], "big"))


def _edited(data: bytes) -> int:
    """Return the duration of the edits of an ``elst`` box that show something, in the scale of the movie."""
    length, entry = (8, 20) if data[0] == 1 else (4, 12)
    count = int.from_bytes(data[4:8], "big")
    total = 0
    for at in range(8, min(len(data), 8 + count * entry), entry):
        start = int.from_bytes(data[at + length : at + 2 * length], "big", signed=True)
        total += int.from_bytes(data[at : at + length], "big") if start >= 0 else 0  # -1: nothing is shown
    return total


def _find(file: BinaryIO, box: Chunk, *names: bytes) -> Chunk | None:
    """Return the first box that lies inside boxes of these names."""
    found: Chunk | None = box
    for name in names:
        if found is None:
            return None
        found = next((inner for inner in _boxes(file, found.start, found.end) if inner.name == name), None)
    return found


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[Chunk]:
    for _ in range(MOST_CHUNKS):
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, header = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - at  # to the end of the file
        if length < header:
            return
        yield Chunk(head[4:8], at + header, at + length)
        at += length
    raise ValueError("the file has too many boxes")


def _missing_of_matroska(file: BinaryIO, size: int) -> int:
    file.seek(len(EBML))
    header = _ebml_size(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(len(SEGMENT)) != SEGMENT:
        return 0
    length = _ebml_size(file)
    return 0 if length is None else max(0, file.tell() + length - size)


def _ebml_size(file: BinaryIO) -> int | None:
    """Return the size of an element (RFC 8794, 6.2); None for one that is not known, as while it is recorded."""
    first = file.read(1)[0]
    more = 8 - first.bit_length()  # the first bit that is set says how many bytes follow
    data = bytes([first & (0x7F >> more)]) + file.read(more)
    value = int.from_bytes(data, "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _read(file: BinaryIO, chunk: Chunk, count: int = HEADER_LIMIT) -> bytes:
    file.seek(chunk.start)
    return file.read(min(count, chunk.end - chunk.start))
