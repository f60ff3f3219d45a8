"""Logs that somebody else wrote: views, triggers and values of other types are told in one line, by every reader."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_apps.camera.commands.log import log as log_command
from edge_apps.camera.log import open_log
from edge_apps.camera.log.compare import compare_logs
from edge_apps.camera.log.database import reading
from edge_apps.camera.log.export import export
from edge_apps.camera.log.summary import summarize_log
from edge_apps.errors import BadInput

ENDLESS = "WITH RECURSIVE n(session) AS (SELECT 1 UNION ALL SELECT session + 1 FROM n) SELECT * FROM n"


@pytest.fixture
def path(tmp_path: Path, logs) -> Path:
    """A log with a session, three frames and a sample."""
    made = tmp_path / "log.db"
    logs.write(made, [*(logs.frame(number) for number in range(3)), logs.sample()])
    return made


def allow_anything(path: Path) -> None:
    """Take NOT NULL from all columns, as a program of another hand could."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
        database.commit()


def readers(path: Path) -> None:
    """Every reader of a log, in turn, refuses it."""
    for read in (
        lambda: summarize_log(path),
        lambda: compare_logs([path]),
        lambda: export(path, "session", "jsonl", path.with_name("out.jsonl")),
    ):
        with pytest.raises(BadInput) as caught:
            read()
        assert "is damaged or cannot be read" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", ["session", "frame", "sample"])
def test_a_view_that_never_ends_is_not_read(path: Path, logs, table: str) -> None:
    logs.change(path, f"DROP TABLE {table}")
    logs.change(path, f"CREATE VIEW {table} AS {ENDLESS}")
    started = time.monotonic()
    readers(path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON session BEGIN DELETE FROM frame; END",
        "ALTER TABLE frame ADD COLUMN twice AS (infer_ns * 2)",
    ],
)
def test_statements_inside_a_log_are_refused(path: Path, logs, statement: str) -> None:
    logs.change(path, statement)
    readers(path)


def test_a_text_that_is_nested_too_deeply(path: Path, logs) -> None:
    nested = '{"a":' * 100_000
    logs.change(path, f"UPDATE session SET device = '{nested}'")
    with pytest.raises(BadInput, match="is damaged: it is nested too deeply"):
        summarize_log(path)


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "setlimit"), reason="Python 3.10 cannot set SQLite's limits")
def test_texts_of_many_megabytes_are_not_read(path: Path, logs) -> None:
    logs.change(path, "UPDATE session SET source = printf('%.*c', 5000000, 'x')")
    readers(path)


def test_a_run_does_not_write_to_a_log_with_triggers(path: Path, logs, told) -> None:
    logs.change(path, "CREATE TRIGGER t AFTER INSERT ON session BEGIN DELETE FROM frame; END")
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        log.end("frames")
    assert told.kinds == ["log-damaged"]
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(1,)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE session SET load_ms = NULL", "column 'load_ms' of table 'session' holds a value of type 'null'"),
        ("UPDATE session SET load_ms = 'fast'", "'load_ms' of table 'session' holds a value of type 'text'"),
        ("UPDATE session SET load_ms = 9e999", "'load_ms' of table 'session' holds a number beyond 1e\\+300"),
        ("UPDATE session SET model = x'00ff'", "'model' of table 'session' holds a value of type 'blob'"),
        ("UPDATE session SET threads = 9223372036854775807", "'threads' .* holds a number beyond 1e\\+18"),
        ("UPDATE sample SET temperature_c = 'hot'", "'temperature_c' of table 'sample' holds a value of type 'text'"),
        ("UPDATE sample SET throttled = x'ff'", "'throttled' of table 'sample' holds a value of type 'blob'"),
        ("UPDATE frame SET infer_ns = 'x'", "'infer_ns' of table 'frame' holds a value of type 'text'"),
        ("UPDATE frame SET offset_ns = NULL", "'offset_ns' of table 'frame' holds a value of type 'null'"),
    ],
)
def test_a_value_of_another_type_is_named(path: Path, logs, change: str, named: str) -> None:
    allow_anything(path)
    logs.change(path, change)
    with pytest.raises(BadInput, match=named):
        summarize_log(path)
    shown = CliRunner().invoke(log_command, ["summary", str(path)])
    assert isinstance(shown.exception, BadInput)


def test_what_is_not_the_fault_of_the_log_stays_as_it_is(path: Path) -> None:
    with pytest.raises(TypeError, match="mine"), reading(path):
        raise TypeError("mine")


def test_a_fifo_in_place_of_a_log_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.db")
    with pytest.raises(BadInput, match="is not a regular file"):
        summarize_log(tmp_path / "log.db")
    with pytest.raises(BadInput, match="is not a regular file"), open_log(tmp_path / "log.db"):
        pass
