"""A log's file: is it one, is it whole; opening it to write and to read."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_apps.camera.log import foreign, schema
from edge_apps.camera.log.integrity import Damaged, is_damage
from edge_apps.errors import BadInput, first_line
from edge_apps.files import check_writable
from edge_apps.untrusted import open_regular

PATIENCE = 10.0
"""Seconds to wait for another program that writes to the same file."""

PASSING = {errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ESTALE}
"""What may be over in a while: a disk that is full, or that its system has set read-only."""

HEAD = 100
"""Bytes that an SQLite file begins with before its first table."""

MAGIC = b"SQLite format 3\0"
"""The first of them."""


def check_output(path: Path) -> None:
    """Refuse a place where a table or a picture cannot be written, and one where a log is: ``BadInput``."""
    check_writable(path)
    if path.exists() and _head(path)[68:72] == schema.APPLICATION_ID.to_bytes(4, "big"):
        raise BadInput(f"'{path}' is a latency log itself: name another file, so that no log is lost.")


def check_is_log(path: Path) -> None:
    """Refuse what exists and is no log of this program; nothing is written, not even a journal.

    An SQLite file says so in its first 16 bytes; ``user_version`` and ``application_id`` lie at bytes 60 and 68,
    big-endian (SQLite database file format, section 1.3). A file that is ours by its ``application_id`` alone, or all
    zeros, as a power cut leaves it, is not refused: it is found damaged when it is opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise BadInput(f"'{path}' is a folder: name a file for the log, as '{path / 'latency.db'}'.")
        if not stat.S_ISREG(mode):
            raise BadInput(f"'{path}' is not a regular file: name a file for the log.")
        head = _head(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise cannot_open(path, error) from error
    if not head:
        return  # an empty file, as mktemp makes it, is an empty database
    if head == bytes(HEAD):
        return
    version, application = int.from_bytes(head[60:64], "big"), int.from_bytes(head[68:72], "big")
    if application != schema.APPLICATION_ID:
        raise BadInput(f"'{path}' is not a latency log of edge-camera; it was left untouched. Choose another file.")
    if head.startswith(MAGIC) and version > schema.SCHEMA_VERSION:
        raise BadInput(
            f"'{path}' is a log of version {version}; this program knows up to {schema.SCHEMA_VERSION}: "
            "upgrade edge-pipeline."
        )


def check_place(path: Path) -> None:
    """Refuse a place where no log can be written; one where none can be written *now* (a full disk) is no mistake."""
    check_is_log(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        if error.errno in PASSING:
            return
        raise cannot_open(path, error) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BadInput(f"Cannot write beside '{path}', as SQLite must. Choose a folder that you can write to.")


def open_to_write(
    path: Path, *, wal_pages: int, check: Callable[[sqlite3.Connection], object] = lambda _: None
) -> sqlite3.Connection:
    """Open a log, new or with earlier sessions, whatever its version; ``check`` looks at it first.

    Raises:
        Damaged: it is broken.
        sqlite3.Error: it cannot be opened now.
        BadInput: what lies there is no log.
    """
    check_is_log(path)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    database.text_factory = _text
    try:
        check(database)
        foreign.check_objects(database)
        _prepare(database)
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")
        # A journal that grew under a long reader is cut back when it is begun anew.
        database.execute(f"PRAGMA journal_size_limit = {wal_pages * 4096}")
    except BaseException as error:
        database.close()
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    return database


def _text(data: bytes) -> str:
    """Of a damaged text what can be read: one name is no reason to refuse a log."""
    return data.decode(errors="replace")


def is_full(error: BaseException) -> bool:
    """No room is left on a disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


def is_busy(error: BaseException) -> bool:
    """Another program is writing."""
    return isinstance(error, sqlite3.OperationalError) and "is locked" in str(error)


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Short, and taken at once: other programs may write their sessions to the same file."""
    database.execute(begin)
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk has rolled it back already
            database.execute("ROLLBACK")
        raise


def read_log(path: Path) -> sqlite3.Connection:
    """Open a log to read from, also while a camera program writes to it, and on a read-only disk.

    It has the tables of ``schema``: one of an older version is copied, and the copy upgraded, in a nameless temporary
    database that SQLite deletes.

    Raises:
        BadInput: no such file, one that is no such log, or a damaged one.
    """
    if not _exists(path):
        raise BadInput(f"No such log: '{path}'. 'edge-camera run' writes one with `log={path}`.")
    check_is_log(path)
    if not path.stat().st_size:
        raise BadInput(f"'{path}' is empty: no run has been logged in it.")
    with damage_named(path):
        try:
            database = _read_only(Path(os.path.realpath(path)))  # beside it its journal lies, whatever points to it
            return database if schema.is_current(database) else _upgraded_copy(database)
        except (sqlite3.OperationalError, OSError) as error:
            if is_damage(error):
                raise
            raise no_room(error) if is_full(error) else cannot_open(path, error) from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """``read_log``, closed at the end; its rows have names. A damaged log is named: ``BadInput``."""
    with damage_named(path), contextlib.closing(read_log(path)) as database, foreign.wrong_values_named(database):
        database.row_factory = sqlite3.Row
        yield database


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """What SQLite, or Python that decodes for it, says of a broken file, in one line.

    Reading needs no disk but for what SQLite sorts and copies: one that is full is not the log's.
    """
    try:
        yield
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if is_full(error):
            raise no_room(error) from error
        raise BadInput(
            f"The log '{path}' is damaged or cannot be read: {first_line(error)}. 'sqlite3 {path} .recover' may save "
            "parts of it."
        ) from error


def no_room(error: Exception) -> BadInput:
    """The error for a disk that has no room for what is sorted and copied to be read."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return BadInput(
        f"Cannot write temporary files in '{_temporary_folder()}': {said}. Name another folder by the variable "
        "SQLITE_TMPDIR."
    )


def cannot_open(path: Path, error: OSError | sqlite3.Error) -> BadInput:
    """The error for it."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return BadInput(f"Cannot open the log '{path}': {said}. Choose another file, or set this one aside.")


def _head(path: Path) -> bytes:
    with open_regular(path) as stream:
        return stream.read(HEAD)


def _exists(path: Path) -> bool:
    """A folder that may not be looked into is told by ``check_is_log``."""
    try:
        return path.exists()
    except OSError:
        return True


def _prepare(database: sqlite3.Connection) -> None:
    # A new file gets its marks in the commit that makes it: half made, it would be refused for ever. And free pages
    # can be given back only where that was said before anything else, which BEGIN IMMEDIATE would be.
    with transaction(database, "BEGIN"):
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # writes, in an empty file; does nothing in another
        if not _tables(database):
            schema.create(database)
    if not schema.is_current(database):
        with transaction(database):
            foreign.check_values(database)
            schema.upgrade(database)
            if not schema.is_current(database):
                raise Damaged("its tables are not those of a log")
    # Only now: in WAL mode the file's marks would reach the file itself, where check_is_log looks, when the run ends.
    _switch_to_wal(database)


def _tables(database: sqlite3.Connection) -> int:
    n: int = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return n


def _switch_to_wal(database: sqlite3.Connection) -> None:
    """SQLite does not wait here as it does elsewhere when another program is just opening the same new log."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _read_only(path: Path) -> sqlite3.Connection:
    """Merges what a killed run left beside the file (mode=ro could not, and would litter), then only reads."""
    where = path.absolute().as_uri()
    try:
        database = _opened(f"{where}?mode=rw")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise
        # A read-only disk, where nobody writes: SQLite reads it without its helper files, merging in a copy.
        journal = path.with_name(f"{path.name}-wal")
        database = _merged_copy(path, journal) if journal.exists() else _opened(f"{where}?mode=ro&immutable=1")
    database.execute("PRAGMA query_only = ON")
    return database


def _merged_copy(path: Path, journal: Path) -> sqlite3.Connection:
    """A log with what a killed run left beside it, in a nameless temporary database that SQLite deletes."""
    with tempfile.TemporaryDirectory(dir=_temporary_folder()) as folder:
        for file in (path, journal):
            shutil.copy(file, folder)
        with contextlib.closing(_opened((Path(folder) / path.name).as_uri() + "?mode=rw")) as merged:
            return _copied(merged)


def _temporary_folder() -> Path:
    """Where SQLite keeps nameless databases, and what it sorts ("Temporary Files Used By SQLite", section 5)."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    usable = (Path(name) for name in named if name and os.access(name, os.W_OK | os.X_OK))
    return next(filter(Path.is_dir, usable), Path())


def _copied(database: sqlite3.Connection) -> sqlite3.Connection:
    copy = sqlite3.connect("", isolation_level=None)
    copy.text_factory = _text
    try:
        database.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _opened(uri: str) -> sqlite3.Connection:
    database = sqlite3.connect(uri, uri=True, timeout=PATIENCE)
    database.text_factory = _text
    try:
        foreign.check_objects(database)
        database.execute("SELECT count(*) FROM session").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _upgraded_copy(database: sqlite3.Connection) -> sqlite3.Connection:
    with contextlib.closing(database):
        copy = _copied(database)
    try:
        with transaction(copy):
            foreign.check_values(copy)
            schema.upgrade(copy)
    except BaseException:
        copy.close()
        raise
    return copy
