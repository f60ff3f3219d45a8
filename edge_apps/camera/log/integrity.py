"""Whether a log's file is whole: it is read through at start, and set aside where it is not; never deleted."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from datetime import datetime, timezone
from pathlib import Path

SMALL = 16_000_000
"""Bytes up to which a file is checked in full; beyond, its indexes are not compared with its tables."""

_OF_THE_MOMENT = (
    "is locked", "is full", "disk I/O error", "readonly database", "unable to open", "interrupted", "locking protocol",
)  # fmt: skip
"""What SQLite says of another program and of a disk (its result codes BUSY, FULL, IOERR, READONLY, CANTOPEN …)."""

_BESIDE = ("-wal", "-shm", "-journal", "")
"""What SQLite keeps beside a database, then the database: no journal may be left for a new one of that name."""


class Damaged(Exception):
    """The file is a log of this program, and broken."""


class Check:
    """Reads a file through, which takes a large one on a slow card half a minute: another thread may give it up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: sqlite3.Connection | None = None
        self._is_given_up = False

    @property
    def is_running(self) -> bool:
        """Whether a file is being read through now; of any thread."""
        return self._running is not None

    def give_up(self) -> None:
        """From now on no file is read to its end; of any thread.

        Again and again until the other thread is through: SQLite forgets an interrupt that comes just before the
        statement.
        """
        with self._lock:
            self._is_given_up = True
            if self._running is not None:
                self._running.interrupt()

    def run(self, database: sqlite3.Connection, path: Path) -> bool:
        """Whether it was read to its end.

        Raises:
            Damaged, sqlite3.Error: it is broken, or cannot be read.
        """
        statement = _statement(path)
        with self._lock:
            if self._is_given_up:
                return False
            self._running = database  # from here on it may be interrupted, and nothing else ever is
        try:
            (said,) = database.execute(statement).fetchone()
        except sqlite3.OperationalError:
            if self._is_given_up:
                return False
            raise
        finally:
            with self._lock:
                self._running = None
        if said != "ok":
            raise Damaged(said.replace("\n", " "))
        return True


def _statement(path: Path) -> str:
    pragma = "integrity_check" if path.stat().st_size <= SMALL else "quick_check"
    return f"PRAGMA {pragma}(1)"


def is_damage(error: BaseException) -> bool:
    """Whether it says that the file is broken: its pages, its text, or its tables, which are not those of a log.

    SQLITE_CORRUPT and SQLITE_NOTADB are DatabaseError itself. Tables that are not as they were made are an
    OperationalError, as a full disk is; Python 3.10 tells them apart by their words alone.
    """
    if isinstance(error, sqlite3.OperationalError):
        return not any(words in str(error) for words in _OF_THE_MOMENT)
    return type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError) or isinstance(error, UnicodeDecodeError)


def set_aside(path: Path) -> Path:
    """Rename a broken log, with what SQLite keeps beside it, to a name that was free; nothing is deleted."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.name}.damaged-{stamp}{again}" for again in ("", *(f"-{n}" for n in range(2, 10_000))))
    aside = next(free for name in names if not (free := path.with_name(name)).exists())
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
