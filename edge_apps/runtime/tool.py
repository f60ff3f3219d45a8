"""Small programs of a board's maker (``vcgencmd``, ``nvpmodel``) that say what no file does, and may hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time

PATIENCE = 1.0
"""Seconds until such a program counts as hung; they take milliseconds."""

REST = 60.0
"""Seconds for which a program that hung or failed is not asked again."""


class Tool:
    """One question to one program, asked at most ``every`` so many seconds; in between, its last answer stands."""

    def __init__(self, *command: str, every: float) -> None:
        self._program = shutil.which(command[0])
        self._arguments = command[1:]
        self._every = every
        self._answer: str | None = None
        self._due = time.monotonic()

    def ask(self) -> str | None:
        """What it printed; None where it is not installed, failed, or did not end within ``PATIENCE``."""
        if self._program is None or time.monotonic() < self._due:
            return self._answer
        self._answer = _output([self._program, *self._arguments])
        self._due = time.monotonic() + (REST if self._answer is None else self._every)
        return self._answer


def _output(command: list[str]) -> str | None:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,  # what it started ends with it, and Ctrl-C is not for it
        )
    except OSError:
        return None
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return None
    return said if process.returncode == 0 else None


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill it and all it started, without waiting for one that a driver holds."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=PATIENCE / 10)
    if process.stdout:
        process.stdout.close()
