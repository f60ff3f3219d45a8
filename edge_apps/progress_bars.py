"""Progress on a terminal: bars on stderr that vanish when the work is done, and lines that stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from edge_apps.console import new_bars, progress
from edge_apps.progress import Unit
from edge_apps.settings import as_options
from edge_apps.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class BarTask:
    """A bar that shows one piece of work."""

    def __init__(self, bars: Progress, number: TaskID) -> None:
        self._bars, self._number = bars, number

    def advance(self, count: int) -> None:
        """Move the bar on by so many items."""
        self._bars.advance(self._number, count)

    def at(self, finished: int, total: int | None, text: str | None = None) -> None:
        """Set the bar, and the text before it."""
        description = None if text is None else visible(text)
        self._bars.update(self._number, completed=finished, total=total, description=description)


class ProgressBars:
    """Shows bars where stderr is a terminal; elsewhere each step of a job is a line, ``[2/5] Calibrating``."""

    def __init__(self) -> None:
        self._console = progress()
        self._job: TaskID | None = None
        self._begun = self._total = 0

    @cached_property
    def _bars(self) -> Progress:
        return new_bars(self._console)

    def note(self, text: str) -> None:
        """Print one line, above any bar."""
        self._console.print(as_options(text), markup=False, soft_wrap=True)

    @contextmanager
    def steps(self, total: int) -> Iterator[None]:
        """Show a bar of so many steps."""
        with self._bar("Starting", total) as number:
            self._job, self._begun, self._total = number, 0, total
            try:
                yield
            finally:
                self._job = None

    def step(self, text: str) -> None:
        """Move the job's bar on; a line where there is no terminal, or no job."""
        if self._job is None:
            self.note(text)
            return
        self._bars.update(self._job, description=visible(text), completed=self._begun)
        self._begun += 1
        if not self._console.is_terminal:
            self.note(f"[{self._begun}/{self._total}] {text}")

    @contextmanager
    def track(self, title: str, total: int | None, unit: Unit) -> Iterator[BarTask]:
        """Show a bar until the work is done."""
        with self._bar(title, total, unit) as number:
            yield BarTask(self._bars, number)

    @contextmanager
    def _bar(self, title: str, total: int | None, unit: Unit = "items") -> Iterator[TaskID]:
        if not self._bars.task_ids:
            self._bars.start()
        number = self._bars.add_task(visible(title), total=total, unit=unit)
        try:
            yield number
        finally:
            self._bars.remove_task(number)
            if not self._bars.task_ids:
                self._bars.stop()
