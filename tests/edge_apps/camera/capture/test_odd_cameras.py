"""Network cameras whose headers are wrong: every one of them is shown. In this process, but for the last test."""

import contextlib
import gzip
import importlib.util
import itertools
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_apps.camera.capture import grabbers
from edge_apps.camera.capture.grabbers import Corrupt, Hung, Lost, Shot, shots
from edge_apps.camera.capture.messages import Network, Request
from edge_apps.camera.sources.parse import Frame, parse_source


def load(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


http = load("odd_cameras", Path(__file__).parents[1] / "mjpeg_server.py")

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def camera() -> Iterator[Callable]:
    servers = []

    def start(*behaviours):
        servers.append(http.Server(*behaviours))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def received(server, count: int = 3, patience: float = 5.0) -> Iterator[Shot]:
    return itertools.islice(shots(Request(camera=Network(server.source), patience=patience)), count)


def greys(server, count: int = 3, patience: float = 5.0) -> list[int]:
    """The grey of each frame; the first are dark, and each is lighter."""
    found = [round(float(shot.decode().mean())) for shot in received(server, count, patience)]
    assert found == sorted(found)
    return found


def endless(head: bytes, part: Callable[[bytes], bytes] = http.part) -> Callable:
    """An answer that goes on until the client leaves."""

    def behave(connection) -> None:
        connection.send(head)
        for number in range(1000):
            connection.send(part(http.picture(number % 250)))
            time.sleep(0.01)

    return behave


def chunked(data: bytes) -> bytes:
    return b"".join(b"%x\r\n" % len(half) + half + b"\r\n" for half in (data[:100], data[100:]))


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: multipart/x-mixed-replace; boundary=edge\r\n",
        b'Content-Type: multipart/x-mixed-replace;boundary="--edge"\r\n',
        b"content-type: Multipart/X-Mixed-Replace; Boundary=edge\r\n",
        b"Content-Type: multipart/x-mixed-replace; boundary=something-else\r\n",
        b"Content-Type: multipart/x-mixed-replace\r\n",
        b"Content-Type: multipart/mixed; boundary=edge\r\n",
        b"Content-Type: image/jpeg\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Type: \r\n",
        b"",
        b"Content-Length: 0\r\n",
        b"Content-Length: 1000\r\n",
        b"Content-Length: 999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: many\r\n",
        b"this is no header\r\n",
    ],
)
def test_whatever_the_answer_says_of_itself(camera, head: bytes) -> None:
    assert len(greys(camera(endless(OK + head + b"\r\n")))) == 3
    assert len(greys(camera(endless(b"HTTP/1.0 200 OK\r\n" + head + b"\r\n", lambda data: data)))) == 3


@pytest.mark.parametrize(
    "part",
    [
        lambda data: b"--edge\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data) - 2, data),
        lambda data: b"--edge\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(data) + 50, data),
        lambda data: b"--edge\nContent-Type: image/jpg\nContent-Length: -3\n\n%s\n" % data,
        lambda data: b"--edge\r\n\r\n%s" % data[:-2] + b"\r\n",
        lambda data: data + b"\r\n--edge\r\nContent-Type: image/jpeg\r\n\r\n",
    ],
    ids=["length too short", "length too long", "length negative", "no end mark", "delimiter behind"],
)
def test_whatever_a_part_says_of_itself(camera, part: Callable[[bytes], bytes]) -> None:
    assert len(greys(camera(endless(http.HEAD, part)))) == 3
    assert len(greys(camera(endless(OK + b"\r\n", part)))) == 3


def test_a_stream_in_chunks(camera) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    assert len(greys(camera(endless(head, lambda data: chunked(http.part(data)))))) == 3
    assert len(greys(camera(endless(head, chunked)))) == 3


def test_chunks_that_are_none_and_chunks_that_nobody_announced(camera) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    for part in (http.part, lambda data: data):
        assert len(greys(camera(endless(head, part)))) == 3
        assert len(greys(camera(endless(OK + b"\r\n", lambda data, part=part: chunked(part(data)))))) == 3


