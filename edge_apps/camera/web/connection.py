"""Bounds connections: in number, in the time until a request is there, and in the time until it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from edge_apps.compat.uvicorn import HttpConnection

CONNECTIONS = 64
"""At once; those beyond are told so, and count as refused."""

CONNECTIONS_OF_ONE = 48
"""From one address: a host that takes all it can get does not lock out the others."""

REFUSED = 64
"""That wait to be told so, at once; those beyond are cut without an answer."""

REFUSED_OF_ONE = 16
"""From one address."""

REQUEST_WITHIN = 10.0
"""Seconds for a whole request head, also on a connection that is kept: whoever sends byte after byte is cut off."""

HEAD_BYTES = 16 * 1024
"""Of a request's first line and headers."""


class Connection(HttpConnection):
    """Bound a connection, as uvicorn does not; the application finds ``abort`` and ``busy`` in its state."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app_state.update(abort=self.abort, busy=False)
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_refused(self) -> bool:
        """Whether all that it gets is an answer to try again later."""
        return bool(self.app_state["busy"])

    def on_open(self) -> None:
        if self._has_place(CONNECTIONS, CONNECTIONS_OF_ONE, refused=False):
            self._expect_request()
        elif self._has_place(REFUSED, REFUSED_OF_ONE, refused=True):
            self.app_state["busy"] = True
            self._expect_request()
        else:
            self.drop()

    def on_request(self) -> None:
        self._forget_deadline()

    def on_answered(self) -> None:
        self._expect_request()

    def on_close(self) -> None:
        self._forget_deadline()

    def _has_place(self, most: int, most_of_one: int, *, refused: bool) -> bool:
        """Whether there are fewer others of this kind, and of them fewer from this address."""
        others = [other for other in self.others() if isinstance(other, Connection) and other.is_refused is refused]
        return len(others) < most and sum(other.host == self.host for other in others) < most_of_one

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(REQUEST_WITHIN, self.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
