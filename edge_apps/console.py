"""How both programs speak: results on stdout, progress on stderr, an error in one line with its exit status."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console

from edge_apps.errors import EdgeError

WIDTH_OF_A_PIPE = 160
"""Columns for tables when stdout is no terminal: nothing is cut to 80 in a log."""


def results() -> Console:
    """Where results go. Made on each use, so that it follows a redirected ``sys.stdout``."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE, highlight=False)


def progress() -> Console:
    """Where progress and notes go."""
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else WIDTH_OF_A_PIPE, highlight=False)


class Program(click.Group):
    """A click group whose errors are one line on stderr: 1 failed, 2 wrong usage or bad input, 130 Ctrl-C."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in arguments
        try:
            status = super().main(args=arguments, **{**extra, "standalone_mode": False})
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else self.name
            _say(f"{error.format_message()} See '{command} --help'.")
            sys.exit(2)
        except click.exceptions.Exit as done:
            sys.exit(done.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _say("Interrupted. Nothing half-written was left behind.")
            sys.exit(130)
        except EdgeError as error:
            if debug:
                traceback.print_exc()
            _say(str(error))
            sys.exit(error.exit_status)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except Exception as error:
            if debug:
                raise
            _say(
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
                " This is a fault of the program or of a library; run again with --debug for the traceback."
            )
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)


def _say(message: str) -> None:
    sys.stderr.write(f"Error: {message}\n")
