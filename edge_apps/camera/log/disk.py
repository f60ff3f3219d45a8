"""The file that a running log is written to: opened when it can be, opened again when it was lost, kept small."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from edge_apps.camera.log.database import open_to_write
from edge_apps.camera.log.integrity import Check, Damaged, is_damage, set_aside
from edge_apps.camera.log.limits import PAGE, Limits, Trimmer
from edge_apps.camera.log.pending import Pending, Running

LARGEST_JOURNAL = 64_000_000
"""Bytes; a program that reads for very long keeps it from being merged, and must not fill the disk so."""

BUSY_MS = 1_000
"""For how long one write waits for another program's; the rows wait on after that."""

TRIM_EVERY, TRIM_FOR = 1.0, 0.2
"""Seconds between two looks at the caps, and for taking rows away at a time."""


class Disk:
    """A log's file; ``tell(kind, reason)`` hears what happened to it. Belongs to one thread."""

    def __init__(self, path: Path, limits: Limits, tell: Callable[[str, str], None]) -> None:
        self._path = Path(os.path.realpath(path))  # where SQLite keeps its journal, whatever points to it
        self._limits, self._trimmer, self._tell = limits, Trimmer(limits), tell
        self._database: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._ids: dict[str, int] = {}  # of the sessions that the file knows, by UUID
        self._check, self._is_checked, self._is_given_up = Check(), False, False
        self._trimmed = 0.0
        room = 3 * limits.journal_pages * PAGE  # what Trimmer sets aside
        self._largest_journal = LARGEST_JOURNAL if limits.max_bytes is None else room

    def write(self, pending: Pending) -> None:
        """Write what waits, if anything does; see ``Pending.write``. Opens the file where it is not open.

        Raises:
            sqlite3.Error, OSError, BadInput: it could not be written; the rest waits. The file is closed then.
        """
        try:
            database = self._opened()
            if pending.is_news(self._ids):
                self._bound_journal(database)
                pending.write(database, self._ids)
        except BaseException as error:
            self._failed(error)
            raise

    def trim(self, running: Running, offset_ns: int) -> None:
        """Take away what the caps do not allow, for a short while every second; errors as of ``write``."""
        now = time.monotonic()
        if self._database is None or now - self._trimmed < TRIM_EVERY:
            return
        try:
            deadline = now + TRIM_FOR
            for gone in self._trimmer.trim(self._database, self._ids.get(running.row["uuid"]), offset_ns, deadline):
                self._tell("log-trimmed", gone)
        except BaseException as error:
            self._failed(error)
            raise
        self._trimmed = time.monotonic()

    def hurry(self) -> None:
        """The run has ended: the file is not read through any more. Of any thread; see ``Check.give_up``."""
        self._check.give_up()

    @property
    def is_read_through(self) -> bool:
        """Whether it is being read through now; of any thread."""
        return self._check.is_running

    def close(self) -> None:
        """Merge the journal, where that can be done, and let go of the file."""
        self._ids.clear()
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):  # what is in the journal is safe there
                self._database.close()
            self._database = None

    def _failed(self, error: BaseException) -> None:
        if is_damage(error) or "I/O" in str(error):
            self._is_checked = False
        self.close()

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and self._inode != _inode(self._path):
            # SQLite itself would not, in a file that was moved; and the new one would find, and delete, its journal.
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.close()
            self._tell("log-moved", f"'{self._path.name}' was moved or deleted: a new one is begun in its place.")
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open()
            self._database.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
            self._inode = _inode(self._path)
            self._is_checked = True
            if self._is_given_up:
                self._is_given_up = False
                self._tell(
                    "log-unchecked",
                    f"The run ended before the log '{self._path.name}' was read through: its rows are added unchecked. "
                    "If it is damaged, the next run sets it aside.",
                )
        return self._database

    def _open(self) -> sqlite3.Connection:
        pages, found = self._limits.journal_pages, _inode(self._path)
        try:
            if self._is_checked:
                return open_to_write(self._path, wal_pages=pages)
            return open_to_write(self._path, wal_pages=pages, check=self._read_through)
        except Damaged as damage:
            if _inode(self._path) != found:
                return self._open()  # another program has set it aside, and writes to a new one already
            aside = set_aside(self._path)
            self._tell(
                "log-damaged",
                f"The log '{self._path.name}' is damaged ({damage}): it was set aside as '{aside.name}', and a new one "
                "is begun.",
            )
            return open_to_write(self._path, wal_pages=pages)
        except sqlite3.OperationalError as error:
            if "unable to open" in str(error) and not os.access(self._path.parent, os.W_OK):
                reason = "its disk is read-only, or this user may not write there"  # SQLite does not say so
                raise OSError(errno.EROFS, reason) from error
            raise

    def _read_through(self, database: sqlite3.Connection) -> None:
        self._is_given_up = _size(self._path) > 0 and not self._check.run(database, self._path)

    def _bound_journal(self, database: sqlite3.Connection) -> None:
        journal = self._path.with_name(f"{self._path.name}-wal")
        if _size(journal) <= self._largest_journal:
            return
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if _size(journal) > self._largest_journal:
            raise sqlite3.OperationalError("its journal is locked by a program that has been reading for too long")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
