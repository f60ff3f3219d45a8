"""The latency log: rows, several sessions, foreign files, and a program that is killed."""

import itertools
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from edge_apps.camera import log as log_module
from edge_apps.camera.log import Session, check_is_log, open_log, read_log
from edge_apps.camera.loop import Result
from edge_apps.camera.sources import Event, Skipped
from edge_apps.errors import BadInput, EdgeError
from edge_apps.runtime.device import Device, this_device

SCRIPT = Path(__file__).with_name("fake_camera.py")


def session(**changes: object) -> Session:
    fields = {
        "device": this_device(),
        "runtime": "fake 1.0",
        "threads": 1,
        "model": "colours",
        "file": "colours-int8.fake",
        "sha256": "ab" * 32,
        "target": "tflite",
        "precision": "int8",
        "input": "8×10",
        "source": "folder:x",
        "load_ms": 1.5,
        "first_ms": 2.5,
        "warmup": 5,
    }
    return Session(**{**fields, **changes})


def frame(sequence: int, name: str = "x.png") -> Result:
    times = {"capture": 1, "decode": 5, "preprocess": 2, "infer": 3, "postprocess": 4, "total": 15, "age": 16}
    return Result(sequence, name, 1000.25, (("cat", 0.75), ("dog", 0.25)), times)


def rows(path: Path, sql: str) -> list[tuple]:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def write(path: Path, items: list, ended_by: str = "end of source", **changes: object) -> None:
    with open_log(path) as log:
        log.begin(session(**changes))
        for item in items:
            log.add(item)
        log.end(ended_by)


def test_what_was_added_can_be_read_by_any_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "latency.db"
    lost = Event(1002.5, "lost", "the camera is gone")
    write(path, [frame(0), Skipped(1, "bad.png", 1001.5, "corrupt", "it is truncated"), frame(2, "y.png"), lost])
    assert rows(path, "SELECT * FROM frame") == [
        (1, 0, "x.png", 1000.25, 1, 5, 2, 3, 4, 15, 16, "cat", 0.75),
        (1, 2, "y.png", 1000.25, 1, 5, 2, 3, 4, 15, 16, "cat", 0.75),
    ]
    assert rows(path, "SELECT * FROM event") == [
        (1, 1, 1001.5, "corrupt", 1, "bad.png", "it is truncated"),
        (2, 1, 1002.5, "lost", None, "", "the camera is gone"),
    ]
    ((device, fingerprint, started, ended, ended_by),) = rows(
        path, "SELECT device, fingerprint, started, ended, ended_by FROM session"
    )
    assert msgspec.json.decode(device, type=Device) == this_device()
    assert fingerprint == this_device().fingerprint
    assert started <= ended
    assert started.endswith("Z")
    assert ended_by == "end of source"
    assert [p.name for p in path.parent.iterdir()] == ["latency.db"], "a closed log is one file"


def test_runs_add_their_sessions_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    for threads in (1, 2, 4):
        write(path, [frame(0)], threads=threads)
    assert rows(path, "SELECT id, threads FROM session") == [(1, 1), (2, 2), (3, 4)]
    assert rows(path, "SELECT session FROM frame") == [(1,), (2,), (3,)]


