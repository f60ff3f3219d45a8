"""Where the page is served: ``[HOST:]PORT``."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass

from edge_apps.errors import BadInput, EdgeError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """A numeric address of this machine, or one that stands for all of them, and a port; 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_ipv6(self) -> bool:
        """Whether it is written with colons."""
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def parse_web(text: str) -> Address:
    """``8080``, ``localhost:8080``, ``0.0.0.0:8080`` (every IPv4 address of this machine), ``[::]:8080`` (every one).

    Raises:
        BadInput: no such address or port.
    """
    found = re.fullmatch(r"(?:\[(?P<v6>[^][%]*)\]:|(?P<host>[^][:]*):)?(?P<port>[0-9]+)", text, re.ASCII)
    if not found:
        raise BadInput(f"`web` is '{text}': write PORT or HOST:PORT, as 8080, 0.0.0.0:8080 or [::1]:8080.")
    port = int(found["port"]) if len(found["port"]) <= 5 else 65536
    if port > 65535:
        raise BadInput(f"`web` is '{text}': a port is 1 to 65535, or 0 for any free one.")
    return Address(_host(text, found), port)


def _host(text: str, found: re.Match[str]) -> str:
    host = found["v6"] if found["v6"] is not None else found["host"]
    if host is None or host == "localhost":
        return LOOPBACK
    try:
        address = ipaddress.IPv6Address(host) if found["v6"] is not None else ipaddress.IPv4Address(host)
    except ValueError:
        raise BadInput(
            f"`web` is '{text}': '{host}' is no address. Write localhost, an address of this machine, or 0.0.0.0 for "
            "all of them."
        ) from None
    return str(address)


def listen(address: Address) -> socket.socket:
    """Take the port.

    Raises:
        EdgeError: another program has it, or the address is not of this machine: so far, it may work later.
        BadInput: it never will, as with a port that only root may take.
    """
    try:
        return _listener(address)
    except OSError as error:
        raise _refusal(address, error) from error


def _listener(address: Address) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if address.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # at once again after a restart
        # What the kernel holds for a viewer who does not read is bounded, and with it how old a picture can get there.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
        if address.host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address.host, address.port))
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(address: Address, error: OSError) -> EdgeError:
    cannot = f"Cannot serve the page on {address}:"
    if error.errno == errno.EADDRINUSE:
        return EdgeError(f"{cannot} another program has this port. Stop it, or choose another port with `web`.")
    if error.errno == errno.EADDRNOTAVAIL:
        every = Address("::" if address.is_ipv6 else "0.0.0.0", address.port)
        return EdgeError(
            f"{cannot} this machine has no such address, or not yet. Use {every}, which is every address it has and "
            "will have, or try again when the network is up."
        )
    return BadInput(f"{cannot} {error.strerror}. Choose another port with `web`.")


def reachable_host(address: Address) -> str:
    """How to write the host in a URL that others can open; for "every address" one that this machine has."""
    host = address.host
    if ipaddress.ip_address(host).is_unspecified:
        host = _own_address() or socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _own_address() -> str | None:
    """The address that this machine would talk to the network from; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # kept for documentation (RFC 5737): nobody is there
        except OSError:
            return None
        return str(probe.getsockname()[0])
