"""A web server that can be told to misbehave."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from recorder import Recorder

from edge_apps.progress import shown_by


@dataclass
class Server:
    """Serves ``files`` by name, in ways that tests choose, and remembers what it was asked.

    ``break_after`` ends that many answers early, after so many bytes; ``errors`` are answered first. ``length`` is
    stated in place of the right one, ``redirect`` is where every request is sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = '"one"'
    break_after: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    length: str | None = None
    redirect: str | None = None
    gate: threading.Event | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One GET."""
        name, wanted = request.path.rpartition("/")[2], request.headers["Range"]
        self.asked.append((name, wanted))
        if self.errors or name not in self.files:
            request.send_error(self.errors.pop(0) if self.errors else 404)
            return
        data, start = self.files[name], 0
        if wanted and self.ranges and request.headers["If-Range"] in (None, self.etag):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if start >= len(data):
                request.send_error(416)
                return
        if self.redirect is not None:
            request.send_response(302)
            request.send_header("Location", self.redirect)
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", self.length or str(len(data) - start))
        request.end_headers()
        end = self.break_after.pop(0) if self.break_after else len(data)
        request.wfile.write(data[start:end])
        if self.gate is not None:
            self.gate.wait(30)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A mirror on this machine, an empty cache, and no pauses between attempts."""
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Not on stderr."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.url = f"http://127.0.0.1:{http.server_port}/weights"
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_URL", made.url)
    monkeypatch.setenv("EDGE_PIPELINE_WEIGHTS_DIR", str(tmp_path / "cache"))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("pipeline.checkpoints.pretrained.download.PAUSES_S", (0.0, 0.0))
    yield made
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def said() -> Iterator[Recorder]:
    """What a download reports."""
    recorder = Recorder()
    with shown_by(recorder):
        yield recorder
