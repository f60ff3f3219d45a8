"""A program of commands: an error is one line with its exit status, and progress goes to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from edge_apps.errors import EdgeError, first_line
from edge_apps.progress import shown_by
from edge_apps.progress_bars import ProgressBars
from edge_apps.settings import as_options
from edge_apps.signals import replaced_handlers
from edge_apps.visible import visible

SEE_TRACEBACK = " Run with --debug for the traceback."

# From click 8.2 on, a group without arguments raises this; before, it printed its help and was done.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


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
            with shown_by(ProgressBars()):
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

    with replaced_handlers([signal.SIGTERM], lambda before: terminate if before is signal.SIG_DFL else None):
        yield lambda: came


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
