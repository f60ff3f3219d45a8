"""The thread that writes the log: rows wait for it, it waits for the disk, and no frame waits for either."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_apps.camera.inference.loop import Outcome, Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.log.database import PATIENCE, check_place, is_busy
from edge_apps.camera.log.disk import Disk
from edge_apps.camera.log.limits import Limits
from edge_apps.camera.log.pending import Pending, Running
from edge_apps.camera.log.session import row_of, utc_now
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.errors import EdgeError, first_line
from edge_apps.images import printable
from edge_apps.runtime.latency import STAGES
from edge_apps.runtime.sensors import Sample

COMMIT_EVERY = 0.5
"""Seconds between two commits; with what the disk takes for them, so much of the rows is at stake."""

RETRY_FIRST, RETRY_MOST = 1.0, 30.0
"""Seconds until a disk that could not be written is tried again; twice as long each time, up to the second."""

CHECK_WAIT = 0.5
"""Seconds that a file which is still being read through when the run ends may take for it."""

LAST_WAIT = 10.0
"""Seconds for the last rows; a disk that hangs must not keep the program."""

INBOX = 20_000
"""What waits for the thread at most, should the disk hold it up within one write."""

SLOW = 5.0
"""Seconds after which a disk that has not answered yet is told."""

JUMP = 1.0
"""Seconds by which the wall clock leaves the monotonic one before it is an event."""


@dataclass(frozen=True)
class LogState:
    """How the log does.

    ``fault`` is "" while it is written, else why it is not, or not yet. ``waiting`` rows are not committed yet,
    ``dropped`` frame rows never will be.
    """

    fault: str
    waiting: int
    dropped: int


@dataclass(frozen=True)
class Told(Event):
    """An event of the log itself, told to its owner, and in the log already: ``Log.add`` passes it over."""


class Log:
    """A log to which sessions are added, one after the other. Use ``open_log``, which also closes it.

    No method but ``close`` waits for the disk or raises for it.
    """

    def __init__(self, path: Path, limits: Limits, tell: Callable[[Event], None]) -> None:
        self.path = path
        self._tell = tell
        self._lock = threading.Lock()
        self._inbox: list[tuple[str, Running, Any]] = []
        self._overrun = 0  # frames that found the inbox full
        self._session: Running | None = None
        # What follows belongs to the thread.
        self._disk = Disk(path, limits, self._say)
        self._pending = Pending()
        self._current: Running | None = None
        self._unlogged: list[Event] = []
        self._retry = _Retry()
        self._drift: float | None = None
        self._state = LogState("", 0, 0)
        self._writing_since: float | None = None
        self._wake, self._is_closing = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="latency log", daemon=True)

    @property
    def state(self) -> LogState:
        """How the log does; of any thread, also while its own waits for the disk."""
        state, since = self._state, self._writing_since
        is_slow = since is not None and time.monotonic() - since > SLOW
        waits_for = "its file is being read through" if self._disk.is_read_through else "its disk does not answer"
        fault = state.fault or (waits_for if is_slow else "")
        return LogState(fault, state.waiting + len(self._inbox), state.dropped + self._overrun)

    def begin(self, session: Session) -> None:
        """From now on, what is added is of this session."""
        with self._lock:
            self._session = Running(row_of(session), time.monotonic_ns())
            self._inbox.append(("begin", self._session, None))
        self._wake.set()

    def add(self, item: Outcome) -> None:
        """Take a frame or an event; the next commit has it. What comes before a session is passed over."""
        if isinstance(item, Result):
            stages = tuple(item.times[stage] for stage in STAGES)
            self._put("frame", (item.sequence, printable(item.name), item.captured_at, stages, item.top[0]))
        elif isinstance(item, Skipped):
            said = (item.sequence, printable(item.name), printable(item.reason))
            self._put("event", (item.at, item.kind, *said))
        elif not isinstance(item, Told):
            self._put("event", (item.at, item.kind, None, "", printable(item.reason)))

    def sample(self, sample: Sample) -> None:
        """Take the state of the device; of any thread."""
        throttled = None if sample.throttled is None else msgspec.json.encode(sample.throttled).decode()
        state = (sample.temperature_c, sample.clock_mhz, throttled, sample.memory_mb, sample.power_mode)
        self._put("sample", (sample.at, *state))

    def end(self, ended_by: str) -> None:
        """Nothing more comes of the session."""
        self._put("end", (utc_now(), printable(ended_by)))

    def open(self) -> None:
        """Begin to write. The file is opened, and read through, by the thread: rows wait for it in memory."""
        self._thread.start()

    def close(self) -> None:
        """Write what is left, into a file that was not read through where that would take long.

        Raises:
            EdgeError: that was not possible.
        """
        self._is_closing = True
        self._wake.set()
        self._thread.join(CHECK_WAIT)
        deadline = time.monotonic() + LAST_WAIT
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._disk.hurry()
            self._thread.join(0.05)
        left = self._state.waiting + len(self._inbox)
        if self._thread.is_alive():
            raise EdgeError(f"The disk of the log '{self.path}' does not answer. What was committed before is kept.")
        if self._state.fault or left:
            raise EdgeError(
                f"Cannot write the log '{self.path}': {self._state.fault}. Its last {left:,} rows are lost; what was "
                "committed before is kept."
            )

    def _put(self, kind: str, value: tuple[Any, ...]) -> None:
        with self._lock:
            if self._session is None:
                return
            if len(self._inbox) >= INBOX and kind != "end":
                self._overrun += kind == "frame"
                return
            offset = time.monotonic_ns() - self._session.begun_ns  # inside the lock: in order
            self._inbox.append((kind, self._session, (offset, *value)))
            is_filling = len(self._inbox) > INBOX // 4
        if is_filling:
            self._wake.set()

    def _run(self) -> None:
        try:
            self._write_on()
        except Exception as error:  # the disk's faults are met elsewhere: this is one of the program
            fault = _fault(error)
            self._say("log-stopped", f"Cannot write the log '{self.path}': {fault}. No further row is written.")
            self._state = LogState(fault, len(self._pending), self._pending.dropped)

    def _write_on(self) -> None:
        while True:
            is_last = self._is_closing  # read first: what was added before it was set is written below
            self._wake.clear()
            self._turn(is_last)
            if is_last:
                if self._unlogged and not self._retry.fault:
                    self._turn(is_last)  # something was told while the last rows were written
                self._disk.close()
                return
            if not self._is_closing:
                self._wake.wait(COMMIT_EVERY)

    def _turn(self, is_last: bool) -> None:
        now_ns = self._collect(is_last)
        self._watch_clock()
        if self._retry.is_due() or is_last:
            self._writing_since = time.monotonic()
            try:
                self._disk.write(self._pending)
                if self._current and not is_last:
                    self._disk.trim(self._current, now_ns - self._current.begun_ns)
            except Exception as error:  # whatever it is: the rows wait, the thread lives, and the run is told
                self._stopped(error, 0.0 if is_last else PATIENCE)
            else:
                self._resumed()
            finally:
                self._writing_since = None
        if self._retry.fault:
            self._pending.shorten(now_ns)
        self._state = LogState(self._retry.fault, len(self._pending), self._pending.dropped)

    def _collect(self, is_last: bool) -> int:
        """Make rows of what came; what comes later is later than the moment that this gives."""
        with self._lock:
            inbox, self._inbox = self._inbox, []
            overrun, self._overrun = self._overrun, 0
            now_ns = time.monotonic_ns()
        for kind, running, value in inbox:
            self._take(kind, running, value)
        current = self._current
        if current is not None:
            self._pending.drop(current, overrun)
            over = current.windows.close() if is_last else current.windows.until(now_ns - current.begun_ns)
            self._add_all("window", current, over)
            while self._unlogged:
                event = self._unlogged.pop(0)
                self._take("event", current, (now_ns - current.begun_ns, event.at, event.kind, None, "", event.reason))
        return now_ns

    def _take(self, kind: str, running: Running, value: tuple[Any, ...]) -> None:
        if kind == "begin":
            self._current = running
            self._pending.begin(running)
        elif kind == "end":
            running.ended = value[1:]
            self._add_all("window", running, running.windows.close())
        elif kind == "frame":
            offset, sequence, name, captured_at, stages, best = value
            self._pending.add("frame", running, (sequence, offset, name, captured_at, *stages, *best))
            self._add_all("window", running, running.windows.add([(offset, captured_at, stages)]))
        else:
            self._pending.add(kind, running, (running.numbers[kind], *value))
            running.numbers[kind] += 1

    def _add_all(self, table: str, running: Running, rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            self._pending.add(table, running, row)

    def _watch_clock(self) -> None:
        drift = time.time() - time.monotonic()
        jumped = 0.0 if self._drift is None else drift - self._drift
        if self._drift is None or abs(jumped) > JUMP:
            self._drift = drift
        if abs(jumped) > JUMP:
            way = "forward" if jumped > 0 else "back"
            self._say("clock-jumped", f"The wall clock was set {way} by {abs(jumped):,.1f} s, or the machine slept.")

    def _stopped(self, error: Exception, patience: float) -> None:
        if self._retry.failed(error, patience):
            self._say(
                "log-stopped",
                f"Cannot write the log '{self.path}': {self._retry.fault}. Frames are classified on; their rows wait "
                "for a minute, then the oldest are dropped.",
            )
            self._retry.dropped = self._pending.dropped

    def _resumed(self) -> None:
        if self._retry.fault:
            lost = self._pending.dropped - self._retry.dropped
            rows = f"{lost:,} rows of frames were dropped" if lost else "no row of a frame was dropped"
            self._say("log-resumed", f"The log '{self.path}' is written again; {rows}.")
        self._retry = _Retry()

    def _say(self, kind: str, reason: str) -> None:
        event = Told(time.time(), kind, printable(reason))  # with paths, whose bytes may be no UTF-8
        self._unlogged.append(event)
        with contextlib.suppress(Exception):  # what its owner does with it is not the log's fault
            self._tell(event)


class _Retry:
    """When a disk that could not be written is tried again."""

    def __init__(self) -> None:
        self.fault = ""
        self.dropped = 0
        self._pause = RETRY_FIRST
        self._at = 0.0
        self._busy_since: float | None = None

    def is_due(self) -> bool:
        return time.monotonic() >= self._at

    def failed(self, error: Exception, patience: float) -> bool:
        """Once more; whether that is news. Another program's write is waited for so long without a word."""
        now = time.monotonic()
        if not self.fault and is_busy(error):
            self._busy_since = self._busy_since or now
            if now - self._busy_since < patience:
                return False
        is_news = not self.fault
        self.fault = _fault(error)
        self._at = now + self._pause
        self._pause = min(2 * self._pause, RETRY_MOST)
        return is_news


