"""Ten seconds of frames in a few rows: percentiles of their samples, and a histogram that can be merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edge_apps.camera.log.schema import WINDOW_NS
from edge_apps.runtime.histogram import Histogram
from edge_apps.runtime.latency import STAGES

Times = tuple[int, float, Sequence["int | None"]]
"""Of one frame: its offset, when its picture was taken, and nanoseconds in the order of ``STAGES``."""

Row = tuple[Any, ...]
"""The columns of ``window`` but the first, the session."""


class Windows:
    """Collects the frames of a running session, and gives the rows of each window that is over."""

    def __init__(self) -> None:
        self._number = 0
        self._frames: list[Times] = []

    @property
    def current(self) -> int:
        """The number of the window that frames go to."""
        return self._number

    def add(self, frames: Iterable[Times]) -> list[Row]:
        """Take frames in the order of their offsets; the rows of what is over by the first of a later window."""
        rows: list[Row] = []
        for frame in frames:
            rows += self.until(frame[0])
            self._frames.append(frame)
        return rows

    def until(self, offset_ns: int) -> list[Row]:
        """It is so late: the rows of the window that is over."""
        number = offset_ns // WINDOW_NS
        if number <= self._number:
            return []
        rows = self.close()
        self._number = number
        return rows

    def close(self) -> list[Row]:
        """The rows of the frames so far; none without a frame."""
        frames, self._frames = self._frames, []
        return window_rows(self._number, frames)


def window_rows(number: int, frames: Sequence[Times]) -> list[Row]:
    """One row per stage that was measured."""
    rows: list[Row] = []
    for index, stage in enumerate(STAGES):
        samples = np.array([f[2][index] for f in frames if f[2][index] is not None], np.int64)
        if not samples.size:
            continue
        percentiles = np.percentile(samples, [50, 90, 95, 99], method="inverted_cdf").tolist()
        spans = (frames[0][1], frames[0][0], frames[-1][0])
        rows.append(
            (number, stage, *spans, samples.size, *percentiles, int(samples.max()), Histogram(samples).to_bytes())
        )
    return rows
