"""One run from start to end: warm up, log, classify until the source ends or somebody asks to stop."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_apps.camera.log import Session, open_log
from edge_apps.camera.loop import Outcome, Result, classify, warm_up
from edge_apps.camera.model import Opened
from edge_apps.camera.sources import Skipped, Source
from edge_apps.camera.stop import Stop
from edge_apps.errors import BadInput, EdgeError
from edge_apps.images import printable
from edge_apps.runtime.device import this_device
from edge_apps.runtime.latency import RecentTimes
from edge_apps.runtime.manifest import sha256_of

SHOWN = 3
"""Labels per frame without ``--top-k``, where the model has so many."""


@dataclass
class Tally:
    """What a run has done so far; what its summary says at the end."""

    frames: int = 0
    skipped: int = 0
    first_fault: str = ""
    seconds: float = 0.0
    ended_by: str = ""
    labels: Counter[str] = field(default_factory=Counter)
    times: RecentTimes = field(default_factory=RecentTimes)

    @property
    def fps(self) -> float:
        """Frames per second of the whole run, whatever the time between them was spent on."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, item: Outcome) -> None:
        """Count one."""
        if isinstance(item, Skipped):
            self.skipped += 1
            self.first_fault = self.first_fault or item.reason
        elif isinstance(item, Result):
            self.frames += 1
            self.labels[item.top[0][0]] += 1
            self.times.add(item.times)


class Output(Protocol):
    """Who tells the user: for people or for programs."""

    def started(self, session: Session, passed_over: tuple[str, ...]) -> None:
        """The model is warm; frames follow. ``passed_over``: better files of the bundle, and why not they."""

    def item(self, item: Outcome, tally: Tally) -> None:
        """One frame is classified, or skipped; ``tally`` counts it already."""

    def finished(self, tally: Tally) -> None:
        """The run ended in order."""

    def close(self) -> None:
        """The run is over, whether in order or not."""


def labels_shown(asked: int | None, labels: int) -> int:
    """How many labels a frame gets; raises ``BadInput`` where more are asked for than there are."""
    if asked is None:
        return min(SHOWN, labels)
    if not 1 <= asked <= labels:
        raise BadInput(f"--top-k is {asked}; this model has {labels} labels: choose 1 to {labels}.")
    return asked


def run(
    source: Source,
    opened: Opened,
    output: Output,
    *,
    warmup: int,
    top_k: int | None = None,
    frames: int | None = None,
    log: Path | None = None,
) -> Tally:
    """Classify ``source`` until it ends, ``frames`` are classified, or SIGINT or SIGTERM comes; then close the model.

    A frame that cannot be used is told, logged, counted and passed over.

    Raises:
        EdgeError: not one frame could be used, or the log could not be written any more.
        BadInput: ``top_k`` exceeds the labels, or ``log`` is not, and cannot become, a log.
    """
    with contextlib.closing(opened.runner) as runner, contextlib.closing(output):
        shown = labels_shown(top_k, len(runner.manifest.labels))
        session = _session(source, opened, warmup)
        tally = Tally()
        with Stop() as stop, _logged(log, session, tally) as record:
            output.started(session, opened.passed_over)
            start = time.perf_counter()
            for item in classify(source, runner, shown):
                tally.add(item)
                tally.seconds = time.perf_counter() - start
                record(item)
                output.item(item, tally)
                tally.ended_by = stop.reason or ("frames" if tally.frames == frames else "")
                if tally.ended_by:
                    break
            else:
                tally.ended_by = "end of source"
        if not tally.frames and not stop.reason:
            raise EdgeError(_nothing(source, tally))
        output.finished(tally)
    return tally


@contextlib.contextmanager
def _logged(path: Path | None, session: Session, tally: Tally) -> Iterator[Callable[[Outcome], None]]:
    """Where each item is recorded: the log, which learns at the end how the run ended, or nowhere."""
    if path is None:
        yield lambda item: None  # noqa: ARG005
        return
    with open_log(path) as log:
        log.begin(session)
        try:
            yield log.add
        except BaseException as error:
            log.end(f"{type(error).__name__}: {error}")
            raise
        log.end(tally.ended_by)


def _session(source: Source, opened: Opened, warmup: int) -> Session:
    runner = opened.runner
    manifest = runner.manifest
    return Session(
        device=this_device(),
        runtime=runner.runtime,
        threads=runner.threads,
        model=manifest.model,
        file=printable(runner.path.name),
        sha256=sha256_of(runner.path),
        target=manifest.target,
        precision=manifest.precision,
        input=f"{manifest.preprocess.height}×{manifest.preprocess.width}",
        source=source.text,
        load_ms=opened.load_ms,
        first_ms=warm_up(runner, warmup),
        warmup=warmup,
    )


def _nothing(source: Source, tally: Tally) -> str:
    if not tally.skipped:
        return f"'{source.text}' gave no frame: it is empty or cannot be decoded."
    return f"None of the {tally.skipped} frames of '{source.text}' could be used. The first: {tally.first_fault}"
