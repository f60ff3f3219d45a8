"""The memory that an image takes to decode, from its header alone: a file of 600 bytes may claim a billion pixels.

Per pixel OpenCV holds 3 bytes in its own array and 3 in NumPy's, which it copies it to. The conversion to RGB and the
turn into the upright position come later, with as much. Some decoders hold more, while there is no copy yet.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from edge_apps.image_parts import SOS, jpeg_segments, png_chunks, riff_chunks

MB = 1_000_000

PNG = b"\x89PNG"

MOST_MEMORY = 500 * MB
"""Bytes for the file and its pixels together: a JPEG or PNG may have 80 megapixels, a progressive JPEG 55, a WebP 49,
a 24-bit BMP 42 for ``LARGEST_FILE``."""

LARGEST_FILE = 128 * MB
"""Bytes of an image file: a 24-bit BMP of 42 megapixels, or a JPEG that takes libjpeg 3 s."""

MOST_SCANS = 100
"""Scans of one JPEG; libjpeg writes 10 into a progressive one, and each takes 10 ms for 40 megapixels even if empty."""

COPIES = 6
"""Bytes per pixel that every format takes."""

ANIMATED_PNG = 20
"""Bytes per pixel of a PNG with several frames and 16 bits a channel, as measured with OpenCV 5.0."""

SCANS = 3
"""Bytes per pixel of a JPEG in several scans, and 2 more for each component."""

WEBP = 10
"""Bytes per pixel of a WebP with transparency, as measured with OpenCV 5.0; libwebp keeps all of a frame's parts."""

ANIMATED_WEBP = 11
"""The same of one with several frames: what it is put together on is held beside the frame."""

MOST_TEXTS = 50
"""Texts of one PNG that may be compressed; libpng unpacks each, up to 8 MB, and a file of 3 MB has room for 400."""

_TEXTS = frozenset({b"zTXt", b"iTXt"})

_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers of a frame's header: SOF0 to SOF15 but for tables (ITU-T T.81, table B.1)."""

_ANIMATION = 0x2
"""The flag of a WebP's extended header (RFC 9649, 2.7.1)."""

_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
"""Frame headers of progressive JPEGs, whose coefficients are all kept until the last scan."""


class Size(NamedTuple):
    """Width and height in pixels, and the bytes that one pixel takes while it is decoded; whether in several scans."""

    width: int
    height: int
    cost: int
    in_scans: bool = False

    @property
    def bytes(self) -> int:
        """Bytes that all pixels take."""
        return self.width * self.height * self.cost


def too_large(data: bytes) -> str | None:
    """Return why an image takes too much memory or time to decode, as a clause; None where it does not, or has no size.

    Raises:
        TooManyParts: a file of more parts than any honest one has.
    """
    if len(data) > LARGEST_FILE:
        return f"it has {len(data):,} bytes, and at most {LARGEST_FILE:,} are read"
    size = max(_sizes(data), key=lambda size: size.bytes, default=Size(0, 0, 0))
    needed = len(data) + size.bytes
    if needed > MOST_MEMORY:
        return (
            f"it has {size.width:,}×{size.height:,} pixels, which take {needed // MB:,} MB to decode, and at most "
            f"{MOST_MEMORY // MB} MB are used"
        )
    if data.startswith(PNG) and (texts := sum(chunk.name in _TEXTS for chunk in png_chunks(data))) > MOST_TEXTS:
        return f"it has {texts:,} texts, and at most {MOST_TEXTS} are read"
    if size.in_scans and (scans := _scans(data)) > MOST_SCANS:
        return f"it has {scans} scans, and at most {MOST_SCANS} are decoded"
    return None


def _sizes(data: bytes) -> list[Size]:
    """Every size that the file states: decoders differ in which they take."""
    try:
        if data.startswith(b"\xff\xd8"):
            return _of_jpeg(data)
        if data.startswith(PNG):
            return _of_png(data)
        return _of_webp(data) if data.startswith(b"RIFF") else _of_bmp(data)
    except (struct.error, IndexError):  # cut short, and so refused by whoever decodes it
        return []


def _scans(data: bytes) -> int:
    return sum(segment.marker == SOS for segment in jpeg_segments(data))


def _of_jpeg(data: bytes) -> list[Size]:
    """Sizes in the headers in front of the first scan; the file may have a thumbnail, which is inside a segment.

    All coefficients are kept where they come in several scans: progressive, or one component after the other.
    """
    found, is_progressive = list[tuple[int, int, int]](), False
    for marker, start, _ in jpeg_segments(data):
        if marker in _SIZES:
            height, width, components = struct.unpack_from(">HHB", data, start + 1)
            found.append((width, height, components))
            is_progressive |= marker in _PROGRESSIVE
        elif marker == SOS:
            in_scans = is_progressive or any(data[start] < components for _, _, components in found)
            return [
                Size(width, height, max(COPIES, SCANS + 2 * components) if in_scans else COPIES, in_scans)
                for width, height, components in found
            ]
    return []


def _of_png(data: bytes) -> list[Size]:
    chunks = list(png_chunks(data))
    cost = ANIMATED_PNG if any(chunk.name == b"acTL" for chunk in chunks) else COPIES
    headers = (chunk.start for chunk in chunks if chunk.name == b"IHDR")
    sides = (struct.unpack_from(">II", data, start) for start in headers)
    return [Size(width, height, cost) for width, height in sides]


def _of_webp(data: bytes) -> list[Size]:
    """The canvas, and each frame that is not part of an animation (RFC 9649, 2.5 to 2.7)."""
    sizes = []
    for name, start, _ in riff_chunks(data):
        if name == b"VP8X":
            cost = ANIMATED_WEBP if data[start] & _ANIMATION else WEBP
            sizes.append(Size(_word24(data, start + 4) + 1, _word24(data, start + 7) + 1, cost))
        elif name == b"ANMF":
            sizes.append(Size(_word24(data, start + 6) + 1, _word24(data, start + 9) + 1, ANIMATED_WEBP))
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, start + 6)
            sizes.append(Size(width & 0x3FFF, height & 0x3FFF, WEBP))
        elif name == b"VP8L":
            (bits,) = struct.unpack_from("<I", data, start + 1)
            sizes.append(Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, WEBP))
    return sizes


def _of_bmp(data: bytes) -> list[Size]:
    """A negative height says that the rows go downwards; the header of OS/2 has 16-bit sides."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return [Size(abs(width), abs(height), COPIES)]


def _word24(data: bytes, at: int) -> int:
    (low, high) = struct.unpack_from("<HB", data, at)
    return int(low + (high << 16))
