"""A live source: the latest frame of a camera, and what is done when there is none.

A process of its own captures. When it ends, or gives no frame for so long that it must hang, it is killed and started
again, each time later; until a fresh frame is there, nothing is given but ``Event``:

======== ==========================================================================
lost     the camera, the stream or the process ended, or was not there to begin with
hung     no frame for ``patience`` seconds
restarted another attempt begins; why the one before failed
back     a frame again, after how long and how many attempts
resized  frames of another size from here on
differs  the camera does not do what was asked of it
======== ==========================================================================
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from edge_apps.camera.capture.frame_slot import Shared
from edge_apps.camera.capture.frames import POLL, Event, Frame, Item, Skipped, never, waited
from edge_apps.camera.capture.messages import Request, Said
from edge_apps.camera.capture.process import CaptureProcess
from edge_apps.errors import EdgeError

SHORTEST, LONGEST = 0.5, 30.0
"""Seconds between two attempts."""

STEADY = 10.0
"""Seconds of frames after which a camera counts as well again, and the next attempt comes soon."""

START = 15.0
"""Seconds that a process gets for its first frame, ``patience`` included if that is less: a camera wakes up slowly."""


class Backoff:
    """How long to wait before the next attempt: twice as long each time, and never quite the same."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        """Seconds, at random from the upper half of 1, 2, 4, … 30: many devices do not ask one camera at once."""
        most = min(LONGEST, SHORTEST * 2 ** (self._failures + 1))
        self._failures = min(self._failures + 1, 16)
        return self._uniform(most / 2, most)

    def reset(self) -> None:
        """All is well again."""
        self._failures = 0


@dataclass
class Outage:
    """The time without frames: since when, and how many attempts it took so far."""

    since: float
    attempts: int = 0


class LiveSource:
    """Frames of a camera, always the latest and none twice.

    ``request`` is asked before each attempt, and may raise ``EdgeError`` where there is nothing to try. ``text`` is
    what people read: without a password.
    """

    has_names = False
    length = None

    def __init__(self, text: str, request: Callable[[], Request]) -> None:
        self.text = text
        self.stop: Callable[[], bool] = never
        self._request = request

    def __iter__(self) -> Generator[Item, None, None]:
        return _Watch(self.text, self._request, lambda: self.stop()).items()  # stop may be set later


class _Watch:
    """One iteration over a live source."""

    def __init__(self, text: str, request: Callable[[], Request], stop: Callable[[], bool]) -> None:
        self._text, self._request, self._stop = text, request, stop
        self._backoff = Backoff()
        self._outage: Outage | None = None
        self._sequence = 0
        self._size: tuple[int, int] | None = None

    def items(self) -> Generator[Item, None, None]:
        """Attempt after attempt."""
        while not self._stop():
            fault = yield from self._attempt()
            if fault is None:
                return
            delay = self._backoff.next()
            if self._outage is None:
                self._outage = Outage(time.monotonic())
                trouble = "hung" if fault.kind == "hung" else "was lost" if self._sequence else "cannot be reached"
                yield Event(fault.at, fault.kind, f"{self._text} {trouble}: {fault.reason}. Again in {delay:.1f} s.")
            if not waited(delay, self._stop):
                return
            self._outage.attempts += 1
            tried = "" if self._outage.attempts == 1 else f", since the one before failed: {fault.reason}"
            yield Event(time.time(), "restarted", f"{self._text}: attempt {self._outage.attempts}{tried}.")

    def _attempt(self) -> Generator[Item, None, Said | None]:
        """Until it fails, and how; None where the source shall stop."""
        try:
            request = self._request()
            process = CaptureProcess(request)
        except (EdgeError, OSError) as error:
            return _fault("lost", str(error).rstrip("."))
        try:
            return (yield from self._frames(process, request.patience))
        finally:
            process.close()

    def _frames(self, process: CaptureProcess, patience: float) -> Generator[Item, None, Said | None]:
        last, began = 0, time.perf_counter_ns()
        deadline = began + int(max(START, patience) * 1e9)
        seconds, well_since = 0.0, None
        while not self._stop():
            for said in process.listen(seconds):
                if said.kind in ("lost", "hung"):
                    return said
                yield self._told(said)
            if not process.is_alive:
                return _fault("lost", process.how_it_ended())
            shared = process.newest(last)
            now = time.perf_counter_ns()
            if shared is not None and now - shared.born_ns < patience * 1e9:  # an older one is of another time
                last, deadline = shared.sequence, shared.born_ns + int(patience * 1e9)
                well_since = well_since or now
                if now - well_since > STEADY * 1e9:
                    self._backoff.reset()
                yield from self._events_before(shared)
                yield self._frame(shared)
                seconds = 0.0  # the next one may be there already
            elif now > deadline:
                return _fault("hung", f"no frame for {max(patience, (now - began) / 1e9 if not last else 0):.1f} s")
            else:
                seconds = POLL
        return None

    def _events_before(self, shared: Shared) -> Generator[Event, None, None]:
        if self._outage is not None:
            seconds, attempts = time.monotonic() - self._outage.since, self._outage.attempts
            self._outage = None
            yield Event(time.time(), "back", f"{self._text} is back after {seconds:.1f} s, at attempt {attempts}.")
        height, width = shared.image.shape[:2]
        if self._size not in (None, (width, height)):
            before = "x".join(map(str, self._size or ()))
            yield Event(time.time(), "resized", f"{self._text} gives {width}x{height} from here on, before {before}.")
        self._size = width, height

    def _frame(self, shared: Shared) -> Frame:
        number = self._next_number()
        return Frame(
            number, f"frame#{number}", shared.captured_at, shared.born_ns, shared.decode_ns, shared.image, True
        )

    def _told(self, said: Said) -> Skipped | Event:
        if said.kind == "corrupt":
            number = self._next_number()
            return Skipped(number, f"frame#{number}", said.at, said.kind, said.reason)
        return Event(said.at, said.kind, f"{self._text}: {said.reason}")

    def _next_number(self) -> int:
        number = self._sequence
        self._sequence += 1
        return number


def _fault(kind: str, reason: str) -> Said:
    return Said(kind=kind, at=time.time(), reason=reason)
