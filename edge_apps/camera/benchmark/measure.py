"""How fast a model runs here: one stream, batch 1, one inference after the other, as the frame loop does them.

The pictures are read before and held in memory, so that neither a disk nor a decoder is measured; each is preprocessed,
inferred and postprocessed like a camera's frame, and each of these stages is timed. What the figures mean, and when
they are flagged, is in ``report.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import msgspec

from edge_apps.camera.capture.frames import Frame
from edge_apps.camera.inference.loop import Classifier, Result, classified, prepared
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.inference.session import Session, session_of
from edge_apps.camera.log import Log
from edge_apps.camera.log.devices import no_stored_id
from edge_apps.camera.log.quantities import parse_span
from edge_apps.camera.log.sink import LogOptions, log_until_end
from edge_apps.camera.sources.parse import Event, Skipped, Source
from edge_apps.errors import BadInput, EdgeError
from edge_apps.images import Image
from edge_apps.runtime.identity import identify
from edge_apps.runtime.latency import RecentTimes, StageClock
from edge_apps.runtime.sensors import Sample, Sampler, Sensors
from edge_apps.stop import Stop

BURST_INFERENCES, BURST_SECONDS = 1024, 60.0
"""A burst goes on until both are reached."""

LONGEST = 24 * 3600.0
"""Seconds of a sustained run: every inference's time is kept, 8 bytes each."""

CALM_WINDOW, CALM_WITHIN, CALM_LEAST, CALM_PATIENCE = 32, 0.02, 1.0, 30.0
"""The warm-up ends when the median of 32 inferences is within 2 % of that of the 32 before, but not within its first
second, in which a governor may still raise the clock. After 30 s it ends anyway, and the report says so."""

SUSTAINED_SECONDS = 120.0
"""From here on a sustained run has a first and a last minute."""

PICTURES, PICTURE_BYTES = 32, 128_000_000
"""At most so many pictures, and so many bytes of them, are held in memory; at least one."""

PICTURES_WITHIN = 30.0
"""Seconds for a camera to give them; it then has to do with those that came. A camera takes 15 at most to wake up."""

NS = 1_000_000_000

Clock = Callable[[], int]
"""Nanoseconds that never jump: ``time.perf_counter_ns``, or a test's own."""

Watch = Callable[[Callable[[Sample], None]], contextlib.AbstractContextManager[object]]
"""Gives samples of the machine's state while its ``with`` block runs."""


@dataclass(frozen=True)
class Plan:
    """How long to measure: until ``inferences`` and ``seconds`` are both reached."""

    seconds: float = BURST_SECONDS
    inferences: int = BURST_INFERENCES
    sustained: bool = False

    @property
    def keeps_the_protocol(self) -> bool:
        """Whether the run is long enough to be compared with others."""
        if self.sustained:
            return self.seconds >= SUSTAINED_SECONDS
        return self.seconds >= BURST_SECONDS and self.inferences >= BURST_INFERENCES


class Warmup(msgspec.Struct, frozen=True):
    """What went before the measurement, the cold inference among it."""

    inferences: int
    seconds: float
    settled: bool


@dataclass
class Measured:
    """Raw figures. ``infer_ns`` holds every inference; ``marks[s]`` how many had ended when second ``s`` began.

    ``samples`` go with the seconds since the start at which they were taken, negative during the warm-up.
    """

    warmup: Warmup = field(default_factory=lambda: Warmup(0, 0.0, False))
    infer_ns: array[int] = field(default_factory=lambda: array("q"))
    marks: list[int] = field(default_factory=list)
    stages: RecentTimes = field(default_factory=RecentTimes)
    samples: list[tuple[float, Sample]] = field(default_factory=list)
    seconds: float = 0.0
    stopped_by: str | None = None
    is_over: bool = False
    log_fault: EdgeError | None = None  # the log's last rows are lost; what was measured is not

    def add(self, times: dict[str, int], ended_ns: int) -> None:
        """One inference more, ``ended_ns`` after the start."""
        while len(self.marks) <= ended_ns // NS:
            self.marks.append(len(self.infer_ns))
        self.infer_ns.append(times["infer"])
        self.stages.add(times)
        self.seconds = ended_ns / NS

    def between(self, start: float, end: float) -> array[int]:
        """Inference times of those that ended from second ``start`` until before ``end``."""
        first, last = (self.marks[int(s)] if s < len(self.marks) else len(self.infer_ns) for s in (start, end))
        return self.infer_ns[first:last]


