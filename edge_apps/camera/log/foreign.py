"""What SQLite allows in a log that somebody else wrote, and the camera program never writes.

A table may be a view that never ends, run statements when a row is written, or hold a text where a number belongs. It
is told as SQLite tells a damaged file: by ``sqlite3.DatabaseError``.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

from edge_apps.camera.log import schema
from edge_apps.errors import BadInput

SMALL = ("session", "sample")
"""Tables whose values are always looked at. The others have millions of rows: they are where a reader failed."""

LARGEST_VALUE = 4 * 10**6
"""Bytes of a row, and so of a text or blob; a histogram has 10,000. A reader holds several rows and copies of them."""

MOST = {"INTEGER": 2**60, "REAL": 10**300}
"""No count, and no time in nanoseconds, is larger either way."""

_STORED = {"INTEGER": ("integer",), "REAL": ("real", "integer"), "TEXT": ("text",), "BLOB": ("blob",)}


def check_objects(database: sqlite3.Connection) -> None:
    """Refuse a database with triggers, or whose tables are no tables. Nothing of it may be read before that."""
    database.execute("PRAGMA trusted_schema = OFF")
    if hasattr(database, "setlimit"):  # from Python 3.11 on
        database.setlimit(getattr(sqlite3, "SQLITE_LIMIT_LENGTH"), LARGEST_VALUE)  # noqa: B009
    for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_master"):
        is_ours = str(name).lower() in schema.TABLES
        if kind == "trigger" or (is_ours and kind != "table"):
            raise sqlite3.DatabaseError(f"it has a {kind} '{name:.60}', which no log has")
        if is_ours and str(sql).upper().split()[:2] != ["CREATE", "TABLE"]:
            raise sqlite3.DatabaseError(f"the table '{name:.60}' is a virtual one")
    for table in schema.TABLES:
        computed = [row[1] for row in database.execute(f"PRAGMA table_xinfo({table})") if row[6]]
        if computed:
            raise sqlite3.DatabaseError(f"the column '{computed[0]:.60}' of '{table}' is computed")


@contextlib.contextmanager
def wrong_values_named(database: sqlite3.Connection) -> Iterator[None]:
    """Tell what is wrong with a log over which a reader fails; what is not the log's fault stays as it is."""
    check_values(database, SMALL)
    try:
        yield
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, BadInput):
        check_values(database)
        raise


def check_values(database: sqlite3.Connection, tables: Iterable[str] = tuple(schema.TABLES)) -> None:
    """Refuse values of another type than their column's, and numbers that nothing can be.

    Columns that an older version of a log does not have are passed over.
    """
    for table in tables:
        there = schema.existing(database, table)
        for column, kind in ((name, kind) for name, kind in schema.types(table).items() if name in there):
            allowed = _STORED[kind] if column in schema.required(table) else (*_STORED[kind], "null")
            stored = ", ".join(f"'{name}'" for name in allowed)
            limit = f" OR {column} NOT BETWEEN -{MOST[kind]} AND {MOST[kind]}" if kind in MOST else ""
            wrong = f"typeof({column}) NOT IN ({stored}){limit}"
            found = database.execute(f"SELECT typeof({column}) FROM {table} WHERE {wrong} LIMIT 1").fetchone()
            if found is not None:
                what = f"a number beyond {MOST[kind]:.0e}" if found[0] in allowed else f"a value of type '{found[0]}'"
                raise sqlite3.DatabaseError(f"column '{column}' of table '{table}' holds {what}")
