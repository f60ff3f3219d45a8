"""Live sources and their faults: a real server, a real process that captures, real signals."""

import contextlib
import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edge_apps.camera.sources import live_source
from edge_apps.camera.sources.live_source import Backoff
from edge_apps.camera.sources.parse import Event, Frame, Item, Skipped, SourceOptions, parse_source

SERVER = Path(__file__).parents[1] / "mjpeg_server.py"


def load_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mjpeg_server", SERVER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mjpeg_server"] = module
    spec.loader.exec_module(module)
    return module


http = load_server()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other quickly here."""
    monkeypatch.setattr(live_source, "SHORTEST", 0.02)
    monkeypatch.setattr(live_source, "LONGEST", 0.1)


@pytest.fixture
def camera() -> Iterator[Callable]:
    """``camera(behaviour, …)`` starts a server."""
    servers = []

    def start(*behaviours, **options):
        servers.append(http.Server(*behaviours, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def grey(frame: Frame) -> int:
    return round(float(frame.image.mean()))


def take(source, until: Callable[[list[Item]], object], seconds: float = 30.0) -> list[Item]:
    """What a source gives until it is enough; its process is gone afterwards."""
    items: list[Item] = []
    end = time.monotonic() + seconds
    source.stop = lambda: time.monotonic() > end
    for item in source:
        items.append(item)
        if until(items):
            return items
    raise AssertionError(f"not within {seconds} s: {[described(item) for item in items]}")


def described(item: Item) -> str:
    return f"{item.kind}: {item.reason}" if isinstance(item, (Event, Skipped)) else f"frame {grey(item)}"


def frames(items: list[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def kinds(items: list[Item]) -> list[str]:
    """Events in order; frames between them as one word."""
    words = [item.kind if isinstance(item, (Event, Skipped)) else "frames" for item in items]
    return [word for word, _ in itertools.groupby(words)]


def enough(count: int) -> Callable[[list[Item]], bool]:
    return lambda items: len(frames(items)) >= count


def after(kind: str, count: int = 2) -> Callable[[list[Item]], bool]:
    """Some frames after an event of this kind."""

    def seen(items: list[Item]) -> bool:
        at = next((n for n, item in enumerate(items) if isinstance(item, Event) and item.kind == kind), None)
        return at is not None and enough(count)(items[at:])

    return seen


def children() -> set[int]:
    """Processes that this one started and that live."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            found |= set(map(int, (task / "children").read_text().split()))
    return found


def test_frames_are_fresh_in_order_and_each_once(camera) -> None:
    server = camera(http.streams(then=lambda c: c.forever(10)))
    source = parse_source(server.source)
    assert (source.length, source.has_names, source.text) == (None, False, server.source)
    items = take(source, enough(12))
    assert kinds(items) == ["frames"]
    assert [frame.sequence for frame in frames(items)] == list(range(12))
    greys = [grey(frame) for frame in frames(items)]
    assert all(b > a for a, b in itertools.pairwise(greys)), greys
    for earlier, later in itertools.pairwise(frames(items)):
        assert later.born_ns > earlier.born_ns
        assert later.captured_at == pytest.approx(later.born_ns / 1e9 + time.time() - time.perf_counter(), abs=0.5)
        assert later.decode_ns > 0
        assert later.image.shape == (48, 64, 3)


def test_who_is_slow_gets_the_latest_frame_not_the_next(camera) -> None:
    server = camera(http.streams(then=lambda c: c.forever(0, every=0.01)))
    source = parse_source(server.source)
    iterator = iter(source)
    first = next(iterator)
    time.sleep(0.8)  # dozens of frames
    asked = time.perf_counter_ns()
    second = next(iterator)
    iterator.close()
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert grey(second) - grey(first) > 5
    assert second.born_ns - first.born_ns > 0.3e9
    assert second.born_ns > asked - 0.5e9
    assert (first.sequence, second.sequence) == (0, 1)


def test_a_stream_that_ends_comes_back(camera) -> None:
    server = camera(http.streams(10, 20, 30), http.streams(then=lambda c: c.forever(100)))
    items = take(parse_source(server.source), after("back"))
    assert kinds(items) == ["frames", "lost", "restarted", "back", "frames"]
    lost, restarted, back = [item for item in items if isinstance(item, Event)]
    assert lost.reason.startswith(f"{server.source} was lost: the server ended the stream. Again in 0.")
    assert restarted.reason == f"{server.source}: attempt 1."
    assert "is back after" in back.reason
    assert [frame.sequence for frame in frames(items)] == list(range(len(frames(items)))), "through every restart"
    assert min(map(grey, frames(items[items.index(back) :]))) >= 98, "nothing of the first stream any more"


