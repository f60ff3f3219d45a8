"""Ending in order: SIGINT, SIGTERM and SIGHUP ask the frame loop to stop after the frame it is at."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Catches the signals inside a ``with`` block; ``reason`` is then the name of the first that came.

    After it Ctrl-C does what it always does, so that a program that hangs can still be ended; the others change nothing
    more: supervisors send them twice (timeout(1) does), and a lost terminal sends one beside them. A signal that
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
        if self.reason is None:
            self.reason = signal.Signals(number).name
            if signal.SIGINT in self._before:
                signal.signal(signal.SIGINT, self._before.pop(signal.SIGINT))

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
