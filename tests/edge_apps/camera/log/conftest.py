"""Sessions and frames to log, and what any SQLite reads of them."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from edge_apps.camera.inference.loop import Result
from edge_apps.camera.inference.session import Session
from edge_apps.camera.log import open_log, writer
from edge_apps.camera.sources.parse import Event
from edge_apps.runtime.device import this_device
from edge_apps.runtime.sensors import Sample


class Logs:
    """What tests of the log have in common."""

    @staticmethod
    def session(**changes: object) -> Session:
        fields = {
            "device": this_device(), "runtime": "fake 1.0", "threads": 1, "model": "colours",
            "file": "colours-int8.fake", "sha256": "ab" * 32, "target": "tflite", "precision": "int8", "input": "8×10",
            "source": "folder:x", "load_ms": 1.5, "first_ms": 2.5, "warmup": 5,
        }  # fmt: skip
        return Session(**{**fields, **changes})

    @staticmethod
    def frame(sequence: int, name: str = "x.png", infer: int = 3, captured_at: float = 1000.25) -> Result:
        times = {"capture": 1, "decode": 5, "preprocess": 2, "infer": infer, "postprocess": 4}
        times |= {"total": infer + 12, "age": infer + 13}
        return Result(sequence, name, captured_at, (("cat", 0.75), ("dog", 0.25)), times)

    @staticmethod
    def sample(at: float = 5.0, **changes: object) -> Sample:
        fields = {
            "at": at, "temperature_c": 50.0, "clock_mhz": 1500.0, "throttled": (), "memory_mb": 90.0, "power_mode": "",
        }  # fmt: skip
        return Sample(**{**fields, **changes})

    def write(
        self, path: Path, items: Iterable[object] = (), ended_by: str = "end of source", **changes: object
    ) -> None:
        """One session."""
        with open_log(path) as log:
            log.begin(self.session(**changes))
            for item in items:
                log.sample(item) if isinstance(item, Sample) else log.add(item)
            log.end(ended_by)

    @staticmethod
    def rows(path: Path, sql: str) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
            return database.execute(sql).fetchall()

    def change(self, path: Path, sql: str, *values: object) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute(sql, values)
            database.commit()

    @staticmethod
    def until(true: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for it, however busy the machine is; also for a log that has no tables yet."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(sqlite3.OperationalError):
                if true():
                    return
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.01)


class Told(list[Event]):
    """Hears what happens to a log."""

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self]


class Clock:
    """The log's clocks, which a test can set: both run on from where they are put."""

    def __init__(self) -> None:
        self.monotonic_ahead = self.wall_ahead = 0.0

    def monotonic_ns(self) -> int:
        return time.monotonic_ns() + int(self.monotonic_ahead * 1e9)

    def monotonic(self) -> float:
        return time.monotonic() + self.monotonic_ahead

    def time(self) -> float:
        return time.time() + self.wall_ahead

    def pass_(self, seconds: float) -> None:
        self.monotonic_ahead += seconds
        self.wall_ahead += seconds


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits, and tries again, at once."""
    monkeypatch.setattr(writer, "COMMIT_EVERY", 0.01)
    monkeypatch.setattr(writer, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(writer, "RETRY_MOST", 0.05)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(writer, "time", made)
    return made
