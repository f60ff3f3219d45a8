"""The figures of some sessions of one log: samples where they are still there, histograms of windows where not.

A window whose frames are not all there any more speaks through its histogram, and only through it: no frame counts
twice, and no percentile is ever averaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_apps.camera.log.schema import WINDOW_NS
from edge_apps.runtime.histogram import Histogram
from edge_apps.runtime.latency import STAGES, Summary, summarize

_ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Figures:
    """What is said of the frames of some sessions.

    ``by_histogram`` of the frames are known by the histograms of their windows alone: then every percentile is within
    ``histogram.RELATIVE_ERROR``; with 0 all are exact. ``missing`` frames were dropped before their window was
    complete, or their windows are gone too: they are in no figure. ``fps`` is None for a single frame.
    """

    stages: dict[str, Summary]
    by_histogram: int
    missing: int
    fps: float | None


def figures(database: sqlite3.Connection, sessions: Sequence[int]) -> Figures:
    """Read them, one stage at a time: a million frames need some twenty megabytes.

    Raises:
        sqlite3.DatabaseError, ValueError: the log is damaged.
    """
    replaced = {session: _replaced(database, session) for session in sessions}
    dropped = sum(
        row[0]
        for session in sessions
        for row in database.execute("SELECT frames_dropped FROM session WHERE id = ?", (session,))
    )
    by_histogram = 0
    stages = {}
    for stage in STAGES:
        histogram = Histogram()
        for session in sessions:
            for blob in _blobs(database, session, stage, replaced[session]):
                histogram.merge(Histogram.from_bytes(blob))
        if stage == "total":
            by_histogram = histogram.n
        samples = [part for session in sessions for part in _samples(database, session, stage, replaced[session])]
        if not histogram.n and samples:
            stages[stage] = summarize(np.concatenate(samples))
            continue
        for part in samples:
            histogram.add(part)
        if histogram.n:
            stages[stage] = histogram.summary()
    n = stages["total"].n if stages else 0
    kept = sum(
        database.execute("SELECT count(*) FROM frame WHERE session = ?", (session,)).fetchone()[0]
        for session in sessions
    )
    return Figures(stages, by_histogram, max(0, kept + dropped - n), _fps(database, sessions, n))


def _replaced(database: sqlite3.Connection, session: int) -> NDArray[np.int64]:
    """The windows of a session that are known better by their histograms than by the rows that are left of them."""
    (dropped,) = database.execute("SELECT frames_dropped FROM session WHERE id = ?", (session,)).fetchone()
    if not dropped:
        return np.zeros(0, np.int64)
    kept: dict[int, int] = dict(
        database.execute(
            f"SELECT offset_ns / {WINDOW_NS} AS number, count(*) FROM frame WHERE session = ? GROUP BY 1", (session,)
        ).fetchall()
    )
    windows = database.execute("SELECT number, n FROM window WHERE session = ? AND stage = 'total'", (session,))
    return np.array([number for number, n in windows if n > kept.get(number, 0)], np.int64)


def _blobs(database: sqlite3.Connection, session: int, stage: str, numbers: NDArray[np.int64]) -> Iterator[bytes]:
    wanted = set(numbers.tolist())
    if wanted:
        for number, blob in database.execute(
            "SELECT number, histogram FROM window WHERE session = ? AND stage = ?", (session, stage)
        ):
            if number in wanted:
                yield blob


def _samples(
    database: sqlite3.Connection, session: int, stage: str, replaced: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """The stage's times of the frames whose windows do not speak for them."""
    cursor = database.execute(
        f"SELECT {stage}_ns, offset_ns FROM frame WHERE session = ? AND {stage}_ns IS NOT NULL", (session,)
    )
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        times = np.array([tuple(row) for row in rows], np.int64)
        yield times[~np.isin(times[:, 1] // WINDOW_NS, replaced), 0]


def _fps(database: sqlite3.Connection, sessions: Sequence[int], frames: int) -> float | None:
    """Frames over the time between first and last, summed over sessions: the first of each ends no interval."""
    seconds, intervals = 0.0, frames
    for session in sessions:
        first, last = database.execute(
            "SELECT min(first), max(last) FROM (SELECT min(offset_ns) AS first, max(offset_ns) AS last FROM frame "
            "WHERE session = ? UNION ALL SELECT min(first_ns), max(last_ns) FROM window WHERE session = ?)",
            (session, session),
        ).fetchone()
        if first is not None:
            seconds += (last - first) / 1e9
            intervals -= 1
    return intervals / seconds if seconds > 0 else None
