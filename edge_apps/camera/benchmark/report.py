"""What a benchmark's raw figures say, and when they must not be trusted.

Percentiles are of single inferences. A run is **unstable** when the coefficient of variation of its inference times
exceeds 10 %. It is **throttled** when, while it measured,

- the machine said so: a throttling word in a sample, or an " (earlier)" one that was not there before; or
- its clock fell: the median of five samples in a row lay below 90 % of such a median before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_apps.camera.benchmark.measure import Measured, Plan, Warmup
from edge_apps.camera.inference.session import Session
from edge_apps.runtime.latency import Summary, summarize
from edge_apps.runtime.sensors import Sample
from edge_apps.runtime.throttling import EARLIER

UNSTABLE_ABOVE = 0.10
CLOCK_SAMPLES, CLOCK_FELL_BELOW = 5, 0.9
MINUTE = 60

SHOWN_STAGES = ("age", "preprocess", "infer", "postprocess", "total")
"""Capture and decode are not measured here: the pictures lie in memory."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The machine before, after and in the worst moment of the measurement; None where it does not say."""

    temperature_before_c: float | None
    temperature_after_c: float | None
    temperature_most_c: float | None
    clock_before_mhz: float | None
    clock_after_mhz: float | None
    clock_least_mhz: float | None
    memory_mb: float | None
    power_mode: str


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of a sustained run, the last one maybe shorter: milliseconds, hottest moment, median clock."""

    number: int  # from 1
    seconds: float
    n: int
    p50: float
    p90: float
    temperature_c: float | None
    clock_mhz: float | None
    throttled: tuple[str, ...]


class Slowdown(msgspec.Struct, frozen=True, kw_only=True):
    """Median inference time of the last ``seconds`` ÷ that of the first: a minute, or half of a run under two."""

    ratio: float
    seconds: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is said of one benchmark. ``stages`` in milliseconds; empty where nothing was measured."""

    kind: str  # burst or sustained
    complete: bool
    ended_by: str
    keeps_protocol: bool  # complete, and at least 1,024 inferences and 60 s, or two minutes if sustained
    n: int
    seconds: float
    per_second: float
    load_ms: float
    first_ms: float
    warmup: Warmup
    stages: dict[str, Summary]
    variation: float | None  # coefficient of variation of infer
    unstable: bool
    throttled: bool | None  # None: this machine says neither throttling nor clock
    throttled_by: tuple[str, ...]
    state: State
    minutes: tuple[Minute, ...]
    slowdown: Slowdown | None


def report(session: Session, measured: Measured, plan: Plan) -> Report:
    """Judge a measurement."""
    infer = np.asarray(measured.infer_ns, np.int64)
    variation = float(infer.std() / infer.mean()) if infer.size and infer.any() else None
    throttled_by = throttling(measured.samples)
    complete = measured.stopped_by is None
    return Report(
        kind="sustained" if plan.sustained else "burst",
        complete=complete,
        ended_by=measured.stopped_by or "plan",
        keeps_protocol=complete and plan.keeps_the_protocol,
        n=int(infer.size),
        seconds=measured.seconds,
        per_second=infer.size / measured.seconds if measured.seconds else 0.0,
        load_ms=session.load_ms,
        first_ms=session.first_ms,
        warmup=measured.warmup,
        stages=_stages(measured, infer),
        variation=variation,
        unstable=variation is not None and variation > UNSTABLE_ABOVE,
        throttled=True if throttled_by else (False if _says_anything(measured.samples) else None),
        throttled_by=throttled_by,
        state=_state(measured.samples),
        minutes=_minutes(measured) if plan.sustained else (),
        slowdown=_slowdown(measured) if plan.sustained else None,
    )


