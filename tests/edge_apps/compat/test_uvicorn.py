"""uvicorn still has what ``edge_apps/compat/uvicorn.py`` builds on."""

import asyncio
import importlib.metadata
import inspect
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="NOT RUN: no uvicorn here")

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

VERSION = f"uvicorn {importlib.metadata.version('uvicorn')}"
SEE = "change edge_apps/compat/uvicorn.py, or lower its upper bound in pyproject.toml"


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


@pytest.mark.parametrize("name", ["connection_made", "data_received", "on_response_complete", "connection_lost"])
def test_a_connection_has_the_steps_that_are_extended(name: str) -> None:
    assert callable(getattr(H11Protocol, name, None)), f"{VERSION}: H11Protocol.{name} is gone; {SEE}"


@pytest.mark.parametrize("name", ["app_state", "client", "connections", "cycle", "loop", "transport"])
def test_a_connection_has_the_attributes_that_are_read(name: str) -> None:
    loop = asyncio.new_event_loop()
    try:
        config = uvicorn.Config(_application, log_config=None)
        connection = H11Protocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
    finally:
        loop.close()
    assert hasattr(connection, name), f"{VERSION}: H11Protocol.{name} is gone; {SEE}"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("main_loop", []), ("on_tick", ["counter"]), ("startup", ["sockets"]), ("shutdown", ["sockets"])],
)
def test_a_server_has_the_steps_that_are_replaced(name: str, parameters: list[str]) -> None:
    step = getattr(uvicorn.Server, name, None)
    assert inspect.iscoroutinefunction(step), f"{VERSION}: Server.{name} is gone or no coroutine; {SEE}"
    actual = list(inspect.signature(step).parameters)[1:]
    assert actual == parameters, f"{VERSION}: Server.{name} takes {actual}, not {parameters}; {SEE}"


def test_the_server_calls_the_steps_that_are_replaced() -> None:
    source = inspect.getsource(uvicorn.Server)
    for step in ("startup", "main_loop", "shutdown"):
        assert f"self.{step}(" in source, f"{VERSION}: Server no longer calls {step}; {SEE}"


def test_the_server_knows_its_connections() -> None:
    state = uvicorn.Server(uvicorn.Config(_application, log_config=None)).server_state
    assert isinstance(getattr(state, "connections", None), set), f"{VERSION}: server_state.connections; {SEE}"
