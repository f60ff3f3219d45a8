"""The real program with a real file at full speed for a while: it neither grows nor falls behind with its log."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_apps.runtime.manifest import Bundle

GROWTH = 5_000_000
"""Bytes that memory may grow by after the first part."""

LATEST = 2.5
"""Seconds between a frame and its row on the disk: a commit a second, and what a busy machine adds."""


@pytest.mark.parametrize(
    ("seconds", "settled"), [(60, 20), pytest.param(1200, 60, marks=pytest.mark.long)], ids=["a minute", "20 minutes"]
)
@pytest.mark.timeout(1500)
def test_memory_stays_and_no_commit_is_missed(demo_bundle: Bundle, tmp_path: Path, seconds: int, settled: int) -> None:
    log = tmp_path / "latency.db"
    file = demo_bundle.root / "mobilenet_v2-int8.tflite"
    arguments = ["--model", file, "--source", "test-pattern", "--threads", "1", "--log", log, "--web", "0", "--quiet"]
    camera = subprocess.Popen(
        [sys.executable, "-m", "edge_apps.camera", "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    memory: list[int] = []
    late: list[float] = []
    try:
        _until_there_are_rows(log, camera)
        for _ in range(seconds):
            time.sleep(1)
            assert camera.poll() is None, camera.communicate()
            memory.append(_resident(camera.pid))
            late.append(time.time() - _one(log, "SELECT max(captured_at) FROM frame"))
    finally:
        camera.send_signal(signal.SIGTERM)
        said, _ = camera.communicate(timeout=30)
    assert camera.returncode == 0, said
    grown = max(memory[settled:]) - memory[settled - 1]
    frames, first, last = _row(log, "SELECT count(*), min(sequence), max(sequence) FROM frame")
    print(f"{frames:,} frames, {seconds} s; grew by {grown:,} bytes after {settled} s; latest row {max(late):.2f} s")
    assert grown <= GROWTH, memory
    assert max(late) <= LATEST, late
    assert (first, last) == (0, frames - 1), "none is missing"
    assert frames > 10 * seconds
    assert _row(log, "SELECT count(*) FROM event") == (0,)
    assert _row(log, "PRAGMA integrity_check") == ("ok",)


def _until_there_are_rows(log: Path, camera: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert camera.poll() is None, camera.communicate()
        try:
            if log.exists() and _one(log, "SELECT count(*) FROM frame"):
                return
        except sqlite3.OperationalError:  # it is being made
            pass
        time.sleep(0.2)
    raise AssertionError("no row was written within a minute")


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _one(log: Path, sql: str) -> float:
    return float(_row(log, sql)[0])


def _row(log: Path, sql: str) -> tuple:
    database = sqlite3.connect(log, timeout=10)
    try:
        return tuple(database.execute(sql).fetchone())
    finally:
        database.close()
