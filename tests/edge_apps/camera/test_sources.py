"""Sources: order, names, corrupt pictures, loops, and what is refused."""

import itertools
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.camera import files
from edge_apps.camera.live import LiveSource
from edge_apps.camera.request import Device
from edge_apps.camera.sources import (
    Event,
    Frame,
    Skipped,
    SourceOptions,
    TestPattern,
    parse_size,
    parse_source,
    stale_after,
)
from edge_apps.errors import BadInput
from edge_apps.images import write_png


def names(source, count: int | None = None) -> list[tuple[int, str]]:
    return [(item.sequence, item.name) for item in itertools.islice(iter(source), count)]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames of one grey each: 0, 40, … 200."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    assert writer.isOpened()
    for grey in range(0, 240, 40):
        writer.write(np.full((48, 64, 3), (0, grey // 2, grey), np.uint8))  # BGR: mostly red
    writer.release()
    return path


def test_a_folder_gives_its_pictures_in_name_order(pictures: Path) -> None:
    source = parse_source(f"folder:{pictures}")
    assert names(source) == [(0, "a/red.png"), (1, "b/green.png"), (2, "c/blue.png")]
    assert source.length == 3
    assert source.has_names
    first = next(iter(source))
    assert isinstance(first, Frame)
    assert (first.image == (200, 10, 10)).all(), "RGB, not BGR"


def test_a_tar_gives_the_same_frames_as_the_folder(pictures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        tar.add(pictures, arcname=".")
    in_folder, in_tar = (list(parse_source(f"folder:{path}")) for path in (pictures, tmp_path / "p.tar"))
    assert [item.name for item in in_folder] == [item.name for item in in_tar]
    assert all((a.image == b.image).all() for a, b in zip(in_folder, in_tar, strict=True))


def test_a_corrupt_picture_stands_in_the_sequence_as_skipped(pictures: Path) -> None:
    whole = (pictures / "b/green.png").read_bytes()
    (pictures / "b/green.png").write_bytes(whole[: len(whole) // 2])
    items = list(parse_source(f"folder:{pictures}"))
    assert [type(item) for item in items] == [Frame, Skipped, Frame]
    assert items[1].sequence == 1
    assert items[1].kind == "corrupt"
    assert "truncated" in items[1].reason


def test_a_picture_that_goes_away_is_skipped(pictures: Path) -> None:
    source = parse_source(f"folder:{pictures}")
    (pictures / "a/red.png").unlink()
    assert [type(item) for item in source] == [Skipped, Frame, Frame]


def test_a_looped_folder_counts_on(pictures: Path) -> None:
    source = parse_source(f"folder:{pictures}", SourceOptions(loop=True))
    assert source.length is None
    assert names(source, 5) == [
        (0, "a/red.png"),
        (1, "b/green.png"),
        (2, "c/blue.png"),
        (3, "a/red.png"),
        (4, "b/green.png"),
    ]


def test_a_loop_over_nothing_but_corrupt_pictures_ends(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    assert [type(item) for item in parse_source(f"folder:{tmp_path}", SourceOptions(loop=True))] == [Skipped]


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    write_png(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "x.png").rename(path / "caf\udce9.png")
    ((_, name),) = names(parse_source(f"folder:{path}"))
    assert name == "caf\\udce9.png"
    name.encode("utf-8")


EVERY = SourceOptions(every_frame=True)


def test_a_video_gives_every_frame(video: Path) -> None:
    frames = list(parse_source(f"video:{video}", EVERY))
    assert [frame.name for frame in frames] == [f"clip.avi#{n}" for n in range(6)]
    means = np.array([frame.image.mean((0, 1)) for frame in frames])
    assert np.abs(means[:, 0] - range(0, 240, 40)).max() < 4, "red is the first channel; JPEG costs a little"
    assert parse_source(f"video:{video}", EVERY).length == 6


def test_a_video_is_decoded_after_it_is_captured(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg decodes what it grabs."""

    class Watched:
        def __init__(self, *arguments: object) -> None:
            self._capture = capture(*arguments)

        def grab(self) -> bool:
            self.asked = time.perf_counter_ns()
            return self._capture.grab()

        def retrieve(self) -> tuple:
            spans.append((self.asked, time.perf_counter_ns()))
            return self._capture.retrieve()

        def __getattr__(self, name: str) -> object:
            return getattr(self._capture, name)

    spans: list[tuple[int, int]] = []
    capture = cv2.VideoCapture
    source = parse_source(f"video:{video}", EVERY)
    monkeypatch.setattr(files.cv2, "VideoCapture", Watched)
    for frame in source:
        asked, grabbed = spans[-1]
        assert frame.born_ns <= asked
        assert frame.decode_ns >= grabbed - asked
    assert len(spans) == 6


def test_a_video_that_is_damaged_is_told_without_chatter(video: Path) -> None:
    """In a process of its own: FFmpeg's level is set when it is first used, here by the fixture."""
    whole = video.read_bytes()
    video.write_bytes(whole[: whole.index(b"idx1") - 100])  # in the middle of the last frame
    film = video.with_suffix(".mp4")
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    assert writer.isOpened()
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    film.write_bytes(film.read_bytes().partition(b"moov")[0])
    code = (
        "import os, sys\n"
        "from edge_apps.camera.sources import SourceOptions, parse_source\n"
        "from edge_apps.errors import BadInput\n"
        "print(len(list(parse_source(f'video:{sys.argv[1]}', SourceOptions(every_frame=True)))) > 4)\n"
        "try: parse_source(f'video:{sys.argv[2]}')\n"
        "except BadInput: print('refused', 'OPENCV_FFMPEG_LOGLEVEL' in os.environ)"
    )
    environment = {key: value for key, value in os.environ.items() if "CHATTER" not in key and "FFMPEG" not in key}
    arguments = [sys.executable, "-c", code, str(video), str(film)]
    ended = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("True\nrefused False\n", "")
    environment["EDGE_PIPELINE_CHATTER"] = "1"
    talking = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True, timeout=60)
    assert "[mjpeg @ " in talking.stderr, "or nothing was there to be hushed"


def test_a_looped_video_starts_again(video: Path) -> None:
    found = names(parse_source(f"video:{video}", SourceOptions(loop=True, every_frame=True)), 8)
    assert found[5:] == [(5, "clip.avi#5"), (6, "clip.avi#0"), (7, "clip.avi#1")]


def test_a_looped_video_that_goes_away_is_looked_for(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_EVERY", 0.01)
    source = parse_source(f"video:{video}", SourceOptions(loop=True, every_frame=True))
    items = iter(source)
    assert [next(items).sequence for _ in range(6)] == list(range(6))
    away = video.rename(video.with_name("elsewhere"))
    lost = next(items)
    assert isinstance(lost, Event)
    assert (lost.kind, "is no video" in lost.reason, "looked for every" in lost.reason) == ("lost", True, True)
    threading.Timer(0.1, lambda: away.rename(video)).start()
    back, frame = next(items), next(items)
    assert isinstance(back, Event)
    assert (back.kind, frame.sequence, frame.name) == ("restarted", 6, "clip.avi#0")


def test_a_looped_folder_that_goes_away_is_looked_for(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is missed once, not once a second."""
    monkeypatch.setattr(files, "LOOK_EVERY", 0.01)
    items = iter(parse_source(f"folder:{pictures}", SourceOptions(loop=True)))
    for _ in range(3):
        assert isinstance(next(items), Frame)
    away = pictures.rename(pictures.with_name("elsewhere"))
    assert [type(next(items)) for _ in range(4)] == [Skipped, Skipped, Skipped, Event]
    threading.Timer(0.1, lambda: away.rename(pictures)).start()
    back, frame = next(items), next(items)
    assert (back.kind, frame.name) == ("restarted", "a/red.png")


def test_a_source_that_went_away_ends_when_it_is_asked_to(video: Path) -> None:
    source = parse_source(f"video:{video}", SourceOptions(loop=True, every_frame=True))
    items = iter(source)
    for _ in range(6):
        next(items)
    video.unlink()
    assert isinstance(next(items), Event)
    source.stop = lambda: True
    assert list(items) == []


def test_a_frame_that_is_read_out_of_its_pace_knows_when_it_belongs(video: Path) -> None:
    """Smoothing over seconds goes by the film's."""
    frames = list(parse_source(f"video:{video}", EVERY))
    assert [frame.at_ns for frame in frames] == [pytest.approx(n * 40_000_000, abs=1) for n in range(6)]
    kept = next(iter(parse_source(f"video:{video}")))
    assert kept.at_ns == kept.born_ns


def test_a_video_keeps_its_pace_and_drops_what_nobody_was_ready_for(video: Path) -> None:
    source = parse_source(f"video:{video}")  # 25 frames a second
    assert source.length is None
    start = time.monotonic()
    items = []
    for item in source:
        items.append(item)
        if len(items) == 2:
            time.sleep(0.13)  # three frames long
    seconds = time.monotonic() - start
    numbers = [int(item.name.partition("#")[2]) for item in items]
    assert numbers[:2] == [0, 1]
    assert numbers[2] >= 4
    assert numbers == sorted(set(numbers))
    assert [item.sequence for item in items] == list(range(len(items)))
    assert seconds >= numbers[-1] / 25
    for item, number in zip(items, numbers, strict=True):
        assert abs(item.image[..., 0].mean() - 40 * number) < 4, "the frame that its name says"


@pytest.mark.parametrize("options", [EVERY, SourceOptions()])
def test_a_video_that_gives_fewer_frames_than_it_says_tells_so(video: Path, options: SourceOptions) -> None:
    """As one whose copy was cut off. FFmpeg ends there, and says nothing."""
    data = video.read_bytes()
    video.write_bytes(data[: [match.start() for match in re.finditer(b"00dc", data)][5]])  # the first is the index's
    *frames, event = parse_source(f"video:{video}", options)
    assert len(frames) == 4
    assert (event.kind, event.reason) == ("short", "The video says that it has 6 frames; 4 could be decoded.")


def test_a_looped_video_that_drops_frames_counts_on(video: Path) -> None:
    found = names(parse_source(f"video:{video}", SourceOptions(loop=True)), 9)
    assert [sequence for sequence, _ in found] == list(range(9))


def test_a_video_that_waits_ends_when_it_is_asked_to(video: Path) -> None:
    source = parse_source(f"video:{video}", SourceOptions(loop=True))
    given = []
    source.stop = lambda: len(given) >= 3
    for item in source:
        given.append(item)
    assert len(given) == 3


def test_pictures_are_turned_and_then_mirrored(tmp_path: Path) -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    write_png(tmp_path / "x.png", image)
    for degrees, mirror in itertools.product((0, 90, 180, 270), (False, True)):
        source = parse_source(f"folder:{tmp_path}", SourceOptions(rotate=degrees, mirror=mirror))
        expected = np.rot90(image, -degrees // 90)  # numpy turns counterclockwise
        (frame,) = source
        assert (frame.image == (expected[:, ::-1] if mirror else expected)).all()
        assert frame.image.flags.c_contiguous


def test_the_test_pattern_takes_a_size_and_a_pace() -> None:
    source = parse_source("test-pattern", SourceOptions(size=(100, 60), fps=50, rotate=90))
    start = time.monotonic()
    frames = list(itertools.islice(iter(source), 6))
    assert time.monotonic() - start >= 5 / 50 * 0.99
    assert frames[0].image.shape == (100, 60, 3)
    assert (TestPattern((16, 16)).image(99) == TestPattern((16, 16)).image(99)).all()


def test_the_test_pattern_that_waits_ends_when_it_is_asked_to() -> None:
    source = parse_source("test-pattern", SourceOptions(fps=0.001))
    given = []
    source.stop = lambda: len(given) >= 1
    for item in source:
        given.append(item)
    assert len(given) == 1


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({}, 5), ({"fps": 30.0}, 5), ({"fps": 0.15}, 20), ({"fps": 0.15, "hang_after": 2.0}, 2)],
)
def test_a_camera_that_was_asked_for_few_frames_is_given_time(options: dict, seconds: float) -> None:
    source = parse_source("usb:987", SourceOptions(wait_for_source=True, **options))
    assert isinstance(source, LiveSource)
    assert source._request().patience == pytest.approx(seconds)


def test_a_device_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that captures works in another one."""
    monkeypatch.chdir("/dev")
    source = parse_source("v4l2:video987", SourceOptions(wait_for_source=True))
    assert isinstance(source, LiveSource)
    assert source._request().camera == Device("/dev/video987")


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({}, 10), ({"hang_after": 30.0}, 60), ({"fps": 0.05}, 60), ({"fps": 30.0, "hang_after": 1.0}, 10)],
)
def test_a_slow_camera_is_not_called_ill(options: dict, seconds: float) -> None:
    assert stale_after(SourceOptions(**options)) == pytest.approx(seconds)


def test_the_test_pattern_is_the_same_every_time_and_moves() -> None:
    first, second = (list(itertools.islice(iter(TestPattern()), 3)) for _ in range(2))
    assert all((a.image == b.image).all() for a, b in zip(first, second, strict=True))
    assert first[0].image.shape == (480, 640, 3)
    assert first[0].image.dtype == np.uint8
    assert (first[0].image != first[1].image).any()
    plain = slice(400, 480), slice(0, 200)  # without the square
    assert (np.roll(first[0].image, TestPattern.step, axis=1)[plain] == first[1].image[plain]).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foldr:x", "Unknown source 'foldr'. Did you mean 'folder'?"),
        ("nonsense", "Known: folder:PATH (also a .tar), video:FILE, test-pattern"),
        ("folder:", "names no path"),
        ("video:", "names no path"),
        ("folder:/no/such/place", "No such folder or tar: '/no/such/place'"),
        ("video:/no/such/clip.mp4", "No such video file: '/no/such/clip.mp4'"),
        ("test-pattern:3", "takes no argument"),
        ("", "Unknown source ''"),
        ("usb:", "'usb:' names no camera: write usb:0"),
        ("usb:x", "'usb:x' names no camera"),
        ("usb:-1", "names no camera"),
        ("usb0", "Did you mean 'usb'?"),
        ("usb:987", "No such camera: '/dev/video987'"),
        ("v4l2:", "names no path"),
        ("v4l2:/dev/no-video", "No such camera: '/dev/no-video'"),
        ("v4l2:/dev/null", "'/dev/null' is no video device"),
        ("v4l2:/etc/passwd", "'/etc/passwd' is no video device"),
        ("csi:first", "names no camera: write csi:0"),
        ("USB:987", "No such camera: '/dev/video987'"),
        ("/dev/null", "Did you mean 'v4l2:/dev/null'?"),
        ("rtsp:camera", "does not begin with rtsp://"),
        ("http://", "names no host"),
        ("http://host-" + 70 * "x", "Unknown host 'host-xxx"),
    ],
)
def test_what_cannot_be_a_source_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_source(text)
    assert says in str(error.value)


def test_a_bare_path_gets_the_source_it_should_have_been(pictures: Path, video: Path) -> None:
    for path, kind in ((pictures, "folder"), (video, "video")):
        with pytest.raises(BadInput) as error:
            parse_source(str(path))
        assert f"Did you mean '{kind}:{path}'?" in str(error.value)


@pytest.mark.parametrize(
    "text", ["rtps://user:secret@camera/1", "rtsp:user:secret@camera", "http://user:secret@host-" + 70 * "x"]
)
def test_a_password_in_what_is_no_source_is_not_repeated(text: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_source(text)
    assert "secret" not in str(error.value)


def test_a_camera_that_is_not_there_yet_can_be_waited_for() -> None:
    for text in ("usb:987", "csi:0", "http://host-" + 70 * "x"):
        assert parse_source(text, SourceOptions(wait_for_source=True)).length is None


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("usb:0", {"loop": True}, "--loop has no meaning for a USB camera: it never ends"),
        ("usb:0", {"every_frame": True}, "--every-frame has no meaning"),
        ("rtsp://camera/1", {"size": (640, 480)}, "--size has no meaning for a network camera: that is set in"),
        ("http://camera/1", {"fps": 5.0}, "--fps has no meaning"),
        ("folder:x", {"every_frame": True}, "every picture of a folder is classified"),
        ("folder:x", {"fps": 5.0}, "--fps has no meaning for a folder"),
        ("folder:x", {"hang_after": 5.0}, "--hang-after has no meaning for a folder"),
        ("video:x", {"size": (64, 48)}, "--size has no meaning for a video"),
        ("video:x", {"wait_for_source": True}, "--wait-for-source has no meaning for a video"),
        ("test-pattern", {"every_frame": True}, "--every-frame has no meaning for the test pattern"),
        ("test-pattern", {"rotate": 45}, "--rotate is 45; choose 0, 90, 180 or 270"),
        ("test-pattern", {"fps": 0.0}, "--fps is 0"),
        ("test-pattern", {"fps": float("nan")}, "--fps is nan"),
        ("usb:0", {"hang_after": 0.01}, "--hang-after is 0.01 s; choose 0.5 to 3600"),
    ],
)
def test_an_option_without_meaning_or_sense_is_refused(text: str, options: dict, says: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_source(text, SourceOptions(**options))
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["640", "640x", "x480", "0x0", "15x480", "99999x10", "640*480", "-640x480", "6e2x480"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not WIDTHxHEIGHT"):
        parse_size(text)


def test_a_size_is_width_and_height() -> None:
    assert parse_size("640x480") == (640, 480)
    assert parse_size("1920×1080") == (1920, 1080)


def test_a_loop_over_the_test_pattern_is_refused() -> None:
    with pytest.raises(BadInput, match="--loop"):
        parse_source("test-pattern", SourceOptions(loop=True))


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all")
    with pytest.raises(BadInput, match=r"clip\.mp4' is no video"):
        parse_source(f"video:{tmp_path / 'clip.mp4'}")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No pictures"):
        parse_source(f"folder:{tmp_path}")