class Output(Protocol):
    """Who tells the user how it goes."""

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        """The model is loaded; the warm-up follows."""

    def measuring(self, warmup: Warmup, plan: Plan) -> None:
        """The warm-up is over."""

    def skipped(self, item: Skipped) -> None:
        """A picture of the source cannot be used."""

    def told(self, event: Event) -> None:
        """Something happened to the source, or to the log, which tells it in a thread of its own."""

    def going(self, measured: Measured, plan: Plan) -> None:
        """Called after each inference, in no stage's time."""

    def close(self) -> None:
        """The measurement is over."""


def plan_of(burst: bool, sustained: str | None, seconds: float | None, inferences: int | None) -> Plan:
    """What the options of the command line mean together.

    Raises:
        BadInput: options that contradict each other, or a duration that is none.
    """
    if seconds is not None and not 0 <= seconds <= LONGEST:  # also where it is no number
        raise BadInput(f"`seconds` is {seconds:g}; choose 0 to {LONGEST:,.0f}.")
    if sustained is None:
        return Plan(
            seconds=BURST_SECONDS if seconds is None else seconds,
            inferences=BURST_INFERENCES if inferences is None else inferences,
        )
    if burst:
        raise BadInput("`burst` and `sustained` are two different benchmarks: choose one.")
    if seconds is not None or inferences is not None:
        raise BadInput(f"`seconds` and `inferences` belong to a burst; `sustained` lasts {sustained}. Leave them out.")
    span = parse_span(sustained)
    if not 0 < span <= LONGEST:
        raise BadInput(f"`sustained` is {sustained}; choose a span above 0 and up to {LONGEST / 3600:.0f}h.")
    return Plan(seconds=span, inferences=1, sustained=True)


def sampled(take: Callable[[Sample], None]) -> Sampler:
    """The real machine's state, once a second."""
    return Sampler(Sensors(), take)


def benchmark(
    source: Source,
    opened: Opened,
    plan: Plan,
    output: Output,
    *,
    log: Path | None = None,
    device_name: str | None = None,
    clock: Clock = time.perf_counter_ns,
    watch: Watch = sampled,
) -> tuple[Session, Measured]:
    """Warm up until the machine settles, measure as long as ``plan`` says, and close the model.

    SIGINT or SIGTERM ends it in order with what there is; ``Measured.stopped_by`` then names it. With ``log``, every
    measured inference and sample is appended to that latency log, as a session of its own; a log that fails stops
    nothing, and ``Measured.log_fault`` says what was lost. ``device_name`` is what the log calls this device; the host
    name where it is None.

    Raises:
        EdgeError: the source gave no picture, or the network no numbers. BadInput: no log can be at ``log``.
    """
    with contextlib.closing(opened.runner), contextlib.closing(output), Stop() as stop:
        pictures = _pictures(source, output, stop)
        classifier = Classifier(opened, top_k=1)
        classifier.warm_up(1)
        identity = identify(device_name)
        known = session_of(source, opened, identity, warmup=classifier.warmup, first_ms=classifier.first_ms)
        session = msgspec.structs.replace(known, source=f"benchmark of {source.text}")
        output.started(session, opened.passed_over)
        if identity.fault:
            output.told(no_stored_id(identity))
        stream, seen, measured = Stream(classifier, pictures, clock), Seen(clock), Measured()
        start = clock()
        try:
            with watch(seen), _opened(log, measured, output) as written:
                measured.warmup = _settle(stream, stop)
                session = msgspec.structs.replace(session, warmup=measured.warmup.inferences)
                if written is not None:
                    written.begin(session)
                seen.log = written
                if not stop.reason:
                    output.measuring(measured.warmup, plan)
                start = clock()
                _measure(stream, plan, measured, stop, written, output, start)
        except EdgeError as error:
            if not measured.is_over:
                raise
            measured.log_fault = error
        measured.samples = [((at - start) / NS, sample) for at, sample in seen.samples]
        return session, measured


