"""Ending in order: SIGINT and SIGTERM ask the frame loop to stop after the frame it is at."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Catches the two signals inside a ``with`` block; ``reason`` is then the name of the one that came.

    The second one does what it always does, so that a program that hangs can still be ended by Ctrl-C. A signal that
    the program was started to ignore (``nohup``, a shell's background job) stays ignored. Main thread only.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _caught(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        self.reason = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
