"""Rows that wait to be written: a bounded number of them, however long a disk stays full."""

from __future__ import annotations

import itertools
import sqlite3
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from edge_apps.camera.log import schema
from edge_apps.camera.log.database import transaction
from edge_apps.camera.log.windows import Windows

HELD_NS = 60 * 10**9
"""How long a frame's row waits for a disk that cannot be written."""

HELD = {"frame": 20_000, "window": 7 * 6 * 60, "sample": 3_600, "event": 1_000}
"""Rows that wait at most: an hour of windows and samples; some 10 MB in all."""

CHUNK = 2_000
"""Rows of one transaction: the journal stays small after a long wait, too."""

Row = tuple[Any, ...]


@dataclass(eq=False)
class Running:
    """A session that rows are taken for."""

    row: dict[str, Any]
    begun_ns: int
    windows: Windows = field(default_factory=Windows)
    numbers: dict[str, int] = field(default_factory=lambda: {"event": 0, "sample": 0})  # of the next row
    dropped: int = 0  # frame rows, not yet told in the session's row
    ended: tuple[str, str] | None = None  # when, and by what


class Pending:
    """Rows by table, each with its session; what was written is forgotten, what cannot wait longer is counted."""

    def __init__(self) -> None:
        self._rows: dict[str, deque[tuple[Running, Row]]] = {table: deque() for table in HELD}
        self._sessions: list[Running] = []
        self.dropped = 0

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def is_news(self, ids: dict[str, int]) -> bool:
        """Whether the database that knows these sessions lacks anything."""
        return bool(len(self)) or any(s.ended or s.dropped or s.row["uuid"] not in ids for s in self._sessions)

    def begin(self, session: Running) -> None:
        """Its row is to be written, and again whenever something of it changes."""
        self._sessions.append(session)

    def add(self, table: str, session: Running, row: Row) -> None:
        """A row but for its first column, which is the session."""
        self._rows[table].append((session, row))

    def drop(self, session: Running, frames: int) -> None:
        """So many never became rows."""
        session.dropped += frames
        self.dropped += frames

    def shorten(self, now_ns: int) -> None:
        """Drop what has waited too long, the oldest first; frames are counted, and stay counted in their windows."""
        frames = self._rows["frame"]
        while frames and (len(frames) > HELD["frame"] or now_ns - _taken_ns(frames[0]) > HELD_NS):
            self.drop(frames.popleft()[0], 1)
        for table in ("window", "sample", "event"):
            rows = self._rows[table]
            while len(rows) > HELD[table]:
                rows.popleft()

    def write(self, database: sqlite3.Connection, ids: dict[str, int]) -> None:
        """Write all, some at a time.

        Args:
            database: the log.
            ids: of the sessions that this database knows already, by UUID; completed here.

        Raises:
            sqlite3.Error: what was not committed goes on waiting.
        """
        while True:
            chunk = {table: list(itertools.islice(rows, CHUNK)) for table, rows in self._rows.items()}
            with transaction(database):
                told = [self._tell_session(database, session, ids) for session in self._concerned(chunk)]
                for table, rows in chunk.items():
                    # A window's own rows replace those that were made of what had been committed of it.
                    statement = schema.insert(table, conflict="OR REPLACE" if table == "window" else "OR IGNORE")
                    database.executemany(statement, ((ids[s.row["uuid"]], *row) for s, row in rows))
            for table, rows in chunk.items():
                for _ in rows:
                    self._rows[table].popleft()
            for session, dropped in told:
                session.dropped -= dropped
            if not len(self):
                self._sessions = [session for session in self._sessions if not session.ended]
                return

    def _concerned(self, chunk: dict[str, list[tuple[Running, Row]]]) -> list[Running]:
        """In the order of their begin; one that has ended is told so in every file that gets rows of it."""
        waiting = {session for rows in chunk.values() for session, _ in rows}
        known = [*self._sessions, *(s for s in waiting if s not in self._sessions)]
        return sorted(known, key=lambda session: session.begun_ns)

    @staticmethod
    def _tell_session(database: sqlite3.Connection, session: Running, ids: dict[str, int]) -> tuple[Running, int]:
        uuid, dropped = session.row["uuid"], session.dropped
        if uuid not in ids:
            names, marks = ", ".join(session.row), ", ".join("?" * len(session.row))
            database.execute(f"INSERT OR IGNORE INTO session ({names}) VALUES ({marks})", tuple(session.row.values()))
            (ids[uuid],) = database.execute("SELECT id FROM session WHERE uuid = ?", (uuid,)).fetchone()
        if dropped:
            told = "UPDATE session SET frames_dropped = frames_dropped + ? WHERE id = ?"
            database.execute(told, (dropped, ids[uuid]))
        if session.ended:
            told = "UPDATE session SET ended = ?, ended_by = ? WHERE id = ?"
            database.execute(told, (*session.ended, ids[uuid]))
        return session, dropped


def _taken_ns(held: tuple[Running, Row]) -> int:
    """When it was taken, by the monotonic clock: ``offset_ns`` is the second column behind the session."""
    session, row = held
    return session.begun_ns + int(row[1])
