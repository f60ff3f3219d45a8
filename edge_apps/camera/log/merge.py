"""Several logs, of several devices, as one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_apps.camera.log import schema
from edge_apps.camera.log.database import no_room, reading, transaction
from edge_apps.errors import BadInput
from edge_apps.files import whole_file

AT_ONCE = 20_000
"""Rows of one read: no long reader holds up a camera program that writes to the file."""

KEYS = {"frame": ("sequence",), "window": ("number", "stage"), "sample": ("number",), "event": ("number",)}
"""What finds a row within its session."""


def merge_logs(out: Path, files: Sequence[Path]) -> int:
    """Write a new log with the sessions of all ``files``; how many they are.

    A session that is in several of them, wholly or in parts, is in the new one once, with the rows of all.

    Raises:
        BadInput: a file that is no log or damaged, or a place that is taken or cannot be written; nothing is left.
    """
    if out.exists():
        raise BadInput(f"'{out}' exists: name a new file, so that no log is lost.")
    for file in files:
        with reading(file):
            pass  # before work starts
    with whole_file(out) as beside:
        with _writing(), contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as merged:
            merged.execute("PRAGMA synchronous = OFF")  # synced at the end, as a whole
            merged.execute("PRAGMA journal_mode = MEMORY")
            merged.execute("PRAGMA auto_vacuum = INCREMENTAL")
            n = _merge(merged, files)
        if not n:
            raise BadInput(f"There is no session in {_named(files)}: nothing to merge.")
    return n


@contextlib.contextmanager
def merged_logs(files: Sequence[Path]) -> Iterator[sqlite3.Connection]:
    """The same in a nameless temporary database, for reading; ``BadInput`` likewise."""
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as merged:
        try:
            with _writing():
                n = _merge(merged, files)
        except OSError as error:
            raise no_room(error) from error
        if not n:
            raise BadInput(f"There is no session in {_named(files)}: 'edge-camera run' writes one with `log`.")
        merged.row_factory = sqlite3.Row
        yield merged


def rows(database: sqlite3.Connection, table: str, session: int) -> Iterator[tuple[Any, ...]]:
    """Rows of a session in their order, columns as ``schema.columns``; no read lasts."""
    key = ", ".join(KEYS[table])
    marks = ", ".join("?" * len(KEYS[table]))
    names = schema.columns(table)
    at = [names.index(column) for column in KEYS[table]]
    statement = f"SELECT {', '.join(names)} FROM {table} WHERE session = ?"
    found = database.execute(f"{statement} ORDER BY {key} LIMIT {AT_ONCE}", (session,)).fetchall()
    while found:
        yield from map(tuple, found)
        last = tuple(found[-1][index] for index in at)
        further = f"{statement} AND ({key}) > ({marks}) ORDER BY {key} LIMIT {AT_ONCE}"
        found = database.execute(further, (session, *last)).fetchall()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """What SQLite says of the disk of the new log becomes an OSError: it is no fault of the log that is just read."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(errno.EIO, str(error)) from error


def _merge(merged: sqlite3.Connection, files: Sequence[Path]) -> int:
    with transaction(merged):
        schema.create(merged)
        rows_of: dict[str, int] = {}  # UUID → the most frames that a file says it took
        for file in _different(files):
            with reading(file) as database:
                for session in database.execute("SELECT * FROM session ORDER BY id").fetchall():
                    _add_session(merged, database, session, rows_of)
        for uuid, n in rows_of.items():
            # What one file dropped may be in another: what is missing is what no file has.
            merged.execute(
                "UPDATE session SET frames_dropped = max(0, ? - (SELECT count(*) FROM frame WHERE session = id)) "
                "WHERE uuid = ?",
                (n, uuid),
            )
    return len(rows_of)


def _add_session(
    merged: sqlite3.Connection, database: sqlite3.Connection, session: sqlite3.Row, rows_of: dict[str, int]
) -> None:
    names = [name for name in schema.columns("session") if name != "id"]
    marks = ", ".join("?" * len(names))
    with _writing():
        merged.execute(
            f"INSERT INTO session ({', '.join(names)}) VALUES ({marks}) ON CONFLICT (uuid) DO UPDATE SET "
            "ended = coalesce(ended, excluded.ended), ended_by = coalesce(ended_by, excluded.ended_by)",
            tuple(session[name] for name in names),
        )
    uuid = session["uuid"]
    (id_,) = merged.execute("SELECT id FROM session WHERE uuid = ?", (uuid,)).fetchone()
    frames = 0
    for table in KEYS:
        columns = schema.columns(table)
        statement = schema.insert(table)
        if table == "window":  # of two, the one that knows more frames
            better = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in ("session", "number"))
            statement = f"{schema.insert(table, conflict='')} ON CONFLICT DO UPDATE SET {better} WHERE excluded.n > n"
        found = rows(database, table, session["id"])
        while batch := [(id_, *row[1:]) for row in itertools.islice(found, AT_ONCE)]:  # read apart from being written
            with _writing():
                merged.executemany(statement, batch)
        if table == "frame":
            (frames,) = database.execute("SELECT count(*) FROM frame WHERE session = ?", (session["id"],)).fetchone()
    rows_of[uuid] = max(rows_of.get(uuid, 0), frames + session["frames_dropped"])


def _different(files: Sequence[Path]) -> list[Path]:
    """Each file once, in order, whatever it was called."""
    return list({os.path.realpath(file): file for file in reversed(files)}.values())[::-1]


def _named(files: Sequence[Path]) -> str:
    return ", ".join(f"'{file}'" for file in files)
