"""The page's server: a thread with an event loop of its own, that the camera starts, stops, and never waits for."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

import uvicorn

from edge_apps.camera.live.state import LiveState
from edge_apps.camera.sources.parse import Event
from edge_apps.camera.web.access import Gate
from edge_apps.camera.web.address import Address, listen, reachable_host
from edge_apps.camera.web.auth import Token
from edge_apps.camera.web.connection import HEAD_BYTES, Connection
from edge_apps.camera.web.routes import Site
from edge_apps.camera.web.stream import Bell
from edge_apps.compat.uvicorn import ThreadServer, call_in
from edge_apps.errors import EdgeError, first_line

KEPT_FOR = 5
"""Seconds that a connection without a request is kept for the next one."""

FAULT = "page-fault"
"""Kind of event for what should not happen in the server."""


class WebServer:
    """Serves a ``LiveState`` until it is stopped. Use it as a context manager, or ``start`` and ``stop`` it."""

    def __init__(
        self, live: LiveState, address: Address, token: str | None, tell: Callable[[Event], None] | None = None
    ) -> None:
        """``token`` of ``choose_token``; an address that others reach must have one.

        ``tell`` hears, in the server's thread, that there is no page any more; by default only the live state does.
        """
        if token is None and not address.is_loopback:
            raise ValueError(f"{address} needs a token")
        self._live, self._address, self._token = live, address, token
        self._tell = tell or live.event
        self._listener: socket.socket | None = None
        self._server: ThreadServer | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._fault = ""

    def start(self) -> None:
        """Take the port, and serve.

        Raises:
            EdgeError: the port is taken, or the address is not of this machine; both may pass.
            BadInput: the port can never be had.
        """
        self._listener = listen(self._address)
        self._address = Address(self._address.host, self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._work, name="live page", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._fault:
            self.stop()
            raise EdgeError(f"The page could not be served on {self._address}: {self._fault}.")

    def stop(self) -> None:
        """Let every viewer go, within a second."""
        if self._server is not None:
            self._server.end()
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> WebServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Of the page, without the token: for logs."""
        return f"http://{reachable_host(self._address)}:{self._address.port}/"

    @property
    def entry(self) -> str:
        """Of the page, with the token if there is one: to be shown once, to the person who started the camera."""
        return f"{self.url}?token={self._token}" if self._token else self.url

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # the camera goes on without its page
            fault = f"{type(error).__name__}: {first_line(error)}"
            if self._ready.is_set():
                self._tell(Event(time.time(), FAULT, f"The page is no longer served: {fault}."))
            else:
                self._fault = fault  # ``start`` raises it
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        assert self._listener is not None
        loop, bell = asyncio.get_running_loop(), Bell()
        gate = Gate(
            Site(self._live, bell).app(),
            Token(self._token) if self._token else None,
            f"edge-camera-{self._address.port}",  # cookies of one host are shared by all its ports
            self._failed,
        )
        self._server = ThreadServer(_config(gate), self._ready)
        with self._live.preview.telling(lambda: call_in(loop, bell.ring)):
            await self._server.serve(sockets=[self._listener])

    def _failed(self, error: Exception) -> None:
        reason = f"A request could not be answered: {type(error).__name__}: {first_line(error)}."
        self._live.event(Event(time.time(), FAULT, reason))


def _config(app: Gate) -> uvicorn.Config:
    for name in ("uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)  # it would warn on stderr of every crooked request
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
    return uvicorn.Config(
        app,
        http=Connection,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # also where a program around this one logs everything: its lines would hold the token
        access_log=False,
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For is anybody's to write
        timeout_keep_alive=KEPT_FOR,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
