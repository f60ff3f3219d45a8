"""Show on stderr how a benchmark goes: a bar in a terminal, a line a minute elsewhere."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from edge_apps.camera.benchmark.measure import Measured, Plan, Warmup
from edge_apps.camera.commands.output import tell_start
from edge_apps.camera.inference.session import Session
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.console import progress
from edge_apps.settings import as_options

BAR_EVERY, NOTE_EVERY = 1.0, 60.0
"""Seconds between two states of the bar, and between two lines where stderr is no terminal."""


class Going:
    """How it goes, told between two inferences: a thread of its own would disturb what is measured."""

    def __init__(self) -> None:
        self._console = progress()
        self._bar: Progress | None = None
        self._told = time.monotonic()

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        tell_start(self._console, session, passed_over)
        self._console.print("Warming up until it settles …")

    def measuring(self, warmup: Warmup, plan: Plan) -> None:
        state = "Settled" if warmup.settled else "Not settled"
        least = "" if plan.sustained else f", at least {plan.inferences:,} inferences"
        self._console.print(f"{state} after {warmup.seconds:.1f} s. Measuring for {plan.seconds:g} s{least} …")

    def skipped(self, item: Skipped) -> None:
        self._console.print(Text(f"Skipped: {as_options(item.reason)}"), soft_wrap=True)

    def told(self, event: Event) -> None:
        self._console.print(Text(as_options(event.reason)), soft_wrap=True)

    def going(self, measured: Measured, plan: Plan) -> None:
        now = time.monotonic()
        due = BAR_EVERY if self._console.is_terminal else NOTE_EVERY
        if now - self._told < due or measured.seconds < BAR_EVERY:
            return
        self._told = now
        n = len(measured.infer_ns)
        line = f"{n:,} inferences, {n / measured.seconds:,.1f} a second"
        if not self._console.is_terminal:
            self._console.print(f"{measured.seconds:.0f} s: {line}")
            return
        done = min(measured.seconds / max(plan.seconds, BAR_EVERY), n / plan.inferences, 1.0)  # --seconds 0 is a plan
        if self._bar is None:
            columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=self._console, transient=True, auto_refresh=False)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=done, description=line, refresh=True)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
