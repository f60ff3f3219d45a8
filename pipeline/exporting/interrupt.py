"""Ctrl-C and SIGTERM that no library can lose."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge_apps.signals import replaced_handlers


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

    # Handlers that are neither ignored nor the system's own.
    with replaced_handlers([signal.SIGINT, signal.SIGTERM], lambda h: remembering(h) if callable(h) else None):
        try:
            yield check
        except Exception:
            check()
            raise
