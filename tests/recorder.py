"""Progress that a test reads afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_apps.progress import Unit


@dataclass
class Work:
    """A piece of work that was tracked: its size, and how much of it was reported as finished."""

    title: str
    total: int | None
    finished: int = 0

    def advance(self, count: int) -> None:
        self.finished += count

    def at(self, finished: int, total: int | None, text: str | None = None) -> None:  # noqa: ARG002 - the protocol's
        self.finished, self.total = finished, total


@dataclass
class Recorder:
    """Keeps what is reported."""

    notes: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes += text.splitlines()

    @contextmanager
    def steps(self, total: int) -> Iterator[None]:  # noqa: ARG002 - the protocol's
        yield

    def step(self, text: str) -> None:
        self.begun.append(text)

    @contextmanager
    def track(self, title: str, total: int | None, unit: Unit) -> Iterator[Work]:  # noqa: ARG002 - the protocol's
        self.work.append(Work(title, total))
        yield self.work[-1]
