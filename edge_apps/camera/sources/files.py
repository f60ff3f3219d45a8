"""Sources that are files: a folder or tar of images, one image, a video. Read in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2

from edge_apps.camera.capture.frames import Event, Frame, Item, Skipped, never, now, waited
from edge_apps.camera.capture.turn import Turn
from edge_apps.camera.sources.container import read_container
from edge_apps.camera.sources.frame_times import is_rate
from edge_apps.camera.sources.video_pass import VideoPass
from edge_apps.chatter import SHOW
from edge_apps.errors import BadImage, BadInput
from edge_apps.image_formats import SUFFIXES
from edge_apps.image_size import LARGEST_FILE
from edge_apps.images import Image, decode, printable
from edge_apps.untrusted import open_regular, read_regular

FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"

MOST_PIXELS = 17_000_000
"""Pixels of a frame of a video, as of 5760×2880: a decoder may hold 17 frames, of 1.5 bytes per pixel each."""

LOOK_EVERY = 1.0
"""Seconds between two looks for files that went away."""


class Pictures(Protocol):
    """Encoded images in order."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user should know of them, such as files that are passed over; a sentence each."""

    def __len__(self) -> int: ...

    def item_name(self, index: int) -> str:
        """Return a name that can be printed."""

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file; raises ``BadImage`` where they cannot be read."""


@dataclass(frozen=True)
class ImageFile:
    """A single image, as one of ``Pictures``."""

    path: Path
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return 1

    def item_name(self, _: int) -> str:
        """Return the name of the file."""
        return printable(self.path.name)

    def encoded(self, _: int) -> bytes:
        """Return the bytes of the file."""
        try:
            return read_regular(self.path, LARGEST_FILE)
        except OSError as error:
            raise BadImage(f"Cannot read image '{printable(str(self.path))}': {error.strerror}.") from error


class Folder:
    """Every image below a folder or in a tar, in name order; or a single one."""

    has_names = True

    def __init__(self, pictures: Pictures, text: str, *, loop: bool = False, turn: Turn = Turn()) -> None:  # noqa: B008
        self.text = text
        self.stop: Callable[[], bool] = never
        self._loop, self._turn = loop, turn
        self._pictures = pictures
        self.length = None if loop else len(self._pictures)

    def __iter__(self) -> Iterator[Item]:
        for remark in self._pictures.remarks:
            yield Event(time.time(), "passed-over", f"{self.text}: {remark}")
        yield from _repeated(self._once, self._loop, lambda: self.stop())

    def _once(self, start: int) -> Iterator[Item]:
        for index in range(len(self._pictures)):
            name = self._pictures.item_name(index)
            try:
                data = self._pictures.encoded(index)
                at, born = now()
                image = self._turn(decode(data, name))
            except BadImage as error:
                yield Skipped(start + index, name, time.time(), "corrupt", printable(str(error)))
            else:
                yield Frame(start + index, name, at, born, time.perf_counter_ns() - born, image)


class Video:
    """A video file: at its own pace as a camera would show it, frames dropped that nobody was ready for, or each one.

    The pace is that of the time stamps in the file. ``every_frame`` gives all frames as fast as they are asked for.
    """

    has_names = False

    def __init__(
        self,
        path: Path,
        text: str,
        *,
        loop: bool = False,
        every_frame: bool = False,
        turn: Turn = Turn(),  # noqa: B008 - immutable
    ) -> None:
        self.text = text
        self.stop: Callable[[], bool] = never
        self._path, self._loop, self._every_frame, self._turn = path, loop, every_frame, turn
        if not path.is_file():
            raise BadInput(f"No such video file: '{printable(str(path))}'.")
        with _quiet_decoder():
            capture = self._open()
        self._fps = capture.get(cv2.CAP_PROP_FPS)
        has_pace = every_frame or _has_pace(capture, self._fps)
        capture.release()
        if not has_pace:
            raise BadInput(
                f"'{printable(str(path))}' does not say how many frames a second it has: give `every_frame`."
            )
        self._stated = read_container(path)
        self._is_told = False
        self._played = 0.0
        # Many formats do not say how many frames they have; and who drops frames does not know how many.
        self.length = self._stated.frames if every_frame and not loop else None

    def __iter__(self) -> Iterator[Item]:
        return _repeated(self._once, self._loop, lambda: self.stop())

    def _once(self, start: int) -> Iterator[Item]:
        video = VideoPass(self._open(), self._fps)
        name, sequence = printable(self._path.name), start
        try:
            for shown in video.every_frame() if self._every_frame else video.at_its_pace(lambda: self.stop()):
                # What FFmpeg decoded before the frame was due counts as though it had been decoded then.
                at, born = shown.asked[0] + shown.waited_ns / 1e9, shown.asked[1] + shown.waited_ns
                image: Image = self._turn(cv2.cvtColor(shown.picture, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
                decoded = time.perf_counter_ns() - born
                media = round((self._played + shown.due) * 1e9) if self._every_frame else None
                yield Frame(sequence, f"{name}#{shown.number}", at, born, decoded, image, media_ns=media)
                sequence += 1
            if video.is_over:
                yield from self._short(video.grabbed)
                self._played += video.seconds
        finally:
            video.close()

    def _short(self, found: int) -> Iterator[Event]:
        """Tell once what FFmpeg passed over because it could not decode it, or because it is not there."""
        if self._is_told:
            return
        frames, missing = self._stated.frames, self._stated.missing
        if frames is not None and frames - found > max(1, frames // 100):
            reason = f"The video says that it has {frames:,} frames; {found:,} could be decoded."
        elif frames is None and missing:
            reason = f"The video file is cut off: {missing:,} bytes are missing; {found:,} frames could be decoded."
        else:
            return
        self._is_told = True
        yield Event(time.time(), "short", reason)

    def _open(self) -> cv2.VideoCapture:
        with _name_for_ffmpeg(self._path) as opened:
            capture = cv2.VideoCapture(opened, cv2.CAP_FFMPEG)
        name = printable(str(self._path))
        if not capture.isOpened():
            raise NotAVideo(f"'{name}' is no video that OpenCV {cv2.__version__} can decode, or it is damaged.")
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MOST_PIXELS:
            capture.release()
            raise BadInput(
                f"'{name}' is too large: its frames have {width:,}×{height:,} pixels, and at most {MOST_PIXELS:,} are "
                "decoded. Scale it down."
            )
        return capture


class NotAVideo(BadInput):
    """A file that is not a video."""


@contextmanager
def _name_for_ffmpeg(path: Path) -> Iterator[str]:
    """A name by which FFmpeg opens this file and nothing else.

    A colon in a relative path would be a protocol to it, one that ends as an image does a pattern of image files, and
    OpenCV takes no name that is not UTF-8: such a file is named by its number where the system has that.

    Raises:
        BadInput: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            by_number = f"/proc/self/fd/{file.fileno()}"
            name = str(path.absolute())
            is_misread = path.suffix.lower() in SUFFIXES or printable(name) != name
            yield by_number if is_misread and Path(by_number).exists() else printable(name)
    except OSError as error:
        raise BadInput(f"'{printable(str(path))}' cannot be read: {error.strerror}.") from error


