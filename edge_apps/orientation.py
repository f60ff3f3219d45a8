"""Which way up an image is: the EXIF orientation of JPEG, PNG and WebP files.

It is read here and not by OpenCV, which turns a WebP only from version 5 on (4.11 is in use with numpy 1 on boards),
and which reads only two of the four bytes of an orientation that is stored as LONG. An image must mean the same pixels
everywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_apps.image_parts import SOS, Chunk, jpeg_segments, png_chunks, riff_chunks

ORIENTATION = 0x0112
"""The EXIF tag: 1 is upright, 2 to 8 are the other ways to hold a camera (Exif 2.32, 4.6.4 A)."""

APP1, PREFIX = 0xE1, b"Exif\0\0"
"""The JPEG segment that holds EXIF data, and what they begin with."""

_FORMATS = {1: "B", 4: "I", 6: "b", 9: "i"}
"""How the integer types of TIFF 6.0 (p. 15) are read from the value field; any other as the SHORT that it should be."""


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of an image file's bytes; 1 where it names none or a senseless one."""
    if data.startswith(b"\xff\xd8"):
        return _of_tiff(_exif_of_jpeg(data))
    if data.startswith(b"\x89PNG"):
        return _of_tiff(_body(data, png_chunks(data), b"eXIf"))
    if data.startswith(b"RIFF"):
        return _of_tiff(_body(data, riff_chunks(data), b"EXIF"))
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
    for marker, start, end in jpeg_segments(data):
        if marker == SOS:
            break
        if marker == APP1 and data.startswith(PREFIX, start):
            return data[start:end]
    return b""


def _body(data: bytes, chunks: Iterator[Chunk], name: bytes) -> bytes:
    """Return the body of the first chunk of this name."""
    return next((data[chunk.start : chunk.end] for chunk in chunks if chunk.name == name), b"")


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
