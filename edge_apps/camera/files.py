"""Sources that are files: a folder or tar of pictures, a video. Read in this process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from edge_apps.camera.frames import Event, Frame, Item, Skipped, never, now, waited
from edge_apps.camera.turn import Turn
from edge_apps.chatter import SHOW
from edge_apps.errors import BadImage, BadInput
from edge_apps.images import Image, decode, list_pictures, printable

FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"

LOOK_EVERY = 1.0
"""Seconds between two looks for files that went away."""


class Folder:
    """Every picture below a folder or in a tar, in name order."""

    has_names = True

    def __init__(self, path: Path, text: str, *, loop: bool = False, turn: Turn = Turn()) -> None:  # noqa: B008
        self.text = text
        self.stop: Callable[[], bool] = never
        self._loop, self._turn = loop, turn
        self._pictures = list_pictures(path)
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

    ``every_frame`` gives all of them as fast as they are asked for.
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
            raise BadInput(f"No such video file: '{path}'.")
        with _quiet_decoder():
            capture = self._open()
        count, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        self._is_told = False
        self._fps, self._count = fps, int(count) if math.isfinite(count) else 0
        if not every_frame and not (math.isfinite(fps) and fps > 0):
            raise BadInput(f"'{path}' does not say how many frames a second it has: give --every-frame.")
        # Many formats do not say how long they are, or guess; and who drops frames does not know how many.
        self.length = self._count if self._count > 0 and every_frame and not loop else None

    def __iter__(self) -> Iterator[Item]:
        return _repeated(self._once, self._loop, lambda: self.stop())

    def _once(self, start: int) -> Iterator[Item]:
        capture = self._open()
        began = time.monotonic()
        given, index = 0, 0  # frames handed over, and the number of the next one in the file
        try:
            while self._wait_for(index, began):
                missed = 0 if self._every_frame else self._due(began) - index
                at, born = now()  # FFmpeg decodes what it grabs, also a frame that is dropped
                for _ in range(missed + 1):
                    if not capture.grab():
                        yield from self._short(index)
                        return
                    index += 1
                there, picture = capture.retrieve()
                if not there:
                    yield from self._short(index - 1)
                    return
                image: Image = self._turn(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]
                decoded = time.perf_counter_ns() - born
                name = f"{printable(self._path.name)}#{index - 1}"
                yield Frame(start + given, name, at, born, decoded, image, media_ns=self._media_ns(start + given))
                given += 1
        finally:
            capture.release()

    def _short(self, found: int) -> Iterator[Event]:
        """What FFmpeg could not decode it passes over: told once. Some formats only guess how many frames they have."""
        if not self._is_told and self._count - found > max(1, self._count // 100):
            self._is_told = True
            reason = f"The video says that it has {self._count:,} frames; {found:,} could be decoded."
            yield Event(time.time(), "short", reason)

    def _wait_for(self, index: int, began: float) -> bool:
        """Until frame ``index`` is due; False where the source shall stop."""
        return self._every_frame or waited(began + index / self._fps - time.monotonic(), self.stop)

    def _media_ns(self, frame: int) -> int | None:
        """When a frame belongs that is read out of its pace, where the file says what that is."""
        return int(frame / self._fps * 1e9) if self._every_frame and self._fps > 0 else None

    def _due(self, began: float) -> int:
        """The frame that a camera would show now."""
        return int((time.monotonic() - began) * self._fps)

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise BadInput(f"'{self._path}' is no video that OpenCV {cv2.__version__} can decode, or it is damaged.")
        return capture


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