def _has_pace(capture: cv2.VideoCapture, fps: float) -> bool:
    """Return whether a video has a rate, or time stamps that differ, or no second frame to be late with."""
    if is_rate(fps):
        return True
    stamps = [capture.get(cv2.CAP_PROP_POS_MSEC) for _ in range(2) if capture.grab()]
    return len(stamps) < 2 or stamps[0] != stamps[1]


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """What is wrong with a video is told by us, without FFmpeg's own lines: OpenCV asks the environment for their level
    when it uses FFmpeg first, and never again.

    Not by ``chatter.hushed``, since frames are decoded while other threads print.
    """
    if os.environ.get(SHOW) == "1" or FFMPEG_LEVEL in os.environ:
        yield
        return
    os.environ[FFMPEG_LEVEL] = "-8"  # AV_LOG_QUIET
    try:
        yield
    finally:
        del os.environ[FFMPEG_LEVEL]  # a process that captures listens to what FFmpeg says


def _repeated(once: Callable[[int], Iterator[Item]], loop: bool, stop: Callable[[], bool]) -> Iterator[Item]:
    """One pass, or pass after pass with the sequence running on.

    A first pass without a frame is the only one. When a later one has none, as when a disk was pulled, the source is
    lost, and is looked for until it is there again.
    """
    start, lost = 0, False
    while True:
        frames, following, fault = 0, start, ""
        try:
            for item in once(start):
                following = item.sequence + 1 if not isinstance(item, Event) else following
                if isinstance(item, Frame):
                    frames += 1
                    if lost:
                        lost = False
                        yield Event(time.time(), "restarted", "The source is there again.")
                if not lost:  # what could not be read was told in the pass before, one by one
                    yield item
        except BadInput as error:
            if not start:
                raise
            fault = str(error)
        if not loop or not (frames or start) or stop():
            return
        start = following
        if not frames and not lost:
            lost = True
            reason = f"{fault or 'Not one frame can be read any more.'} It is looked for every {LOOK_EVERY:g} s."
            yield Event(time.time(), "lost", reason)
        if lost and not waited(LOOK_EVERY, stop):
            return
