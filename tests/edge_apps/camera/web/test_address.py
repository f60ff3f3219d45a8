"""``--web [HOST:]PORT``."""

import errno
import socket
import sys

import pytest

from edge_apps.camera.web import check_installed
from edge_apps.camera.web.address import Address, listen, parse_web, reachable_host
from edge_apps.errors import BadInput, EdgeError, MissingExtra


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", Address("127.0.0.1", 8080)),
        ("0", Address("127.0.0.1", 0)),
        ("65535", Address("127.0.0.1", 65535)),
        ("localhost:80", Address("127.0.0.1", 80)),
        ("127.0.0.2:80", Address("127.0.0.2", 80)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("192.168.1.5:8080", Address("192.168.1.5", 8080)),
        ("[::1]:80", Address("::1", 80)),
        ("[0:0::0]:80", Address("::", 80)),
    ],
)
def test_an_address(text: str, address: Address) -> None:
    assert parse_web(text) == address


NONE = (
    *("", "port", ":8080", "65536", "-1", "8080:", "1.2.3:80", "300.1.1.1:80", "::1:80", "[::1]", "[]:80", "a.b:80"),
    *("[1.2.3.4]:80", "80 ", "http://x:80", "99999999999999999999", "٣٣", "1.2.3.4:80:90", "[fe80::1%eth0]:8"),
)


@pytest.mark.parametrize("text", NONE)
def test_what_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_web(text)
    assert f"`web` is '{text}': " in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False)],
)
def test_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert Address(host, 80).is_loopback is loopback


def test_a_port_that_is_taken() -> None:
    with listen(Address("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EdgeError, match=f"the page on 127.0.0.1:{port}: another program .* Stop it,") as refused:
            listen(Address("127.0.0.1", port))
    assert refused.value.exit_status == 1, "it may be free soon: a service tries again"
    listen(Address("127.0.0.1", port)).close()


def test_an_address_that_is_not_there_may_come() -> None:
    """At boot the network may be up later than this program."""
    with pytest.raises(EdgeError, match=r"on 192\.0\.2\.7:8080: .* no such address.* Use 0\.0\.0\.0:8080") as refused:
        listen(Address("192.0.2.7", 8080))
    assert refused.value.exit_status == 1
    with pytest.raises(EdgeError, match=r"on \[2001:db8::7\]:8080: .* no such address.* Use \[::\]:8080"):
        listen(Address("2001:db8::7", 8080))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAFNOSUPPORT])
def test_what_does_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A port of the system's, or a machine without IPv6."""

    def refuse(*_: object) -> None:
        raise OSError(number, "Reason")

    if number == errno.EACCES:
        monkeypatch.setattr(socket.socket, "bind", refuse)
    else:
        monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(BadInput, match=r"on \[::1\]:80: Reason\. Choose another port with `web`") as refused:
        listen(Address("::1", 80))
    assert refused.value.exit_status == 2


def test_how_others_write_it() -> None:
    assert reachable_host(Address("192.168.1.5", 80)) == "192.168.1.5"
    assert reachable_host(Address("::1", 80)) == "[::1]"
    everywhere = reachable_host(Address("0.0.0.0", 80))
    assert everywhere not in ("", "0.0.0.0")
    assert everywhere == socket.gethostname() or socket.inet_aton(everywhere)


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.delitem(sys.modules, "edge_apps.camera.web.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingExtra, match=r"`web` needs 'uvicorn', which is not installed: pip install '\.\[web\]'"):
        check_installed()
