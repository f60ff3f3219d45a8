"""What an image takes to decode is known from its header, whatever else the file holds."""

from __future__ import annotations

import resource
import struct
import zlib

import cv2
import numpy as np
import pytest

from edge_apps.errors import BadImage
from edge_apps.image_size import LARGEST_FILE, MOST_MEMORY, MOST_SCANS, MOST_TEXTS, too_large
from edge_apps.images import decode

FLAT = np.zeros((16, 16, 3), np.uint8)
HUGE = 30_000


def encoded(suffix: str, *options: int, image: np.ndarray = FLAT) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1].tobytes())


def jpeg(width: int, height: int, *options: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(encoded(".jpg", *options))
    header = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    struct.pack_into(">HH", data, header + 5, height, width)
    return bytes(data)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *extra: bytes, interlaced: bool = False) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, interlaced))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def webp(name: bytes, body: bytes) -> bytes:
    inside = b"WEBP" + name + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


def bmp(width: int, height: int, *, header: int = 40) -> bytes:
    sides = struct.pack("<HH" if header == 12 else "<ii", width, height)
    return b"BM" + struct.pack("<IHHII", 100, 0, 0, 54, header) + sides + bytes(82 - len(sides))


def word24(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


HOSTILE = {
    "jpeg": jpeg(HUGE, HUGE),
    "progressive": jpeg(HUGE, HUGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "two headers": jpeg(HUGE, HUGE).replace(
        b"\xff\xdb", b"\xff\xc0\0\x11\x08\0\x10\0\x10\x03" + bytes(9) + b"\xff\xdb", 1
    ),
    "hidden": jpeg(HUGE, HUGE).replace(b"\xff\xc0", b"\xff\x00\x00\x30\xff\xc0"),
    "png": png(HUGE, HUGE),
    "interlaced": png(HUGE, HUGE, interlaced=True),
    "animated": png(6000, 6000, chunk(b"acTL", struct.pack(">II", 2, 0))),
    "second header": png(8, 8, chunk(b"IHDR", struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0))),
    "lossy webp": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383)),
    "lossless webp": webp(b"VP8L", b"\x2f" + struct.pack("<I", 16382 | 16382 << 14)),
    "canvas": webp(b"VP8X", bytes(4) + word24(HUGE - 1) + word24(HUGE - 1)),
    "frame": webp(b"ANMF", bytes(6) + word24(HUGE - 1) + word24(HUGE - 1) + bytes(4)),
    "bmp": bmp(HUGE, HUGE),
    "downwards": bmp(HUGE, -HUGE),
    "of OS/2": bmp(HUGE, HUGE, header=12),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadImage, match=rf"'{name}' is too large: it has .*×.* pixels.* 500 MB.*Scale it down"):
        decode(HOSTILE[name], name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.parametrize(
    "data",
    [
        jpeg(9600, 8000),
        jpeg(7200, 6000, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        png(9600, 8000),
        webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 8000, 6000)),
        bmp(9600, -8000),
    ],
)
def test_the_largest_images_of_phones_are_not_refused(data: bytes) -> None:
    assert too_large(data) is None


def test_scans_that_cost_time_are_counted() -> None:
    data = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data[data.rfind(b"\xff\xda") : -2]
    assert decode(data[:-2] + last * 80 + data[-2:], "some").shape == FLAT.shape
    with pytest.raises(BadImage, match=f"has 1.. scans, and at most {MOST_SCANS}"):
        decode(data[:-2] + last * MOST_SCANS + data[-2:], "many")


def test_scans_of_a_grey_image_and_of_single_components_are_counted() -> None:
    grey = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, image=FLAT[..., 0])
    assert "scans" in (too_large(grey[:-2] + grey[grey.rfind(b"\xff\xda") : -2] * MOST_SCANS + grey[-2:]) or "")
    apart = encoded(".jpg")
    at = apart.index(b"\xff\xda")
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    assert "scans" in (too_large(apart[:at] + scan * (MOST_SCANS + 1) + apart[-2:]) or "")


def test_an_end_mark_inside_a_segment_hides_no_scan() -> None:
    data = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    hidden = b"\xff\xfe\x00\x04\xff\xd9" + data[data.rfind(b"\xff\xda") : -2]
    assert "scans" in (too_large(data[:-2] + hidden * MOST_SCANS + data[-2:]) or "")


def test_compressed_texts_that_cost_time_are_counted() -> None:
    """Each is unpacked: 400 of 7 MB lie in 3 MB and take 10 s."""
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(7_000_000), 9))
    assert too_large(png(64, 64, *[text] * MOST_TEXTS)) is None
    assert "texts" in (too_large(png(64, 64, *[text] * (MOST_TEXTS + 1))) or "")


def test_an_animation_takes_more_than_a_still_image() -> None:
    """What its frames are drawn on counts, too: 48 megapixels took 522 MB."""
    still, animated = (bytes([flags, 0, 0, 0]) + word24(6999) + word24(6899) for flags in (0, 2))
    assert too_large(webp(b"VP8X", still)) is None
    assert "pixels" in (too_large(webp(b"VP8X", animated)) or "")


def test_the_bytes_of_the_file_count_with_its_pixels() -> None:
    assert "at most" in (too_large(bytes(LARGEST_FILE + 1)) or "")
    pixels = (MOST_MEMORY - 1000) // 6 // 8000
    assert too_large(bmp(8000, pixels)) is None
    assert "pixels" in (too_large(bmp(8000, pixels) + bytes(60_000)) or "")


@pytest.mark.parametrize(
    "start", [b"\xff\xd8\xff\xc0\0", b"\x89PNG\r\n\x1a\n\0\0\0\0IHDR", b"RIFF\0\0\0\0WEBPVP8 \0", b"BM"]
)
def test_a_header_that_is_cut_short_has_no_size(start: bytes) -> None:
    assert too_large(start) is None
    with pytest.raises(BadImage, match="Corrupt"):
        decode(start, "cut")


def test_a_compressed_profile_is_not_unpacked() -> None:
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100_000_000), 9))
    plain = encoded(".png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(plain[:33] + bomb + plain[33:], "bomb").shape == FLAT.shape
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
