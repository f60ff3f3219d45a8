"""One pass over an opened video: each frame with the time at which it is due, or those that a camera would show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_apps.camera.capture.frames import now, waited
from edge_apps.camera.sources.frame_times import FrameTimes


@dataclass(frozen=True)
class Shown:
    """A frame: ``picture`` uint8 ``[H, W, 3]`` BGR, its ``number`` in the file, and the second when it is due.

    ``asked`` is when it was asked for, by both clocks, and ``waited_ns`` how long it was waited for.
    """

    picture: NDArray[np.uint8]
    number: int
    due: float
    asked: tuple[float, int]
    waited_ns: int = 0


class VideoPass:
    """Frames of ``capture``, once; FFmpeg decodes a frame when it is grabbed, also one that is never shown."""

    def __init__(self, capture: cv2.VideoCapture, fps: float) -> None:
        self._capture, self._times = capture, FrameTimes(fps)
        self._is_waiting = False  # whether a frame is grabbed and not given yet
        self._began = 0.0
        self.grabbed = 0
        self.is_over = False

    @property
    def seconds(self) -> float:
        """How long the frames so far last."""
        return self._times.due + self._times.interval if self.grabbed else 0.0

    def close(self) -> None:
        """Close the video."""
        self._capture.release()

    def every_frame(self) -> Iterator[Shown]:
        """Give all frames as fast as they are asked for."""
        asked = now()
        while self._grab() and (shown := self._shown(asked, 0)) is not None:
            yield shown
            asked = now()

    def at_its_pace(self, stop: Callable[[], bool]) -> Iterator[Shown]:
        """Give each frame when it is due, and of those that are overdue the newest; end where ``stop`` says so.

        The clock starts when the first frame is there.
        """
        asked = now()
        shown = self._shown(asked, 0) if self._grab() else None
        self._began = time.monotonic()
        while shown is not None:
            yield shown
            shown = self._next(stop)
        waited(-self._late(self.seconds), stop)  # the last frame lasts, too

    def _next(self, stop: Callable[[], bool]) -> Shown | None:
        """Wait for the next frame to be due; None at the end, and where ``stop`` says so."""
        asked = now()
        if not self._is_waiting and not self._grab():
            return None
        before = time.perf_counter_ns()
        if self._late() < 0 and not waited(-self._late(), stop):
            return None
        return self._newest(asked, time.perf_counter_ns() - before)

    def _newest(self, asked: tuple[float, int], waited_ns: int) -> Shown | None:
        """Convert the frame that was grabbed; while the one behind it is due already, that one instead.

        Whether it is due one learns by grabbing it: that is not tried while the next one would be too early if it
        followed as this one did.
        """
        while (shown := self._shown(asked, waited_ns)) is not None:
            if self._late() <= self._times.step or not self._grab() or self._late() < 0:
                return shown
        return None

    def _late(self, due: float | None = None) -> float:
        """Return how many seconds ago the frame was due that was grabbed last; negative if it is not due yet."""
        return time.monotonic() - self._began - (self._times.due if due is None else due)

    def _grab(self) -> bool:
        self._is_waiting = not self.is_over and self._capture.grab()
        self.is_over = not self._is_waiting
        if self._is_waiting:
            self.grabbed += 1
            self._times.next(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
        return self._is_waiting

    def _shown(self, asked: tuple[float, int], waited_ns: int) -> Shown | None:
        """Convert the frame that was grabbed last; None, and the pass is over, where that fails."""
        self._is_waiting = False
        there, picture = self._capture.retrieve()
        if there:
            return Shown(picture, self.grabbed - 1, self._times.due, asked, waited_ns)  # type: ignore[arg-type]
        self.grabbed -= 1
        self.is_over = True
        return None
