"""What every request passes: bounds, the host that it asks for, the token; and the headers of every answer."""

from __future__ import annotations

import asyncio
import math
import urllib.parse
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_apps.camera.web.auth import Patience, Token
from edge_apps.camera.web.connection import HEAD_BYTES
from edge_apps.camera.web.login_page import door

WRITE_WITHIN = 15.0
"""Seconds for a viewer to take a part of an answer; one who does not read makes room for others."""

COOKIE_LASTS = 30 * 24 * 3600
"""Seconds."""

OWN_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts that a page on a loopback address is asked by."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer, unless it brings its own."""


class Gate:
    """An ASGI application around another one, which sees only requests that may be answered."""

    def __init__(self, app: ASGIApp, token: Token | None, cookie: str, failed: Callable[[Exception], None]) -> None:
        """Without a ``token`` this is a loopback address. ``cookie`` is the name of its cookie."""
        self._app, self._token, self._cookie, self._failed = app, token, cookie, failed
        # The cookie of a guessed token can be worked out, so cookies need patience too: one of their own, so that who
        # guesses tokens does not lock out the open pages of the same address.
        self._patience, self._patience_with_cookies = Patience(), Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(scope, send)
        try:
            refusal = self._refusal(HTTPConnection(scope))
            await (refusal or self._app)(scope, receive, answer.send)
        except asyncio.TimeoutError:
            scope["state"]["abort"]()
        except Exception as error:  # a fault of ours: told on the page, without a traceback to the viewer
            self._failed(error)
            if answer.has_begun:
                scope["state"]["abort"]()
            else:
                await PlainTextResponse("Internal error.\n", 500)(scope, receive, answer.send)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """The answer instead of the application's, if there is one."""
        if request.scope["state"]["busy"]:
            return _busy()
        if _head_bytes(request.scope) > HEAD_BYTES:  # h11 counts only what it has to wait for
            return PlainTextResponse("Too long a request.\n", 431, {"Connection": "close"})
        if request.scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Only GET and HEAD.\n", 405, {"Allow": "GET, HEAD"})
        if _is_another_sites(request):
            return PlainTextResponse("Not for other sites.\n", 403)
        return self._of_stranger(request) if self._token else _of_foreign_host(request)

    def _of_stranger(self, request: HTTPConnection) -> Response | None:
        assert self._token is not None
        asked = request.query_params.get("token")
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = asked if asked is not None else bearer.strip() if kind.lower() == "bearer" else None
        guess, is_right, patience = (
            (given, self._token.is_right, self._patience)
            if given is not None
            else (request.cookies.get(self._cookie), self._token.is_right_cookie, self._patience_with_cookies)
        )
        if guess is None:
            return door(request, wrong=False)
        host = request.client.host if request.client else ""
        wait = math.ceil(patience.wait(host))
        if wait:
            text = f"Too many wrong tokens. Try again in {wait} s.\n"
            return PlainTextResponse(text, 429, {"Retry-After": str(wait)})
        if not is_right(guess):
            patience.wrong(host, guess)
            return door(request, wrong=given is not None)
        return None if asked is None else self._welcome(request)

    def _welcome(self, request: HTTPConnection) -> Response:
        """The right token was in the address: from now on it is in a cookie, and no longer in the address."""
        assert self._token is not None
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        path = "/" + urllib.parse.quote(str(request.scope["path"]).lstrip("/\\"))  # "//elsewhere" would be another host
        answer = RedirectResponse(f"{path}?{urllib.parse.urlencode(rest)}" if rest else path, 303)
        # "strict" would keep it from who follows a link of another page to here; no request changes anything anyway.
        answer.set_cookie(self._cookie, self._token.cookie, COOKIE_LASTS, httponly=True, samesite="lax")
        return answer


class Answer:
    """What is sent back: with our headers, and in time."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._closes = bool(scope["state"]["busy"])
        self.has_begun = False

    async def send(self, message: Message) -> None:
        """Raises ``asyncio.TimeoutError`` where the viewer does not read."""
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if self._closes:
                headers["Connection"] = "close"
        await asyncio.wait_for(self._send(message), WRITE_WITHIN)


def _head_bytes(scope: Scope) -> int:
    fields = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return fields + len(scope["raw_path"]) + len(scope["query_string"])


def _busy() -> Response:
    return PlainTextResponse("Too many connections. Try again later.\n", 503, {"Retry-After": "5"})


def _is_another_sites(request: HTTPConnection) -> bool:
    """Whether a page of another site asks: it could not read the answer, but take a viewer's place."""
    fetch = request.headers.get
    return fetch("sec-fetch-site") == "cross-site" and fetch("sec-fetch-mode") != "navigate"


def _of_foreign_host(request: HTTPConnection) -> Response | None:
    """A name that somebody else's DNS lets point to this machine would make us part of their site."""
    name = request.headers.get("host", "").lower()
    name = name[: name.index("]") + 1] if name.startswith("[") and "]" in name else name.partition(":")[0]
    if name in OWN_NAMES or (name and name == request.scope["server"][0]):
        return None
    return PlainTextResponse("This page answers to localhost only.\n", 421)
