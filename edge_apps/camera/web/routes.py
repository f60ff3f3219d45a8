"""What is answered at which path."""

from __future__ import annotations

import importlib.resources
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from edge_apps.camera.live.state import LiveState
from edge_apps.camera.web import metrics
from edge_apps.camera.web.metrics import Metrics
from edge_apps.camera.web.stream import (
    MJPEG,
    MULTIPART,
    SERVER_SENT,
    Bell,
    Bulletin,
    Endless,
    Places,
    frames,
    picture,
    pictures,
)

PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/frames.js": ("frames.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path → file beside this one, and what it is. There is nothing else, and no folder to list."""

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class Site:
    """The application behind the gate."""

    def __init__(self, live: LiveState, bell: Bell) -> None:
        self._live, self._bell = live, bell
        self._metrics, self._bulletin = Metrics(live), Bulletin(live)
        self._viewers, self._listeners = Places(), Places()

    def app(self) -> ASGIApp:
        """Its routes; every one answers GET and HEAD."""
        own: dict[str, Endpoint] = {
            "/stream": self._stream,
            "/frames": self._frames,
            "/snapshot.jpg": self._snapshot,
            "/events": self._events,
            "/api/state": self._state,
            "/metrics": self._scrape,
            "/healthz": self._health,
        }
        pages = {path: _page(*page) for path, page in PAGE.items()}
        routes = [Route(path, endpoint) for path, endpoint in {**pages, **own}.items()]
        return Router(routes, redirect_slashes=False, default=_not_found)

    async def _stream(self, request: Request) -> ASGIApp:  # noqa: ARG002 - an endpoint's signature, here and below
        if self._viewers.is_full:
            return _full()
        return Endless(pictures(self._live, self._bell), MJPEG, self._viewers)

    async def _frames(self, request: Request) -> ASGIApp:  # noqa: ARG002
        if self._viewers.is_full:
            return _full()
        return Endless(frames(self._live, self._bell), MULTIPART, self._viewers)

    async def _snapshot(self, request: Request) -> ASGIApp:  # noqa: ARG002
        found = await picture(self._live, self._bell)
        if found is None:
            return PlainTextResponse("There is no picture yet.\n", 503, {"Retry-After": "2"})
        jpeg, shown = found
        return Response(jpeg, media_type="image/jpeg", headers={"X-Frame-Sequence": str(shown.result.sequence)})

    async def _events(self, request: Request) -> ASGIApp:  # noqa: ARG002
        if self._listeners.is_full:
            return _full()
        return Endless(self._bulletin.messages(), SERVER_SENT, self._listeners)

    async def _state(self, request: Request) -> ASGIApp:  # noqa: ARG002
        return _json(msgspec.json.encode(self._live.state()))

    async def _scrape(self, request: Request) -> ASGIApp:  # noqa: ARG002
        return Response(self._metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _health(self, request: Request) -> ASGIApp:  # noqa: ARG002
        health = self._live.health()
        return _json(msgspec.json.encode(health), 200 if health.ok else 503)


def _page(name: str, content_type: str) -> Endpoint:
    """A file of the page, read once."""
    data = importlib.resources.files(__package__).joinpath("static").joinpath(name).read_bytes()

    async def answer(request: Request) -> ASGIApp:  # noqa: ARG001
        return Response(data, headers={"Content-Type": content_type})

    return answer


async def _not_found(*asgi: object) -> None:
    await PlainTextResponse("Not found.\n", 404)(*asgi)  # type: ignore[arg-type]


def _json(data: bytes, status: int = 200) -> Response:
    return Response(data + b"\n", status, media_type="application/json")


def _full() -> Response:
    return PlainTextResponse("Too many viewers. Try again later.\n", 503, {"Retry-After": "10"})
