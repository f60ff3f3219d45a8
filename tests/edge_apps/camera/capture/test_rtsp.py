"""RTSP by OpenCV's FFmpeg, from a real server: frames, a stream that ends, passwords."""

import importlib.util
import itertools
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from edge_apps.camera.capture import grabbers
from edge_apps.camera.capture.messages import Network, Request
from edge_apps.camera.sources import live_source
from edge_apps.camera.sources.parse import Event, Frame, SourceOptions, parse_source

spec = importlib.util.spec_from_file_location("rtsp_server", Path(__file__).parents[1] / "rtsp_server.py")
assert spec is not None
assert spec.loader is not None
rtsp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rtsp)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_source, "SHORTEST", 0.02)
    monkeypatch.setattr(live_source, "LONGEST", 0.1)


def take(source, until) -> list:
    items: list = []
    end = time.monotonic() + 40
    source.stop = lambda: time.monotonic() > end
    for item in source:
        items.append(item)
        if until(items):
            return items
    raise AssertionError(items)


def test_frames_come_and_a_stream_that_ends_comes_back() -> None:
    server = rtsp.RtspServer(frames=60)
    source = parse_source(f"rtsp://127.0.0.1:{server.port}/1")

    def until(items: list) -> bool:
        return [i.kind for i in items if isinstance(i, Event)][-1:] == ["back"] and isinstance(items[-1], Frame)

    items = take(source, until)
    server.close()
    frames = [item for item in items if isinstance(item, Frame)]
    assert [item.kind for item in items if isinstance(item, Event)] == ["lost", "restarted", "back"]
    assert "was lost: the stream ended" in next(item.reason for item in items if isinstance(item, Event))
    assert frames[0].image.shape == (48, 64, 3)
    greys = [round(float(frame.image.mean())) for frame in frames[:-1]]
    assert len(greys) > 3
    assert all(b > a for a, b in itertools.pairwise(greys)), greys


def test_decoding_is_told_apart_from_waiting() -> None:
    """FFmpeg does both in one call."""
    before_waiting = 0

    class Capture:
        def grab(self) -> bool:
            nonlocal before_waiting
            time.sleep(0.05)
            before_waiting = time.perf_counter_ns()
            worked = time.thread_time_ns()
            while time.thread_time_ns() - worked < 20_000_000:
                pass
            return True

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, np.zeros((48, 64, 3), np.uint8)

    worked = time.thread_time_ns()
    shots = grabbers._from_opencv(Capture(), Request(camera=Network("rtsp://camera/1")))
    shot = next(shots)
    assert 20_000_000 <= shot.decoded_ns <= time.thread_time_ns() - worked
    there = time.perf_counter_ns()
    assert before_waiting <= shot.born_ns + shot.decoded_ns <= there
    assert shot.decode().shape == (48, 64, 3)


def test_user_and_password_are_given() -> None:
    server = rtsp.RtspServer(login="user:s3cret")
    source = parse_source(f"RTSP://user:s3cret@127.0.0.1:{server.port}/1")
    assert source.text == f"rtsp://***@127.0.0.1:{server.port}/1"
    assert isinstance(take(source, lambda items: items)[0], Frame)
    server.close()


def test_a_wrong_password_is_told_by_its_reason_without_itself() -> None:
    server = rtsp.RtspServer(login="user:s3cret")
    (lost,) = take(parse_source(f"rtsp://user:wr0ng@127.0.0.1:{server.port}/1"), lambda items: items)
    server.close()
    assert isinstance(lost, Event)
    assert lost.kind == "lost"
    assert "(rtsp: method DESCRIBE failed: 401" in lost.reason, "as FFmpeg says it"
    assert "wr0ng" not in lost.reason


def test_chatter_that_was_asked_for_comes_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGE_PIPELINE_CHATTER", "1")
    server = rtsp.RtspServer(login="user:s3cret")
    take(parse_source(f"rtsp://user:wr0ng@127.0.0.1:{server.port}/1?token=t0k3n"), lambda items: items)
    server.close()
    said = capfd.readouterr().err
    assert "401" in said
    assert "wr0ng" not in said
    assert "t0k3n" not in said


def test_nobody_there(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    (lost,) = take(parse_source(f"rtsp://user:s3cret@127.0.0.1:{port}/1"), lambda items: items)
    assert lost.kind == "lost"
    assert "Connection refused" in lost.reason
    assert "s3cret" not in lost.reason
    assert capfd.readouterr() == ("", ""), "FFmpeg's own lines, which hold the address, go nowhere"


def test_a_server_that_accepts_and_says_nothing_counts_as_hung() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = parse_source(f"rtsp://127.0.0.1:{port}/1", SourceOptions(hang_after=0.7))
        (hung,) = take(source, lambda items: items)
    assert hung.kind == "hung"
