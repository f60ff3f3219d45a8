"""One run from start to end: warm up, log, classify until the source ends or somebody asks to stop."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from edge_apps.camera.inference.loop import Classifier, Outcome, Result, classify
from edge_apps.camera.inference.model import Opened
from edge_apps.camera.inference.model_watcher import Models, State, Watcher
from edge_apps.camera.inference.session import Session, session_of
from edge_apps.camera.inference.sink import Sink
from edge_apps.camera.inference.smoothing import Smoother, Unsmoothed
from edge_apps.camera.inference.snapshot import SnapshotOptions, Snapshots, check_labels
from edge_apps.camera.log.devices import no_stored_id
from edge_apps.camera.log.sink import LogOptions, log_until_end
from edge_apps.camera.service.systemd_notify import notified
from edge_apps.camera.sources.parse import STALE_AFTER, Event, Skipped, Source
from edge_apps.camera.web.sink import WebOptions, served_page
from edge_apps.errors import BadInput, EdgeError, first_line
from edge_apps.runtime.identity import Identity, identify
from edge_apps.runtime.latency import RecentTimes
from edge_apps.runtime.sensors import Sample, Sampler, Sensors
from edge_apps.stop import Stop

S = TypeVar("S", bound=Sink)

SHOWN = 3
"""Labels per frame without ``--top-k``, where the model has so many."""


@dataclass(frozen=True)
class Watch:
    """Where the model lies, how it is opened again when that changes, and how it was there when it was opened."""

    path: Path
    open_again: Callable[[], Opened]
    seen: State


@dataclass(frozen=True)
class Options:
    """How a run classifies, and what it leaves behind."""

    warmup: int = 5
    top_k: int | None = None
    threshold: float = 0.0
    smoothing: Callable[[], Smoother] = Unsmoothed
    frames: int | None = None
    pipelined: bool = False
    settings: str = ""
    """Of source and loop, in words: runs that differ in them are not pooled by the log."""
    device_name: str | None = None
    """What the log and the page call this device; None takes the host name."""
    log: LogOptions | None = None
    web: WebOptions | None = None
    snapshots: SnapshotOptions | None = None
    watch: Watch | None = None
    stale_after: float = STALE_AFTER
    """Seconds without a frame after which the live page reports that no frames come."""


@dataclass
class Tally(Sink):
    """Count what a run has done so far; its summary says it at the end.

    ``seconds`` are those since its start; ``first`` and ``last`` when the first and the last frame were classified.
    """

    frames: int = 0
    skipped: int = 0
    first_fault: str = ""
    seconds: float = 0.0
    first: float = 0.0
    last: float = 0.0
    ended_by: str = ""
    labels: Counter[str] = field(default_factory=Counter)
    times: RecentTimes = field(default_factory=RecentTimes)

    @property
    def fps(self) -> float | None:
        """Throughput of the whole run as in the log: intervals between frames over their time; None for one frame."""
        return (self.frames - 1) / (self.last - self.first) if self.last > self.first else None

    def add(self, item: Outcome) -> None:
        if isinstance(item, Skipped):
            self.skipped += 1
            self.first_fault = self.first_fault or item.reason
        elif isinstance(item, Result):
            self.first = self.first if self.frames else self.seconds
            self.last = self.seconds
            self.frames += 1
            if item.decision is not None:
                self.labels[item.decision] += 1
            self.times.add(item.times)


class Output(Protocol):
    """Who tells the user: for people or for programs."""

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        """The model is warm; frames follow. ``passed_over``: better files of the bundle, and why not they."""

    def serving(self, url: str) -> None:
        """The live page is at ``url``, which may hold its token: to be shown once."""

    def item(self, item: Outcome, tally: Tally) -> None:
        """One frame is classified, or skipped, or something happened; ``tally`` counts it already."""

    def finished(self, tally: Tally) -> None:
        """The run ended in order."""

    def close(self) -> None:
        """The run is over, whether in order or not."""


def labels_shown(asked: int | None, labels: int) -> int:
    """Return how many labels a frame gets; raises ``BadInput`` where more are asked for than there are."""
    if asked is None:
        return min(SHOWN, labels)
    if not 1 <= asked <= labels:
        raise BadInput(f"`top_k` is {asked}; this model has {labels} labels: choose 1 to {labels}.")
    return asked


def run(source: Source, opened: Opened, output: Output, options: Options) -> Tally:
    """Classify ``source`` until it ends, enough frames are done, or SIGINT or SIGTERM comes; then close the model.

    A frame that cannot be used is told, logged, counted and passed over.

    Raises:
        EdgeError: not one frame could be used, or the log could not be written any more.
        BadInput: options that do not fit the model, or a log that is not, and cannot become, one.
    """
    identity = identify(options.device_name)
    with contextlib.closing(output):
        return _Run(source, output, options, identity, _warmed(source, opened, options, identity)).go()


class _ToUser(Sink):
    """Tell the user; ``tally`` has counted each item before."""

    def __init__(self, output: Output, tally: Tally) -> None:
        self._output, self._tally = output, tally

    def begin(self, classifier: Classifier) -> None:
        self._output.started(classifier.session, classifier.opened.passed_over)

    def add(self, item: Outcome) -> None:
        self._output.item(item, self._tally)


class _Run:
    """Run the loop between a source and the sinks."""

    def __init__(self, source: Source, output: Output, options: Options, identity: Identity, first: Classifier) -> None:
        self._source, self._output, self._options = source, output, options
        self._identity = identity  # the same for every model of the run, also where it could not be stored
        self._classifier = first
        self._models = Models(first)
        self._tally = Tally()
        self._sinks: list[Sink] = [self._tally, _ToUser(output, self._tally)]
        self._told: queue.SimpleQueue[Event] = queue.SimpleQueue()
        if identity.fault:
            self._told.put(no_stored_id(identity))
        self._is_ending = False

    def go(self) -> Tally:
        tally = self._tally
        try:
            with Stop() as stop, self._opened():
                self._source.stop = lambda: self._asked_to_end(stop)
                for item in self._items(stop):
                    self._take(item)
        except EdgeError:
            if tally.frames:
                self._output.finished(tally)  # what was classified is told, whatever became of the log
            raise
        else:
            if not tally.frames and not stop.reason:
                raise EdgeError(_nothing(self._source, tally))
            self._output.finished(tally)
        finally:
            self._models.close()
            self._classifier.runner.close()
        return tally

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        """Open every sink and what else runs beside the loop; all are ended in order, whatever ends the run."""
        options, tell, first = self._options, self._told.put, self._classifier
        with contextlib.ExitStack() as stack:

            def add(opening: AbstractContextManager[S]) -> S:
                sink = stack.enter_context(opening)
                sink.begin(first)
                self._sinks = [*self._sinks[:-1], sink, self._sinks[-1]]  # the user is told last
                return sink

            stack.callback(self._hear_the_last)  # of the log, too, when it is closed
            log = None
            if options.log is not None:
                log = add(log_until_end(options.log, lambda: self._tally.ended_by, tell)).log
            self._sinks[-1].begin(first)
            if options.web is not None:
                serving, stale_after = self._output.serving, options.stale_after
                add(served_page(options.web, first, log, tell, serving, stale_after=stale_after))
            stack.callback(self._hear_the_last)  # when the parts below have ended, and the log is still open
            if options.snapshots is not None:
                add(Snapshots(options.snapshots, tell))
            if options.watch is not None:
                watch = options.watch
                stack.enter_context(
                    Watcher(
                        watch.path,
                        lambda: _warmed(self._source, watch.open_again(), options, self._identity),
                        self._models.offer,
                        tell,
                        seen=watch.seen,
                    )
                )
            if options.log is not None or options.web is not None:
                stack.enter_context(Sampler(Sensors(), self._sampled, failed=lambda error: tell(_no_sample(error))))
            add(notified())
            yield

    def _items(self, stop: Stop) -> Iterator[Outcome]:
        """Yield what the loop gives, and between it what other threads told, until it is time to end."""
        tally, start = self._tally, time.perf_counter()
        items = classify(
            self._source,
            self._models.take,
            pipelined=self._options.pipelined,
            switched=self._switched,
            waiting=self._alive,
        )
        try:
            for item in items:
                yield from self._heard()
                tally.seconds = time.perf_counter() - start
                yield item
                tally.ended_by = stop.reason or ("frames" if tally.frames == self._options.frames else "")
                if tally.ended_by:
                    return
            tally.ended_by = stop.reason or "end of source"
        finally:
            self._is_ending = True  # a source that waits for its next frame in another thread gives up
            items.close()

    def _heard(self) -> Iterator[Event]:
        """Yield what other threads told meanwhile."""
        while not self._told.empty():
            yield self._told.get()

    def _hear_the_last(self) -> None:
        for event in self._heard():
            self._take(event)

    def _asked_to_end(self, stop: Stop) -> bool:
        """Answer the source, which asks while it waits: the loop turns, though there is no frame."""
        if not self._options.pipelined:  # else another thread asks, which says nothing about the loop
            self._alive()
        return self._is_ending or stop.reason is not None

    def _alive(self) -> None:
        for sink in self._sinks:
            sink.alive()

    def _take(self, item: Outcome) -> None:
        for sink in self._sinks:
            sink.add(item)

    def _sampled(self, sample: Sample) -> None:
        for sink in self._sinks:
            sink.sample(sample)

    def _switched(self, classifier: Classifier) -> None:
        """Begin with another model, whose first frame is next."""
        self._classifier.runner.close()
        self._classifier = classifier
        self._told.put(Event(time.time(), "model-changed", f"The model is '{classifier.runner.path.name}' now."))
        for sink in self._sinks:
            sink.begin(classifier)


def _no_sample(error: Exception) -> Event:
    reason = f"The machine's state could not be sampled: {type(error).__name__}: {first_line(error)}. (Told once.)"
    return Event(time.time(), "no-sample", reason)


def _warmed(source: Source, opened: Opened, options: Options, identity: Identity) -> Classifier:
    """Return a model, the first or one that takes its place, as the loop runs it; close it where it does not fit."""
    try:
        labels = opened.runner.manifest.labels
        if options.snapshots is not None:
            check_labels(options.snapshots.labels, labels)
        shown = labels_shown(options.top_k, len(labels))
        classifier = Classifier(opened, top_k=shown, threshold=options.threshold, smoother=options.smoothing())
        classifier.warm_up(options.warmup)
        classifier.session = session_of(
            source,
            opened,
            identity,
            warmup=classifier.warmup,
            first_ms=classifier.first_ms,
            settings=options.settings,
        )
    except BaseException:
        opened.runner.close()
        raise
    return classifier


def _nothing(source: Source, tally: Tally) -> str:
    if not tally.skipped:
        return f"'{source.text}' gave no frame: it is empty or cannot be decoded."
    return f"None of the {tally.skipped} frames of '{source.text}' could be used. The first: {tally.first_fault}"
