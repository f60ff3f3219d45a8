"""Video files with time stamps of one's own choice, which OpenCV does not write: Matroska, MP4 and AVI around JPEG."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48


def image(number: int) -> bytes:
    """A JPEG image of one grey: 10 × its number."""
    return bytes(cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 10 * number % 256, np.uint8))[1])


def mkv(stamps: Sequence[int], *, duration: float | None = None, default_duration: int | None = None) -> bytes:
    """Matroska with a frame at each of ``stamps`` (milliseconds), one cluster each.

    ``default_duration`` is in nanoseconds: the rate that the file states.
    """
    video = _ebml(b"\xb0", _number(WIDTH)) + _ebml(b"\xba", _number(HEIGHT))
    track = _ebml(b"\xd7", b"\x01") + _ebml(b"\x73\xc5", b"\x01") + _ebml(b"\x83", b"\x01")
    track += _ebml(b"\x86", b"V_MJPEG") + _ebml(b"\xe0", video)
    if default_duration is not None:
        track += _ebml(b"\x23\xe3\x83", _number(default_duration))
    info = _ebml(b"\x2a\xd7\xb1", _number(1_000_000)) + _ebml(b"\x4d\x80", b"test") + _ebml(b"\x57\x41", b"test")
    if duration is not None:
        info += _ebml(b"\x44\x89", struct.pack(">d", duration))
    body = _ebml(b"\x15\x49\xa9\x66", info) + _ebml(b"\x16\x54\xae\x6b", _ebml(b"\xae", track))
    for number, stamp in enumerate(stamps):
        block = _ebml(b"\xa3", b"\x81\0\0\x80" + image(number))
        body += _ebml(b"\x1f\x43\xb6\x75", _ebml(b"\xe7", _number(stamp)) + block)
    head = _ebml(b"\x42\x82", b"matroska") + _ebml(b"\x42\x87", b"\x04") + _ebml(b"\x42\x85", b"\x02")
    return _ebml(b"\x1a\x45\xdf\xa3", head) + _ebml(b"\x18\x53\x80\x67", body)


def _ebml(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">Q", len(body) | 1 << 56) + body


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def mp4(stamps: Sequence[int], *, last: int = 40, edits: Sequence[tuple[int, int]] = (), wide: bool = False) -> bytes:
    """MP4 with a frame at each of ``stamps`` (milliseconds from 0), the last one shown for ``last``.

    ``edits`` are pairs of a length and a start; a start of -1 shows nothing. ``wide`` is with 64-bit times.
    """
    images = [image(number) for number in range(len(stamps))]
    steps = [b - a for a, b in pairwise(stamps)] + [last]
    total = sum(steps)
    head = _box(b"ftyp", b"isom\0\0\2\0isomiso2mp41") + _box(b"mdat", b"".join(images))
    start = len(_box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")) + 8
    offsets = [start + sum(map(len, images[:n])) for n in range(len(images))]

    def time(after: bytes) -> bytes:
        """Creation, change, scale and duration, in either width."""
        if wide:
            return struct.pack(">B3xQQ", 1, 0, 0) + struct.pack(">IQ", 1000, total) + after
        return struct.pack(">B3xII", 0, 0, 0) + struct.pack(">II", 1000, total) + after

    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    movie = _box(b"mvhd", time(struct.pack(">IH10x", 0x10000, 0x100) + matrix + bytes(24) + struct.pack(">I", 2)))
    track = _box(
        b"tkhd",
        struct.pack(">B3BIIIII8xhhhh", 0, 0, 0, 7, 0, 0, 1, 0, total, 0, 0, 0, 0)
        + matrix
        + struct.pack(">II", WIDTH << 16, HEIGHT << 16),
    )
    if edits:
        code = ">QqI" if wide else ">IiI"
        entries = b"".join(struct.pack(code, length, begin, 0x10000) for length, begin in edits)
        track += _box(b"edts", _box(b"elst", struct.pack(">B3xI", wide, len(edits)) + entries))
    entry = struct.pack(">6xH16xHHII4xH", 1, WIDTH, HEIGHT, 0x480000, 0x480000, 1) + bytes(32) + b"\0\x18\xff\xff"
    tables = _box(b"stsd", struct.pack(">4xI", 1) + _box(b"jpeg", entry))
    tables += _box(b"stts", struct.pack(">4xI", len(steps)) + b"".join(struct.pack(">II", 1, step) for step in steps))
    tables += _box(b"stsc", struct.pack(">4xIIII", 1, 1, 1, 1))
    tables += _box(b"stsz", struct.pack(">4xII", 0, len(images)) + b"".join(struct.pack(">I", len(i)) for i in images))
    tables += _box(b"stco", struct.pack(">4xI", len(offsets)) + b"".join(struct.pack(">I", o) for o in offsets))
    data = _box(b"dinf", _box(b"dref", struct.pack(">4xI", 1) + _box(b"url ", b"\0\0\0\x01")))
    info = _box(b"vmhd", b"\0\0\0\x01" + bytes(8)) + data + _box(b"stbl", tables)
    handler = _box(b"hdlr", bytes(8) + b"vide" + bytes(12) + b"v\0")
    media = _box(b"mdhd", time(b"\x55\xc4\0\0")) + handler + _box(b"minf", info)
    return head + _box(b"moov", movie + _box(b"trak", track + _box(b"mdia", media)))


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + name + body


def avi(frames: Sequence[int | None], fps: int = 25) -> bytes:
    """AVI with these numbers of images; None is a chunk of no bytes, which stands for no new frame."""
    chunks = [b"" if number is None else image(number) for number in frames]
    listed = b"".join(_chunk(b"00dc", data) for data in chunks)
    at, index = 4, b""
    for data in chunks:
        index += b"00dc" + struct.pack("<III", 0x10, at, len(data))
        at += 8 + len(data) + len(data) % 2
    count = len(chunks)
    main = struct.pack("<14I", 10**6 // fps, 0, 0, 0x10, count, 0, 1, 0, WIDTH, HEIGHT, 0, 0, 0, 0)
    stream = b"vidsMJPG" + struct.pack("<IHHIIIIIIiIhhhh", 0, 0, 0, 0, 1, fps, 0, count, 0, -1, 0, 0, 0, WIDTH, HEIGHT)
    shape = struct.pack("<IiiHH4sIiiII", 40, WIDTH, HEIGHT, 1, 24, b"MJPG", WIDTH * HEIGHT * 3, 0, 0, 0, 0)
    headers = _chunk(b"avih", main) + _list(b"strl", _chunk(b"strh", stream) + _chunk(b"strf", shape))
    return _chunk(b"RIFF", b"AVI " + _list(b"hdrl", headers) + _list(b"movi", listed) + _chunk(b"idx1", index))


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _list(name: bytes, body: bytes) -> bytes:
    return _chunk(b"LIST", name + body)
