"""The whole program as a service manager, a person with a browser and a broken camera meet it: a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("fake_camera.py")

SOON = 30.0
"""Seconds; most of what is waited for takes a tenth of one."""


class Program:
    """``edge-camera run …`` that is running."""

    def __init__(self, *arguments: object, stdout: int = subprocess.PIPE, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT, "run", *map(str, arguments)],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())

    def until_it_says(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + SOON
        while time.monotonic() < deadline:
            for line in list(self.said):
                if found := re.search(pattern, line):
                    return found
            time.sleep(0.02)
        raise AssertionError(f"never said {pattern!r}: {self.said}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end; its exit status must be 0. Seconds that it took."""
        start = time.monotonic()
        self._process.send_signal(number)
        out = self._process.stdout.read() if self._process.stdout else ""
        self._process.wait(SOON)
        took = time.monotonic() - start
        self._reader.join(SOON)
        assert self._process.returncode == 0, (out, self.said)
        return took

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(SOON)
        self._reader.join(SOON)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def start(model: Path) -> Iterator[Callable[..., Program]]:
    """Start the program with the model of these tests."""
    started: list[Program] = []

    def run(*arguments: object, **how: Any) -> Program:
        started.append(Program("--model", model, *arguments, **how))
        return started[-1]

    yield run
    for program in started:
        program.kill()


def rows(path: Path, sql: str) -> list[tuple]:
    database = sqlite3.connect(path)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


@pytest.fixture
def nobody() -> int:
    """A port on which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("pipelined", [(), ("--pipelined",)], ids=["in series", "pipelined"])
def test_it_ends_in_order_while_it_waits_for_a_camera(
    start: Callable[..., Program], nobody: int, tmp_path: Path, pipelined: tuple[str, ...]
) -> None:
    log = tmp_path / "latency.db"
    source = f"http://user:secret@127.0.0.1:{nobody}/video"
    program = start("--source", source, "--wait-for-source", "--log", log, *pipelined)
    program.until_it_says("cannot be reached")
    assert program.end() < 2.0, "systemd and people wait for it"
    assert rows(log, "SELECT ended_by FROM session") == [("SIGTERM",)]
    assert "lost" in {kind for (kind,) in rows(log, "SELECT kind FROM event")}
    assert "secret" not in "\n".join(program.said)
    assert b"secret" not in log.read_bytes()


def test_a_service_manager_hears_of_it_also_while_there_is_no_camera(
    start: Callable[..., Program], nobody: int, tmp_path: Path
) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(SOON)
        program = start(
            "--source",
            f"http://127.0.0.1:{nobody}/video",
            "--wait-for-source",
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="400000",
        )
        while len(heard) < 4:
            heard.append(receiver.recv(4096).decode())
        program.end()
        while "STOPPING=1" not in heard:
            heard.append(receiver.recv(4096).decode())
    assert heard[0].startswith("READY=1\nSTATUS=colours-int8.fake on http://127.0.0.1:")
    assert heard[1:4] == ["WATCHDOG=1"] * 3


def test_the_page_shows_what_the_program_does(start: Callable[..., Program], tmp_path: Path) -> None:
    log = tmp_path / "latency.db"
    program = start("--source", "test-pattern", "--fps", 20, "--web", 0, "--log", log)
    url = program.until_it_says(r"Live page: (http://127\.0\.0\.1:\d+/)$")[1]
    deadline = time.monotonic() + SOON
    while True:
        with urllib.request.urlopen(f"{url}api/state", timeout=SOON) as answer:
            state = json.load(answer)
        if state["frames"] >= 10 and state["sample"] and state["log"]["state"] == "writing":
            break
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    assert (state["facts"]["model"], state["health"]["ok"]) == ("colours", True)
    assert state["labels"]["top"][0]["label"] in ("red", "green", "blue")
    assert program.end() < 2.0
    (frames,) = rows(log, "SELECT count(*) FROM frame")[0]
    assert frames >= state["frames"]
    assert rows(log, "SELECT count(*) > 0, min(memory_mb) > 10 FROM sample") == [(1, 1)]
    assert rows(log, "SELECT count(*) > 0 FROM window") == [(1,)]


def test_from_elsewhere_the_page_needs_the_token_that_was_printed(start: Callable[..., Program]) -> None:
    program = start("--source", "test-pattern", "--fps", 20, "--web", "0.0.0.0:0")
    found = program.until_it_says(r"Live page: http://[^/]+:(\d+)/\?token=(\S+)")
    address = f"http://127.0.0.1:{found[1]}/api/state"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address, timeout=SOON)
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {found[2]}"})
    with urllib.request.urlopen(request, timeout=SOON) as answer:
        assert json.load(answer)["facts"]["source"] == "test-pattern"
    assert sum(found[2] in line for line in program.said) == 1, "once"
    program.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_ends_in_order_under_load(
    start: Callable[..., Program], model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Everything at once, at full speed."""
    log, kept = tmp_path / "latency.db", tmp_path / "kept"
    labels = [word for label in ("red", "green", "blue") for word in ("--snapshot-on", label)]
    everything = ["--pipelined", "--watch", "--web", 0, "--snapshot", kept, *labels, "--snapshot-every", 0.05]
    program = start("--source", "test-pattern", "--log", log, *everything)
    url = program.until_it_says(r"Live page: (\S+)")[1]
    with urllib.request.urlopen(f"{url}stream", timeout=SOON) as stream:
        stream.read(1000)
        model.write_bytes(model.read_bytes())
        program.until_it_says("The model is")
        assert program.end(number) < 2.0
    assert [ended for (ended,) in rows(log, "SELECT ended_by FROM session ORDER BY id")] == [
        "another model",
        number.name,
    ]
    assert rows(log, "SELECT count(*) = max(sequence) - min(sequence) + 1 FROM frame") == [(1,)]
    assert list(kept.iterdir())


