"""Files and texts from outside: only regular files of bounded size, and one clause for what cannot be parsed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from edge_apps.untrusted import NotRegular, TooLarge, open_regular, parse_json, parse_toml, read_regular


def test_the_bytes_of_a_file_and_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "link", 3) == b"abc"
    with pytest.raises(TooLarge, match="it has 3 bytes, and at most 2 are read"):
        read_regular(tmp_path / "file", 2)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "link"):
        with pytest.raises(NotRegular, match="it is a FIFO, not a file"):
            open_regular(tmp_path / name)


def test_devices_and_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotRegular, match="it is a device"):
        read_regular(Path("/dev/zero"))
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(NotRegular, match="it is a socket"):
            read_regular(Path("socket"))


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": "\xff"}', "UTF-8|utf-8"),
        (b"{", "truncated"),
        (b"", "truncated"),
    ],
)
def test_json_that_cannot_be_parsed(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(data, dict[str, Any])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"9" * 5_000, "a number in it has too many digits"),
        (b"a = '\xff'", "utf-8"),
        (b"a = ", "."),
    ],
)
def test_toml_that_cannot_be_parsed(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_toml(data, dict[str, Any])


def test_what_can_be_parsed() -> None:
    assert parse_json(b'{"a": 1}', dict[str, int]) == parse_toml(b"a = 1", dict[str, int]) == {"a": 1}
    with pytest.raises(ValueError, match="Expected `int`"):
        parse_json(b'{"a": "x"}', dict[str, int])
