"""Tells one device from another of the same kind: an id that is made once and stored, and a name for people.

The id is random (``uuid4``) and lies in a file that only its user can read: ``$STATE_DIRECTORY/device-id`` in a
systemd service that has such a folder, else ``$XDG_STATE_HOME/edge-pipeline/device-id``, by default below
``~/.local/state``. Whichever exists is used, so that a service and its user's terminal are one device.

The board's serial number, where the device tree has one (Raspberry Pi, Jetson), goes into the id by a hash that nobody
can reverse without the file. A copy of an SD card is therefore another device in another board. Machines without
such a number that were cloned together with the file share an id until the file is deleted on one of them.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_apps.errors import BadInput
from edge_apps.files import sync_folder
from edge_apps.runtime import sysfs
from edge_apps.untrusted import open_regular

FOLDER, FILE = "edge-pipeline", "device-id"

SERVICE_FOLDER = "var/lib/edge-pipeline"
"""Where a service of the machine stores it (``StateDirectory`` in its unit); looked up by its user's terminal, too."""

LONGEST_NAME = 64
"""Characters."""


class Identity(msgspec.Struct, frozen=True):
    """Which device this is. ``fault`` says what went wrong with the stored id; "" where nothing did."""

    id: str
    name: str
    fault: str = ""


def identify(name: str | None = None, *, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Identity:
    """Return the id and the name of this device; the id is made and stored where there is none yet.

    Never fails: where no id can be stored, as on a read-only disk, a new one is made for this run, and ``fault`` says
    so. A damaged file is set aside, never deleted.

    Args:
        name: what the user calls the device; None takes the host name.
        environ: the environment, with ``HOME``, ``XDG_STATE_HOME`` and ``STATE_DIRECTORY``.
        root: the folder that holds ``proc`` and ``var``.
    """
    stored, fault = _stored_or_made(environ, root)
    return Identity(str(_of_this_board(stored, root)), default_name() if name is None else name, fault)


def stored_id(*, environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str | None:
    """Return the id of this device if one is stored; nothing is written."""
    for folder in _folders(environ, root):
        with suppress(OSError, ValueError):
            return str(_of_this_board(_read(folder / FILE), root))
    return None


def default_name() -> str:
    """Return the host name, as far as it is a valid device name; "" where there is none."""
    shown = "".join(character for character in socket.gethostname() if character.isprintable())
    return shown.strip()[:LONGEST_NAME].strip()


def check_name(name: str) -> str:
    """Return a device name as it is.

    Raises:
        BadInput: it is empty, too long, or holds what cannot be printed on one line.
    """
    if 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip():
        return name
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    raise BadInput(
        f"`device_name` is {shown!r}; it takes 1 to {LONGEST_NAME} printable characters with no space at either end. "
        "Write a name such as kitchen-pi."
    )


def short(id_: str) -> str:
    """Return the part of a device id that people are shown: eight digits of a UUID; the whole of an older hash."""
    return id_.partition("-")[0]


def _stored_or_made(environ: Mapping[str, str], root: Path) -> tuple[uuid.UUID, str]:
    damage = ""
    for folder in _folders(environ, root):
        try:
            return _read(folder / FILE), damage
        except ValueError:
            damage = damage or _set_aside(folder / FILE)
        except OSError:
            continue  # most often there is none; what it means for storing one is found out below
    reason = "there is no home folder"
    for folder in _own_folders(environ):
        try:
            return _made(folder), damage
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is damaged and cannot be set aside"
            reason = f"'{folder / FILE}': {said}"
    return uuid.uuid4(), (
        f"The id of this device cannot be stored ({reason}). The log shows this run as a device of its own: set "
        "XDG_STATE_HOME to a folder that can be written and stays."
    )


def _own_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where this process may store the id: what systemd made for a service first, then its user's folder."""
    yield from (Path(name) for name in environ.get("STATE_DIRECTORY", "").split(":") if Path(name).is_absolute())
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        yield state / FOLDER
    else:
        with suppress(RuntimeError):  # a user without a home
            yield Path(environ["HOME"] if environ.get("HOME") else Path.home()) / ".local/state" / FOLDER


def _folders(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    yield from _own_folders(environ)
    yield root / SERVICE_FOLDER


def _read(path: Path) -> uuid.UUID:
    """Return what a file holds; ``ValueError`` where that is no UUID, ``OSError`` where it cannot be read."""
    with open_regular(path) as stream:
        return uuid.UUID(stream.read(100).decode("ascii").strip())


def _set_aside(path: Path) -> str:
    """Rename a damaged file; what to tell about it."""
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError:
        return ""  # then none can be stored in its place, which is told
    return (
        f"The id of this device in '{path}' was damaged; the file was set aside as '{aside.name}'. The log shows this "
        "device as a new one from now on."
    )


def _made(folder: Path) -> uuid.UUID:
    """Store a new id, and return it; or that of another process that was quicker."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made, path = uuid.uuid4(), folder / FILE
    beside = folder / f".{FILE}.{made.hex}"
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(f"{made}\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(beside, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            return _read(path)
        except OSError:  # a file system without hard links
            beside.replace(path)
        sync_folder(folder)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return made


def _of_this_board(stored: uuid.UUID, root: Path) -> uuid.UUID:
    serial = sysfs.text(root / "proc/device-tree/serial-number")
    return uuid.uuid5(stored, serial) if serial else stored
