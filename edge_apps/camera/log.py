"""The latency log: one SQLite file, one row per frame, written by a thread of its own.

::

    session   one run: device, runtime, model file and its hash, source, load time, first inference, how it ended
    frame     one classified frame: nanoseconds per stage, best label
    event     one frame that was skipped, or what happened to the source, and why

Runs add their sessions to one file. Rows are committed every half second with ``synchronous=FULL``, so that a power
cut or ``kill -9`` costs at most the last second; and because a thread does it, a slow SD card stops no frame.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_apps import __version__
from edge_apps.camera.loop import Outcome
from edge_apps.camera.sources import Event, Skipped
from edge_apps.errors import BadInput, EdgeError
from edge_apps.runtime.device import Device
from edge_apps.runtime.latency import STAGES

COMMIT_EVERY = 0.5
"""Seconds; with the time a commit takes, at most a second of rows is ever at stake."""

PATIENCE = 10.0
"""Seconds to wait for another program that writes to the same file."""

APPLICATION_ID = 0x45444745
"""``EDGE``: marks the file as such a log (``PRAGMA application_id``)."""

SCHEMA_VERSION = 2
"""``PRAGMA user_version``; a program refuses a newer one."""

SCHEMA = """
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    started TEXT NOT NULL,            -- UTC, ISO 8601
    ended TEXT,                       -- NULL: still running, or killed
    ended_by TEXT,                    -- 'end of source', 'frames', 'SIGINT', 'SIGTERM' or an error
    program TEXT NOT NULL,            -- version of edge-pipeline
    fingerprint TEXT NOT NULL,        -- of the device
    device TEXT NOT NULL,             -- JSON
    runtime TEXT NOT NULL,            -- library and version
    threads INTEGER NOT NULL,
    model TEXT NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT NOT NULL,             -- of the model file
    target TEXT NOT NULL,
    precision TEXT NOT NULL,
    input TEXT NOT NULL,              -- height×width
    source TEXT NOT NULL,
    load_ms REAL NOT NULL,            -- opening the file, the library's import included
    first_ms REAL NOT NULL,           -- the first, cold inference
    warmup INTEGER NOT NULL           -- inferences before the first frame, the cold one among them
);
CREATE TABLE frame (
    session INTEGER NOT NULL REFERENCES session,
    sequence INTEGER NOT NULL,
    name TEXT NOT NULL,
    captured_at REAL NOT NULL,        -- seconds since 1970 UTC
    capture_ns INTEGER NOT NULL,
    decode_ns INTEGER NOT NULL,
    preprocess_ns INTEGER NOT NULL,
    infer_ns INTEGER NOT NULL,
    postprocess_ns INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    age_ns INTEGER NOT NULL,
    label TEXT NOT NULL,
    probability REAL NOT NULL,
    PRIMARY KEY (session, sequence)
) WITHOUT ROWID;
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES session,
    at REAL NOT NULL,                 -- seconds since 1970 UTC
    kind TEXT NOT NULL,
    sequence INTEGER,                 -- NULL: not of one frame
    name TEXT NOT NULL,
    detail TEXT NOT NULL
);
"""

INSERT_FRAME = "INSERT INTO frame VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
INSERT_EVENT = "INSERT INTO event (session, at, kind, sequence, name, detail) VALUES (?,?,?,?,?,?)"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What one run measures, and on what; the columns of ``session`` that are known before its first frame."""

    device: Device
    runtime: str
    threads: int
    model: str
    file: str
    sha256: str
    target: str
    precision: str
    input: str
    source: str
    load_ms: float
    first_ms: float
    warmup: int


