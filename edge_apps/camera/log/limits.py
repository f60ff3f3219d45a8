"""How large and how old a log may become, and how its oldest rows go.

Frame rows go first, oldest first, ten seconds at a time: their windows stay, so that nothing is lost but the single
samples. Only where that is not enough do windows, samples, events and, at the very end, old sessions follow.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from edge_apps.camera.log import schema
from edge_apps.camera.log.database import transaction
from edge_apps.camera.log.windows import Times, window_rows
from edge_apps.errors import BadInput
from edge_apps.runtime.latency import STAGES

SMALLEST = 1_000_000
"""Bytes; below that a log would hold its own overhead and little else."""

PAGE = 4096
"""Bytes; SQLite's page, and about what its journal needs for one."""

JOURNAL = 4_000_000
"""Bytes at which the journal is merged into the file and begun anew; a quarter of a small cap."""

LONGER = 10
"""Windows, samples and events live so many times as long as frames under an age cap."""

BATCH = 1000
"""Rows that go at once: a transaction of some milliseconds, which delays no commit."""


@dataclass(frozen=True)
class Limits:
    """The caps of a log: bytes of the file and its journal together, and seconds that a frame is kept. None: no cap.

    Raises:
        BadInput: a cap that leaves nothing.
    """

    max_bytes: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < SMALLEST:
            raise BadInput(
                f"A log of at most {self.max_bytes:,} bytes is too small: allow {SMALLEST // 10**6}M or more."
            )
        if self.max_age is not None and self.max_age <= 0:
            raise BadInput(f"A log whose frames are {self.max_age:g} s old at most holds none: allow more.")

    @property
    def journal_pages(self) -> int:
        """Pages at which the journal is merged."""
        journal = JOURNAL if self.max_bytes is None else min(JOURNAL, self.max_bytes // 4)
        return journal // 2 // PAGE


class Trimmer:
    """Takes away the oldest rows of one open database while there are too many, a little at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def trim(self, database: sqlite3.Connection, running: int | None, offset_ns: int, deadline: float) -> list[str]:
        """Until the limits hold, or the monotonic clock shows ``deadline``; each step is a transaction of its own.

        Args:
            database: the log.
            running: the session that is being written; it is at ``offset_ns``.
            offset_ns: of now.
            deadline: where to stop, whatever is left.

        Returns:
            A line for each session that is gone for good.
        """
        gone: list[str] = []
        if self._limits.max_age is not None:
            while time.monotonic() < deadline and self._take_old(database, running, offset_ns, self._limits.max_age):
                pass
        if self._limits.max_bytes is not None:
            while time.monotonic() < deadline and self._is_full(database):
                if not _take_frames(database, running, offset_ns) and not _take_others(database):
                    said = _take_session(database, running)
                    if said is None:
                        break
                    gone.append(said)
            self._shrink(database, deadline)
        return gone

    def _is_full(self, database: sqlite3.Connection) -> bool:
        pages, free, size = _pages(database)
        return (pages - free) * size > self._room

    @property
    def _room(self) -> int:
        """For the file: what its journal may take at its largest is set aside."""
        assert self._limits.max_bytes is not None
        return self._limits.max_bytes - 3 * self._limits.journal_pages * PAGE

    def _shrink(self, database: sqlite3.Connection, deadline: float) -> None:
        """Where the file itself is too large (its cap was lowered); otherwise free pages are used again."""
        while time.monotonic() < deadline:
            pages, free, size = _pages(database)
            if not free or pages * size <= self._room:
                return
            # As a script: execute() would stop this statement after its first page.
            database.executescript(f"PRAGMA incremental_vacuum({self._limits.journal_pages})")
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # only that cuts the file
            if _pages(database)[0] == pages:
                return  # a file of version 1 cannot be cut

    def _take_old(self, database: sqlite3.Connection, running: int | None, offset_ns: int, age: float) -> bool:
        """Age counts on the monotonic clock in the running session, whose wall clock may just have been set."""
        first = "SELECT session, offset_ns, captured_at FROM frame ORDER BY session, sequence LIMIT 1"
        for session, offset, at in database.execute(first).fetchall():
            old = offset_ns - offset > age * 1e9 if session == running else time.time() - at > age
            if old:
                return _take_frames(database, running, offset_ns)
        return any(_take_old_rows(database, table, running, offset_ns, LONGER * age) for table in _OTHERS)


_OTHERS = {"sample": "offset_ns", "window": "first_ns", "event": "offset_ns"}
"""Table → its column of offsets."""


def _pages(database: sqlite3.Connection) -> tuple[int, int, int]:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return pages, free, size


def _take_frames(database: sqlite3.Connection, running: int | None, offset_ns: int) -> bool:
    """A batch of the oldest frame's window, whose rows are made first where a killed program left none."""
    with transaction(database):
        oldest = database.execute("SELECT session, offset_ns FROM frame ORDER BY session, sequence LIMIT 1").fetchone()
        if oldest is None:
            return False
        session, offset = oldest
        number = offset // schema.WINDOW_NS
        these, values = "session = ?", [session]
        of_window = "SELECT sequence FROM frame WHERE session = ? AND offset_ns >= ? ORDER BY sequence LIMIT 1"
        later = database.execute(of_window, (session, (number + 1) * schema.WINDOW_NS)).fetchone()
        if later:
            these, values = "session = ? AND sequence < ?", [session, later[0]]
        is_current = session == running and number == offset_ns // schema.WINDOW_NS  # its rows are yet to come
        # A statement that is not read to its end would keep the journal from being merged when this is committed.
        has_rows = "SELECT EXISTS (SELECT 1 FROM window WHERE session = ? AND number = ?)"
        if not is_current and not database.execute(has_rows, (session, number)).fetchone()[0]:
            names = ", ".join(f"{stage}_ns" for stage in STAGES)
            found = database.execute(f"SELECT offset_ns, captured_at, {names} FROM frame WHERE {these}", values)
            frames: list[Times] = [(row[0], row[1], row[2:]) for row in found]
            rows = [(session, *row) for row in window_rows(number, frames)]
            database.executemany(schema.insert("window"), rows)
        batch = f"SELECT sequence FROM frame WHERE {these} ORDER BY sequence LIMIT {BATCH}"
        dropped = database.execute(
            f"DELETE FROM frame WHERE session = ? AND sequence <= (SELECT max(sequence) FROM ({batch}))",
            (session, *values),
        ).rowcount
        database.execute("UPDATE session SET frames_dropped = frames_dropped + ? WHERE id = ?", (dropped, session))
    return True


def _take_others(database: sqlite3.Connection) -> bool:
    """A batch of the oldest session that has any: samples, then windows, then events."""
    sessions = [
        (row[0], table)
        for table in _OTHERS
        for row in database.execute(f"SELECT session FROM {table} ORDER BY session LIMIT 1")
    ]
    if not sessions:
        return False
    session, table = min(sessions, key=lambda found: found[0])
    with transaction(database):
        database.execute(
            f"DELETE FROM {table} WHERE session = ? AND number <= (SELECT max(number) FROM "
            f"(SELECT number FROM {table} WHERE session = ? ORDER BY number LIMIT {BATCH}))",
            (session, session),
        )
    return True


def _take_old_rows(database: sqlite3.Connection, table: str, running: int | None, offset_ns: int, age: float) -> bool:
    """A batch of those that are older; by the monotonic clock in the running session, as frames."""
    names = f"session, number, at, coalesce({_OTHERS[table]}, 0)"
    old = set()
    found = f"SELECT {names} FROM {table} ORDER BY session, number LIMIT {BATCH}"
    for session, number, at, offset in database.execute(found).fetchall():
        if not (offset_ns - offset > age * 1e9 if session == running else time.time() - at > age):
            break
        old.add((session, number))
    if not old:
        return False
    with transaction(database):
        database.executemany(f"DELETE FROM {table} WHERE session = ? AND number = ?", old)
    return True


def _take_session(database: sqlite3.Connection, running: int | None) -> str | None:
    """The oldest session, of which nothing is left but its row; what it was, or None where there is no other."""
    with transaction(database):
        row = database.execute(
            "SELECT id, uuid, started, model, frames_dropped FROM session WHERE id IS NOT ? ORDER BY id LIMIT 1",
            (running,),
        ).fetchone()
        if row is None:
            return None
        database.execute("DELETE FROM session WHERE id = ?", (row[0],))
    return f"The log is full of later runs: that of {row[2]} ({row[3]}, {row[4]:,} frames, {row[1]}) is gone from it."
