"""The live page, served on a free port to real sockets."""

import http.client
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from edge_apps.camera.live.state import LiveState
from edge_apps.camera.web.address import Address
from edge_apps.camera.web.server import WebServer

TOKEN = "correct-horse-battery-staple"


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Camera:
    """A camera whose page is served."""

    live: LiveState
    server: WebServer
    host: str

    @property
    def port(self) -> int:
        return self.server._address.port

    def get(self, path: str, method: str = "GET", **headers: str) -> Answered:
        """One request; underscores in names of headers are hyphens."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, headers=named)
            answer = connection.getresponse()
            return Answered(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


@pytest.fixture
def serve(live_camera: ModuleType) -> Iterator[Callable[..., Camera]]:
    """``serve(token=None, frames=True, …)`` starts one; frames flow, 50 a second."""
    with ExitStack() as stack:

        def start(
            *, token: str | None = None, host: str = "127.0.0.1", port: int = 0, frames: bool = True, **named: float
        ) -> Camera:
            live = stack.enter_context(LiveState(live_camera.some_facts(), **named))
            if frames:
                stack.enter_context(live_camera.running(live, fps=50))
            server = stack.enter_context(WebServer(live, Address(host, port), token))
            return Camera(live, server, "::1" if ":" in host else "127.0.0.1")

        yield start


@pytest.fixture(scope="session")
def chromium() -> ModuleType:
    """``browser.py`` as a module, where there is a Chromium to drive."""
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.find() is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium): the page was NOT looked at")
    return module
