"""Ctrl-C that no library can lose."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Hands out a function that raises ``KeyboardInterrupt`` if Ctrl-C was pressed in the block and has got lost.

    Ctrl-C interrupts at once, as always. But Python drops an exception that is raised inside a callback of the
    garbage collector (JAX has one, and converters import it), and a library may turn it into an error of its own: such
    an error leaves the block as ``KeyboardInterrupt``.
    """
    pressed = False

    def press(_signal: int, _frame: object) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check  # Ctrl-C is somebody else's, or ignored
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield check
    except Exception:
        check()
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
