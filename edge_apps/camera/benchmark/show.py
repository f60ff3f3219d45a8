"""What a benchmark tells: how it goes on stderr, and at the end a report for people, or one JSON document."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from edge_apps.camera.benchmark.measure import (
    BURST_INFERENCES,
    BURST_SECONDS,
    SUSTAINED_SECONDS,
    Measured,
    Plan,
    Warmup,
)
from edge_apps.camera.benchmark.report import UNSTABLE_ABOVE, Minute, Report, State
from edge_apps.camera.commands.output import or_dash, stages_as_json, tell_start
from edge_apps.camera.inference.stage_names import for_people
from edge_apps.camera.log import Session
from edge_apps.camera.log.devices import described
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.console import progress, results, table
from edge_apps.runtime.latency import ENOUGH_FOR_P99

BAR_EVERY, NOTE_EVERY = 1.0, 60.0
"""Seconds between two states of the bar, and between two lines where stderr is no terminal."""


SHORT = {
    "burst": f"Shorter than {BURST_INFERENCES:,} inferences and {BURST_SECONDS:.0f} s: indicative, not for comparison.",
    "sustained": f"Shorter than {SUSTAINED_SECONDS:.0f} s: there is no first and last minute, but two halves.",
}
"""What a run that does not keep the protocol is told."""


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
        self._console.print(Text(f"Skipped: {item.reason}"), soft_wrap=True)

    def told(self, event: Event) -> None:
        self._console.print(Text(event.reason), soft_wrap=True)

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


def as_json(session: Session, report: Report) -> str:
    """One document: the session, and every figure of the report."""
    document: dict[str, Any] = {
        "session": {"fingerprint": session.device.fingerprint, **msgspec.to_builtins(session)},
        **msgspec.to_builtins(report),
        "stages": stages_as_json(report.stages),
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode()


def show(session: Session, report: Report) -> None:
    """The report for people."""
    out = results()
    device = described(session.device_id, session.device_name, session.device)
    out.print(Text(f"{device} · {session.device.os}"), soft_wrap=True)
    out.print(
        Text(
            f"{session.file}: {session.model} {session.precision}, input {session.input}, by {session.runtime} on "
            f"{session.threads} thread{'s' if session.threads != 1 else ''}"
        )
    )
    out.print(f"Cold: loaded in {report.load_ms:.1f} ms, first inference {report.first_ms:.2f} ms")
    warmup = report.warmup
    settled = "settled" if warmup.settled else "did not settle: what follows may still drift"
    out.print(f"Warm-up: {warmup.inferences:,} inferences in {warmup.seconds:.1f} s, {settled}")
    if not report.n:
        out.print(f"Stopped by {report.ended_by} before the first inference was measured.")
        return
    _show_figures(report)
    _show_state(report.state)
    _show_flags(report)


def _show_figures(report: Report) -> None:
    out = results()
    out.print()
    out.print(
        f"{report.kind.capitalize()}, one stream, batch 1: {report.n:,} inferences in {report.seconds:.1f} s, "
        f"{report.per_second:,.1f} a second"
    )
    shown = table()
    shown.add_column("stage")
    for name in ("n", "mean", "p50", "p90", "p95", "p99", "max"):
        shown.add_column(name, justify="right")
    for stage, s in for_people(report.stages).items():
        star = "*" if s.p99_is_indicative else ""
        shown.add_row(stage, f"{s.n:,}", *map(_ms, (s.mean, s.p50, s.p90, s.p95)), _ms(s.p99) + star, _ms(s.max))
    out.print(shown)
    indicative = any(s.p99_is_indicative for s in report.stages.values())
    note = f" * indicative: fewer than {ENOUGH_FOR_P99:,} inferences." if indicative else ""
    out.print(f"Milliseconds; percentiles of single inferences.{note}")
    if report.minutes:
        _show_minutes(report.minutes)
    if report.slowdown:
        ratio, seconds = report.slowdown.ratio, report.slowdown.seconds
        out.print(f"Last {seconds} s ÷ first {seconds} s: {ratio:.3f} (p50 of infer)")
    if report.variation is not None:
        out.print(f"Coefficient of variation of infer: {report.variation * 100:.1f} %")


def _show_minutes(minutes: tuple[Minute, ...]) -> None:
    shown = table()
    for name in ("minute", "n", "p50", "p90", "°C", "MHz"):
        shown.add_column(name, justify="right")
    shown.add_column("throttled")
    for m in minutes:
        number = f"{m.number}" if m.seconds > 59 else f"{m.number} ({m.seconds:.0f} s)"
        state = (or_dash(m.temperature_c, ".1f"), or_dash(m.clock_mhz, ",.0f"), ", ".join(m.throttled))
        shown.add_row(number, f"{m.n:,}", _ms(m.p50), _ms(m.p90), *state)
    out = results()
    out.print()
    out.print(shown)


def _show_state(state: State) -> None:
    parts = []
    if state.temperature_most_c is not None:
        before, after = (or_dash(t, ".1f") for t in (state.temperature_before_c, state.temperature_after_c))
        parts.append(f"{before} → {after} °C (at most {state.temperature_most_c:.1f})")
    if state.clock_least_mhz is not None:
        before, after = (or_dash(c, ",.0f") for c in (state.clock_before_mhz, state.clock_after_mhz))
        parts.append(f"{before} → {after} MHz (at least {state.clock_least_mhz:,.0f})")
    if state.memory_mb is not None:
        parts.append(f"{state.memory_mb:,.0f} MB")
    if state.power_mode:
        parts.append(f"power mode {state.power_mode}")
    if parts:
        results().print(Text(f"State: {', '.join(parts)}"))


def _show_flags(report: Report) -> None:
    loud = []
    if not report.complete:
        loud.append(f"INCOMPLETE: stopped by {report.ended_by}.")
    if report.throttled:
        loud.append(f"THROTTLED: {', '.join(report.throttled_by)}. Cool or power it better, and measure again.")
    if report.unstable:
        assert report.variation is not None
        loud.append(
            f"UNSTABLE: the coefficient of variation is {report.variation * 100:.0f} %, above "
            f"{UNSTABLE_ABOVE * 100:.0f} %. Stop what else runs here, and measure again."
        )
    out = results()
    if report.throttled is None:
        out.print("Throttled: not known, this machine says neither throttling nor clock.")
    elif not report.throttled:
        out.print("Not throttled, as far as this machine says.")
    if report.complete and not report.keeps_protocol:
        out.print(Text(SHORT[report.kind]))
    for line in loud:
        out.print(Text(line, style="bold red"), soft_wrap=True)


def _ms(value: float) -> str:
    """Three figures that mean something, also where an inference takes microseconds."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
