"""How long work reports what it does, to whoever shows it: a terminal, a notebook, or nobody.

Work calls ``note``, ``step`` and ``track`` of this module; they go to the ``Progress`` that ``shown_by`` names. The
command line shows a bar on stderr. In a Python program nothing is shown unless it asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, Protocol, TypeVar

T = TypeVar("T")

Unit = Literal["items", "bytes"]


class Task(Protocol):
    """One piece of work with a bar of its own."""

    def advance(self, count: int) -> None:
        """Report that so many items more are finished."""

    def at(self, finished: int, total: int | None, text: str | None = None) -> None:
        """Report how many items of how many are finished, and what is being done now."""


class Progress(Protocol):
    """Whoever shows what long work does."""

    def note(self, text: str) -> None:
        """Show one line that stays."""

    def steps(self, total: int) -> AbstractContextManager[None]:
        """Show a job of so many steps, each of which ``step`` begins."""

    def step(self, text: str) -> None:
        """Show that the next step of the job begins. Outside a job it is a note."""

    def track(self, title: str, total: int | None, unit: Unit) -> AbstractContextManager[Task]:
        """Show a piece of work of so many items; None: nobody knows how many."""


class _SilentTask:
    def advance(self, count: int) -> None:
        pass

    def at(self, finished: int, total: int | None, text: str | None = None) -> None:
        pass


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def steps(self, total: int) -> Iterator[None]:  # noqa: ARG002 - the protocol's
        yield

    def step(self, text: str) -> None:
        pass

    @contextmanager
    def track(self, title: str, total: int | None, unit: Unit) -> Iterator[Task]:  # noqa: ARG002 - the protocol's
        yield _SilentTask()


_current: ContextVar[Progress] = ContextVar("progress", default=Silent())  # noqa: B039 - it has no state


@contextmanager
def shown_by(progress: Progress) -> Iterator[None]:
    """Send what is reported in this context, and in this thread, to ``progress``."""
    token = _current.set(progress)
    try:
        yield
    finally:
        _current.reset(token)


def note(text: str) -> None:
    """Report one line that stays."""
    _current.get().note(text)


def steps(total: int) -> AbstractContextManager[None]:
    """Report a job of so many steps, each of which ``step`` begins."""
    return _current.get().steps(total)


def step(text: str) -> None:
    """Report that the next step of a job begins."""
    _current.get().step(text)


def track(title: str, total: int | None = None, unit: Unit = "items") -> AbstractContextManager[Task]:
    """Report a piece of work of so many items; the context gives the task to report them to."""
    return _current.get().track(title, total, unit)


def each(items: Sequence[T], title: str) -> Iterator[T]:
    """Yield the items, and report each as finished when the next one is asked for."""
    with track(title, len(items)) as task:
        for item in items:
            yield item
            task.advance(1)