def test_a_stream_that_hangs_is_started_again(camera) -> None:
    server = camera(http.streams(10, 20, then=lambda c: c.hang()), http.streams(then=lambda c: c.forever(100)))
    items = take(parse_source(server.source, SourceOptions(hang_after=0.6)), after("back"))
    assert kinds(items) == ["frames", "hung", "restarted", "back", "frames"]
    hung = next(item for item in items if isinstance(item, Event))
    last = [item for item in items[: items.index(hung)] if isinstance(item, Frame)][-1]
    assert hung.at - last.captured_at >= 0.6
    assert "hung: " in hung.reason


def test_corrupt_frames_are_told_and_never_classified(camera) -> None:
    whole = http.picture(77, width=320, height=240)
    noise = random.Random(0).randbytes(400)
    bad = [
        b"no picture at all",
        whole[:-40],
        b"",
        whole[:2] + noise,
        whole[: len(whole) - 60] + whole[-2:],  # an end mark, but not all of its data: libjpeg fills the rest with grey
    ]

    def behave(connection) -> None:
        connection.frames(10)
        for data in bad:
            connection.send(http.part(data))
            time.sleep(0.7)  # not more than one word in half a second
        connection.forever(200)

    items = take(parse_source(camera(http.streams(then=behave)).source), lambda items: grey_above(items, 190))
    assert kinds(items) == ["frames", "corrupt", "frames"]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [item.reason for item in skipped] == [
        "Corrupt frame: 17 bytes that are not a JPEG image.",
        "Corrupt frame: a JPEG image that is cut short.",
        "Corrupt frame: an empty part.",
        "Corrupt frame: 402 bytes that are not a JPEG image.",
        "Corrupt frame: an image that is damaged inside.",
    ]
    assert [item.sequence for item in items if isinstance(item, (Frame, Skipped))] == list(range(len(items)))


def grey_above(items: list[Item], value: int) -> bool:
    return isinstance(items[-1], Frame) and grey(items[-1]) > value


def test_many_corrupt_frames_are_counted_not_listed(camera) -> None:
    def behave(connection) -> None:
        connection.frames(10)
        end = time.monotonic() + 1.6
        while time.monotonic() < end:
            connection.send(http.part(b"nonsense"))
            time.sleep(0.005)
        connection.forever(200)

    items = take(parse_source(camera(http.streams(then=behave)).source), lambda items: grey_above(items, 190))
    words = [item.reason for item in items if isinstance(item, Skipped)]
    assert 2 <= len(words) <= 6
    assert all("the last of " in word for word in words[1:])


def test_a_server_that_sends_nothing_but_noise_counts_as_hung(camera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_source, "START", 2.0)

    def noise(connection) -> None:
        connection.send(http.HEAD)
        while True:
            connection.send(os.urandom(5000).replace(b"--", b"??").replace(b"\xff\xd8", b"??"))
            time.sleep(0.02)

    server = camera(noise, http.streams(then=lambda c: c.forever(100)))
    items = take(parse_source(server.source, SourceOptions(hang_after=2)), after("back", 1))
    assert kinds(items) == ["hung", "restarted", "back", "frames"]


def test_frames_may_change_their_size(camera) -> None:
    def behave(connection) -> None:
        connection.frames(10, 20, 30)
        connection.frames(*[100] * 20, width=1280, height=720)
        connection.forever(200, width=32, height=16)

    items = take(parse_source(camera(http.streams(then=behave)).source), lambda items: grey_above(items, 190))
    assert kinds(items) == ["frames", "resized", "frames", "resized", "frames"]
    first, second = [item.reason for item in items if isinstance(item, Event)]
    assert "gives 1280x720 from here on, before 64x48." in first
    assert "gives 32x16 from here on, before 1280x720." in second
    shapes = {grey(frame) // 100: frame.image.shape for frame in frames(items)}
    assert shapes == {0: (48, 64, 3), 1: (720, 1280, 3), 2: (16, 32, 3)}


def test_a_camera_that_is_not_there_yet_is_waited_for(camera) -> None:
    server = camera(http.streams(then=lambda c: c.forever(100)), listen=False)

    def until(items: list[Item]) -> bool:
        if len(items) == 4:
            server.listen()
        return after("back", 1)(items)

    items = take(parse_source(server.source), until)
    assert kinds(items) == ["lost", "restarted", "back", "frames"]
    assert "cannot be reached: Connection refused." in items[0].reason
    assert items[1].reason.endswith(": attempt 1.")
    assert items[2].reason.endswith(": attempt 2, since the one before failed: Connection refused.")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "the server answered 404 Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n", "it sends no JPEG image (Content-Type: video/mp4)"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>Log in", "(Content-Type: text/html)"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "it sends no JPEG image (Content-Type: unknown)"),
        (http.HEAD, "it sends no JPEG image (Content-Type: multipart/x-mixed-replace)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "BadStatusLine"),
        (b"", "closed connection without response"),
    ],
)
def test_an_answer_that_is_no_stream_is_told(camera, answer: bytes, says: str) -> None:
    server = camera(lambda connection: connection.send(answer))
    items = take(parse_source(server.source), lambda items: items)
    assert kinds(items) == ["lost"]
    assert says in items[0].reason


