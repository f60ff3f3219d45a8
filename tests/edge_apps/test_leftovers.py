"""What a killed process left beside its file is gone after the next run, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_apps.files import write_whole
from edge_apps.leftovers import abandoned, beside, clear_files

NO_PROCESS = 2**22 + 1
"""More than Linux gives out."""

WRITER = """
import sys, time
from pathlib import Path
from edge_apps.files import whole_file
with whole_file(Path(sys.argv[1])) as new:
    new.write_text("half")
    for ending in ("-journal", "-wal", "-shm"):
        new.with_name(new.name + ending).write_text("SQLite's")
    print("writing", flush=True)
    time.sleep(600)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_writer_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "latency.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        left = f".latency.db.tmp-{writer.pid}"
        write_whole(path, b"while it lives")
        assert names(tmp_path) == sorted([left, f"{left}-journal", f"{left}-shm", f"{left}-wal", "latency.db"])
        writer.send_signal(signal.SIGKILL)
    write_whole(path, b"whole")
    assert names(tmp_path) == ["latency.db"]
    assert path.read_bytes() == b"whole"


def test_only_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*.db"
    gone = [f".a[1]*.db.tmp-{NO_PROCESS}", f".a[1]*.db.probe-{NO_PROCESS}-wal", f".a[1]*.db.tmp-{os.getpid()}"]
    kept = [
        f".a[1]*.db.tmp-{os.getppid()}",
        f".a1x.db.tmp-{NO_PROCESS}",
        f".a[1]*.db.notes-{NO_PROCESS}",
        f".a[1]*.db.tmp-{NO_PROCESS}.txt",
        f".a[1]*.db.tmp-x{NO_PROCESS}",
        f"a[1]*.db.tmp-{NO_PROCESS}",
    ]
    for name in gone + kept:
        (tmp_path / name).touch()
    folder = tmp_path / f".a[1]*.db.old-{NO_PROCESS}"
    folder.mkdir()
    assert {left.name for left, _ in abandoned(path)} == {*gone, folder.name}
    clear_files(path)
    assert names(tmp_path) == sorted([*kept, folder.name])


def test_a_number_that_no_process_can_have(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp-9999999999").touch()
    assert [kind for _, kind in abandoned(tmp_path / "a")] == ["tmp"]


def test_without_a_folder_there_is_nothing(tmp_path: Path) -> None:
    assert list(abandoned(tmp_path / "none" / "a")) == []


def test_a_link_that_somebody_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """In a folder where others may write."""
    (tmp_path / "precious").write_text("precious")
    beside(tmp_path / "a").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize(("mode", "umask", "is_now"), [(0o666, 0o022, 0o644), (0o666, 0, 0o666), (0o644, 0o002, 0o644)])
def test_the_umask_takes_from_the_mode(tmp_path: Path, mode: int, umask: int, is_now: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == is_now
