"""The tables of a latency log, and how those of an older version become them.

Rows of ``frame``, ``window``, ``sample`` and ``event`` are found by their session and a number of their own, so that
writing or merging the same row twice changes nothing.

Since version 4 a session says which device it is of, by ``device_id``. Before, the fingerprint of the hardware was the
device, called by its board; those sessions keep that.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import uuid
from typing import Any

from edge_apps.untrusted import parse_json

APPLICATION_ID = 0x45444745
"""``EDGE``: marks the file as such a log (``PRAGMA application_id``)."""

SCHEMA_VERSION = 4
"""``PRAGMA user_version``; a program refuses a newer one."""

WINDOW_NS = 10 * 10**9
"""Window ``number`` of a session covers the offsets from ``number * WINDOW_NS`` on."""

TABLES = {
    "session": """
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL DEFAULT '',    -- the same in every log that the session is copied to
    started TEXT NOT NULL,            -- UTC, ISO 8601
    ended TEXT,                       -- NULL: still running, or killed
    ended_by TEXT,                    -- 'end of source', 'frames', 'SIGINT', 'SIGTERM' or an error
    program TEXT NOT NULL,            -- version of edge-pipeline
    fingerprint TEXT NOT NULL,        -- of the hardware
    device_id TEXT NOT NULL DEFAULT '',
    device_name TEXT NOT NULL DEFAULT '', -- at the time
    board TEXT NOT NULL DEFAULT '',   -- '': the device does not say; so below
    soc TEXT NOT NULL DEFAULT '',
    os TEXT NOT NULL DEFAULT '',
    governor TEXT NOT NULL DEFAULT '',-- of the processor's clock, when the session began
    device TEXT NOT NULL,             -- all that is known of it, JSON
    runtime TEXT NOT NULL,            -- library and version
    threads INTEGER NOT NULL,
    model TEXT NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT NOT NULL,             -- of the model file
    target TEXT NOT NULL,
    precision TEXT NOT NULL,
    input TEXT NOT NULL,              -- height×width
    source TEXT NOT NULL,
    settings TEXT NOT NULL DEFAULT '',-- of source and loop, as 'pipelined'; '' too: version 2 did not say
    load_ms REAL NOT NULL,            -- opening the file, the library's import included
    first_ms REAL NOT NULL,           -- the first, cold inference
    warmup INTEGER NOT NULL,          -- inferences before the first frame, the cold one among them
    frames_dropped INTEGER NOT NULL DEFAULT 0  -- rows of frame that are not, or no longer, there
)""",
    "frame": """
CREATE TABLE frame (
    session INTEGER NOT NULL REFERENCES session,
    sequence INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL DEFAULT 0, -- since the session began, monotonic, when the labels were there
    name TEXT NOT NULL,
    captured_at REAL NOT NULL,        -- wall clock, seconds since 1970 UTC
    capture_ns INTEGER NOT NULL,
    decode_ns INTEGER,                -- NULL: version 1 did not measure it, nor the age
    preprocess_ns INTEGER NOT NULL,
    infer_ns INTEGER NOT NULL,
    postprocess_ns INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    age_ns INTEGER,
    label TEXT NOT NULL,
    probability REAL NOT NULL,
    PRIMARY KEY (session, sequence)
) WITHOUT ROWID""",
    "window": """
CREATE TABLE window (
    session INTEGER NOT NULL REFERENCES session,
    number INTEGER NOT NULL,          -- times 10 s since the session began, monotonic
    stage TEXT NOT NULL,
    at REAL NOT NULL,                 -- wall clock of its first frame, seconds since 1970 UTC
    first_ns INTEGER NOT NULL,        -- offset_ns of its first frame
    last_ns INTEGER NOT NULL,         -- and of its last
    n INTEGER NOT NULL,
    p50_ns INTEGER NOT NULL,          -- of its samples
    p90_ns INTEGER NOT NULL,
    p95_ns INTEGER NOT NULL,
    p99_ns INTEGER NOT NULL,
    max_ns INTEGER NOT NULL,
    histogram BLOB NOT NULL,          -- edge_apps.runtime.histogram
    PRIMARY KEY (session, number, stage)
) WITHOUT ROWID""",
    "sample": """
CREATE TABLE sample (
    session INTEGER NOT NULL REFERENCES session,
    number INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,       -- since the session began, monotonic
    at REAL NOT NULL,                 -- wall clock, seconds since 1970 UTC
    temperature_c REAL,               -- NULL: the device does not say; so below
    clock_mhz REAL,
    throttled TEXT,                   -- JSON list of words; [] is not throttled
    memory_mb REAL NOT NULL,          -- of the program, 10^6 bytes
    power_mode TEXT NOT NULL,         -- '': there is none
    PRIMARY KEY (session, number)
) WITHOUT ROWID""",
    "event": """
