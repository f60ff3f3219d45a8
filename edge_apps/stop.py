"""Ending in order: SIGINT, SIGTERM and SIGHUP ask the frame loop to stop after the frame it is at."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType

from edge_apps.signals import replaced_handlers

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Catches the signals inside a ``with`` block; ``reason`` is then the name of the first that came.

    After it Ctrl-C does what it always does, so that a program that hangs can still be ended; the others change nothing
    more: supervisors send them twice (timeout(1) does), and a lost terminal sends one beside them. A signal that
    the program was started to ignore (``nohup``, a shell's background job) stays ignored. In the main thread only.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Stop:
        replaced = replaced_handlers(SIGNALS, lambda before: None if before is signal.SIG_IGN else self._caught)
        self._put_back = self._stack.enter_context(replaced)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _caught(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        if self.reason is None:
            self.reason = signal.Signals(number).name
            self._put_back(signal.SIGINT)
