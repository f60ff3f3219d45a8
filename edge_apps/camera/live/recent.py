"""Stage times of the last seconds and minutes while a program runs, in memory that does not grow."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_apps.runtime.latency import STAGES, Summary, summarize

SPAN = 10.0
"""Seconds over which "now" is taken: rate and percentiles."""

STEP = 5.0
"""Seconds of one point of the history."""

POINTS = 60
"""Points that are kept: five minutes."""

MOST_WAITING = 100_000
"""Frames that may wait to be counted; were the counting thread to die, memory would not grow."""

EDGES = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper edges of the histogram's bins, seconds; one more bin holds what is longer."""


class Point(msgspec.Struct, frozen=True):
    """One step of the history; all times in milliseconds, and none (``p50`` is empty) where no frame came."""

    at: float  # wall clock at the step's end, seconds since 1970 UTC
    frames: int
    fps: float
    p50: dict[str, float]
    p90: dict[str, float]


class Histogram(msgspec.Struct, frozen=True):
    """Every frame of one stage: how many in each bin (``EDGES`` and one beyond), and their sum in seconds."""

    bins: tuple[int, ...]
    seconds: float


class Recent:
    """What the last frames took. ``add`` is for the frame loop, all else for other threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: deque[tuple[float, dict[str, int]]] = deque(maxlen=MOST_WAITING)
        self._lock = threading.Lock()
        self._batches: deque[NDArray[np.float64]] = deque()  # rows: monotonic second, nanoseconds per stage
        self._step: list[NDArray[np.float64]] = []
        self._step_ends: float | None = None
        self._started: float | None = None
        self._points: deque[Point] = deque(maxlen=POINTS)  # their ``at`` on the monotonic clock: the other one jumps
        self._bins = np.zeros((len(STAGES), len(EDGES) + 1), np.int64)
        self._seconds = np.zeros(len(STAGES))

    def add(self, times: dict[str, int]) -> None:
        """One frame's nanoseconds per stage. Costs the caller under a microsecond."""
        self._waiting.append((self._clock(), times))

    def collect(self) -> None:
        """Count what was added; to be called about once a second."""
        with self._lock:
            now = self._clock()
            if self._waiting:
                self._take(np.array([_row(*self._waiting.popleft()) for _ in range(len(self._waiting))]))
            self._close_steps(now)
            self._batches = deque(kept for batch in self._batches if len(kept := batch[batch[:, 0] > now - SPAN]))

    def fps(self) -> float:
        """Frames per second over the last ``SPAN``."""
        with self._lock:
            if self._started is None:
                return 0.0
            frames = sum(len(batch) for batch in self._batches)
            return frames / min(SPAN, max(self._clock() - self._started, 1e-3))

    def now(self) -> dict[str, Summary]:
        """Percentiles of every stage over the last ``SPAN``; empty where no frame came."""
        with self._lock:
            batches = list(self._batches)
        if not batches:
            return {}
        rows = np.concatenate(batches)
        return {stage: summarize(rows[:, 1 + column].astype(np.int64)) for column, stage in enumerate(STAGES)}

    def history(self) -> tuple[Point, ...]:
        """The last minutes, oldest first."""
        with self._lock:
            wall = time.time() - self._clock()
            return tuple(msgspec.structs.replace(point, at=wall + point.at) for point in self._points)

    def histograms(self) -> dict[str, Histogram]:
        """Every frame since the start, by stage."""
        with self._lock:
            return {
                stage: Histogram(tuple(self._bins[row].tolist()), float(self._seconds[row]))
                for row, stage in enumerate(STAGES)
            }

    def _take(self, rows: NDArray[np.float64]) -> None:
        """Rows in the order of time."""
        if self._started is None or self._step_ends is None:
            self._started = float(rows[0, 0])
            self._step_ends = self._started + STEP
        seconds = rows[:, 1:] / 1e9
        self._seconds += seconds.sum(axis=0)
        for row in range(len(STAGES)):
            places = np.searchsorted(EDGES, seconds[:, row], side="left")  # a bin holds its upper edge
            self._bins[row] += np.bincount(places, minlength=len(EDGES) + 1)
        self._batches.append(rows)
        while len(rows):
            self._close_steps(float(rows[0, 0]))
            here = int(np.searchsorted(rows[:, 0], self._step_ends, side="left"))
            self._step.append(rows[:here])
            rows = rows[here:]

    def _close_steps(self, now: float) -> None:
        """Write down every step that is over; after a long sleep of the machine, only those that are kept."""
        if self._step_ends is None or now < self._step_ends:
            return
        over = math.floor((now - self._step_ends) / STEP) + 1
        for index in range(max(0, over - POINTS), over):
            rows = self._step if index == 0 else []
            self._points.append(_point(self._step_ends + index * STEP, rows))
        self._step = []
        self._step_ends += over * STEP


def _row(at: float, times: dict[str, int]) -> tuple[float, ...]:
    return (at, *(times[stage] for stage in STAGES))


def _point(at: float, batches: Iterable[NDArray[np.float64]]) -> Point:
    batches = list(batches)
    frames = sum(len(batch) for batch in batches)
    if not frames:
        return Point(at, 0, 0.0, {}, {})
    times = np.concatenate(batches)[:, 1:]
    p50, p90 = np.percentile(times, [50, 90], axis=0, method="inverted_cdf") / 1e6
    return Point(at, frames, frames / STEP, _by_stage(p50), _by_stage(p90))


def _by_stage(row: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(STAGES, row.tolist(), strict=True))
