"""The frame loop: what a frame's labels and times are, and what the network is shown."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from edge_apps.camera.loop import NOT_FINITE, Result, classify, top, warm_up
from edge_apps.camera.sources import Skipped, parse_source
from edge_apps.errors import BadManifest
from edge_apps.runtime import latency
from edge_apps.runtime.latency import STAGES


def test_frames_come_out_with_their_colour(fake, model: Path, pictures: Path) -> None:
    results = list(classify(parse_source(f"folder:{pictures}"), fake.FakeRunner(model, 1), 2))
    assert [(r.name, r.top[0][0]) for r in results] == [
        ("a/red.png", "red"),
        ("b/green.png", "green"),
        ("c/blue.png", "blue"),
    ]
    assert all(len(r.top) == 2 for r in results)
    # The softmax of (20, 1, 1), by hand.
    red = math.exp(20) / (math.exp(20) + 2 * math.exp(1))
    assert results[0].top[0][1] == pytest.approx(red, rel=1e-12)


def test_every_stage_is_timed_and_total_is_their_sum(fake, tmp_path: Path, pictures: Path) -> None:
    model = fake.write_fake(tmp_path / "slow.fake", seconds=0.02)
    for result in classify(parse_source(f"folder:{pictures}"), fake.FakeRunner(model, 1), 1):
        assert tuple(result.times) == STAGES
        assert result.times["total"] == sum(result.times[stage] for stage in STAGES[:-2])
        assert result.times["decode"] + 20_000_000 <= result.times["age"] <= result.times["total"], "read, then decoded"
        assert result.times["infer"] >= 20_000_000, "the fake runtime sleeps 20 ms"
        assert min(result.times.values()) > 0


def test_what_the_caller_does_between_frames_is_in_no_stage(fake, model: Path, pictures: Path, monkeypatch) -> None:
    ticks = itertools.count()
    pauses = itertools.count(step=1_000_000)
    pause = 0

    def clock() -> int:
        return next(ticks) + pause

    monkeypatch.setattr(latency.time, "perf_counter_ns", clock)
    for result in classify(parse_source(f"folder:{pictures}"), fake.FakeRunner(model, 1), 1):
        assert list(result.times.values()) == [2, 1, 1, 1, 1, 6, 5]
        pause = next(pauses)


def test_a_skipped_frame_is_passed_on_and_the_next_one_classified(fake, model: Path, pictures: Path) -> None:
    (pictures / "a/red.png").write_bytes(b"")
    items = list(classify(parse_source(f"folder:{pictures}"), fake.FakeRunner(model, 1), 1))
    assert [type(item) for item in items] == [Skipped, Result, Result]


def test_logits_that_are_not_numbers_give_no_label(fake, tmp_path: Path, pictures: Path) -> None:
    model = fake.write_fake(tmp_path / "nan.fake", nan_at=[2])
    items = list(classify(parse_source(f"folder:{pictures}"), fake.FakeRunner(model, 1), 1))
    assert [type(item) for item in items] == [Result, Skipped, Result]
    assert items[1].kind == NOT_FINITE
    assert "b/green.png" in items[1].reason


def test_an_endless_source_is_read_only_as_far_as_asked(fake, model: Path) -> None:
    runner = fake.FakeRunner(model, 1)
    assert len(list(itertools.islice(classify(parse_source("test-pattern"), runner, 1), 7))) == 7
    assert runner.calls == 7


def test_warm_up_runs_as_often_as_asked(fake, tmp_path: Path) -> None:
    runner = fake.FakeRunner(fake.write_fake(tmp_path / "m.fake", seconds=0.01), 1)
    assert warm_up(runner, 4) >= 10.0, "one inference sleeps 10 ms"
    assert runner.calls == 4


def test_labels_that_do_not_fit_the_output_are_refused(fake, tmp_path: Path) -> None:
    runner = fake.FakeRunner(fake.write_fake(tmp_path / "m.fake", outputs=6), 1)
    with pytest.raises(BadManifest, match=r"names 3 labels; .* \(1, 6\)"):
        warm_up(runner, 1)


def test_top_orders_by_probability_and_then_by_index() -> None:
    found = top(np.array([1.0, 3.0, 3.0, -2.0], np.float32), 4)
    assert found is not None
    assert [index for index, _ in found] == [1, 2, 0, 3]
    assert sum(p for _, p in found) == pytest.approx(1.0, abs=1e-15)
    assert found[0][1] / found[2][1] == pytest.approx(math.exp(2), rel=1e-14), "float64, not float32"


def test_top_does_not_overflow() -> None:
    found = top(np.array([3e38, -3e38], np.float32), 1)
    assert found == [(0, 1.0)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_top_refuses_what_is_not_finite(bad: float) -> None:
    assert top(np.array([0.0, bad], np.float32), 1) is None