def test_two_programs_write_to_one_log_at_the_same_time(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(log_module, "COMMIT_EVERY", 0.001)
    path = tmp_path / "latency.db"
    threads = [threading.Thread(target=write, args=(path, [frame(n) for n in range(2000)])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(path, "SELECT count(*) FROM frame GROUP BY session") == [(2000,)] * 3


def test_the_rows_are_committed_while_the_program_runs(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        log.begin(session())
        assert rows(path, "SELECT ended FROM session") == [(None,)]
        log.add(frame(0))
        deadline = time.monotonic() + 30
        while not rows(path, "SELECT 1 FROM frame") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rows(path, "SELECT sequence FROM frame") == [(0,)], "nothing but time passed since it was added"
        log.end("frames")


def test_the_log_is_as_durable_as_it_says(tmp_path: Path) -> None:
    with open_log(tmp_path / "latency.db") as log:
        assert log._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert log._database.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"


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


def test_a_log_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    write(path, [])
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 3")
    database.close()
    with pytest.raises(BadInput, match="version 3; this program knows up to 2"):
        check_is_log(path)


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    path.touch()
    write(path, [frame(0)])
    assert rows(path, "SELECT count(*) FROM frame") == [(1,)]


def test_places_where_no_log_can_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "latency.db", "Cannot open the log"),
        (Path("/proc/latency.db"), "Cannot open the log"),
    ):
        with pytest.raises(BadInput, match=says), open_log(path):
            pass


def test_a_log_that_was_cut_off_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    write(path, [frame(n) for n in range(500)])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(EdgeError, match="log"):
        write(path, [frame(0)])


def test_a_full_disk_ends_the_run_with_what_was_committed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(log_module, "COMMIT_EVERY", 0.01)
    path = tmp_path / "latency.db"

    def fill() -> None:
        with open_log(path) as log:
            log.begin(session())
            pages = log._database.execute("PRAGMA page_count").fetchone()[0]
            log._database.execute(f"PRAGMA max_page_count = {pages + 20}")
            for sequence in itertools.count():  # until the thread that commits has met the limit
                log.add(frame(sequence))

    with pytest.raises(EdgeError, match=r"Cannot write the log .* full") as error:
        fill()
    assert error.value.exit_status == 1
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_session_that_fails_waits_for_the_thread_that_commits(tmp_path: Path, monkeypatch) -> None:
    """Closing the database under it would crash the interpreter."""
    monkeypatch.setattr(log_module, "COMMIT_EVERY", 0.001)

    def fail(log: log_module.Log) -> None:
        log.begin(session())
        for sequence in range(50_000):
            log.add(frame(sequence))
        raise KeyboardInterrupt

    for attempt in range(5):
        with pytest.raises(KeyboardInterrupt), open_log(tmp_path / f"{attempt}.db") as log:
            fail(log)
        assert rows(tmp_path / f"{attempt}.db", "PRAGMA integrity_check") == [("ok",)]


def test_reading_needs_a_log(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such log"):
        read_log(tmp_path / "nothing.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(BadInput, match="is empty"):
        read_log(tmp_path / "empty.db")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.db"]


def test_reading_changes_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    write(path, [frame(0)])
    before = path.read_bytes()
    database = read_log(path)
    assert database.execute("SELECT count(*) FROM frame").fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.execute("DELETE FROM frame")
    database.close()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["latency.db"]


def test_a_program_that_is_killed_loses_at_most_the_last_second(fake, tmp_path: Path) -> None:
    model, path = fake.write_fake(tmp_path / "m.fake", seconds=0.01), tmp_path / "latency.db"
    command = [sys.executable, SCRIPT, "run", "-m", model, "-s", "test-pattern", "--log", path, "--json"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        lines = [msgspec.json.decode(program.stdout.readline())]
        deadline = time.monotonic() + 1.7
        while time.monotonic() < deadline:
            lines.append(msgspec.json.decode(program.stdout.readline()))
        killed = time.time()
        program.kill()
        lines += [msgspec.json.decode(line) for line in program.stdout if line.endswith(b"\n")]
    told = [line for line in lines if line["type"] == "frame"]
    assert path.with_name("latency.db-wal").exists(), "killed, not closed"
    database = read_log(path)
    kept = [sequence for (sequence,) in database.execute("SELECT sequence FROM frame ORDER BY sequence")]
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("SELECT ended, ended_by FROM session").fetchall() == [(None, None)]
    database.close()
    assert kept == list(range(len(kept))), "no hole"
    lost = [line for line in told if line["sequence"] >= len(kept)]
    assert kept
    assert all(killed - line["captured_at"] < 2.0 for line in lost), "half a second, and what a busy machine adds"
    write(path, [frame(0)])  # and the next run goes on in the same file
    assert rows(path, "SELECT id, ended IS NULL FROM session") == [(1, 1), (2, 0)]
