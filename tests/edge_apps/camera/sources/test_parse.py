"""What a user writes for a source: what becomes of it, and what is refused; the test pattern."""

import itertools
import os
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_apps.camera.capture.messages import Device
from edge_apps.camera.sources.kind import is_still
from edge_apps.camera.sources.live_source import LiveSource
from edge_apps.camera.sources.parse import (
    Frame,
    SourceOptions,
    TestPattern,
    parse_size,
    parse_source,
    stale_after,
    takes,
)
from edge_apps.errors import BadInput, NotThere
from edge_apps.images import write_png


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
        ("nonsense", "Unknown source 'nonsense'. Known: the path of a video, of an image, or of a folder or .tar of"),
        ("folder:", "names no path"),
        ("video:", "names no path"),
        ("folder:/no/such/place", "No such folder or tar: '/no/such/place'"),
        ("video:/no/such/clip.mp4", "No such video file: '/no/such/clip.mp4'"),
        ("test-pattern:3", "takes no argument"),
        ("", "Unknown source ''"),
        ("usb:", "'usb:' names no camera: write usb:0"),
        ("usb:x", "'usb:x' names no camera"),
        ("usb:-1", "names no camera"),
        ("usb0", "Did you mean 'usb:0'?"),
        ("usb:987", "No such camera: '/dev/video987'"),
        ("v4l2:", "names no path"),
        ("v4l2:/dev/no-video", "No such camera: '/dev/no-video'"),
        ("v4l2:/dev/null", "'/dev/null' is no video device"),
        ("v4l2:/etc/passwd", "'/etc/passwd' is no video device"),
        ("csi:first", "names no camera: write csi:0"),
        ("USB:987", "No such camera: '/dev/video987'"),
        ("/dev/null", "'/dev/null' is no video device"),
        ("rtsp:camera", "does not begin with rtsp://"),
        ("http://", "names no host"),
        ("http://host-" + 70 * "x", "Unknown host 'host-xxx"),
    ],
)
def test_what_cannot_be_a_source_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_source(text)
    assert says in str(error.value)


def test_a_bare_path_is_what_its_content_says(pictures: Path, video: Path) -> None:
    """Whatever it is called."""
    photo = pictures / "a/red.png"
    tar = pictures.parent / "frames"
    with tarfile.open(tar, "w") as archive:
        archive.add(pictures, arcname=".")
    for path, kind, count in ((pictures, "folder", 3), (tar, "folder", 3), (photo, "image", 1), (video, "video", None)):
        odd = path.rename(path.with_name(f"a {kind} \u00e9.MP4"))
        source = parse_source(str(odd))
        assert (source.text, source.length) == (f"{kind}:{odd}", count)
        assert isinstance(next(iter(source)), Frame)
        odd.rename(path)


def test_paths_are_written_as_in_a_shell(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in (
        "pictures",
        "./pictures/",
        "pictures/../pictures",
        "~/pictures",
        "folder:~/pictures",
        "FOLDER:pictures",
    ):
        assert parse_source(text).length == 3, text
    monkeypatch.chdir(pictures)
    assert parse_source(".").length == 3
    photo = (pictures / "a/red.png").read_bytes()
    for odd in ("0.png", "~odd", "a:b", "usb", "test pattern", "x\u00e4 %20.JPG", "-q"):
        Path(odd).write_bytes(photo)
        (frame,) = parse_source(odd)
        assert (frame.image == (200, 10, 10)).all(), odd
    for text in ("image:0.png", "IMAGE:0.png"):
        assert parse_source(text).text == "image:0.png"


def test_a_photograph_may_carry_others(tmp_path: Path) -> None:
    """As a phone's with its gain map, or with its preview: an image, and no video."""
    data = bytes(cv2.imencode(".jpg", np.full((40, 60, 3), 90, np.uint8))[1])
    small = bytes(cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1])
    marked = data[:2] + b"\xff\xe2\x00\x0eMPF\0" + bytes(8) + data[2:]
    for number, content in enumerate((data, data + small, marked + small * 3, data + b"ftyp" + bytes(99))):
        path = tmp_path / str(number)
        path.write_bytes(content)
        (frame,) = parse_source(str(path))
        assert frame.image.shape == (40, 60, 3)


def test_a_number_is_a_camera_and_a_device_too() -> None:
    for text in ("0", "7", "/dev/video7", "/dev/v4l/by-id/usb-cam"):
        source = parse_source(text, SourceOptions(wait_for_source=True))
        assert isinstance(source, LiveSource)
        assert source.text == (f"usb:{text}" if text.isdigit() else f"v4l2:{text}")
        assert takes(text, "wait_for_source")
        with pytest.raises(NotThere, match="No such camera"):
            parse_source(text)