class Log:
    """An open log file to which sessions are added. Use ``open_log``, which also closes it."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._database = database
        self._session: int | None = None
        self._frames: list[tuple[object, ...]] = []
        self._events: list[tuple[object, ...]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: sqlite3.Error | None = None
        self._thread = threading.Thread(target=self._commit_now_and_then, name="latency log", daemon=True)

    def begin(self, session: Session) -> None:
        """Write the session's row, and start to take its frames."""
        row = msgspec.structs.asdict(session)
        row.update(
            started=_utc_now(),
            program=__version__,
            fingerprint=session.device.fingerprint,
            device=msgspec.json.encode(session.device).decode(),
        )
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        try:
            with self._transaction():
                cursor = self._database.execute(
                    f"INSERT INTO session ({columns}) VALUES ({marks})", tuple(row.values())
                )
        except sqlite3.Error as error:
            raise self._cannot_write(error) from error
        self._session = cursor.lastrowid
        self._thread.start()

    def add(self, item: Outcome) -> None:
        """Take a frame or an event; it is on the disk within a second.

        Raises:
            EdgeError: the rows before it could not be written (the disk is full, the file is gone).
        """
        if self._error is not None:
            raise self._cannot_write(self._error)
        with self._lock:
            if isinstance(item, Skipped):
                self._events.append((self._session, item.at, item.kind, item.sequence, item.name, item.reason))
            elif isinstance(item, Event):
                self._events.append((self._session, item.at, item.kind, None, "", item.reason))
            else:
                stages = (item.times[stage] for stage in STAGES)
                self._frames.append((self._session, item.sequence, item.name, item.captured_at, *stages, *item.top[0]))

    def end(self, ended_by: str) -> None:
        """Write what is left, and how the session ended."""
        self.stop_committing()
        if self._error is not None:
            raise self._cannot_write(self._error)
        try:
            self._commit()
            with self._transaction():
                self._database.execute(
                    "UPDATE session SET ended = ?, ended_by = ? WHERE id = ?", (_utc_now(), ended_by, self._session)
                )
        except sqlite3.Error as error:
            raise self._cannot_write(error) from error

    def stop_committing(self) -> None:
        """Wait for the thread that commits: a database must not be closed under it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _commit_now_and_then(self) -> None:
        while not self._stop.wait(COMMIT_EVERY):
            try:
                self._commit()
            except sqlite3.Error as error:
                self._error = error
                return

    def _commit(self) -> None:
        with self._lock:
            frames, self._frames = self._frames, []
            events, self._events = self._events, []
        if frames or events:
            with self._transaction():
                self._database.executemany(INSERT_FRAME, frames)
                self._database.executemany(INSERT_EVENT, events)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Short, and taken at once: other programs may write their sessions to the same file."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # a full disk has rolled it back already
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _cannot_write(self, error: sqlite3.Error) -> EdgeError:
        return EdgeError(f"Cannot write the log '{self.path}': {error}. What was committed before is kept.")


@contextlib.contextmanager
def open_log(path: Path) -> Iterator[Log]:
    """Open a log to write to, new or with the sessions of earlier runs.

    Raises:
        BadInput: a file that is no such log (it is left untouched), or a place where none can be written.
    """
    check_is_log(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_open(path, error) from error
    try:
        try:
            _prepare(database)
        except sqlite3.Error as error:
            raise _cannot_open(path, error) from error
        log = Log(path, database)
        try:
            yield log
        finally:
            log.stop_committing()
    finally:
        database.close()


def read_log(path: Path) -> sqlite3.Connection:
    """Open a log to read from, also while a camera program writes to it, and on a read-only disk.

    Raises:
        BadInput: no such file, or one that is no such log.
    """
    if not path.exists():
        raise BadInput(f"No such log: '{path}'. 'edge-camera run --log {path}' would write one.")
    check_is_log(path)
    if not path.stat().st_size:
        raise BadInput(f"'{path}' is empty: no run has been logged in it.")
    try:
        return _read_only(path)
    except sqlite3.Error as error:
        raise _cannot_open(path, error) from error


def check_is_log(path: Path) -> None:
    """Refuse what exists and is no log of this program; nothing is written, not even a journal.

    An SQLite file says so in its first 16 bytes; ``user_version`` and ``application_id`` lie at bytes 60 and 68,
    big-endian (SQLite database file format, section 1.3).
    """
    if path.is_dir():
        raise BadInput(f"'{path}' is a folder: name a file for the log, as '{path / 'latency.db'}'.")
    if not path.exists():
        return
    try:
        with path.open("rb") as stream:
            head = stream.read(100)
    except OSError as error:
        raise _cannot_open(path, error) from error
    if not head:
        return  # an empty file, as mktemp makes it, is an empty database
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    if not head.startswith(b"SQLite format 3\0") or application != APPLICATION_ID:
        raise BadInput(f"'{path}' is not a latency log of edge-camera; it was left untouched. Choose another file.")
    if version > SCHEMA_VERSION:
        raise BadInput(
            f"'{path}' is a log of version {version}; this program knows up to {SCHEMA_VERSION}: upgrade edge-pipeline."
        )


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("BEGIN IMMEDIATE")  # another program may be about to do the same
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'session'").fetchone():
        for statement in SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute("COMMIT")
    # Only now: in WAL mode those marks would reach the file itself, where check_is_log looks, at the end of the run.
    _switch_to_wal(database)
    database.execute("PRAGMA synchronous = FULL")


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """SQLite does not wait here as it does elsewhere when another program is just opening the same new log."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _read_only(path: Path) -> sqlite3.Connection:
    """Merges what a killed run left beside the file (mode=ro could not, and would litter), then only reads."""
    where = path.absolute().as_uri()
    try:
        database = sqlite3.connect(f"{where}?mode=rw", uri=True, timeout=PATIENCE)
        database.execute("SELECT count(*) FROM session").fetchone()
    except sqlite3.OperationalError:
        if path.with_name(f"{path.name}-wal").exists():
            raise
        # Nothing waits to be merged, so nobody writes: on a read-only disk SQLite can read it without its helper files.
        database = sqlite3.connect(f"{where}?mode=ro&immutable=1", uri=True)
        database.execute("SELECT count(*) FROM session").fetchone()
    database.execute("PRAGMA query_only = ON")
    return database


def _cannot_open(path: Path, error: OSError | sqlite3.Error) -> BadInput:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return BadInput(f"Cannot open the log '{path}': {said}. Choose another file, or set this one aside.")


def _utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