def throttling(samples: Sequence[tuple[float, Sample]]) -> tuple[str, ...]:
    """Why a run counts as throttled, in words; () where nothing says that it was."""
    during = [sample for at, sample in samples if at >= 0]
    before = next((s for at, s in reversed(samples) if at < 0 and s.throttled is not None), None)
    old = {word for word in (before.throttled or () if before else ()) if word.endswith(EARLIER)}
    words = []
    for sample in during:
        said = sample.throttled or ()
        if before is None and sample.throttled is not None:
            before, old = sample, {word for word in said if word.endswith(EARLIER)}
        words += [word.removesuffix(EARLIER) for word in said if word not in old]
    fell = _clock_fell([sample.clock_mhz for sample in during if sample.clock_mhz is not None])
    return (*dict.fromkeys(words), *([fell] if fell else []))


def _clock_fell(clocks: list[float]) -> str:
    highest = 0.0
    for end in range(CLOCK_SAMPLES, len(clocks) + 1):
        here = median(clocks[end - CLOCK_SAMPLES : end])
        if here < CLOCK_FELL_BELOW * highest:
            return f"clock fell from {highest:,.0f} to {here:,.0f} MHz"
        highest = max(highest, here)
    return ""


def _says_anything(samples: Sequence[tuple[float, Sample]]) -> bool:
    return any(sample.throttled is not None or sample.clock_mhz is not None for _, sample in samples)


def _stages(measured: Measured, infer: NDArray[np.int64]) -> dict[str, Summary]:
    """Of ``infer`` every inference, of the others the last 100,000."""
    recent = measured.stages.summaries()
    return {stage: summarize(infer) if stage == "infer" else recent[stage] for stage in SHOWN_STAGES if recent}


def _state(samples: Sequence[tuple[float, Sample]]) -> State:
    at_start = [sample for at, sample in samples if at < 0][-1:]
    during = at_start + [sample for at, sample in samples if at >= 0]
    temperatures = [sample.temperature_c for sample in during]
    clocks = [sample.clock_mhz for sample in during]
    return State(
        temperature_before_c=temperatures[0] if during else None,
        temperature_after_c=temperatures[-1] if during else None,
        temperature_most_c=max((t for t in temperatures if t is not None), default=None),
        clock_before_mhz=clocks[0] if during else None,
        clock_after_mhz=clocks[-1] if during else None,
        clock_least_mhz=min((c for c in clocks if c is not None), default=None),
        memory_mb=max((sample.memory_mb for sample in during), default=None),
        power_mode=during[-1].power_mode if during else "",
    )


def _minutes(measured: Measured) -> tuple[Minute, ...]:
    """Minute by minute; what is over the last one by less than a second gets no row of its own."""
    rows = []
    for number in range(math.ceil((measured.seconds - 1) / MINUTE) or 1):
        start, end = number * MINUTE, (number + 1) * MINUTE
        times = measured.between(start, end)
        if not times:
            continue  # one inference took longer than a minute
        said = summarize(times)
        samples = [sample for at, sample in measured.samples if start <= at < end]
        clocks = [sample.clock_mhz for sample in samples if sample.clock_mhz is not None]
        temperatures = (sample.temperature_c for sample in samples if sample.temperature_c is not None)
        words = (word for sample in samples for word in sample.throttled or () if not word.endswith(EARLIER))
        rows.append(
            Minute(
                number=number + 1,
                seconds=min(MINUTE, measured.seconds - start),
                n=said.n,
                p50=said.p50,
                p90=said.p90,
                temperature_c=max(temperatures, default=None),
                clock_mhz=median(clocks) if clocks else None,
                throttled=tuple(dict.fromkeys(words)),
            )
        )
    return tuple(rows)


def _slowdown(measured: Measured) -> Slowdown | None:
    whole = int(measured.seconds)
    window = min(MINUTE, whole // 2)
    first, last = measured.between(0, window), measured.between(whole - window, whole + 1)
    if not window or not first or not last:
        return None
    return Slowdown(ratio=summarize(last).p50 / summarize(first).p50, seconds=window)