CREATE TABLE event (
    session INTEGER NOT NULL REFERENCES session,
    number INTEGER NOT NULL,
    offset_ns INTEGER,                -- since the session began, monotonic; NULL: logged by version 1
    at REAL NOT NULL,                 -- wall clock, seconds since 1970 UTC
    kind TEXT NOT NULL,
    sequence INTEGER,                 -- NULL: not of one frame
    name TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (session, number)
) WITHOUT ROWID""",
}
"""Name → statement."""

UNIQUE_UUID = "CREATE UNIQUE INDEX IF NOT EXISTS session_uuid ON session (uuid)"


def create(database: sqlite3.Connection) -> None:
    """Make the tables in a new, empty database, and mark it as a log. Inside a transaction of the caller."""
    for statement in TABLES.values():
        database.execute(statement)
    database.execute(UNIQUE_UUID)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def is_current(database: sqlite3.Connection) -> bool:
    """Whether every table has every column."""
    return all(existing(database, table) >= types(table).keys() for table in TABLES)


def upgrade(database: sqlite3.Connection) -> None:
    """Give the tables of an older version what they lack; no row is lost. Inside a transaction of the caller."""
    for table in ("window", "sample"):
        if not existing(database, table):
            database.execute(TABLES[table])
    _add_columns(database, "session")
    for id_ in [row[0] for row in database.execute("SELECT id FROM session WHERE uuid = ''")]:
        _complete_session(database, id_)
    database.execute(UNIQUE_UUID)
    for id_, device in database.execute("SELECT id, device FROM session WHERE device_id = ''").fetchall():
        told = "UPDATE session SET device_id = fingerprint, device_name = ? WHERE id = ?"
        database.execute(told, (_hardware(device), id_))
    if "offset_ns" not in existing(database, "frame"):
        _add_columns(database, "frame")
        # The wall clock is all that version 1 wrote down.
        database.execute(
            "UPDATE frame SET offset_ns = max(0, CAST((captured_at - begin) * 1e9 AS INTEGER)) FROM "
            "(SELECT session AS id, min(captured_at) AS begin FROM frame GROUP BY session) WHERE session = id"
        )
    if "number" not in existing(database, "event"):
        database.execute("ALTER TABLE event RENAME TO event_of_version_1")
        database.execute(TABLES["event"])
        database.execute(
            "INSERT INTO event SELECT session, row_number() OVER (PARTITION BY session ORDER BY id) - 1, NULL, at, "
            "kind, sequence, name, detail FROM event_of_version_1"
        )
        database.execute("DROP TABLE event_of_version_1")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def insert(table: str, *, conflict: str = "OR IGNORE") -> str:
    """The statement that inserts a row with every column, in the order of ``columns``."""
    names = columns(table)
    return f"INSERT {conflict} INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def columns(table: str) -> list[str]:
    """The columns of a table in their order."""
    return list(types(table))


@functools.cache
def types(table: str) -> dict[str, str]:
    """Column → INTEGER, REAL, TEXT or BLOB."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute(TABLES[table])
        return {row[1]: row[2] for row in database.execute(f"PRAGMA table_info({table})")}


@functools.cache
def required(table: str) -> frozenset[str]:
    """The columns that may not be NULL."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute(TABLES[table])
        return frozenset(row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[3] or row[5])


def existing(database: sqlite3.Connection, table: str) -> set[str]:
    """Return the columns that a table has in this log."""
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def _add_columns(database: sqlite3.Connection, table: str) -> None:
    lines = {words[0]: line for line in TABLES[table].splitlines() if (words := line.split())}
    for name in types(table).keys() - existing(database, table):
        definition = lines[name].partition("--")[0].strip().rstrip(",")
        database.execute(f"ALTER TABLE {table} ADD COLUMN {definition}")


def _complete_session(database: sqlite3.Connection, id_: int) -> None:
    """What a session of version 1 says elsewhere; a UUID that every copy of that log gets for it."""
    names = ("started", "fingerprint", "sha256", "runtime", "source", "load_ms", "first_ms", "device")
    row: tuple[Any, ...] = database.execute(f"SELECT {', '.join(names)} FROM session WHERE id = ?", (id_,)).fetchone()
    device = _known(row[-1])
    name = json.dumps([id_, *row[:-1]], ensure_ascii=False)
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
    values = (identity, *(str(device.get(key, "")) for key in ("board", "soc", "os")), id_)
    database.execute("UPDATE session SET uuid = ?, board = ?, soc = ?, os = ? WHERE id = ?", values)


def _hardware(device: str) -> str:
    """Name the device of a session that has no name: by its board, as it was called until version 3."""
    known = _known(device)
    return next((str(known[key]) for key in ("board", "cpu", "soc", "arch") if known.get(key)), "")


def _known(device: str) -> dict[str, Any]:
    """Decode what a session's row says of its device; a row that is broken stays as it is, and says nothing."""
    try:
        return parse_json(device.encode(), dict[str, Any])
    except ValueError:
        return {}
