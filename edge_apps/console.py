"""How both programs speak: results on stdout, progress on stderr, an error in one line with its exit status."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from edge_apps.errors import EdgeError, first_line
from edge_apps.settings import as_options
from edge_apps.visible import visible, visible_json, visible_lines

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

SEE_TRACEBACK = " Run with --debug for the traceback."

WIDTH_OF_A_PIPE = 160
"""Columns for tables when stdout is no terminal: nothing is cut to 80 in a log."""


# From click 8.2 on, a group without arguments raises this; before, it printed its help and was done.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class SafeConsole(Console):
    """A console on which what others wrote cannot steer the terminal; rich's own control codes can."""

    def render_str(self, text: str, **how: Any) -> Text:
        """As rich's, with settings shown as options, and made visible before it is measured: that takes more room."""
        return super().render_str(visible_lines(as_options(text)), **how)

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


def progress_bar(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """A bar on stderr with these columns; nothing where stderr is no terminal.

    Not redirected: rich would show on the bar's console what libraries print while they are hushed.
    """
    from rich.progress import Progress

    console = progress()
    return Progress(
        *columns,
        console=console,
        transient=transient,
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


def table(title: str | None = None) -> Table:
    """An empty table in the one style of both programs: no lines, so that 80 columns hold as much as they can."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))


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


class Program(click.Group):
    """A click group whose errors are one line on stderr: 1 failed, 2 wrong usage or bad input, 130 Ctrl-C, 143 SIGTERM.

    ``--debug`` is understood anywhere on the command line.
    """

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        _make_streams_safe()
        arguments, debug = _without_debug(list(sys.argv[1:] if args is None else args))
        if arguments:
            # A shell that completes gives none. With some, the variable by which it asks must not replace the command.
            extra["complete_var"] = ""
        with _orderly_sigterm() as terminated:
            self._end(arguments, debug, terminated, **extra)

    def _end(self, arguments: list[str], debug: bool, terminated: Callable[[], bool], **extra: Any) -> NoReturn:
        """Run the command and leave with its exit status."""
        try:
            status = super().main(args=arguments, **{**extra, "standalone_mode": False})
            sys.stdout.flush()  # a reader that went away is met here, not in the interpreter's last breath
        except _NO_ARGUMENTS as error:
            sys.stderr.write(f"{error.format_message()}\n")
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else self.name
            _say(f"{error.format_message()} See '{command} --help'.")
            sys.exit(2)
        except click.ClickException as error:
            _say(error.format_message())
            sys.exit(1)
        except (click.Abort, KeyboardInterrupt) as stop:
            if isinstance(stop.__cause__, EOFError):  # click takes a library's EOFError for Ctrl-D
                _fault(stop.__cause__, debug)
            _say("Terminated." if terminated() else "Interrupted.")
            sys.exit(143 if terminated() else 130)
        except EdgeError as error:
            if debug:
                traceback.print_exc()
            _say(f"{error}{SEE_TRACEBACK if error.traceback_helps and not debug else ''}")
            sys.exit(error.exit_status)
        except BrokenPipeError:
            # What is still buffered has no reader; without this the interpreter would complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:
            _fault(error, debug)
        sys.exit(status if isinstance(status, int) else 0)


def _make_streams_safe() -> None:
    """Make stdout take every character, and give a stream that was closed (``>&-``) a place where it goes nowhere.

    That place also holds the low descriptor, which the next file opened would get: a library's chatter would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays open
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr escapes what it cannot encode from the start
        sys.stdout.reconfigure(errors="replace")


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, as far as options go: behind ``--`` every word is a name."""
    options = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:options] if word != "--debug"]
    return kept + arguments[options:], len(kept) < options


@contextlib.contextmanager
def _orderly_sigterm() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM do what Ctrl-C does, so that staging folders are cleared away; hands out whether it came.

    It does so once: timeout(1) sends it twice, and the second must not stop the clearing away. Where SIGTERM is
    ignored or somebody else's, and outside the main thread, it is left alone.
    """
    came = False

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            return
        came = True
        interrupt = signal.getsignal(signal.SIGINT)
        if callable(interrupt):
            interrupt(number, frame)
        raise KeyboardInterrupt  # Ctrl-C is ignored (a background job), SIGTERM is not

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield lambda: False
        return
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _fault(error: Exception, debug: bool) -> NoReturn:
    """The end for what nobody foresaw: a full disk, or a fault of the program or of a library."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": '{error.filename}'" if error.filename else ""
        _say(f"{error.strerror}{where}.")
    else:
        _say(
            f"{type(error).__name__}: {first_line(error)}. This is a fault of the program or of a library; "
            "run it again with --debug for the traceback."
        )
    sys.exit(1)


def _say(message: str) -> None:
    """One line of characters that can be seen, whatever a library or a hostile file put into the message."""
    sys.stderr.write(f"Error: {visible(as_options(' '.join(message.splitlines())))}\n")
