"""Logs of several devices as one: every row once, whichever files it is in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_apps.camera.log import merge, open_log
from edge_apps.camera.log.merge import merge_logs
from edge_apps.camera.log.summary import summarize_log
from edge_apps.camera.sources.parse import Event
from edge_apps.errors import BadInput
from edge_apps.runtime.device import this_device

PI = msgspec.structs.replace(this_device(), board="Raspberry Pi 5 Model B")


def test_sessions_of_two_devices(logs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(merge, "AT_ONCE", 7)
    one, two, out = (tmp_path / name for name in ("1.db", "2.db", "all.db"))
    logs.write(one, [logs.frame(n, infer=n) for n in range(50)])
    logs.write(two, [logs.frame(0, infer=9), logs.sample(), Event(3.0, "lost", "gone")], device=PI)
    logs.write(two, [logs.frame(n, infer=n) for n in range(20)], device=PI)
    assert merge_logs(out, [one, two]) == 3
    assert [(g.device.board, g.stages["infer"].n) for g in summarize_log(out)] == [
        (this_device().board, 50),
        (PI.board, 21),
    ]
    assert logs.rows(out, "SELECT session, number, kind FROM event") == [(2, 0, "lost")]
    assert logs.rows(out, "SELECT count(*) FROM sample") == [(1,)]
    for table in ("frame", "window"):
        names = "infer_ns" if table == "frame" else "stage, histogram"
        parts = [row for path in (one, two) for row in logs.rows(path, f"SELECT {names} FROM {table}")]
        assert sorted(logs.rows(out, f"SELECT {names} FROM {table}")) == sorted(parts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.db", "2.db", "all.db"]
    logs.write(out, [logs.frame(0)])  # it is a log like any other
    assert logs.rows(out, "SELECT count(*) FROM session") == [(4,)]


def test_a_session_in_two_files_is_one(logs, tmp_path: Path) -> None:
    path, copy = tmp_path / "latency.db", tmp_path / "copy.db"
    logs.write(path, [logs.frame(n) for n in range(10)])
    shutil.copy(path, copy)
    logs.write(path, [logs.frame(n) for n in range(5)])
    assert merge_logs(tmp_path / "all.db", [copy, path, path, tmp_path / "." / "copy.db"]) == 2
    assert logs.rows(tmp_path / "all.db", "SELECT count(*) FROM frame GROUP BY session") == [(10,), (5,)]
    assert logs.rows(tmp_path / "all.db", "SELECT count(*) FROM window WHERE stage = 'age'") == [(2,)]


def test_what_one_file_dropped_another_may_have(logs, tmp_path: Path) -> None:
    early, late = tmp_path / "early.db", tmp_path / "late.db"
    logs.write(early, [logs.frame(n) for n in range(10)])
    shutil.copy(early, late)
    logs.change(early, "DELETE FROM frame WHERE sequence >= 6")  # copied while it ran
    logs.change(early, "UPDATE session SET ended = NULL, ended_by = NULL")
    logs.change(early, "UPDATE window SET n = 6")
    logs.change(late, "DELETE FROM frame WHERE sequence < 4")
    logs.change(late, "UPDATE session SET frames_dropped = 4")
    for order in ([early, late], [late, early]):
        out = tmp_path / f"{order[0].stem}-first.db"
        merge_logs(out, order)
        assert logs.rows(out, "SELECT frames_dropped, ended_by FROM session") == [(0, "end of source")]
        assert logs.rows(out, "SELECT count(*) FROM frame") == [(10,)]
        assert logs.rows(out, "SELECT DISTINCT n FROM window") == [(10,)]


@pytest.fixture
def large(logs, tmp_path: Path) -> Path:
    """A log that a small disk has no room for."""
    path = tmp_path / "large.db"
    logs.write(path, [logs.frame(n, name="x" * 1_000) for n in range(3_000)])
    return path


def test_a_full_disk_is_named_and_no_log_blamed(small_disk, large: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot write '.*/disk/out\.db': database or disk is full\."):
        merge_logs(small_disk.path / "out.db", [large])
    assert list(small_disk.path.iterdir()) == []


@pytest.mark.parametrize("is_copied_to_be_read", [False, True], ids=["compare", "summary of an older version"])
def test_a_full_folder_for_temporary_files_is_named(logs, small_disk, large: Path, is_copied_to_be_read: bool) -> None:
    """In a process of its own: SQLite asks for the variable once."""
    if is_copied_to_be_read:
        logs.change(large, "ALTER TABLE session DROP COLUMN settings")
    verb = "summary" if is_copied_to_be_read else "compare"
    said = subprocess.run(
        [sys.executable, "-m", "edge_apps.camera", "log", verb, large],
        env={**os.environ, "SQLITE_TMPDIR": str(small_disk.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stdout) == (2, "")
    folder = f"Error: Cannot write temporary files in '{small_disk.path}': database or disk is full."
    assert said.stderr == f"{folder} Name another folder by the variable SQLITE_TMPDIR.\n"


HELD = """
import sys, time
from pathlib import Path
from edge_apps.camera.log import merge

def held(database, files):
    merged(database, files)
    print("merged", flush=True)
    time.sleep(600)

merged, merge._merge = merge._merge, held
merge.merge_logs(Path(sys.argv[1]), [Path(sys.argv[2])])
"""


def test_what_a_killed_merge_left_is_cleared_by_the_next(logs, large: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged" / "out.db"
    command = [sys.executable, "-c", HELD, str(out), str(large)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "merged\n"
        killed.kill()
    (left,) = out.parent.iterdir()
    assert left.name == f".out.db.tmp-{killed.pid}"
    left.with_name(f"{left.name}-journal").touch()
    assert merge_logs(out, [large]) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out.db"]
    assert logs.rows(out, "SELECT count(*) FROM frame") == [(3_000,)]


def test_what_cannot_be_merged_leaves_nothing(logs, tmp_path: Path) -> None:
    good, out = tmp_path / "good.db", tmp_path / "out.db"
    logs.write(good, [logs.frame(n) for n in range(2_000)])
    (tmp_path / "photo.jpg").write_bytes(b"no")
    (tmp_path / "empty.db").touch()
    with open_log(tmp_path / "none.db"):
        pass
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(good.read_bytes()[:40_000])
    for file, says in (
        ("photo.jpg", "is not a latency log"),
        ("empty.db", "is empty"),
        ("nothing.db", "No such log"),
        ("damaged.db", r"damaged\.db' is damaged"),
    ):
        with pytest.raises(BadInput, match=says):
            merge_logs(out, [good, tmp_path / file])
    with pytest.raises(BadInput, match=r"There is no session in '.*none\.db'"):
        merge_logs(out, [tmp_path / "none.db"])
    with pytest.raises(BadInput, match=r"good\.db' exists: name a new file"):
        merge_logs(good, [good])
    with pytest.raises(BadInput, match="Cannot write"):
        merge_logs(Path("/proc/out.db"), [good])
    assert not out.exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
