"""Which way up an image is: the EXIF orientation of JPEG, PNG and WebP files.

It is read here and not by OpenCV, which turns a WebP only from version 5 on (4.11 is in use with numpy 1 on boards),
and which reads only two of the four bytes of an orientation that is stored as LONG. An image must mean the same pixels
everywhere.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112
"""The EXIF tag: 1 is upright, 2 to 8 are the other ways to hold a camera (Exif 2.32, 4.6.4 A)."""

PREFIX = b"Exif\0\0"

_FORMATS = {1: "B", 4: "I", 6: "b", 9: "i"}
"""How the integer types of TIFF 6.0 (p. 15) are read from the value field; any other as the SHORT that it should be."""


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of an image file's bytes; 1 where it names none or a senseless one."""
    if data.startswith(b"\xff\xd8"):
        return _of_tiff(_exif_of_jpeg(data))
    if data.startswith(b"\x89PNG"):
        return _of_tiff(_chunk(data, b"eXIf", at=8))
    if data.startswith(b"RIFF"):
        return _of_tiff(_chunk(data, b"EXIF", at=12, is_riff=True))
    return 1


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror uint8 ``[H, W, 3]`` so that the image stands as it was seen."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _exif_of_jpeg(data: bytes) -> bytes:
    """Return the body of the first APP1 segment with EXIF data before the compressed data."""
    at = 2
    while at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or marker == 0xFF:  # stray bytes between segments, or padding
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a body
            at += 2
        elif marker == 0xDA:
            break
        elif marker == 0xE1 and data.startswith(PREFIX, at + 4):
            return data[at + 4 : at + 2 + length]
        else:
            at += 2 + length
    return b""


def _chunk(data: bytes, name: bytes, *, at: int, is_riff: bool = False) -> bytes:
    """Return the body of a PNG or RIFF chunk.

    PNG writes length and name, big-endian, and a checksum behind the body; RIFF name and length, little-endian, and
    pads the body to an even length.
    """
    while at + 8 <= len(data):
        first, second = data[at : at + 4], data[at + 4 : at + 8]
        kind, length = (first, second) if is_riff else (second, first)
        size = int.from_bytes(length, "little" if is_riff else "big")
        if kind == name:
            return data[at + 8 : at + 8 + size]
        at += 8 + size + (size % 2 if is_riff else 4)
    return b""


def _of_tiff(exif: bytes) -> int:
    tiff = exif.removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(order + _FORMATS.get(kind, "H"), tiff, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # cut short: the image itself may still be whole
        pass
    return 1
