"""Sources: order, names, corrupt pictures, loops, and what is refused."""

import itertools
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.camera.sources import Frame, Skipped, TestPattern, parse_source
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
    source = parse_source(f"folder:{pictures}", loop=True)
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
    assert [type(item) for item in parse_source(f"folder:{tmp_path}", loop=True)] == [Skipped]


def test_a_name_that_is_no_utf8_can_be_printed(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    write_png(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "x.png").rename(path / "caf\udce9.png")
    ((_, name),) = names(parse_source(f"folder:{path}"))
    assert name == "caf\\udce9.png"
    name.encode("utf-8")


def test_a_video_gives_every_frame(video: Path) -> None:
    frames = list(parse_source(f"video:{video}"))
    assert [frame.name for frame in frames] == [f"clip.avi#{n}" for n in range(6)]
    means = np.array([frame.image.mean((0, 1)) for frame in frames])
    assert np.abs(means[:, 0] - range(0, 240, 40)).max() < 4, "red is the first channel; JPEG costs a little"
    assert parse_source(f"video:{video}").length == 6


def test_a_looped_video_starts_again(video: Path) -> None:
    found = names(parse_source(f"video:{video}", loop=True), 8)
    assert found[5:] == [(5, "clip.avi#5"), (6, "clip.avi#0"), (7, "clip.avi#1")]


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


def test_a_password_in_an_unknown_source_is_not_repeated() -> None:
    with pytest.raises(BadInput) as error:
        parse_source("rtsp://user:secret@camera/1")
    assert "secret" not in str(error.value)


def test_a_loop_over_the_test_pattern_is_refused() -> None:
    with pytest.raises(BadInput, match="--loop"):
        parse_source("test-pattern", loop=True)


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all")
    with pytest.raises(BadInput, match=r"clip\.mp4' is no video"):
        parse_source(f"video:{tmp_path / 'clip.mp4'}")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No pictures"):
        parse_source(f"folder:{tmp_path}")
