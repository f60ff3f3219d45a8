"""Stage times of the last seconds and minutes."""

import threading
import time

import numpy as np
import pytest

from edge_apps.camera.live import recent
from edge_apps.camera.live.recent import EDGES, Recent
from edge_apps.runtime.latency import STAGES


class Clock:
    """One that is set by hand."""

    now = 1024.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def times(ms: float) -> dict[str, int]:
    return {stage: round((index + 1) * ms * 1e6) for index, stage in enumerate(STAGES)}


def test_nothing_yet(clock: Clock) -> None:
    figures = Recent(clock)
    figures.collect()
    clock.now += 100
    figures.collect()
    assert (figures.fps(), figures.now(), figures.history()) == (0.0, {}, ())
    assert all(sum(one.bins) == 0 and one.seconds == 0 for one in figures.histograms().values())


def test_percentiles_are_those_of_numpy_over_the_last_ten_seconds(clock: Clock) -> None:
    figures, chance = Recent(clock), np.random.default_rng(3)
    all_ms = chance.lognormal(2, 0.7, 600)
    for ms in all_ms:
        clock.now += 1 / 16
        figures.add(times(ms))
    figures.collect()
    last = all_ms[-160:]  # ten seconds, sixteen a second
    now = figures.now()
    assert list(now) == list(STAGES)
    for index, stage in enumerate(STAGES):
        expected = np.percentile(last * (index + 1), [50, 90, 99], method="inverted_cdf")
        assert (now[stage].p50, now[stage].p90, now[stage].p99) == pytest.approx(tuple(expected), rel=1e-6)
        assert now[stage].n == 160
    assert figures.fps() == pytest.approx(16)


def test_the_history_has_a_point_for_every_five_seconds_also_for_those_without_a_frame(clock: Clock) -> None:
    figures = Recent(clock)
    for ms in [1.0] * 10 + [3.0] * 10:  # two points of five seconds
        figures.add(times(ms))
        clock.now += 0.5
    clock.now += 12
    figures.collect()
    points = figures.history()
    assert [point.frames for point in points] == [10, 10, 0, 0]
    assert [point.fps for point in points] == [2, 2, 0, 0]
    assert points[0].p50["capture"] == 1
    assert points[1].p90["total"] == pytest.approx(18)
    assert points[2].p50 == {}
    assert np.diff([point.at for point in points]) == pytest.approx([5, 5, 5], abs=0.1)
    assert points[-1].at == pytest.approx(time.time() - 2, abs=1)


def test_the_history_does_not_jump_with_the_wall_clock(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Recent(clock)
    for _ in range(11):
        figures.add(times(1))
        clock.now += 1
    figures.collect()
    now = time.time() + 3 * 86400
    monkeypatch.setattr(recent.time, "time", lambda: now)
    assert [point.at for point in figures.history()] == pytest.approx([now - 6, now - 1], rel=0, abs=0.1)


def test_the_history_ends_after_five_minutes_and_survives_a_long_sleep(clock: Clock) -> None:
    figures = Recent(clock)
    for _ in range(1000):
        figures.add(times(1))
        clock.now += 1
        figures.collect()
    assert len(figures.history()) == recent.POINTS
    assert {point.frames for point in figures.history()} == {5}
    clock.now += 1e7
    figures.collect()
    assert {point.frames for point in figures.history()} == {0}
    assert figures.now() == {}


def test_the_histogram_counts_every_frame_since_the_start(clock: Clock) -> None:
    figures, chance = Recent(clock), np.random.default_rng(5)
    all_ms = [*chance.lognormal(3, 2, 500), 1.0, 10.0, 1e5]  # edges belong to their bin; one is beyond all
    for ms in all_ms:
        clock.now += 60
        figures.add(times(ms))
        figures.collect()
    capture = figures.histograms()["capture"]
    seconds = np.round(np.array(all_ms) * 1e6) / 1e9
    below = [int((seconds <= edge).sum()) for edge in EDGES]
    assert list(np.cumsum(capture.bins)) == [*below, len(all_ms)]
    assert capture.seconds == pytest.approx(seconds.sum())


def test_memory_is_bounded_even_if_nobody_counts(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MOST_WAITING", 50)
    figures = Recent(clock)
    for _ in range(1000):
        figures.add(times(1))
    figures.collect()
    assert sum(figures.histograms()["total"].bins) == 50


def test_frames_are_counted_once_though_many_threads_collect() -> None:
    figures = Recent()
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            figures.collect()

    threads = [threading.Thread(target=collect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3000):
        figures.add(times(1))
    stop.set()
    for thread in threads:
        thread.join()
    figures.collect()
    assert sum(figures.histograms()["total"].bins) == 3000
