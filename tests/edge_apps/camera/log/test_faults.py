"""What happens to a log on a device: full and read-only disks, damage, clocks that are set, files that are moved."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from edge_apps.camera.log import open_log, pending, writer
from edge_apps.camera.log.summary import summarize_log
from edge_apps.camera.log.writer import INBOX
from edge_apps.camera.sources.parse import Event, Skipped
from edge_apps.errors import BadInput, EdgeError

PRINTED = "m\\udcff.tflite"
"""A name whose bytes are no UTF-8, as ``edge_apps.images.printable`` shows it."""


@pytest.mark.usefixtures("quick")
def test_a_full_disk_stops_no_frame_and_the_log_goes_on_when_there_is_room(logs, told, small_disk) -> None:
    path = small_disk.path / "latency.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(1,)])
        ballast = small_disk.fill()
        for sequence in range(1, 2_001):
            log.add(logs.frame(sequence, name="x" * 100))
        logs.until(lambda: log.state.fault)
        assert "full" in log.state.fault
        assert log.state.waiting
        log.add(logs.frame(2_001))
        time.sleep(0.1)
        assert told.kinds == ["log-stopped"], "said once"
        ballast.unlink()
        logs.until(lambda: "log-resumed" in told.kinds and not log.state.waiting)
        assert log.state.fault == ""
        log.end("frames")
    assert logs.rows(path, "SELECT count(*), frames_dropped FROM frame, session") == [(2_002, 0)]
    assert logs.rows(path, "SELECT kind, count(*) FROM event GROUP BY kind") == [("log-resumed", 1), ("log-stopped", 1)]
    assert "no row of a frame was dropped" in told[-1].reason
    assert logs.rows(path, "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.usefixtures("quick")
def test_what_waits_too_long_is_dropped_and_counted_but_stays_in_its_window(logs, told, small_disk, clock) -> None:
    path = small_disk.path / "latency.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(1,)])
        ballast = small_disk.fill()
        for sequence in range(1, 2_001):
            log.add(logs.frame(sequence, name="x" * 1000))
        logs.until(lambda: log.state.fault)
        clock.pass_(61)
        logs.until(lambda: log.state.dropped == 2_000)
        log.add(logs.frame(2_001))
        ballast.unlink()
        logs.until(lambda: "log-resumed" in told.kinds and not log.state.waiting)
        log.end("frames")
    assert logs.rows(path, "SELECT sequence FROM frame") == [(0,), (2_001,)]
    assert logs.rows(path, "SELECT frames_dropped FROM session") == [(2_000,)]
    assert logs.rows(path, "SELECT number, n FROM window WHERE stage = 'total'") == [(0, 2_001), (6, 1)]
    assert "2,000 rows of frames were dropped" in told[-1].reason


@pytest.mark.usefixtures("quick")
def test_a_run_begins_on_a_full_disk(logs, told, small_disk) -> None:
    ballast = small_disk.fill()
    path = small_disk.path / "latency.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: log.state.fault)
        ballast.unlink()
        logs.until(lambda: not log.state.fault)
        log.end("frames")
    assert told.kinds == ["log-stopped", "log-resumed"]
    assert logs.rows(path, "SELECT sequence FROM frame") == [(0,)]


@pytest.mark.usefixtures("quick")
def test_a_disk_that_stays_full_is_an_error_at_the_end(logs, told, small_disk) -> None:
    path = small_disk.path / "latency.db"

    def run() -> None:
        with open_log(path, tell=told.append) as log:
            log.begin(logs.session())
            log.add(logs.frame(0))
            logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(1,)])
            small_disk.fill()
            for sequence in range(1, 2_001):
                log.add(logs.frame(sequence, name="x" * 1000))
            log.end("frames")

    with pytest.raises(EdgeError, match=r"Cannot write the log .* full\. Its last .* rows are lost; what was") as error:
        run()
    assert error.value.exit_status == 1
    (small_disk.path / "ballast").unlink()
    assert logs.rows(path, "SELECT sequence FROM frame") == [(0,)]


def test_what_went_wrong_first_is_what_is_told(logs, small_disk) -> None:
    def run() -> None:
        with open_log(small_disk.path / "latency.db") as log:
            log.begin(logs.session())
            small_disk.fill()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("by_link", [False, True])
def test_what_a_killed_run_left_is_read_on_a_read_only_disk(logs, small_disk, tmp_path: Path, by_link: bool) -> None:
    """Its rows are in the journal, beside the file itself, and SQLite cannot merge them there."""
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        log.begin(logs.session())
        for sequence in range(3):
            log.add(logs.frame(sequence))
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(3,)])
        for name in ("latency.db", "latency.db-wal"):
            shutil.copy(tmp_path / name, small_disk.path)  # as after a power cut; with its -shm SQLite could read it
        log.end("frames")
    small_disk.remount("ro")
    assert (small_disk.path / "latency.db-wal").stat().st_size
    (tmp_path / "link.db").symlink_to(small_disk.path / "latency.db")
    (group,) = summarize_log(tmp_path / "link.db" if by_link else small_disk.path / "latency.db")
    assert (group.stages["total"].n, group.unfinished) == (3, 1)


@pytest.mark.usefixtures("quick")
def test_a_disk_that_becomes_read_only_stops_no_frame(logs, told, small_disk) -> None:
    path = small_disk.path / "latency.db"
    logs.write(path, [logs.frame(0)])
    small_disk.remount("ro")
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: log.state.fault)
        assert told.kinds == ["log-stopped"]
        small_disk.remount("rw")
        logs.until(lambda: not log.state.fault)
        log.end("frames")
    assert logs.rows(path, "SELECT session, sequence FROM frame") == [(1, 0), (2, 0)]


@pytest.mark.usefixtures("quick")
def test_a_full_disk_without_a_mount(logs, told, tmp_path: Path) -> None:
    """The database itself says that it is full: the same way out where a test cannot mount a disk."""
    path = tmp_path / "latency.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM session") == [(1,)])
        log._disk._database.execute("PRAGMA max_page_count = 1")  # rounded up to what it has
        for sequence in range(2_000):
            log.add(logs.frame(sequence, name="x" * 1000))
        logs.until(lambda: "log-resumed" in told.kinds)  # opened again, without that limit
        log.end("frames")
    assert told.kinds == ["log-stopped", "log-resumed"]
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(2_000,)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["latency.db", os.fsdecode(b"l\xff.db")])
def test_a_log_that_is_moved_away_is_begun_anew(logs, told, tmp_path: Path, name: str) -> None:
    path, moved = tmp_path / name, tmp_path / "yesterday.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(1,)])
        path.rename(moved)
        log.add(logs.frame(1))
        logs.until(lambda: "log-moved" in told.kinds)
        log.end("frames")
    assert logs.rows(path, "SELECT sequence FROM frame") == [(1,)]
    assert logs.rows(moved, "SELECT sequence FROM frame") == [(0,)]
    assert logs.rows(path, "SELECT uuid FROM session") == logs.rows(moved, "SELECT uuid FROM session")
    assert logs.rows(path, "SELECT ended_by FROM session") == [("frames",)]
    assert logs.rows(path, "SELECT kind FROM event") == [("log-moved",)]
    assert told[0].reason.encode().startswith(b"'l"), "it can be printed, whatever the bytes of the name are"


def test_a_name_that_is_no_text_stops_no_row(logs, tmp_path: Path) -> None:
    path, name = tmp_path / "latency.db", os.fsdecode(b"m\xff.tflite")
    bad = Skipped(1, name, 1.0, "corrupt", f"'{name}' is truncated")
    logs.write(path, [logs.frame(0, name=name), bad, Event(2.0, "lost", name)], ended_by=f"BadInput: {name}")
    assert logs.rows(path, "SELECT name, ended_by FROM frame, session") == [(PRINTED, f"BadInput: {PRINTED}")]
    assert logs.rows(path, "SELECT name, detail FROM event") == [
        (PRINTED, f"'{PRINTED}' is truncated"),
        ("", PRINTED),
    ]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_clock_that_is_set_is_an_event_and_moves_no_frame(logs, told, tmp_path: Path, clock, seconds: float) -> None:
    path = tmp_path / "latency.db"
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        clock.wall_ahead += 0.5  # as NTP does it, little by little
        logs.until(lambda: not log._inbox)
        assert told == []
        clock.wall_ahead += seconds
        logs.until(lambda: told)
        log.add(logs.frame(1))
        clock.pass_(10)
        log.add(logs.frame(2))
        log.end("frames")
    assert told.kinds == ["clock-jumped"]
    assert f"{'forward' if seconds > 0 else 'back'} by 3,{'600' if seconds > 0 else '599'}." in told[0].reason
    first, second, third = (offset for (offset,) in logs.rows(path, "SELECT offset_ns FROM frame"))
    assert 0 <= first < second < third
    assert 10e9 <= third - second < 60e9
    assert [n for (n,) in logs.rows(path, "SELECT n FROM window WHERE stage = 'infer'")] == [2, 1]
    assert logs.rows(path, "SELECT kind FROM event") == [("clock-jumped",)]


@pytest.mark.usefixtures("quick")
def test_a_fault_while_rows_are_written_is_told_and_they_wait(logs, told, tmp_path: Path, monkeypatch) -> None:
    """Not only what SQLite raises: the thread lives whatever it is."""
    path, write, faults = tmp_path / "latency.db", pending.Pending.write, iter([TypeError("no row")])

    def faulty(*arguments: object) -> None:
        for fault in faults:
            raise fault
        write(*arguments)

    monkeypatch.setattr(pending.Pending, "write", faulty)
    with open_log(path, tell=told.append) as log:
        log.begin(logs.session())
        log.add(logs.frame(0))
        logs.until(lambda: "log-resumed" in told.kinds)
        log.end("frames")
    assert told.kinds == ["log-stopped", "log-resumed"]
    assert "TypeError: no row, a fault of the program" in told[0].reason
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(1,)]


@pytest.mark.usefixtures("quick")
def test_a_thread_that_dies_is_told_and_is_an_error_at_the_end(logs, told, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "latency.db"
    monkeypatch.setattr("edge_apps.camera.log.windows.Windows.add", lambda *_: 1 / 0)

    def run() -> None:
        with open_log(path, tell=told.append) as log:
            log.begin(logs.session())
            log.add(logs.frame(0))
            logs.until(lambda: log.state.fault)
            log.add(logs.frame(1))
            log.end("frames")

    with pytest.raises(
        EdgeError, match=r"ZeroDivisionError: division by zero, a fault of the program\. Its last 3 rows"
    ):
        run()
    assert told.kinds == ["log-stopped"]


@pytest.mark.usefixtures("quick")
def test_a_writer_that_is_held_up_costs_no_more_than_a_full_inbox(logs, tmp_path: Path, monkeypatch) -> None:
    path, go_on = tmp_path / "latency.db", threading.Event()
    write = pending.Pending.write
    monkeypatch.setattr(pending.Pending, "write", lambda *arguments: (go_on.wait(60), write(*arguments))[1])
    monkeypatch.setattr(writer, "SLOW", 0.1)
    with open_log(path) as log:
        log.begin(logs.session())
        logs.until(lambda: not log._inbox)  # it hangs in the first write now
        for sequence in range(INBOX + 500):
            log.add(logs.frame(sequence))
        logs.until(lambda: log.state.fault)
        assert log.state == writer.LogState("its disk does not answer", INBOX, 500)
        go_on.set()
        logs.until(lambda: not log.state.fault)
        log.end("frames")
    ((kept, dropped),) = logs.rows(path, "SELECT (SELECT count(*) FROM frame), frames_dropped FROM session")
    assert (kept, dropped) == (INBOX, 500)


def test_another_program_that_writes_for_long_is_waited_for_without_a_word(logs, told, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.01)
    monkeypatch.setattr("edge_apps.camera.log.disk.BUSY_MS", 10)
    path = tmp_path / "latency.db"
    with open_log(path, tell=told.append) as log:
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(0,)])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        log.begin(logs.session())
        for sequence in range(50):
            log.add(logs.frame(sequence))
            time.sleep(0.01)
        assert logs.rows(path, "SELECT count(*) FROM frame") == [(0,)]
        other.execute("ROLLBACK")
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM frame") == [(50,)])
        other.close()
        log.end("frames")
    assert told == []


def test_the_journal_does_not_grow_without_bound_under_a_long_reader(logs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.005)
    monkeypatch.setattr("edge_apps.camera.log.disk.BUSY_MS", 10)
    monkeypatch.setattr("edge_apps.camera.log.disk.LARGEST_JOURNAL", 300_000)
    path = tmp_path / "latency.db"
    with open_log(path) as log:
        log.begin(logs.session())
        logs.until(lambda: logs.rows(path, "SELECT count(*) FROM session") == [(1,)])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM frame").fetchone()
            largest = 0
            for sequence in range(4_000):
                log.add(logs.frame(sequence, name="x" * 500))
                if sequence % 20 == 0:
                    time.sleep(0.01)
                    largest = max(largest, (tmp_path / "latency.db-wal").stat().st_size)
        log.end("frames")
    assert 300_000 < largest < 2_500_000
    assert logs.rows(path, "SELECT count(*) FROM frame") == [(4_000,)]


def test_the_file_system_refuses_the_place(tmp_path: Path) -> None:
    """An immutable folder, where that can be had: a mistake, told before the run."""
    immutable = tmp_path / "fixed"
    immutable.mkdir()
    if os.geteuid() or subprocess.run(["chattr", "+i", immutable], capture_output=True, check=False).returncode:
        pytest.skip("no immutable folder here: this test did NOT run")
    try:
        with pytest.raises(BadInput, match="Cannot open the log"), open_log(immutable / "latency.db"):
            pass
    finally:
        subprocess.run(["chattr", "-i", immutable], check=True)


@pytest.mark.parametrize("of_file", [False, True])
def test_what_belongs_to_somebody_else_is_refused(logs, of_file: bool) -> None:
    """As another user would meet it: the folder may not be looked into, or the file not be read."""
    if os.geteuid():
        pytest.skip("only root can become another user: this test did NOT run")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latency.db"
        if of_file:
            Path(folder).chmod(0o755)
            logs.write(path)
            path.chmod(0o600)
        assert "Permission denied" in _as_nobody(path)


AS_NOBODY = """
import ctypes, sys
from pathlib import Path
from edge_apps.camera.log import open_log
from edge_apps.errors import BadInput
ctypes.CDLL(None).setresuid(65534, 65534, 65534)  # after the imports: this user may not read them
try:
    with open_log(Path(sys.argv[1])):
        pass
except BadInput as error:
    print(error)
"""


def _as_nobody(path: Path) -> str:
    """What is said to a user who may do nothing here, in a process of its own."""
    command = [sys.executable, "-c", AS_NOBODY, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
