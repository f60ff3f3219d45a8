"""Which way up a WebP picture is: OpenCV turns JPEG and PNG itself, WebP only from version 5 on.

Both versions are in use (4.11 with numpy 1 on boards), and a picture must mean the same bytes to both.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112
"""The EXIF tag: 1 is upright, 2 to 8 are the other ways to hold a camera (Exif 2.32, 4.6.4 A)."""


def webp_orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8, of a WebP file's bytes; 1 where it names none or a senseless one."""
    at = 12
    while at + 8 <= len(data):
        size = struct.unpack("<I", data[at + 4 : at + 8])[0]
        if data[at : at + 4] == b"EXIF":
            return _orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return 1


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror uint8 ``[H, W, 3]`` so that the picture stands as it was seen."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == ORIENTATION and 1 <= value <= 8:
                return int(value)
    except struct.error:  # cut short: the picture itself may still be whole
        pass
    return 1
