"""How long each stage of a frame took, and what is said of many frames: percentiles of single samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STAGES = ("capture", "decode", "preprocess", "infer", "postprocess", "total", "age")
"""In the order of a frame's life. ``total`` is the sum of those before it: from asking for the frame to having its
labels, but for waiting between two stages of a pipeline, and for decoding that another process did. ``age`` is how old
the picture was when its labels were there, whoever held it meanwhile."""

ENOUGH_FOR_P99 = 10_000
"""With fewer samples, fewer than 100 lie beyond the 99th percentile: it is shown, labelled indicative."""

KEPT = 100_000
"""Frames whose times a running program keeps in memory (4 MB); an endless run must not grow."""


class StageClock:
    """Times the stages of one frame on the monotonic clock, in whole nanoseconds; the frame begins with it."""

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now = now
        self._times: dict[str, int] = {}
        self._elsewhere: dict[str, int] = {}
        self._last = now()

    def mark(self, stage: str) -> None:
        """``stage`` ends now; it began where the one before it ended, or with the frame."""
        now = self._now()
        self._times[stage] = now - self._last
        self._last = now

    def resume(self) -> None:
        """The next stage begins now: what passed since the one before was waiting, in no stage."""
        self._last = self._now()

    def move(self, nanoseconds: int, source: str, to: str) -> None:
        """So much of the time marked as ``source`` was spent on ``to``, which was not marked itself."""
        self._times[to] = min(nanoseconds, self._times[source])
        self._times[source] -= self._times[to]

    def elsewhere(self, nanoseconds: int, stage: str) -> None:
        """So much was spent on ``stage`` before, by another process: it is no part of this frame's total."""
        self._elsewhere[stage] = nanoseconds

    def times(self, born_ns: int) -> dict[str, int]:
        """Nanoseconds of each stage, their sum as ``total``, and the ``age`` of a picture taken at ``born_ns``."""
        total, age = sum(self._times.values()), self._last - born_ns
        return {**self._times, **self._elsewhere, "total": total, "age": age}


@dataclass(frozen=True)
class Summary:
    """What is said of ``n`` samples; times in milliseconds."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @property
    def p99_is_indicative(self) -> bool:
        """Too few samples to say what the slowest hundredth really is."""
        return self.n < ENOUGH_FOR_P99


def summarize(nanoseconds: Sequence[int] | NDArray[np.int64]) -> Summary:
    """Percentiles, mean and maximum of single samples, in milliseconds.

    A percentile is the smallest sample that at least p % of all samples do not exceed (nearest rank; definition 1 of
    Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996): a time that did occur, never a mean of two.

    Raises:
        ValueError: there is no sample.
    """
    samples = np.asarray(nanoseconds, np.int64)
    if samples.size == 0:
        raise ValueError("no samples to summarize")
    p50, p90, p95, p99 = np.percentile(samples, [50, 90, 95, 99], method="inverted_cdf") / 1e6
    return Summary(
        n=int(samples.size),
        mean=float(samples.mean() / 1e6),
        p50=float(p50),
        p90=float(p90),
        p95=float(p95),
        p99=float(p99),
        max=float(samples.max() / 1e6),
    )


class RecentTimes:
    """The stage times of the last ``capacity`` frames, in memory that is claimed once."""

    def __init__(self, capacity: int = KEPT) -> None:
        self._times = np.full((len(STAGES), capacity), 0, np.int64)  # np.zeros would claim it page by page as it fills
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self._times.shape[1])

    def add(self, times: dict[str, int]) -> None:
        """Keep one frame's times; the oldest frame makes room."""
        self._times[:, self._added % self._times.shape[1]] = [times[stage] for stage in STAGES]
        self._added += 1

    def summaries(self) -> dict[str, Summary]:
        """One ``Summary`` per stage; empty where no frame was added."""
        if not len(self):
            return {}
        return {stage: summarize(self._times[row, : len(self)]) for row, stage in enumerate(STAGES)}
