"""How many frames a file has by its own count, and whether all of it is there."""

import importlib.util
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.camera.sources.container import Container, read_container

spec = importlib.util.spec_from_file_location("video_files", Path(__file__).parents[1] / "video_files.py")
video_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(video_files)

STAMPS = [0, 33, 66, 100, 600, 1100]


def read(tmp_path: Path, data: bytes) -> Container:
    (tmp_path / "x").write_bytes(data)
    return read_container(tmp_path / "x")


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (video_files.avi(range(7)), 7),
        (video_files.avi([0, None, None, 3, None]), 2),
        (video_files.mp4(STAMPS), 6),
        (video_files.mp4(STAMPS, wide=True), 6),
        (video_files.mp4(STAMPS, edits=[(1140, 0)]), 6),
        (video_files.mp4(STAMPS, edits=[(500, -1), (1140, 0)], wide=True), 6),
        (video_files.mp4(STAMPS, edits=[(200, 0)]), None),
        (video_files.mp4(STAMPS, edits=[(400, -1), (200, 66)], wide=True), None),
        (video_files.mkv(STAMPS), None),
        (b"", None),
        (b"not a video at all, but long enough", None),
    ],
)
def test_only_a_count_is_a_count(tmp_path: Path, data: bytes, frames: int | None) -> None:
    assert read(tmp_path, data) == Container(frames)


@pytest.mark.parametrize(
    ("suffix", "code", "frames"), [("avi", "MJPG", 6), ("mp4", "mp4v", 6), ("mov", "MJPG", 6), ("webm", "VP80", None)]
)
def test_files_that_opencv_writes(tmp_path: Path, suffix: str, code: str, frames: int | None) -> None:
    path = tmp_path / f"x.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25, (64, 48))
    assert writer.isOpened()
    for number in range(6):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    assert read_container(path) == Container(frames)


def test_what_is_cut_off_says_how_much(tmp_path: Path) -> None:
    whole = video_files.mkv(STAMPS)
    assert read(tmp_path, whole[:-100]) == Container(missing=100)
    film = video_files.mp4(STAMPS)
    assert read(tmp_path, film[:300]).missing == film.index(b"moov") - 4 - 300
    live = bytearray(whole)
    at = live.index(b"\x18\x53\x80\x67") + 4
    live[at : at + 8] = b"\x01" + b"\xff" * 7
    assert read(tmp_path, bytes(live[:-100])) == Container(), "of a size that was not known when it was written"


@pytest.mark.parametrize("make", [video_files.avi, video_files.mp4, video_files.mkv])
def test_damage_raises_nothing(tmp_path: Path, make) -> None:
    data = make(range(0, 100, 10))
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data[: int(rng.integers(0, len(data) + 1))])
        for at in rng.integers(0, max(1, len(damaged)), 6):
            damaged[at : at + 1] = bytes([rng.integers(0, 256)])
        assert isinstance(read(tmp_path, bytes(damaged)), Container)


def test_a_file_of_millions_of_empty_boxes_states_nothing_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(b"\0\0\0\x08free" * 2_000_000)
    started = time.monotonic()
    assert read_container(path) == Container()
    path.write_bytes(b"RIFF\0\0\0\0AVI " + b"JUNK\0\0\0\0" * 2_000_000)
    assert read_container(path) == Container()
    assert time.monotonic() - started < 5


def test_a_fifo_states_nothing_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.mp4")
    assert read_container(tmp_path / "x.mp4") == Container()
