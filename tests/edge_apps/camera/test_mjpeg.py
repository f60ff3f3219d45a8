"""MJPEG as cameras send it, and as they should not: what comes out is whole pictures, and a word for the rest."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from edge_apps.camera import mjpeg
from edge_apps.camera.mjpeg import Bytes, NoPicture, StreamEnded, parts, pictures, whole


def jpeg(grey: int, size: int = 32) -> bytes:
    noise = np.random.default_rng(grey).integers(0, 40, (size, size, 3))
    return bytes(cv2.imencode(".jpg", (noise + grey).astype(np.uint8))[1])


def stream(data: bytes, step: int = 65536) -> Bytes:
    """``data``, ``step`` bytes at a time: what a picture is must not depend on how it arrives."""
    chunks = iter([data[at : at + step] for at in range(0, len(data), step)])
    return Bytes(lambda count: next(chunks, b"")[:count])


def everything(found: Iterator[bytes | NoPicture]) -> list[bytes | NoPicture]:
    items = []
    try:
        for item in found:
            items.append(item)
    except StreamEnded:
        return items
    raise AssertionError("the end was not told")


A, B = jpeg(10), jpeg(200)


@pytest.mark.parametrize("step", [1, 7, 100, 65536])
def test_pictures_behind_each_other(step: int) -> None:
    assert everything(pictures(stream(A + B + A, step))) == [A, B, A]


@pytest.mark.parametrize("step", [1, 65536])
def test_a_thumbnail_does_not_end_a_picture(step: int) -> None:
    thumbnail = jpeg(50, 8)
    with_thumbnail = A[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + A[2:]
    assert everything(pictures(stream(with_thumbnail + B, step))) == [with_thumbnail, B]


def test_padding_between_pictures_is_nothing_to_speak_of() -> None:
    assert everything(pictures(stream(A + b"\0" * 100 + b"\xff\xff" + B))) == [A, B]


def test_words_between_pictures_are_told() -> None:
    found = everything(pictures(stream(A + b"error: no buffers" + B)))
    assert found == [A, NoPicture("17 bytes that belong to no JPEG picture"), B]


def test_a_picture_that_is_cut_short_does_not_take_all_others_with_it() -> None:
    found = everything(pictures(stream(A[:-100] + B + A + B)))
    assert found == [NoPicture("a JPEG picture that is cut short"), A, B]


def test_a_broken_head_is_told_and_the_next_picture_found() -> None:
    broken = A[:20] + b"\x00\x01\x02\x03" + A[24:]
    found = everything(pictures(stream(broken + B)))
    assert found[-1] == B
    assert all(isinstance(item, NoPicture) for item in found[:-1])
    assert found[:-1]


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "LARGEST", 5000)
    endless = A[: A.index(b"\xff\xda") + 20] + b"\x55" * 20000
    found = everything(pictures(stream(endless + B)))
    assert found[-1] == B
    assert "more than" in found[0].reason
    no_mark = everything(pictures(stream(b"\x55" * 20000 + B)))
    assert no_mark[-1] == B
    assert [type(item) for item in no_mark] == [NoPicture] * 5 + [bytes], "5,000 bytes at a time"


def part(body: bytes, *, length: object = None, end: bytes = b"\r\n") -> bytes:
    head = b"" if length is None else b"Content-Length: %s" % str(length).encode() + end
    return b"--edge" + end + b"Content-Type: image/jpeg" + end + head + end + body + end


@pytest.mark.parametrize("step", [1, 13, 65536])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("with_length", [True, False])
def test_parts_of_a_multipart_stream(step: int, end: bytes, with_length: bool) -> None:
    data = b"".join(part(p, length=len(p) if with_length else None, end=end) for p in (A, B, A))
    assert everything(parts(stream(b"preamble" + end + data + b"--edge--" + end, step), b"edge")) == [A, B, A]


@pytest.mark.parametrize("boundary", [b"edge", b"--edge", b'"edge"'])
def test_a_boundary_as_cameras_write_it(boundary: bytes) -> None:
    assert everything(parts(stream(part(A) + part(B) + b"--edge"), boundary)) == [A, B]


@pytest.mark.parametrize("length", ["-5", "0", "many", "99999999999999999999", len(B) - 50])
def test_a_length_that_is_wrong_costs_no_other_part(length: object) -> None:
    found = everything(parts(stream(part(A) + part(B, length=length) + part(A) + b"--edge--"), b"edge"))
    assert found[0] == A
    assert found[-1] == A
    assert len(found) == 3


def test_parts_that_are_no_pictures_are_told_apart() -> None:
    bodies = [b"", b"not a picture", A[:-200], A]
    found = everything(parts(stream(b"".join(part(b, length=len(b)) for b in bodies) + b"--edge--"), b"edge"))
    assert [item.reason if isinstance(item, NoPicture) else item for item in found] == [
        "an empty part",
        "13 bytes that are no JPEG",
        "a JPEG picture that is cut short",
        A,
    ]


def test_what_a_camera_puts_around_its_picture_is_taken_off() -> None:
    assert whole(b"\r\n\0" + A + b"\0\0\0") == A


def test_random_bytes_never_raise_anything_but_the_end() -> None:
    rng = np.random.default_rng(0)
    for number in range(200):
        noise = rng.integers(0, 256, int(rng.integers(0, 4000)), np.uint8).tobytes()
        at = int(rng.integers(0, len(noise) + 1))
        data = noise[:at] + (A, b"--edge\r\n\r\n", b"\xff\xd8\xff\xff")[number % 3] + noise[at:]
        assert all(isinstance(item, (bytes, NoPicture)) for item in everything(pictures(stream(data))))
        assert all(isinstance(item, (bytes, NoPicture)) for item in everything(parts(stream(data), b"edge")))
        assert isinstance(whole(data), (bytes, NoPicture))