@pytest.mark.parametrize("says_so", [True, False])
def test_a_stream_in_gzip(camera, says_so: bool) -> None:
    head = OK + b"Content-Encoding: gzip\r\n" * says_so + b"\r\n"
    assert len(greys(camera(endless(head, lambda data: gzip.compress(http.part(data)))))) == 3, "each part alone"

    def as_one(connection) -> None:
        pack = zlib.compressobj(wbits=31)
        connection.send(head)
        for number in range(1000):
            connection.send(pack.compress(http.part(http.picture(number % 250))) + pack.flush(zlib.Z_SYNC_FLUSH))
            time.sleep(0.01)

    assert len(greys(camera(as_one))) == 3


def test_damaged_gzip_is_told(camera) -> None:
    server = camera(lambda c: c.send(OK + b"\r\n" + gzip.compress(b"")[:10] + b"\xff" * 500))
    with pytest.raises(Lost, match="damaged gzip data"):
        list(received(server))


def still(number: Iterator[int], head: bytes = b"Content-Type: image/jpeg\r\n", extra: int = 0) -> Callable:
    def behave(connection) -> None:
        data = http.picture(next(number))
        connection.send(OK + head + b"Content-Length: %d\r\n\r\n" % (len(data) + extra) + data)

    return behave


@pytest.mark.parametrize("head", [b"Content-Type: image/jpeg\r\n", b"Content-Type: text/html\r\n", b""])
def test_a_camera_that_gives_one_image_is_asked_again(camera, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grabbers, "STILL_EVERY", 0.05)
    server = camera(still(itertools.count(10), head))
    began = time.monotonic()
    assert greys(server, 4) == [10, 11, 12, 13]
    assert time.monotonic() - began >= 3 * 0.05, "not as fast as it can"
    assert server.connections == 4


def test_a_still_whose_connection_stays_open_is_one(camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its length is believed where the image ends with it."""
    monkeypatch.setattr(grabbers, "STILL_EVERY", 0.05)
    number = itertools.count(10)

    def behave(connection) -> None:
        still(number)(connection)
        connection.hang()

    assert greys(camera(behave), 3) == [10, 11, 12]


def test_a_still_that_goes_away_is_lost(camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grabbers, "STILL_EVERY", 0.05)
    gone = OK.replace(b"200 OK", b"503 Busy") + b"\r\n"
    server = camera(still(itertools.count(10)), still(itertools.count(20)), lambda c: c.send(gone))
    with pytest.raises(Lost, match="the server answered 503 Busy"):
        list(received(server, 9))


def test_a_still_lies_as_it_was_taken(camera) -> None:
    data = http.picture(10, width=64, height=48)
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\0\0\x06\0\0\0\0"  # turn it clockwise, as a LONG
    turned = data[:2] + b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff + data[2:]
    (shot,) = received(camera(lambda c: c.send(OK + b"\r\n" + turned)), 1)
    assert shot.decode().shape == (64, 48, 3)


def test_garbage_between_images_costs_no_image(camera) -> None:
    server = camera(endless(OK + b"\r\n", lambda data: b"no buffers left" + data))
    found = list(received(server, 12))
    with pytest.raises(Corrupt, match="15 bytes that belong to no JPEG image"):
        found[0].decode()
    good = 0
    for shot in found:
        with contextlib.suppress(Corrupt):
            good += shot.decode().shape == (48, 64, 3)
    assert good


def test_a_page_that_does_not_end_counts_as_hung(camera) -> None:
    def behave(connection) -> None:
        connection.send(OK + b"Content-Type: text/html\r\n\r\n<html>")
        connection.hang()

    with pytest.raises(Hung):
        list(received(camera(behave), patience=0.5))


CASES = ("/mixed", "/nobound", "/noct", "/wrongb", "/raw", "/shortlen")


@pytest.mark.parametrize("path", CASES)
def test_cameras_that_users_brought(shared_cases: Path, path: str) -> None:
    """As a user runs them: by the process that captures."""
    cases = load("cases", shared_cases / "mjpeg_server.py")
    with cases.Server(("127.0.0.1", 0), cases.Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = parse_source(f"http://127.0.0.1:{server.server_port}{path}")
        with contextlib.closing(iter(source)) as found:
            items = list(itertools.islice(found, 4))
        server.shutdown()
    assert all(isinstance(item, Frame) for item in items), items
    assert {item.image.shape for item in items} == {(120, 160, 3)}
    assert np.diff([item.born_ns for item in items]).min() > 0
