"""The latency log as a sink of a run: a session for each model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_apps.camera.inference.loop import Classifier, Outcome
from edge_apps.camera.inference.sink import Sink
from edge_apps.camera.log.writer import Log, open_log
from edge_apps.camera.sources.parse import Event
from edge_apps.runtime.sensors import Sample


@dataclass(frozen=True)
class LogOptions:
    """Where the latency log is, and its caps: bytes of the file, seconds that a frame's row is kept."""

    path: Path
    max_bytes: int | None = None
    max_age: float | None = None


class LogSink(Sink):
    """Append what a run gives to an open log."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._has_session = False

    def begin(self, classifier: Classifier) -> None:
        if self._has_session:  # what was measured of the model before is complete
            self.log.end("another model")
        self._has_session = True
        self.log.begin(classifier.session)

    def add(self, item: Outcome) -> None:
        self.log.add(item)

    def sample(self, sample: Sample) -> None:
        self.log.sample(sample)


@contextlib.contextmanager
def log_until_end(options: LogOptions, ended_by: Callable[[], str], tell: Callable[[Event], None]) -> Iterator[LogSink]:
    """Open a log whose last session records how the block ended: by an error, else as ``ended_by`` says.

    Raises what ``open_log`` raises.
    """
    with open_log(options.path, max_bytes=options.max_bytes, max_age=options.max_age, tell=tell) as log:
        try:
            yield LogSink(log)
        except BaseException as error:
            log.end(f"{type(error).__name__}: {error}")
            raise
        log.end(ended_by())
