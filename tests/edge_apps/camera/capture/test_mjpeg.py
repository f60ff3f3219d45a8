"""MJPEG as cameras send it, and as they should not: what comes out is whole images, and a word for the rest."""

import cv2
import numpy as np
import pytest

from edge_apps.camera.capture import mjpeg
from edge_apps.camera.capture.mjpeg import EOI, Bytes, JpegStream, NoPicture, Part, StreamEnded, Unended


def jpeg(grey: int, size: int = 32) -> bytes:
    noise = np.random.default_rng(grey).integers(0, 40, (size, size, 3))
    return bytes(cv2.imencode(".jpg", (noise + grey).astype(np.uint8))[1])


def stream(data: bytes, step: int = 65536) -> Bytes:
    """``data``, ``step`` bytes at a time: what a picture is must not depend on how it arrives."""
    chunks = iter([data[at : at + step] for at in range(0, len(data), step)])
    return Bytes(lambda count: next(chunks, b"")[:count])


def everything(data: bytes, step: int = 65536, boundary: bytes = b"") -> list[Part]:
    """All that a stream of ``data`` gives."""
    items = []
    try:
        for item in JpegStream(stream(data, step), boundary):
            items.append(item)
    except StreamEnded:
        return items
    raise AssertionError("the end was not told")


def reasons(found: list[Part]) -> list[Part | str]:
    return [item.reason if isinstance(item, NoPicture) else item for item in found]


A, B, C = jpeg(10), jpeg(200), jpeg(100)

STEPS = pytest.mark.parametrize("step", [1, 7, 100, 65536])


# Image after image


@STEPS
def test_images_behind_each_other(step: int) -> None:
    assert everything(A + B + A, step) == [A, B, A]


def with_segment(image: bytes, marker: bytes, body: bytes) -> bytes:
    return image[:2] + marker + (len(body) + 2).to_bytes(2, "big") + body + image[2:]


@STEPS
def test_a_thumbnail_does_not_end_an_image(step: int) -> None:
    with_thumbnail = with_segment(A, b"\xff\xe1", b"Exif\0\0" + jpeg(50, 8))
    assert everything(with_thumbnail + B, step) == [with_thumbnail, B]
    assert everything(part(with_thumbnail) + part(B), step) == [with_thumbnail, B]


@STEPS
@pytest.mark.parametrize(
    "option",
    [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)],
    ids=["several scans", "restart markers", "own tables"],
)
def test_an_image_may_be_coded_in_any_way(option: tuple[int, int], step: int) -> None:
    image = bytes(cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (40, 40, 3), np.uint8), option)[1])
    comment = image.rindex(b"\xff\xda")
    with_end_mark = image[:comment] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + image[comment:]  # in front of a scan
    assert everything(image + with_end_mark + B, step) == [image, with_end_mark, B]


def test_padding_between_images_is_nothing_to_speak_of() -> None:
    assert everything(A + b"\0" * 100 + b"\xff\xff" + B) == [A, B]


@STEPS
def test_words_between_images_are_told(step: int) -> None:
    found = everything(A + b"error: no buffers!" + B, step)
    assert found == [A, B], "as the name of a header"
    found = everything(A + b"error, no buffers" + B, step)
    assert found == [A, NoPicture("17 bytes that belong to no JPEG image"), B]


@STEPS
def test_an_image_that_is_cut_short_costs_no_other(step: int) -> None:
    assert reasons(everything(A[:-100] + B + A + B, step)) == ["a JPEG image that is cut short", B, A, B]


def test_a_broken_head_is_told_and_the_next_image_found() -> None:
    broken = A[:20] + b"\x00\x01\x02\x03" + A[24:]
    found = everything(broken + B)
    assert found[-1] == B
    assert all(isinstance(item, NoPicture) for item in found[:-1])
    assert found[:-1]


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "LARGEST", 5000)
    endless = A[: A.index(b"\xff\xda") + 20] + b"\x55" * 20000
    found = everything(endless + B)
    assert found[-1] == B
    assert "more than" in found[0].reason
    no_mark = everything(b"\x55" * 20000 + B)
    assert no_mark[-1] == B
    assert [type(item) for item in no_mark] == [NoPicture] * 5 + [bytes], "5,000 bytes at a time"
    segments = A[:2] + b"\xff\xe1\x00\x06abcd" * 1000
    assert "more than" in everything(segments + B)[0].reason


def test_memory_stays_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "LARGEST", 2**20)
    longest = 0

    def read(_: int) -> bytes:
        nonlocal longest
        longest = max(longest, len(source._held))
        return next(chunks, b"")

    for kind in (A[: A.index(b"\xff\xda") + 20], b"", b"--edge\r\n\r\n", A[:2] + b"\xff"):
        chunks = iter([kind, *[b"\x55" * 65536] * 100])
        source = Bytes(read)
        with pytest.raises(StreamEnded):
            for _ in JpegStream(source):
                pass
    assert longest < 2 * 2**20


# Parts with heads


def part(
    body: bytes, *, length: object = None, end: bytes = b"\r\n", line: bytes = b"--edge", kind: bytes = b"image/jpeg"
) -> bytes:
    head = b"" if length is None else b"Content-Length: %s" % str(length).encode() + end
    return line + end + b"Content-Type: " + kind + end + head + end + body + end


