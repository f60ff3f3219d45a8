"""Videos whose frames are not evenly spaced: each frame comes when the file says, and nothing is called missing."""

import importlib.util
import itertools
import time
from pathlib import Path

import pytest

from edge_apps.camera.sources.parse import Event, Frame, SourceOptions, parse_source
from edge_apps.errors import BadInput

spec = importlib.util.spec_from_file_location("video_files", Path(__file__).parents[1] / "video_files.py")
video_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(video_files)

EVERY = SourceOptions(every_frame=True)
STAMPS = [0, 20, 40, 60, 360, 660, 680, 700]
"""Milliseconds: 50 frames a second, then 3, then 50."""


def frames_of(items: list) -> list[Frame]:
    assert not [item for item in items if isinstance(item, Event)], "nothing is missing"
    return items


def write(tmp_path: Path, data: bytes, name: str = "clip") -> str:
    (tmp_path / name).write_bytes(data)
    return str(tmp_path / name)


FILES = {
    "mkv": video_files.mkv(STAMPS, duration=720.0),
    "mkv with a rate": video_files.mkv(STAMPS, duration=720.0, default_duration=20_000_000),
    "mkv without a duration": video_files.mkv(STAMPS),
    "mkv from 7 s on": video_files.mkv([7000 + stamp for stamp in STAMPS]),
    "mp4": video_files.mp4(STAMPS, last=20),
    "mp4, later": video_files.mp4(STAMPS, last=20, edits=[(2000, -1), (720, 0)]),
    "mp4, trimmed": video_files.mp4([-400, -200, *STAMPS, 900, 1000], last=20, edits=[(720, 400)]),
}


@pytest.mark.parametrize("name", FILES)
def test_frames_come_when_the_file_says(tmp_path: Path, name: str) -> None:
    began, items, arrived = time.monotonic(), [], []
    for item in parse_source(write(tmp_path, FILES[name])):
        items.append(item)
        arrived.append(time.monotonic())
    seconds = time.monotonic() - began
    frames = frames_of(items)
    numbers = [int(frame.name.partition("#")[2]) for frame in frames]
    first = round(float(frames[0].image.mean()) / 10)  # of a trimmed file not the first one in it
    assert [round(float(frame.image.mean()) / 10) - first for frame in frames] == numbers
    assert {0, 3, 4, 5, 7} <= set(numbers), "those before and in the gaps"
    for number, at in zip(numbers, arrived, strict=True):
        assert at - arrived[0] >= (STAMPS[number] - 1) / 1000 - 0.02
    assert 0.7 <= seconds < 3


@pytest.mark.parametrize("name", FILES)
def test_frames_out_of_their_pace_know_when_they_belong(tmp_path: Path, name: str) -> None:
    source = parse_source(write(tmp_path, FILES[name]), EVERY)
    assert source.length == (8 if name in ("mp4", "mp4, later") else None), "only what the file counts"
    frames = frames_of(list(source))
    assert [round(frame.at_ns / 1e6) for frame in frames] == STAMPS


def test_a_loop_goes_on_behind_the_last_frame(tmp_path: Path) -> None:
    source = parse_source(write(tmp_path, video_files.mp4([0, 40, 500])), SourceOptions(every_frame=True, loop=True))
    ms = [round(frame.at_ns / 1e6) for frame in itertools.islice(source, 7)]
    assert ms[:3] == [0, 40, 500]
    assert [b - a for a, b in itertools.pairwise(ms[3:6])] == [40, 460]
    assert 500 < ms[3] < 800


def test_who_is_slow_gets_the_frame_that_is_due(tmp_path: Path) -> None:
    """Also the last one before a long gap, which stays on the screen meanwhile."""
    items = []
    for item in parse_source(write(tmp_path, FILES["mkv"])):
        items.append(item)
        if len(items) == 1:
            time.sleep(0.15)  # past the fourth frame, which lasts until 0.36 s
    numbers = [int(frame.name.partition("#")[2]) for frame in frames_of(items)]
    assert numbers[:3] == [0, 3, 4]
    assert [frame.sequence for frame in items] == list(range(len(items)))


def test_chunks_of_no_bytes_are_pauses(tmp_path: Path) -> None:
    source = parse_source(write(tmp_path, video_files.avi([0, 1, None, None, None, 5, None])), EVERY)
    assert source.length == 3
    assert [round(frame.at_ns / 1e6) for frame in frames_of(list(source))] == [0, 40, 200]


@pytest.mark.parametrize("options", [EVERY, SourceOptions()])
def test_a_file_that_is_cut_off_is_told_once(tmp_path: Path, options: SourceOptions) -> None:
    data = video_files.mkv([0, 20, 40, 60], duration=80.0)
    *frames, event = parse_source(write(tmp_path, data[:-300]), options)
    assert len(frames) == 3
    expected = "The video file is cut off: 300 bytes are missing; 3 frames could be decoded."
    assert (event.kind, event.reason) == ("short", expected)


def test_a_video_without_any_time_needs_every_frame(tmp_path: Path) -> None:
    path = write(tmp_path, video_files.mkv([0, 0, 0]))
    with pytest.raises(BadInput, match="does not say how many frames a second it has: give `every_frame`"):
        parse_source(path)
    assert len(frames_of(list(parse_source(path, EVERY)))) == 3


def test_a_video_of_one_frame_needs_no_time(tmp_path: Path) -> None:
    assert len(frames_of(list(parse_source(write(tmp_path, video_files.mkv([0])))))) == 1


@pytest.mark.parametrize(
    "name", ["caf\udce9.mp4", "my:clip", "http:clip.mp4", "clip.jpg", "%03d.png", "concat.txt", "-"]
)
def test_a_name_says_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that FFmpeg would take for something else."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, FILES["mkv"], name)
    source = parse_source(f"video:{name}", EVERY)
    assert len(frames_of(list(source))) == 8
    source.text.encode("utf-8")


def test_images_behind_each_other_in_a_file_are_a_video(tmp_path: Path) -> None:
    source = parse_source(write(tmp_path, b"".join(map(video_files.image, range(5))), "frames%03d.jpg"), EVERY)
    assert source.text == f"video:{tmp_path / 'frames%03d.jpg'}"
    assert [round(frame.at_ns / 1e6) for frame in frames_of(list(source))] == [0, 40, 80, 120, 160]


def test_the_video_that_a_user_brought(shared_cases: Path) -> None:
    """Five seconds at 30 frames a second, then two frames a second."""
    frames = frames_of(list(parse_source(str(shared_cases / "vfr.webm"), EVERY)))
    assert len(frames) == 160
    assert [frames[n].at_ns / 1e9 for n in (149, 150, 151, 159)] == pytest.approx([4.966, 5, 5.5, 9.5], abs=0.05)


@pytest.mark.long
def test_the_video_that_a_user_brought_keeps_its_pace(shared_cases: Path) -> None:
    began = time.monotonic()
    frames = frames_of(list(parse_source(str(shared_cases / "vfr.webm"))))
    assert 9.5 <= time.monotonic() - began < 10.5
    assert [frame.born_ns - frames[0].born_ns for frame in frames[-2:]] == pytest.approx([9e9, 9.5e9], abs=2e8)
