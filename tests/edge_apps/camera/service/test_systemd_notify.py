"""What systemd hears, on a real socket."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_apps.camera.service import systemd_notify
from edge_apps.camera.service.systemd_notify import Systemd


@pytest.fixture(params=["path", "abstract"])
def heard(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """All messages so far."""
    name = f"@edge-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(name.replace("@", "\0", 1))
    receiver.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", name)

    def messages() -> list[str]:
        found = []
        while True:
            try:
                found.append(receiver.recv(4096).decode())
            except BlockingIOError:
                return found

    yield messages
    receiver.close()


def test_the_life_of_a_service(heard: Callable[[], list[str]]) -> None:
    systemd = Systemd()
    systemd.ready("mobilenet_v2 int8\nREADY=0")
    systemd.status("25 fps")
    systemd.stopping()
    assert heard() == ["READY=1\nSTATUS=mobilenet_v2 int8 READY=0", "STATUS=25 fps", "STOPPING=1"]


def test_a_name_of_bytes_that_are_no_text_ends_nothing(heard: Callable[[], list[str]]) -> None:
    Systemd().ready(os.fsdecode(b"m\xff.tflite"))
    assert heard() == ["READY=1\nSTATUS=m\\udcff.tflite"]


def test_the_watchdog_is_fed_four_times_within_its_limit(
    heard: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "8000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    now = 100.0
    monkeypatch.setattr(systemd_notify.time, "monotonic", lambda: now)
    systemd = Systemd()
    for tenth in range(80):
        now = 100.0 + tenth / 10
        systemd.alive()
    assert heard() == ["WATCHDOG=1"] * 4


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "1"}])
def test_no_watchdog_is_fed_that_is_not_ours(
    heard: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Systemd().alive()
    assert heard() == []


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    systemd = Systemd()
    systemd.ready("x")
    systemd.alive()
    systemd.stopping()
