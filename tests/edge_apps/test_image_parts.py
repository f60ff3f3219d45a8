"""Parts of image files are found as decoders find them, and there is a limit on their number."""

from __future__ import annotations

import pytest

from edge_apps import image_parts
from edge_apps.image_parts import SOS, TooManyParts, jpeg_segments, png_chunks, riff_chunks

APP0 = b"\xff\xe0\x00\x04ab"
SCAN = b"\xff\xda\x00\x03c"


def markers(data: bytes) -> list[int]:
    return [segment.marker for segment in jpeg_segments(data)]


def test_segments_have_a_body_without_their_length() -> None:
    data = b"\xff\xd8" + APP0 + SCAN + b"\xff\xd9"
    assert [data[start:end] for _, start, end in jpeg_segments(data)] == [b"ab", b"c"]


@pytest.mark.parametrize("between", [b"\xff\xff", b"stray", b"\xff\x01", b"\xff\xd3", b"\xff\xd8", b"\xff\x00\x40\x00"])
def test_what_decoders_pass_over_hides_no_segment(between: bytes) -> None:
    assert markers(b"\xff\xd8" + APP0 + between + SCAN + b"\xff\xd9") == [0xE0, SOS]


def test_further_scans_are_found_behind_compressed_data() -> None:
    compressed = b"12\xff\x0034\xff\xd056"
    assert markers(b"\xff\xd8" + (SCAN + compressed) * 3 + b"\xff\xd9" + SCAN) == [SOS] * 3


def test_a_length_of_zero_does_not_stop_the_walk() -> None:
    assert markers(b"\xff\xd8\xff\xe0\x00\x00" + SCAN) == [0xE0, SOS]


def test_chunks_lie_where_their_lengths_say() -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x02IHDRabcrc!" + b"\0\0\0\0IENDcrc!"
    assert [(name, png[start:end]) for name, start, end in png_chunks(png)] == [(b"IHDR", b"ab"), (b"IEND", b"")]
    riff = b"RIFF\0\0\0\0WEBP" + b"VP8 \x03\0\0\0abc\0" + b"EXIF\x01\0\0\0d\0"
    assert [(name, riff[start:end]) for name, start, end in riff_chunks(riff)] == [(b"VP8 ", b"abc"), (b"EXIF", b"d")]


@pytest.mark.parametrize(
    ("walk", "part"),
    [(jpeg_segments, b"\xff\xe0\x00\x02"), (png_chunks, b"\0\0\0\0tEXtcrc!"), (riff_chunks, b"JUNK\0\0\0\0")],
)
def test_more_parts_than_any_honest_file_has_end_the_walk(walk, part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_parts, "MOST_PARTS", 50)
    with pytest.raises(TooManyParts, match="50"):
        list(walk(bytes(12 if walk is riff_chunks else 8 if walk is png_chunks else 2) + part * 51))
