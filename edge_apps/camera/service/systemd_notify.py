"""Tells systemd that the program is ready, alive and stopping: ``sd_notify(3)``, one datagram to a socket.

Without ``NOTIFY_SOCKET`` in the environment, which a service of ``Type=notify`` has, every call does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator

from edge_apps.camera.inference.loop import Classifier, Outcome
from edge_apps.camera.inference.sink import Sink

FEED_SHARE = 4
"""The watchdog is fed this often within its limit."""


class Systemd(Sink):
    """Report to the service manager, if there is one."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every = _watchdog_seconds() / FEED_SHARE
        self._fed = 0.0
        self._is_ready = False

    def begin(self, classifier: Classifier) -> None:
        status = f"{classifier.runner.path.name} on {classifier.session.source}"
        if self._is_ready:
            self.status(status)
        else:
            self.ready(status)

    def add(self, item: Outcome) -> None:  # noqa: ARG002 - the protocol's signature
        self.alive()

    def ready(self, status: str) -> None:
        """The first frame can come."""
        self._is_ready = True
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """A line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The frame loop turns. Sent no more often than the watchdog needs."""
        if not self._every:
            return
        now = time.monotonic()
        if now - self._fed >= self._every:
            self._fed = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Asked to end; what is open is being closed."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # Nothing that goes wrong here may end the program.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            message = "\n".join(line.replace("\n", " ") for line in lines)
            out.sendto(message.encode("utf-8", "backslashreplace"), self._address)


@contextlib.contextmanager
def notified() -> Iterator[Systemd]:
    """Report a run to systemd, and that it ends where it ends in order."""
    systemd = Systemd()
    yield systemd
    systemd.stopping()


def _watchdog_seconds() -> float:
    """Of ``WatchdogSec=``; 0 where it is not set, or set for another process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
