"""What a visitor without the token sees: for a browser a field to type it into, for a program one line."""

from __future__ import annotations

import base64
import hashlib

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 18vh auto 0; max-width: 22rem; padding: 0 1.25rem; }
h1 { font-size: 1.25rem; margin: 0 0 .5rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem .75rem; border-radius: .5rem; }
input { border: 1px solid #8888; margin: .25rem 0 .75rem; }
button { border: 0; background: #1f6f5c; color: #fff; cursor: pointer; }
[role=alert] { color: #b3261e; }
@media (prefers-color-scheme: dark) { [role=alert] { color: #ff8a80; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edge-camera: token needed</title>
<style>{style}</style>
<h1>This camera asks for its token</h1>
{wrong}
<p>It was printed when the camera program started.</p>
<form action="/">
<label>Token <input name="token" type="password" autocomplete="current-password" required autofocus></label>
<button>Show the camera</button>
</form>
</html>
"""

_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def door(request: HTTPConnection, *, wrong: bool) -> Response:
    """401, and how to do better."""
    if "text/html" in request.headers.get("accept", ""):
        said = '<p role="alert">That token is wrong.</p>' if wrong else ""
        page = PAGE.format(style=STYLE, wrong=said)
        headers = {"WWW-Authenticate": "Bearer", "Content-Security-Policy": POLICY}
        return HTMLResponse(page, 401, headers)
    text = "Wrong token.\n" if wrong else "A token is needed: Authorization: Bearer TOKEN.\n"
    return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})
