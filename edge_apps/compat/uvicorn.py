"""What we use of uvicorn beyond its documentation: its HTTP connection and the steps of its server.

``tests/edge_apps/compat/test_uvicorn.py`` says what is missing when a version changes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


class HttpConnection(H11Protocol):
    """Call a hook whenever something happens to a connection; by default the hooks do nothing.

    ``app_state`` belongs to the connection alone; the application gets it as ``scope["state"]``.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.app_state = {**self.app_state}

    def on_open(self) -> None:
        """Act when the connection is there."""

    def on_request(self) -> None:
        """Act when a request's head is there."""

    def on_answered(self) -> None:
        """Act when an answer is complete and no further request waits."""

    def on_close(self) -> None:
        """Act when the connection ends."""

    @property
    def host(self) -> str:
        """The address at the other end."""
        return self.client[0] if self.client else ""

    def others(self) -> list[HttpConnection]:
        """Return the other connections of the server."""
        return [other for other in self.connections if isinstance(other, HttpConnection) and other is not self]

    def abort(self) -> None:
        """Cut the connection, and forget what was not read yet."""
        self.transport.abort()

    def drop(self) -> None:
        """Cut the connection, and count it no longer: not even until its socket is closed."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.on_open()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self.on_request()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()
        if self.cycle is before:  # else the next request was there already
            self.on_answered()

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_close()
        super().connection_lost(exc)


class ThreadServer(uvicorn.Server):
    """Serve in a thread: report when it serves, and at the end cut the connections of viewers who do not read.

    Made inside the event loop in which it serves.
    """

    def __init__(self, config: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(config)
        self._ready, self._end, self._loop = ready, asyncio.Event(), asyncio.get_running_loop()

    def end(self) -> None:
        """Stop serving; called from another thread."""
        call_in(self._loop, self._end.set)

    async def main_loop(self) -> None:
        """Wait as uvicorn does, without waking up ten times a second to see whether it is over."""
        tick = 0
        while not self._end.is_set():
            await self.on_tick(tick)  # writes the date that answers bear
            tick += 10
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._end.wait(), 1.0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, HttpConnection)
            connection.abort()
        await super().shutdown(sockets)


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function in an event loop of another thread, unless that loop has just been closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
