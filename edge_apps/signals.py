"""Replace signal handlers for the time of a ``with`` block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

Choice = Callable[[Any], Handler | None]
"""Returns the new handler for the one that is there (also ``SIG_DFL`` or ``SIG_IGN``), or None to leave that alone."""


@contextmanager
def replaced_handlers(numbers: Iterable[signal.Signals], choose: Choice) -> Iterator[Callable[[signal.Signals], None]]:
    """Replace the handlers of these signals, and put the old ones back at the end of the block.

    Hands out a function that puts the old one of a signal back at once. Outside the main thread, which alone may set
    handlers, nothing is replaced.
    """
    before: dict[signal.Signals, Any] = {}

    def put_back(number: signal.Signals) -> None:
        if number in before:
            signal.signal(number, before.pop(number))

    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            handler = choose(signal.getsignal(number))
            if handler is not None:
                before[number] = signal.signal(number, handler)
    try:
        yield put_back
    finally:
        for number in list(before):
            put_back(number)