def _fault(error: Exception) -> str:
    """What went wrong, in words; what neither SQLite nor the disk says is the program's own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = first_line(error)
    if isinstance(error, (sqlite3.Error, OSError, EdgeError)):
        return said
    return f"{type(error).__name__}: {said}, a fault of the program"


@contextlib.contextmanager
def open_log(
    path: Path,
    *,
    max_bytes: int | None = None,
    max_age: float | None = None,
    tell: Callable[[Event], None] = lambda _: None,
) -> Iterator[Log]:
    """Open a log to write to, new or with the sessions of earlier runs.

    A disk that is full or read-only, now or later, stops no frame: ``tell`` hears ``log-stopped``, rows wait, and
    ``log-resumed`` follows when they can be written. The file is read through first, while rows wait in memory; a
    damaged one is set aside (``log-damaged``). A run that ends meanwhile writes its rows unchecked (``log-unchecked``).
    ``clock-jumped``, ``log-moved`` and ``log-trimmed`` are the other kinds. ``tell`` is called by the log's thread; it
    must not wait.

    Args:
        path: the file.
        max_bytes: of the file and its journal; the oldest rows make room.
        max_age: seconds that the rows of frames are kept.
        tell: hears what happens to the log.

    Raises:
        BadInput: a file that is no such log (it is left untouched), a place where none can be written, impossible caps.
        EdgeError: the last rows could not be written.
    """
    limits = Limits(max_bytes, max_age)
    check_place(path)
    log = Log(path, limits, tell)
    log.open()
    try:
        yield log
    except BaseException:
        with contextlib.suppress(EdgeError):  # what went wrong first is told
            log.close()
        raise
    log.close()
