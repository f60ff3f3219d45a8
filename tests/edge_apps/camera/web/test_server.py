"""Under load, against bad manners, and at the end."""

import contextlib
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge_apps.camera.live.state import LiveState
from edge_apps.camera.sources.parse import Event
from edge_apps.camera.web import access, routes, server
from edge_apps.camera.web import connection as bounds
from edge_apps.camera.web.address import Address
from edge_apps.camera.web.server import FAULT, WebServer
from edge_apps.errors import EdgeError


def knock(camera, text: str | bytes, host: str = "127.0.0.1") -> socket.socket:
    """A connection from there on which this was sent."""
    talk = socket.create_connection(("127.0.0.1", camera.port), timeout=30, source_address=(host, 0))
    talk.sendall(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())
    return talk


def ask(path: str) -> str:
    return f"GET {path} HTTP/1.1\nHost: localhost\n\n"


def everything(talk: socket.socket) -> bytes:
    """What comes until the other side ends it."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := talk.recv(65536):
            parts.append(part)
    return b"".join(parts)


def drip(talk: socket.socket, data: bytes, pause: float) -> None:
    """Send it again and again, as long as the other side lets us, but not for ever."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        talk.sendall(data)
        time.sleep(pause)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def slow_viewers(camera, count: int) -> Iterator[list[socket.socket]]:
    """They ask for the video and never read it."""
    talks = []
    for _ in range(count):
        talk = socket.socket()
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        talk.connect(("127.0.0.1", camera.port))
        talk.sendall(ask("/stream").replace("\n", "\r\n").encode())
        talks.append(talk)
    try:
        until(lambda: camera.live.preview.viewers == count)
        yield talks
    finally:
        for talk in talks:
            talk.close()


def megabytes() -> float:
    with open("/proc/self/statm") as told:  # noqa: PTH123
        return int(told.read().split()[1]) * resource.getpagesize() / 1e6


def test_twenty_viewers_who_never_read_slow_nothing(serve: Callable, live_camera) -> None:
    """The frame loop goes on, a good viewer gets every picture, and memory stays where it is."""
    camera = serve(frames=False)
    image = np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)  # large as a JPEG
    with slow_viewers(camera, 20):
        good = knock(camera, ask("/stream"))
        until(lambda: camera.live.preview.viewers == 21)
        reading = threading.Thread(target=lambda: pictures.append(everything(good).count(b"image/jpeg")), daemon=True)
        pictures: list[int] = []
        reading.start()
        for sequence in range(10):
            camera.live.publish(live_camera.some_result(sequence, image))
            time.sleep(0.1)
        before, encoded = megabytes(), camera.live.preview.jpeg[0]
        took = []
        for sequence in range(10, 35):
            start = time.thread_time()
            camera.live.publish(live_camera.some_result(sequence, image))
            took.append(time.thread_time() - start)
            time.sleep(0.1)
        assert megabytes() - before < 10
        assert camera.live.preview.jpeg[0] > encoded
        assert camera.live.state().frames == 35
        assert np.median(took) < 0.001  # processor time of this thread: no encoding, no sending
        assert camera.get("/healthz").status == 200
        camera.server.stop()
    reading.join(30)
    assert pictures[0] >= 10


def test_a_viewer_who_never_reads_is_let_go(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "WRITE_WITHIN", 0.3)
    camera = serve()
    with slow_viewers(camera, 3):
        until(lambda: camera.live.preview.viewers == 0)
    assert camera.live.state().events == ()


def test_it_stops_within_a_second_with_viewers_and_idlers(serve: Callable) -> None:
    camera = serve()
    with slow_viewers(camera, 20), contextlib.ExitStack() as stack:
        for text in (ask("/events"), ask("/stream"), "GET / HTTP/1.1\n", "", ask("/healthz")):
            stack.enter_context(knock(camera, text))
        time.sleep(0.3)
        start = time.monotonic()
        camera.server.stop()
        took = time.monotonic() - start
    assert took < 5  # a busy machine; 0.3 s on a quiet one
    assert not [thread for thread in threading.enumerate() if thread.name == "live page"]
    with pytest.raises(ConnectionRefusedError):
        knock(camera, "")
    until(lambda: camera.live.preview.viewers == 0)
    camera.server.stop()  # twice is once


def test_the_port_can_be_taken_again_at_once(serve: Callable) -> None:
    camera = serve(frames=False)
    port = camera.port
    held = knock(camera, ask("/healthz"))
    camera.server.stop()
    assert serve(frames=False, port=port).get("/").status == 200
    held.close()


def test_a_port_that_is_taken_is_one_clear_error(serve: Callable) -> None:
    camera = serve(frames=False)
    with pytest.raises(EdgeError, match="another program has this port. Stop it, or choose another port with `web`"):
        serve(frames=False, port=camera.port)
    assert camera.get("/").status == 200


def test_signals_stay_whose_they_are(serve: Callable) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    camera = serve(frames=False)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    camera.server.stop()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_beyond_so_many_viewers_of_the_video(serve: Callable) -> None:
    camera = serve()
    until(lambda: camera.live.state().frames)
    with slow_viewers(camera, 24):
        answer = camera.get("/stream")
        assert (answer.status, answer.text) == (503, "Too many viewers. Try again later.\n")
        assert camera.get("/snapshot.jpg").status == 200
        assert camera.get("/stream", "HEAD").status == 503
    until(lambda: camera.live.preview.viewers == 0)
    assert camera.get("/stream", "HEAD").status == 200