def test_frames_go_on_while_a_model_is_opened(start: Callable[..., Program], model: Path) -> None:
    """Opening one hushes its library, for the whole process."""
    program = start("--source", "test-pattern", "--fps", 200, "--watch", "--json")
    lines: list[dict] = []
    assert program._process.stdout is not None
    for line in program._process.stdout:
        lines.append(json.loads(line))
        if len(lines) == 50:
            model.write_bytes(model.read_bytes())
        if lines[-1].get("kind") == "model-changed":
            break
    program.kill()
    numbers = [line["sequence"] for line in lines if line["type"] == "frame"]
    assert numbers == list(range(len(numbers)))


def frames_of(url: str) -> int:
    """How many frames the page has counted."""
    with urllib.request.urlopen(f"{url}api/state", timeout=SOON) as answer:
        return int(json.load(answer)["frames"])


def until_it_classified(url: str, more: int) -> None:
    least, deadline = frames_of(url) + more, time.monotonic() + SOON
    while frames_of(url) < least:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_full_disk_ends_no_camera(start: Callable[..., Program], small_disk) -> None:
    """The log, the snapshots and stdout are all on it."""
    lines = (small_disk.path / "lines.jsonl").open("wb")
    log, kept = small_disk.path / "latency.db", small_disk.path / "kept"
    labels = [word for label in ("red", "green", "blue") for word in ("--snapshot-on", label)]
    snapshots = ["--snapshot", kept, *labels, "--snapshot-every", 0.5]
    with lines:
        program = start(
            *("--source", "test-pattern", "--fps", 100, "--web", 0, "--json"),
            *("--log", log, *snapshots),
            stdout=lines.fileno(),
        )
        url = program.until_it_says(r"Live page: (\S+)")[1]
        until_it_classified(url, 20)
        ballast = small_disk.fill()
        program.until_it_says("Lines on stdout are lost: No space left on device")
        until_it_classified(url, 20)
        ballast.unlink()
        for picture in kept.iterdir():
            picture.unlink()
        until_it_classified(url, 200)
        assert program.end() < 2.0
    program.until_it_says(r"[\d,]+ lines on stdout were lost, the last for: No space left")
    text = (small_disk.path / "lines.jsonl").read_text()
    whole, torn = [], 0
    for line in text.splitlines():
        try:
            whole += [json.loads(line)] if line else []
        except ValueError:
            torn += 1
    assert torn <= 1 + text.count("\n\n"), "only where there was no room"
    assert (whole[0]["type"], whole[-1]["type"]) == ("session", "summary")
    assert whole[-1]["frames"] > sum(line["type"] == "frame" for line in whole), "some lines are lost"
    (counted,) = rows(log, "SELECT count(*) + frames_dropped FROM frame, session")
    assert counted == (whole[-1]["frames"],), "every frame is logged, or counted as dropped"


def test_a_read_only_disk_ends_no_camera(start: Callable[..., Program], small_disk) -> None:
    log = small_disk.path / "latency.db"
    arguments = ("--source", "test-pattern", "--fps", 100, "--web", 0, "--log", log)
    first = start(*arguments)
    until_it_classified(first.until_it_says(r"Live page: (\S+)")[1], 10)
    first.end()
    small_disk.remount("ro")
    program = start(*arguments)
    url = program.until_it_says(r"Live page: (\S+)")[1]
    program.until_it_says(r"Cannot write the log .*: its disk is read-only")
    until_it_classified(url, 50)
    small_disk.remount("rw")
    program.until_it_says("The log .* is written again")
    assert program.end() < 2.0
    assert rows(log, "SELECT count(*) FROM session") == [(2,)]