def test_an_image_is_one_frame_and_a_loop_shows_it_again(tmp_path: Path) -> None:
    write_png(tmp_path / "x", np.full((8, 8, 3), 7, np.uint8))
    source = parse_source(str(tmp_path / "x"))
    assert (source.length, source.has_names) == (1, True)
    assert [frame.name for frame in source] == ["x"]
    looped = parse_source(str(tmp_path / "x"), SourceOptions(loop=True))
    assert [frame.sequence for frame in itertools.islice(looped, 3)] == [0, 1, 2]
    (tmp_path / "x").unlink()
    (skipped,) = source
    assert "Cannot read image" in skipped.reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no/such/clip.mp4", "No such file, folder or camera: 'no/such/clip.mp4'. Known: the path of a video"),
        ("clip.mp4", "No such file, folder or camera: 'clip.mp4'."),
        ("notes.txt", "'notes.txt' is no video that OpenCV"),
        ("notes.txt", "Nor is it an image (JPEG, PNG, WebP or BMP) or a .tar of images."),
        ("empty", "is no video that OpenCV"),
        ("image:notes.txt", "'notes.txt' is not a JPEG, PNG, WebP or BMP image."),
        ("image:none.png", "No such image file: 'none.png'"),
        ("image:", "names no path"),
        ("packed.tar.gz", "uncompressed tar"),
        ("nothing", "No images in 'nothing'"),
        ("pipe", "'pipe' is a FIFO or another special file"),
        ("/dev/shm/none.mp4", "No such file, folder or camera: '/dev/shm/none.mp4'"),
        ("1234", "Unknown source '1234'"),
        ("video0", "Did you mean 'usb:0'?"),
        ("webcam:1", "Did you mean 'usb:1'?"),
        ("192.168.1.5:8080/video", "Did you mean 'http://192.168.1.5:8080/…'?"),
        ("x" * 5000, "Unknown source 'xxx"),
        ("a\0b", "Unknown source 'a"),
        ("user@camera/secret.mp4", "Unknown source 'user'"),
    ],
)
def test_what_is_no_source_is_told_in_one_line(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("just text, and enough of it to look at" * 9)
    Path("empty").touch()
    Path("nothing").mkdir()
    os.mkfifo("pipe")
    with tarfile.open("packed.tar.gz", "w:gz") as tar:
        tar.add("notes.txt")
    with pytest.raises(BadInput) as error:
        parse_source(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
AVIF = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"


@pytest.mark.parametrize("written", ["", "image:", "video:"])
@pytest.mark.parametrize(
    ("name", "head", "format"),
    [
        ("p.heic", HEIC, "HEIC"),
        ("p.jpg", HEIC, "HEIC"),
        ("pic.avif", AVIF, "AVIF"),
        ("pic", b"\xff\x0a", "JPEG XL"),
        ("pic.jp2", b"\0\0\0\x0cjP  ", "JPEG 2000"),
        ("art.svg", b"<svg/>", "SVG"),
    ],
)
def test_an_image_in_another_format_is_called_so(
    written: str, name: str, head: bytes, format: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(head + bytes(200))
    with pytest.raises(BadInput) as error:
        parse_source(f"{written}{path}")
    assert str(error.value) == f"'{path}' is an image in {format} format: convert it to JPEG or PNG."


def test_moving_images_are_left_to_the_video_decoder(tmp_path: Path) -> None:
    for name, head in (("a.gif", b"GIF89a"), ("a.avif", AVIF.replace(b"ftypavif", b"ftypavis"))):
        (tmp_path / name).write_bytes(head)
        assert not is_still(tmp_path / name)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch(mode=0)
    with pytest.raises(BadInput, match=r"clip.mp4' cannot be read: Permission denied"):
        parse_source(str(tmp_path / "clip.mp4"))


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
        ("usb:0", {"loop": True}, "`loop` has no meaning for a USB camera: it never ends"),
        ("usb:0", {"every_frame": True}, "`every_frame` has no meaning"),
        ("rtsp://camera/1", {"size": (640, 480)}, "`size` has no meaning for a network camera: that is set in"),
        ("http://camera/1", {"fps": 5.0}, "`fps` has no meaning"),
        ("folder:x", {"every_frame": True}, "every picture of a folder is classified"),
        ("folder:x", {"fps": 5.0}, "`fps` has no meaning for a folder"),
        ("folder:x", {"hang_after": 5.0}, "`hang_after` has no meaning for a folder"),
        ("video:x", {"size": (64, 48)}, "`size` has no meaning for a video"),
        ("video:x", {"wait_for_source": True}, "`wait_for_source` has no meaning for a video"),
        ("test-pattern", {"every_frame": True}, "`every_frame` has no meaning for the test pattern"),
        ("test-pattern", {"rotate": 45}, "`rotate` is 45; choose 0, 90, 180 or 270"),
        ("test-pattern", {"fps": 0.0}, "`fps` is 0"),
        ("test-pattern", {"fps": float("nan")}, "`fps` is nan"),
        ("usb:0", {"hang_after": 0.01}, "`hang_after` is 0.01 s; choose 0.5 to 3600"),
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
    with pytest.raises(BadInput, match="`loop`"):
        parse_source("test-pattern", SourceOptions(loop=True))


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"not a video at all")
    with pytest.raises(BadInput, match=r"clip\.mp4' is no video"):
        parse_source(f"video:{tmp_path / 'clip.mp4'}")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No images"):
        parse_source(f"folder:{tmp_path}")


def test_a_fifo_is_named_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadInput, match="fifo' is a FIFO or another special file, not a video, an image or a folder"):
        parse_source(str(tmp_path / "fifo"))