def test_beyond_so_many_connections(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond are told so, and of them too there are only so many."""
    monkeypatch.setattr(bounds, "CONNECTIONS", 5)
    monkeypatch.setattr(bounds, "REFUSED", 3)
    camera = serve(frames=False)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            stack.enter_context(knock(camera, "", f"127.0.0.{number + 1}"))
        time.sleep(0.2)
        answer = camera.get("/")
        assert (answer.status, answer.headers["Connection"]) == (503, "close")
        for number in range(3):
            stack.enter_context(knock(camera, "", f"127.0.0.{number + 1}"))
        time.sleep(0.2)
        assert everything(stack.enter_context(knock(camera, ""))) == b""
    until(lambda: camera.get("/").status == 200)


@pytest.mark.parametrize("taken", [60, 100, 140])
def test_one_host_does_not_lock_out_the_others(serve: Callable, taken: int) -> None:
    """However many it opens: those that are refused take no place from anybody."""
    camera = serve(frames=False)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(knock(camera, "", "127.0.0.9")) for _ in range(taken)]
        others = [stack.enter_context(knock(camera, ask("/"), "127.0.0.77")) for _ in range(16)]
        assert {talk.recv(12) for talk in others} == {b"HTTP/1.1 200"}
        for talk in idle[50:]:
            talk.close()
        until(lambda: len(camera.server._server.server_state.connections) == 50 + 16)
        assert everything(stack.enter_context(knock(camera, ask("/"), "127.0.0.9"))).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize("beginning", ["", "GET / HT", "GET / HTTP/1.1\nHost: localhost\n", ask("/page.css")])
def test_who_sends_byte_after_byte_is_cut_off(serve: Callable, monkeypatch: pytest.MonkeyPatch, beginning: str) -> None:
    """Also behind a whole request, on the connection that was kept."""
    monkeypatch.setattr(bounds, "REQUEST_WITHIN", 0.5)
    camera = serve(frames=False)
    talk = knock(camera, beginning)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(talk, b"X", 0.05)
    talk.close()


def test_a_body_that_never_ends_is_not_waited_for(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REQUEST_WITHIN", 0.5)
    camera = serve(frames=False)
    talk = knock(camera, "GET /page.css HTTP/1.1\nHost: localhost\nContent-Length: 1000000000\n\n")
    before = megabytes()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(talk, bytes(65536), 0)
    assert megabytes() - before < 20
    talk.close()


def test_a_video_goes_on_longer_than_a_request_may_take(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "REQUEST_WITHIN", 0.3)
    camera = serve()
    talk = knock(camera, ask("/stream"))
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        assert talk.recv(65536)
    talk.close()


CROOKED = {
    "zeros": b"\x00" * 100,
    "version": b"GET / HTTP/9.9\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00",
    "http-0.9": b"GET /\r\n\r\n",
    "no-line": b"A" * 70_000,
    "long-path": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "long-field": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    "many-fields": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 8000 + b"\r\n",
    "negative": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
}


@pytest.mark.parametrize("crooked", CROOKED.values(), ids=CROOKED)
def test_crooked_requests_are_refused_silently(
    serve: Callable, crooked: bytes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEPT_FOR", 1)
    camera = serve(frames=False)
    talk = knock(camera, b"")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        talk.sendall(crooked)
    assert re.match(rb"(HTTP/1.1 4\d\d |$)", everything(talk))
    talk.close()
    assert camera.get("/").status == 200
    assert capfd.readouterr() == ("", "")


def test_two_requests_at_once_and_one_after_the_other(serve: Callable) -> None:
    camera = serve(frames=False)
    talk = knock(camera, ask("/icon.svg") + ask("/nowhere"))
    seen = b""
    while seen.count(b"HTTP/1.1") < 2 or b"Not found." not in seen:
        seen += talk.recv(65536)
    talk.sendall(ask("/icon.svg").replace("\n", "\r\n").encode())
    assert talk.recv(65536).startswith(b"HTTP/1.1 200")
    talk.close()


def test_a_fault_of_ours_is_told_on_the_page_and_not_to_the_viewer(
    serve: Callable, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(routes, "picture", breaks)
    camera = serve(frames=False)
    answer = camera.get("/snapshot.jpg")
    assert (answer.status, answer.text) == (500, "Internal error.\n")
    assert answer.headers["X-Frame-Options"] == "DENY"
    event = camera.live.state().events[-1]
    assert event.kind == FAULT
    assert "RuntimeError: secret detail" in event.reason
    assert capfd.readouterr() == ("", "")


def test_a_page_that_dies_is_told_to_the_program(live_camera, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at the page does not see it any more."""
    told: list[Event] = []
    heard = threading.Event()

    def tell(event: Event) -> None:
        told.append(event)
        heard.set()

    async def dies(*_: object) -> None:
        raise OSError("the machine is out of sockets")

    monkeypatch.setattr(server.ThreadServer, "main_loop", dies)
    with LiveState(live_camera.some_facts()) as live, WebServer(live, Address("127.0.0.1", 0), None, tell):
        assert heard.wait(10)
    (event,) = told
    assert (event.kind, event.reason) == (
        FAULT,
        "The page is no longer served: OSError: the machine is out of sockets.",
    )
