"""Python's HTTP client still has what ``edge_apps/camera/capture/http_body.py`` changes."""

import http.client
import io
import sys
from types import SimpleNamespace

import pytest


@pytest.mark.parametrize("name", ["chunked", "chunk_left", "length", "fp"])
def test_an_answer_has_the_attributes_that_are_changed(name: str) -> None:
    answer = http.client.HTTPResponse(SimpleNamespace(makefile=lambda _: io.BytesIO(b"HTTP/1.1 200 OK\r\n\r\n")))
    answer.begin()
    version = ".".join(map(str, sys.version_info[:2]))
    assert hasattr(answer, name), f"Python {version}: HTTPResponse.{name} is gone; change capture/http_body.py"
