"""A table of a log for other programs: CSV, JSON lines, Parquet; a million rows in little memory."""

from __future__ import annotations

import base64
import contextlib
import csv
import sqlite3
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from edge_apps.camera.log import schema
from edge_apps.camera.log.database import check_output, reading
from edge_apps.camera.log.devices import id_of, newest_names
from edge_apps.camera.log.merge import rows
from edge_apps.errors import BadInput, MissingExtra, install
from edge_apps.files import whole_file

ADDED = ("device", "device_name", "model", "file")
"""Columns that say what was measured on what, in every row: id and newest name of the device, the network, its file.
The table of sessions has columns of its own for that: there ``device_id`` is the id, ``device`` all that is known of
the hardware, and ``device_name`` the name at the time."""

JSON_COLUMNS = {("session", "device"), ("sample", "throttled")}
"""Texts that are JSON themselves."""

AT_ONCE = 20_000
"""Rows of one Parquet row group."""

STDOUT = Path("-")

Row = tuple[Any, ...]


def export(file: Path, table: str, format_: str, out: Path) -> int:
    """Write all rows of a table, in order of sessions and of what was logged in them; how many they are.

    Each row ends with ``ADDED``.

    Args:
        file: the log.
        table: ``session``, ``frame``, ``window``, ``sample`` or ``event``.
        format_: ``csv`` (a line of names first; histograms as base64), ``jsonl`` or ``parquet``.
        out: the file, which appears whole; ``-`` is stdout.

    Raises:
        BadInput: no log, or a place that cannot be written.
        MissingExtra: Parquet without pyarrow.
    """
    if format_ == "parquet":
        if out == STDOUT:
            raise BadInput("Parquet is no text for stdout: name a file.")
        check_parquet()
    n = 0

    def counted(found: Iterator[Row]) -> Iterator[Row]:
        nonlocal n
        for row in found:
            n += 1
            yield row

    with reading(file) as database, _place(out) as beside:
        _FORMATS[format_](table, counted(_all_rows(database, table)), beside)
    return n


def check_parquet() -> None:
    """Raise ``MissingExtra`` where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"`parquet` needs pyarrow, which is not installed: {install('report')}.") from error


def _all_rows(database: sqlite3.Connection, table: str) -> Iterator[Row]:
    if table == "session":
        yield from map(tuple, database.execute(f"SELECT {', '.join(schema.columns(table))} FROM session ORDER BY id"))
        return
    names = newest_names(database)
    for session in database.execute("SELECT * FROM session ORDER BY id").fetchall():
        added = (id_of(session), names[id_of(session)], session["model"], session["file"])
        for row in rows(database, table, session["id"]):
            yield (*row, *added)


def columns(table: str) -> dict[str, str]:
    """Return the columns that are exported: name → INTEGER, REAL, TEXT or BLOB."""
    return schema.types(table) | ({} if table == "session" else dict.fromkeys(ADDED, "TEXT"))


@contextlib.contextmanager
def _place(out: Path) -> Iterator[Path | None]:
    if out == STDOUT:
        yield None
        return
    check_output(out)
    with whole_file(out) as beside:
        yield beside


def _csv(table: str, found: Iterator[Row], out: Path | None) -> None:
    with out.open("w", encoding="utf-8", newline="") if out else contextlib.nullcontext(sys.stdout) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns(table))
        for row in found:
            writer.writerow([base64.b64encode(v).decode() if isinstance(v, bytes) else v for v in row])


def _jsonl(table: str, found: Iterator[Row], out: Path | None) -> None:
    names = columns(table)
    with out.open("w", encoding="utf-8") if out else contextlib.nullcontext(sys.stdout) as stream:
        for row in found:
            document = {
                name: msgspec.Raw(value.encode()) if (table, name) in JSON_COLUMNS and value is not None else value
                for name, value in zip(names, row, strict=True)
            }
            stream.write(msgspec.json.encode(document).decode() + "\n")


def _parquet(table: str, found: Iterator[Row], out: Path | None) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    kinds = {
        "INTEGER": pyarrow.int64(),
        "REAL": pyarrow.float64(),
        "TEXT": pyarrow.string(),
        "BLOB": pyarrow.binary(),
    }
    types = pyarrow.schema([(name, kinds[kind]) for name, kind in columns(table).items()])
    with ParquetWriter(out, types, compression="zstd") as writer:
        while batch := list(islice(found, AT_ONCE)):
            writer.write_table(pyarrow.table(list(map(list, zip(*batch, strict=True))), schema=types))


_FORMATS: dict[str, Callable[[str, Iterator[Row], Path | None], None]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
