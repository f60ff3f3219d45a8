"""Stage clocks and percentiles, against arithmetic in whole numbers."""

import itertools
import random
import resource
from pathlib import Path

import pytest

from edge_apps.runtime.latency import STAGES, RecentTimes, StageClock, summarize


def nearest_rank(samples: list[int], percent: int) -> int:
    """The smallest sample that at least ``percent`` % do not exceed, found by counting."""
    ordered = sorted(samples)
    return next(value for rank, value in enumerate(ordered, 1) if 100 * rank >= percent * len(ordered))


@pytest.mark.parametrize("n", [*range(1, 130), 1_000, 1_001, 9_999, 10_000])
def test_percentiles_are_nearest_ranks(n: int) -> None:
    chance = random.Random(n)
    samples = [chance.randrange(1, 10**9) for _ in range(n)]
    summary = summarize(samples)
    for percent in (50, 90, 95, 99):
        assert getattr(summary, f"p{percent}") == nearest_rank(samples, percent) / 1e6
    assert summary.n == n
    assert summary.max == max(samples) / 1e6
    assert summary.mean == pytest.approx(sum(samples) / n / 1e6, rel=1e-12)


def test_p99_needs_ten_thousand_samples() -> None:
    assert summarize(range(9_999)).p99_is_indicative
    assert not summarize(range(10_000)).p99_is_indicative


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summarize([])


def test_a_clock_times_stage_after_stage() -> None:
    ticks = iter([100, 105, 125, 200])
    clock = StageClock(lambda: next(ticks))
    clock.mark("capture")
    clock.mark("infer")
    clock.mark("postprocess")
    clock.move(3, "capture", "decode")
    assert clock.times(-50) == {"capture": 2, "decode": 3, "infer": 20, "postprocess": 75, "total": 100, "age": 250}


def test_what_another_process_did_is_no_part_of_the_total() -> None:
    ticks = iter([0, 5, 9])
    clock = StageClock(lambda: next(ticks))
    clock.mark("capture")
    clock.elsewhere(70, "decode")
    clock.mark("infer")
    assert clock.times(-80) == {"capture": 5, "decode": 70, "infer": 4, "total": 9, "age": 89}


def test_no_more_time_is_moved_than_there_was() -> None:
    """A capture process decodes while nobody waits."""
    ticks = iter([0, 5])
    clock = StageClock(lambda: next(ticks))
    clock.mark("capture")
    clock.move(9, "capture", "decode")
    assert clock.times(0) == {"capture": 0, "decode": 5, "total": 5, "age": 5}


def times(value: int) -> dict[str, int]:
    return dict(zip(STAGES, itertools.count(value), strict=False))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no Linux")
def test_recent_times_claim_their_memory_at_once() -> None:
    """A program that runs for weeks shows in its first minute what it needs."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    recent = RecentTimes(capacity=400_000)  # 22 MB
    claimed = resident()
    for value in range(0, 400_000, 64):  # each page once
        recent._added = value
        recent.add(times(value))
    assert resident() - claimed < 2_000_000


def test_recent_times_keep_the_last_frames() -> None:
    recent = RecentTimes(capacity=4)
    assert len(recent) == 0
    assert recent.summaries() == {}
    for value in (10, 20):
        recent.add(times(value))
    assert len(recent) == 2
    assert recent.summaries()["capture"] == summarize([10, 20])
    for value in (30, 40, 50, 60):
        recent.add(times(value))
    assert len(recent) == 4
    found = recent.summaries()
    assert tuple(found) == STAGES
    assert found["capture"] == summarize([30, 40, 50, 60])
    assert found["total"] == summarize([35, 45, 55, 65])
