"""Folders, tars and videos: order, names, pace, loops, damage, and files that go away."""

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

from edge_apps.camera.sources import files
from edge_apps.camera.sources.parse import Event, Frame, Skipped, SourceOptions, parse_source
from edge_apps.errors import BadInput
from edge_apps.images import write_png

EVERY = SourceOptions(every_frame=True)


def names(source, count: int | None = None) -> list[tuple[int, str]]:
    return [(item.sequence, item.name) for item in itertools.islice(iter(source), count)]


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


def test_images_that_are_not_read_are_named_first(pictures: Path) -> None:
    (pictures / "a" / "x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    told, *frames = parse_source(f"folder:{pictures}")
    assert isinstance(told, Event)
    assert told.kind == "passed-over"
    assert told.reason.startswith(f"folder:{pictures}: Passed over 1 HEIC file (first: 'a/x.heic')")
    assert len(frames) == 3


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
        "from edge_apps.camera.sources.parse import SourceOptions, parse_source\n"
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
    assert lost.kind == "lost"
    assert "cannot be read: No such file" in lost.reason
    assert "looked for every" in lost.reason
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


def test_a_video_of_giant_frames_is_refused_before_one_is_decoded(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_PIXELS", 100)
    with pytest.raises(BadInput, match=r"is too large: its frames have \d+×\d+ pixels, and at most 100 are decoded"):
        parse_source(f"video:{video}", EVERY)
