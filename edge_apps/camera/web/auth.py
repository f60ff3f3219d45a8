"""Who may look: the token, its cookie, and patience with wrong ones."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_apps.camera.web.address import Address
from edge_apps.errors import BadInput
from edge_apps.untrusted import read_regular

VARIABLE = "EDGE_CAMERA_TOKEN"
"""Of the environment: a token of the user's own."""

SHORTEST = 22
"""Characters of a user's own token: 128 bits where they are random letters, digits, ``-`` and ``_``."""

LONGEST_FILE = 10_000
"""Bytes of a file with a token."""

WRONG_ALLOWED = 10
"""Different wrong tokens from one address within ``WINDOW``; after that it has to wait."""

WINDOW = 60.0
"""Seconds."""

MOST_ADDRESSES = 1024
"""Addresses that are remembered for their wrong tokens."""


def choose_token(address: Address, environment: Mapping[str, str], file: Path | None = None) -> str | None:
    """The token in ``file``, else in the environment, else a new one of 192 bits; None on a loopback address.

    A token that the user gave is required on a loopback address as well.

    Raises:
        BadInput: the file cannot be read, or a token is too short or not made of characters that fit into a URL.
    """
    if file is not None:
        return _checked(_read(file), f"The token in '{file}'")
    if VARIABLE in environment:
        return _checked(environment[VARIABLE].strip(), f"The token in {VARIABLE}")
    return None if address.is_loopback else secrets.token_urlsafe(24)


def _read(file: Path) -> str:
    try:
        return read_regular(file, LONGEST_FILE).decode(errors="replace").strip()
    except OSError as error:
        raise BadInput(f"Cannot read the token file '{file}': {error.strerror}.") from error


def _checked(token: str, what: str) -> str:
    """Nothing of the token is repeated in an error."""
    if not re.fullmatch(r"[A-Za-z0-9._~-]+", token, re.ASCII):
        raise BadInput(f"{what} must be letters, digits and - . _ ~ alone: make one with 'openssl rand -hex 16'.")
    if len(token) < SHORTEST:
        raise BadInput(
            f"{what} has {len(token)} characters; at least {SHORTEST} are needed: make one with 'openssl rand -hex 16'."
        )
    return token


class Token:
    """The one secret. A browser keeps not the token but what is derived from it, which opens nothing else."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token)
        self.cookie = hmac.new(token.encode(), b"edge-camera cookie", hashlib.sha256).hexdigest()

    def is_right(self, token: str) -> bool:
        """Compared in constant time, whatever its length."""
        return hmac.compare_digest(_digest(token), self._digest)

    def is_right_cookie(self, cookie: str) -> bool:
        """Likewise."""
        return hmac.compare_digest(_digest(cookie), _digest(self.cookie))


class Patience:
    """Counts wrong tokens (or cookies) by address, an IPv6 network of 64 bits being one.

    The same one again does not count. Nobody learns from it, and a program that was left with an old token sends it
    for ever: it would lock out everybody who comes through the same proxy or tunnel.

    While an address waits, its right token must wait too: if that were let in, every guess would have been answered.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: dict[str, tuple[float, set[bytes]]] = {}  # address → when its window began, what was tried

    def wait(self, host: str) -> float:
        """Seconds until this address may try again; 0 where it may."""
        began, wrong = self._wrong.get(_network(host), (0.0, set()))
        left = began + WINDOW - self._clock()
        return left if len(wrong) >= WRONG_ALLOWED and left > 0 else 0.0

    def wrong(self, host: str, guess: str) -> None:
        """One more; asked for only where there was nothing to ``wait`` for."""
        now, network = self._clock(), _network(host)
        began, wrong = self._wrong.pop(network, (now, set()))
        if now - began >= WINDOW:
            began, wrong = now, set()
        if len(self._wrong) >= MOST_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]  # whose last wrong token is longest ago
        self._wrong[network] = (began, wrong | {_digest(guess)})


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def _network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))
