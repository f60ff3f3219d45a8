"""What a benchmark tells while it goes on."""

import io

import pytest
from rich.console import Console

from edge_apps.camera.benchmark.measure import Measured, Plan
from edge_apps.camera.commands import benchmark_progress

MS = 1_000_000


@pytest.mark.parametrize(("plan", "share"), [(Plan(0, 400), 0.25), (Plan(20, 10), 0.1), (Plan(0, 10), 1.0)])
def test_in_a_terminal_a_bar_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, plan: Plan, share: float) -> None:
    monkeypatch.setattr(benchmark_progress, "progress", lambda: Console(file=io.StringIO(), force_terminal=True))
    going, measured = benchmark_progress.Going(), Measured(seconds=2.0)
    measured.infer_ns.extend([MS] * 100)
    going._told -= benchmark_progress.BAR_EVERY
    going.going(measured, plan)
    assert going._bar is not None
    (task,) = going._bar.tasks
    assert (task.completed, task.description) == (share, "100 inferences, 50.0 a second")
    going.close()
