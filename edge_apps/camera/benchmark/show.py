"""Turn the report of a benchmark into tables and lines for people, or into one JSON document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.table import Table

from edge_apps.camera.benchmark.measure import (
    BURST_INFERENCES,
    BURST_SECONDS,
    SUSTAINED_SECONDS,
)
from edge_apps.camera.benchmark.report import UNSTABLE_ABOVE, Minute, Report, State
from edge_apps.camera.inference.session import Session
from edge_apps.camera.inference.stage_names import for_people, stages_as_json
from edge_apps.camera.log.devices import described
from edge_apps.console import Line, Part, or_dash, table
from edge_apps.json_text import indented
from edge_apps.runtime.latency import ENOUGH_FOR_P99

SHORT = {
    "burst": f"Shorter than {BURST_INFERENCES:,} inferences and {BURST_SECONDS:.0f} s: indicative, not for comparison.",
    "sustained": f"Shorter than {SUSTAINED_SECONDS:.0f} s: there is no first and last minute, but two halves.",
}
"""What a run that does not keep the protocol is told."""


def as_json(session: Session, report: Report) -> str:
    """One document: the session, and every figure of the report."""
    document: dict[str, Any] = {
        "session": {"fingerprint": session.device.fingerprint, **msgspec.to_builtins(session)},
        **msgspec.to_builtins(report),
        "stages": stages_as_json(report.stages),
    }
    return indented(document, 2).decode()


def as_parts(session: Session, report: Report) -> Iterator[Part]:
    """Return the report for people, part by part."""
    device = described(session.device_id, session.device_name, session.device)
    yield Line(f"{device} · {session.device.os}")
    yield Line(
        f"{session.file}: {session.model} {session.precision}, input {session.input}, by {session.runtime} on "
        f"{session.threads} thread{'s' if session.threads != 1 else ''}",
        wraps=True,
    )
    yield Line(f"Cold: loaded in {report.load_ms:.1f} ms, first inference {report.first_ms:.2f} ms", wraps=True)
    warmup = report.warmup
    settled = "settled" if warmup.settled else "did not settle: what follows may still drift"
    yield Line(f"Warm-up: {warmup.inferences:,} inferences in {warmup.seconds:.1f} s, {settled}", wraps=True)
    if not report.n:
        yield Line(f"Stopped by {report.ended_by} before the first inference was measured.", wraps=True)
        return
    yield from _figures(report)
    yield from _state(report.state)
    yield from _flags(report)


def _figures(report: Report) -> Iterator[Part]:
    yield Line("", wraps=True)
    yield Line(
        f"{report.kind.capitalize()}, one stream, batch 1: {report.n:,} inferences in {report.seconds:.1f} s, "
        f"{report.per_second:,.1f} a second",
        wraps=True,
    )
    shown = table()
    shown.add_column("stage")
    for name in ("n", "mean", "p50", "p90", "p95", "p99", "max"):
        shown.add_column(name, justify="right")
    for stage, s in for_people(report.stages).items():
        star = "*" if s.p99_is_indicative else ""
        shown.add_row(stage, f"{s.n:,}", *map(_ms, (s.mean, s.p50, s.p90, s.p95)), _ms(s.p99) + star, _ms(s.max))
    yield shown
    indicative = any(s.p99_is_indicative for s in report.stages.values())
    note = f" * indicative: fewer than {ENOUGH_FOR_P99:,} inferences." if indicative else ""
    yield Line(f"Milliseconds; percentiles of single inferences.{note}", wraps=True)
    if report.minutes:
        yield Line("", wraps=True)
        yield _minutes(report.minutes)
    if report.slowdown:
        ratio, seconds = report.slowdown.ratio, report.slowdown.seconds
        yield Line(f"Last {seconds} s ÷ first {seconds} s: {ratio:.3f} (p50 of infer)", wraps=True)
    if report.variation is not None:
        yield Line(f"Coefficient of variation of infer: {report.variation * 100:.1f} %", wraps=True)


def _minutes(minutes: tuple[Minute, ...]) -> Table:
    shown = table()
    for name in ("minute", "n", "p50", "p90", "°C", "MHz"):
        shown.add_column(name, justify="right")
    shown.add_column("throttled")
    for m in minutes:
        number = f"{m.number}" if m.seconds > 59 else f"{m.number} ({m.seconds:.0f} s)"
        state = (or_dash(m.temperature_c, ".1f"), or_dash(m.clock_mhz, ",.0f"), ", ".join(m.throttled))
        shown.add_row(number, f"{m.n:,}", _ms(m.p50), _ms(m.p90), *state)
    return shown


def _state(state: State) -> Iterator[Part]:
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
        yield Line(f"State: {', '.join(parts)}", wraps=True)


def _flags(report: Report) -> Iterator[Part]:
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
    if report.throttled is None:
        yield Line("Throttled: not known, this machine says neither throttling nor clock.", wraps=True)
    elif not report.throttled:
        yield Line("Not throttled, as far as this machine says.", wraps=True)
    if report.complete and not report.keeps_protocol:
        yield Line(SHORT[report.kind], wraps=True)
    for line in loud:
        yield Line(line, style="bold red")


def _ms(value: float) -> str:
    """Three figures that mean something, also where an inference takes microseconds."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
