"""How both programs speak: results on stdout, progress on stderr, an error in one line with its exit status."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edge_apps.settings import as_options
from edge_apps.visible import visible, visible_json, visible_lines

if TYPE_CHECKING:
    from rich.progress import Progress

WIDTH_OF_A_PIPE = 160
"""Columns for tables when stdout is no terminal: nothing is cut to 80 in a log."""


class SafeConsole(Console):
    """A console on which what others wrote cannot steer the terminal; rich's own control codes can."""

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich's, made visible before it is measured: a replacement takes room that a control character does not."""
        return super().render_str(visible_lines(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich's, with all text made visible."""
        if isinstance(renderable, Text):
            renderable = renderable.copy()
            renderable.plain = visible_lines(renderable.plain)  # as many characters: its styles stay where they were
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible_lines(segment.text), segment.style)


def results() -> Console:
    """Where results go. Made on each use, so that it follows a redirected ``sys.stdout``."""
    width = None if sys.stdout.isatty() else WIDTH_OF_A_PIPE
    return SafeConsole(file=sys.stdout, width=width, highlight=False, emoji=False)  # 'digits:train:' is no train


def progress() -> Console:
    """Where progress and notes go. A bar goes on moving while libraries are hushed (``edge_apps.chatter``)."""
    file = _own_stderr()
    return SafeConsole(file=file, width=None if file.isatty() else WIDTH_OF_A_PIPE, highlight=False, emoji=False)


def new_bars(console: Console) -> Progress:
    """Return bars for a console, in the one style of both programs; nothing is shown where it is no terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Count(ProgressColumn):
        """How many items, or bytes, of how many; nothing for a piece of work of unknown size."""

        items, bytes = MofNCompleteColumn(), DownloadColumn()

        def render(self, task: Task) -> Text:
            if task.fields["unit"] == "bytes":
                return self.bytes.render(task)
            return Text() if task.total is None else self.items.render(task)

    # Not redirected: rich would show on the bar's console what libraries print while they are hushed.
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def echo_json(document: str | bytes) -> None:
    """Print a JSON document on stdout, in UTF-8 whatever the locale; it steers no terminal either."""
    text = document if isinstance(document, str) else document.decode()
    click.echo(visible_json(text).encode())


class Lines:
    """Whole lines on stdout, which go on while another thread hushes a library.

    A line for which the disk behind stdout has no room is lost and counted, and ends no camera. A reader that went away
    is ``BrokenPipeError``: nobody wants the rest.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.fault = ""
        self._is_torn = False
        self._file = _own(sys.stdout, sys.__stdout__)

    def print(self, line: str) -> None:
        """Write it so that it steers no terminal, and see that it is out."""
        self._write(visible(line))

    def print_json(self, document: str) -> None:
        """The same with a JSON document of one line, which means exactly what it meant."""
        self._write(visible_json(document))

    def _write(self, line: str) -> None:
        try:
            self._file.write(f"\n{line}\n" if self._is_torn else f"{line}\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost += 1
            self.fault = error.strerror or type(error).__name__
            if self.lost == 1:
                _note(f"Lines on stdout are lost: {self.fault}.")
            self._is_torn = True  # it may have gone in half
            self._file = _own(sys.stdout, sys.__stdout__)  # what could not be written stays behind in the old one
        else:
            self._is_torn = False

    def tell_lost(self) -> None:
        """Say on stderr how many are missing, if any."""
        if self.lost:
            _note(f"{self.lost:,} lines on stdout were lost, the last for: {self.fault}.")


def _note(line: str) -> None:
    with contextlib.suppress(OSError):  # the notes may go to the same full disk
        progress().print(line, markup=False, highlight=False)


def _own_stderr() -> IO[str]:
    return _own(sys.stderr, sys.__stderr__)


def _own(stream: IO[str], original: IO[str] | None) -> IO[str]:
    """A descriptor of our own for a stream of the process; what a test or a caller put in its place is left alone."""
    if stream is original and stream is not None:
        with contextlib.suppress(OSError, ValueError):
            return os.fdopen(os.dup(stream.fileno()), "w", buffering=1, encoding="utf-8", errors="replace")
    return stream


@dataclass(frozen=True)
class Line:
    """A line of text between tables, every character of which is shown.

    Long ones are left to the terminal, so that paths can be copied; with ``wraps`` they are broken between words.
    """

    text: str
    style: str | None = None
    wraps: bool = False


Part = Line | Table
"""What a ``show.py`` file makes of a result; commands print it."""


def print_parts(parts: Iterable[Part], console: Console | None = None) -> None:
    """Print lines and tables one below the other, on stdout unless another console is given."""
    console = console or results()
    for part in parts:
        if isinstance(part, Line):
            console.print(as_options(part.text), style=part.style, markup=False, soft_wrap=not part.wraps)
        else:
            console.print(part)


def table(title: str | None = None) -> Table:
    """An empty table in the one style of both programs: no lines, so that 80 columns hold as much as they can."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))


def or_dash(value: float | None, form: str) -> str:
    """Return a figure in this format; a dash where there is none."""
    return "–" if value is None else format(value, form)


def typed(program: str) -> str:
    """How to type a program of this installation: with the folder that the user typed to start this one, if any.

    ``.venv/bin/pipeline demo`` tells the user to go on with ``.venv/bin/edge-camera``, not with a name that the shell
    does not find.
    """
    beside = Path(sys.argv[0]).with_name(program)
    found = shutil.which(program)
    if not beside.is_file() or (found and Path(found).resolve() == beside.resolve()):
        return program
    return str(beside)
