"""One connection, bounded: in number, in the time until a request is there, and in the time until it is read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 64
"""At once; those beyond are told so, and count as refused."""

CONNECTIONS_OF_ONE = 48
"""From one address: a host that takes all it can get does not lock out the others."""

REFUSED = 64
"""That wait to be told so, at once; on those beyond not even a word is lost."""

REFUSED_OF_ONE = 16
"""From one address."""

REQUEST_WITHIN = 10.0
"""Seconds for a whole request head, also on a connection that is kept: whoever sends byte after byte is cut off."""

HEAD_BYTES = 16 * 1024
"""Of a request's first line and headers."""


class Connection(H11Protocol):
    """uvicorn's connection, which has no such bounds; the application finds ``abort`` and ``busy`` in its state."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app_state = {**self.app_state, "abort": self.abort, "busy": False}
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._has_place(CONNECTIONS, CONNECTIONS_OF_ONE, refused=False):
            self._expect_request()
        elif self._has_place(REFUSED, REFUSED_OF_ONE, refused=True):
            self.app_state["busy"] = True
            self._expect_request()
        else:
            self.connections.discard(self)  # at once: it takes no place until the socket is gone
            transport.abort()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._forget_deadline()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        if self.cycle is before:  # else the next request was there already
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    @property
    def host(self) -> str:
        """The viewer's address."""
        return self.client[0] if self.client else ""

    @property
    def is_refused(self) -> bool:
        """Whether all that it gets is an answer to try again later."""
        return bool(self.app_state["busy"])

    def abort(self) -> None:
        """Cut the connection, and forget what was not read yet."""
        self.transport.abort()

    def _has_place(self, most: int, most_of_one: int, *, refused: bool) -> bool:
        """Whether there are fewer others of this kind, and of them fewer from this address."""
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        hosts = [other.host for other in others if other.is_refused is refused]
        return len(hosts) < most and hosts.count(self.host) < most_of_one

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(REQUEST_WITHIN, self.abort)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