def test_a_server_that_never_answers_counts_as_hung(camera) -> None:
    items = take(parse_source(camera(lambda c: c.hang()).source, SourceOptions(hang_after=0.5)), lambda items: items)
    assert kinds(items) == ["hung"]


def test_a_stream_in_chunks_is_understood(camera) -> None:
    def behave(connection) -> None:
        connection.send(http.HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        for number in range(20):
            data = http.part(http.picture(number * 10))
            for half in (data[:333], data[333:]):
                connection.send(b"%x\r\n" % len(half) + half + b"\r\n")
            time.sleep(0.02)
        connection.hang()

    assert kinds(take(parse_source(camera(behave).source), enough(3))) == ["frames"]


def test_a_module_in_the_current_folder_is_not_imported(camera, tmp_path: Path, monkeypatch) -> None:
    """As a user's random.py; Python looks there first."""
    (tmp_path / "cv2.py").write_text("raise SystemExit(9)")
    (tmp_path / "random.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    server = camera(http.streams(then=lambda c: c.forever(0)))
    assert kinds(take(parse_source(server.source), enough(2))) == ["frames"]


def test_a_process_that_is_killed_is_replaced(camera) -> None:
    server = camera(http.streams(then=lambda c: c.forever()))
    before = children()

    def until(items: list[Item]) -> bool:
        if len(items) == 3:
            (child,) = children() - before
            os.kill(child, signal.SIGKILL)
        return after("back")(items)

    items = take(parse_source(server.source), until)
    assert kinds(items) == ["frames", "lost", "restarted", "back", "frames"]
    assert "the process that captures was ended by SIGKILL" in next(i.reason for i in items if isinstance(i, Event))
    assert children() == before


def test_a_process_that_is_stopped_counts_as_hung(camera) -> None:
    """A driver that hangs looks like this: the process is there, and does nothing, not even end."""
    server = camera(http.streams(then=lambda c: c.forever()))
    before = children()

    def until(items: list[Item]) -> bool:
        if len(items) == 3:
            (child,) = children() - before
            os.kill(child, signal.SIGSTOP)
        return after("back")(items)

    items = take(parse_source(server.source, SourceOptions(hang_after=0.7)), until)
    assert kinds(items) == ["frames", "hung", "restarted", "back", "frames"]
    assert children() == before


@pytest.mark.parametrize("behaviour", ["frames", "hang", "refuse"])
def test_a_source_ends_when_it_is_asked_to(camera, behaviour: str) -> None:
    behaviours = {
        "frames": http.streams(then=lambda c: c.forever()),
        "hang": lambda c: c.hang(),
        "refuse": lambda c: c.send(b"no"),
    }
    before = children()
    source = parse_source(camera(behaviours[behaviour]).source)
    asked = []

    def stop() -> bool:
        asked.append(time.monotonic())
        return len(asked) > 8

    source.stop = stop
    for _ in source:
        pass
    assert len(asked) > 8
    assert children() == before
    waits = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert sorted(waits)[len(waits) // 2] < 1.0, "asked every tenth of a second"


def test_closing_the_iterator_ends_the_process(camera) -> None:
    before = children()
    iterator = iter(parse_source(camera(http.streams(then=lambda c: c.forever())).source))
    assert isinstance(next(iterator), Frame)
    assert len(children() - before) == 1
    iterator.close()
    assert children() == before


def test_attempts_leave_no_descriptor_and_no_memory_behind(camera) -> None:
    source = parse_source(camera(http.streams(10)).source)
    take(source, enough(1))
    before = len(list(Path("/proc/self/fd").iterdir()))
    items = take(source, lambda items: kinds(items).count("restarted") >= 4)
    assert kinds(items).count("lost") >= 4
    # A connection of the server's, in this process too, may be a moment behind.
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_a_camera_that_was_well_for_a_while_is_tried_again_soon(camera, monkeypatch: pytest.MonkeyPatch) -> None:
    resets = []
    monkeypatch.setattr(Backoff, "reset", lambda self: resets.append(self))
    server = camera(http.streams(then=lambda c: c.forever()))
    take(parse_source(server.source), enough(3))
    assert not resets
    monkeypatch.setattr(live_source, "STEADY", 0.05)
    take(parse_source(server.source), enough(10))
    assert resets


def test_when_the_program_is_killed_nothing_is_left(camera) -> None:
    server = camera(http.streams(then=lambda c: c.forever()))
    code = (
        "import sys\n"
        "from edge_apps.camera.sources.parse import parse_source\n"
        "for item in parse_source(sys.argv[1]): print(item.sequence, flush=True)\n"
    )
    shared = set(Path("/dev/shm").iterdir())
    with subprocess.Popen([sys.executable, "-c", code, server.source], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "0\n"
        (child,) = map(int, Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split())
        assert set(Path("/dev/shm").iterdir()) == shared, "the memory has no name"
        program.kill()
    end = time.monotonic() + 20
    while alive(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_pictures_are_turned_and_mirrored(camera) -> None:
    import cv2
    import numpy as np

    corner = np.zeros((48, 64, 3), np.uint8)
    corner[:16, :16] = 255  # white, top left
    data = bytes(cv2.imencode(".jpg", corner)[1])

    def behave(connection) -> None:
        connection.send(http.HEAD)
        while True:
            connection.send(http.part(data))
            time.sleep(0.02)

    source = parse_source(camera(behave).source, SourceOptions(rotate=90, mirror=True))
    (frame,) = frames(take(source, enough(1)))
    assert frame.image.shape == (64, 48, 3)
    assert frame.image[:16, :16].mean() > 250, "to the top right by the rotation, back by the mirror"
    assert frame.image[20:, 20:].mean() < 5


def test_user_and_password_are_given_and_never_shown(camera) -> None:
    server = camera(http.protected("user", "s3cr:et", behaviour=http.streams(then=lambda c: c.forever())))
    before = children()
    seen = []

    def until(items: list[Item]) -> bool:
        for child in children() - before:
            command, environment = (Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))
            seen.append(command)
            assert b"s3cr" not in command + environment
        return enough(2)(items)

    source = parse_source(f"http://user:s3cr%3Aet@127.0.0.1:{server.port}/video?token=t0k3n")
    assert source.text == f"http://***@127.0.0.1:{server.port}/video?token=***"
    assert kinds(take(source, until)) == ["frames"]
    assert seen
    assert b"GET /video?token=t0k3n " in server.requests[0]


def test_a_wrong_password_is_told_without_it(camera) -> None:
    server = camera(http.protected("user", "right", behaviour=http.streams()))
    source = parse_source(f"http://somebody:wr0ng@127.0.0.1:{server.port}/video")
    (lost,) = take(source, lambda items: items)
    assert "the server answered 401 Unauthorized" in lost.reason
    assert "wr0ng" not in lost.reason
    assert "somebody" not in lost.reason


def test_what_a_server_says_back_does_not_leak(camera) -> None:
    """It repeats the password in its status line."""
    server = camera(lambda c: c.send(b"HTTP/1.1 403 no, user, s3cret and t0k3n are wrong\r\nContent-Length: 0\r\n\r\n"))
    source = parse_source(f"http://user:s3cret@127.0.0.1:{server.port}/video?token=t0k3n")
    (lost,) = take(source, lambda items: items)
    assert "the server answered 403 no, ***, *** and *** are wrong" in lost.reason


def test_attempts_come_later_each_time_and_never_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bounds:
        def __init__(self) -> None:
            self.asked: list[tuple[float, float]] = []

        def __call__(self, low: float, high: float) -> float:
            self.asked.append((low, high))
            return high

    bounds = Bounds()
    backoff = Backoff(bounds)
    monkeypatch.setattr(live_source, "SHORTEST", 0.5)
    monkeypatch.setattr(live_source, "LONGEST", 30.0)
    assert [backoff.next() for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [low for low, _ in bounds.asked] == [0.5, 1, 2, 4, 8, 15, 15, 15]
    for _ in range(2000):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 1
    drawn = {Backoff(random.Random(seed).uniform).next() for seed in range(50)}
    assert len(drawn) == 50
    assert min(drawn) >= 0.5
