"""``edge-camera install-service``: a systemd unit that runs the camera program from start to shutdown.

What will be done is shown first, and nothing is done without being asked to.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edge_apps.camera.capture.uri import parse_uri
from edge_apps.camera.sources.kind import split_source
from edge_apps.camera.sources.parse import NETWORK, takes
from edge_apps.camera.web.address import parse_web
from edge_apps.errors import BadInput, EdgeError, MissingExtra
from edge_apps.files import write_whole
from edge_apps.runtime.identity import SERVICE_FOLDER

UNIT = """\
[Unit]
Description=Edge Pipeline camera ({config})
# No network and no set clock are needed: neither network-online.target nor time-sync.target is waited for.
StartLimitIntervalSec=0
# Disks that are mounted late are.
RequiresMountsFor={mounts}

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={folder}
{user}\
Restart=always
RestartSec=5
# A configuration that cannot work is not tried for ever.
RestartPreventExitStatus=2
WatchdogSec={watchdog}
# SIGTERM ends the program within two seconds with its log complete.
TimeoutStopSec=10
KillMode=mixed
Nice=-5
Environment=PYTHONUNBUFFERED=1
{state}\
NoNewPrivileges=true
ProtectSystem=full
ReadWritePaths={writable}

[Install]
WantedBy={wanted_by}
"""

STATE = f"StateDirectory={Path(SERVICE_FOLDER).name}\nStateDirectoryMode=0700\n"
"""A folder that systemd makes below /var/lib, for the id of the device: a home may be read-only, or there is none."""

WATCHDOG = 60
"""Seconds in which the frame loop must turn once, or systemd starts the program again."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}")