class Seen:
    """Every sample of the machine's state with the moment it was taken; also for the log, while there is one."""

    def __init__(self, clock: Clock) -> None:
        self.samples: list[tuple[int, Sample]] = []
        self.log: Log | None = None
        self._clock = clock

    def __call__(self, sample: Sample) -> None:
        """Take one."""
        self.samples.append((self._clock(), sample))
        if self.log is not None:
            self.log.sample(sample)


class Stream:
    """The same pictures over and over, one inference each, in the frame loop's own stages."""

    def __init__(self, classifier: Classifier, pictures: list[tuple[str, Image]], clock: Clock) -> None:
        self._classifier, self.clock = classifier, clock
        self._pictures = itertools.cycle(pictures)
        self._count = itertools.count()

    def next(self) -> Result:
        """Classify one picture, as old as this call."""
        name, image = next(self._pictures)
        frame = Frame(next(self._count), name, time.time(), self.clock(), 0, image)
        clock = StageClock(self.clock)
        for before in ("capture", "decode"):
            clock.elsewhere(0, before)
        result = classified(prepared(frame, self._classifier, clock))
        if isinstance(result, Skipped):
            raise EdgeError(f"{result.reason} Export it again.")
        return result


def _pictures(source: Source, output: Output, stop: Stop) -> list[tuple[str, Image]]:
    """The first pictures of a source, as many as fit; their own copies, because a camera uses its memory again."""
    pictures: list[tuple[str, Image]] = []
    room = PICTURE_BYTES
    late = time.monotonic() + PICTURES_WITHIN
    source.stop = lambda: stop.reason is not None or time.monotonic() > late
    items = iter(source)
    try:
        for item in items:
            if isinstance(item, Skipped):
                output.skipped(item)
            elif isinstance(item, Event):
                output.told(item)
            else:
                room -= item.image.nbytes
                if room < 0 and pictures:
                    break
                pictures.append((item.name, item.image.copy()))
            if len(pictures) == PICTURES or stop.reason:
                break
    finally:
        close = getattr(items, "close", None)
        if close:
            close()
    if pictures:
        return pictures
    why = "there is nothing to measure with"
    if stop.reason:
        why = f"stopped by {stop.reason}"
    elif time.monotonic() > late:
        why = f"none came within {PICTURES_WITHIN:g} s"
    raise EdgeError(f"'{source.text}' gave no picture that can be used: {why}.")


def _settle(stream: Stream, stop: Stop) -> Warmup:
    clock = stream.clock
    start = clock()
    before, count = 0.0, 1  # the cold one
    settled = False
    while not settled and not stop.reason and clock() - start < CALM_PATIENCE * NS:
        times: list[int] = []
        while len(times) < CALM_WINDOW and not stop.reason and clock() - start < CALM_PATIENCE * NS:
            times.append(stream.next().times["infer"])
        count += len(times)
        now = median(times or [0])
        agrees = len(times) == CALM_WINDOW and abs(now - before) <= CALM_WITHIN * before
        settled = agrees and clock() - start >= CALM_LEAST * NS
        before = now
    return Warmup(count, (clock() - start) / NS, settled)


def _measure(
    stream: Stream,
    plan: Plan,
    measured: Measured,
    stop: Stop,
    log: Log | None,
    output: Output,
    start: int,
) -> None:
    while not stop.reason:
        result = stream.next()
        measured.add(result.times, stream.clock() - start)
        if log is not None:
            log.add(result)
        output.going(measured, plan)
        if len(measured.infer_ns) >= plan.inferences and measured.seconds >= plan.seconds:
            break
    else:
        measured.stopped_by = stop.reason
    measured.is_over = True


@contextlib.contextmanager
def _opened(path: Path | None, measured: Measured, output: Output) -> Iterator[Log | None]:
    """Open where inferences are recorded, if anywhere; its session records how the measurement ended."""
    if path is None:
        yield None
        return
    with log_until_end(LogOptions(path), lambda: measured.stopped_by or "end of benchmark", output.told) as sink:
        yield sink.log
