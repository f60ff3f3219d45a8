"""The latency log: rows, several sessions, foreign files, and a program that is killed."""

import sqlite3
import threading
import time
from pathlib import Path

import msgspec
import pytest

from edge_apps.camera.log import Log, check_is_log, open_log, read_log, writer
from edge_apps.camera.log.database import open_to_write
from edge_apps.camera.log.schema import SCHEMA_VERSION
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.errors import BadInput
from edge_apps.runtime.device import Device, this_device

SCRIPT = Path(__file__).parents[1] / "fake_camera.py"


def test_what_was_added_can_be_read_by_any_sqlite(logs, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "latency.db"
    lost = Event(1002.5, "lost", "the camera is gone")
    logs.write(
        path, [logs.frame(0), Skipped(1, "bad.png", 1001.5, "corrupt", "it is truncated"), logs.frame(2, "y.png"), lost]
    )
    assert logs.rows(
        path,
        "SELECT session, sequence, name, captured_at, capture_ns, decode_ns, preprocess_ns, infer_ns, "
        "postprocess_ns, total_ns, age_ns, label, probability FROM frame",
    ) == [
        (1, 0, "x.png", 1000.25, 1, 5, 2, 3, 4, 15, 16, "cat", 0.75),
        (1, 2, "y.png", 1000.25, 1, 5, 2, 3, 4, 15, 16, "cat", 0.75),
    ]
    first, second = (offset for (offset,) in logs.rows(path, "SELECT offset_ns FROM frame"))
    assert 0 <= first <= second < 60e9
    assert logs.rows(path, "SELECT session, number, at, kind, sequence, name, detail FROM event") == [
        (1, 0, 1001.5, "corrupt", 1, "bad.png", "it is truncated"),
        (1, 1, 1002.5, "lost", None, "", "the camera is gone"),
    ]
    ((device, fingerprint, started, ended, ended_by),) = logs.rows(
        path, "SELECT device, fingerprint, started, ended, ended_by FROM session"
    )
    assert msgspec.json.decode(device, type=Device) == this_device()
    assert fingerprint == this_device().fingerprint
    assert started <= ended
    assert started.endswith("Z")
    assert ended_by == "end of source"
    assert [p.name for p in path.parent.iterdir()] == ["latency.db"], "a closed log is one file"


def test_runs_add_their_sessions_to_one_file(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for threads in (1, 2, 4):
        logs.write(path, [logs.frame(0)], threads=threads)
    assert logs.rows(path, "SELECT id, threads FROM session") == [(1, 1), (2, 2), (3, 4)]
    assert logs.rows(path, "SELECT session FROM frame") == [(1,), (2,), (3,)]


def test_two_programs_write_to_one_log_at_the_same_time(logs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.001)
    path = tmp_path / "latency.db"
    threads = [threading.Thread(target=logs.write, args=(path, [logs.frame(n) for n in range(2000)])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs.rows(path, "SELECT count(*) FROM frame GROUP BY session") == [(2000,)] * 3


def test_the_rows_are_committed_while_the_program_runs(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        log.begin(logs.session())
        logs.until(lambda: logs.rows(path, "SELECT ended FROM session") == [(None,)])
        log.add(logs.frame(0))
        deadline = time.monotonic() + 30
        while not logs.rows(path, "SELECT 1 FROM frame") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert logs.rows(path, "SELECT sequence FROM frame") == [(0,)], "nothing but time passed since it was added"
        log.end("frames")


def test_the_log_is_as_durable_as_it_says(logs, tmp_path: Path) -> None:
    with open_log(tmp_path / "latency.db") as log:
        logs.until(lambda: log._disk._database)
        database = log._disk._database
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


@pytest.mark.parametrize(
    "content", [b"hello, I am no database", b"SQLite format 3\0 and then rubbish" + bytes(200), b"\0"]
)
def test_a_file_that_is_no_log_is_refused_and_left_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is not a latency log"), open_log(path):
        pass
    with pytest.raises(BadInput, match="is not a latency log"):
        read_log(path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def test_the_database_of_another_program_is_refused_and_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "browser.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE session (id)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="is not a latency log"), open_log(path):
        pass
    assert path.read_bytes() == before


def test_a_log_of_a_later_version_is_refused(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [])
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(BadInput, match=f"version {SCHEMA_VERSION + 1}; this program knows up to {SCHEMA_VERSION}"):
        check_is_log(path)


def test_an_empty_file_becomes_a_log(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    path.touch()
    logs.write(path, [logs.frame(0)])
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(1,)]


def test_places_where_no_log_can_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "latency.db", "Cannot open the log"),
        (Path("/proc/latency.db"), "Cannot open the log"),
    ):
        with pytest.raises(BadInput, match=says), open_log(path):
            pass


def test_a_session_that_fails_waits_for_the_thread_that_commits(logs, tmp_path: Path, monkeypatch) -> None:
    """Closing the database under it would crash the interpreter."""
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.001)

    def fail(log: Log) -> None:
        log.begin(logs.session())
        for sequence in range(5_000):
            log.add(logs.frame(sequence))
        raise KeyboardInterrupt

    for attempt in range(5):
        with pytest.raises(KeyboardInterrupt), open_log(tmp_path / f"{attempt}.db") as log:
            fail(log)
        assert logs.rows(tmp_path / f"{attempt}.db", "PRAGMA integrity_check") == [("ok",)]


def test_reading_needs_a_log(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such log"):
        read_log(tmp_path / "nothing.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(BadInput, match="is empty"):
        read_log(tmp_path / "empty.db")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.db"]


def test_reading_changes_nothing_and_leaves_nothing_behind(logs, tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    logs.write(path, [logs.frame(0)])
    before = path.read_bytes()
    database = read_log(path)
    assert database.execute("SELECT count(*) FROM frame").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM frame")
    database.close()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["latency.db"]


def test_nobody_meets_a_log_that_is_half_made(tmp_path: Path) -> None:
    """Its marks come with its first byte: a program that is killed just then, or looks just then, would refuse it."""
    faults: list[BaseException] = []

    def make(path: Path, done: threading.Event) -> None:
        try:
            open_to_write(path, wal_pages=100).close()
        except BaseException as error:
            faults.append(error)
        done.set()

    for number in range(40):
        path, done = tmp_path / f"{number}.db", threading.Event()
        threads = [threading.Thread(target=make, args=(path, done)) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not done.is_set():
            check_is_log(path)
        for thread in threads:
            thread.join()
    assert faults == []
