"""When the frames of a video are due: by the time stamps in the file, which need not be evenly spaced."""

from __future__ import annotations

import math

OUT_OF_ORDER = 1.0
"""Seconds that a time stamp may be behind the one before and still belong to the same count."""

LONGEST_GAP = 86400.0
"""Seconds between two frames that are believed: the clock of MPEG starts again after 26.5 hours."""

UNUSUAL_FPS = 1000.0
"""Frames a second that no camera of a video without time stamps has: FFmpeg then takes the unit of time for a rate."""

USUAL_FPS = 25.0
"""Frames a second where a file states neither them nor any time, as FFmpeg assumes too."""


def is_rate(fps: float) -> bool:
    """Return whether a file's frames a second can be believed."""
    return 0 < fps < UNUSUAL_FPS  # NaN is not


class FrameTimes:
    """Count the seconds from the first frame of a video to each one that follows.

    ``fps`` is the rate that the file states. It is needed only where a frame has no time stamp of its own. Long gaps
    keep their length. Stamps that count from another number than 0 are counted from the first one, and stamps that
    start again, as where files were joined, go on one frame later.
    """

    def __init__(self, fps: float) -> None:
        self.interval = 1 / (fps if is_rate(fps) else USUAL_FPS)
        self.due = 0.0
        """When the latest frame is due."""
        self.step = self.interval
        """How long after the one before that is."""
        self._zero: float | None = None  # the time stamp of a frame that is due at 0
        self._last = 0.0
        self._without: float | None = None  # when a frame without a stamp was due, since the last one with a stamp

    def next(self, stamp: float) -> float:
        """Return when the next frame is due whose time stamp is ``stamp`` seconds; 0 stands for none, too."""
        if self._zero is None:
            self._zero = self._last = max(0.0, stamp) if math.isfinite(stamp) else 0.0  # a delay of the decoder
            return self.due
        before = self.due
        self.due = max(before, self._due(stamp, self._zero))
        self.step = self.due - before
        return self.due

    def _due(self, stamp: float, zero: float) -> float:
        following = self.due + self.interval
        if not math.isfinite(stamp) or stamp <= 0 or stamp == self._last:
            self._without = following if self._without is None else self._without
            return following
        due, goes_on = stamp - zero, stamp > self._last
        without, self._without, self._last = self._without, None, stamp
        if self.due - OUT_OF_ORDER < due < self.due + LONGEST_GAP:
            return due
        # The count starts again: at this frame, or at the one before, whose stamp was 0 and looked like none.
        self._zero = stamp - following if without is None or goes_on else -without
        return stamp - self._zero
