"""Addresses of network cameras, and how their passwords stay out of every log, page, error and process list."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from edge_apps.errors import BadInput

HIDDEN = "***"

SHORTEST = 3
"""Characters of a secret that is hidden wherever it stands. A shorter one is part of words, which would tell it."""

HARMLESS = frozenset(
    {"action", "camera", "ch", "channel", "codec", "compression", "format", "fps", "framerate", "height", "profile"}
    | {"quality", "rate", "resolution", "size", "stream", "subtype", "transport", "type", "unicast", "video", "width"}
)
"""Parameters whose values are shown. Every other may be a password, whatever its maker called it."""

_IN_A_PATH = re.compile(r"(?i)((?:user|pass|pwd|token|key|secret|auth)[a-z]{0,30}=)[^/&;?]*")
"""``/user=admin_password=x_channel=1.sdp``: some cameras take the password in the path."""

_USERINFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/'\"]*@")

ENCODE = "Characters such as / ? # @ in a password are written as %2F %3F %23 %40."


@dataclass(frozen=True)
class Uri:
    """``full`` for whoever opens it, ``shown`` for everybody else; the repr shows no secret either."""

    full: str = field(repr=False)
    shown: str
    host: str
    port: int | None
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)  # every form in which one may come back and be told, longest first

    @property
    def without_user(self) -> str:
        """The address alone, for a client that takes user and password apart from it."""
        parts = urlsplit(self.full)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))

    def scrub(self, message: str) -> str:
        """``message``, as a library or a server wrote it, with everything secret taken out."""
        message = message.replace(self.full, self.shown)
        for secret in self.secrets:
            message = message.replace(secret, HIDDEN)
        return _USERINFO.sub(rf"\1{HIDDEN}@", message)


def parse_uri(text: str) -> Uri:
    """Take ``rtsp://user:password@host:port/path?query`` apart.

    Raises:
        BadInput: it names no host, a senseless port, or holds a character that an address cannot; it is not repeated.
    """
    scheme, mark, rest = text.partition("://")
    text = scheme.lower() + mark + rest  # FFmpeg knows no other
    if any(character.isspace() or not character.isprintable() for character in text):
        raise BadInput("The address holds a space or a control character: write it as %20.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = SplitResult("", "", "", "", "")
    if not host:
        raise BadInput(f"The address names no host, or a wrong port: write {scheme}://HOST:PORT/PATH. {ENCODE}")
    if "@" in parts.path + parts.query + parts.fragment:  # is it in the path, or does the password hold a slash?
        raise BadInput(f"The address holds an @ behind its host. {ENCODE}")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Uri(text, _shown(parts), host, port, user, password, _secrets(parts, user, password))


def hide_from_process_list(uri: Uri) -> None:
    """Overwrite the secrets of ``uri`` in this process's command line, which every user of a Linux machine can read.

    Where the kernel does not allow it, or keeps the command line elsewhere, nothing happens.
    """
    with suppress(OSError, ValueError, IndexError):
        # proc_pid_stat(5): fields 48 and 49, arg_start and arg_end; the name in field 2 may hold spaces.
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            line = memory.read(end - start)
            hidden = line
            old, new = (  # behind the scheme, which may have been written in capitals
                address.partition(":")[2].encode("utf-8", "surrogateescape") for address in (uri.full, uri.shown)
            )
            hidden = hidden.replace(old, new[: len(old)].ljust(len(old)))
            for secret in uri.secrets:
                old = secret.encode("utf-8", "surrogateescape")
                hidden = hidden.replace(old, b"*" * len(old))
            if hidden != line:
                memory.seek(start)
                memory.write(hidden)


def _shown(parts: SplitResult) -> str:
    rest = parts._replace(
        netloc=(f"{HIDDEN}@" if "@" in parts.netloc else "") + parts.netloc.rpartition("@")[2],
        path=_IN_A_PATH.sub(rf"\1{HIDDEN}", parts.path),
        query="&".join(_shown_parameter(parameter) for parameter in parts.query.split("&")),
        fragment=HIDDEN if parts.fragment else "",
    )
    return urlunsplit(rest)


def _shown_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return parameter if parameter.lower() in HARMLESS or not parameter else HIDDEN
    return f"{name}={value if name.lower() in HARMLESS else HIDDEN}"


def _secrets(parts: SplitResult, user: str | None, password: str | None) -> tuple[str, ...]:
    found = {user or "", password or "", parts.username or "", parts.password or "", parts.netloc.rpartition("@")[0]}
    if user is not None:
        found.add(base64.b64encode(f"{user}:{password or ''}".encode()).decode())  # as a Basic login sends them
    for parameter in parts.query.split("&"):
        name, equals, value = parameter.partition("=")
        if name.lower() not in HARMLESS:
            found |= {value, unquote(value)} if equals else {name, unquote(name)}
            found |= {parameter} if 0 < len(value) < SHORTEST else set()
    found |= {value for name, value in parse_qsl(parts.query) if name.lower() not in HARMLESS}
    for hidden in _IN_A_PATH.finditer(parts.path):
        secret = hidden.group()[len(hidden.group(1)) :]
        found |= {secret, unquote(secret)}
        found |= {hidden.group()} if 0 < len(secret) < SHORTEST else set()
    found.add(parts.fragment)
    told = (secret for secret in found if len(secret) >= SHORTEST)
    return tuple(sorted(told, key=lambda secret: (-len(secret), secret)))