@dataclass(frozen=True)
class Service:
    """A unit, where it goes, and the commands that make systemd know it."""

    name: str
    unit: str
    path: Path
    for_user: bool

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The command that speaks to the systemd of the machine or of the user."""
        return ("systemctl", "--user") if self.for_user else ("systemctl",)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """What follows the writing. ``enable --now`` would leave a service that runs as it was."""
        steps = (("daemon-reload",), ("enable", self.name), ("restart", self.name))
        return tuple((*self.systemctl, *step) for step in steps)

    def steps(self) -> list[str]:
        """What ``install`` does, a line each."""
        return [f"write {self.path}", *(f"run {shlex.join(command)}" for command in self.commands)]


@dataclass(frozen=True)
class Configured:
    """What a configuration sets of what concerns a service; None where it does not."""

    model: str | None = None
    source_text: str | None = None
    trust: str | None = None
    log: str | None = None
    log_max_size: str | None = None
    snapshot: str | None = None
    web: str | None = None
    web_token_file: str | None = None
    wait_for_source: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Configured:
        """Take these out of the options that a file sets (``options_in``)."""
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})

    @property
    def files(self) -> list[str]:
        """The files and folders that it names, which may lie on a disk that is mounted late."""
        named = (self.model, self.trust, self.log, self.snapshot, self.web_token_file)
        return [name for name in named if name is not None]


def plan(
    config: Path,
    options: Configured,
    *,
    name: str = "edge-camera",
    for_user: bool = False,
    root: Path = Path("/"),
) -> Service:
    """The service that runs ``edge-camera run --config CONFIG``, of the machine or of the user who asks.

    ``options`` are those that the file sets.

    Raises:
        BadInput: no such file, or a name that is none for a unit.
    """
    if not NAME.fullmatch(name):
        raise BadInput(f"'{name}' is no name for a unit: use letters and digits first, then '-', '_' and '.' too.")
    if not config.is_file():
        raise BadInput(f"No such configuration: '{config}'. Make one with 'edge-camera config > {config}'.")
    config = config.parent.resolve() / config.name  # systemd takes no '..'
    folder = Path.home() / ".config/systemd/user" if for_user else root / "etc/systemd/system"
    unit = UNIT.format(
        config=_plain(str(config)),
        command=" ".join(map(_quoted, (*_program(), "run", "--quiet", "--config", str(config)))),
        folder=_plain(str(config.parent)),
        writable=_in_quotes(config.parent),
        mounts=" ".join(map(_in_quotes, dict.fromkeys([config.parent, *_files(options)]))),
        user="" if for_user else f"User={_user()}\n",
        state="" if for_user else STATE,  # of a user's service that is the user's own folder
        watchdog=WATCHDOG,
        wanted_by="default.target" if for_user else "multi-user.target",
    )
    return Service(
        name=name,
        unit=unit.replace("Nice=-5\n", "") if for_user else unit,  # a user may not ask for that
        path=folder / f"{name}.service",
        for_user=for_user,
    )


def advice(config: Path, options: Configured) -> list[str]:
    """What a service had better have in its configuration.

    Raises:
        BadInput: a password that other users of the machine can read; no model or source.
    """
    model, source = options.model, options.source_text
    if model is None or source is None:
        missing = "model" if model is None else "source"
        raise BadInput(f"'{config}' sets no {missing}: nobody types one when a service starts.")
    kind, _ = split_source(source)
    if kind in NETWORK and parse_uri(source).full != parse_uri(source).shown and config.stat().st_mode & 0o077:
        raise BadInput(f"'{config}' holds a password and others can read it: chmod 600 {config}, then try again.")
    hints = []
    if not Path(model).exists():
        hints.append(f"its model '{model}' is not there: a service that cannot open its model is not tried again.")
    if takes(source, "wait_for_source") and not options.wait_for_source:
        hints.append("without wait-for-source = true it ends for good when its camera is not there at the start.")
    if options.log is None:
        hints.append('without log = "latency.db" nothing is written down.')
    elif options.log_max_size is None:
        hints.append('without log-max-size = "1G" the log grows until the disk is full.')
    if options.web_token_file is None and options.web is not None and not parse_web(options.web).is_loopback:
        hints.append(
            "without web-token-file the page's token is another after every start, and viewers are locked out."
        )
    return hints


def install(service: Service) -> None:
    """Write the unit, and let systemd start it now, again where it runs already, and at every start of the machine.

    Raises:
        MissingExtra: no systemd here. BadInput: the unit cannot be written. EdgeError: systemd refused; it says why.
    """
    if shutil.which("systemctl") is None:
        raise MissingExtra("There is no 'systemctl' here: this system is not run by systemd. The unit was not written.")
    _write(service)
    service.path.chmod(0o644)
    for command in service.commands:
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
        if ended.returncode != 0:
            said = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
            raise EdgeError(f"'{shlex.join(command)}' failed: {said}. The unit is in '{service.path}'.")


def _write(service: Service) -> None:
    try:
        write_whole(service.path, service.unit.encode())
    except BadInput as error:
        if service.for_user or not isinstance(error.__cause__, PermissionError):
            raise
        raise BadInput(f"Only root may write '{service.path}': use sudo, or `user` for a service of yours.") from error


def _files(options: Configured) -> Iterator[Path]:
    """Where the files lie that the service needs."""
    kind, place = split_source(options.source_text or "")
    is_file = kind in ("folder", "image", "video") or (not kind and place.startswith("/"))  # or not mounted yet
    named = options.files + [place] * is_file
    for name in named:
        yield Path(os.path.abspath(name))  # noqa: PTH100 - systemd takes no '..', and the disk may be away


def _user() -> str:
    """Who asks, also by sudo: the camera needs no root, and its cache and its group 'video' are this user's."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _program() -> tuple[str, ...]:
    """How systemd starts this program: it knows no PATH of a virtual environment."""
    beside = Path(sys.executable).with_name("edge-camera")
    if beside.is_file() and os.access(beside, os.X_OK):
        return (str(beside),)
    return (sys.executable, "-m", "edge_apps.camera")


def _quoted(word: str) -> str:
    """A word of ExecStart: systemd expands % and $, and splits at spaces."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./%:@=+-]+", escaped) else f'"{escaped}"'


def _in_quotes(path: Path) -> str:
    """A path in a list of paths."""
    return '"' + _plain(str(path)).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(text: str) -> str:
    """In other lines only % is special, and a line must not end."""
    if not text.isprintable():
        raise BadInput(f"{text!r} holds characters that a unit cannot: choose another folder.")
    return text.replace("%", "%%")