@pytest.mark.parametrize("boundary", [b"edge", b"--edge", b'"edge"', b"", b"other", b"--", b"e"])
@pytest.mark.parametrize("step", [1, 13, 65536])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("with_length", [True, False])
def test_parts_of_a_multipart_stream(step: int, end: bytes, with_length: bool, boundary: bytes) -> None:
    """The boundary is the one in the stream, whatever the camera states."""
    data = b"".join(part(p, length=len(p) if with_length else None, end=end) for p in (A, B, A))
    for preamble in (b"", b"preamble" + end, b"-- Welcome --" + end + end):
        assert everything(preamble + data + b"--edge--" + end, step, boundary) == [A, B, A]


@pytest.mark.parametrize("step", [1, 65536])
@pytest.mark.parametrize("boundary", [b"", b"frame"])
@pytest.mark.parametrize(
    "head",
    [
        b"--frame\r\n\r\n",
        b"--frame\r\nContent-type:image/jpg\r\n\r\n",
        b"--frame\r\nCONTENT-TYPE: IMAGE/JPEG\r\nCONTENT-LENGTH: 7\r\n\r\n",
        b"\r\n--frame\r\nX-Timestamp: 1.5\r\n\r\n",
        b"--frame\r\nDate: now --frame? no\r\n\r\n",
        b"--frame\r\nContent-Type: image/jpeg\r\n",
        b"--frame\r\n",
        b"----frame\n\n",
        b"frame\r\nContent-Type: image/jpeg\r\n\r\n",
        b"Content-Type: image/jpeg\r\nContent-Length: 12\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_heads_as_cameras_write_them(head: bytes, boundary: bytes, step: int) -> None:
    for between in (b"", b"\r\n", b"\n", b"\0\0\0"):
        data = b"".join(head + image + between for image in (A, B, C, A))
        assert everything(data, step, boundary) == [A, B, C, A]


def test_a_closing_delimiter_ends_nothing() -> None:
    """The end of the stream does; some cameras close each part."""
    for boundary in (b"", b"edge"):
        assert everything((part(A) + b"--edge--\r\n") * 5 + b"epilogue", boundary=boundary) == [A] * 5


def test_a_boundary_may_change() -> None:
    lines = [b"--edge"] * 3 + [b"--other"] * 12
    found = everything(b"".join(part(jpeg(n), line=line) for n, line in enumerate(lines)))
    assert found[:3] == [jpeg(0), jpeg(1), jpeg(2)]
    assert found[-8:] == [jpeg(n) for n in range(7, 15)]
    each_its_own = b"".join(part(jpeg(n), line=b"--edge%d." % (n * 7919)) for n in range(30))
    assert everything(each_its_own)[-15:] == [jpeg(n) for n in range(15, 30)], "nor is it waited for again and again"


@pytest.mark.parametrize("length", ["-5", "0", "many", "99999999999999999999", "", len(B) - 50, len(B) - 2, 100_000])
def test_a_length_that_is_wrong_costs_nothing(length: object) -> None:
    data = part(A, length=length) + part(B, length=length) + part(A, length=length) + b"--edge--"
    for boundary in (b"", b"edge"):
        assert everything(data, boundary=boundary) == [A, B, A]


@pytest.mark.parametrize("boundary", [b"", b"edge"])
@pytest.mark.parametrize("step", [1, 65536])
def test_parts_without_an_image_are_told_apart(step: int, boundary: bytes) -> None:
    bodies = [b"", b"not a picture", A[:300], A, b"two\r\n\r\nlines", B]
    data = b"".join(part(b, length=len(b)) for b in bodies) + b"--edge--"
    assert reasons(everything(data, step, boundary)) == [
        "an empty part",
        "13 bytes that are not a JPEG image",
        "a JPEG image that is cut short",
        A,
        "12 bytes that are not a JPEG image",
        B,
    ]


@STEPS
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_an_image_without_its_end_mark_is_left_to_the_decoder(step: int, end: bytes) -> None:
    data = part(A[:-2], end=end) + part(B[:-90], end=end) + part(C, end=end)
    assert everything(data, step) == [Unended(A), Unended(B[:-90] + EOI), C]


def test_what_a_camera_puts_around_its_image_is_taken_off() -> None:
    assert everything(part(b"\r\n\0" + A + b"\0\0\0") + part(b"junk" + B + b"junk")) == [A, B]


def test_a_preview_behind_an_image_is_not_another_frame() -> None:
    """As in the multi-picture format of photographs."""
    assert everything((part(A + jpeg(20, 8)) + part(B + jpeg(30, 8))) * 3) == [A, B] * 3


def test_a_single_image_is_a_still() -> None:
    for data, is_still in ((A, True), (b"\r\n" + A + b"\r\n", True), (A + B, False), (part(A), False), (b"", False)):
        found = JpegStream(stream(data))
        with pytest.raises(StreamEnded):
            list(found)
        assert found.is_still == is_still


def test_random_bytes_never_raise_anything_but_the_end() -> None:
    rng = np.random.default_rng(0)
    for number in range(200):
        noise = rng.integers(0, 256, int(rng.integers(0, 4000)), np.uint8).tobytes()
        at = int(rng.integers(0, len(noise) + 1))
        data = noise[:at] + (A, b"--edge\r\n\r\n", b"\xff\xd8\xff\xff")[number % 3] + noise[at:]
        for boundary in (b"", b"edge"):
            found = everything(data, boundary=boundary)
            assert all(isinstance(item, (bytes, Unended, NoPicture)) for item in found)
            assert A in found or number % 3


def test_endless_padding_and_empty_segments_are_no_image() -> None:
    for data in (b"\xff" * 10**6, b"\xff\xe0\x00\x02" * 10**6, b"\xff\xd0" * 10**6):
        images = JpegStream(stream(b"\xff\xd8\xff\xe0\x00\x02" + data + A))
        assert isinstance(next(iter(images)), NoPicture)
