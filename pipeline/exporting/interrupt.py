"""Ctrl-C and SIGTERM that no library can lose."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Hands out a function that raises ``KeyboardInterrupt`` again if one was raised in the block and has got lost.

    Ctrl-C, and SIGTERM where it does the same, interrupt at once, as always. But Python drops an exception that is
    raised inside a callback of the garbage collector (JAX has one, and converters import it), and a library may turn
    it into an error of its own: such an error leaves the block as ``KeyboardInterrupt``.
    """
    interrupted = False

    def remembering(handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(number: int, frame: Any) -> None:
            nonlocal interrupted
            try:
                handler(number, frame)
            except KeyboardInterrupt:
                interrupted = True
                raise

        return handle

    def check() -> None:
        if interrupted:
            raise KeyboardInterrupt

    replaced: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):  # neither ignored nor the system's own
                replaced[number] = signal.signal(number, remembering(handler))
    try:
        yield check
    except Exception:
        check()
        raise
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
