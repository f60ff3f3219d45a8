"""What is known of a running camera, between the frame loop that knows it and any number of viewers who ask.

The loop hands over references and goes on: it never encodes, counts percentiles, takes a lock that a viewer holds, or
waits. Two threads do the rest, one for the picture (``preview.py``) and one for the figures (``recent.py``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from edge_apps import __version__
from edge_apps.camera.inference.loop import Result, Top
from edge_apps.camera.live.overlay import captioned
from edge_apps.camera.live.preview import Preview
from edge_apps.camera.live.recent import POINTS, STEP, Histogram, Recent
from edge_apps.camera.live.schema import Facts, Happening, Health, Label, Labels, LogState, State
from edge_apps.camera.sources.parse import STALE_AFTER, Event, Skipped
from edge_apps.errors import first_line
from edge_apps.images import Image
from edge_apps.runtime.latency import STAGES
from edge_apps.runtime.sensors import Sample

if TYPE_CHECKING:
    from edge_apps.camera.inference.session import Session

EVENTS = 50
"""Happenings that are kept."""

RESTARTED = "restarted"
"""Kind of event that is counted as a restart of the source."""


@dataclass(frozen=True)
class Shown:
    """One frame and what is said of it."""

    result: Result
    at: float  # time.monotonic when it was published
    frames: int  # how many were published, this one included


class LiveState:
    """Use it as a context manager: its threads work inside the block.

    ``publish``, ``event`` and ``sample`` are cheap and never raise or block. Everything else may be called from any
    thread.
    """

    def __init__(self, facts: Facts, *, stale_after: float = STALE_AFTER) -> None:
        self._facts = facts
        self._stale_after = stale_after
        self._born = time.monotonic()
        self._shown: Shown | None = None
        self._frames = 0
        self._fps = 0.0  # as of the last look, so that drawing a frame counts nothing
        self._log = LogState()
        self._lock = threading.Lock()  # of the three below; held for microseconds
        self._events: deque[Happening] = deque(maxlen=EVENTS)
        self._kinds: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._sample: Sample | None = None
        self._samples: deque[Sample] = deque(maxlen=POINTS)
        self._recent = Recent()
        self.preview: Preview[Shown] = Preview(self._draw, self._cannot_draw)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect_every_second, name="live figures", daemon=True)

    def __enter__(self) -> LiveState:
        self.preview.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.preview.stop()
        self._stop.set()
        self._thread.join()

    # For the frame loop.

    def publish(self, result: Result) -> None:
        """One classified frame. Its image must not change any more: it is not copied."""
        self._frames += 1
        shown = Shown(result, time.monotonic(), self._frames)
        self._shown = shown
        self._recent.add(result.times)
        self.preview.offer(shown)

    def event(self, item: Event | Skipped) -> None:
        """Something that happened. What happens again and again in a row is one happening that counts its times."""
        with self._lock:
            counts = self._skipped if isinstance(item, Skipped) else self._kinds
            counts[item.kind] += 1
            times = 1
            if self._events and self._events[-1].kind == item.kind:
                times += self._events.pop().times
            self._events.append(Happening(item.at, item.kind, item.reason, times))

    def sample(self, sample: Sample) -> None:
        """What the sensors say; one in ``STEP`` seconds is kept for the last minutes."""
        with self._lock:
            self._sample = sample
            if not self._samples or not 0 <= sample.at - self._samples[-1].at < STEP:
                self._samples.append(sample)

    # For the program around it.

    def log(self, state: LogState) -> None:
        """How the latency log fares from now on."""
        self._log = state

    def switched(self, facts: Facts) -> None:
        """Another model runs from now on."""
        self._facts = facts

    # For those who look.

    def health(self) -> Health:
        """Whether frames flow, and if not, why."""
        shown = self._shown
        silent = time.monotonic() - (shown.at if shown else self._born)
        if silent > self._stale_after:
            return Health(False, f"no frame for {silent:.0f} s")
        return Health(True, "") if shown else Health(False, "no frame yet")

    def labels(self) -> Labels | None:
        """What the latest frame shows; None before the first."""
        shown = self._shown
        return None if shown is None else labels_of(shown)

    def state(self) -> State:
        """Everything, as it is now."""
        self._measure()
        with self._lock:
            events, samples, sample = tuple(self._events), tuple(self._samples), self._sample
            skipped, restarts = self._skipped.total(), self._kinds[RESTARTED]
        shown, now = self._shown, time.time()
        return State(
            at=now,
            started=now - (time.monotonic() - self._born),
            health=self.health(),
            facts=self._facts,
            frames=self._frames,
            skipped=skipped,
            restarts=restarts,
            viewers=self.preview.viewers,
            fps=self._fps,
            labels=self.labels(),
            decoded_elsewhere=shown is not None and _is_decoded_elsewhere(shown.result),
            latency=self._recent.now(),
            history=self._recent.history(),
            sample=sample,
            samples=samples,
            events=events,
            log=self._log,
        )

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Events, and skipped frames, by kind."""
        with self._lock:
            return dict(self._kinds), dict(self._skipped)

    def histograms(self) -> dict[str, Histogram]:
        """Every frame since the start, by stage."""
        self._recent.collect()
        return self._recent.histograms()

    def _collect_every_second(self) -> None:
        while not self._stop.wait(1.0):
            with contextlib.suppress(Exception):  # figures may miss a second; they may not end with it
                self._measure()

    def _measure(self) -> None:
        self._recent.collect()
        self._fps = self._recent.fps()

    def _draw(self, shown: Shown) -> Image:
        result = shown.result
        # The number first: what does not fit is cut at the end, and a part of a number would be another one.
        note = f"frame {result.sequence:,}   {milliseconds(result.times['age'] / 1e6)}   {self._fps:.1f} fps"
        assert result.image is not None  # the loop's results have one
        return captioned(result.image, _caption(result), note)

    def _cannot_draw(self, error: Exception) -> None:
        reason = f"The picture cannot be shown: {type(error).__name__}: {first_line(error)}."
        self.event(Event(time.time(), "no-picture", reason))


def facts_of(session: Session) -> Facts:
    """What of a session is shown."""
    return Facts(
        **msgspec.structs.asdict(session),
        hardware=str(session.device),
        fingerprint=session.device.fingerprint,
        program=__version__,
    )


def labels_of(shown: Shown) -> Labels:
    """Return what one frame shows, as the page and ``/api/state`` say it."""
    result = shown.result
    return Labels(
        sequence=result.sequence,
        frames=shown.frames,
        name=result.name,
        captured_at=result.captured_at,
        top=_labels(result.shown),
        raw=_labels(result.top),
        decision=result.decision,
        infer_ms=result.times["infer"] / 1e6,
        total_ms=result.times["total"] / 1e6,
        age_ms=result.times["age"] / 1e6,
    )


def milliseconds(value: float) -> str:
    """Return a time of one frame as the page writes it, too: three digits."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} ms"


def _is_decoded_elsewhere(result: Result) -> bool:
    """Whether its stages are more than their total: decoding alone may be missing there."""
    return sum(result.times[stage] for stage in STAGES if stage not in ("total", "age")) > result.times["total"]


def _caption(result: Result) -> Top:
    """The labels that are shown, as the terminal says them: below the threshold the best one is no answer."""
    (label, probability), *others = result.shown
    return ((label if result.decision is not None else f"unsure: {label}", probability), *others)


def _labels(top: Top) -> tuple[Label, ...]:
    return tuple(Label(label, probability) for label, probability in top)
